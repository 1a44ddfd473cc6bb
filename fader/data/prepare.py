"""Making a prepared store (:mod:`fader.data.store`) of labelled photos, whatever comes between."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fader._version import __version__
from fader.data.aligning import BLOCK, CELEBA_SIZE, align_blocks
from fader.data.annotations import SPLIT_NAMES, AnnotatedImages, shown
from fader.data.folder import read_source, source_files
from fader.data.store import (
    FILES,
    FORMAT,
    IDENTITY,
    IMAGES,
    LABELS,
    META,
    NAMES,
    PROGRESS,
    REJECTED,
    SPLIT,
    PreparedStore,
    damaged,
    is_prepared,
    is_unfinished,
    read_meta,
)
from fader.data.unfinished import (
    Progress,
    allocate,
    fill_holes,
    require_room,
    truncate,
    write_array,
    write_rejected,
)
from fader.errors import FaderError, UnreadableImageError
from fader.files import file_lock, sweep_temporaries, write_text

_LOCK = ".lock"


def prepare(
    source: str | os.PathLike[str],
    dest: str | os.PathLike[str],
    size: int = 128,
    workers: int | None = None,
    limit: int | None = None,
    soft: bool = True,
    labels: str | os.PathLike[str] | None = None,
    progress: bool = True,
    aligned: bool | None = None,
) -> PreparedStore:
    """Align every face of ``source`` into a prepared store at ``dest`` and open it.

    Where the source gives landmarks they are used. CelebA's own aligned images (178x218) without
    a list of landmarks have theirs at the template. In anything else the largest face is detected
    (of several of like size, the one nearest to the image's centre). ``aligned`` overrules this:
    true takes every image for one of CelebA's aligned ones, false detects every face.
    ``meta["alignment"]`` says what was done: ``"landmarks"``, ``"template"`` or ``"detected"``.

    An image that is missing, broken or faceless becomes a row of ``rejected.csv``. ``limit``
    takes the first N images only; ``soft`` and ``labels`` are those of :func:`read_source`;
    ``workers`` is the number of processes (default: one per processor).

    A preparation that was interrupted is resumed; one that is finished is opened at once.

    Raises :class:`FaderError` when the source cannot be read (see :func:`read_source`), ``dest``
    holds something else or a store of other settings, the disk is too small, another process is
    writing ``dest``, or no image at all could be used.
    """
    dest = Path(dest)
    request = _Request(Path(source), size, limit, labels, soft, aligned)
    settings = request.settings()
    _refuse_strangers(dest, "give a new or an empty folder")
    with _locked(dest, wait=False):
        if (old := _settings_of(dest)) and (differences := _differences(dest, old, settings)):
            raise FaderError(
                f"{dest}: was prepared otherwise ({', '.join(differences)}); give another folder"
            )
        return _prepare(dest, request, settings, workers, progress)


def prepare_cache(
    source: str | os.PathLike[str],
    dest: str | os.PathLike[str],
    size: int,
    workers: int | None = None,
    progress: bool = True,
) -> PreparedStore:
    """As :func:`prepare`, for a ``dest`` that nobody but Fader writes.

    A store there that no longer fits the source is made anew, and while another process (another
    rank of the same training, say) is making it, this one waits for the result.
    """
    dest = Path(dest)
    request = _Request(Path(source), size)
    settings = request.settings()
    _refuse_strangers(dest, f"move them away, it is where prepared faces of {source} are kept")
    with _locked(dest, wait=True):
        # The place does not matter: a data folder that was moved takes its cache with it.
        old = _settings_of(dest)
        if old and _differences(dest, {**old, "source": settings["source"]}, settings):
            for name in FILES:
                (dest / name).unlink(missing_ok=True)
        return _prepare(dest, request, settings, workers, progress)


@dataclass(frozen=True)
class _Request:
    """What is asked of :func:`prepare`."""

    source: Path
    size: int
    limit: int | None = None
    labels: str | os.PathLike[str] | None = None
    soft: bool = True
    aligned: bool | None = None

    def settings(self) -> dict[str, Any]:
        """What decides a store's content, as it is recorded; the files are stamped later.

        ``alignment`` is None where it is left to the source. Of the places of the source and of
        files outside it only the names are told: a store may be given to others.
        """
        return {
            "format": FORMAT,
            "size": self.size,
            "limit": self.limit,
            "source": self.source.resolve().name,
            "alignment": {None: None, True: "template", False: "detected"}[self.aligned],
            "files": self.files(),
        }

    def files(self) -> dict[str, Path]:
        """The files that the source is read from, by their names inside it."""
        root = self.source.resolve()
        found = {}
        for path in source_files(self.source, self.labels, self.soft):
            place = path.resolve()
            inside = place.is_relative_to(root)
            found[place.relative_to(root).as_posix() if inside else path.name] = path
        return found


def _prepare(
    dest: Path, request: _Request, settings: dict[str, Any], workers: int | None, progress: bool
) -> PreparedStore:
    sweep_temporaries(dest)
    if is_prepared(dest):
        (dest / PROGRESS).unlink(missing_ok=True)
        return PreparedStore(dest)

    data = read_source(request.source, request.labels, request.soft)
    size = request.size
    count = min(request.limit or len(data), len(data))
    log = Progress(dest / PROGRESS)
    if not log.settings:
        require_room(dest, count, size)
        stamped = {name: _stamp(path) for name, path in settings["files"].items()}
        alignment = settings["alignment"] or _alignment_of(data, count)
        log.start({**settings, "files": stamped, "alignment": alignment})
    if not log.rejected_by_block:
        allocate(dest / IMAGES, count, size)

    starts = range(0, count, BLOCK)
    todo = [start for start in starts if start not in log.rejected_by_block]
    if todo:
        align_blocks(data, dest, log.settings, count, todo, log, workers, progress)
    rejected = {row: reason for block in log.rejected_by_block.values() for row, reason in block}

    write_rejected(dest / REJECTED, data.names, rejected)
    if len(rejected) == count:
        # Forgotten, so that a mended source is tried anew.
        log.give_up()
        (dest / IMAGES).unlink()
        first = min(rejected)
        raise FaderError(
            f"{data.root}: none of the {count} images could be used ({shown(data.names[first])}: "
            f"{rejected[first]}); {dest / REJECTED} lists them"
        )
    rows = fill_holes(dest / IMAGES, count, size, rejected, log)
    write_array(dest / LABELS, data.labels[rows])
    write_array(dest / SPLIT, data.split[rows])
    write_array(dest / IDENTITY, data.identity[rows])
    write_text(dest / NAMES, json.dumps([data.names[row] for row in rows]))
    truncate(dest / IMAGES, len(rows), size)
    meta = _describe(data, rows, rejected, log.settings)
    write_text(dest / META, json.dumps(meta, indent=1) + "\n")
    (dest / PROGRESS).unlink()
    return PreparedStore(dest)


def _describe(
    data: AnnotatedImages,
    rows: np.ndarray,
    rejected: dict[int, str],
    settings: dict[str, Any],
) -> dict[str, Any]:
    from fader.faces.align import template

    given = np.isfinite(data.landmarks[rows]).all(axis=(1, 2))
    if settings["alignment"] != "landmarks":
        given[:] = settings["alignment"] == "template"
    return {
        **settings,
        "fader_version": __version__,
        "images": len(rows),
        "rejected": len(rejected),
        "splits": {
            name: int((data.split[rows] == value).sum()) for value, name in enumerate(SPLIT_NAMES)
        },
        "split_from": data.split_from,
        "attributes": list(data.attribute_names),
        "labels": data.label_kind,
        "landmarks": {"given": int(given.sum()), "detected": int((~given).sum())},
        "template": template(settings["size"]).round(4).tolist(),
    }


def _alignment_of(data: AnnotatedImages, count: int) -> str:
    """How the faces are aligned when nobody says it: see :func:`prepare`."""
    if np.isfinite(data.landmarks[:count]).all(axis=(1, 2)).any():
        return "landmarks"
    if not data.celeba:
        return "detected"
    sizes = set()
    for row in np.linspace(0, count - 1, min(count, 32)).astype(int):
        try:
            height, width = data.images.read(data.names[row]).shape[:2]
            sizes.add((width, height))
        except UnreadableImageError:
            continue
    return "template" if sizes == {CELEBA_SIZE} else "detected"


def _settings_of(dest: Path) -> dict[str, Any] | None:
    """The settings a store was made (or begun) with, its files stamped; None when there is none."""
    if is_prepared(dest):
        return read_meta(dest)
    return Progress(dest / PROGRESS).settings or None


def _differences(dest: Path, old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    try:
        # Earlier stores tell the whole place of their source.
        old = {**old, "source": Path(old["source"]).name}
        found = [
            f"{key} {old[key] or 'none'} instead of {new[key] or 'none'}"
            for key in ("format", "size", "limit", "source")
            if old[key] != new[key]
        ]
        if new["alignment"] not in (None, old["alignment"]):
            found.append(f"alignment {old['alignment']} instead of {new['alignment']}")
        for name in sorted({*old["files"], *new["files"]}):
            if name not in old["files"]:
                found.append(f"without {name}")
            elif name not in new["files"]:
                found.append(f"with {name}")
            elif _changed(old["files"][name], new["files"][name]):
                found.append(f"from another {name}")
    except (KeyError, TypeError, AttributeError):
        raise damaged(dest / (META if is_prepared(dest) else PROGRESS)) from None
    return found


def _stamp(path: Path) -> dict[str, Any]:
    status = path.stat()
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return {
        "bytes": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "sha256": digest.hexdigest(),
    }


def _changed(stamp: dict[str, Any], path: Path) -> bool:
    status = path.stat()
    if status.st_size != stamp["bytes"]:
        return True
    # A copy has another time and the same content.
    return status.st_mtime_ns != stamp["mtime_ns"] and _stamp(path)["sha256"] != stamp["sha256"]


def _refuse_strangers(dest: Path, mend: str) -> None:
    """Raise :class:`FaderError` unless ``dest`` is absent, empty, or a store that we began."""
    if not dest.is_dir() or is_prepared(dest) or is_unfinished(dest):
        return
    for path in sorted(dest.iterdir()):
        # What a kill leaves that comes before the first file of ours.
        begun = path.name == _LOCK or path.name.startswith(".tmp-")
        if not begun or path.is_symlink() or (path.name == _LOCK and path.stat().st_size):
            raise FaderError(f"{dest}: holds other files ({path.name}); {mend}")


def _locked(dest: Path, wait: bool) -> AbstractContextManager[None]:
    """Hold ``dest`` (made if absent) for this process alone."""
    if dest.exists() and not dest.is_dir():
        raise FaderError(f"{dest}: is a file; give a folder for the prepared store")
    held = f"{dest}: another process is preparing it; wait until that one is done"
    return file_lock(dest / _LOCK, held, wait)
