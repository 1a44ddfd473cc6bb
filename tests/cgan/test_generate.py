"""``cgan generate``: by label, by seed, as grid, files and GIF."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import cgan.io
from cgan.commands import COMMANDS, main
from cgan.config import GanConfig
from cgan.generate import asked_labels
from cgan.io import load_generator, save_generator
from cgan.networks import Generator
from fader.errors import FaderError

SMALL = {"size": 32, "width": 4, "max_width": 8, "latent": 8}


def make(folder: Path, seed: int = 0, **settings) -> Path:
    """A generator with random weights whose labels matter."""
    torch.manual_seed(seed)
    generator = Generator(GanConfig(**SMALL, **settings))
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.normal_(0, 0.3)
        if generator.label_kind == "attributes":
            generator.label_rows.copy_((torch.rand_like(generator.label_rows) > 0.5).float())
    save_generator(generator.eval(), folder)
    return folder


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    return make(tmp_path / "faces", label_names=("Male", "Blond_Hair"), label_kind="attributes")


@pytest.fixture
def emotions(tmp_path: Path) -> Path:
    return make(
        tmp_path / "emotions", label_names=("angry", "happy"), label_kind="classes", channels=1
    )


def run_cgan(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    return result.exit_code, result.output


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


def test_same_seed_same_faces_however_many(faces: Path) -> None:
    generator = load_generator(faces)
    few, many = generator.sample(3, seed=5), generator.sample(40, seed=5)
    assert torch.equal(few, many[:3])
    assert few.shape == (3, 3, 32, 32) and few.abs().max() <= 1
    assert not torch.allclose(few, generator.sample(3, seed=6))
    # A seed's images are not those of the next seed, moved by one.
    assert not torch.allclose(many[1], generator.sample(1, seed=6)[0])


def test_truncation_makes_faces_more_alike(faces: Path) -> None:
    generator = load_generator(faces)
    labels = torch.zeros(16, 2)
    spread = [generator.sample(16, 1, labels, t).std(dim=0).mean() for t in (0.0, 0.5, 1.0)]
    assert spread[0] < 1e-6 and spread[1] < spread[2]


def test_a_saved_generator_is_the_same(faces: Path, tmp_path: Path) -> None:
    generator = load_generator(faces)
    save_generator(generator, tmp_path / "half", dtype=torch.float16)
    half = load_generator(tmp_path / "half")
    assert (generator.sample(2, 1) - half.sample(2, 1)).abs().mean() < 0.01
    assert not list(tmp_path.rglob("*.pt")) and not list(tmp_path.rglob("*.bin"))


def test_a_grid_by_attribute(faces: Path, tmp_path: Path) -> None:
    for name in ("a.png", "again.png"):
        code, output = run_cgan(
            *("generate", "--model", faces, "--set", "male=0,Blond_Hair=1", "-n", 6),
            *("--seed", 3, "-o", tmp_path / name),
        )
        assert code == 0, output
    picture = pixels(tmp_path / "a.png")
    assert picture.shape == (32, 6 * 32, 3)
    assert (picture == pixels(tmp_path / "again.png")).all()
    code, _ = run_cgan(
        "generate", "--model", faces, "--set", "Male=1", "-n", 6, "--seed", 3, "-o",
        tmp_path / "b.png",
    )  # fmt: skip
    assert code == 0 and (picture != pixels(tmp_path / "b.png")).any()


def test_blond_hair_is_not_black_as_well(tmp_path: Path) -> None:
    names = ("Male", "Blond_Hair", "Black_Hair")
    generator = load_generator(make(tmp_path, label_names=names, label_kind="attributes"))
    drawn, _ = asked_labels(generator, 40, 1)
    blond, _ = asked_labels(generator, 40, 1, "Blond_Hair=1")
    assert drawn[:, 2].any()
    assert not blond[:, 2].any() and blond[:, 1].all()
    assert torch.equal(blond[:, 0], drawn[:, 0])
    both, _ = asked_labels(generator, 40, 1, "Blond_Hair=1,Black_Hair=1")
    assert both[:, 1:].all()
    dark, _ = asked_labels(generator, 40, 1, "Blond_Hair=0")
    assert torch.equal(dark[:, 2], drawn[:, 2])


def test_files_by_class(emotions: Path, tmp_path: Path) -> None:
    out = tmp_path / "tmp.Xk3"  # what mktemp -d makes
    out.mkdir()
    options = ["generate", "--model", emotions, "-n", 3, "--seed", 1]
    code, output = run_cgan(*options, "--label", "all", "-o", out)
    assert code == 0, output
    names = sorted(path.name for path in out.iterdir())
    assert names == [f"{c}-seed-1-{i:04d}.png" for c in ("angry", "happy") for i in range(3)]
    assert pixels(out / names[0]).shape == (32, 32)
    code, output = run_cgan(*options, "--label", "Happy", "-o", tmp_path / "grid.png")
    assert code == 0
    one = pixels(out / "happy-seed-1-0001.png")
    assert (pixels(tmp_path / "grid.png")[-32:, 32:64] == one).all()


def test_a_slash_at_the_end_means_a_folder(faces: Path, tmp_path: Path) -> None:
    code, output = run_cgan("generate", "--model", faces, "-n", 2, "-o", f"{tmp_path}/new.faces/")
    assert code == 0, output
    assert len(list((tmp_path / "new.faces").glob("*.png"))) == 2


def test_from_seed_to_seed(faces: Path, tmp_path: Path) -> None:
    out = tmp_path / "morph.gif"
    options = ["generate", "--model", faces, "-n", 2, "--seed", 1, "-o", out]
    code, output = run_cgan(*options, "--interpolate", 2, "--frames", 5)
    assert code == 0, output
    with Image.open(out) as gif:
        assert gif.n_frames == 8 and gif.size == (64, 32)
    code, output = run_cgan(*options, "--interpolate", 0, "--frames", 2, "--overwrite")
    assert code == 0, output  # a seed like any other
    code, output = run_cgan(*options, "--interpolate", 2)
    assert code == 1 and "--overwrite" in output


def test_without_a_name_or_seed_both_are_told(faces: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, output = run_cgan("generate", "--model", "faces")
    assert code == 0
    (written,) = tmp_path.glob("faces-seed-*.png")
    assert written.name in output
    assert f"--seed {written.stem.rpartition('-')[2]} " in output


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--model", "./emotions", "--set", "Male=1"], 1, "it knows angry, happy"),
        (["--model", "./faces", "--label", "happy"], 1, "it knows Male, Blond_Hair"),
        (["--model", "./faces", "--set", "Young=1"], 1, "knows Male, Blond_Hair"),
        (["--model", "./faces", "--set", "Male=+1"], 1, "write it unsigned"),
        (["--model", "./faces", "--set", "Male=5"], 1, "from 0 to 1"),
        (["--model", "./emotions", "--label", "glad"], 2, "angry, happy"),
        (["--model", "./faces", "--set", "Malee=1"], 2, "did you mean Male?"),
        (["--model", "./faces", "--set", "Smilling=1"], 2, "did you mean Smiling?"),
        (["--model", "./faces", "--set", "Male"], 2, "is not NAME=VALUE"),
        (["--model", "./faces", "--set", "Male=much"], 2, "must be a number"),
        (["--model", "./faces", "--set", "Male=1", "--label", "x"], 2, "one of them"),
        (["--model", "./faces", "-o", "x.gif"], 2, "--interpolate"),
        (["--model", "./faces", "--seed", "7", "--interpolate", "7"], 2, "two different seeds"),
        (["--model", "./faces", "--interpolate", "1", "--frames", "1"], 2, "2<=x<=200"),
        (["--model", "./faces", "-o", "x.txt"], 2, ".png"),
        (["--model", "nowhere"], 1, "no such generator"),
        (["--model", "empty"], 1, "no config.json"),
        (["-n", "0", "--model", "./faces"], 2, "-n"),
    ],
)
def test_what_cannot_be_asked(
    faces: Path, emotions: Path, tmp_path: Path, monkeypatch, arguments, code, words
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    found, output = run_cgan("generate", *arguments)
    assert (found, words in output) == (code, True), output
    assert not list(tmp_path.glob("*.png"))


def test_a_generator_cut_short(faces: Path) -> None:
    weights = faces / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(FaderError, match="cut short"):
        load_generator(faces)


def test_packaged_generators_are_known_by_name(faces: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(cgan.io, "WEIGHTS_FOLDER", tmp_path / "weights")
    monkeypatch.chdir(tmp_path)
    code, output = run_cgan("generate", "-n", 1)
    assert code == 1 and "cgan train" in output and "--model" in output
    assert run_cgan("models")[0] == 0
    shutil.move(faces, tmp_path / "weights" / "faces")
    assert load_generator().label_names == ("Male", "Blond_Hair")
    code, output = run_cgan("models")
    assert code == 0 and output == "faces: 32 px, colour, Male, Blond_Hair\n"
    assert run_cgan("generate", "-n", 1, "-o", tmp_path / "x.png")[0] == 0


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_an_example(name: str) -> None:
    for flag in ("-h", "--help"):
        code, output = run_cgan(name, flag)
        assert code == 0 and f"cgan {name}" in output.split("Example", 1)[1]


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["train", "-h"], ["generate", "-h"]]
)
def test_python_m_cgan_answers_without_loading_torch(arguments: list[str]) -> None:
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['cgan', *{arguments!r}]\n"
        "try:\n    runpy.run_module('cgan', run_name='__main__')\n"
        "except SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "heavy = {'torch', 'torchvision', 'matplotlib', 'cv2', 'accelerate'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
