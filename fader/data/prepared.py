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
import hashlib
import io
import json
import math
import multiprocessing
import os
import re
import shutil
import signal
import threading
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fader._version import __version__
from fader.attributes import attribute_name
from fader.data.annotations import SPLIT_NAMES, AnnotatedImages, shown
from fader.data.celeba import find_files, is_celeba, read_celeba
from fader.data.folder import find_labels, read_folder
from fader.data.images import FolderImages, ZipImages
from fader.errors import FaderError, NoFaceError, UnknownAttributeError, UnreadableImageError
from fader.files import FULL, atomic_path, file_lock, flush, sweep_temporaries, write_text

FORMAT = 1
#: Images per unit of work: what a kill can lose, for each worker.
BLOCK = 64

IMAGES, META, PROGRESS, REJECTED = "images.npy", "meta.json", "progress.jsonl", "rejected.csv"
_LOCK = ".lock"
_ARRAYS = ("labels.npy", "split.npy", "identity.npy")
_OURS = (META, PROGRESS, IMAGES, *_ARRAYS, "names.json", REJECTED)
# How both files of ours that say what a folder is begin, be they whole or cut short.
_MARK = re.compile(rb'\s*\{\s*"format"\s*:\s*\d+\s*,\s*"si')

#: Width and height of CelebA's own aligned images, whose landmarks are the template's.
CELEBA_SIZE = (178, 218)


# --- reading a store ------------------------------------------------------------------------


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
        self.meta = _read_meta(self.path)
        self.size = int(self.meta["size"])
        self.attribute_names: tuple[str, ...] = tuple(self.meta["attributes"])
        count = int(self.meta["images"])
        self.images = self._array("images", (count, self.size, self.size, 3), np.uint8)
        labels = self._array("labels", (count, len(self.attribute_names)), np.float32)
        self.labels = np.array(labels)
        self.split = np.array(self._array("split", (count,), np.uint8))
        self.identity = np.array(self._array("identity", (count,), np.int64))
        try:
            self.names: list[str] = json.loads((self.path / "names.json").read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            raise _damaged(self.path / "names.json") from None
        if not isinstance(self.names, list) or len(self.names) != count:
            raise _damaged(self.path / "names.json")

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
            raise _damaged(path)
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


def _damaged(path: Path) -> FaderError:
    return FaderError(
        f"{path}: missing, cut short or damaged; prepare the source again, into another folder"
    )


def _read_meta(path: Path) -> dict[str, Any]:
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
        raise _damaged(path / META) from None
    if version > FORMAT:
        raise FaderError(
            f"{path}: was written by a newer Fader (format {version}, this one reads {FORMAT}); "
            "update with pip install --upgrade fader"
        )
    return meta


# --- making a store -------------------------------------------------------------------------


def read_source(
    source: str | os.PathLike[str],
    labels: str | os.PathLike[str] | None = None,
    soft: bool = True,
) -> AnnotatedImages:
    """CelebA's layout or a labelled photo folder, told apart by the files in it.

    With ``labels`` given, ``source`` is read as a folder of photos that this CSV describes.
    Raises :class:`FaderError` when ``source`` is neither.
    """
    root = Path(source)
    if labels is None and root.is_dir() and is_celeba(root):
        return read_celeba(root, soft=soft)
    return read_folder(root, _labels_of_folder(root, labels))


def source_files(
    source: str | os.PathLike[str],
    labels: str | os.PathLike[str] | None = None,
    soft: bool = True,
) -> list[Path]:
    """The files :func:`read_source` would read (annotations, image zip), none of them opened."""
    root = Path(source)
    if labels is None and root.is_dir() and is_celeba(root):
        return list(find_files(root, soft).values())
    return [_labels_of_folder(root, labels)]


def _labels_of_folder(root: Path, labels: str | os.PathLike[str] | None) -> Path:
    if not root.is_dir():
        if root.exists():
            raise FaderError(f"{root}: is a file; give the folder that holds it")
        raise FaderError(f"{root}: there is no such folder")
    path = find_labels(root) if labels is None else Path(labels)
    if path is None:
        raise FaderError(
            f"{root}: holds neither CelebA (list_attr_celeba.txt with img_align_celeba.zip or "
            "img_align_celeba/) nor photos with a labels.csv"
        )
    return path


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
            for name in _OURS:
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
    log = _Progress(dest / PROGRESS)
    if not log.settings:
        _require_room(dest, count, size)
        stamped = {name: _stamp(path) for name, path in settings["files"].items()}
        alignment = settings["alignment"] or _alignment_of(data, count)
        log.start({**settings, "files": stamped, "alignment": alignment})
    if not log.rejected_by_block:
        _allocate(dest / IMAGES, count, size)

    starts = range(0, count, BLOCK)
    todo = [start for start in starts if start not in log.rejected_by_block]
    if todo:
        _align_blocks(data, dest, log.settings, count, todo, log, workers, progress)
    rejected = {row: reason for block in log.rejected_by_block.values() for row, reason in block}

    _write_rejected(dest / REJECTED, data.names, rejected)
    if len(rejected) == count:
        # Forgotten, so that a mended source is tried anew.
        log.give_up()
        (dest / IMAGES).unlink()
        first = min(rejected)
        raise FaderError(
            f"{data.root}: none of the {count} images could be used ({shown(data.names[first])}: "
            f"{rejected[first]}); {dest / REJECTED} lists them"
        )
    rows = _fill_holes(dest / IMAGES, count, size, rejected, log)
    _write_array(dest / "labels.npy", data.labels[rows])
    _write_array(dest / "split.npy", data.split[rows])
    _write_array(dest / "identity.npy", data.identity[rows])
    write_text(dest / "names.json", json.dumps([data.names[row] for row in rows]))
    _truncate(dest / IMAGES, len(rows), size)
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
        return _read_meta(dest)
    return _Progress(dest / PROGRESS).settings or None


def _differences(dest: Path, old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    try:
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
        raise _damaged(dest / (META if is_prepared(dest) else PROGRESS)) from None
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


class _Progress:
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
            raise _damaged(path) from None

    def start(self, settings: dict[str, Any]) -> None:
        write_text(self.path, json.dumps(settings) + "\n")
        self.settings = settings

    def give_up(self) -> None:
        """Begin again next time, with whatever settings; the folder stays marked as ours."""
        write_text(self.path, json.dumps({"format": FORMAT, "size": 0, "given_up": True}) + "\n")

    def finish_block(self, start: int, rejected: list[tuple[int, str]]) -> None:
        self._append({"block": start, "rejected": rejected})
        self.rejected_by_block[start] = rejected

    def finish_compaction(self) -> None:
        self._append({"compacted": True})
        self.compacted = True

    def _append(self, entry: dict[str, Any]) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            flush(file.fileno())


# --- the pixels -----------------------------------------------------------------------------


def _header(count: int, size: int) -> bytes:
    """The bytes before the pixels of images.npy; as long for any smaller count."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": "|u1", "fortran_order": False, "shape": (count, size, size, 3)}
    )
    return file.getvalue()


def _bytes_of(count: int, size: int) -> int:
    return len(_header(count, size)) + count * size * size * 3


def _require_room(dest: Path, count: int, size: int) -> None:
    total, free = _bytes_of(count, size), shutil.disk_usage(dest).free
    if free < total:
        raise FaderError(
            f"{dest}: {total / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free on this disk; "
            "give a folder on another one, or a smaller --size or --limit"
        )


def _allocate(path: Path, count: int, size: int) -> None:
    total = _bytes_of(count, size)
    with open(path, "wb") as file:
        file.write(_header(count, size))
        file.flush()
        if hasattr(os, "posix_fallocate"):
            # Writing to a memory map on a disk that has become full would kill the process.
            try:
                os.posix_fallocate(file.fileno(), 0, total)
            except OSError as error:
                if error.errno in FULL:
                    raise FaderError(f"{path}: no room for it ({error.strerror})") from None
        file.truncate(total)


def _map(path: Path, count: int, size: int) -> np.ndarray:
    """All rows of an unfinished images.npy, whatever count its header gives."""
    offset = len(_header(count, size))
    try:
        return np.memmap(path, np.uint8, "r+", offset=offset, shape=(count, size, size, 3))
    except (OSError, ValueError):
        raise _damaged(path) from None


def _fill_holes(
    path: Path, count: int, size: int, rejected: dict[int, str], log: _Progress
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
        images = _map(path, count, size)
        for hole, filler in zip(holes, fillers, strict=True):
            images[hole] = images[filler]
        images.flush()
        log.finish_compaction()
    return rows[:kept]


def _truncate(path: Path, count: int, size: int) -> None:
    header = _header(count, size)
    with open(path, "r+b") as file:
        file.write(header)
        file.truncate(_bytes_of(count, size))
        file.flush()
        flush(file.fileno())


def _write_array(path: Path, values: np.ndarray) -> None:
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.save(file, values, allow_pickle=False)


def _write_rejected(path: Path, names: list[str], rejected: dict[int, str]) -> None:
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "reason"])
        writer.writerows([names[row], rejected[row]] for row in sorted(rejected))


# --- the work -------------------------------------------------------------------------------


class _Aligner:
    """Reads, aligns and stores single images; each worker process has one."""

    def __init__(
        self, images: FolderImages | ZipImages, path: Path, count: int, size: int, alignment: str
    ) -> None:
        self._source = images
        self._size = size
        self._alignment = alignment
        self._target = _map(path, count, size)
        self._detector: Any = None

    def block(self, start: int, names: list[str], landmarks: np.ndarray) -> list[tuple[int, str]]:
        """Store the images of rows ``start``…; the rejected rows with their reasons."""
        rejected = []
        for row, (name, points) in enumerate(zip(names, landmarks, strict=True), start):
            try:
                self._target[row] = self._face(self._source.read(name), points)
            except FaderError as error:
                rejected.append((row, str(error)))
            # Whatever one image brings about must not keep the others from being prepared.
            except Exception as error:
                reason = " ".join(str(error).split()) or type(error).__name__
                rejected.append((row, f"could not be aligned ({reason})"))
        self._target.flush()
        return rejected

    def _face(self, image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        from fader.faces.align import TEMPLATE, align

        if self._alignment == "template":
            height, width = image.shape[:2]
            if (width, height) != CELEBA_SIZE:
                raise FaderError(
                    f"is {width}x{height} pixels, and CelebA's aligned images are 178x218; "
                    "prepare with --detect to look for the faces"
                )
            landmarks = TEMPLATE
        elif self._alignment == "detected" or not np.isfinite(landmarks).all():
            landmarks = self._detect(image)
        else:
            _require_inside(landmarks, image)
        return align(image, landmarks, self._size)

    def _detect(self, image: np.ndarray) -> np.ndarray:
        if self._detector is None:
            from fader.faces.detect import Detector

            self._detector = Detector()
        faces = self._detector(image)
        if not faces:
            raise NoFaceError("no face found")

        def area(face: Any) -> float:
            x0, y0, x1, y1 = face.box
            return float((x1 - x0) * (y1 - y0))

        def distance(face: Any) -> float:
            x0, y0, x1, y1 = face.box
            height, width = image.shape[:2]
            return math.hypot((x0 + x1 - width) / 2, (y0 + y1 - height) / 2)

        largest = max(map(area, faces))
        return min((face for face in faces if area(face) > 0.7 * largest), key=distance).landmarks


def _require_inside(landmarks: np.ndarray, image: np.ndarray) -> None:
    """Raise :class:`FaderError` for landmarks farther away than a face that is half out of view."""
    size = np.array(image.shape[1::-1], dtype=np.float64)
    away = (landmarks < -size) | (landmarks > 2 * size)
    if away.any():
        x, y = landmarks[away.any(axis=1)][0]
        raise FaderError(
            f"its landmark ({x:g}, {y:g}) is far outside its {size[0]:.0f}x{size[1]:.0f} pixels; "
            "mend its row in the list of landmarks"
        )


_aligner: _Aligner


def _start_worker(
    images: FolderImages | ZipImages,
    path: Path,
    count: int,
    size: int,
    alignment: str,
    detect: bool,
) -> None:
    import cv2

    # One process per processor: threads inside them would only get in each other's way.
    cv2.setNumThreads(1)
    if detect:
        import torch

        torch.set_num_threads(1)
    # What Pillow warns of is answered by results, in one sentence each.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    # Ctrl-C is the parent's to handle.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A killed parent cannot stop its workers, and one that goes on would write into a store that
    # a resumed run has finished meanwhile.
    threading.Thread(target=_die_with_parent, daemon=True).start()
    global _aligner
    _aligner = _Aligner(images, path, count, size, alignment)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(start: int, names: list[str], landmarks: np.ndarray) -> list[tuple[int, str]]:
    return _aligner.block(start, names, landmarks)


def _align_blocks(
    data: AnnotatedImages,
    dest: Path,
    settings: dict[str, Any],
    count: int,
    todo: list[int],
    log: _Progress,
    workers: int | None,
    progress: bool,
) -> None:
    from tqdm import tqdm

    alignment = settings["alignment"]
    arguments = (data.images, dest / IMAGES, count, settings["size"], alignment)
    workers = min(workers or _processors(), len(todo))
    tasks = [
        (start, data.names[start:stop], data.landmarks[start:stop])
        for start in todo
        for stop in [min(start + BLOCK, count)]
    ]
    known = all(np.isfinite(landmarks).all() for _, _, landmarks in tasks)
    detect = alignment == "detected" or (alignment == "landmarks" and not known)
    done = count - sum(len(names) for _, names, _ in tasks)
    with tqdm(
        total=count,
        initial=done,
        desc="preparing",
        unit=" images",
        disable=None if progress else True,
    ) as bar:
        if workers == 1:
            aligner = _Aligner(*arguments)
            for start, names, landmarks in tasks:
                log.finish_block(start, aligner.block(start, names, landmarks))
                bar.update(len(names))
            return
        executor = ProcessPoolExecutor(
            workers,
            # Forking a process in which torch already runs threads can deadlock.
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start_worker,
            initargs=(*arguments, detect),
        )
        try:
            futures = {executor.submit(_work, *task): task for task in tasks}
            for future in as_completed(futures):
                start, names, _ = futures[future]
                log.finish_block(start, future.result())
                bar.update(len(names))
        except BrokenProcessPool:
            raise FaderError(
                f"{dest}: a worker process died (out of memory?); run it again with fewer "
                "--workers, what is done is kept"
            ) from None
        finally:
            executor.shutdown(wait=True, cancel_futures=True)


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _locked(dest: Path, wait: bool) -> AbstractContextManager[None]:
    """Hold ``dest`` (made if absent) for this process alone."""
    if dest.exists() and not dest.is_dir():
        raise FaderError(f"{dest}: is a file; give a folder for the prepared store")
    held = f"{dest}: another process is preparing it; wait until that one is done"
    return file_lock(dest / _LOCK, held, wait)
