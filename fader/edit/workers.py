"""How an editor's work is shared by processes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from fader.edit.editor import Editor
from fader.processes import Work, WorkerPool, processors

Task = TypeVar("Task")
Answer = TypeVar("Answer")


def sensible_workers(editor: Editor, tasks: int) -> int:
    """How many processes are worth their start for so many photos. On a CPU one per processor,
    eight at most. A GPU is shared badly."""
    if editor.device != "cpu" or not (_forks(editor) or editor.source):
        return 1
    # Forks are at work at once; other processes load the model first.
    fewest = 2 if _forks(editor) else 16
    return max(1, min(processors(), 8, tasks // fewest))


def editing_pool(
    make: Callable[[Editor], Work],
    editor: Editor,
    tasks: Sequence[Task],
    workers: int,
    lost: Callable[[Task], Answer],
) -> WorkerPool[Task, Answer]:
    """A pool in which each of ``workers`` processes does ``make(editor)``'s work; see
    :class:`~fader.processes.WorkerPool`."""
    forked = workers > 1 and _forks(editor)
    if forked:
        _ = editor.networks, editor.detector  # loaded once, before the forks
    elif workers > 1 and editor.source is not None:
        # One that is not loaded, and so can be sent to the processes.
        editor = Editor(editor.source, editor.device, editor.runtime)
    else:
        workers = 1
    return WorkerPool(partial(make, editor), tasks, workers, lost, forked=forked)


def _forks(editor: Editor) -> bool:
    # With one thread to compute, as here and in PyTorch's own data loaders, a fork is safe on
    # Linux; it shares the model with this process and is ready within milliseconds. What is on a
    # GPU cannot be forked.
    return sys.platform == "linux" and editor.device == "cpu"
