"""Ctrl-C at a moment when it does no harm.

What stops in the middle of a training step has updated some networks and not others, and could not
be resumed exactly; a batch stopped between an answer and its row would report less than it did.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click


def stop_on_sigterm() -> None:
    """For the rest of the command that runs, a scheduler's stop is a Ctrl-C; what called it from
    Python has its own handler back afterwards."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler) or signal.SIG_DFL
    click.get_current_context().call_on_close(lambda: signal.signal(signal.SIGTERM, before))


@contextmanager
def held_interrupts() -> Iterator[Callable[[], bool]]:
    """Hold back Ctrl-C (and SIGTERM where it means the same) until what is under way is whole.

    Yields a function that says whether there was one, to be acted on. A second one is not held
    back. Signals with another handler, and threads, which get none, are left as they are.
    """
    asked: list[int] = []

    def hold(number: int, frame: Any) -> None:
        if asked:
            signal.default_int_handler(number, frame)
        asked.append(number)

    here = threading.current_thread() is threading.main_thread()
    every = (signal.SIGINT, signal.SIGTERM) if here else ()
    ours = [n for n in every if signal.getsignal(n) is signal.default_int_handler]
    for number in ours:
        signal.signal(number, hold)
    try:
        yield lambda: bool(asked)
    finally:
        for number in ours:
            signal.signal(number, signal.default_int_handler)
