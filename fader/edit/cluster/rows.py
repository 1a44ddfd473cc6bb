"""Rows about photos: notes that the workers leave, and the report that is made of them.

However many there are, they are in a database on the disk, not in memory.
"""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import IO

from fader.edit.cluster.places import NOTES, Place
from fader.edit.report import (
    KEY,
    REPORT,
    SOURCE,
    Rows,
    add_row,
    columns,
    csv_lines,
    first_line,
    lines_of,
    text,
    whole_rows,
)
from fader.errors import FaderError
from fader.files import FORMULA

#: Cells of a note that do not come into the report: a photo's path or URL, what is said of it in
#: full, and its place in the order of names.
PHOTO, TOLD, ORDER = "_photo", "_told", "_order"
_INTERNAL = {PHOTO, TOLD, ORDER}

_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE rows (source TEXT, input TEXT, place BLOB, fresh INT, rows TEXT,
                   PRIMARY KEY (source, input)) WITHOUT ROWID;
CREATE TABLE claims (output TEXT, source TEXT, input TEXT,
                     PRIMARY KEY (output, source, input)) WITHOUT ROWID;
"""


class DoneRows:
    """What runs before this one did, and this one, by input: see :class:`fader.edit.report.Report`.

    ``mark`` tells inputs of this run's source from others, ``fold`` makes names alike that are one
    file. Reading raises :class:`~fader.errors.FaderError` for a ``report.csv`` that is none of
    ours.
    """

    def __init__(self, mark: str, header: Sequence[str], fold: Callable[[str], str]) -> None:
        self._mark, self._header, self._fold = mark, list(header), fold
        self._more: dict[str, None] = {}
        self._empty = True
        # Without a name it is a file of its own, removed with the connection.
        self._rows = sqlite3.connect("")
        self._rows.executescript(_TABLES)

    def close(self) -> None:
        """Give back the disk."""
        self._rows.close()

    def read(self, destination: Place, run: str, fresh: bool = False) -> list[str]:
        """Read the report of ``destination``, and the notes of runs up to ``run``.

        Those of ``run`` itself are only read if ``fresh``. Answers with the names of the notes.
        """
        if destination.exists(REPORT):
            with destination.opened(REPORT) as file:
                self._read_report(file, destination.full(REPORT))
        try:
            notes = sorted(destination.listed(NOTES)[1])
        except FileNotFoundError:  # there are none
            notes = []
        notes = [one for one in notes if one < run or (fresh and one.startswith(run))]
        for name in notes:
            if name.endswith(".json"):
                note = json.loads(destination.read(f"{NOTES}/{name}"))
                claims = [(self._fold(o), note["source"], i) for o, i in note["claims"].items()]
                self._rows.executemany("INSERT OR IGNORE INTO claims VALUES (?, ?, ?)", claims)
        for name in notes:
            if name.endswith(".parquet"):
                noted = note_rows(destination.read(f"{NOTES}/{name}"))
                for _, rows in groupby(noted, lambda row: row["input"]):
                    self._take([*rows], fresh=name.startswith(run))
        self._rows.commit()
        self._empty = not (self._any("rows") or self._any("claims"))
        return notes

    def known(self, name: str, outputs: Sequence[str]) -> tuple[str, list[str], bool, Rows]:
        """What runs before said of an input: the key under which all its outputs were made (or
        ""), which of ``outputs`` are its own, whether others are other inputs', and its rows."""
        if self._empty:
            return "", [], False, []
        me = (self._mark, text(Path(name)))
        rows = self._of(*me)
        claims = {output: self._claims(text(Path(output))) for output in outputs}
        owned = [output for output, claim in claims.items() if claim == {me}]
        keys = {row[KEY] for row in rows}
        faceless = [row["status"] for row in rows] == ["no-face"]
        done = len(keys) == 1 and (faceless or len(owned) == len(outputs))
        key = keys.pop() if done else ""
        return key, owned, any(claim - {me} for claim in claims.values()), rows

    def lines(self, complete: bool) -> Iterator[str]:
        """The lines of the report; of a ``complete`` run without inputs that are gone."""
        names = [*self._header, *(name for name in self._more if name not in self._header)]
        used = {
            name
            for rows in self._kept(complete)
            for row in rows
            for name, cell in row.items()
            if cell
        }
        kept = [name for name in names if name in used or name in self._header]
        kept = [name for name in kept if name not in (SOURCE, KEY)] + [SOURCE, KEY]
        yield first_line(kept)
        for rows in self._kept(complete):
            yield csv_lines(kept, rows)

    def _kept(self, complete: bool) -> Iterator[Rows]:
        found = self._rows.execute(
            "SELECT rows FROM rows WHERE source != ? OR fresh OR NOT ? ORDER BY source = ?, place",
            (self._mark, complete, self._mark),
        )
        return (json.loads(rows) for (rows,) in found)

    def _read_report(self, file: IO[bytes], name: str) -> None:
        lines = lines_of(file)
        first = next(lines, None)
        if first is not None and first.strip().startswith("sep="):
            first = next(lines, None)
        if first is None:
            return
        names, delimiter = columns([first])
        if not delimiter:
            raise FaderError(
                f"{name}: is no report of an earlier run; move it away or choose another -o"
            )
        self._more.update(dict.fromkeys(filter(None, names)) if KEY in names else {})
        for number, row in enumerate(whole_rows(_with(first, lines), delimiter)):
            source, name = row.get(SOURCE) or "", row["input"]
            same = self._of(source, name)
            add_row(same, row)
            place = order(_named(name)) if source == self._mark else number.to_bytes(8, "big")
            self._put(source, name, place, False, same)
            self._claim(source, name, [row])

    def _take(self, rows: Rows, fresh: bool) -> None:
        """The rows about an input that a worker left."""
        source, name, place = rows[0][SOURCE], rows[0]["input"], bytes.fromhex(rows[0][ORDER])
        rows = [{n: cell for n, cell in row.items() if n not in _INTERNAL} for row in rows]
        for row in rows:
            for who in self._claims(row["output"]) - {(source, name)} if row["output"] else ():
                self._replaced(who, row)
        self._put(source, name, place, fresh, rows)
        self._claim(source, name, rows)

    def _replaced(self, who: tuple[str, str], by: dict[str, str]) -> None:
        """Rows of another folder's input no longer name an output that was replaced."""
        rows = self._of(*who)
        for row in rows if who[0] != by[SOURCE] else ():
            # The same content under the same settings gives the same output, which both name.
            if self._fold(row["output"]) == self._fold(by["output"]) and row[KEY] != by[KEY]:
                row |= {"output": "", "status": "skipped", KEY: ""}
                row["detail"] = "replaced by the edit of another folder's photo"
        update = "UPDATE rows SET rows = ? WHERE source = ? AND input = ?"
        self._rows.execute(update, (json.dumps(rows), *who))

    def _any(self, table: str) -> bool:
        return self._rows.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() is not None

    def _of(self, source: str, name: str) -> Rows:
        query = "SELECT rows FROM rows WHERE source = ? AND input = ?"
        found = self._rows.execute(query, (source, name)).fetchone()
        return json.loads(found[0]) if found else []

    def _put(self, source: str, name: str, place: bytes, fresh: bool, rows: Rows) -> None:
        row = (source, name, place, fresh, json.dumps(rows))
        self._rows.execute("INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?, ?)", row)

    def _claims(self, output: str) -> set[tuple[str, str]]:
        query = "SELECT source, input FROM claims WHERE output = ?"
        return set(self._rows.execute(query, (self._fold(output),)))

    def _claim(self, source: str, name: str, rows: Rows) -> None:
        claims = [(self._fold(row["output"]), source, name) for row in rows if row["output"]]
        self._rows.executemany("INSERT OR IGNORE INTO claims VALUES (?, ?, ?)", claims)


def order(name: str) -> bytes:
    """What puts names in the order of paths: folder by folder."""
    return "\0".join(name.split("/")).encode("utf-8", "surrogatepass")


def note_bytes(rows: Rows) -> bytes:
    """Rows as a Parquet file."""
    import pyarrow
    from pyarrow import parquet

    names = dict.fromkeys(name for row in rows for name in row)
    table = pyarrow.table({name: [row.get(name, "") for row in rows] for name in names})
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    return buffer.getvalue()


def note_rows(data: bytes) -> Rows:
    """The rows of a Parquet file."""
    from pyarrow import parquet

    return parquet.read_table(io.BytesIO(data)).to_pylist()


def _named(cell: str) -> str:
    """The name that the report writes as ``cell``."""
    return cell[2:] if cell.startswith("./") and cell[2:].startswith(FORMULA) else cell


def _with(first: str, lines: Iterator[str]) -> Iterator[str]:
    yield first
    yield from lines
