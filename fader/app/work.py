"""Threads for the work: a few, so that twenty clients take no more memory than two."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from fader.edit.session import Superseded

T = TypeVar("T")


class Work:
    """Runs functions in threads: those of a slider's move apart from whole photos, so that neither
    waits for the other."""

    def __init__(self) -> None:
        # A move is computed on all cores already; more at once only get in each other's way.
        threads = max(1, min(4, (os.cpu_count() or 2) // 2))
        self._moves = ThreadPoolExecutor(threads, "fader-moves")
        self._photos = ThreadPoolExecutor(2, "fader-photos")
        self._newest: dict[Any, object] = {}

    async def photo(self, function: Callable[..., T], *args: Any) -> T:
        """What ``function(*args)`` gives."""
        return await asyncio.get_running_loop().run_in_executor(self._photos, function, *args)

    async def latest(
        self, key: Any, function: Callable[[Callable[[], bool]], T], whole: bool = False
    ) -> T:
        """What ``function(wanted)`` gives, unless another call with this ``key`` comes meanwhile.

        ``wanted()`` says whether none has. Raises :class:`Superseded` where one has before the work
        was begun or ``function`` found out. ``whole`` is for whole photos.
        """
        mine = object()
        self._newest[key] = mine

        def wanted() -> bool:
            return self._newest.get(key) is mine

        def work() -> T:
            if not wanted():
                raise Superseded
            return function(wanted)

        pool = self._photos if whole else self._moves
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, work)
        finally:
            if wanted():
                del self._newest[key]

    def close(self) -> None:
        """Begin nothing more."""
        for pool in (self._moves, self._photos):
            pool.shutdown(wait=False, cancel_futures=True)
