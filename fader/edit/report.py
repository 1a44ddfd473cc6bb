"""``report.csv``: what became of each input of a folder, and which output belongs to which."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from fader.edit.editor import Editor
from fader.edit.job import Job, Result
from fader.errors import FaderError
from fader.files import FORMULA, NUMBERS, atomic_path, harmless_cell

REPORT = "report.csv"

# The first columns.
_COLUMNS = "input", "output", "status", "faces", "detail"

# The last ones: which folder the input is from, and what its content and the settings were. A row
# cut short has no key.
SOURCE, KEY = "source", "key"

Rows = list[dict[str, str]]


class Report:
    """The report while a batch runs: rows of earlier runs, and new ones as they come.

    ``source`` is the folder of the inputs. Rows of inputs of other folders stay as they are, and
    so do the outputs they name. ``fold`` makes names alike that are one file on the disk. To be
    entered with ``destination`` locked; ``scratch`` is a folder there for what is unfinished.

    Entering raises :class:`~fader.errors.FaderError` for a ``report.csv`` that is none of ours.
    """

    def __init__(
        self,
        source: Path,
        destination: Path,
        scratch: Path,
        header: Sequence[str],
        fold: Callable[[str], str] = str,
    ) -> None:
        self._source, self._destination, self._scratch = source, destination, scratch
        self._mark = source_mark(source, destination)
        self._fold = fold
        self._wanted = list(header)
        self._order: list[str] = []

    def __enter__(self) -> Report:
        path = self._destination / REPORT
        table = _read(path)
        if table is None:
            raise FaderError(
                f"{path}: is no report of an earlier run; move it away or choose another -o"
            )
        more, rows = table
        self._header = [
            *self._wanted,
            *(name for name in more if name and name not in self._wanted),
        ]
        for name in (SOURCE, KEY):
            self._header.remove(name)
            self._header.append(name)
        self._ours: dict[str, Rows] = {}
        self._others: dict[tuple[str, str], Rows] = {}
        for (mark, name), some in rows.items():
            if mark == self._mark:
                self._ours[name] = some
            else:
                self._others[mark, name] = some
        self._claims: dict[str, set[tuple[str, str]]] = {}
        for who, some in rows.items():
            for row in some:
                if row["output"]:
                    self._claims.setdefault(self._fold(row["output"]), set()).add(who)
        try:
            self._rewrite(self._header, self._ours)
            self._file = open(path, "a", newline="", encoding="utf-8")
        except OSError as error:
            raise FaderError(f"{path}: cannot be written to ({error.strerror})") from None
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._file.close()
            # With a full disk, the rows as they came are still there.
            done = {name: self._ours[name] for name in self._order if name in self._ours}
            kept = [row for some in (*self._others.values(), *done.values()) for row in some]
            used = {name for row in kept for name, cell in row.items() if cell}
            header = [name for name in self._header if name in used or name in self._wanted]
            self._rewrite(header, done)

    def known(self, relative: Path, places: Sequence[Path]) -> tuple[str, frozenset[Path], bool]:
        """What earlier runs say of an input: the key under which all its outputs were made (or
        ""), which of ``places`` are its own, and whether the others are other inputs'."""
        name = text(relative)
        self._order.append(name)
        rows, me = self._ours.get(name, []), (self._mark, name)
        claims = {place: self._claims.get(self._output(place), set()) for place in places}
        owned = frozenset(place for place, claim in claims.items() if claim == {me})
        keys = {row[KEY] for row in rows}
        faceless = [row["status"] for row in rows] == ["no-face"]
        whole = len(owned) == len(places) and all(place.is_file() for place in places)
        key = keys.pop() if len(keys) == 1 and (faceless or whole) else ""
        return key, owned, any(claim - {me} for claim in claims.values())

    def add(self, relative: Path, key: str, results: Sequence[Result]) -> None:
        """Write down what became of an input.

        Raises :class:`~fader.errors.FaderError` when that is not possible.
        """
        rows = [self._row(relative, key, result) for result in results]
        self._ours[text(relative)] = rows
        for row in rows:
            self._take_over(row["output"], text(relative), key)
        try:
            self._file.write(csv_lines(self._header, rows))
            self._file.flush()
        except OSError as error:
            raise FaderError(
                f"{self._destination / REPORT}: could not be written ({error.strerror}); mend "
                "that and run the same again, finished photos are not done twice"
            ) from None

    def skip(self, relative: Path, photo: Path) -> list[Result]:
        """Mark a finished input's rows, and give results whose sentences name ``photo``."""
        name = text(relative)
        rows = self._ours[name]
        mark_skipped(rows)
        results = []
        for row in rows:
            output = self._destination / row["output"] if row["output"] else None
            result = result_of(row, photo, output)
            if result.detail.startswith(f"{name}: "):
                result = replace(result, detail=f"{photo}{result.detail.removeprefix(name)}")
            results.append(result)
        return results

    def _take_over(self, output: str, name: str, key: str) -> None:
        """Where an output of other inputs was replaced, their rows no longer name it."""
        if not output:
            return
        place = self._fold(output)
        claim = self._claims.setdefault(place, set())
        for who in claim - {(self._mark, name)}:
            for row in self._others.get(who, []):
                # The same content under the same settings gives the same output, which both name.
                if self._fold(row["output"]) == place and not row[KEY] == key != "":
                    row |= {"output": "", "status": "skipped", KEY: ""}
                    row["detail"] = "replaced by the edit of another folder's photo"
        claim.add((self._mark, name))

    def _row(self, relative: Path, key: str, result: Result) -> dict[str, str]:
        output = self._output(Path(result.output), fold=False) if result.output else ""
        folders = [f"{folder}{os.sep}" for folder in (self._source, self._destination)]
        detail = without_folders(result.detail, folders)
        return row_of(result, text(relative), output, detail, self._mark, key)

    def _output(self, place: Path, fold: bool = True) -> str:
        name = text(place.relative_to(self._destination))
        return self._fold(name) if fold else name

    def _rewrite(self, header: Sequence[str], ours: Mapping[str, Rows]) -> None:
        rows = [row for some in (*self._others.values(), *ours.values()) for row in some]
        whole = first_line(header) + csv_lines(header, rows)
        with atomic_path(self._destination / REPORT, self._scratch) as temporary:
            temporary.write_bytes(whole.encode("utf-8"))


def row_of(
    result: Result, name: str, output: str, detail: str, source: str, key: str
) -> dict[str, str]:
    """The row about a result, with its names and its sentence as the report has them."""
    row = {
        "input": name,
        "output": output if result.status == "edited" else "",
        "status": result.status,
        "faces": str(result.faces),
        "detail": detail,
        "variant": result.variant,
        SOURCE: source,
        KEY: key,
    }
    for edit in result.edits:
        cells = {f"estimated_{name}": value for name, value in edit.before.items()}
        cells |= {f"set_{name}": value for name, value in edit.after.items()}
        cells |= {f"achieved_{name}": value for name, value in edit.achieved.items()}
        for column, value in cells.items():
            before = f"{row[column]};" if column in row else ""
            row[column] = f"{before}{value:.4g}"
    return row


def result_of(row: Mapping[str, str], photo: Path | str, output: Path | str | None) -> Result:
    """What a row says, without the edits."""
    faces = int(row["faces"]) if row["faces"].isdecimal() else 0
    status: Any = row["status"]  # one of a Result's, as row_of wrote it
    variant = row.get("variant", "")
    return Result(photo, output, status, faces, row["detail"], variant=variant)


def mark_skipped(rows: Rows) -> None:
    """Say in the rows of an input that it was done in an earlier run."""
    for row in rows:
        if row["output"]:
            row["status"] = "skipped"
            row["detail"] = row["detail"] or "done in an earlier run"


def without_folders(detail: str, folders: Iterable[str]) -> str:
    """A sentence without the folders (each with a separator at its end), which may tell more than
    is to be passed on."""
    for folder in folders:
        if folder.strip(os.sep):
            detail = re.sub(rf"(?<!\S){re.escape(folder)}", "", detail)
    return detail


def header(editor: Editor, job: Job) -> list[str]:
    """The columns for a job."""
    names = dict.fromkeys(change.attribute for some in job.each for change in some)
    columns = [*_COLUMNS, "variant"] if job.variants else [*_COLUMNS]
    columns += [f"estimated_{name}" for name in editor.attributes]
    columns += [f"set_{name}" for name in names]
    columns += [f"achieved_{name}" for name in editor.attributes] if job.variants else []
    return [*columns, SOURCE, KEY]


def text(path: Path) -> str:
    """A relative path as the report writes it: never like a formula."""
    name = path.as_posix().encode("utf-8", "backslashreplace").decode("utf-8")
    return f"./{name}" if name.startswith(FORMULA) else name


def source_mark(source: Path, destination: Path) -> str:
    """Text that differs between folders of inputs, and does not tell what they are called."""
    source, destination = source.resolve(), destination.resolve()
    try:
        way = os.path.relpath(source, destination)  # the two may be moved together
    except ValueError:  # on another drive
        way = str(source)
    return hashlib.blake2b(os.fsencode(way), digest_size=8).hexdigest()


def _read(path: Path) -> tuple[list[str], dict[tuple[str, str], Rows]] | None:
    """The columns and the last rows about each input of a report that may end anywhere.

    Both are empty where there is none; None for a file of something else.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return None
        lines = _lines(path.read_bytes())
    except FileNotFoundError:
        return [], {}
    except OSError as error:
        raise FaderError(f"{path}: cannot be read ({error.strerror})") from None
    if not lines:
        return [], {}
    if lines[0].strip().startswith("sep="):
        lines = lines[1:]
    names, delimiter = columns(lines[:1])
    if not delimiter:
        return None
    rows: dict[tuple[str, str], Rows] = {}
    for row in whole_rows(lines, delimiter):
        add_row(rows.setdefault((row.get(SOURCE) or "", row["input"]), []), row)
    # Its own columns, and what someone added to it; the last may have been cut.
    return (names if KEY in names else []), rows


def columns(lines: Sequence[str]) -> tuple[list[str], str]:
    """The columns of a report's first line and what separates them; both empty for no report's."""
    # Spreadsheets save it with the separator of their country.
    for delimiter in (",", ";", "\t"):
        names = next(csv.reader(lines, delimiter=delimiter), [])
        if tuple(names[: len(_COLUMNS)]) == _COLUMNS:
            return names, delimiter
    return [], ""


def whole_rows(lines: Iterable[str], delimiter: str) -> Iterator[dict[str, str]]:
    """The rows of a report that may end anywhere; one that was cut is none."""
    limit = csv.field_size_limit(2**31 - 1)
    try:
        for row in csv.DictReader(lines, delimiter=delimiter):
            if row.get(KEY) is not None and None not in row:
                _decimal_points(row)
                yield row
    except csv.Error:
        pass
    finally:
        csv.field_size_limit(limit)


def add_row(same: Rows, row: dict[str, str]) -> None:
    """Add a row to those about its input that came before it, or replace them by it.

    Rows of one photo's variants belong together.
    """
    variants = [one.get("variant") for one in same]
    if same and (same[0][KEY] != row[KEY] or row.get("variant") in variants):
        same.clear()
    same.append(row)


def lines_of(file: IO[bytes]) -> Iterator[str]:
    """The lines of a report, also as spreadsheets save it, one after the other."""
    start = file.readline()
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        start += file.read()
    for line in itertools.chain([start], file):
        yield from _lines(line)


def _lines(data: bytes) -> list[str]:
    """The lines of a report, also as spreadsheets save it."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return list(io.StringIO(data.decode("utf-16", "replace"), newline=""))
    lines = []
    for line in data.removeprefix(b"\xef\xbb\xbf").splitlines(keepends=True):
        try:
            lines.append(line.decode("utf-8"))
        except UnicodeDecodeError:
            lines.append(line.decode("cp1252", "replace"))
    return lines


def _decimal_points(row: dict[str, str]) -> None:
    for name, cell in row.items():
        measured = name.startswith(("estimated_", "set_", "achieved_"))
        if measured and cell and "," in cell and NUMBERS.fullmatch(cell):
            row[name] = cell.replace(",", ".")


def csv_lines(names: Sequence[str], rows: Iterable[Mapping[str, str]]) -> str:
    """Rows as lines of the report."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, names, restval="", extrasaction="ignore")
    writer.writerows({name: harmless_cell(row.get(name) or "") for name in names} for row in rows)
    # File names may hold bytes that are no text.
    return stream.getvalue().encode("utf-8", "backslashreplace").decode("utf-8")


def first_line(header: Sequence[str]) -> str:
    """The line with the names of the columns."""
    return ",".join(map(_quoted, header)) + "\r\n"


def _quoted(name: str) -> str:
    return f'"{name.replace(chr(34), chr(34) * 2)}"' if set(name) & set(',"\r\n') else name
