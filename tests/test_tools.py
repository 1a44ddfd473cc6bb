"""Every script in ``tools`` loads, and tells what it does."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import click
import pytest
import torch
from click.testing import CliRunner

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
