"""A store that is being made: the log of what is done, and the pixels' file."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from fader.data.store import FORMAT, damaged
from fader.errors import FaderError
from fader.files import FULL, atomic_path, flush, harmless_cell, write_text


class Progress:
    """The log of finished blocks; a torn last line (a kill while it was written) is ignored."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings: dict[str, Any] = {}
        self.rejected_by_block: dict[int, list[tuple[int, str]]] = {}
        self.compacted = False
        if not path.exists():
            return
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            # The next entry must not be appended to the torn one.
            os.truncate(path, len(whole))
        try:
            settings, *entries = [json.loads(line) for line in whole.splitlines()]
            if settings.get("given_up"):
                return
            self.settings = settings
            self.settings.setdefault("alignment", "landmarks")  # from before it was recorded
            for entry in entries:
                if "block" in entry:
                    rejected = [(int(row), str(reason)) for row, reason in entry["rejected"]]
                    self.rejected_by_block[int(entry["block"])] = rejected
                else:
                    self.compacted = True
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise damaged(path) from None

    def start(self, settings: dict[str, Any]) -> None:
        """Begin the log, with the settings in its first line."""
        write_text(self.path, json.dumps(settings) + "\n")
        self.settings = settings

    def give_up(self) -> None:
        """Begin again next time, with whatever settings; the folder stays marked as ours."""
        write_text(self.path, json.dumps({"format": FORMAT, "size": 0, "given_up": True}) + "\n")

    def finish_block(self, start: int, rejected: list[tuple[int, str]]) -> None:
        """Log the block from row ``start``, and its rejected rows with their reasons."""
        self._append({"block": start, "rejected": rejected})
        self.rejected_by_block[start] = rejected

    def finish_compaction(self) -> None:
        """Log that the holes of the rejected images are filled."""
        self._append({"compacted": True})
        self.compacted = True

    def _append(self, entry: dict[str, Any]) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            flush(file.fileno())


def npy_header(count: int, size: int) -> bytes:
    """The bytes of an ``.npy`` file before its pixels; as many for any smaller count."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": "|u1", "fortran_order": False, "shape": (count, size, size, 3)}
    )
    return file.getvalue()


def _bytes_of(count: int, size: int) -> int:
    return len(npy_header(count, size)) + count * size * size * 3


def require_room(dest: Path, count: int, size: int) -> None:
    """Raise :class:`FaderError` when the disk of ``dest`` has no room for the pixels."""
    total, free = _bytes_of(count, size), shutil.disk_usage(dest).free
    if free < total:
        raise FaderError(
            f"{dest}: {total / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free on this disk; "
            "give a folder on another one, or a smaller --size or --limit"
        )


def allocate(path: Path, count: int, size: int) -> None:
    """Make the pixels' file, at its full size."""
    total = _bytes_of(count, size)
    with open(path, "wb") as file:
        file.write(npy_header(count, size))
        file.flush()
        if hasattr(os, "posix_fallocate"):
            # Writing to a memory map on a disk that has become full would kill the process.
            try:
                os.posix_fallocate(file.fileno(), 0, total)
            except OSError as error:
                if error.errno in FULL:
                    raise FaderError(f"{path}: no room for it ({error.strerror})") from None
        file.truncate(total)


def map_images(path: Path, count: int, size: int) -> np.ndarray:
    """All rows of an unfinished images.npy, whatever count its header gives."""
    offset = len(npy_header(count, size))
    try:
        return np.memmap(path, np.uint8, "r+", offset=offset, shape=(count, size, size, 3))
    except (OSError, ValueError):
        raise damaged(path) from None


def fill_holes(
    path: Path, count: int, size: int, rejected: dict[int, str], log: Progress
) -> np.ndarray:
    """Move the last images into the rows of the rejected ones; (kept,) int64 source rows.

    Sources and targets never overlap, so doing it again after a kill gives the same result, and
    no second copy of the file is needed.
    """
    kept = count - len(rejected)
    rows = np.arange(count)
    holes = [row for row in sorted(rejected) if row < kept]
    fillers = [row for row in range(kept, count) if row not in rejected]
    rows[holes] = fillers
    if not log.compacted:
        images = map_images(path, count, size)
        for hole, filler in zip(holes, fillers, strict=True):
            images[hole] = images[filler]
        images.flush()  # type: ignore[attr-defined]
        log.finish_compaction()
    return rows[:kept]


def truncate(path: Path, count: int, size: int) -> None:
    """Cut the pixels' file to its first ``count`` images."""
    header = npy_header(count, size)
    with open(path, "r+b") as file:
        file.write(header)
        file.truncate(_bytes_of(count, size))
        file.flush()
        flush(file.fileno())


def write_array(path: Path, values: np.ndarray) -> None:
    """Write an ``.npy`` file, atomically."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.save(file, values, allow_pickle=False)


def write_rejected(path: Path, names: list[str], rejected: dict[int, str]) -> None:
    """Write the CSV of rejected images: file name and reason, by row of the source."""
    with (
        atomic_path(path) as temporary,
        # Names of files need not be text.
        open(temporary, "w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["image", "reason"])
        rows = ((names[row], rejected[row]) for row in sorted(rejected))
        writer.writerows(map(harmless_cell, row) for row in rows)
