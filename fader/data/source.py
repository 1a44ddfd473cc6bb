"""Opening whatever a user calls their data: a prepared store, CelebA, or labelled photos."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from fader.data.cache import cache_folder, mark_used
from fader.data.prepare import prepare
from fader.data.store import PreparedStore, is_store
from fader.errors import FaderError
from fader.urls import path_or_url


def open_data(
    path: str | os.PathLike[str], size: int, progress: bool = True, workers: int | None = None
) -> PreparedStore:
    """The data at ``path`` as a store of ``size`` by ``size`` pixels.

    A prepared store is opened, one in shards also at a URL. CelebA's layout or a labelled photo
    folder is prepared once, into ``path/.fader-<size>`` or, where ``path`` is read-only, into the
    user's cache (:mod:`fader.data.cache`), and again when its annotations or its zip have changed.

    Raises :class:`FaderError` when nothing usable or faces of another size are there.
    """
    path = path_or_url(path)
    if isinstance(path, str) or is_store(path):
        store = PreparedStore(path)
        if store.size != size:
            raise FaderError(
                f"{path}: holds {store.size}-pixel faces, and {size} are asked for; prepare the "
                f"source again with --size {size}, or ask for size {store.size}"
            )
        return store
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        raise FaderError(
            f"no data at {path}: get CelebA from its site "
            "(https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html) or from Kaggle and put "
            "img_align_celeba.zip and list_attr_celeba.txt into ./data/celeba, or set $FADER_DATA "
            "to the folder they are in; to try without, draw faces with "
            "'fader synth data/drawn -n 5000' and give that folder as the data"
        )
    # The mode as well as the access: to root everything is writable, also what was protected.
    if path.is_dir() and os.access(path, os.W_OK) and path.stat().st_mode & 0o222:
        dest = path / f".fader-{size}"
    else:
        key = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
        dest = cache_folder() / f"{key}-{size}"
    store = prepare(path, dest, size, workers, progress=progress, cache=True)
    mark_used(Path(store.path))
    return store
