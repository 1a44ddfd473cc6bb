"""Trainings in processes of their own that begin with PyTorch loaded.

Loading it takes such a process longer than a small training: one does it, and is forked for each.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver" if hasattr(os, "fork") else "spawn")
if hasattr(os, "fork"):
    # All that is imported until the first step is done.
    _CONTEXT.set_forkserver_preload(
        [
            *("fader.commands.train", "fader.train.trainer", "cgan.commands.train", "cgan.gan"),
            *("torch._dynamo", "torch.distributed.tensor", "torch.utils.tensorboard"),
        ]
    )


def start(log: Path, package: str, *arguments: object) -> BaseProcess:
    """``fader`` or ``cgan`` with arguments; what it prints goes to ``log``."""
    given = (log, package, [str(argument) for argument in arguments])
    process = _CONTEXT.Process(target=_work, args=given, daemon=True)
    process.start()
    return process


def _work(log: Path, package: str, arguments: list[str]) -> None:
    with open(log, "wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = [package, *arguments]
    importlib.import_module(f"{package}.commands").main()
