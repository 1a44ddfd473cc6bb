"""The photos that are open: in memory, for a time, within a budget."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict, deque
from dataclasses import dataclass

from fader.app.errors import Refused
from fader.app.settings import MB
from fader.edit.session import OpenPhoto


@dataclass
class _Entry:
    photo: OpenPhoto
    size: int
    used: float


class Photos:
    """Open photos by their ids, at most ``memory`` bytes of them, none idle for ``idle`` seconds.

    The longest unused goes first. May be used by several threads.
    """

    def __init__(self, memory: int, idle: float) -> None:
        self._memory, self._idle = memory, idle
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        # Ids of photos, so that these can be told from those that never were.
        self._gone: deque[str] = deque(maxlen=10_000)
        self._lock = threading.Lock()

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
            self._sweep()
        return name

    def get(self, name: str) -> OpenPhoto:
        """The photo with this id, which is in use from now on; else :class:`Refused`."""
        with self._lock:
            self._sweep()
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
        """Forget what has been idle for too long."""
        with self._lock:
            self._sweep()

    def _sweep(self) -> None:
        now = time.monotonic()
        while self._entries:
            name, entry = next(iter(self._entries.items()))
            if now - entry.used < self._idle and self.size <= self._memory:
                return
            del self._entries[name]
            self._gone.append(name)
