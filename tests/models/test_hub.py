"""Models that go to a Hub and come back: a server on loopback, asked by whole commands."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from hub import TOKEN, Hub, running
from paths import ASTRONAUT, ROOT

from fader.commands import main
from fader.models.classifier import ClassifierConfig
from fader.models.config import AutoencoderConfig
from fader.models.model import FaderModel

NETWORK = {"size": 32, "layers": 3, "width": 4, "max_width": 8}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running() as hub:
        yield hub


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return saved(tmp_path / "model", "Male")


def saved(folder: Path, *attributes: str) -> Path:
    torch.manual_seed(0)
    config = AutoencoderConfig(attributes=attributes, **NETWORK)
    FaderModel(config, ClassifierConfig(attributes, size=32, width=4)).save(folder)
    return folder


class Shell:
    """Commands whose Hub is ``address``, with their own cache."""

    def __init__(self, folder: Path, address: str, **more: str) -> None:
        self.folder = folder
        kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
        self.environment = {
            **kept,
            "PYTHONPATH": str(ROOT),
            "HF_ENDPOINT": address,
            "HF_HOME": str(folder / "hub"),
            "HF_TOKEN": TOKEN,
            # Large files go as they did before it: no server for it is here.
            "HF_HUB_DISABLE_XET": "1",
            **more,
        }

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
        )

    def push(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "fader", "push", *arguments)

    def load(self, *asked: str) -> list[str]:
        """What ``Editor.from_pretrained(…)`` edits, or its sentence, for each of the arguments."""
        code = "\n".join(
            ["from fader import Editor", "from fader.errors import FaderError"]
            + [
                f"try: print(*Editor.from_pretrained({one}).attributes)\n"
                "except FaderError as error: print(error)"
                for one in asked
            ]
        )
        done = self.run("-c", code)
        assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
        return done.stdout.splitlines()


def test_a_model_goes_to_the_hub_and_is_edited_with_from_there(
    hub: Hub, model: Path, tmp_path: Path
) -> None:
    shell = Shell(tmp_path, hub.address)
    (model / "notes.txt").write_text("nobody else's business")
    done = shell.push(model, "me/smiles", "--license", "cc-by-nc-4.0", "--private")
    assert done.returncode == 0, done.stderr
    ((first, files),) = hub.repositories["me/smiles"]
    assert done.stdout.strip() == f"{hub.address}/me/smiles/commit/{first}"
    assert "me/smiles" in hub.private
    assert files.keys() == {"config.json", "model.safetensors", "classifier.safetensors",
                            "README.md"}  # fmt: skip
    assert files["model.safetensors"] == (model / "model.safetensors").read_bytes()
    card = files["README.md"].decode()
    assert card.startswith("---\n") and "license: cc-by-nc-4.0" in card
    assert "library_name: fader" in card and "--model me/smiles" in card and "Male" in card
    assert str(tmp_path) not in card and "Measured" not in card

    hub.tags["me/smiles", "v1"] = first
    hub.commit("me/smiles", {
        "config.json": (saved(tmp_path / "second", "Young") / "config.json").read_bytes(),
        "classifier.safetensors": (tmp_path / "second/classifier.safetensors").read_bytes(),
        "photos.bin": bytes(1000),
    })  # fmt: skip
    answers = shell.load(
        "'me/smiles'",
        "'me/smiles', revision='v1'",
        "'me/smiles@v1'",
        f"'me/smiles', revision={first!r}, cache_dir='elsewhere'",
        "'me/smiles', revision='v3'",
        "'me/frowns'",
        "'me/smiles', local_files_only=True, cache_dir='nowhere'",
        "'me/smi*les'",
    )
    assert answers[:4] == ["Young", "Male", "Male", "Male"]
    assert answers[4].startswith("me/smiles: ") and "but not this revision" in answers[4]
    assert answers[5].startswith("me/frowns: ") and "there is none" in answers[5]
    assert "not in the cache" in answers[6] and "switched off" in answers[6]
    assert "no Hub id" in answers[7] and len(answers) == 8
    assert not any("photos.bin" in asked for asked in hub.asked)
    snapshots = tmp_path / "hub" / "hub" / "models--me--smiles" / "snapshots"
    assert {path.name for path in snapshots.iterdir()} == {
        c[0] for c in hub.repositories["me/smiles"]
    }

    # Without a token it is not seen; without a Hub, the cache has it.
    (answer,) = Shell(tmp_path / "model", hub.address, HF_TOKEN="").load("'me/smiles'")
    assert "token" in answer
    asked = len(hub.asked)
    offline = Shell(tmp_path, hub.address, HF_HUB_OFFLINE="1")
    answers = offline.load("'me/smiles'", "'me/smiles@v1'", "'me/others'")
    assert answers[:2] == ["Young", "Male"] and "switched off" in answers[2]
    done = offline.push(model, "me/smiles", "--license", "mit")
    assert done.returncode == 1 and "HF_HUB_OFFLINE" in done.stderr and len(hub.asked) == asked
    assert len(done.stderr.splitlines()) == 1
    unreachable = Shell(tmp_path, "http://127.0.0.1:9")
    answers = unreachable.load("'me/smiles@v1'", "'me/others'")
    assert answers[0] == "Male"
    assert "not in the cache, and http://127.0.0.1:9 cannot be reached" in answers[1]


def test_a_photo_is_edited_with_a_model_of_the_hub(hub: Hub, model: Path, tmp_path: Path) -> None:
    hub.repositories["me/smiles"] = []
    hub.commit("me/smiles", {path.name: path.read_bytes() for path in model.iterdir()})
    done = Shell(tmp_path, hub.address).run(
        "-m", "fader", "edit", ASTRONAUT, "--set", "Male=2", "--model", "me/smiles", "-o", "out.png"
    )  # fmt: skip
    assert done.returncode == 0 and (tmp_path / "out.png").is_file(), done.stderr
    assert "Traceback" not in done.stderr and "%" not in done.stderr


def test_a_repository_that_is_no_model(hub: Hub, tmp_path: Path) -> None:
    hub.repositories["me/text"] = []
    hub.commit("me/text", {"README.md": b"# A text", "weights.bin": bytes(100)})
    (answer,) = Shell(tmp_path, hub.address).load("'me/text'")
    assert answer == "me/text: not a Fader model, it has no config.json"


def test_who_may_not_push_is_told_so(hub: Hub, model: Path, tmp_path: Path) -> None:
    done = Shell(tmp_path, hub.address, HF_TOKEN="").push(model, "me/smiles", "--license", "mit")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
    assert "HF_TOKEN" in done.stderr and not hub.repositories
    done = Shell(tmp_path, "http://127.0.0.1:9").push(model, "me/smiles", "--license", "mit")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
    assert "127.0.0.1:9" in done.stderr


def test_a_run_s_own_card_goes_with_it_under_the_licence_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards: list[str] = []

    def upload(folder: str, repo_id: str, *, private: bool | None) -> str:
        assert repo_id == "me/smiles" and private is None
        cards.append((Path(folder) / "README.md").read_text())
        return "the commit"

    def push(*arguments: object) -> tuple[int, str]:
        result = CliRunner().invoke(main, ["push", *map(str, arguments)])
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result.exit_code, result.output

    monkeypatch.setattr("fader.models.hub.upload", upload)
    run = tmp_path / "run"
    model = saved(run / "model", "Male")
    (model / "README.md").write_text("---\nlicense: mit\nlanguage: en\n---\n# Mine\n")
    assert push(run, "me/smiles", "--license", "other") == (0, "the commit\n")
    assert cards[0].endswith("# Mine\n") and "license: other\n" in cards[0]
    assert "language: en\n" in cards[0] and "license: mit" not in cards[0]
    (model / "README.md").write_text("---\n: [\n---\n")
    code, output = push(run, "me/smiles", "--license", "mit")
    assert code == 1 and "README.md: its metadata cannot be read" in output
    (model / "README.md").unlink()
    (run / "evaluation.json").write_text("{}")
    code, output = push(run, "me/smiles", "--license", "mit")
    assert code == 1 and "evaluation.json: is not what fader evaluate --json prints" in output
    for wrong in (["me/smiles"], ["smiles", "--license", "mit"], ["me/a", "--license", "My own"]):
        code, output = push(run, *wrong)
        assert code == 2, output
    code, output = push(tmp_path / "nowhere", "me/smiles", "--license", "mit")
    assert code == 1 and "no such model" in output
    assert len(cards) == 1
