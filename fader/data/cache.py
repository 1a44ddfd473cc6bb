"""What is kept of data that was prepared on the way: where, how much, and how to be rid of it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fader.errors import FaderError
from fader.files import file_lock, sweep_temporaries

#: How many gigabytes are kept, where ``$FADER_CACHE_GB`` does not say otherwise.
LIMIT_GB = 20.0

# What is made there: prepared stores, and judges of classes. Nothing else is ours to remove.
_NAMES = re.compile(r"[0-9a-f]{16}-\d+|judge-[0-9a-f]{16}")
_FILES = {
    *("images.npy", "labels.npy", "split.npy", "identity.npy", "names.json", "meta.json"),
    *("progress.jsonl", "rejected.csv", "config.json", "classifier.safetensors", "training.pt"),
}
_LOCK = ".lock"


@dataclass(frozen=True)
class Entry:
    """A folder in the cache, its size in bytes, and when it was last used (seconds, Unix time)."""

    path: Path
    size: int
    used: float


def cache_folder() -> Path:
    """Where it is: ``fader`` in ``$XDG_CACHE_HOME``, or in ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fader"


def cache_limit() -> int:
    """How many bytes it may have: ``$FADER_CACHE_GB``, or :data:`LIMIT_GB`, in gigabytes; raises
    :class:`~fader.errors.FaderError` where the variable is no number."""
    text = os.environ.get("FADER_CACHE_GB")
    try:
        return int((float(text) if text else LIMIT_GB) * 1e9)
    except (ValueError, OverflowError):
        raise FaderError(f"FADER_CACHE_GB={text}: must be a number of gigabytes") from None


def entries() -> list[Entry]:
    """What is in the cache, the one used last first. Folders of other origin are left out."""
    found = []
    with suppress(OSError), os.scandir(cache_folder()) as folders:
        for folder in folders:
            if _NAMES.fullmatch(folder.name) and folder.is_dir(follow_symlinks=False):
                size = sum(path.stat().st_size for path in _files_of(Path(folder.path)))
                found.append(Entry(Path(folder.path), size, folder.stat().st_mtime))
    return sorted(found, key=lambda entry: -entry.used)


def mark_used(path: Path) -> None:
    """Note that a folder of the cache was used just now, and remove others beyond the limit."""
    if path.parent != cache_folder():
        return
    with suppress(OSError):
        os.utime(path)
    total, limit = 0, cache_limit()
    for entry in entries():
        total += entry.size
        if total > limit and entry.path != path:
            remove(entry)


def remove(entry: Entry) -> bool:
    """Remove a folder of the cache, of its files only those made there. Answers whether it is gone:
    what another process is preparing stays."""
    with suppress(FaderError, OSError), file_lock(entry.path / _LOCK):
        sweep_temporaries(entry.path)
        for path in _files_of(entry.path):
            path.unlink()
    with suppress(OSError):
        entry.path.rmdir()
    return not entry.path.exists()


def _files_of(folder: Path) -> Iterator[Path]:
    with suppress(OSError), os.scandir(folder) as files:
        for file in files:
            if file.name in _FILES and file.is_file(follow_symlinks=False):
                yield Path(file.path)
