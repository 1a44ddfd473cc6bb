"""Work for processes, of which some is deadly."""

from __future__ import annotations

import os

from fader.errors import FaderError


def worker(editor):
    return work


def make():
    return work


def work(task):
    if task.startswith("deadly"):
        os._exit(9)
    if task.startswith("bad"):
        raise FaderError(f"the worker refuses {task}")
    return f"{task} done"
