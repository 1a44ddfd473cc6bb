"""What a server keeps while it runs, and its threads: a few, so that twenty clients take no more
memory than two."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from fader.app.catalogue import Catalogue
from fader.app.generators import Generators
from fader.app.jobs import Jobs
from fader.app.photos import Photos
from fader.app.settings import Settings
from fader.app.uploads import Uploads
from fader.edit.session import Superseded

T = TypeVar("T")


class State:
    """Models, generators, open photos, folder jobs, and threads for the work."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.models = Catalogue(settings)
        device = "cpu" if settings.device == "auto" else settings.device
        self.generators = Generators(settings.generators, device)
        self.photos = Photos(settings.memory, settings.idle)
        self.jobs = Jobs(settings.idle)
        self.uploads = Uploads(settings.max_upload, settings.memory)
        self.work = Work()

    def sweep(self) -> None:
        """Forget what nobody asks for any more."""
        self.photos.sweep()
        self.jobs.sweep()

    def close(self) -> None:
        """Cancel the jobs and begin nothing more."""
        self.work.close()
        self.jobs.close()


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
        """What ``function(wanted)`` gives, unless another call with this ``key`` comes meanwhile:
        ``wanted()`` says whether none has. ``whole`` is for whole photos.

        Raises :class:`Superseded` where one came before the work began or ``function`` found out.
        """
        mine = self._newest[key] = object()

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
