"""``report.csv``: what became of each input of a folder, and which output belongs to which."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from fader.edit.editor import Editor
from fader.edit.job import Job, Result
from fader.edit.rows import (
    ACHIEVED,
    COLUMNS,
    ESTIMATED,
    KEY,
    MEASURED,
    SET,
    SOURCE,
    KeptRows,
    Row,
    Rows,
    csv_lines,
    not_ours,
    text,
)
from fader.errors import FaderError
from fader.files import write_lines

REPORT = "report.csv"


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
        self._path = destination / REPORT
        self._kept = KeptRows(source_mark(source, destination), header, fold)
        self._order: dict[str, int] = {}

    def __enter__(self) -> Report:
        path = self._path
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                raise not_ours(path)
            with open(path, "rb") as file:
                self._kept.read(file, path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise FaderError(f"{path}: cannot be read ({error.strerror})") from None
        self._names = self._kept.names
        try:
            write_lines(path, self._kept.lines(False, self._names), self._scratch)
            self._file = open(path, "a", newline="", encoding="utf-8")
        except OSError as error:
            raise FaderError(f"{path}: cannot be written to ({error.strerror})") from None
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._file.close()
            # With a full disk, the rows as they came are still there.
            write_lines(self._path, self._kept.lines(True), self._scratch)

    def known(self, relative: Path, places: Sequence[Path]) -> tuple[str, frozenset[Path], bool]:
        """What earlier runs say of an input: the key under which all its outputs were made (or
        ""), which of ``places`` are its own, and whether the others are other inputs'."""
        name = text(relative)
        me, place = (self._kept.mark, name), self._order.setdefault(name, len(self._order))
        self._kept.put(me, place, True, self._kept.found(me)[2])
        outputs = [output.relative_to(self._destination).as_posix() for output in places]
        key, owned, shared, rows = self._kept.known(relative.as_posix(), outputs)
        faceless = not any(row["output"] for row in rows)
        whole = faceless or all(output.is_file() for output in places)
        return key if whole else "", frozenset(self._destination / one for one in owned), shared

    def add(self, relative: Path, key: str, results: Sequence[Result]) -> None:
        """Write down what became of an input. Raises :class:`~fader.errors.FaderError` when that is
        not possible."""
        rows = [self._row(text(relative), key, result) for result in results]
        self._kept.take(rows, self._order[text(relative)])
        try:
            self._file.write(csv_lines(self._names, rows))
            self._file.flush()
        except OSError as error:
            raise FaderError(
                f"{self._path}: could not be written ({error.strerror}); mend "
                "that and run the same again, finished photos are not done twice"
            ) from None

    def skip(self, relative: Path, photo: Path) -> list[Result]:
        """Mark a finished input's rows, and give results whose sentences name ``photo``."""
        name = text(relative)
        rows = self._kept.found((self._kept.mark, name))[2]
        mark_skipped(rows)
        results = []
        for row in rows:
            output = self._destination / row["output"] if row["output"] else None
            result = result_of(row, photo, output)
            if result.detail.startswith(f"{name}: "):
                result = replace(result, detail=f"{photo}{result.detail.removeprefix(name)}")
            results.append(result)
        return results

    def _row(self, name: str, key: str, result: Result) -> Row:
        place = result.output
        output = text(Path(place).relative_to(self._destination)) if place else ""
        folders = [f"{folder}{os.sep}" for folder in (self._source, self._destination)]
        detail = without_folders(result.detail, folders)
        return row_of(result, name, output, detail, self._kept.mark, key)


def row_of(result: Result, name: str, output: str, detail: str, source: str, key: str) -> Row:
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
        for what, values in zip(MEASURED, (edit.before, edit.after, edit.achieved), strict=True):
            for attribute, value in values.items():
                before = f"{row[what + attribute]};" if what + attribute in row else ""
                row[what + attribute] = f"{before}{value:.4g}"
    return row


def result_of(row: Row, photo: Path | str, output: Path | str | None) -> Result:
    """What a row says, without the edits."""
    faces = int(row["faces"]) if row["faces"].isdecimal() else 0
    status: Any = row["status"]  # one of a Result's, as row_of wrote it
    return Result(photo, output, status, faces, row["detail"], variant=row.get("variant", ""))


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
    asked = dict.fromkeys(change.attribute for some in job.each for change in some)
    columns = [*COLUMNS, "variant"] if job.variants else [*COLUMNS]
    columns += [ESTIMATED + name for name in editor.attributes]
    columns += [SET + name for name in asked]
    columns += [ACHIEVED + name for name in editor.attributes] if job.variants else []
    return [*columns, SOURCE, KEY]


def source_mark(source: Path, destination: Path) -> str:
    """Text that differs between folders of inputs, and does not tell what they are called."""
    source, destination = source.resolve(), destination.resolve()
    try:
        way = os.path.relpath(source, destination)  # the two may be moved together
    except ValueError:  # on another drive
        way = str(source)
    return hashlib.blake2b(os.fsencode(way), digest_size=8).hexdigest()
