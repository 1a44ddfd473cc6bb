"""What a server keeps while it runs: open photos in memory, for a time, within a budget; and its
threads, a few, so that twenty clients take no more memory than two."""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from fader.app.catalogue import Catalogue
from fader.app.errors import Refused
from fader.app.generators import Generators
from fader.app.jobs import Jobs
from fader.app.settings import MB, Settings
from fader.app.uploads import Uploads
from fader.edit.session import OpenPhoto, Superseded

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


@dataclass
class _Entry:
    photo: OpenPhoto
    size: int
    used: float


class Photos:
    """Open photos by their ids, at most ``memory`` bytes of them, none idle for ``idle`` seconds;
    the longest unused goes first. May be used by several threads."""

    def __init__(self, memory: int, idle: float) -> None:
        self._memory, self._idle = memory, idle
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        # Ids of photos that are gone, to be told from those that never were.
        self._gone: deque[str] = deque(maxlen=10_000)
        self._lock = threading.RLock()

    @property
    def size(self) -> int:
        """Bytes they take together."""
        return sum(entry.size for entry in list(self._entries.values()))

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, photo: OpenPhoto) -> str:
        """Keep a photo; its id. Raises :class:`Refused` for one beyond the whole budget."""
        size = photo.nbytes
        if size > self._memory:
            has = f"takes {size / MB:.0f} MB of memory and the server has {self._memory / MB:.0f}"
            raise Refused(413, f"{photo.name}: {has} for photos; send a smaller one")
        name = secrets.token_urlsafe(16)
        with self._lock:
            self._entries[name] = _Entry(photo, size, time.monotonic())
            self.sweep()
        return name

    def get(self, name: str) -> OpenPhoto:
        """The photo with this id, which is in use from now on; else :class:`Refused`."""
        with self._lock:
            self.sweep()
            if entry := self._entries.get(name):
                entry.used = time.monotonic()
                self._entries.move_to_end(name)
                return entry.photo
            if name in self._gone:
                why = "unused for long, or room was needed"
                what = f"this photo is no longer in the server's memory ({why}); send it again"
                raise Refused(410, what)
        raise Refused(404, "there is no photo with this id; send the photo first")

    def remove(self, name: str) -> None:
        """Forget a photo now."""
        with self._lock:
            if self._entries.pop(name, None):
                self._gone.append(name)

    def sweep(self) -> None:
        """Forget what has been idle for too long, and the longest unused where room is needed."""
        now = time.monotonic()
        with self._lock:
            while self._entries:
                name, entry = next(iter(self._entries.items()))
                if now - entry.used < self._idle and self.size <= self._memory:
                    return
                self.remove(name)
