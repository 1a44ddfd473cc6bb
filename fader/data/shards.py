"""The pixels of a prepared store in shards: many files, in a folder on a disk or at a URL.

Beside the files of :mod:`fader.data.store`, but in the place of ``images.npy``::

    images-00000.npy …  (rows, size, size, 3) uint8 each, some 64 MB; the last has what is left
    crc32.npy           (N,) uint32, of each image's pixels
    unfinished.json     what is being put there; removed in the end
"""

from __future__ import annotations

import os
import zlib
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fader.errors import FaderError
from fader.files import atomic_path
from fader.urls import is_disk, open_system, path_or_url, reason, write_file

CHECKS, UNFINISHED = "crc32.npy", "unfinished.json"


def shard_name(number: int) -> str:
    """The file of a shard; they are numbered from 0."""
    return f"images-{number:05d}.npy"


def damaged_shard(place: str) -> FaderError:
    """The error for a file of a store in shards that cannot be used."""
    return FaderError(
        f"{place}: missing, cut short or damaged; make the shards anew, at another place"
    )


class Folder:
    """A folder at a path or URL; ``place`` is which. What it cannot do is a :class:`FaderError`
    that names the file."""

    def __init__(self, place: str | os.PathLike[str]) -> None:
        self.place = path_or_url(place)

    @cached_property
    def _system_and_root(self) -> tuple[Any, str]:
        if isinstance(self.place, Path):
            return open_system("file:///")[0], os.path.abspath(self.place)
        system, root = open_system(self.place)
        return system, root.rstrip("/")

    def __reduce__(self) -> tuple[type[Folder], tuple[Path | str]]:
        return Folder, (self.place,)  # connections do not go to other processes

    def full(self, name: str) -> str:
        """The path or URL of a file in it."""
        return f"{self.place}/{name}" if isinstance(self.place, str) else str(self.place / name)

    def sizes(self) -> dict[str, int]:
        """Its files and folders with their bytes; none where there is no such folder."""
        system, root = self._system_and_root
        try:
            found = system.ls(root, detail=True)
        except FileNotFoundError:
            return {}
        except Exception as error:  # those of the stores' libraries have no base in common
            raise FaderError(f"{self.place}: cannot be looked into ({reason(error)})") from None
        sizes = {entry["name"].strip("/"): entry["size"] or 0 for entry in found}
        sizes.pop(root.strip("/"), None)  # some list a mark that says that there is a folder
        return {name.rpartition("/")[2]: size for name, size in sizes.items()}

    def read(self, name: str) -> bytes:
        """The content of a file. Raises :class:`FileNotFoundError` as well."""
        system, root = self._system_and_root
        try:
            return system.cat_file(f"{root}/{name}")
        except FileNotFoundError:
            raise
        except Exception as error:
            raise FaderError(f"{self.full(name)}: cannot be read ({reason(error)})") from None

    def parts(self, names: list[str], starts: list[int], ends: list[int]) -> list[bytes]:
        """Bytes ``starts`` to ``ends`` of files, asked for together; fewer where a file is cut."""
        system, root = self._system_and_root
        paths = [f"{root}/{name}" for name in names]
        found = system.cat_ranges(paths, starts, ends, on_error="return")
        for name, part in zip(names, found, strict=True):
            if isinstance(part, FileNotFoundError):
                raise damaged_shard(self.full(name))
            if isinstance(part, Exception):
                raise FaderError(f"{self.full(name)}: cannot be read ({reason(part)})")
        return found

    def write(self, name: str, data: bytes) -> None:
        """Write a file; on a disk and in an object store whole or not at all."""
        system, root = self._system_and_root
        if is_disk(system):
            with atomic_path(f"{root}/{name}") as temporary:
                temporary.write_bytes(data)
            return
        try:
            write_file(system, f"{root}/{name}", data)
        except Exception as error:
            raise FaderError(f"{self.full(name)}: cannot be written ({reason(error)})") from None

    def remove(self, name: str) -> None:
        """Remove a file."""
        system, root = self._system_and_root
        system.rm_file(f"{root}/{name}")


class ShardedImages:
    """(N, S, S, 3) uint8 images in shards, of which rows are taken as of an array.

    What is taken is read, and nothing else: a request for each run of neighbours, many requests at
    a time. Every image is compared with its checksum; :class:`FaderError` for shards that are
    missing, damaged or cannot be reached.
    """

    #: Batches to be under way at a time: a network answers late.
    ahead = 4

    def __init__(
        self, folder: Folder, checks: np.ndarray, size: int, shard_rows: int, offset: int
    ) -> None:
        """``checks`` (N,) are the images' CRC-32; a shard has ``shard_rows`` of them, after
        ``offset`` bytes."""
        self.shape = (len(checks), size, size, 3)
        self._folder, self._checks = folder, checks
        self._shard_rows, self._offset = shard_rows, offset
        self._rows = np.arange(len(checks))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: Any) -> np.ndarray:
        wanted = self._rows[rows]
        some, places = np.unique(wanted, return_inverse=True)
        return self._read(some)[places.ravel()].reshape(*wanted.shape, *self.shape[1:])

    def _read(self, rows: np.ndarray) -> np.ndarray:
        """The images of ascending rows."""
        images = np.empty((len(rows), *self.shape[1:]), np.uint8)
        if not len(rows):
            return images
        shards, inside = np.divmod(rows, self._shard_rows)
        gaps = np.flatnonzero((np.diff(rows) != 1) | (np.diff(shards) != 0)) + 1
        first, after = np.r_[0, gaps], np.r_[gaps, len(rows)]
        names = [shard_name(number) for number in shards[first]]
        length = images[0].nbytes
        starts = self._offset + inside[first] * length
        ends = starts + (after - first) * length
        parts = self._folder.parts(names, starts.tolist(), ends.tolist())
        for name, part, start, end in zip(names, parts, first, after, strict=True):
            if len(part) != (end - start) * length:
                raise damaged_shard(self._folder.full(name))
            images[start:end] = np.frombuffer(part, np.uint8).reshape(-1, *self.shape[1:])
            for image, row in zip(images[start:end], rows[start:end], strict=True):
                if zlib.crc32(image) != self._checks[row]:
                    raise damaged_shard(self._folder.full(name))
        return images
