"""Every script in ``tools`` loads, and tells what it does."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

SCRIPTS = sorted((Path(__file__).parent.parent / "tools").glob("*.py"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_help(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location(f"tool_{path.stem}", path)
    tool = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, tool)
    spec.loader.exec_module(tool)
    assert isinstance(tool.main, click.Command)
    result = CliRunner().invoke(tool.main, ["--help"])
    assert result.exit_code == 0 and "Usage" in result.output


def test_there_are_scripts() -> None:
    assert SCRIPTS
