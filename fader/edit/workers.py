"""Work shared by processes, of which any may die without taking the rest along."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from fader.edit.editor import Editor

Task = TypeVar("Task")
Answer = TypeVar("Answer")


def sensible_workers(editor: Editor, tasks: int) -> int:
    """How many processes are worth their start for so many photos.

    On a CPU one per processor: finding a face is many small steps, which two processes do at
    twice the speed and two threads hardly faster than one. A GPU is shared badly.
    """
    if editor.device.type != "cpu" or editor.source is None:
        return 1
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    return max(1, min(processors or os.cpu_count() or 1, tasks // 8, 8))


def run_all(
    worker: Callable[[Editor], Callable[[Task], Answer]],
    editor: Editor,
    tasks: Sequence[Task],
    workers: int,
    lost: Callable[[Task], Answer],
) -> Iterator[tuple[Task, Answer]]:
    """``worker(editor)(task)`` for each task, as they get finished.

    With more than one of ``workers`` each process has its own editor, of the same model, and
    computes with one thread. A task whose process dies is tried again alone; if that dies too, the
    answer is ``lost(task)``. What is raised in a process is raised here. When the caller stops
    (or the keyboard interrupts), tasks under way are finished and yielded no more.
    """
    if workers == 1 or editor.source is None:
        work = worker(editor)
        for task in tasks:
            yield task, work(task)
        return
    start = _start, (worker, editor.source, str(editor.device))
    waiting, suspects = list(reversed(tasks)), []
    while waiting or suspects:
        # After a death any task under way may be the cause: each of them is then tried alone.
        alone = bool(suspects)
        queue = suspects if alone else waiting
        pool = _pool(1 if alone else workers, start)
        running: dict[Future[Answer], Task] = {}
        try:
            while queue or running:
                # A few in advance, so that no process waits for this one.
                while queue and len(running) < (1 if alone else 2 * workers):
                    running[pool.submit(_work, queue[-1])] = queue[-1]
                    queue.pop()
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    answer = future.result()
                    yield running.pop(future), answer
        except BrokenProcessPool:
            if alone:
                task = next(iter(running.values()), None) or queue.pop()
                yield task, lost(task)
            else:
                suspects += running.values()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _pool(workers: int, start: tuple[Callable[..., None], tuple]) -> ProcessPoolExecutor:
    # Forking a process that has run PyTorch's threads may hang the child.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, initializer=start[0], initargs=start[1])


def _start(worker: Callable[[Editor], Callable[[Task], Answer]], source: str, device: str) -> None:
    """Make this process ready: an editor of its own, and an end together with its parent."""
    import torch

    # The keyboard's interrupt goes to all processes; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    global _work_here
    _work_here = worker(Editor(source, device))


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _work(task: Task) -> Answer:
    return _work_here(task)
