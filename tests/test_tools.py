"""Every script in ``tools`` loads, and tells what it does."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from fader.errors import FaderError
from fader.models.autoencoder import AutoencoderConfig
from fader.models.io import FaderModel

SCRIPTS = sorted((Path(__file__).parent.parent / "tools").glob("*.py"))


def loaded(path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"tool_{path.stem}", path)
    tool = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, tool)
    spec.loader.exec_module(tool)
    return tool


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_help(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = loaded(path, monkeypatch)
    assert isinstance(tool.main, click.Command)
    result = CliRunner().invoke(tool.main, ["--help"])
    assert result.exit_code == 0 and "Usage" in result.output


def test_there_are_scripts() -> None:
    assert SCRIPTS


def test_an_average_lies_between_its_models_and_keeps_what_only_one_knows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tool = loaded(next(path for path in SCRIPTS if path.stem == "average_models"), monkeypatch)
    shape = {"size": 32, "layers": 3, "width": 8, "max_width": 16}
    older = FaderModel(AutoencoderConfig(attributes=("Male", "Young"), **shape))
    newer = FaderModel(AutoencoderConfig(attributes=("Male", "Bald"), **shape))
    newer.autoencoder.encoder.load_state_dict(older.autoencoder.encoder.state_dict())
    state = tool.averaged(older, newer, 0.25)
    a, b = older.autoencoder.state_dict(), newer.autoencoder.state_dict()
    key = "decoder.0.up.weight"
    assert torch.allclose(state[key][:-4], 0.75 * a[key][:-4] + 0.25 * b[key][:-4])
    assert torch.allclose(state[key][-4:-2], 0.75 * a[key][-4:-2] + 0.25 * b[key][-4:-2])  # Male
    assert torch.equal(state[key][-2:], b[key][-2:])  # Bald
    with pytest.raises(FaderError, match="different encoders"):
        tool.averaged(FaderModel(older.autoencoder.config), newer, 0.25)


def heads() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Twelve ellipses before a blue wall, 128 pixels: images, masks of all, masks of hair."""
    rng = np.random.default_rng(0)
    rows, columns = (np.mgrid[:128, :128] + 0.5) / 128
    heads = [
        ((columns - 0.5) / w) ** 2 + ((rows - 0.55) / h) ** 2 < 1
        for w, h in rng.uniform([0.3, 0.38], [0.38, 0.45], (12, 2))
    ]
    persons = np.stack(heads)
    hair = persons & (rows < 0.35)
    images = np.where(persons[..., None], (170, 120, 100), (40, 60, 120))
    images = np.where(hair[..., None], (60, 40, 30), images)
    images = (images + rng.normal(0, 8, images.shape)).clip(0, 255).astype(np.uint8)
    return images, persons, hair


def test_outlines_are_learned_from_their_teachers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tool = loaded(next(path for path in SCRIPTS if path.stem == "train_silhouette"), monkeypatch)
    images, persons, hair = heads()
    taught = np.stack([255 * persons, np.where(persons.any((1, 2))[:, None, None], hair, 0)], 1)
    taught[0, 1] = tool.UNKNOWN
    taught = torch.from_numpy(taught.astype(np.uint8))
    # Cut out, they are where they were, before other things.
    wanted, known = tool.as_masks(taught)
    assert (
        known[1:].min() == known[:, 0].min() == 1 and known[0, 1].max() == wanted[0, 1].max() == 0
    )
    seen, masks = tool.as_input(images), wanted[:, :1]
    moved, inside = tool.before_others(seen, wanted, seen.flip(0))
    kept = torch.nn.functional.max_pool2d(1 - masks, 5, 1, 2) == 0
    behind = torch.nn.functional.max_pool2d(masks, 5, 1, 2) == 0
    assert torch.equal(inside, wanted)
    change = (moved - seen).abs().mean(1, keepdim=True)
    assert change[kept].max() < 1e-5 and change[behind].mean() > 0.2
    store = SimpleNamespace(images=images, indices=lambda part: np.arange(12))
    monkeypatch.setattr(tool, "PreparedStore", lambda path: store)
    out = tmp_path / "silhouette.safetensors"
    arguments = ["--store", str(tmp_path), "--out", str(out), "--faces", "12", "--steps", "40"]

    def teachers() -> Callable[[np.ndarray], torch.Tensor]:
        return lambda some: taught[: len(some)]

    monkeypatch.setattr(tool, "Teachers", teachers)
    result = CliRunner().invoke(tool.main, arguments, catch_exceptions=False)
    found = dict(re.findall(r"(\w+), inter.* (?:12|11) validation faces: ([\d.]+)", result.output))
    assert result.exit_code == 0 and all(float(found[k]) > 0.8 for k in ("person", "hair"))
    tool.SilhouetteNet().load_state_dict({k: v.float() for k, v in load_file(out).items()})


def test_hair_is_found_between_a_face_and_the_outline(monkeypatch: pytest.MonkeyPatch) -> None:
    tool = loaded(next(path for path in SCRIPTS if path.stem == "train_silhouette"), monkeypatch)
    images, persons, hair = heads()
    mesh = np.zeros((468, 2))
    turn = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    # An oval from above the hairline, where there is forehead, down to the chin.
    mesh[200:236] = np.stack([64 + 26 * np.sin(turn), 80 - 36 * np.cos(turn)], axis=1)
    mesh[tool.TOP], mesh[tool.CHIN] = (64, 44), (64, 116)
    mesh[300:304] = [(48, 62), (58, 62), (48, 64), (58, 64)]
    teachers = object.__new__(tool.Teachers)
    teachers._oval, teachers._brows = list(range(200, 236)), [list(range(300, 304))]
    teachers._features = teachers._brows
    for image, person, wanted in zip(images, persons, hair, strict=True):
        found = teachers._hair(image, person, mesh)
        assert (found & wanted).sum() / (found | wanted).sum() > 0.8
        bald = np.where(wanted[..., None], (170, 120, 100), image).astype(np.uint8)
        assert teachers._hair(bald, person, mesh).mean() < 0.05


def test_outlines_without_their_teachers_say_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tool = loaded(next(path for path in SCRIPTS if path.stem == "train_silhouette"), monkeypatch)
    monkeypatch.setitem(sys.modules, "mediapipe.python.solutions", None)
    result = CliRunner().invoke(tool.main, ["--store", str(tmp_path)])
    assert result.exit_code == 1 and "pip install mediapipe" in result.output
