"""A digest of data, by which a training that goes on knows that it is the same."""

from __future__ import annotations

import hashlib
from typing import Any, Protocol

import numpy as np

#: Bytes of pixels that a checksum reads; of more, it takes images at even distances.
MOST_BYTES = 2 << 30
_CHUNK = 256


class Data(Protocol):
    """A prepared store, or a set of images of cgan."""

    @property
    def images(self) -> Any:
        """(N, S, S, C) uint8."""

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
    taken = max(1, min(shape[0], MOST_BYTES // max(1, int(np.prod(shape[1:])))))
    rows = np.linspace(0, shape[0] - 1, taken).round().astype(np.int64)
    for start in range(0, taken, _CHUNK):
        digest.update(np.ascontiguousarray(data.images[rows[start : start + _CHUNK]]).tobytes())
    return digest.hexdigest()
