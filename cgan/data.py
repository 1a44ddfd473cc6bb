"""Images to learn from: CelebA's layout with attributes, class folders, or any folder of images.

A folder or a zip, which is read in place. Folders named like ``train`` and ``validation`` at the
top are a split; below them (or at the top, where there are none) folders may be classes::

    emotions.zip/train/happy/0001.jpg
    emotions.zip/validation/happy/0007.jpg
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from fader.attributes import attribute_name
from fader.data.annotations import TEST, TRAIN, VALID
from fader.data.celeba import ATTRIBUTES_FILE, find_files, is_celeba
from fader.data.folder import find_labels
from fader.data.images import FolderImages, ZipImages, is_picture
from fader.data.source import open_data
from fader.data.store import PreparedStore, is_prepared, is_store
from fader.errors import FaderError, UnreadableImageError
from fader.photo import open_reduced
from fader.urls import path_or_url
from fader.words import plural

#: Fewer images than this are no set to learn from.
FEWEST = 10

_SPLITS = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("valid", "validation", "val"), VALID),
    **dict.fromkeys(("test", "testing"), TEST),
}
# Where nothing is brighter than this, of 255, there is nothing to learn from.
_BLACK = 20
_GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one size with what is known of them; row i of every array belongs to names[i].

    ``images`` (N, S, S, C) uint8, an array or something that is indexed like one; ``labels``
    (N, k) float32 in 0..1: attribute values, one-hot classes, or k = 0; ``label_kind`` is
    ``attributes``, ``classes`` or ``none``; ``split`` (N,) uint8, 0 train, 1 valid, 2 test (all 0
    where the source knows none). ``rejected``: files that could not be used, with reasons;
    ``notes``: what may be wrong with the others; ``aligned``: they are faces in
    :mod:`fader.faces`' geometry, not any pictures' middle squares.
    """

    images: Any
    labels: np.ndarray
    label_names: tuple[str, ...]
    label_kind: str
    split: np.ndarray
    names: Sequence[str]
    rejected: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    aligned: bool = False

    def __len__(self) -> int:
        return len(self.split)

    @property
    def size(self) -> int:
        """Pixels along a side."""
        return self.images.shape[1]

    @property
    def channels(self) -> int:
        """3 for RGB, 1 for grey."""
        return self.images.shape[3]

    def indices(self, split: int) -> np.ndarray:
        """(M,) int64 rows of one split (0 train, 1 valid, 2 test), ascending."""
        return np.flatnonzero(self.split == split)

    @property
    def class_numbers(self) -> np.ndarray:
        """(N,) int64: each image's class, of a set with classes."""
        return self.labels.argmax(axis=1)

    def only(self, label: str) -> ImageSet:
        """The images of one class, or those that have one attribute, without labels. Raises
        :class:`FaderError` when there are fewer than ten of them."""
        column = self.label_names.index(label_name(label, self.label_names))
        rows: np.ndarray = np.flatnonzero(self.labels[:, column] > 0.5)
        if len(rows) < FEWEST:
            raise FaderError(
                f"only {plural(len(rows), 'image is', 'images are')} {self.label_names[column]}; "
                f"at least {FEWEST} are needed"
            )
        return replace(
            self,
            images=_Rows(self.images, rows),
            labels=np.zeros((len(rows), 0), np.float32),
            label_names=(),
            label_kind="none",
            split=self.split[rows],
            names=[self.names[row] for row in rows],
        )


def open_images(
    path: str | os.PathLike[str],
    size: int,
    channels: int = 3,
    labels: str | Sequence[str] = "none",
    progress: bool = True,
) -> ImageSet:
    """The images at ``path`` as squares of ``size`` pixels with 3 channels (RGB) or 1 (grey).

    ``labels`` is ``none``; ``folder``, for classes named by folders; or names of attributes, for
    a prepared store, CelebA's layout or a folder with a CSV (see :func:`open_data`), whose faces
    are aligned. Other images are made upright, cut to their middle square and resized. Files that
    are no images are in ``rejected``.

    Raises :class:`FaderError` when there is nothing usable, fewer than ten images, or a label
    that no image has (or that all have).
    """
    path = path_or_url(path)
    if isinstance(path, Path) and path.is_file():
        _refuse_unless_zip(path)
    if not isinstance(labels, str):
        return _with_attributes(path, size, channels, labels, progress)
    if labels not in ("none", "folder"):
        raise FaderError(f"labels={labels!r}: must be none, folder, or a list of attribute names")
    if isinstance(path, Path) and not path.exists():
        raise FaderError(f"{path}: there is no such folder or zip")
    if labels == "none" and _is_annotated(path):
        store = open_data(path, size, progress)
        return _of_store(store, channels, np.zeros((len(store), 0), np.float32), ())
    if isinstance(path, str) or is_prepared(path):
        raise FaderError(
            f"{path}: is a prepared store, which has no class folders; name attributes"
        )
    if labels == "folder" and _is_annotated(path):
        raise FaderError(
            f"{path}: is in CelebA's layout, which has no class folders; name attributes"
        )
    return _read_folder(path, size, channels, labels == "folder", progress)


def _refuse_unless_zip(path: Path) -> None:
    # What is called a zip and is none was damaged on its way, which its reader says.
    if path.suffix.lower() == ".zip" or zipfile.is_zipfile(path):
        return
    what = "a single picture, and no data set" if is_picture(path) else "neither a folder nor a zip"
    raise FaderError(f"{path}: is {what}; give a folder or a zip of images")


def _is_annotated(path: Path | str) -> bool:
    if isinstance(path, str) or is_store(path):
        return True
    # Images in CelebA's folder without the annotations are a folder like any other.
    try:
        return path.is_dir() and is_celeba(path) and ATTRIBUTES_FILE in find_files(path)
    except FaderError:
        return False


def _with_attributes(
    path: Path | str, size: int, channels: int, labels: Sequence[str], progress: bool
) -> ImageSet:
    names = tuple(attribute_name(name) for name in labels)
    if isinstance(path, Path) and _lacks_labels(path):
        raise FaderError(
            f"{path}: says nothing of {', '.join(names)}: it has no {ATTRIBUTES_FILE}.txt and no "
            "labels.csv; for classes from folders' names use --labels folder"
        )
    store = open_data(path, size, progress)
    values = store.select_labels(names)
    for name, column in zip(names, values.T, strict=True):
        positive = column > 0.5
        if not positive.any() or positive.all():
            which = "every" if positive.any() else "no"
            raise FaderError(f"{path}: {which} image has {name}, so it cannot be learned")
    return _of_store(store, channels, values, names)


def _lacks_labels(path: Path) -> bool:
    is_folder = path.is_dir() and any(path.iterdir())
    return path.is_file() or (is_folder and not _is_annotated(path) and not find_labels(path))


def _of_store(
    store: PreparedStore, channels: int, labels: np.ndarray, names: tuple[str, ...]
) -> ImageSet:
    if len(store) < FEWEST:
        raise _too_few(store.path, len(store), ())
    return ImageSet(
        images=store.images if channels == 3 else Grey(store.images),
        labels=labels,
        label_names=names,
        label_kind="attributes" if names else "none",
        split=store.split,
        names=store.names,
        rejected=tuple(store.rejected),
        aligned=True,
    )


class Grey:
    """(N, S, S, 3) images seen as (N, S, S, 1), turned grey when they are taken."""

    def __init__(self, images: Any) -> None:
        self.images = images
        self.shape = (*images.shape[:3], 1)
        self.ahead = getattr(images, "ahead", 1)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: Any) -> np.ndarray:
        return (self.images[rows] @ _GREY).round().astype(np.uint8)[..., None]


class _Rows:
    """Some rows of images, taken when they are asked for."""

    def __init__(self, images: Any, rows: np.ndarray) -> None:
        self.images, self.rows = images, rows
        self.shape = (len(rows), *images.shape[1:])
        self.ahead = getattr(images, "ahead", 1)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Any) -> np.ndarray:
        return self.images[self.rows[rows]]


def _read_folder(path: Path, size: int, channels: int, classes: bool, progress: bool) -> ImageSet:
    source = FolderImages(path) if path.is_dir() else ZipImages(path)
    files = source.names()
    places = _places(files, classes)
    split = np.zeros(len(files), np.uint8)
    tops = {p[0].casefold() for p in places if p}
    if any(_SPLITS.get(top) == TRAIN for top in tops):
        split[:] = [_SPLITS.get(p[0].casefold(), TRAIN) if p else TRAIN for p in places]
        places = [p[1:] if p and p[0].casefold() in _SPLITS else p for p in places]

    rejected: dict[int, str] = {}
    label_names: tuple[str, ...] = ()
    if classes:
        label_names = tuple(sorted({p[0] for p in places if p}))
        if not label_names:
            raise FaderError(
                f"{path}: has no folders of images to name classes, such as happy/ and sad/; "
                "use --labels none to learn without"
            )
        rejected = {i: "in no class folder" for i, p in enumerate(places) if not p}
    images = _read_squares(path, source, files, size, channels, rejected, progress)
    kept = np.array([i for i in range(len(files)) if i not in rejected], dtype=np.int64)
    bad = tuple(
        # Bytes of a name that are no text are written out.
        (files[i].encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"), reason)
        for i, reason in sorted(rejected.items())
    )
    if len(kept) < FEWEST:
        raise _too_few(path, len(kept), bad)
    labels = np.zeros((len(kept), len(label_names)), np.float32)
    if classes:
        labels[np.arange(len(kept)), [label_names.index(places[i][0]) for i in kept]] = 1
    for name, column in zip(label_names, labels.T, strict=True):
        if not column.any():
            raise FaderError(f"{path}: no image in {name} could be read, so it cannot be learned")
    if not (split[kept] == TRAIN).any():
        raise FaderError(f"{path}: has no readable images in its training folder")
    black = int((images.max(axis=(1, 2, 3))[kept] <= _BLACK).sum())
    were = "is black or almost so; was it" if black == 1 else "are black or almost so; were they"
    files_have = "its file has" if black == 1 else "their files have"
    note = f"{black} of {len(kept)} images {were} saved with fewer bits than {files_have}?"
    return ImageSet(
        images=images if len(kept) == len(files) else images[kept],
        labels=labels,
        label_names=label_names,
        label_kind="classes" if classes else "none",
        split=split[kept],
        names=[files[i] for i in kept],
        rejected=bad,
        notes=(note,) if black else (),
    )


def _read_squares(
    path: Path,
    source: FolderImages | ZipImages,
    files: Sequence[str],
    size: int,
    channels: int,
    rejected: dict[int, str],
    progress: bool,
) -> np.ndarray:
    """The files as (N, size, size, channels) uint8. Rows in ``rejected`` are not read, and those
    that cannot be are added to it, with the reason."""
    try:
        images = np.zeros((len(files), size, size, channels), np.uint8)
    except MemoryError:
        needed = len(files) * size * size * channels / 1e9
        raise FaderError(
            f"{path}: its {len(files)} images need {needed:.0f} GB of memory at this size; give "
            "fewer of them, or a smaller --size"
        ) from None
    quiet = None if progress else True
    # Threads would spend more time on waiting for each other than such small images take.
    for i, name in enumerate(
        tqdm(files, "reading", unit="image", disable=quiet, dynamic_ncols=True)
    ):
        if i in rejected:
            continue
        try:
            images[i] = middle_square(source.data(name), size, channels)
        except UnreadableImageError as error:
            rejected[i] = str(error).removeprefix("the image: ")
        # Whatever one image brings about must not keep the others from being read.
        except Exception as error:
            rejected[i] = f"unreadable ({' '.join(str(error).split()) or type(error).__name__})"
    return images


def _places(files: Sequence[str], classes: bool) -> list[tuple[str, ...]]:
    """The folders each file is in, without those around everything, which say nothing."""
    places = [PurePosixPath(name).parts[:-1] for name in files]
    first, last = min(places, default=()), max(places, default=())
    around = 0
    for one, other in zip(first, last, strict=False):
        if one != other or one in _SPLITS:
            break
        around += 1
    if classes and around and all(len(place) == around for place in places):
        around -= 1  # the last of them is the only class
    return [place[around:] for place in places]


def middle_square(source: Path | bytes, size: int, channels: int) -> np.ndarray:
    """The upright image's middle square, (size, size, channels) uint8; see-through is white.
    Raises :class:`UnreadableImageError`."""
    image = open_reduced(source, 2 * size)
    image = image.convert("L") if channels == 1 else image
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    image = image.resize((size, size), Image.Resampling.LANCZOS, box, reducing_gap=3.0)
    return np.array(image).reshape(size, size, channels)  # a copy: Pillow's own is read-only


def _too_few(path: Path | str, count: int, rejected: Sequence[tuple[str, str]]) -> FaderError:
    unusable = ""
    for name, reason in rejected[:1]:
        unusable = f" ({len(rejected)} more could not be used: {name}: {reason})"
    usable = plural(count, "usable image") if count else "no usable image"
    return FaderError(f"{path}: has {usable}{unusable}; at least {FEWEST} are needed")


def label_name(name: str, known: Sequence[str]) -> str:
    """The exact spelling of a label given in any case; raises :class:`FaderError` with the rest."""
    for candidate in known:
        if candidate.casefold() == name.strip().casefold():
            return candidate
    raise FaderError(f"there is no {name.strip()!r} here; the labels are {', '.join(known)}")
