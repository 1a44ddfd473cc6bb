"""Run folders: whose they are, what they were started on, full disks, log files."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from small_celeba import write_celeba
from small_generators import class_folders, drawn
from small_generators import settings as gan_settings
from small_generators import small_config as gan_config
from small_trainings import SMALL
from small_trainings import small_config as train_config

import cgan.commands
import fader.commands
import fader.progress
from cgan.gan import GanTrainer
from cgan.pictures import save_progress, snapshots
from fader.data.prepare import prepare
from fader.data.store import PreparedStore
from fader.errors import FaderError
from fader.models.model import FaderModel
from fader.progress import Progress
from fader.train.config import TrainConfig
from fader.train.inputs import checksum
from fader.train.run import RunFolder, numbered, read_rows
from fader.train.trainer import Trainer

TRAIN = ["train", "--device", "cpu"]
NEW = [*TRAIN, "--attrs", "Male,Smiling", "--preset", "tiny"]
NEW += [part for setting in [*SMALL, "steps=4", "log_every=1"] for part in ("-s", setting)]
CLASSES = [*TRAIN, "--labels", "folder", "--channels", "1", "--preset", "tiny"]
CLASSES += gan_settings("steps=4", "snapshot_every=2")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ``store``, ``discs``, and a run of ``fader train`` and one of ``cgan train`` on them, each
    stopped after its first step."""
    folder = tmp_path_factory.mktemp("made")
    prepare(write_celeba(folder / "c", 24), folder / "store", size=32, workers=1, progress=False)
    begin(folder / "store", folder / "run")
    begin_gan(class_folders(folder / "discs"), folder / "gan")
    return folder


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "store", tmp_path / "store"))


@pytest.fixture
def discs(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "discs", tmp_path / "discs"))


@pytest.fixture
def stopped(made: Path, store: Path, tmp_path: Path) -> Path:
    """A run of ``fader train`` on ``store`` that was stopped after its first step."""
    return copied(made / "run", tmp_path / "run", store)


@pytest.fixture
def stopped_gan(made: Path, discs: Path, tmp_path: Path) -> Path:
    return copied(made / "gan", tmp_path / "gan", discs)


def copied(run: Path, to: Path, data: Path) -> Path:
    shutil.copytree(run, to)
    inputs = json.loads((to / "inputs.json").read_text())
    (to / "inputs.json").write_text(json.dumps({**inputs, "data": str(data)}))
    return to


def small_config(*overrides: str) -> TrainConfig:
    config = train_config(*overrides)
    return replace(config, model=replace(config.model, attributes=("Male", "Smiling")))


def fader_(*arguments: object) -> Result:
    return CliRunner().invoke(fader.commands.main, [str(a) for a in arguments])


def cgan_(*arguments: object) -> Result:
    return CliRunner().invoke(cgan.commands.main, [str(a) for a in arguments])


def refused(result: Result, *words: object) -> None:
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    for word in words:
        assert str(word) in result.output, result.output


def begin(store: Path, run: Path) -> None:
    result = fader_(*NEW, "--data", store, "--out", run, "--minutes", 0)
    assert result.exit_code == 0, result.output


def begin_gan(data: Path, run: Path) -> None:
    result = cgan_(*CLASSES, "--data", data, "--out", run, "--minutes", 0)
    assert result.exit_code == 0, result.output


# Checkpoints and snapshots


def test_copies_of_checkpoints_are_neither_resumed_from_nor_counted_nor_deleted(
    stopped: Path,
) -> None:
    run = stopped
    folder = run / "checkpoints"
    state = torch.load(folder / "step-00000001.pt", weights_only=True)
    copies = ["step-00001000-best.pt", "step-1000.pt", "step-00000001 (copy).pt", "step-.pt"]
    for name in copies:
        torch.save({**state, "step": 1000}, folder / name)
    killed = folder / ".tmp-abcdefgh.pt"
    theirs = folder / ".tmp-mine.pt"
    for path in (killed, theirs):
        path.write_bytes(b"half of one")
    assert fader_(*TRAIN, "--resume", "--out", run, "-s", "checkpoint_minutes=0").exit_code == 0
    assert [row["step"] for row in read_rows(run / "metrics.jsonl")] == [1, 2, 3, 4]
    names = {path.name for path in folder.iterdir()}
    assert names == {*copies, theirs.name, "step-00000003.pt", "step-00000004.pt"}


def test_checkpoints_are_ordered_by_number(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for step in (99_999_999, 100_000_000, 5):
        run.save_checkpoint(step, {"step": step}, keep=9)
    assert [path.stem for path in run.list_checkpoints()] == [
        "step-00000005",
        "step-99999999",
        "step-100000000",
    ]
    assert run.load_checkpoint(torch.device("cpu"))["step"] == 100_000_000


def test_copies_of_snapshots_are_left_alone(stopped_gan: Path) -> None:
    run = stopped_gan
    copy, backup = run / "snapshots" / "step-00000000-nice.png", run / "checkpoints" / "step-7.pt"
    shutil.copy(run / "snapshots" / "step-00000000.png", copy)
    backup.write_bytes(b"mine")
    killed = run / "snapshots" / ".tmp-abcdefgh.png"
    killed.write_bytes(b"")
    assert cgan_(*TRAIN, "--resume", "--out", run).exit_code == 0
    assert copy.exists() and backup.read_bytes() == b"mine" and not killed.exists()
    assert cgan_("progress", run).exit_code == 0
    names = [path.name for path in numbered(run / "snapshots", ".png")]
    assert names == [f"step-{step:08d}.png" for step in (0, 2, 4)]


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"\x80\x02garbage"),
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: path.write_bytes(b""),
        lambda path: torch.save([1], path),
        lambda path: torch.save({"step": "1"}, path),
        lambda path: (path.unlink(), os.mkfifo(path)),
    ],
    ids=["garbage", "short", "empty", "list", "text", "pipe"],
)
def test_a_broken_checkpoint_is_named(stopped: Path, damage: Callable[[Path], object]) -> None:
    run = stopped
    damage(run / "checkpoints" / "step-00000001.pt")
    refused(fader_(*TRAIN, "--resume", "--out", run), "step-00000001.pt")


def test_files_in_the_way_of_a_new_run_are_not_written_over(store: Path, tmp_path: Path) -> None:
    for name in ("grid.png", "metrics.jsonl", "model", "checkpoints/step-00000004.pt"):
        folder = tmp_path / name.replace("/", "-")
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("mine")
        refused(fader_(*NEW, "--data", store, "--out", folder), folder / name, "--out")
        assert (folder / name).read_text() == "mine"
    # A log of this very training is not in the way.
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "log.txt").write_text("")
    begin(store, tmp_path / "run")


# Metrics


def test_lines_of_metrics_that_are_none_are_passed_over(stopped: Path) -> None:
    run = stopped
    with open(run / "metrics.jsonl", "ab") as file:
        file.write(b'5\n"x"\n[1]\nnull\n{"step": "1"}\n{"no": 1}\n\xff\xfe\n' + b"[" * 100_000)
        file.write(b'\n{"step": 9, "reconstruction_loss"')
    assert [row["step"] for row in read_rows(run / "metrics.jsonl")] == [1]
    assert fader_(*TRAIN, "--resume", "--out", run).exit_code == 0
    rows = (run / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [1, 2, 3, 4]


def test_progress_of_odd_metrics(tmp_path: Path) -> None:
    images = drawn()
    trainer = GanTrainer(gan_config(images, "steps=3"), images, tmp_path / "run", progress=False)
    trainer.train()
    with open(trainer.run.metrics, "a") as file:
        file.write('7\n{"step": 4}\n{"step": 5, "discriminator_loss": "x", "generator_loss": 1}\n')
    assert tmp_path / "run" / "losses.png" in save_progress(trainer.run)
    trainer.run.metrics.unlink()
    os.mkfifo(trainer.run.metrics)
    refused(cgan_("progress", trainer.run.path), "metrics.jsonl", "regular")
    trainer.run.metrics.unlink()
    snapshots(trainer.run)[-1].write_bytes(b"no picture")
    refused(cgan_("progress", trainer.run.path), "step-00000003.png")


# What a run was started on


def test_a_run_finds_its_data_from_any_folder(
    store: Path, discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    other = prepare_other(elsewhere / "data", tmp_path)
    monkeypatch.chdir(tmp_path)
    begin(Path("store"), Path("run"))
    begin_gan(Path("discs"), Path("gan"))
    class_folders(elsewhere / "discs", n=20)
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("FADER_DATA", str(other))
    shutil.copytree(tmp_path / "run", tmp_path / "older")
    (tmp_path / "older" / "inputs.json").unlink()
    refused(fader_(*TRAIN, "--resume", "--out", "../older"), "older", "--data")
    for result, name in (
        (fader_(*TRAIN, "--resume", "--out", "../run"), "run"),
        (cgan_(*TRAIN, "--resume", "--out", "../gan"), "gan"),
    ):
        assert result.exit_code == 0, result.output
        inputs = json.loads((tmp_path / name / "inputs.json").read_text())
        assert inputs["data"] == str(tmp_path / ("store" if name == "run" else "discs"))


def prepare_other(dest: Path, tmp_path: Path) -> Path:
    source = write_celeba(tmp_path / "other-faces", 24, seed=7)
    prepare(source, dest, size=32, workers=1, progress=False)
    return dest


def test_other_data_is_refused_by_name(stopped: Path, store: Path, tmp_path: Path) -> None:
    run, other = stopped, prepare_other(tmp_path / "other", tmp_path)
    before = (run / "inputs.json").read_bytes()
    refused(fader_(*TRAIN, "--resume", "--out", run, "--data", other), store, other, "--data")
    # Made anew meanwhile, of other faces.
    shutil.move(store, tmp_path / "moved")
    refused(fader_(*TRAIN, "--resume", "--out", run), store, "--data")
    shutil.move(other, store)
    refused(fader_(*TRAIN, "--resume", "--out", run), store, run)
    assert (run / "inputs.json").read_bytes() == before
    # The same data in another place is the same.
    result = fader_(*TRAIN, "--resume", "--out", run, "--data", tmp_path / "moved")
    assert result.exit_code == 0, result.output
    assert json.loads((run / "inputs.json").read_text())["data"] == str(tmp_path / "moved")


def test_other_images_are_refused_by_name(stopped_gan: Path, discs: Path, tmp_path: Path) -> None:
    data, run = discs, stopped_gan
    other = class_folders(tmp_path / "other", n=16)
    refused(cgan_(*TRAIN, "--resume", "--out", run, "--data", other), data, other)
    shutil.copy(data / "dark" / "0.png", data / "dark" / "new.png")
    refused(cgan_(*TRAIN, "--resume", "--out", run), data, run)


def test_a_checksum_is_of_the_content(store: Path, tmp_path: Path) -> None:
    one = checksum(PreparedStore(store))
    shutil.copytree(store, tmp_path / "copy")
    assert checksum(PreparedStore(tmp_path / "copy")) == one
    with open(tmp_path / "copy" / "images.npy", "r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    assert checksum(PreparedStore(tmp_path / "copy")) != one


def test_other_models_than_it_began_with_are_refused_by_name(
    stopped: Path, store: Path, tmp_path: Path
) -> None:
    first, run = stopped, tmp_path / "second"
    again = [*TRAIN, "--resume", "--out", first]
    refused(fader_(*again, "--init", "default"), "without --init", "start another run")
    refused(fader_(*again, "--classifier", first), "with --classifier default", first)
    begun = [*NEW, "--data", store, "--out", run, "--minutes", 0]
    assert fader_(*begun, "--init", first).exit_code == 0
    again = [*TRAIN, "--resume", "--out", run]
    refused(fader_(*again, "--init", "default"), f"with --init {first}", "default")
    assert fader_(*again, "--init", first).exit_code == 0


def test_another_generator_than_it_began_with_is_refused_by_name(stopped_gan: Path) -> None:
    run = stopped_gan
    refused(cgan_(*TRAIN, "--resume", "--out", run, "--init", "faces"), "without --init", "faces")


def test_other_labels_and_sizes_are_refused_by_name(stopped_gan: Path) -> None:
    run = stopped_gan
    again = [*TRAIN, "--resume", "--out", run]
    refused(cgan_(*again, "--labels", "none"), "--labels folder")
    refused(cgan_(*again, "--only", "dark"), "--labels folder")
    refused(cgan_(*again, "--size", 48), "--size 32")
    refused(cgan_(*again, "--channels", 3), "--channels 1")
    refused(cgan_(*again, "-s", "width=16"), "does not fit these settings")
    assert cgan_(*again, "--labels", "folder", "--size", 32).exit_code == 0


@pytest.mark.parametrize("name", ["config.json", "inputs.json"])
@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, "5", '{"steps": "many", "data": 5}', '{"steps": NaN, "data": {}}', "\xff"],
    ids=["deep", "number", "kinds", "nan", "latin"],
)
def test_damaged_settings_of_a_run_get_one_sentence(stopped: Path, name: str, text: str) -> None:
    run = stopped
    (run / name).write_text(text, encoding="latin-1")
    refused(fader_(*TRAIN, "--resume", "--out", run), name)


def test_nothing_published_says_where_it_was_made(
    stopped: Path, stopped_gan: Path, store: Path, tmp_path: Path
) -> None:
    run, gan = tmp_path / "second", stopped_gan
    result = fader_(*NEW, "--data", store, "--out", run, "--init", stopped)
    assert result.exit_code == 0, result.output
    for folder in (run / "model", gan / "model"):
        assert any(folder.iterdir())
        for path in folder.iterdir():
            assert str(tmp_path.parent).encode() not in path.read_bytes(), path


# One process at a time


def test_a_run_that_is_being_trained_is_refused(
    stopped: Path, stopped_gan: Path, store: Path, tmp_path: Path
) -> None:
    run, gan = stopped, stopped_gan
    learnt = tmp_path / "classifier"
    commands: list[tuple[Path, Callable[[], Result]]] = [
        (run, lambda: fader_(*TRAIN, "--resume", "--out", run)),
        (gan, lambda: cgan_(*TRAIN, "--resume", "--out", gan)),
        (
            learnt,
            lambda: fader_(
                *["train-classifier", "--device", "cpu", "--data", store, "--out", learnt],
                *["--size", 32, "--width", 4, "--steps", 2, "--batch-size", 4],
            ),
        ),
    ]
    for folder, command in commands:
        first = RunFolder(folder)
        first.hold()
        before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        refused(command(), folder, "another process")
        assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
        first.release()
        result = command()
        assert result.exit_code == 0, result.output
        assert not (folder / ".lock").exists()


def test_two_new_runs_in_one_folder(store: Path, tmp_path: Path) -> None:
    first = RunFolder(tmp_path / "run")
    first.hold()
    refused(fader_(*NEW, "--data", store, "--out", tmp_path / "run"), "another process")
    first.release()


# Disks that take no more


def full(path: Path) -> None:
    """What is written to ``path`` from now on meets a full disk."""
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/full")


def no_room(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("kind", ["fader", "cgan"])
def test_a_full_disk_stops_with_a_sentence_and_a_checkpoint(
    kind: str, store: Path, tmp_path: Path
) -> None:
    images = drawn()
    trainer = (
        Trainer(small_config(), PreparedStore(store), tmp_path / "run", progress=False)
        if kind == "fader"
        else GanTrainer(gan_config(images), images, tmp_path / "run", progress=False)
    )
    full(trainer.run.metrics)
    with pytest.raises(FaderError, match=r"metrics.jsonl.*No space.*step-00000001.pt is kept"):
        trainer.train()
    assert [path.name for path in trainer.run.list_checkpoints()] == ["step-00000001.pt"]
    assert not (tmp_path / "run" / ".lock").exists()


@pytest.mark.parametrize("what", ["torch.save", "fader.train.trainer.save_grid"])
def test_a_disk_full_of_checkpoints_keeps_the_last(
    what: str, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config("checkpoint_minutes=0")
    trainer = Trainer(config, PreparedStore(store), tmp_path / "run", progress=False)
    step = trainer.step

    def until_full(x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
        if trainer.done == 5:
            monkeypatch.setattr(what, no_room)
        return step(x, y)

    trainer.step = until_full
    with pytest.raises(FaderError, match=r"No space.*is kept.*--resume"):
        trainer.train()
    kept = "step-00000005.pt" if what == "torch.save" else "step-00000006.pt"
    assert trainer.run.list_checkpoints()[-1].name == kept
    monkeypatch.undo()
    resumed = Trainer(config, PreparedStore(store), tmp_path / "run", resume=True, progress=False)
    resumed.train()
    assert [row["step"] for row in read_rows(resumed.run.metrics)] == list(range(1, 13))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_while_pictures_of_a_run_are_made(
    stopped_gan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = stopped_gan
    monkeypatch.setattr("PIL.Image.Image.save", no_room)
    for command in (
        ["progress", run],
        ["generate", "--model", run, "-n", 2, "--interpolate", 3, "-o", tmp_path / "a.gif"],
        ["generate", "--model", run, "-n", 2, "-o", tmp_path / "a.png"],
    ):
        result = cgan_(*command)
        place = "progress.gif" if command[0] == "progress" else command[-1]
        assert result.exit_code == 1 and not isinstance(result.exception, OSError), result.exception
        assert str(place) in result.output and len(result.output.splitlines()) == 1
        assert not list(tmp_path.glob("a.*")) and not list(tmp_path.rglob(".tmp-*"))


def test_a_model_that_finds_no_room_is_named(
    stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors import SafetensorError

    run = stopped

    def refuse(*_: object, **__: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("fader.models.model.save_file", refuse)
    result = fader_(*TRAIN, "--resume", "--out", run)
    refused(result, "model.safetensors", "No space", "step-00000004.pt is kept")
    monkeypatch.undo()
    assert FaderModel.load(run / "model").training_notes["steps"] == 1
    (run / "model" / "config.json").unlink()
    assert fader_(*TRAIN, "--resume", "--out", run).exit_code == 0
    assert FaderModel.load(run / "model").training_notes["steps"] == 4


def test_a_snapshot_that_found_no_room_is_made_up_for(
    stopped_gan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = stopped_gan
    monkeypatch.setattr("cgan.trainer.save_png", no_room)
    refused(cgan_(*TRAIN, "--resume", "--out", run), "No space", "step-00000002.pt is kept")
    monkeypatch.undo()
    assert cgan_(*TRAIN, "--resume", "--out", run).exit_code == 0
    names = [path.name for path in numbered(run / "snapshots", ".png")]
    assert names == [f"step-{step:08d}.png" for step in (0, 2, 4)]


# Log files


@pytest.mark.parametrize("kind", ["fader", "cgan", "classifier"])
def test_a_log_file_gets_a_line_every_half_minute(
    kind: str, store: Path, discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 2.0
        return now[0]

    monkeypatch.setattr("fader.progress.time.monotonic", clock)
    if kind == "fader":
        result = fader_(*NEW, "-s", "steps=40", "--data", store, "--out", tmp_path / "run")
    elif kind == "cgan":
        result = cgan_(*CLASSES, "-s", "steps=40", "--data", discs, "--out", tmp_path / "run")
    else:
        result = fader_(
            *["train-classifier", "--device", "cpu", "--data", store, "--out", tmp_path / "run"],
            *["--size", 32, "--width", 4, "--steps", 120, "--batch-size", 4],
        )
    assert result.exit_code == 0, result.output
    total = 120 if kind == "classifier" else 40
    lines = [line for line in result.stderr.splitlines() if f" of {total}, " in line]
    assert len(lines) >= 3, result.stderr
    assert all(line.startswith("step ") and "\r" not in line for line in lines)
    assert lines[-1].startswith(f"step {total} of {total}")
    assert len({line.split(",")[0] for line in lines}) == len(lines)  # none of them twice


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("wait", [1, 31])
def test_the_end_is_told_once(
    steps: int, wait: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever comes first: what there is to say of it, or half a minute."""
    now = iter(range(0, 1000, wait))
    monkeypatch.setattr("fader.progress.time.monotonic", lambda: next(now))
    for described in (True, False):
        with Progress(steps) as bar:
            for step in range(steps):
                bar.update()
                if described and step == steps - 1:
                    bar.describe("loss=1")
        lines = capsys.readouterr().err.splitlines()
        ends = [line for line in lines if line.startswith(f"step {steps} of {steps}, ")]
        assert ends == lines[-1:] and ends[0].endswith("loss=1") == described


def test_a_progress_that_is_not_shown_writes_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for shown in (False, True):
        with Progress(3, shown=shown) as bar:
            bar.update()
            bar.describe("loss=1")
        assert bool(capsys.readouterr().err) == shown

    # Before there is anything to say of it, too: a step may take long.
    now = iter(range(0, 1000, 31))
    with monkeypatch.context() as patch:
        patch.setattr("fader.progress.time.monotonic", lambda: next(now))
        bar = Progress(9)
        bar.update()
        assert capsys.readouterr().err.startswith("step 1 of 9")

    class Closed:
        def isatty(self) -> bool:
            return False

        def write(self, text: str) -> None:
            raise OSError(28, "No space left on device")

        def flush(self) -> None:
            pass

    monkeypatch.setattr("sys.stderr", Closed())
    with Progress(3) as bar:  # a log on a full disk stops no training
        bar.describe("loss=1")


# A run as a model


def test_a_run_stands_for_its_model(stopped: Path) -> None:
    run = stopped
    from fader.models.folders import model_info
    from fader.models.pretrained import load_model

    assert load_model(run).attributes == ("Male", "Smiling")
    assert model_info(run) == model_info(run / "model")
    assert FaderModel.from_pretrained(run).size == 32
    shutil.rmtree(run / "model")
    with pytest.raises(FaderError, match="this run has written no model yet"):
        load_model(run)
