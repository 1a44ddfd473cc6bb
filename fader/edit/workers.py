"""Work shared by processes, of which any may die without taking the rest along."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

from fader.edit.editor import Editor

Task = TypeVar("Task")
Answer = TypeVar("Answer")

#: What a process does to a task.
Work = Callable[[Any], Any]

# Tasks a process has at hand, so that it never waits for one; near the end fewer.
_AHEAD = 4

# Seconds of waiting for an answer after which it is asked whether to wait on.
_PATIENCE = 0.1


def sensible_workers(editor: Editor, tasks: int) -> int:
    """How many processes are worth their start for so many photos.

    On a CPU one per processor. A GPU is shared badly.
    """
    if editor.device.type != "cpu" or (editor.source is None and not _forks(editor)):
        return 1
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    processors = min(processors or os.cpu_count() or 1, 8)
    # Forks are at work at once; other processes load PyTorch and the model first.
    fewest = 2 if _forks(editor) else 16
    return max(1, min(processors, tasks // fewest))


def _forks(editor: Editor) -> bool:
    # With one thread to compute, as here and in PyTorch's own data loaders, a fork is safe on
    # Linux; it shares the model with this process and is ready within milliseconds. What is on a
    # GPU cannot be forked.
    return sys.platform == "linux" and editor.device.type == "cpu"


@dataclass(eq=False)
class _Process(Generic[Task]):
    process: multiprocessing.process.BaseProcess
    connection: Connection
    alone: bool
    """Whether it gets one task at a time, of those that were there when another process died."""
    tasks: list[Task] = field(default_factory=list)
    told_to_end: bool = False


class Crew(Generic[Task, Answer]):
    """``make(editor)`` at work on tasks; iterating yields each task with its answer.

    With more than one of ``workers`` each is a process and computes with one thread. A task whose
    process dies is tried again alone; if that dies too, the answer is ``lost(task)``. What is
    raised in a process is raised here. Once ``interrupted`` answers True, no more is begun nor
    waited for; what is under way is then to be had from :meth:`finish`. To be closed in any case.
    """

    #: Asked again and again, for waiting is not to be in the way of the keyboard.
    interrupted: Callable[[], bool] = staticmethod(lambda: False)

    def __init__(
        self,
        make: Callable[[Editor], Work],
        editor: Editor,
        tasks: Sequence[Task],
        workers: int,
        lost: Callable[[Task], Answer],
    ) -> None:
        self._make, self._editor, self._lost = make, editor, lost
        self._waiting, self._suspects = list(reversed(tasks)), list[Task]()
        self._forks = _forks(editor)
        self._workers = 1 if editor.source is None and not self._forks else workers
        self._processes: list[_Process[Task]] = []
        self._threads = 0
        self._context: Any = multiprocessing.get_context("fork" if self._forks else "spawn")
        self._stop = self._context.Event()
        self._alone = self._make(self._editor) if self._workers == 1 else None

    def __iter__(self) -> Iterator[tuple[Task, Answer]]:
        if self._alone is not None:
            while (task := self._next()) is not None:
                yield task, self._alone(task)
            return
        if self._forks:
            import cv2

            # Loaded once, before the forks.
            _ = self._editor.model, self._editor.detector
            # Ends OpenCV's threads, which a fork would be without and wait for.
            self._threads = cv2.getNumThreads()
            cv2.setNumThreads(1)
        while self._waiting or self._suspects or any(one.tasks for one in self._processes):
            if self.interrupted():
                return
            left = len(self._waiting) + len(self._suspects)
            while len(self._processes) < min(self._workers, left):
                self._processes.append(self._started())
            for one in self._processes:
                self._feed(one)
            yield from self._answers()

    def finish(self) -> Iterator[tuple[Task, Answer]]:
        """No more tasks are begun; the answers to those under way."""
        self._stop.set()
        self._waiting.clear()
        self._suspects.clear()
        for one in self._processes:
            self._end(one)
        while self._processes and not self.interrupted():
            yield from self._answers()

    def close(self) -> None:
        """End all processes, whatever they are doing."""
        if self._threads:
            import cv2

            cv2.setNumThreads(self._threads)
        for one in self._processes:
            one.process.kill()
        for one in self._processes:
            one.process.join()
            one.connection.close()
        self._processes.clear()

    def _next(self) -> Task | None:
        return self._waiting.pop() if self._waiting and not self.interrupted() else None

    def _started(self) -> _Process[Task]:
        here, there = self._context.Pipe()
        source = self._editor if self._forks else self._editor.source
        arguments = (self._make, source, str(self._editor.device), there, self._stop, os.getpid())
        process = self._context.Process(target=_serve, args=arguments, daemon=True)
        with warnings.catch_warnings():
            # Python warns of all forks of a process that has threads.
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
        there.close()
        return _Process(process, here, alone=bool(self._suspects))

    def _feed(self, one: _Process[Task]) -> None:
        if one.alone and not (one.tasks or self._suspects):
            one.alone = False
        queue = self._suspects if one.alone else self._waiting
        fair = 1 if one.alone else -(-len(queue) // (2 * self._workers))
        # If it is dead, the end of what it sends will show that.
        with suppress(OSError):
            while queue and len(one.tasks) < min(_AHEAD, fair):
                one.tasks.append(queue.pop())
                one.connection.send(one.tasks[-1])
        if not one.tasks and not queue:
            self._end(one)

    def _end(self, one: _Process[Task]) -> None:
        if not one.told_to_end:
            one.told_to_end = True
            with suppress(OSError):
                one.connection.send(None)

    def _answers(self) -> Iterator[tuple[Task, Answer]]:
        ready = wait([one.connection for one in self._processes], _PATIENCE)
        for one in [one for one in self._processes if one.connection in ready]:
            try:
                task, answer, error = one.connection.recv()
            except (EOFError, OSError, pickle.UnpicklingError):
                self._processes.remove(one)
                one.process.join()
                one.connection.close()
                if one.alone and one.tasks:
                    yield one.tasks[0], self._lost(one.tasks[0])
                elif not self._stop.is_set():
                    # Any task at hand may have been the cause: each of them is tried alone.
                    self._suspects += one.tasks
                continue
            if error:
                raise error
            one.tasks.remove(task)
            yield task, answer


def _serve(
    make: Callable[[Editor], Work],
    source: Editor | str,
    device: str,
    connection: Connection,
    stop: Any,
    parent: int,
) -> None:
    """The life of a process: tasks come and answers go through ``connection``."""
    import cv2
    import torch

    # The keyboard's interrupt goes to all processes; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _keep_memory()
    torch.set_num_threads(1)
    if not isinstance(source, Editor):
        cv2.setNumThreads(1)
    try:
        work = make(source if isinstance(source, Editor) else Editor(source, device))
        while (task := connection.recv()) is not None and not stop.is_set():
            connection.send((task, work(task), None))
    except Exception as error:
        connection.send((None, None, error))


def _keep_memory() -> None:
    """Keep the memory of one photo for the next, where the C library is glibc.

    It would give large buffers back to the system each time and get them anew, all zero, page by
    page: half of the time that reading and writing a photo of 12 megapixels takes.
    """
    trim_threshold, mmap_max = -1, -4  # the names' values in malloc.h
    with suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 2**30)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.1)
    os._exit(1)
