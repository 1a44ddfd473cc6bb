"""Work shared by processes, of which any may die without taking the rest along."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

Task = TypeVar("Task")
Answer = TypeVar("Answer")

#: What a process does to a task.
Work = Callable[[Any], Any]

# Tasks a process has at hand, so that it never waits for one; near the end fewer.
_AHEAD = 4

# Seconds of waiting for an answer after which it is asked whether to wait on.
_PATIENCE = 0.1


def processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


@dataclass(eq=False)
class _Process(Generic[Task]):
    process: multiprocessing.process.BaseProcess
    connection: Connection
    alone: bool  # gets one task at a time, of those that were there when another process died
    tasks: list[Task] = field(default_factory=list)
    told_to_end: bool = False


class WorkerPool(Generic[Task, Answer]):
    """``make()`` at work on tasks; iterating yields each task with its answer. To be closed.

    With one of ``workers`` the work is done here. With more, each is a process that calls ``make``
    once and computes with one thread: a ``forked`` one shares all that is loaded here (safe where
    this process has no threads at work), another starts anew, and gets ``make`` and the tasks
    pickled. A task whose process dies is tried again alone; if that dies too, the answer is
    ``lost(task)``. What is raised in a process is raised here. Once ``interrupted`` answers True,
    no more is begun nor waited for; :meth:`finish` gives what is under way.
    """

    #: Asked again and again, for waiting is not to be in the way of the keyboard.
    interrupted: Callable[[], bool] = staticmethod(lambda: False)

    def __init__(
        self,
        make: Callable[[], Work],
        tasks: Sequence[Task],
        workers: int,
        lost: Callable[[Task], Answer],
        *,
        forked: bool = False,
    ) -> None:
        self._make, self._lost, self._workers, self._forked = make, lost, workers, forked
        self._waiting, self._suspects = list(reversed(tasks)), list[Task]()
        self._processes: list[_Process[Task]] = []
        self._threads = 0
        self._context: Any = multiprocessing.get_context("fork" if forked else "spawn")
        self._stop = self._context.Event()

    def __iter__(self) -> Iterator[tuple[Task, Answer]]:
        if self._workers == 1:
            work = self._make()
            while (task := self._next()) is not None:
                yield task, work(task)
            return
        if self._forked:
            import cv2

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
        given = (self._make, there, self._stop, self._forked)
        process = self._context.Process(target=_serve, args=given, daemon=True)
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
                # Told to stop, one ends in peace, whatever it was to do next.
                if one.alone and one.tasks and one.process.exitcode:
                    yield one.tasks[0], self._lost(one.tasks[0])
                elif not self._stop.is_set():
                    # Any task at hand may have been the cause: each of them is tried alone.
                    self._suspects += one.tasks
                continue
            if error:
                raise error
            one.tasks.remove(task)
            yield task, answer


def _serve(make: Callable[[], Work], connection: Connection, stop: Any, forked: bool) -> None:
    """The life of a process: tasks come and answers go through ``connection``."""
    # The keyboard's interrupt goes to all processes; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    keep_memory()
    # What Pillow warns of is answered by results, in one sentence each.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        # One process per processor: threads inside them would only get in each other's way. A fork
        # may not touch those of OpenCV, which were ended before.
        compute_with(1, opencv=not forked)
        work = make()
        while (task := connection.recv()) is not None and not stop.is_set():
            connection.send((task, work(task), None))
    except Exception as error:
        with suppress(OSError):  # nobody listens any more: the parent was killed
            connection.send((None, None, error))


def compute_with(threads: int, opencv: bool = True) -> None:
    """Let this process compute with so many threads, whatever libraries it loads later."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(threads)
    if opencv:
        import cv2

        cv2.setNumThreads(threads)


def keep_memory() -> None:
    """Keep the memory of one photo, or training step, for the next, where the C library is glibc.

    To get it anew, all zero, is half of the time that reading and writing a photo of 12 megapixels
    takes, and a fourteenth of a training step's.
    """
    trim_threshold, mmap_max = -1, -4  # the names' values in malloc.h
    with suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 2**30)


def _end_with_parent() -> None:
    # What goes on without one would write where a run that was resumed meanwhile does.
    if parent := multiprocessing.parent_process():
        parent.join()
    os._exit(1)
