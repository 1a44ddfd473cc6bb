"""Model folders from strangers: one sentence each, before memory is taken."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from paths import ASTRONAUT
from safetensors.torch import load_file, save_file

import cgan.commands
import fader.commands
from cgan.config import GanConfig
from cgan.generate import file_names
from cgan.io import available_generators, load_generator, save_generator
from cgan.networks import Generator
from fader.errors import FaderError
from fader.models.autoencoder import AutoencoderConfig
from fader.models.classifier import AttributeClassifier, ClassifierConfig
from fader.models.model import FaderModel, save_classifier
from fader.models.pretrained import load_classifier, load_model

CONFIG = r"config\.json"
DEEP = "[" * 100_000 + "]" * 100_000


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = AutoencoderConfig(size=32, layers=3, attributes=("Male",), width=4, max_width=8)
    FaderModel(config, ClassifierConfig(("Male", "Young"), 32, 4)).save(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def generator(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = GanConfig(
        size=32, width=4, latent=8, label_names=("happy", "sad"), label_kind="classes"
    )
    save_generator(Generator(config), tmp_path / "generator")
    return tmp_path / "generator"


def change(folder: Path, part: str, **values: Any) -> None:
    """Set values in a part of the folder's config.json (its whole, for an empty part)."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    (config[part] if part else config).update(values)
    path.write_text(json.dumps(config))


def change_weights(path: Path, make: Callable[[torch.Tensor], torch.Tensor], word: str) -> None:
    weights = load_file(path)
    name = next(name for name in weights if word in name)
    save_file({**weights, name: make(weights[name]).contiguous()}, path)


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


HUGE = [2**31, 10**9, 10**30, -1, 0, 1.5, "64", True, None, float("nan"), float("inf"), [64], {}]


def accepted(
    folder: Path, part: str, name: str, load: Callable[[Path], object], values: list[Any]
) -> list[Any]:
    """Which of the values the folder may have without a sentence that names its config.json."""
    found = []
    before = (folder / "config.json").read_bytes()
    for value in values:
        change(folder, part, **{name: value})
        try:
            load(folder)
            found.append(value)
        except FaderError as error:
            assert "config.json" in str(error), error
        (folder / "config.json").write_bytes(before)
    return found


@pytest.mark.parametrize("name", ["size", "layers", "width", "max_width"])
def test_numbers_of_an_autoencoder(model: Path, name: str) -> None:
    assert accepted(model, "autoencoder", name, load_model, HUGE) == []


@pytest.mark.parametrize("name", ["size", "width"])
def test_numbers_of_a_classifier(model: Path, name: str) -> None:
    assert accepted(model, "classifier", name, load_model, HUGE) == []
    assert accepted(model, "classifier", name, load_classifier, HUGE) == []


@pytest.mark.parametrize("name", ["size", "channels", "width", "max_width", "latent"])
def test_numbers_of_a_generator(generator: Path, name: str) -> None:
    assert accepted(generator, "generator", name, load_generator, HUGE) == []


@pytest.mark.parametrize(
    ("part", "values"),
    [
        ("", {"format": "2"}),
        ("", {"format": 99}),
        ("", {"format": [1]}),
        ("", {"format": True}),
        ("", {"format": 1.0}),
        ("", {"autoencoder": 5}),
        ("", {"autoencoder": []}),
        ("", {"autoencoder": "x" * 100_000}),
        ("", {"classifier": [1]}),
        ("", {"classifier": True}),
        ("", {"training": 7}),
        ("", {"classifier_training": "x"}),
        ("", {"strength": {"Male": 5}}),
        ("", {"strength": {"Male": [float("nan"), 1]}}),
        ("", {"strength": ["Male"]}),
        ("autoencoder", {"kind": "evil"}),
        ("autoencoder", {"attributes": "Male"}),
        ("autoencoder", {"attributes": ["Male", "Male"]}),
        ("autoencoder", {"attributes": ["../../evil"]}),
        ("autoencoder", {"attributes": ["Mle"]}),
        ("autoencoder", {"attributes": [5]}),
        ("autoencoder", {"attributes": [["Male"]]}),
        ("autoencoder", {"attributes": ["Male"] * 100_000}),
        ("autoencoder", {"unheard_of": 1}),
        ("classifier", {"architecture": "evil"}),
        ("classifier", {"architecture": ["resnet"]}),
        ("classifier", {"attributes": {"a": 1}}),
        ("classifier", {"attributes": ["a/b", "c"]}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_other_settings_of_a_model(model: Path, part: str, values: dict[str, Any]) -> None:
    change(model, part, **values)
    with pytest.raises(FaderError, match=CONFIG) as caught:
        load_model(model)
    assert len(str(caught.value)) < 500 + len(str(model))


@pytest.mark.parametrize(
    "text",
    [DEEP, '{"autoencoder": ' + DEEP + "}", '{"a": ' * 70 + "1" + "}" * 70, "5", "null", "[]", "",
     '{"autoencoder": {"size": ' + "9" * 5000 + "}}", '{"autoencoder": 1', "\xff\xfe",
     " " * (5 << 20)],
    ids=["deep", "deep inside", "rather deep", "number", "null", "list", "empty", "long number",
         "short", "latin", "large"],
)  # fmt: skip
def test_documents_that_are_none(model: Path, generator: Path, text: str) -> None:
    for folder, load in (
        (model, load_model),
        (model, load_classifier),
        (generator, load_generator),
    ):
        (folder / "config.json").write_bytes(text.encode("latin-1"))
        with pytest.raises(FaderError, match=CONFIG):
            load(folder)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda v: torch.full_like(v, float("nan")), "weight"),
        (lambda v: torch.full_like(v, float("inf")), "bias"),
        (lambda v: v.double() * 1e300, "weight"),
        (lambda v: torch.full_like(v, -1), "running_var"),
        (lambda v: v[:1], "weight"),
        (lambda v: v[..., None], "weight"),
        (lambda v: v[None].expand(64, *v.shape), "weight"),
    ],
    ids=["nan", "infinite", "too large", "negative variance", "cut", "deeper", "longer"],
)
def test_weights_that_are_none(
    model: Path, generator: Path, make: Callable[[torch.Tensor], torch.Tensor], word: str
) -> None:
    shutil.copytree(model, model.parent / "other")
    for path, load in (
        (model / "model.safetensors", load_model),
        (model.parent / "other" / "classifier.safetensors", load_model),
        (model.parent / "other" / "classifier.safetensors", load_classifier),
        (generator / "model.safetensors", load_generator),
    ):
        change_weights(path, make, word)
        with pytest.raises(FaderError, match=path.name):
            load(path.parent)


def test_weights_of_fewer_or_other_names(model: Path, generator: Path) -> None:
    for folder, load in ((model, load_model), (generator, load_generator)):
        path = folder / "model.safetensors"
        weights = load_file(path)
        first = next(iter(weights))
        others = [
            {name: value for name, value in weights.items() if name != first},
            {**weights, "x" * 10_000: torch.zeros(1)},
            {},
        ]
        for other in others:
            save_file(other, path)
            with pytest.raises(FaderError, match=r"model.safetensors: does not fit") as caught:
                load(folder)
            assert len(str(caught.value)) < 500 + len(str(path))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "classifier.safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "dangling", "empty"])
def test_files_that_are_none(model: Path, generator: Path, name: str, kind: str) -> None:
    for folder, load in ((model, load_model), (generator, load_generator)):
        path = folder / name
        if not path.exists():
            continue
        path.unlink()
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        elif kind == "empty":
            path.touch()
        else:
            path.symlink_to("/dev/zero" if kind == "device" else folder / "nowhere")
        with pytest.raises(FaderError, match=folder.name):
            load(folder)


def test_weights_beyond_all_measure_draw_nothing(model: Path, generator: Path) -> None:
    for path, word in (
        (model / "classifier.safetensors", "features.0.weight"),
        (generator / "model.safetensors", "first.weight"),
    ):
        change_weights(path, lambda v: torch.full_like(v, 3e38), word)
    x = torch.rand(1, 3, 32, 32)
    with pytest.raises(FaderError, match="damaged"):
        load_model(model).estimate(x)
    change_weights(model / "model.safetensors", lambda v: torch.full_like(v, 3e38), "encoder.1.0.w")
    loaded = load_model(model)
    with pytest.raises(FaderError, match="decodes no pictures"):
        loaded.decode(loaded.encode(x), torch.ones(1, 1), torch.zeros(1, 1))
    out = generator.parent / "faces.png"
    code, output = generate("--model", generator, "-n", 40, "-o", out)
    assert code == 1 and "damaged" in output and not out.exists()


def generate(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(cgan.commands.main, ["generate", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


@pytest.mark.parametrize(
    "name",
    ["../../elsewhere/evil", "/abs/evil", "a\\b", "..", ".hidden", "", " ", "a\nb",
     "\x1b]52;c;x\x07", "a\0b", "x" * 300],
)  # fmt: skip
def test_labels_that_would_escape_are_refused(generator: Path, name: str) -> None:
    change(generator, "generator", label_names=["happy", name])
    out = generator.parent / "out"
    for label in ("all", name or "all"):
        code, output = generate("--model", generator, "--label", label, "-n", 1, "-o", out)
        assert code == 1 and "config.json" in output and "\x1b" not in output, output
    assert not out.exists() and not list(generator.parent.rglob("*.png"))
    with pytest.raises(FaderError, match="label"):
        GanConfig(label_names=("happy", name), label_kind="classes")


def test_labels_become_names_that_any_disk_takes(generator: Path) -> None:
    labels = ["happy: ?", "Happy_ _", 'a|b<c>"d*', "é" * 120]
    change(generator, "generator", label_names=labels[:2])
    out = generator.parent / "out"
    code, output = generate("--model", generator, "--label", "all", "-n", 2, "--seed", 1, "-o", out)
    assert code == 0, output
    names = [path.name for path in out.iterdir()]
    assert len({name.casefold() for name in names}) == 4
    for name in file_names(labels):
        assert len(name.encode()) <= 110 and not set(name) & set('/\\:*?"<>|\0')
    assert len(file_names(["x" * 150, "x" * 160, "X" * 170])) == 3


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_little_memory_is_taken_for_a_folder_that_asks_for_much(model: Path) -> None:
    """The widths fit each bound, and no file."""
    change(model, "autoencoder", width=16_384, max_width=16_384)
    change(model, "classifier", width=16_384)
    code = (
        "import sys\nfrom fader.errors import FaderError\n"
        "from fader.models.pretrained import load_model\n"
        "try:\n    load_model(sys.argv[1])\nexcept FaderError as error:\n    print(error)\n"
        # Not getrusage: its peak outlives exec, and would be that of these tests.
        "status = dict(line.split(':', 1) for line in open('/proc/self/status'))\n"
        "print(status['VmHWM'].split()[0])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(model)], capture_output=True, text=True, check=True
    )
    message, peak = done.stdout.splitlines()
    assert "more weights than the file can have" in message
    assert int(peak) * 1024 < 1.5e9


def test_a_stranger_s_model_at_the_command_line(model: Path, tmp_path: Path) -> None:
    change(model, "autoencoder", width=float("nan"))
    for command in (
        ["edit", ASTRONAUT, "--set", "Male=0", "-o", tmp_path / "out.jpg"],
        ["describe", ASTRONAUT],
    ):
        arguments = [*map(str, command), "--model", str(model)]
        result = CliRunner().invoke(fader.commands.main, arguments)
        assert result.exit_code == 1 and isinstance(result.exception, SystemExit)
        assert "width is nan" in result.output and len(result.output.splitlines()) == 1
    assert not (tmp_path / "out.jpg").exists()


@pytest.mark.parametrize("name", ["runs/first", "models/mine", "runs/a", "./x/y", "~/x"])
def test_a_mistyped_folder_is_not_asked_of_the_hub(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: object, **__: object) -> None:
        raise AssertionError("asked the Hub")

    monkeypatch.setattr("huggingface_hub.snapshot_download", asked)
    monkeypatch.chdir(tmp_path)
    Path("models").mkdir()
    with pytest.raises(FaderError, match="no such model"):
        load_model(name)


def test_a_classifier_alone_is_a_model_for_no_edit(tmp_path: Path) -> None:
    save_classifier(AttributeClassifier(ClassifierConfig(("Male",), 32, 4)), tmp_path / "c", {})
    assert load_classifier(tmp_path / "c").config.attributes == ("Male",)
    with pytest.raises(FaderError, match="classifier alone"):
        load_model(tmp_path / "c")
    change(tmp_path / "c", "", classifier=None)
    with pytest.raises(FaderError, match="no classifier"):
        load_classifier(tmp_path / "c")


def test_the_default_that_help_names_is_one_that_is_listed() -> None:
    for command in ("generate", "evaluate"):
        output = CliRunner().invoke(cgan.commands.main, [command, "--help"]).output
        default = " ".join(output.split()).split("--model NAME|RUN", 1)[1]
        default = default.split("[default: ", 1)[1].split("]", 1)[0]
        assert default in available_generators()
    assert (
        load_generator("default").config
        == load_generator().config
        == load_generator(default).config
    )
