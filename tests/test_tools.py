"""Every script in ``tools`` loads, and tells what it does."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import click
import pytest
import torch
from click.testing import CliRunner

SCRIPTS = sorted(
    path
    for path in (Path(__file__).parent.parent / "tools").glob("*.py")
    if "\ndef main(" in path.read_text(encoding="utf-8")
)


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


@torch.no_grad()
def test_moves_are_as_long_as_the_classifier_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    tool = loaded(next(path for path in SCRIPTS if path.stem == "package_model"), monkeypatch)

    class Model:
        """Male brightens by its difference and is seen from 1.2 on, Smiling darkens; never seen."""

        attributes = ("Male", "Smiling")
        classifier = SimpleNamespace(config=SimpleNamespace(attributes=("Smiling", "Male")))

        def encode(self, x: torch.Tensor) -> list[torch.Tensor]:
            return [x]

        def decode(
            self, features: list[torch.Tensor], y: torch.Tensor, own: torch.Tensor
        ) -> torch.Tensor:
            return features[0] + (y - own)[:, :1, None, None]

    class Sees:
        config = Model.classifier.config

        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            level = x.mean(dim=(1, 2, 3))
            return torch.stack([torch.zeros_like(level) - 1, level - 1.2], dim=1)

    model = Model()
    model.classifier = Sees()
    own = torch.tensor([[0.0, 0.0]] * 4 + [[1.0, 1.0]] * 4)
    found = tool.strengths(model, torch.zeros(8, 3, 32, 32), own)
    assert found == {"Male": (1.0, 1.25), "Smiling": (1.0, 1.0)}
