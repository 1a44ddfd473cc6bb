"""Every script in ``tools`` loads, and tells what it does."""

from __future__ import annotations

import importlib.util
import re
import sys
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


def test_outlines_are_learned_from_what_grabcut_finds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tool = loaded(next(path for path in SCRIPTS if path.stem == "train_silhouette"), monkeypatch)
    rng = np.random.default_rng(0)
    rows, columns = (np.mgrid[:128, :128] + 0.5) / 128
    heads = [
        ((columns - 0.5) / w) ** 2 + ((rows - 0.55) / h) ** 2 < 1
        for w, h in rng.uniform([0.3, 0.38], [0.38, 0.45], (12, 2))
    ]
    images = np.stack([np.where(head[..., None], (150, 110, 90), (40, 60, 120)) for head in heads])
    images = (images + rng.normal(0, 8, images.shape)).clip(0, 255).astype(np.uint8)
    store = SimpleNamespace(images=images, indices=lambda part: np.arange(12))
    wanted = np.stack(heads)
    found = tool.divisions(images, [tool.first_guess()] * 12)[:, 0].numpy() > 0
    assert (found == wanted)[:, :115].mean() > 0.97  # below that there may be shoulders
    # Cut out, they are where they were, before other things.
    masks = torch.from_numpy(wanted)[:, None].float()
    seen = tool.as_input(images)
    moved, inside = tool.before_others(seen, masks, seen.flip(0))
    kept = torch.nn.functional.max_pool2d(1 - masks, 5, 1, 2) == 0
    behind = torch.nn.functional.max_pool2d(masks, 5, 1, 2) == 0
    assert torch.equal(inside[kept], torch.ones(int(kept.sum()))) and not inside[behind].any()
    change = (moved - seen).abs().mean(1, keepdim=True)
    assert change[kept].max() < 1e-5 and change[behind].mean() > 0.2
    monkeypatch.setattr(tool, "PreparedStore", lambda path: store)
    out = tmp_path / "silhouette.safetensors"
    arguments = ["--store", str(tmp_path), "--out", str(out), "--faces", "12", "--steps", "40"]
    result = CliRunner().invoke(tool.main, arguments, catch_exceptions=False)
    assert result.exit_code == 0 and "12 validation faces" in result.output
    assert float(re.search(r"faces: ([\d.]+)", result.output)[1]) > 0.8
    tool.SilhouetteNet().load_state_dict({k: v.float() for k, v in load_file(out).items()})
