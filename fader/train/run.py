"""A run folder: checkpoints, metrics, samples; what makes an interrupted run resumable."""

from __future__ import annotations

import json
import os
import pickle
import re
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from fader.documents import check_regular, read_json
from fader.errors import FaderError
from fader.files import atomic_path, file_lock, make_folder, sweep_temporaries, write_text

# What trainings write into a run's folder at last.
_FILES = ("reals.png", "rejected.csv", "progress.gif", "grid.png", "losses.png")

#: Checkpoints that are kept; the one before helps when a disk damaged the last.
KEPT_CHECKPOINTS = 2


class RunFolder:
    """``RUN/`` with ``config.json``, ``metrics.jsonl``, ``checkpoints/``, ``samples/``
    (or what it is named), ``tensorboard/`` and ``model/`` (what ``--model`` takes)."""

    def __init__(self, path: str | Path, samples: str = "samples") -> None:
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.inputs = self.path / "inputs.json"
        #: What it is started on, such as its data (see :mod:`fader.train.inputs`), with absolute
        #: paths; kept in ``inputs.json``, which is not part of ``model/``.
        self.started_on: dict[str, Any] | None = None
        self.metrics = self.path / "metrics.jsonl"
        self.validation = self.path / "validation.jsonl"
        self.checkpoints = self.path / "checkpoints"
        self.samples = self.path / samples
        self.reals = self.path / "reals.png"
        self.tensorboard = self.path / "tensorboard"
        self.model = self.path / "model"
        self._held = ExitStack()
        self._is_held = False

    # Whose it is

    def hold(self) -> None:
        """Keep other processes from training this run, until :meth:`release` or the end, and remove
        what killed ones were just writing. Raises :class:`FaderError` while another process trains
        it."""
        if self._is_held:
            return
        held = (
            f"{self.path}: another process is training this run; wait until it is done, or give "
            "another --out"
        )
        self._held.enter_context(file_lock(self.path / ".lock", held))
        self._is_held = True
        sweep_temporaries(self.path)
        for folder in (self.checkpoints, self.samples, self.model, self.path / "best"):
            if not folder.is_symlink():
                sweep_temporaries(folder)

    def release(self) -> None:
        """Let others train it."""
        self._held.close()
        self._is_held = False

    def start(self, config: dict[str, Any]) -> None:
        """Make a new run, and :meth:`hold` it; refuses a folder that has one."""
        self.hold()
        try:
            if self.config.exists():
                raise FaderError(
                    f"{self.path}: already holds a run; add --resume to go on with it, or give "
                    "another --out"
                )
            for name in self._written():
                raise FaderError(
                    f"{name}: is there already, and a run would write over it; give another --out"
                )
            for folder in (self.checkpoints, self.samples):
                make_folder(folder)
            self.write_config(config)  # last: with it there is a run
        except FaderError:
            self.release()
            raise
        except OSError as error:
            self.release()
            raise FaderError(f"{self.path}: cannot be written ({error.strerror})") from None

    def _written(self) -> Iterator[Path]:
        """What lies where a run writes. One killed before its first step has left none of it."""
        for name in (*_FILES, self.metrics.name, self.validation.name, self.model.name, "best"):
            if os.path.lexists(self.path / name):
                yield self.path / name
        for folder in (self.checkpoints, self.samples):
            yield from folder.iterdir() if folder.is_dir() else ()

    def write_config(self, config: dict[str, Any]) -> None:
        """Write the settings, and before them what the run is started on."""
        if self.started_on is not None:
            write_text(self.inputs, json.dumps(self.started_on, indent=2) + "\n")
        write_text(self.config, json.dumps(config, indent=2) + "\n")

    def read_config(self) -> dict[str, Any]:
        """The settings the run was started with."""
        try:
            return read_json(self.config)
        except FileNotFoundError:
            raise FaderError(f"{self.path}: holds no run to resume") from None

    # Checkpoints

    def checkpoint_path(self, step: int) -> Path:
        """Where the checkpoint of ``step`` belongs."""
        return self.checkpoints / f"step-{step:08d}.pt"

    def list_checkpoints(self) -> list[Path]:
        """Oldest first; copies under other names are not among them."""
        return numbered(self.checkpoints, ".pt")

    def save_checkpoint(self, step: int, state: dict[str, Any], keep: int) -> Path:
        """Write a checkpoint atomically, then drop all but the ``keep`` newest."""
        path = self.checkpoint_path(step)
        write_checkpoint(path, state)
        for old in self.list_checkpoints()[:-keep]:
            old.unlink(missing_ok=True)
        return path

    def load_checkpoint(self, map_location: torch.device) -> dict[str, Any] | None:
        """The newest checkpoint's state, or None before the first one. Its ``step`` is checked."""
        paths = self.list_checkpoints()
        if not paths:
            return None
        path = paths[-1]
        try:
            state = read_checkpoint(path, map_location)
            if state["step"] != _step(path):
                raise ValueError(f"it is of step {state['step']}")
            return state
        except FaderError:
            raise
        except Exception as error:  # damaged pickles are answered with any exception there is
            # torch's words on unpickling advise to trust the file.
            words = "" if isinstance(error, pickle.UnpicklingError) else str(error)
            reason = words.splitlines()[0][:200] if words else "it is not a checkpoint's content"
            raise FaderError(
                f"{path}: broken ({reason}); delete it to resume from the one before"
            ) from None

    # Metrics

    def log(self, path: Path, row: dict[str, Any]) -> None:
        """Append a row to ``metrics`` or ``validation``, one JSON object a line. Raises
        :class:`OSError` with the file's name where that fails."""
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            error.filename = str(path)
            raise

    def forget_after(self, step: int) -> None:
        """Drop what a killed process logged beyond its last checkpoint, and a half line."""
        for path in (self.metrics, self.validation):
            rows = [row for row in read_rows(path) if row["step"] <= step]
            write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write the state of a training, whole or not at all. Raises :class:`FaderError`."""
    try:
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            watched = _Watched(file)
            torch.save(state, cast(BinaryIO, watched))
            if watched.error:
                raise watched.error
    except OSError as error:
        raise FaderError(f"{path}: could not be written ({error.strerror})") from None


def read_checkpoint(path: Path, map_location: torch.device) -> dict[str, Any]:
    """The state in a file of :func:`write_checkpoint`, of which nothing is executed. Raises
    :class:`FaderError` for what is no file, and anything for a damaged one."""
    check_regular(path)
    with warnings.catch_warnings():  # of odd bytes, which are an error at once
        warnings.simplefilter("ignore")
        # Processes that share a CPU number it, which torch takes for no device it knows.
        where = "cpu" if map_location.type == "cpu" else map_location
        return torch.load(path, map_location=where, weights_only=True)


class _Watched:
    """A file whose first failure is kept: torch answers one with words about its own source."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        if self.error is None:
            try:
                self.file.write(data)
            except OSError as error:
                self.error = error
        return memoryview(data).nbytes

    def flush(self) -> None:
        """The file is flushed when it is closed."""


@contextmanager
def fitting_checkpoint(run: RunFolder) -> Iterator[None]:
    """Taking up a checkpoint; raises :class:`FaderError` when it is of other networks."""
    try:
        yield
    except (LookupError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        first = str(error).splitlines()[-1].strip() if str(error) else type(error).__name__
        raise FaderError(
            f"{run.path}: its checkpoint does not fit these settings, since a resumed run keeps "
            f"its networks ({first[:100]})"
        ) from None


def numbered(folder: Path, suffix: str) -> list[Path]:
    """The files of ``folder`` that are named by a step exactly as a run names them, such as
    ``step-00000050.pt``, by their numbers; ``step-00000050-best.pt`` is somebody else's."""
    name = re.compile(rf"step-(\d{{8}}|[1-9]\d{{8,17}}){re.escape(suffix)}")
    paths = [p for p in folder.glob(f"step-*{suffix}") if name.fullmatch(p.name) and not p.is_dir()]
    return sorted(paths, key=_step)


def _step(path: Path) -> int:
    return int(path.stem.removeprefix("step-"))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All rows of a JSON-lines file that are objects with a whole number as ``step``; what else is
    there, such as a line cut short, is left out. Raises :class:`FaderError` for what is no file."""
    try:
        check_regular(path)
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise FaderError(f"{path}: cannot be read ({error.strerror})") from None
    rows = []
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and type(row.get("step")) is int:
            rows.append(row)
    return rows
