"""Tables of what is known of images, one row for each, in CelebA's layouts or as CSV."""

from __future__ import annotations

import codecs
import csv
import io
import stat
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

import numpy as np

from fader.attributes import ATTRIBUTES, attribute_name
from fader.data.images import has_image_suffix
from fader.errors import FaderError, UnknownAttributeError
from fader.words import plural

#: A table of labels has at most this many bytes: forty of them for ten million images.
MOST_TABLE_BYTES = 1 << 30
# A longer piece of a table is not repeated in full by what is said of it.
_MOST_SHOWN = 60

#: Line number and cells of a table's row.
Row = tuple[int, list[str]]


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

    def all_rows(self, names: Sequence[str]) -> np.ndarray:
        """As :meth:`rows_of`, but raises :class:`FaderError` naming the first absent image."""
        rows = self.rows_of(names)
        missing = np.flatnonzero(rows < 0)
        if len(missing):
            more = plural(len(missing) - 1, "other image")
            others = f" and {more}" if len(missing) > 1 else ""
            raise FaderError(
                f"{self.path}: has no row for {shown(names[missing[0]])}{others}; "
                "it does not belong to this list of attributes, or is cut short"
            )
        return rows

    def values_of(self, names: Sequence[str]) -> np.ndarray:
        """(N, len(columns)) float64: the values of each name, NaN where the table has none."""
        rows = self.rows_of(names)
        return np.where((rows < 0)[:, None], np.nan, self.values[rows])


def read_rows(path: Path, width: int | None = None) -> tuple[tuple[str, ...], Iterator[Row]]:
    """A table's column names (without the first, the image; none where the file names none) and its
    rows of an image and ``width`` values, or as many as there are columns.

    Reads CelebA's three ways of writing a table, told apart by what the file holds: commas and a
    header line; a first line with the number of rows and a second with the column names; rows
    only. In a ``.csv`` or ``.tsv`` there may be semicolons, as spreadsheets write them where the
    comma is a decimal mark, or tabs in place of commas. Raises :class:`FaderError` naming file
    and line for a wrong count, and while the rows are taken for one that is malformed or of a
    known image.
    """
    columns, rows = _columns_and_rows(path)
    if width is not None and columns and len(columns) != width:
        expected = plural(width, "column")
        raise FaderError(f"{path}: expected {expected} beside the image, found {len(columns)}")
    return columns, _checked(path, rows, len(columns) or width or 1)


def _columns_and_rows(path: Path) -> tuple[tuple[str, ...], Iterable[Row]]:
    text = _read_text(path)
    first = text.partition("\n")[0].strip()
    counted = first.isascii() and first.isdigit()
    separator = _separator(first, path.suffix.lower())
    if separator and not counted:
        cells = _csv_cells(path, text, separator)
        _, header = next(cells, (1, []))
        if len(header) < 2:
            raise FaderError(
                f"{path}, line 1: needs an image column and at least one more, separated by commas"
            )
        return tuple(header[1:]), _without_index(path, header, cells)
    lines = text.rstrip().splitlines()
    numbered = ((number, line.split()) for number, line in enumerate(lines, 1))
    if not (lines and counted):
        return (), numbered
    rows = max(len(lines) - 2, 0)
    # As text: Python refuses to read numbers of thousands of digits.
    if (first.lstrip("0") or "0") != str(rows):
        raise FaderError(
            f"{path}, line 1: promises {shown(first)} image{'' if first == '1' else 's'} but "
            f"{plural(rows, 'row follows', 'rows follow')}; fetch the file again or correct the "
            "count"
        )
    return tuple(lines[1].split()) if rows else (), islice(numbered, 2, None)


def _separator(first: str, suffix: str) -> str:
    """What separates the cells of a table's first line; empty where they have spaces between."""
    marks = ",;\t" if suffix in (".csv", ".tsv") else ","
    return next((mark for mark in marks if mark in first), "," if suffix == ".csv" else "")


def _read_text(path: Path) -> str:
    try:
        # Pipes and devices have no end, or none before somebody writes to them.
        if not stat.S_ISREG(path.stat().st_mode):
            raise FaderError(f"{path}: no regular file, so it cannot be read as a table")
        if (size := path.stat().st_size) > MOST_TABLE_BYTES:
            raise FaderError(f"{path}: is {size / 1e9:.1f} GB large, and no table of labels is")
        with path.open("rb") as file:
            # Spreadsheets write their "Unicode text" so, and say it with a byte order mark.
            wide = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        return path.read_text(encoding="utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError:
        raise FaderError(f"{path}: is not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise FaderError(f"{path}: cannot be read ({error.strerror})") from None


def shown(text: str) -> str:
    """``text`` as a sentence about it may repeat it."""
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


def _csv_cells(path: Path, text: str, separator: str) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text), delimiter=separator)
    try:
        for row in reader:
            yield reader.line_num, [cell.strip() for cell in row]
    except csv.Error as error:
        raise FaderError(f"{path}: is not a proper CSV file ({error})") from None


def _without_index(path: Path, header: Sequence[str], rows: Iterable[Row]) -> Iterator[Row]:
    """The rows that are not empty; raises :class:`FaderError` if their first column is an index."""
    for number, (line, cells) in enumerate(row for row in rows if row[1]):
        if number == 0 and _is_index(header, cells):
            raise FaderError(
                f"{path}: its first column only counts the rows, as pandas' index does, and "
                "the images' names must come first; remove it, or write the file with "
                "to_csv(…, index=False)"
            )
        yield line, cells


def _is_index(header: Sequence[str], cells: Sequence[str]) -> bool:
    """Whether the first column counts rows, of which these are the first one's cells."""
    if len(cells) < 2 or not cells[0].isdecimal():
        return False
    nameless = not header[0] or header[0].startswith("Unnamed:")
    return has_image_suffix(cells[1]) or (nameless and not _is_number(cells[1]))


def _checked(path: Path, rows: Iterable[Row], width: int) -> Iterator[Row]:
    seen: set[str] = set()
    for line, cells in rows:
        if len(cells) != width + 1 or not cells[0]:
            raise FaderError(
                f"{path}, line {line}: expected an image name and {plural(width, 'value')}, found "
                f"{plural(len(cells), 'field')}; mend the line or fetch the file again"
            )
        if cells[0] in seen:
            raise FaderError(
                f"{path}, line {line}: {shown(cells[0])} is listed twice; remove one row"
            )
        seen.add(cells[0])
        yield line, cells


def read_table(path: Path, width: int | None = None) -> Table:
    """A table of numbers, by :func:`read_rows`; also raises :class:`FaderError` for a value that is
    not a finite number, and for no rows at all."""
    columns, rows = read_rows(path, width)
    names: list[str] = []
    lines, values = array("q"), array("d")
    for line, cells in rows:
        try:
            values.extend(map(float, cells[1:]))
        except ValueError:
            wrong = next(cell for cell in cells[1:] if not _is_number(cell))
            raise FaderError(f"{path}, line {line}: {shown(wrong)!r} is not a number") from None
        names.append(cells[0])
        lines.append(line)
    if not names:
        raise FaderError(f"{path}: lists no images; fetch the file again")
    table = Table(path, columns, names, np.reshape(values, (len(names), -1)), np.array(lines))
    require(table, np.isfinite(table.values), "a finite number")
    return table


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


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
    """(N, n) float32 labels in 0..1, and their kind: ``"hard"`` (all 0 or 1) or ``"soft"``; a table
    with a -1 in it is taken for -1/1, any other for 0..1."""
    values = table.values
    if (values == -1).any():
        require(table, np.abs(values) == 1, "-1 or 1 (the file has labels of -1)")
        return (values > 0).astype(np.float32), "hard"
    require(table, (values >= 0) & (values <= 1), "a label: -1 or 1, or a probability from 0 to 1")
    hard = bool(((values == 0) | (values == 1)).all())
    return values.astype(np.float32), "hard" if hard else "soft"


def read_attribute_names(path: Path, columns: Sequence[str]) -> tuple[str, ...]:
    """Exact attribute names for a table's columns, written in any case; raises
    :class:`UnknownAttributeError` for another one, :class:`FaderError` for one that comes twice."""
    names: list[str] = []
    for column in columns:
        try:
            name = attribute_name(column)
        except UnknownAttributeError:
            raise UnknownAttributeError(f"{path}: {_no_attribute(column)}") from None
        if name in names:
            raise FaderError(f"{path}: the column {name} comes twice; remove one")
        names.append(name)
    if not names:
        raise FaderError(f"{path}: names no attributes; its header must list them")
    return tuple(names)


def _no_attribute(column: str) -> str:
    if not column:
        return "one of its columns has no name; remove it"
    by_folded = {name.casefold(): name for name in ATTRIBUTES}
    close = get_close_matches(column.casefold(), by_folded, n=1)
    hint = f"did you mean {by_folded[close[0]]}? If not, " if close else ""
    return f"the column {shown(column)!r} is none of CelebA's attributes; {hint}remove that column"
