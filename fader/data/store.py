"""The prepared store: aligned faces in one memory-mapped array, ready to train on.

A store is a folder::

    images.npy      (N, size, size, 3) uint8 RGB, faces aligned to the template
    labels.npy      (N, n) float32, 0..1
    split.npy       (N,) uint8, 0 train, 1 valid, 2 test
    identity.npy    (N,) int64, -1 where unknown
    names.json      the N source file names
    meta.json       what it was made from and how; written last, so its absence means "unfinished"
    rejected.csv    image, reason: the images of the source that are not in the store

While it is being made there is also ``progress.jsonl``: its first line holds the settings, each
further line a finished block of rows. A kill at any moment loses only the blocks under way.

Its pixels may also lie in shards (:mod:`fader.data.shards`), and the folder at a URL.

A folder is a store by what is in ``meta.json`` or ``progress.jsonl``; files of these names in any
other folder are somebody else's, and left alone.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fader.attributes import attribute_name
from fader.data.shards import CHECKS, UNFINISHED, Folder, ShardedImages, damaged_shard, shard_name
from fader.errors import FaderError, UnknownAttributeError
from fader.urls import path_or_url, reason

FORMAT = 1
IMAGES, META, PROGRESS, REJECTED = "images.npy", "meta.json", "progress.jsonl", "rejected.csv"
NAMES = "names.json"
#: What is known of each image, in an ``.npy`` file of its name each.
ARRAYS = ("labels", "split", "identity")
#: All files that a store, finished or not, consists of, but for those of shards.
FILES = (META, PROGRESS, IMAGES, NAMES, *(f"{name}.npy" for name in ARRAYS), REJECTED)
# How both files of ours that say what a folder is begin, be they whole or cut short.
_MARK = re.compile(rb'\s*\{\s*"format"\s*:\s*\d+\s*,\s*"si')

# Bytes of pixels that a checksum reads (of more, it takes images at even distances), and images
# at a time.
_MOST_CHECKED, _CHUNK = 2 << 30, 256

# What disks say (some network and FUSE ones) whose files cannot be mapped into memory.
_NO_MAPS = (errno.ENODEV, errno.EOPNOTSUPP, errno.ENOSYS)


class HasImages(Protocol):
    """What training draws from."""

    @property
    def images(self) -> Any:
        """(N, S, S, C) uint8, of which rows can be taken."""


class Data(HasImages, Protocol):
    """A prepared store, or a set of images of cgan."""

    @property
    def labels(self) -> np.ndarray:
        """(N, k) float32 in 0..1."""

    @property
    def split(self) -> np.ndarray:
        """(N,) uint8: 0 train, 1 valid, 2 test."""


def checksum(data: Data) -> str:
    """A digest of all that a training sees of its data: pixels, labels, split; not of where it
    lies. A second or two a gigabyte; of a store in shards, what was noted when they were made."""
    if noted := getattr(data, "checksum", None):
        return noted
    digest = hashlib.sha256()
    for values in (data.labels, data.split):
        digest.update(repr((values.shape, str(values.dtype))).encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    shape = tuple(data.images.shape)
    digest.update(repr(shape).encode())
    taken = max(1, min(shape[0], _MOST_CHECKED // max(1, int(np.prod(shape[1:])))))
    rows = np.linspace(0, shape[0] - 1, taken).round().astype(np.int64)
    for start in range(0, taken, _CHUNK):
        digest.update(np.ascontiguousarray(data.images[rows[start : start + _CHUNK]]).tobytes())
    return digest.hexdigest()


class PreparedStore:
    """A finished store at a path or URL, opened read-only; pixels are read when they are indexed.

    ``images`` (N, size, size, 3) uint8 RGB, a memory map or :class:`ShardedImages`, ``labels``
    (N, n) float32 in 0..1 in the order of ``attribute_names``, ``split`` (N,) uint8, ``identity``
    (N,) int64, ``names`` the source file names, ``size`` in pixels, ``meta`` the content of
    ``meta.json``. Other processes that it is sent to open the same files.

    Raises :class:`FaderError` when ``path`` is not a store, is unfinished, damaged, of a newer
    format, or cannot be reached.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path_or_url(path)
        self.meta = read_meta(self.path)
        self._shards: dict[str, Any] | None = self.meta.get("shards")
        self._folder = Folder(self.path)
        self.size: int = self.meta["size"]
        self.attribute_names: tuple[str, ...] = tuple(self.meta["attributes"])
        count = self.meta["images"]
        self.images = self._open_images((count, self.size, self.size, 3))
        shape = (count, len(self.attribute_names))
        self.labels = np.array(self._array("labels.npy", shape, np.float32))
        self.split = np.array(self._array("split.npy", (count,), np.uint8))
        self.identity = np.array(self._array("identity.npy", (count,), np.int64))
        try:
            self.names: list[str] = json.loads(self.content(NAMES))
        except (OSError, ValueError, RecursionError):
            raise self._damaged(NAMES) from None
        if not isinstance(self.names, list) or len(self.names) != count:
            raise self._damaged(NAMES)

    def __reduce__(self) -> tuple[type[PreparedStore], tuple[Path | str]]:
        # A pickled memory map would carry all its pixels.
        return PreparedStore, (self.path,)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def checksum(self) -> str | None:
        """Of a store in shards, its :func:`checksum` when they were made."""
        return self._shards["checksum"] if self._shards else None

    def content(self, name: str) -> bytes:
        """One of the small files. Raises :class:`FileNotFoundError`, and :class:`FaderError` where
        it cannot be read, or is not what it was when the shards were made."""
        if not self._shards:
            return (Path(self.path) / name).read_bytes()
        data = self._folder.read(name)
        if hashlib.sha256(data).hexdigest() != self._shards["sha256"].get(name):
            raise self._damaged(name)
        return data

    def _open_images(self, shape: tuple[int, ...]) -> np.ndarray | ShardedImages:
        if not self._shards:
            return self._array(IMAGES, shape, np.uint8)
        checks = self._array(CHECKS, shape[:1], np.uint32)
        rows, offset = self._shards["rows"], self._shards["offset"]
        return ShardedImages(self._folder, checks, self.size, rows, offset)

    def _array(self, name: str, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        """An ``.npy`` file: of shards in the memory, else mapped, so that no memory is taken for
        what a damaged header claims."""
        try:
            if self._shards:
                values = np.load(io.BytesIO(self.content(name)), allow_pickle=False)
            else:
                values = np.load(Path(self.path) / name, mmap_mode="r", allow_pickle=False)
            fits = values.shape == shape and values.dtype == dtype
        except FaderError:
            raise
        except OSError as error:
            raise self._damaged(name, error) from None
        # The header is Python, and answered with whatever its parser ran into.
        except Exception:
            fits = False
        if not fits:
            raise self._damaged(name)
        return values

    def _damaged(self, name: str, error: OSError | None = None) -> FaderError:
        place = self._folder.full(name)
        return damaged_shard(place) if self._shards else damaged(Path(place), error)

    @property
    def rejected(self) -> list[tuple[str, str]]:
        """The images of the source that are not in the store, and why, in words."""
        try:
            lines = self.content(REJECTED).decode("utf-8").splitlines(keepends=True)
            return [(row["image"], row["reason"]) for row in csv.DictReader(lines)]
        except (OSError, ValueError, KeyError, csv.Error):
            return []

    def indices(self, split: int) -> np.ndarray:
        """(M,) int64 rows of one split (0 train, 1 valid, 2 test), ascending."""
        return np.flatnonzero(self.split == split)

    def select_labels(self, attributes: Sequence[str]) -> np.ndarray:
        """(N, len(attributes)) float32 labels in 0..1, columns in the asked order; raises
        :class:`UnknownAttributeError` for an attribute the store has no labels of."""
        names = [attribute_name(name) for name in attributes]
        for name in names:
            if name not in self.attribute_names:
                known = ", ".join(self.attribute_names)
                raise UnknownAttributeError(f"{self.path}: has no labels of {name}; it has {known}")
        columns = [self.attribute_names.index(name) for name in names]
        return np.ascontiguousarray(self.labels[:, columns])


def is_prepared(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a finished store (which may still prove damaged when opened)."""
    path = Path(path)
    pixels = (path / IMAGES, path / shard_name(0))
    return any(file.is_file() for file in pixels) and _is_marked(path / META)


def is_unfinished(path: str | os.PathLike[str]) -> bool:
    """Whether ``path`` is a store whose preparation was interrupted."""
    return _is_marked(Path(path) / PROGRESS) and not _is_marked(Path(path) / META)


def is_store(path: Path) -> bool:
    """Whether ``path`` is a store, finished or not, or shards of one."""
    return is_prepared(path) or is_unfinished(path) or _is_marked(path / UNFINISHED)


def _is_marked(path: Path) -> bool:
    """Whether a file is one that tells of a store, whole or damaged."""
    try:
        if not path.is_file():
            return False
        with open(path, "rb") as file:
            return bool(_MARK.match(file.read(200)))
    except OSError:
        return False


def damaged(path: Path, error: Exception | None = None) -> FaderError:
    """The error for a file of a store that cannot be used, because of an ``error`` of the system,
    where that is known."""
    if getattr(error, "errno", None) in _NO_MAPS:
        return FaderError(
            f"{path}: this disk does not let files be mapped into memory; keep the store on another"
        )
    return FaderError(
        f"{path}: missing, cut short or damaged; prepare the source again, into another folder"
    )


def read_meta(path: Path | str) -> dict[str, Any]:
    """The content of ``meta.json``; :class:`FaderError` when there is no finished store."""
    remote = isinstance(path, str)
    try:
        content = _meta_at(path) if isinstance(path, str) else _meta_in(path)
        meta = json.loads(content.decode("utf-8"))
        if (version := int(meta["format"])) <= FORMAT:
            meta |= {key: int(meta[key]) for key in ("size", "images")}
            meta["attributes"] = [str(name) for name in meta["attributes"]]
            meta.setdefault("alignment", "landmarks")  # stores from before it was recorded
            if shards := meta.get("shards"):
                meta["shards"] = {
                    "rows": max(1, int(shards["rows"])),
                    "offset": int(shards["offset"]),
                    "checksum": str(shards["checksum"]),
                    "sha256": dict(shards["sha256"]),
                }
    # The last is what deep nesting, and what numbers of thousands of digits, are answered with.
    except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
        raise damaged_shard(f"{path}/{META}") if remote else damaged(Path(path) / META) from None
    if version > FORMAT:
        raise FaderError(
            f"{path}: was written by a newer Fader (format {version}, this one reads {FORMAT}); "
            "update with pip install --upgrade fader"
        )
    if remote and not meta.get("shards"):
        raise FaderError(
            f"{path}: has its pixels in one file, which is read from a disk only; copy it to one, "
            "and from there with fader shard to another place"
        )
    return meta


def _meta_in(path: Path) -> bytes:
    if is_unfinished(path):
        raise FaderError(
            f"{path}: its preparation is unfinished; run the same fader prepare again to finish it"
        )
    if is_prepared(path):
        return (path / META).read_bytes()
    if _is_marked(path / UNFINISHED):
        raise _unfinished_shards(path)
    raise FaderError(
        f"{path}: is not a prepared store (no {META} of Fader's with {IMAGES}); make one with "
        "fader prepare SOURCE NEW_FOLDER"
    )


def _meta_at(url: str) -> bytes:
    folder = Folder(url)
    try:
        content = folder.read(META)
    except FileNotFoundError as error:
        why = reason(error)
        try:
            folder.read(UNFINISHED)
        except FileNotFoundError:
            raise FaderError(
                f"{url}: is not a prepared store ({META}: {why}); put one there with fader shard "
                f"STORE {url}"
            ) from None
        raise _unfinished_shards(url) from None
    if not _MARK.match(content):
        raise FaderError(f"{url}: is not a prepared store; its {META} is not Fader's")
    return content


def _unfinished_shards(path: Path | str) -> FaderError:
    return FaderError(
        f"{path}: is unfinished; run the same fader shard STORE {path} again to finish it"
    )
