"""A folder of photos with a CSV of labels.

The CSV's first column is the photo's path inside the folder; the others are CelebA attribute
names in any case, with -1/1, 0/1 or probabilities 0..1, and optionally ``split``
(train/valid/test or 0/1/2) and ``identity`` (any text; blank where unknown)::

    file,smiling,eyeglasses,split
    anna/1.jpg,1,0,train
    ben.png,0,0.8,valid
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fader.data.annotations import (
    TEST,
    TRAIN,
    VALID,
    AnnotatedImages,
    Table,
    checked_rows,
    hashed_split,
    read_attribute_names,
    read_labels,
    read_rows,
    shown,
)
from fader.data.images import FolderImages
from fader.errors import FaderError

_SPLITS = {
    "0": TRAIN,
    "train": TRAIN,
    "1": VALID,
    "valid": VALID,
    "val": VALID,
    "validation": VALID,
    "2": TEST,
    "test": TEST,
}


def find_labels(root: Path) -> Path | None:
    """``labels.csv`` in ``root``, or the only CSV there; None when there is none.

    Raises :class:`FaderError` when there are several and none is called ``labels.csv``.
    """
    if (root / "labels.csv").is_file():
        return root / "labels.csv"
    tables = sorted(path for path in root.glob("*.csv") if path.is_file())
    if len(tables) > 1:
        raise FaderError(
            f"{root}: has several CSV files ({', '.join(path.name for path in tables)}); "
            "say which holds the labels with --labels"
        )
    return tables[0] if tables else None


def read_folder(root: Path, labels: Path) -> AnnotatedImages:
    """Read the CSV ``labels`` over the photos in ``root``; no photo is opened yet.

    Raises :class:`FaderError` naming file, line and mend for anything malformed.
    """
    root, path = Path(root), Path(labels)
    columns, rows = read_rows(path)
    if not columns:
        raise FaderError(f"{path}: the labels must be a .csv file with a header line")
    kept = list(checked_rows(path, rows, len(columns)))
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
    values = _numbers(path, [by_column[name] for name in label_columns], label_columns, lines)
    values, kind = read_labels(Table(path, attributes, names, values, lines))

    identity = _identities(
        by_column[extra["identity"]] if "identity" in extra else [""] * len(kept)
    )
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


def _numbers(
    path: Path, cells: list[tuple[str, ...]], columns: list[str], lines: np.ndarray
) -> np.ndarray:
    """(N, n) float64 of the columns' cells."""
    values = np.empty((len(lines), len(columns)))
    for index, column in enumerate(columns):
        for row, cell in enumerate(cells[index]):
            try:
                values[row, index] = float(cell)
            except ValueError:
                raise FaderError(
                    f"{path}, line {lines[row]}: {shown(cell)!r} for {column} is not a number"
                ) from None
    return values


def _splits(path: Path, cells: tuple[str, ...], lines: np.ndarray) -> np.ndarray:
    """(N,) uint8 of the parts that the cells name."""
    for line, cell in zip(lines, cells, strict=True):
        if cell.casefold() not in _SPLITS:
            raise FaderError(
                f"{path}, line {line}: split {shown(cell)!r} is not train, valid or test"
            )
    return np.array([_SPLITS[cell.casefold()] for cell in cells], dtype=np.uint8)


def _identities(cells: tuple[str, ...] | list[str]) -> np.ndarray:
    """(N,) int64: each distinct text a number in order of appearance, -1 for a blank."""
    numbers: dict[str, int] = {}
    return np.array(
        [numbers.setdefault(cell, len(numbers)) if cell else -1 for cell in cells], dtype=np.int64
    )
