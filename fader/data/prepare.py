"""Making a prepared store (:mod:`fader.data.store`) of labelled photos, whatever comes between."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from fader._version import __version__
from fader.data import store
from fader.data.annotations import SPLIT_NAMES, AnnotatedImages
from fader.data.folder import read_source, source_files
from fader.data.store import PreparedStore, is_prepared
from fader.data.tables import shown
from fader.data.unfinished import CELEBA_SIZE, Pixels, Progress, align_blocks
from fader.errors import FaderError, UnreadableImageError
from fader.files import atomic_path, file_lock, harmless_cell, sweep_temporaries, write_text

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
    cache: bool = False,
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

    A preparation that was interrupted is resumed; one that is finished is opened at once. In a
    ``cache``, which nobody but Fader writes, a store that no longer fits the source is made anew,
    and one that another process (another rank of the same training, say) is making is waited for.

    Raises :class:`FaderError` when the source cannot be read, ``dest`` holds something else or a
    store of other settings, the disk is too small, another process is writing ``dest``, or no image
    at all could be used.
    """
    dest = Path(dest)
    settings = {
        "format": store.FORMAT,
        "size": size,
        "limit": limit,
        "source": Path(source).resolve().name,
        "alignment": {None: None, True: "template", False: "detected"}[aligned],
        "files": _files(Path(source), labels, soft),
    }
    kept = f"move them away, it is where prepared faces of {source} are kept"
    _refuse_strangers(dest, kept if cache else "give a new or an empty folder")
    held = f"{dest}: another process is preparing it; wait until that one is done"
    with file_lock(dest / _LOCK, held, wait=cache):
        _refuse_or_remove_others(dest, settings, cache)
        sweep_temporaries(dest)
        if not is_prepared(dest):
            _prepare(dest, read_source(source, labels, soft), settings, workers, progress)
        (dest / store.PROGRESS).unlink(missing_ok=True)
        return PreparedStore(dest)


def _files(source: Path, labels: str | os.PathLike[str] | None, soft: bool) -> dict[str, Path]:
    """The files that the source is read from, by their places inside it, or else by their names:
    a store may be given to others."""
    root, found = source.resolve(), {}
    for path in source_files(source, labels, soft):
        place = path.resolve()
        inside = place.is_relative_to(root)
        found[place.relative_to(root).as_posix() if inside else path.name] = path
    return found


def _prepare(
    dest: Path, data: AnnotatedImages, settings: dict[str, Any], workers: int | None, progress: bool
) -> None:
    count = min(settings["limit"] or len(data), len(data))
    pixels = Pixels(dest / store.IMAGES, count, settings["size"])
    log = Progress(dest / store.PROGRESS)
    if not log.settings:
        pixels.require_room()
        stamped = {name: _stamp(path) for name, path in settings["files"].items()}
        alignment = settings["alignment"] or _alignment_of(data, count)
        log.start({**settings, "files": stamped, "alignment": alignment})
    if not log.rejected_by_block:
        pixels.allocate()
    align_blocks(data, pixels, log, workers, progress)

    rejected = log.rejected
    write_rejected(dest / store.REJECTED, data.names, rejected)
    if len(rejected) == count:
        # Forgotten, so that a mended source is tried anew.
        log.give_up()
        pixels.path.unlink()
        first = min(rejected)
        which = "its only image could not" if count == 1 else f"none of the {count} images could"
        raise FaderError(
            f"{data.root}: {which} be used ({shown(data.names[first])}: "
            f"{rejected[first]}); {dest / store.REJECTED} lists them"
        )
    rows = pixels.fill_holes(log)
    for name in store.ARRAYS:
        with atomic_path(dest / f"{name}.npy") as temporary, open(temporary, "wb") as file:
            np.save(file, getattr(data, name)[rows], allow_pickle=False)
    write_text(dest / store.NAMES, json.dumps([data.names[row] for row in rows]))
    pixels.truncate(len(rows))
    meta = _describe(data, rows, len(rejected), log.settings)
    write_text(dest / store.META, json.dumps(meta, indent=1) + "\n")


def write_rejected(path: Path, names: list[str], rejected: dict[int, str]) -> None:
    """Write the CSV of rejected images: file name and reason, by row of the source."""
    with (
        atomic_path(path) as temporary,
        # Names of files need not be text.
        open(temporary, "w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["image", "reason"])
        for row in sorted(rejected):
            writer.writerow([harmless_cell(names[row]), harmless_cell(rejected[row])])


def _describe(
    data: AnnotatedImages, rows: np.ndarray, rejected: int, settings: dict[str, Any]
) -> dict[str, Any]:
    from fader.faces.align import template

    given = np.isfinite(data.landmarks[rows]).all(axis=(1, 2))
    if settings["alignment"] != "landmarks":
        given[:] = settings["alignment"] == "template"
    split = np.bincount(data.split[rows], minlength=3).tolist()
    return {
        **settings,
        "fader_version": __version__,
        "images": len(rows),
        "rejected": rejected,
        "splits": dict(zip(SPLIT_NAMES, split, strict=True)),
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
        with suppress(UnreadableImageError):
            sizes.add(data.images.read(data.names[row]).shape[1::-1])
    return "template" if sizes == {CELEBA_SIZE} else "detected"


def _refuse_or_remove_others(dest: Path, settings: dict[str, Any], cache: bool) -> None:
    """Raise :class:`FaderError` for a store of other settings, or remove it from a ``cache``."""
    old = store.read_meta(dest) if is_prepared(dest) else Progress(dest / store.PROGRESS).settings
    if old and cache:
        # The place does not matter: a data folder that was moved takes its cache with it.
        old["source"] = settings["source"]
    if old and (differences := _differences(dest, old, settings)):
        if not cache:
            raise FaderError(
                f"{dest}: was prepared otherwise ({', '.join(differences)}); give another folder"
            )
        for name in store.FILES:
            (dest / name).unlink(missing_ok=True)


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
        raise store.damaged(dest / (store.META if is_prepared(dest) else store.PROGRESS)) from None
    return found


def _stamp(path: Path) -> dict[str, Any]:
    status, digest = path.stat(), hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": digest.hexdigest()}


def _changed(stamp: dict[str, Any], path: Path) -> bool:
    status = path.stat()
    if status.st_size != stamp["bytes"]:
        return True
    # A copy has another time and the same content.
    return status.st_mtime_ns != stamp["mtime_ns"] and _stamp(path)["sha256"] != stamp["sha256"]


def _refuse_strangers(dest: Path, mend: str) -> None:
    """Raise :class:`FaderError` unless ``dest`` is absent, empty, or a store that we began."""
    if dest.exists() and not dest.is_dir():
        raise FaderError(f"{dest}: is a file; give a folder for the prepared store")
    if not dest.is_dir() or is_prepared(dest) or store.is_unfinished(dest):
        return
    for path in sorted(dest.iterdir()):
        # What a kill leaves that comes before the first file of ours.
        begun = path.name == _LOCK or path.name.startswith(".tmp-")
        if not begun or path.is_symlink() or (path.name == _LOCK and path.stat().st_size):
            raise FaderError(f"{dest}: holds other files ({path.name}); {mend}")
