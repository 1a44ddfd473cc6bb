"""CelebA as it is distributed: the image folder or zip and its annotation files.

Liu et al., "Deep Learning Face Attributes in the Wild", 2015 (arXiv 1411.7766). The files are
found in the folder itself or one level below it, which covers the flat download, Kaggle's copy
(``.csv`` files, images in ``img_align_celeba/img_align_celeba/``) and the original ``Anno/``,
``Eval/``, ``Img/`` folders.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fader.data.annotations import AnnotatedImages, hashed_split
from fader.data.images import FolderImages, ZipImages
from fader.data.tables import Table, read_attribute_names, read_labels, read_table, require
from fader.errors import FaderError

#: Folders of images, or zips of them: as JPEG, and without loss.
IMAGES = ("img_align_celeba", "img_align_celeba_png")
ATTRIBUTES_FILE = "list_attr_celeba"
PARTITION_FILE = "list_eval_partition"
IDENTITY_FILE = "identity_CelebA"
LANDMARKS_FILE = "list_landmarks_align_celeba"
SOFT_FILE = "soft_attributes.csv"


def is_celeba(root: Path) -> bool:
    """Whether ``root`` holds CelebA's attribute list or its images."""
    return bool(_find_table(root, ATTRIBUTES_FILE) or _find_zip(root) or _find_folder(root))


def find_files(root: Path, soft: bool = True) -> dict[str, Path]:
    """The annotation files and the image zip that :func:`read_celeba` would read, by kind."""
    found = {
        ATTRIBUTES_FILE: _find_table(root, ATTRIBUTES_FILE),
        SOFT_FILE: _find(root, SOFT_FILE) if soft else None,
        IDENTITY_FILE: _find_table(root, IDENTITY_FILE),
        PARTITION_FILE: _find_table(root, PARTITION_FILE),
        LANDMARKS_FILE: _find_table(root, LANDMARKS_FILE),
        IMAGES[0]: _find_zip(root),
    }
    if found[ATTRIBUTES_FILE] is None:
        raise FaderError(
            f"{root}: has CelebA's images but not {ATTRIBUTES_FILE}.txt (or .csv); put it there"
        )
    return {kind: path for kind, path in found.items() if path is not None}


def read_celeba(root: Path, soft: bool = True) -> AnnotatedImages:
    """Read a folder in CelebA's layout; no image is opened yet.

    The attribute list and the images must be there; partition, identity and landmarks are used
    when they are. ``soft_attributes.csv`` (image, then probabilities 0..1 under attribute names)
    replaces the hard labels of its columns unless ``soft`` is false. Without a partition the
    split is :func:`hashed_split`. Raises :class:`FaderError` naming the file, the line and the mend
    for anything missing, malformed or at odds with the attribute list.
    """
    root = Path(root)
    files, images = find_files(root, soft), _find_images(root)
    table = read_table(files[ATTRIBUTES_FILE])
    attributes = read_attribute_names(table.path, table.columns)
    labels, kind = read_labels(table)
    names = table.names
    if path := files.get(SOFT_FILE):
        kind = _replace_labels(labels, path, attributes, table)
    identity = _read_identity(files.get(IDENTITY_FILE), names)
    split, split_from = _read_split(files.get(PARTITION_FILE), names, identity)
    return AnnotatedImages(
        root=root,
        images=images,
        names=names,
        attribute_names=attributes,
        labels=labels,
        label_kind=kind,
        split=split,
        split_from=split_from,
        identity=identity,
        landmarks=_read_landmarks(files.get(LANDMARKS_FILE), names),
        files=tuple(files.values()),
        celeba=True,
    )


def _replace_labels(
    labels: np.ndarray, path: Path, attributes: tuple[str, ...], listed: Table
) -> str:
    """Put soft labels in the place of the hard ones; their kind."""
    table = read_table(path)
    columns = read_attribute_names(path, table.columns)
    if added := [name for name in columns if name not in attributes]:
        raise FaderError(f"{path}: has {added[0]}, which {listed.path.name} lacks; remove it")
    values, kind = read_labels(table)
    labels[:, [attributes.index(name) for name in columns]] = values[table.all_rows(listed.names)]
    return kind


def _read_identity(path: Path | None, names: list[str]) -> np.ndarray:
    """(N,) int64, -1 where unknown."""
    if path is None:
        return np.full(len(names), -1, dtype=np.int64)
    table = read_table(path, width=1)
    whole = (table.values == np.rint(table.values)) & (np.abs(table.values) < 2**53)
    require(table, whole, "the whole number of a person")
    return np.nan_to_num(table.values_of(names)[:, 0], nan=-1).astype(np.int64)


def _read_split(
    path: Path | None, names: list[str], identity: np.ndarray
) -> tuple[np.ndarray, str]:
    """The (N,) uint8 split, and what it is from."""
    if path is None:
        return hashed_split(names, identity)
    table = read_table(path, width=1)
    known = np.isin(table.values, range(3))
    require(table, known, "0 (train), 1 (valid) or 2 (test)")
    return table.values[table.all_rows(names), 0].astype(np.uint8), path.name


def _read_landmarks(path: Path | None, names: list[str]) -> np.ndarray:
    """(N, 5, 2) float32 pixels, NaN where unknown."""
    if path is None:
        return np.full((len(names), 5, 2), np.nan, dtype=np.float32)
    values = read_table(path, width=10).values_of(names).reshape(-1, 5, 2)
    # What no image reaches is refused with its image; here it has to fit the type.
    return values.clip(-1e30, 1e30).astype(np.float32)


def _places(root: Path) -> Iterator[Path]:
    yield root
    try:
        # The image folder itself may hold 200,000 files and never an annotation.
        yield from sorted(
            place
            for place in root.iterdir()
            if place.is_dir() and place.name not in IMAGES and not place.name.startswith(".")
        )
    except OSError as error:
        raise FaderError(f"{root}: cannot be read ({error.strerror})") from None


def _find(root: Path, *names: str) -> Path | None:
    files = (place / name for name in names for place in _places(root))
    return next((file for file in files if file.is_file()), None)


def _find_table(root: Path, stem: str) -> Path | None:
    return _find(root, f"{stem}.txt", f"{stem}.csv")


def _find_zip(root: Path) -> Path | None:
    return _find(root, *(f"{name}.zip" for name in IMAGES))


def _find_folder(root: Path) -> Path | None:
    folders = (place / name for place in _places(root) for name in IMAGES)
    folder = next((folder for folder in folders if folder.is_dir()), None)
    nested = folder and folder / folder.name
    return nested if nested and nested.is_dir() else folder


def _find_images(root: Path) -> FolderImages | ZipImages:
    # The zip first: a folder beside it may be a half-finished unpacking.
    if path := _find_zip(root):
        return ZipImages(path, preferred=IMAGES)
    if folder := _find_folder(root):
        return FolderImages(folder)
    name = IMAGES[0]
    raise FaderError(f"{root}: has no {name}.zip and no folder {name}; put one of them there")
