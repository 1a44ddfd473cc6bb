"""What every source of labelled faces boils down to, and the tables it is read from.

:class:`AnnotatedImages` is the one value that :mod:`fader.data.celeba` and
:mod:`fader.data.folder` produce and :func:`fader.data.prepared.prepare` consumes.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import zipfile
import zlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from fader.attributes import attribute_name
from fader.errors import FaderError, UnknownAttributeError, UnreadableImageError
from fader.photo import open_photo

TRAIN, VALID, TEST = 0, 1, 2
SPLIT_NAMES = ("train", "valid", "test")


@dataclass(frozen=True)
class AnnotatedImages:
    """Images and what is known about each of them, before any face is looked for.

    Row ``i`` of every array belongs to ``names[i]``. ``labels`` is (N, n) float32 in 0..1 in the
    order of ``attribute_names``; ``split`` is (N,) uint8 (0 train, 1 valid, 2 test); ``identity``
    is (N,) int64, -1 where unknown; ``landmarks`` is (N, 5, 2) float32 (x, y) pixels, NaN where
    unknown. ``files`` are the annotation files (and the zip) all this came from.
    """

    root: Path
    images: FolderImages | ZipImages
    names: list[str]
    attribute_names: tuple[str, ...]
    labels: np.ndarray
    label_kind: str
    split: np.ndarray
    split_from: str
    identity: np.ndarray
    landmarks: np.ndarray
    files: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.names)


# --- images ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class FolderImages:
    """Images by their path relative to ``folder``."""

    folder: Path

    def read(self, name: str) -> np.ndarray:
        """The upright image, (H, W, 3) uint8 RGB; raises :class:`UnreadableImageError`."""
        try:
            data = (self.folder / name).read_bytes()
        except FileNotFoundError:
            raise UnreadableImageError("missing") from None
        except (OSError, ValueError) as error:
            raise UnreadableImageError(f"unreadable: {error}") from None
        return _decode(data)


class ZipImages:
    """Images read straight from a zip, by file name whatever folder they are in inside it.

    Can be sent to other processes: each opens the zip for itself, because a file position shared
    between processes would mix up their reads.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._owner = 0
        self._open()

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "_owner": 0}

    def _open(self) -> None:
        try:
            self._zip = zipfile.ZipFile(self.path)
        except (zipfile.BadZipFile, OSError) as error:
            raise FaderError(
                f"{self.path}: not a whole zip file ({error}); fetch it again"
            ) from None
        self._members = {
            PurePosixPath(info.filename).name: info
            for info in self._zip.infolist()
            if not info.is_dir()
        }
        self._owner = os.getpid()

    def read(self, name: str) -> np.ndarray:
        """The upright image, (H, W, 3) uint8 RGB; raises :class:`UnreadableImageError`."""
        if self._owner != os.getpid():
            self._open()
        try:
            data = self._zip.read(self._members[name])
        except KeyError:
            raise UnreadableImageError("missing") from None
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError) as error:
            raise UnreadableImageError(f"broken in the zip: {error}") from None
        return _decode(data)


def _decode(data: bytes) -> np.ndarray:
    try:
        return open_photo(data).pixels
    except UnreadableImageError as error:
        reason = str(error).removeprefix("the image: ").removeprefix("broken or cut short ")
        raise UnreadableImageError(f"broken: {reason}") from None


# --- tables ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """A file of numbers, one row per image: ``values`` is (N, len(columns)) float64."""

    path: Path
    columns: tuple[str, ...]
    names: list[str]
    values: np.ndarray
    lines: np.ndarray

    def rows_of(self, names: Sequence[str]) -> np.ndarray:
        """(N,) int64: the row of each name, -1 where the table has none."""
        if names == self.names:
            return np.arange(len(names))
        row = {name: index for index, name in enumerate(self.names)}
        return np.array([row.get(name, -1) for name in names], dtype=np.int64)

    def required_rows_of(self, names: Sequence[str]) -> np.ndarray:
        """As :meth:`rows_of`, but raises :class:`FaderError` naming the first absent image."""
        rows = self.rows_of(names)
        missing = np.flatnonzero(rows < 0)
        if len(missing):
            raise FaderError(
                f"{self.path}: has no row for {names[missing[0]]}"
                + (f" and {len(missing) - 1} other images" if len(missing) > 1 else "")
                + "; it does not belong to this list of attributes, or is cut short"
            )
        return rows


def read_rows(path: Path) -> tuple[tuple[str, ...], Iterator[tuple[int, list[str]]]]:
    """A table's column names (without the first, the image) and its rows with line numbers.

    Reads CelebA's three ways of writing a table: ``.csv`` with a header line; text whose first
    two lines are the number of rows and the column names; text with rows only (no names).
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise FaderError(f"{path}: is not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise FaderError(f"{path}: cannot be read ({error.strerror})") from None
    if path.suffix.lower() == ".csv":
        reader = csv.reader(io.StringIO(text))
        header = [cell.strip() for cell in next(reader, [])]
        if len(header) < 2:
            raise FaderError(
                f"{path}, line 1: needs an image column and at least one more, separated by commas"
            )
        cells = ((reader.line_num, [cell.strip() for cell in row]) for row in reader if row)
        return tuple(header[1:]), _csv_errors(path, cells)
    lines = text.splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    if lines and len(lines[0].split()) == 1 and lines[0].strip().isdigit():
        count, rows = int(lines[0]), len(lines) - 2
        if count != max(rows, 0):
            raise FaderError(
                f"{path}, line 1: promises {count} images but {max(rows, 0)} rows follow; "
                "fetch the file again or correct the count"
            )
        columns = tuple(lines[1].split()) if count else ()
        return columns, ((n, lines[n - 1].split()) for n in range(3, len(lines) + 1))
    return (), ((n, line.split()) for n, line in enumerate(lines, 1))


def _csv_errors(
    path: Path, rows: Iterator[tuple[int, list[str]]]
) -> Iterator[tuple[int, list[str]]]:
    try:
        yield from rows
    except csv.Error as error:
        raise FaderError(f"{path}: is not a proper CSV file ({error})") from None


def checked_rows(
    path: Path, rows: Iterator[tuple[int, list[str]]], width: int
) -> Iterator[tuple[int, list[str]]]:
    """The same rows; raises :class:`FaderError` at one of another width or with a known name."""
    seen: set[str] = set()
    for line, cells in rows:
        if len(cells) != width + 1 or not cells[0]:
            raise FaderError(
                f"{path}, line {line}: expected an image name and {width} values, found "
                f"{len(cells)} fields; mend the line or fetch the file again"
            )
        if cells[0] in seen:
            raise FaderError(f"{path}, line {line}: {cells[0]} is listed twice; remove one row")
        seen.add(cells[0])
        yield line, cells


def read_table(path: Path, width: int | None = None) -> Table:
    """A table of numbers; ``width`` is the number of values where the file names no columns.

    Raises :class:`FaderError` naming file and line for a malformed row, a value that is not a
    finite number, an image listed twice, a wrong count, or no rows at all.
    """
    columns, rows = read_rows(path)
    if width is not None and columns and len(columns) != width:
        raise FaderError(f"{path}: expected {width} columns beside the image, found {len(columns)}")
    width = len(columns) or width or 1
    names: list[str] = []
    lines, values = array("q"), array("d")
    for line, cells in checked_rows(path, rows, width):
        try:
            values.extend(map(float, cells[1:]))
        except ValueError:
            raise FaderError(
                f"{path}, line {line}: {_first_non_number(cells[1:])!r} is not a number"
            ) from None
        names.append(cells[0])
        lines.append(line)
    if not names:
        raise FaderError(f"{path}: lists no images; fetch the file again")
    table = Table(
        path, columns, names, np.array(values).reshape(len(names), width), np.array(lines)
    )
    require(table, np.isfinite(table.values), "a finite number")
    return table


def _first_non_number(cells: Sequence[str]) -> str:
    for cell in cells:
        try:
            float(cell)
        except ValueError:
            return cell
    raise AssertionError("every cell is a number")


def require(table: Table, valid: np.ndarray, what: str) -> None:
    """Raise :class:`FaderError` naming the first line whose value is not ``what``."""
    bad = np.argwhere(~valid)
    if len(bad):
        row, column = bad[0]
        where = f" for {table.columns[column]}" if table.columns else ""
        raise FaderError(
            f"{table.path}, line {table.lines[row]}: {table.values[row, column]:g}{where} is not "
            f"{what}; mend the value or fetch the file again"
        )


def read_labels(table: Table) -> tuple[np.ndarray, str]:
    """(N, n) float32 labels in 0..1, and their kind: ``"hard"`` (all 0 or 1) or ``"soft"``.

    A table with a -1 in it is taken for -1/1; any other for 0..1.
    """
    values = table.values
    if (values == -1).any():
        require(table, np.abs(values) == 1, "-1 or 1 (the file has labels of -1)")
        return (values > 0).astype(np.float32), "hard"
    require(table, (values >= 0) & (values <= 1), "a label: -1 or 1, or a probability from 0 to 1")
    hard = bool(((values == 0) | (values == 1)).all())
    return values.astype(np.float32), "hard" if hard else "soft"


def read_attribute_names(path: Path, columns: Sequence[str]) -> tuple[str, ...]:
    """Exact attribute names for a table's columns, written in any case.

    Raises :class:`UnknownAttributeError` for a column that is none of the forty, and
    :class:`FaderError` for one that comes twice.
    """
    names: list[str] = []
    for column in columns:
        try:
            name = attribute_name(column)
        except UnknownAttributeError as error:
            raise UnknownAttributeError(f"{path}: {error}") from None
        if name in names:
            raise FaderError(f"{path}: the column {name} comes twice; remove one")
        names.append(name)
    if not names:
        raise FaderError(f"{path}: names no attributes; its header must list them")
    return tuple(names)


# --- splits ---------------------------------------------------------------------------------


def split_by_hash(names: Sequence[str], identity: np.ndarray) -> np.ndarray:
    """(N,) uint8 split of 90 % train, 5 % valid and 5 % test, the same on every machine.

    People (or, where nobody is known, single images) are put in the order of a hash and cut, so
    that no person is in two parts. From three people on no part is empty.
    """
    keys = [
        f"id {who}" if who >= 0 else f"image {name}"
        for name, who in zip(names, identity.tolist(), strict=True)
    ]
    ranked = sorted(set(keys), key=lambda key: hashlib.sha256(key.encode()).digest())
    held_out = max(1, round(0.05 * len(ranked))) if len(ranked) >= 3 else 0
    part = dict.fromkeys(ranked, TRAIN)
    part.update(dict.fromkeys(ranked[:held_out], TEST))
    part.update(dict.fromkeys(ranked[held_out : 2 * held_out], VALID))
    return np.array([part[key] for key in keys], dtype=np.uint8)
