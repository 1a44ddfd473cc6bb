"""Putting a prepared store in shards (:mod:`fader.data.shards`) into a folder or at a URL."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zlib
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from fader.data.shards import CHECKS, UNFINISHED, Folder, shard_name
from fader.data.store import ARRAYS, META, NAMES, REJECTED, PreparedStore, checksum
from fader.data.unfinished import npy_header
from fader.errors import FaderError
from fader.files import file_lock, sweep_temporaries

#: Bytes of a shard, which is sent whole and read in parts.
SHARD_BYTES = 64 << 20
_LOCK = ".lock"


def shard(
    store: str | os.PathLike[str],
    dest: str | os.PathLike[str],
    shard_bytes: int = SHARD_BYTES,
    progress: bool = True,
) -> tuple[PreparedStore, bool]:
    """Put a copy of a store, in shards of about so many bytes, at a path or URL, and open it; and
    whether it was there already. Shards that an interrupted call left there are not sent again.

    Raises :class:`FaderError` when the store cannot be opened, or ``dest`` holds something else or
    cannot be reached.
    """
    source, folder = PreparedStore(store), Folder(dest)
    place = folder.place
    held = f"{place}: another process is at work there; wait until it is done"
    # At a URL there are no locks, but two that write the same there do no harm.
    with file_lock(place / _LOCK, held) if isinstance(place, Path) else nullcontext():
        if isinstance(place, Path):
            sweep_temporaries(place)
        rows = max(1, min(shard_bytes // source.images[0].nbytes, len(source)))
        shards = {
            "rows": rows,
            "offset": len(npy_header(rows, source.size)),
            "checksum": checksum(source),
        }
        sizes = folder.sizes()
        finished = _is_there(folder, sizes, shards)
        if not finished:
            _copy(source, folder, sizes, shards, progress)
        if not finished or UNFINISHED in sizes:
            folder.remove(UNFINISHED)
    return PreparedStore(place), finished


def _is_there(folder: Folder, sizes: dict[str, int], shards: dict[str, Any]) -> bool:
    """Whether these shards are all there. Raises :class:`FaderError` for something else."""
    for name, decisive in ((META, ["checksum"]), (UNFINISHED, ["checksum", "rows", "offset"])):
        if name not in sizes:
            continue
        try:
            there = json.loads(folder.read(name))["shards"]
            same = all(there[key] == shards[key] for key in decisive)
        except (ValueError, KeyError, TypeError, RecursionError):
            same = False
        if not same:
            raise FaderError(
                f"{folder.place}: its {name} is not of these faces; give a new or an empty place"
            )
        return name == META
    if others := sizes.keys() - {_LOCK}:
        raise FaderError(
            f"{folder.place}: holds other files ({min(others)}); give a new or an empty place"
        )
    return False


def _copy(
    source: PreparedStore, folder: Folder, sizes: dict[str, int], shards: dict, progress: bool
) -> None:
    """Write all that is not there, and then what says that it is finished."""
    folder.write(UNFINISHED, _json({**source.meta, "shards": shards}))
    checks = np.zeros(len(source), np.uint32)
    starts = range(0, len(source), shards["rows"])
    hidden = None if progress else True
    bar = tqdm(starts, unit="shard", desc="sharding", disable=hidden, dynamic_ncols=True)
    for number, start in enumerate(bar):
        images = np.ascontiguousarray(source.images[start : start + shards["rows"]])
        checks[start : start + len(images)] = [zlib.crc32(image) for image in images]
        name = shard_name(number)
        if sizes.get(name) != shards["offset"] + images.nbytes:
            folder.write(name, npy_header(len(images), source.size) + images.tobytes())
    small = {CHECKS: _npy(checks)}
    small |= {f"{name}.npy": _npy(getattr(source, name)) for name in ARRAYS}
    small[NAMES] = source.content(NAMES)
    with suppress(FileNotFoundError):
        small[REJECTED] = source.content(REJECTED)
    for name, data in small.items():
        folder.write(name, data)
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in small.items()}
    folder.write(META, _json({**source.meta, "shards": {**shards, "sha256": digests}}))


def _npy(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, values, allow_pickle=False)
    return file.getvalue()


def _json(meta: dict[str, Any]) -> bytes:
    return (json.dumps(meta, indent=1) + "\n").encode()
