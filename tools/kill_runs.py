"""Kills runs at random moments, starts them again, and looks whether anything is lost or doubled.

    python tools/kill_runs.py --kills 60
    python tools/kill_runs.py --jobs batch,prepare --kills 20 --seed 7

Four jobs, on drawn faces and with tiny networks: a folder's edits, a preparation, a training of
each package. Each is done once undisturbed, and once killed (SIGKILL) again and again before it
gets to its end. The two must leave the same: every output byte for byte, every row once, nothing
beside them. Ends with 1 where they do not. Needs fork, so that what is killed is the work, and not
the import of PyTorch.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import click
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent

# Of a run's rows, what depends neither on the machine's mood nor on where a resumed run began: its
# first row has the means of the steps since then.
_COMPARED = ("step", "stage", "lambda")


@dataclass(frozen=True)
class Job:
    """A command, given where it writes; and what of that it must leave, by name."""

    name: str
    arguments: Callable[[Path], list[str]]
    left: Callable[[Path], dict[str, Any]]
    main: str = "fader.commands"


def files(folder: Path, *ignored: str) -> dict[str, Any]:
    """Every file below a folder with its content."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part in ignored for part in path.relative_to(folder).parts)
    }


def of_batch(out: Path) -> dict[str, Any]:
    """The outputs, and the report without what tells an output from one made before."""
    left = files(out)
    lines = left.pop("report.csv").decode().splitlines()
    left["rows"] = [line.split(",")[0] for line in lines]
    return left


def of_run(out: Path) -> dict[str, Any]:
    """The model byte for byte, the rows by their steps, and the names of all other files."""
    # Which checkpoints there are goes by the clock.
    left: dict[str, Any] = dict.fromkeys(
        re.sub(r"step-\d{8}\.pt", "step-N.pt", name) for name in files(out, "tensorboard")
    )
    left |= {f"model/{name}": data for name, data in files(out / "model").items()}
    for name in ("metrics.jsonl", "validation.jsonl"):
        if (out / name).exists():
            rows = map(json.loads, (out / name).read_text("utf-8").splitlines())
            left[name] = [[row.get(key) for key in _COMPARED] for row in rows]
    return left


def jobs(work: Path, steps: int) -> Iterator[Job]:
    """All four, in the order they need each other."""
    data, photos, model = work / "data", work / "photos", work / "model"

    def training(options: list[str], out: Path) -> list[str]:
        begun = (out / "config.json").exists()
        return ["train", "--out", str(out), *(["--resume"] if begun else options)]

    common = ["--data", str(data), "--preset", "tiny", "-s", f"steps={steps}"]
    yield Job(
        "batch",
        lambda out: [
            *("edit", str(photos), "-o", str(out), "--set", "Smiling=+3"),
            *("--model", str(model), "--device", "cpu", "--workers", "1"),
        ],
        of_batch,
    )
    yield Job(
        "prepare",
        lambda out: ["prepare", str(data), str(out), "--size", "64", "--workers", "1"],
        files,
    )
    fader = ["pretrain_steps=10", "ramp_steps=10", "decay_steps=10", "checkpoint_minutes=0.01"]
    fader += ["batch_size=8", "sample_every=20", "validate_every=20", "log_every=5"]
    settings = [part for value in fader for part in ("-s", value)]
    yield Job("train", partial(training, ["--attrs", "Male", *common, *settings]), of_run)
    cgan = ["--labels", "none", "--size", "32", "--snapshot-every", "5", "-s", "batch_size=8"]
    yield Job("cgan train", partial(training, [*common, *cgan]), of_run, "cgan.commands")


def prepare_material(work: Path, photos: int) -> None:
    """Drawn faces to learn from, photos to edit, and an untrained model to edit them with."""
    import torch

    from fader.data.synthetic import write_dataset
    from fader.models.autoencoder import AutoencoderConfig
    from fader.models.classifier import ClassifierConfig
    from fader.models.model import FaderModel

    write_dataset(work / "data", 200, 0, counterfactuals=False, progress=False)
    (work / "photos").mkdir()
    astronaut = Image.open(ROOT / "examples" / "astronaut.jpg")
    for i in range(photos):
        head = astronaut.crop((150 + i // 2, 20 + i % 5, 290 + i // 2, 160 + i % 5))
        head.save(work / "photos" / f"{i:03}.{('jpg', 'png')[i % 2]}")
    torch.manual_seed(0)
    FaderModel(
        AutoencoderConfig(size=32, layers=3, attributes=("Male", "Smiling"), width=8, max_width=32),
        ClassifierConfig(size=32, width=4),
    ).save(work / "model")


def started(job: Job, out: Path, log: Path) -> int:
    """Begin or go on with a job in a process of its own; its id."""
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    try:
        import_module(job.main).main(job.arguments(out))
    except SystemExit as end:
        os._exit(end.code if isinstance(end.code, int) else bool(end.code))
    os._exit(99)


def done(job: Job, out: Path, log: Path) -> float:
    """Do a job to its end; how many seconds that took."""
    begin = time.monotonic()
    pid = started(job, out, log)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status:
        raise click.ClickException(f"{job.name}: ended with {status}: {log.read_text()[-2000:]}")
    return time.monotonic() - begin


def killed(job: Job, folder: Path, kills: int, chance: random.Random) -> list[str]:
    """Kill a job ``kills`` times, and say what was lost, doubled or left."""
    whole, out, log = folder / "whole", folder / "killed", folder / "log.txt"
    seconds = done(job, whole, log)
    expected = job.left(whole)
    problems: list[str] = []
    landed, finished, began = 0, 0, time.monotonic()

    def compare() -> None:
        found = job.left(out)
        for name in sorted(expected.keys() | found.keys()):
            if name not in found or name not in expected:
                problems.append(f"{job.name}: {name} {'lost' if name in expected else 'left'}")
            elif expected[name] != found[name]:
                problems.append(f"{job.name}: {name} differs")

    while landed < kills:
        pid = started(job, out, log)
        # Early enough to come to work again, late enough to get on.
        end = time.monotonic() + chance.uniform(0, 0.6 * seconds)
        while time.monotonic() < end and not (ended := os.waitpid(pid, os.WNOHANG))[0]:
            time.sleep(0.005)
        if not ended[0]:
            os.killpg(pid, signal.SIGKILL)
            ended = os.waitpid(pid, 0)
        status = os.waitstatus_to_exitcode(ended[1])
        if status == -signal.SIGKILL:
            landed += 1
            continue
        if status:
            problems.append(f"{job.name}: ended with {status}: {log.read_text()[-500:]}")
            break
        compare()
        shutil.rmtree(out)
        finished += 1
    done(job, out, log)
    compare()
    click.echo(
        f"{job.name}: {landed} kills in {time.monotonic() - began:.0f} s, {finished + 1} runs to "
        f"their end of {seconds:.1f} s undisturbed: {len(problems)} problems"
    )
    return problems


@click.command(epilog="Example: python tools/kill_runs.py --kills 60")
@click.option("--kills", default=60, show_default=True, type=click.IntRange(1), help="In all.")
@click.option("--jobs", "names", default="batch,prepare,train,cgan train", show_default=True)
@click.option("--seed", type=int, help="Of the moments; default: any.")
@click.option("--photos", default=40, show_default=True, type=click.IntRange(2))
@click.option("--steps", default=40, show_default=True, type=click.IntRange(40))
def main(kills: int, names: str, seed: int | None, photos: int, steps: int) -> None:
    """Kill runs at random moments, and look whether anything is lost or doubled."""
    import cv2
    import torch

    # Loaded before the forks, which need to be without threads.
    import fader.commands.edit
    import fader.commands.prepare
    import fader.commands.train
    import fader.data.prepare
    import fader.edit.folder
    import fader.faces.detect
    import fader.train.trainer  # noqa: F401

    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    seed = random.randrange(10**6) if seed is None else seed
    chance = random.Random(seed)
    click.echo(f"--seed {seed}")
    wanted = [name.strip() for name in names.split(",")]
    problems = []
    with tempfile.TemporaryDirectory(prefix="kill-runs-") as temporary:
        work = Path(temporary)
        prepare_material(work, photos)
        every = [job for job in jobs(work, steps) if job.name in wanted]
        for i, job in enumerate(every):
            folder = work / job.name.replace(" ", "-")
            folder.mkdir()
            share = kills // len(every) + (i < kills % len(every))
            problems += killed(job, folder, share, chance)
    for problem in problems:
        click.echo(problem)
    if problems or not every:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
