"""What every source of labelled faces boils down to, whatever files it was read from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fader.data.images import FolderImages, ZipImages

TRAIN, VALID, TEST = 0, 1, 2
SPLIT_NAMES = ("train", "valid", "test")


@dataclass(frozen=True)
class AnnotatedImages:
    """Images and what is known about each of them, before any face is looked for.

    Row ``i`` of every array belongs to ``names[i]``. ``labels`` is (N, n) float32 in 0..1 in the
    order of ``attribute_names``; ``split`` (N,) uint8 (0 train, 1 valid, 2 test); ``identity`` (N,)
    int64, -1 where unknown; ``landmarks`` (N, 5, 2) float32 (x, y) pixels, NaN where unknown.
    ``files`` are all this came from (annotations and the zip), ``celeba`` if in CelebA's layout.
    """

    root: Path
    images: FolderImages | ZipImages
    names: list[str]
    attribute_names: tuple[str, ...]
    labels: np.ndarray
    label_kind: str
    split: np.ndarray
    split_from: str
    identity: np.ndarray
    landmarks: np.ndarray
    files: tuple[Path, ...]
    celeba: bool

    def __len__(self) -> int:
        return len(self.names)


def hashed_split(names: Sequence[str], identity: np.ndarray) -> tuple[np.ndarray, str]:
    """(N,) uint8 split of 90 % train, 5 % valid and 5 % test, and what it is made from.

    It is the same on every machine. People (or, where nobody is known, single images) are put in
    the order of a hash and cut: no person is in two parts. From three people on no part is empty.
    """
    keys = [
        f"id {who}" if who >= 0 else f"image {name}"
        for name, who in zip(names, identity.tolist(), strict=True)
    ]
    ranked = sorted(set(keys), key=lambda key: hashlib.sha256(key.encode()).digest())
    held_out = max(1, round(0.05 * len(ranked))) if len(ranked) >= 3 else 0
    part = dict.fromkeys(ranked, TRAIN)
    part.update(dict.fromkeys(ranked[:held_out], TEST))
    part.update(dict.fromkeys(ranked[held_out : 2 * held_out], VALID))
    split_from = f"hash of {'identity' if (identity >= 0).any() else 'file name'}, 90/5/5"
    return np.array([part[key] for key in keys], dtype=np.uint8), split_from
