"""A run folder: checkpoints, metrics, samples; what makes an interrupted run resumable."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path
from typing import Any

import torch

from fader.errors import FaderError
from fader.files import atomic_path, write_text


class RunFolder:
    """``RUN/`` with ``config.json``, ``metrics.jsonl``, ``checkpoints/``, ``samples/``
    (or what it is named), ``tensorboard/`` and ``model/`` (what ``--model`` takes)."""

    def __init__(self, path: str | Path, samples: str = "samples") -> None:
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.metrics = self.path / "metrics.jsonl"
        self.validation = self.path / "validation.jsonl"
        self.checkpoints = self.path / "checkpoints"
        self.samples = self.path / samples
        self.tensorboard = self.path / "tensorboard"
        self.model = self.path / "model"

    def start(self, config: dict[str, Any]) -> None:
        """Make a new run; refuses a folder that has one."""
        if self.config.exists():
            raise FaderError(
                f"{self.path}: already holds a run; add --resume to go on with it, or give "
                "another --out"
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for folder in (self.checkpoints, self.samples):
                folder.mkdir(exist_ok=True)
            self.write_config(config)
        except OSError as error:
            raise FaderError(f"{self.path}: cannot be written ({error.strerror})") from None

    def write_config(self, config: dict[str, Any]) -> None:
        write_text(self.config, json.dumps(config, indent=2) + "\n")

    def read_config(self) -> dict[str, Any]:
        """The settings the run was started with."""
        try:
            return json.loads(self.config.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise FaderError(f"{self.path}: holds no run to resume") from None
        except ValueError as error:
            raise FaderError(f"{self.config}: not readable as JSON ({error})") from None

    # Checkpoints

    def checkpoint_path(self, step: int) -> Path:
        return self.checkpoints / f"step-{step:08d}.pt"

    def list_checkpoints(self) -> list[Path]:
        """Oldest first."""
        return sorted(self.checkpoints.glob("step-*.pt"))

    def save_checkpoint(self, step: int, state: dict[str, Any], keep: int) -> Path:
        """Write a checkpoint atomically, then drop all but the ``keep`` newest."""
        path = self.checkpoint_path(step)
        try:
            with atomic_path(path) as temporary:
                torch.save(state, temporary)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
            raise FaderError(
                f"{path}: the checkpoint could not be written ({error}); earlier ones are intact, "
                "free some space and --resume"
            ) from None
        for old in self.list_checkpoints()[:-keep]:
            old.unlink(missing_ok=True)
        return path

    def load_checkpoint(self, map_location: torch.device) -> dict[str, Any] | None:
        """The newest checkpoint's state, or None before the first one."""
        paths = self.list_checkpoints()
        if not paths:
            return None
        try:
            return torch.load(paths[-1], map_location=map_location, weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise FaderError(
                f"{paths[-1]}: broken ({str(error).splitlines()[0]}); delete it to resume from "
                "the one before"
            ) from None

    # Metrics

    def log(self, path: Path, row: dict[str, Any]) -> None:
        """Append a row to ``metrics`` or ``validation``, one JSON object a line."""
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def forget_after(self, step: int) -> None:
        """Drop what a killed process logged beyond its last checkpoint, and a half line."""
        for path in (self.metrics, self.validation):
            rows = [row for row in read_rows(path) if row["step"] <= step]
            write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All whole rows of a JSON-lines file; a last line cut short by a kill is left out."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def check_finite(losses: dict[str, float], step: int, run: RunFolder) -> None:
    """Raise a :class:`FaderError` that names the loss that is no number any more."""
    bad = [name for name, value in losses.items() if not math.isfinite(value)]
    if bad:
        paths = run.list_checkpoints()
        go_on = (
            f"the last good checkpoint is {paths[-1]}; go on from it with --resume and a lower "
            "learning_rate"
            if paths
            else "start again with a lower learning rate"
        )
        raise FaderError(
            f"training diverged at step {step} ({bad[0]} is {losses[bad[0]]}); {go_on}"
        )
