"""Rows about photos: kept by input while a run is under way, and written as ``report.csv``."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from fader.errors import FaderError
from fader.files import FORMULA, NUMBERS, harmless_cell

#: The first columns.
COLUMNS = "input", "output", "status", "faces", "detail"

#: The last ones: which folder the input is from, and what its content and the settings were. A row
#: cut short has no key.
SOURCE, KEY = "source", "key"

#: What the columns of an attribute begin with.
ESTIMATED, SET, ACHIEVED = MEASURED = "estimated_", "set_", "achieved_"

Row = dict[str, str]
Rows = list[Row]

#: Who a row is about: the :data:`SOURCE` of an input, and its name.
Who = tuple[str, str]


class KeptRows:
    """What runs before this one did, and this one, by input.

    ``mark`` tells inputs of this run's source from others, whose rows stay as they are, but for
    outputs that were replaced. ``fold`` makes names alike that are one file.
    """

    def __init__(self, mark: str, header: Sequence[str], fold: Callable[[str], str] = str) -> None:
        self.mark, self.fold, self._wanted = mark, fold, header
        self._more: list[str] = []
        self._rows: dict[Who, tuple[Any, bool, Rows]] = {}
        self._claimed: dict[str, set[Who]] = {}

    def found(self, who: Who) -> tuple[Any, bool, Rows]:
        """The place of an input in the order, whether this run knows it, and the rows about it."""
        return self._rows.get(who, (None, False, []))

    def put(self, who: Who, place: Any, fresh: bool, rows: Rows) -> None:
        """Keep what :meth:`found` answers."""
        self._rows[who] = place, fresh, rows

    def claims(self, output: str) -> set[Who]:
        """Whose an output is."""
        return self._claimed.get(self.fold(output), set())

    def claim(self, who: Who, rows: Rows) -> None:
        """Note down that the outputs in ``rows`` are an input's."""
        for row in rows:
            if row["output"]:
                self._claimed.setdefault(self.fold(row["output"]), set()).add(who)

    def kept(self, complete: bool) -> Iterator[Rows]:
        """The rows about each input, in order; of a ``complete`` run without those of its source
        that are gone."""
        found = [
            (source == self.mark, place, rows)
            for (source, _), (place, fresh, rows) in self._rows.items()
            if source != self.mark or fresh or not complete
        ]
        return (rows for *_, rows in sorted(found, key=lambda one: one[:2]))

    def read(
        self, file: IO[bytes], path: object, place: Callable[[str], Any] | None = None
    ) -> None:
        """Read a report that may end anywhere. ``place`` says where an input of this run's source
        is in its order; without, rows stay as they come.

        Raises :class:`~fader.errors.FaderError` for a file of something else.
        """
        lines = _lines(file)
        first = next(lines, "")
        if not first:
            return
        if first.strip().startswith("sep="):
            first = next(lines, "")
        names, delimiter = _columns(first)
        if not delimiter:
            raise not_ours(path)
        # Its own columns, and what someone added to it; the last may have been cut.
        self._more = [name for name in names if name and KEY in names]
        for number, row in enumerate(_whole_rows(itertools.chain([first], lines), delimiter)):
            who = _who(row)
            before, _, same = self.found(who)
            # Rows of one photo's variants belong together; others are replaced.
            variants = [one.get("variant") for one in same]
            if same and (same[0][KEY] != row[KEY] or row.get("variant") in variants):
                same = []
            here = place(row["input"]) if place and who[0] == self.mark else number
            self.put(who, here if before is None else before, False, [*same, row])
        for rows in self.kept(complete=False):
            self.claim(_who(rows[0]), rows)

    def known(self, name: str, outputs: Sequence[str]) -> tuple[str, list[str], bool, Rows]:
        """What runs before said of an input: the key under which all its outputs were made (or
        ""), which of ``outputs`` are its own, whether others are other inputs', and its rows."""
        me = (self.mark, text(name))
        rows = self.found(me)[2]
        claims = {output: self.claims(text(output)) for output in outputs}
        owned = [output for output, claim in claims.items() if claim == {me}]
        keys = {row[KEY] for row in rows}
        faceless = [row["status"] for row in rows] == ["no-face"]
        done = len(keys) == 1 and (faceless or len(owned) == len(outputs))
        key = keys.pop() if done else ""
        return key, owned, any(claim - {me} for claim in claims.values()), rows

    def take(self, rows: Rows, place: Any, fresh: bool = True) -> None:
        """Keep the new rows about an input; others' rows no longer name outputs it replaced."""
        me = _who(rows[0])
        for row in rows:
            for who in self.claims(row["output"]) - {me} if row["output"] else ():
                if who[0] != me[0]:
                    self._replaced(who, row)
        self.put(me, place, fresh, rows)
        self.claim(me, rows)

    def _replaced(self, who: Who, by: Row) -> None:
        place, fresh, rows = self.found(who)
        for row in rows:
            # The same content under the same settings gives the same output, which both name.
            both = row[KEY] == by[KEY] != ""
            if self.fold(row["output"]) == self.fold(by["output"]) and not both:
                row |= {"output": "", "status": "skipped", KEY: ""}
                row["detail"] = "replaced by the edit of another folder's photo"
        if rows:
            self.put(who, place, fresh, rows)

    @property
    def names(self) -> list[str]:
        """All columns."""
        names = dict.fromkeys([*self._wanted, *self._more])
        return [name for name in names if name not in (SOURCE, KEY)] + [SOURCE, KEY]

    def lines(self, complete: bool, names: Sequence[str] | None = None) -> Iterator[str]:
        """The lines of the report, with what :meth:`kept` gives; without ``names`` it has the
        columns that were wanted or hold something."""
        if names is None:
            rows = itertools.chain.from_iterable(self.kept(complete))
            used = {name for row in rows for name, cell in row.items() if cell}
            used.update(self._wanted, (SOURCE, KEY))
            names = [name for name in self.names if name in used]
        yield ",".join(map(_quoted, names)) + "\r\n"
        for some in self.kept(complete):
            yield csv_lines(names, some)


def _who(row: Row) -> Who:
    return row.get(SOURCE) or "", row["input"]


def not_ours(path: object) -> FaderError:
    """What is said of a ``report.csv`` that no run wrote."""
    return FaderError(f"{path}: is no report of an earlier run; move it away or choose another -o")


def text(name: str | Path) -> str:
    """A relative path as the report writes it: never like a formula."""
    name = Path(name).as_posix().encode("utf-8", "backslashreplace").decode("utf-8")
    return f"./{name}" if name.startswith(FORMULA) else name


def csv_lines(names: Sequence[str], rows: Iterable[Mapping[str, str]]) -> str:
    """Rows as lines of the report."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, names, restval="", extrasaction="ignore")
    writer.writerows({name: harmless_cell(row.get(name) or "") for name in names} for row in rows)
    # File names may hold bytes that are no text.
    return stream.getvalue().encode("utf-8", "backslashreplace").decode("utf-8")


def _quoted(name: str) -> str:
    return f'"{name.replace(chr(34), chr(34) * 2)}"' if set(name) & set(',"\r\n') else name


def _columns(first: str) -> tuple[list[str], str]:
    """The columns of a report's first line and what separates them; both empty for no report's."""
    # Spreadsheets save it with the separator of their country.
    for delimiter in (",", ";", "\t"):
        names = next(csv.reader([first], delimiter=delimiter), [])
        moved = {*COLUMNS, SOURCE, KEY} <= set(names)  # about, or others put in front
        if tuple(names[: len(COLUMNS)]) == COLUMNS or moved:
            return names, delimiter
    return [], ""


def _whole_rows(lines: Iterable[str], delimiter: str) -> Iterator[Row]:
    """The rows of a report; one that was cut is none."""
    limit = csv.field_size_limit(2**31 - 1)
    try:
        for row in csv.DictReader(lines, delimiter=delimiter):
            if row.get(KEY) is not None and None not in row:
                for name, cell in row.items():
                    if name.startswith(MEASURED) and cell and NUMBERS.fullmatch(cell):
                        row[name] = cell.replace(",", ".")
                yield row
    except csv.Error:
        pass
    finally:
        csv.field_size_limit(limit)


def _lines(file: IO[bytes]) -> Iterator[str]:
    """The lines of a report, also as spreadsheets save it, one after the other."""
    start = file.readline()
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        whole = (start + file.read()).decode("utf-16", "replace")
        yield from io.StringIO(whole, newline="")
        return
    for some in itertools.chain([start.removeprefix(b"\xef\xbb\xbf")], file):
        for line in some.splitlines(keepends=True):
            try:
                yield line.decode("utf-8")
            except UnicodeDecodeError:
                yield line.decode("cp1252", "replace")
