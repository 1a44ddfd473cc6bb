"""What a server is started with."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from fader.edit.runtime import Runtime
from fader.errors import FaderError

MB = 1 << 20

#: Entries of a zip, or photos of a folder; bytes they unpack to; times as many as they were packed.
MOST_PHOTOS, MOST_UNPACKED, MOST_RATIO = 2000, 1 << 30, 100


@dataclass(frozen=True)
class Settings:
    """The options of ``fader app``.

    It listens at ``host`` and ``port``; ``hosts`` are more names that it goes by, and ``token`` is
    what clients must know, "" for none. ``max_upload`` bounds one request and ``memory`` what all
    photos take, in bytes; ``idle`` is how many seconds a photo is kept that nobody asks for.
    ``model`` is the first model, run on ``device`` by ``runtime``; ``models`` are others (folders
    of models, models, Hub ids), ``generators`` a folder of runs of ``cgan train``.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    token: str = ""
    hosts: tuple[str, ...] = ()
    max_upload: int = 64 * MB
    memory: int = 2048 * MB
    idle: float = 3600.0
    model: str = "default"
    models: tuple[str, ...] = ()
    generators: Path | None = None
    device: str = "auto"
    runtime: Runtime = "auto"

    def check(self) -> None:
        """Raise :class:`~fader.errors.FaderError` for a server that anybody could use."""
        if not is_loopback(self.host) and not self.token:
            raise FaderError(
                f"--host {self.host}: others could reach the page there, so it needs a secret; "
                "give one with --token or FADER_TOKEN"
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens at ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
