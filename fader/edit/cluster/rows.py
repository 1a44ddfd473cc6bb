"""Notes: rows about photos that the workers leave, until the report is made of them."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

from fader.edit.cluster.places import NOTES, Place
from fader.edit.report import REPORT
from fader.edit.rows import KeptRows, Rows, Who
from fader.files import FORMULA

#: Cells of a note that do not come into the report: a photo's path or URL, what is said of it in
#: full, and its place in the order of names.
PHOTO, TOLD, ORDER = _INTERNAL = "_photo", "_told", "_order"


_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE rows (source TEXT, input TEXT, place BLOB, fresh INT, rows TEXT,
                   PRIMARY KEY (source, input)) WITHOUT ROWID;
CREATE TABLE claims (output TEXT, source TEXT, input TEXT,
                     PRIMARY KEY (output, source, input)) WITHOUT ROWID;
"""


class DoneRows(KeptRows):
    """The rows of a destination; however many there are, they are in a database on the disk."""

    def __init__(self, mark: str, header: Sequence[str], fold: Callable[[str], str]) -> None:
        super().__init__(mark, header, fold)
        # Without a name it is a file of its own, removed with the connection.
        self._tables = sqlite3.connect("")
        self._tables.executescript(_TABLES)

    def close(self) -> None:
        """Give back the disk."""
        self._tables.close()

    def found(self, who: Who) -> tuple[Any, bool, Rows]:
        """See :class:`~fader.edit.rows.KeptRows`."""
        query = "SELECT place, fresh, rows FROM rows WHERE source = ? AND input = ?"
        place, fresh, rows = self._tables.execute(query, who).fetchone() or (None, False, "[]")
        return place, bool(fresh), json.loads(rows)

    def put(self, who: Who, place: Any, fresh: bool, rows: Rows) -> None:
        """See :class:`~fader.edit.rows.KeptRows`."""
        row = (*who, place, fresh, json.dumps(rows))
        self._tables.execute("INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?, ?)", row)

    def claims(self, output: str) -> set[Who]:
        """See :class:`~fader.edit.rows.KeptRows`."""
        query = "SELECT source, input FROM claims WHERE output = ?"
        return set(self._tables.execute(query, (self.fold(output),)))

    def claim(self, who: Who, rows: Rows) -> None:
        """See :class:`~fader.edit.rows.KeptRows`."""
        claims = [(self.fold(row["output"]), *who) for row in rows if row["output"]]
        self._tables.executemany("INSERT OR IGNORE INTO claims VALUES (?, ?, ?)", claims)

    def kept(self, complete: bool) -> Iterator[Rows]:
        """See :class:`~fader.edit.rows.KeptRows`."""
        found = self._tables.execute(
            "SELECT rows FROM rows WHERE source != ? OR fresh OR NOT ? ORDER BY source = ?, place",
            (self.mark, complete, self.mark),
        )
        return (json.loads(rows) for (rows,) in found)

    def read_all(self, destination: Place, run: str, fresh: bool = False) -> list[str]:
        """Read the report of ``destination``, and the notes of runs up to ``run``.

        Those of ``run`` itself are only read if ``fresh``. Answers with the names of the notes.
        Raises :class:`~fader.errors.FaderError` for a ``report.csv`` that is none of ours.
        """
        if destination.exists(REPORT):
            with destination.opened(REPORT) as file:
                self.read(file, destination.full(REPORT), lambda cell: order(_named(cell)))
        try:
            notes = sorted(destination.listed(NOTES)[1])
        except FileNotFoundError:  # there are none
            notes = []
        notes = [one for one in notes if one < run or (fresh and one.startswith(run))]
        # What was about to be written comes before what was.
        for name in sorted(notes, key=lambda name: name.endswith(".parquet")):
            if name.endswith(".json"):
                note = json.loads(destination.read(f"{NOTES}/{name}"))
                for output, owner in note["claims"].items():
                    self.claim((note["source"], owner), [{"output": output}])
            elif name.endswith(".parquet"):
                noted = note_rows(destination.read(f"{NOTES}/{name}"))
                for _, rows in groupby(noted, lambda row: row["input"]):
                    self._take_noted([*rows], fresh=name.startswith(run))
        return notes

    def _take_noted(self, rows: Rows, fresh: bool) -> None:
        place = bytes.fromhex(rows[0][ORDER])
        rows = [{n: cell for n, cell in row.items() if n not in _INTERNAL} for row in rows]
        self.take(rows, place, fresh)


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
