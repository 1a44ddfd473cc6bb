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

A folder is a store by what is in ``meta.json`` or ``progress.jsonl``; files of these names in any
other folder are somebody else's, and left alone.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fader.attributes import attribute_name
from fader.errors import FaderError, UnknownAttributeError

FORMAT = 1
IMAGES, META, PROGRESS, REJECTED = "images.npy", "meta.json", "progress.jsonl", "rejected.csv"
NAMES, LABELS, SPLIT, IDENTITY = "names.json", "labels.npy", "split.npy", "identity.npy"
#: All files that a store, finished or not, consists of.
FILES = (META, PROGRESS, IMAGES, NAMES, LABELS, SPLIT, IDENTITY, REJECTED)
# How both files of ours that say what a folder is begin, be they whole or cut short.
_MARK = re.compile(rb'\s*\{\s*"format"\s*:\s*\d+\s*,\s*"si')


class PreparedStore:
    """A finished store, opened read-only; nothing is loaded until it is indexed.

    ``images`` (N, size, size, 3) uint8 RGB memory map, ``labels`` (N, n) float32 in 0..1 in the
    order of ``attribute_names``, ``split`` (N,) uint8, ``identity`` (N,) int64, ``names`` the
    source file names, ``size`` in pixels, ``meta`` the content of ``meta.json``. May be sent to
    other processes, which then open the same files.

    Raises :class:`FaderError` when ``path`` is not a store, is unfinished, damaged, or of a
    newer format.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.meta = read_meta(self.path)
        self.size = int(self.meta["size"])
        self.attribute_names: tuple[str, ...] = tuple(self.meta["attributes"])
        count = int(self.meta["images"])
        self.images = self._array("images", (count, self.size, self.size, 3), np.uint8)
        labels = self._array("labels", (count, len(self.attribute_names)), np.float32)
        self.labels = np.array(labels)
        self.split = np.array(self._array("split", (count,), np.uint8))
        self.identity = np.array(self._array("identity", (count,), np.int64))
        try:
            self.names: list[str] = json.loads((self.path / NAMES).read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            raise damaged(self.path / NAMES) from None
        if not isinstance(self.names, list) or len(self.names) != count:
            raise damaged(self.path / NAMES)

    def __reduce__(self) -> tuple[type[PreparedStore], tuple[Path]]:
        # A pickled memory map would carry all its pixels.
        return PreparedStore, (self.path,)

    def __len__(self) -> int:
        return len(self.images)

    def _array(self, name: str, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        path = self.path / f"{name}.npy"
        try:
            # Mapped, so that no memory is taken for what a damaged header claims.
            values = np.load(path, mmap_mode="r", allow_pickle=False)
            fits = values.shape == shape and values.dtype == dtype
        # The header is Python, and answered with whatever its parser ran into.
        except Exception:
            fits = False
        if not fits:
            raise damaged(path)
        return values

    @property
    def rejected(self) -> list[tuple[str, str]]:
        """The images of the source that are not in the store, and why, in words."""
        try:
            with open(self.path / REJECTED, newline="", encoding="utf-8") as file:
                return [(row["image"], row["reason"]) for row in csv.DictReader(file)]
        except (OSError, ValueError, KeyError, csv.Error):
            return []

    def indices(self, split: int) -> np.ndarray:
        """(M,) int64 rows of one split (0 train, 1 valid, 2 test), ascending."""
        return np.flatnonzero(self.split == split)

    def select_labels(self, attributes: Sequence[str]) -> np.ndarray:
        """(N, len(attributes)) float32 labels in 0..1, columns in the asked order.

        Raises :class:`UnknownAttributeError` for an attribute the store has no labels of.
        """
        columns = []
        for name in attributes:
            exact = attribute_name(name)
            if exact not in self.attribute_names:
                raise UnknownAttributeError(
                    f"{self.path}: has no labels of {exact}; it has "
                    f"{', '.join(self.attribute_names)}"
                )
            columns.append(self.attribute_names.index(exact))
        return np.ascontiguousarray(self.labels[:, columns])


def is_prepared(path: str | os.PathLike[str]) -> bool:
    """Whether ``path`` is a finished store (which may still prove damaged when opened)."""
    return (Path(path) / IMAGES).is_file() and _is_marked(Path(path) / META)


def is_unfinished(path: str | os.PathLike[str]) -> bool:
    """Whether ``path`` is a store whose preparation was interrupted."""
    return _is_marked(Path(path) / PROGRESS) and not _is_marked(Path(path) / META)


def _is_marked(path: Path) -> bool:
    """Whether a file is one that tells of a store, whole or damaged."""
    try:
        if not path.is_file():
            return False
        with open(path, "rb") as file:
            return bool(_MARK.match(file.read(200)))
    except OSError:
        return False


def damaged(path: Path) -> FaderError:
    """The error for a file of a store that cannot be used."""
    return FaderError(
        f"{path}: missing, cut short or damaged; prepare the source again, into another folder"
    )


def read_meta(path: Path) -> dict[str, Any]:
    """The content of ``meta.json``; :class:`FaderError` when there is no finished store."""
    if is_unfinished(path):
        raise FaderError(
            f"{path}: its preparation is unfinished; run the same fader prepare again to finish it"
        )
    if not is_prepared(path):
        raise FaderError(
            f"{path}: is not a prepared store (no {META} of Fader's with {IMAGES}); make one with "
            "fader prepare SOURCE NEW_FOLDER"
        )
    try:
        meta = json.loads((path / META).read_text("utf-8"))
        version = int(meta["format"])
        if version <= FORMAT:
            meta["size"], meta["images"], meta["attributes"] = (
                int(meta["size"]),
                int(meta["images"]),
                [str(name) for name in meta["attributes"]],
            )
            meta.setdefault("alignment", "landmarks")  # stores from before it was recorded
    # The last is what deep nesting, and what numbers of thousands of digits, are answered with.
    except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
        raise damaged(path / META) from None
    if version > FORMAT:
        raise FaderError(
            f"{path}: was written by a newer Fader (format {version}, this one reads {FORMAT}); "
            "update with pip install --upgrade fader"
        )
    return meta
