"""What holds for every command."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

import fader
from fader.commands import COMMANDS, main


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_an_example(name: str) -> None:
    for flag in ("-h", "--help"):
        result = CliRunner().invoke(main, [name, flag])
        assert result.exit_code == 0
        assert f"fader {name}" in result.output.split("Example", 1)[1]


def test_help_lists_the_commands_and_version_is_the_package_s() -> None:
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    assert all(name in result.output for name in COMMANDS)
    assert fader.__version__ in CliRunner().invoke(main, ["--version"]).output


def test_unknown_commands_are_bad_usage() -> None:
    result = CliRunner().invoke(main, ["edti"])
    assert result.exit_code == 2


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "-h"]])
def test_python_m_fader_answers_without_loading_torch(arguments: list[str]) -> None:
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['fader', *{arguments!r}]\n"
        "try:\n    runpy.run_module('fader', run_name='__main__')\n"
        "except SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "heavy = {'torch', 'torchvision', 'facenet_pytorch', 'cv2', 'accelerate'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_public_names_are_there() -> None:
    assert {"Editor", "load_model", "__version__"} <= set(dir(fader))
    assert callable(fader.load_model)
    with pytest.raises(AttributeError):
        _ = fader.nothing
