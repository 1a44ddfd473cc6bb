"""A folder of labelled photos, in either layout: CelebA's, or photos with a CSV of labels.

The CSV's first column is the photo's path inside the folder; the others are CelebA attribute
names in any case, with -1/1, 0/1 or probabilities 0..1, and optionally ``split``
(train/valid/test or 0/1/2) and ``identity`` (any text; blank where unknown)::

    file,smiling,eyeglasses,split
    anna/1.jpg,1,0,train
    ben.png,0,0.8,valid
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fader.data.annotations import TEST, TRAIN, VALID, AnnotatedImages, hashed_split
from fader.data.celeba import find_files, is_celeba, read_celeba
from fader.data.images import FolderImages, is_picture
from fader.data.tables import Table, read_attribute_names, read_labels, read_rows, shown
from fader.errors import FaderError

_SPLITS = {
    **dict.fromkeys(("0", "train"), TRAIN),
    **dict.fromkeys(("1", "valid", "val", "validation"), VALID),
    **dict.fromkeys(("2", "test"), TEST),
}


def read_source(
    source: str | os.PathLike[str], labels: str | os.PathLike[str] | None = None, soft: bool = True
) -> AnnotatedImages:
    """CelebA's layout or a labelled photo folder, told apart by the files in it; with the CSV
    ``labels`` given, the latter. Raises :class:`FaderError` when ``source`` is neither."""
    root = Path(source)
    table = _labels_unless_celeba(root, labels)
    return read_folder(root, table) if table else read_celeba(root, soft)


def source_files(
    source: str | os.PathLike[str], labels: str | os.PathLike[str] | None = None, soft: bool = True
) -> list[Path]:
    """The files :func:`read_source` would read (annotations, image zip), none of them opened."""
    root = Path(source)
    table = _labels_unless_celeba(root, labels)
    return [table] if table else list(find_files(root, soft).values())


def _labels_unless_celeba(root: Path, labels: str | os.PathLike[str] | None) -> Path | None:
    if labels is None and root.is_dir() and is_celeba(root):
        return None
    if not root.is_dir():
        if is_picture(root) and root.exists():
            raise FaderError(
                f"{root}: is a single picture, and no data set; give a folder with CelebA, or with "
                "photos and a labels.csv"
            )
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


def find_labels(root: Path) -> Path | None:
    """``labels.csv`` in ``root``, or the only CSV there, or None; raises :class:`FaderError` when
    there are several and none is called ``labels.csv``."""
    if (root / "labels.csv").is_file():
        return root / "labels.csv"
    found = sorted(path for path in root.glob("*.csv") if path.is_file())
    if len(found) > 1:
        raise FaderError(
            f"{root}: has several CSV files ({', '.join(path.name for path in found)}); "
            "say which holds the labels with --labels"
        )
    return found[0] if found else None


def read_folder(root: Path, labels: Path) -> AnnotatedImages:
    """Read the CSV ``labels`` over the photos in ``root``; no photo is opened yet. Raises
    :class:`FaderError` naming file, line and mend for anything malformed."""
    root, path = Path(root), Path(labels)
    columns, rows = read_rows(path)
    if not columns:
        raise FaderError(f"{path}: the labels must be a .csv file with a header line")
    kept = list(rows)
    if not kept:
        raise FaderError(f"{path}: lists no photos; add a row for each")
    lines = np.array([line for line, _ in kept])
    names = [cells[0].replace("\\", "/") for _, cells in kept]
    by_column = dict(zip(columns, zip(*(cells[1:] for _, cells in kept), strict=True), strict=True))
    if len(by_column) < len(columns):
        raise FaderError(f"{path}, line 1: a column name comes twice; rename or remove one")
    extra = {name.casefold(): name for name in columns if name.casefold() in ("split", "identity")}

    label_columns = [name for name in columns if name not in extra.values()]
    attributes = read_attribute_names(path, label_columns)
    cells = {name: by_column[name] for name in label_columns}
    numbers = _numbers(path, cells, lines)
    table = Table(path, attributes, names, numbers, lines)
    values, kind = read_labels(table)

    known: dict[str, int] = {"": -1}
    people = by_column[extra["identity"]] if "identity" in extra else [""] * len(kept)
    # Beside the blank's, numbers in order of appearance.
    identity = np.array([known.setdefault(who, len(known) - 1) for who in people], np.int64)
    if "split" in extra:
        split, split_from = _splits(path, by_column[extra["split"]], lines), path.name
    else:
        split, split_from = hashed_split(names, identity)
    return AnnotatedImages(
        root=root,
        images=FolderImages(root),
        names=names,
        attribute_names=attributes,
        labels=values,
        label_kind=kind,
        split=split,
        split_from=split_from,
        identity=identity,
        landmarks=np.full((len(names), 5, 2), np.nan, dtype=np.float32),
        files=(path,),
        celeba=False,
    )


def _numbers(path: Path, cells: Mapping[str, Sequence[str]], lines: np.ndarray) -> np.ndarray:
    """(N, n) float64 of the columns' cells."""
    values = np.empty((len(lines), len(cells)))
    for index, column in enumerate(cells):
        for row, cell in enumerate(cells[column]):
            try:
                values[row, index] = float(cell)
            except ValueError:
                raise FaderError(
                    f"{path}, line {lines[row]}: {shown(cell)!r} for {column} is not a number; "
                    "write -1 or 1, 0 or 1, or a probability"
                ) from None
    return values


def _splits(path: Path, cells: Sequence[str], lines: np.ndarray) -> np.ndarray:
    """(N,) uint8 of the parts that the cells name."""
    split = np.empty(len(cells), np.uint8)
    for row, cell in enumerate(cells):
        if cell.casefold() not in _SPLITS:
            raise FaderError(
                f"{path}, line {lines[row]}: split {shown(cell)!r} is not train, valid or test"
            )
        split[row] = _SPLITS[cell.casefold()]
    return split
