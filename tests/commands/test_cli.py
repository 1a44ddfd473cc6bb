"""What holds for every command."""

from __future__ import annotations

import errno
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from paths import ROOT
from PIL import Image

import cgan.commands
import fader
from fader.commands import COMMANDS, main
from fader.commands.echo import visible
from fader.data.cache import cache_folder, mark_used


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


# What gets to a terminal


def cli(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        encoding="latin-1",
        env=os.environ | environment,
    )


def test_control_characters_are_written_out() -> None:
    assert visible("a\x1b]52;c;AA\x07\n\x9b2J\u202e\udcff é 写真 📷") == (
        r"a\x1b]52;c;AA\x07\n\x9b2J\u202e\udcff é 写真 📷"
    )


EVIL = "evil\x1b]52;c;AAAA\x07\x9b2J"


@pytest.mark.parametrize(
    "arguments",
    [
        "fader edit EVIL.jpg --set Smiling=1",
        "fader edit EVIL/ --set Smiling=1",
        "fader edit examples/hopper.jpg --set Smiling=1 -o EVIL.xyz",
        "fader edit examples/hopper.jpg --set EVIL=1",
        "fader edit examples/hopper.jpg --set Smiling=1 --model EVIL",
        "fader strip EVIL.jpg --attr Smiling -o x.png",
        "fader describe EVIL.jpg",
        "fader prepare EVIL out",
        "fader train --attrs Male --data EVIL",
        "fader train --attrs EVIL",
        "fader train-classifier --data EVIL --out out",
        "fader evaluate --data EVIL",
        "fader EVIL",
        "cgan train --data EVIL",
        "cgan generate --model EVIL",
        "cgan evaluate --data EVIL",
        "cgan progress EVIL",
    ],
)
def test_what_strangers_named_does_not_reach_the_terminal_raw(
    arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / f"{EVIL}/").mkdir()
    command, *rest = [part.replace("EVIL", EVIL) for part in arguments.split()]
    result = CliRunner().invoke({"fader": main, "cgan": cgan.commands.main}[command], rest)
    assert result.exit_code in (1, 2), result.output
    assert not isinstance(result.exception, (AttributeError, TypeError, OSError))
    assert not {"\x1b", "\x07", "\x9b"} & set(result.output)


@pytest.mark.parametrize(
    "arguments",
    [
        "fader train --attrs Male --data nowhere --out OUT",
        "fader train --resume --out OUT",
        "fader train-classifier --data nowhere --out OUT",
        "fader prepare nowhere OUT",
        "fader shard nowhere OUT",
        "fader synth OUT -n 3",
        "fader import nothing.pth OUT",
        "fader export nowhere OUT",
        "fader edit folder --set Smiling=1 -o OUT",
        "fader edit folder --set Smiling=1 -o OUT --engine ray",
        "fader edit a.jpg b.jpg --set Smiling=1 -o OUT/",
        "fader strip a.jpg --attr Smiling -o OUT/",
        "fader evaluate --data nowhere --html OUT/report.html",
        "cgan train --data nowhere --out OUT",
        "cgan train --resume --out OUT",
        "cgan generate -n 1 --overwrite -o OUT/",
        "cgan generate -n 1 -o OUT/faces.png",
        "cgan reconstruct a.jpg --model nowhere -o OUT/faces.png",
    ],
)
def test_a_file_where_a_folder_is_to_be_is_named_before_the_work(
    arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.jpg").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "gone").symlink_to("nowhere")
    program = {"fader": main, "cgan": cgan.commands.main}[arguments.split()[0]]
    kind = "is a file"
    for out in ("photo.jpg", "photo.jpg/run", "gone"):
        kind = "is a link that leads nowhere" if out == "gone" else kind
        result = CliRunner().invoke(program, arguments.replace("OUT", out).split()[1:])
        assert result.exit_code in (1, 2), result.output
        said = f"{out.split('/')[0]}: {kind}, and a folder is wanted there; give another name"
        assert result.stderr.splitlines()[-1].endswith(said)
    assert (tmp_path / "photo.jpg").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "gone", "photo.jpg"]


@pytest.mark.parametrize("package", ["fader", "cgan"])
def test_legacy_encodings_print_what_they_can(package: str) -> None:
    for arguments in (["train", "--help"], ["--help"], ["models"]):
        done = cli(package, *arguments, PYTHONIOENCODING="ascii")
        assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
def test_a_program_started_without_streams_works(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (40, 40)).save(photos / "a.png")
    arguments = ["edit", str(photos), "-o", str(tmp_path / "out"), "--set", "Smiling=1"]
    words = shlex.join([sys.executable, "-m", "fader", *arguments])
    subprocess.run(f"{words} <&- >&- 2>&-", shell=True, check=True)
    assert (tmp_path / "out" / "report.csv").read_bytes().startswith(b"input,output")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("package", ["fader", "cgan"])
@pytest.mark.parametrize(
    "arguments", [["models"], ["models", "--json"], ["train", "--help"], ["--help"]]
)
def test_a_full_standard_output_is_one_sentence(package: str, arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", package, *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "standard output cannot be written" in done.stderr


@pytest.mark.parametrize("name", [None, "somewhere/report.html"])
def test_a_full_disk_is_one_sentence(name: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)

    monkeypatch.setattr("fader.models.folders.available_models", full)
    result = CliRunner().invoke(main, ["models"])
    assert result.exit_code == 1 and "the disk is full" in result.stderr
    assert (name or "") in result.stderr and result.stderr.count("\n") == 1


def test_matplotlib_does_not_complain_of_a_home_that_is_read_only() -> None:
    code = (
        "from fader.commands import main\n"
        "main(['models'], standalone_mode=False)\n"
        "import matplotlib.font_manager"
    )
    done = cli_code(code, MPLCONFIGDIR="/dev/null/nowhere")
    assert done.returncode == 0 and not done.stderr, done.stderr


def cli_code(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )


# fader cache


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two stores and a judge in the cache, the first used last, and what is not ours."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folders = []
    for age, name in enumerate(("0123456789abcdef-128", "f" * 16 + "-64", "judge-" + "0" * 16)):
        folder = cache_folder() / name
        folder.mkdir(parents=True)
        (folder / ("config.json" if age == 2 else "images.npy")).write_bytes(bytes(1000))
        os.utime(folder, (1e9 - age, 1e9 - age))
        folders.append(folder)
    (cache_folder() / "notes").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "images.npy").write_text("mine")
    (cache_folder() / ("e" * 16 + "-32")).symlink_to(tmp_path / "elsewhere")
    (folders[0] / "mine.txt").write_text("mine")
    return folders


def test_the_cache_is_shown_and_cleared(cached: list[Path], tmp_path: Path) -> None:
    document = json.loads(CliRunner().invoke(main, ["cache", "--json"]).stdout)
    assert [entry["name"] for entry in document["entries"]] == [path.name for path in cached]
    assert document["folder"] == str(tmp_path / "fader") and document["limit_bytes"] == 20e9
    result = CliRunner().invoke(main, ["cache", "--clear"])
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))
    assert left == [
        *("elsewhere", "elsewhere/images.npy", "fader", "fader/0123456789abcdef-128"),
        *("fader/0123456789abcdef-128/mine.txt", "fader/" + "e" * 16 + "-32", "fader/notes"),
    ]
    assert result.exit_code == 1 and "0123456789abcdef-128" in result.stdout  # not empty


def test_the_cache_has_a_limit(cached: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FADER_CACHE_GB", "0.000002")
    mark_used(cached[1])
    assert [path.exists() for path in cached] == [True, True, False]
    monkeypatch.setenv("FADER_CACHE_GB", "0")
    mark_used(cached[1])
    assert cached[1].exists() and not (cached[0] / "images.npy").exists()
    monkeypatch.setenv("FADER_CACHE_GB", "much")
    result = CliRunner().invoke(main, ["cache"])
    assert result.exit_code == 1 and "FADER_CACHE_GB=much" in result.stderr
