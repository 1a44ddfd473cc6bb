"""What the machines of a cluster do: list photos in batches, and edit a batch.

A batch is JSON text. Of each a worker leaves two notes in the destination, named by the run and the
batch: what it is about to write, before, and its rows, afterwards. A batch whose rows are there is
not done again when its answer gets lost; one that was only begun is done again with care, since it
may be what brought the worker down.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from fader.edit.cluster.listing import batches as in_batches
from fader.edit.cluster.listing import root_of, tasks_of
from fader.edit.cluster.places import NOTES, Place, photo_content, place_of
from fader.edit.cluster.rows import ORDER, PHOTO, TOLD, DoneRows, note_bytes, note_rows, order
from fader.edit.editor import Editor
from fader.edit.folder import folding
from fader.edit.job import Job, Result, content_key, edit_photo, finished, lost
from fader.edit.report import REPORT, mark_skipped, row_of, without_folders
from fader.edit.rows import Row, Rows, text
from fader.edit.runtime import Runtime
from fader.errors import FaderError, UnreadableImageError
from fader.processes import compute_with, keep_memory

#: A :class:`~fader.edit.cluster.listing.Task` as JSON, with what earlier runs say of it: the key
#: under which it was ``done``, ``owned`` outputs, whether others are ``shared``, its ``rows``.
Task = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """A run, as all its machines are told of it.

    ``source`` and ``destination`` are absolute paths or URLs; ``mark`` tells the source from
    others, ``name`` this run from others, later ones after earlier; ``folds`` says that the
    destination takes small and capital letters for the same; the rest is for the editors.
    """

    source: str
    destination: str
    job: Job
    settings: str
    mark: str
    name: str
    header: tuple[str, ...]
    folds: bool
    model: str
    device: str
    runtime: Runtime
    threads: int

    @property
    def fold(self) -> Callable[[str], str]:
        """Makes names alike that are one file."""
        return folding if self.folds else str


def batches(run: Run) -> Iterator[str]:
    """All that is to be done, streamed; at the end which files of the source are no photos."""
    others: Counter[str] = Counter()
    with closing(DoneRows(run.mark, run.header, run.fold)) as done:
        done.read_all(place_of(run.destination), run.name)

        def known() -> Iterator[dict[str, Any]]:
            for task in tasks_of(run.source, run.job.names, run.fold, others):
                key, owned, shared, rows = done.known(task.name, task.outputs)
                earlier = {"done": key, "owned": owned, "shared": shared}
                yield vars(task) | earlier | {"rows": rows if key else []}

        for tasks in in_batches(known()):
            yield json.dumps({"tasks": tasks, "others": {}})
    yield json.dumps({"tasks": [], "others": others})


class Worker:
    """Edits batches. Its editor is loaded when first needed, once."""

    def __init__(self, run: Run, editor: Editor | None = None) -> None:
        self._run = run
        if editor:
            self._editor = editor
        else:
            compute_with(run.threads)
            keep_memory()
        self._destination = place_of(run.destination)
        places = (place_of(root_of(run.source)), self._destination)
        self._within = [place.full("-")[:-1] for place in places]

    @cached_property
    def _editor(self) -> Editor:
        return Editor(self._run.model, self._run.device, self._run.runtime)

    def __call__(self, batch: str) -> str:
        """The rows about a batch, as JSON; every photo gets some. Raises
        :class:`~fader.errors.DiskFullError`, and what goes wrong with notes."""
        tasks = json.loads(batch)["tasks"]
        if not tasks:
            return batch
        note = self._note(batch)
        if self._destination.exists(f"{note}.parquet"):
            rows = note_rows(self._destination.read(f"{note}.parquet"))
        else:
            rows = self._edited(note, tasks)
            self._destination.write(f"{note}.parquet", note_bytes(rows))
        return json.dumps({"rows": rows, "others": {}})

    def _note(self, what: str) -> str:
        digest = hashlib.blake2b(what.encode(), digest_size=12).hexdigest()
        return f"{NOTES}/{self._run.name}-{digest}"

    def _edited(self, note: str, tasks: list[Task]) -> Rows:
        place = self._destination
        there = {output for task in tasks for output in task["outputs"] if place.exists(output)}
        again = place.exists(f"{note}.json")
        if again:
            claims = json.loads(place.read(f"{note}.json"))["claims"]
        else:
            free = {o: task["name"] for task in tasks for o in task["outputs"] if o not in there}
            claims = {text(output): text(name) for output, name in free.items()}
            begun = {"source": self._run.mark, "claims": claims}
            place.write(f"{note}.json", json.dumps(begun).encode())
        rows: Rows = []
        for task in tasks:
            ours = {*task["owned"], *(o for o in task["outputs"] if text(o) in claims)}
            edit = self._with_care if again else self._rows
            rows += edit(task, there, there - ours)
        return rows

    def _with_care(self, task: Task, there: set[str], foreign: set[str]) -> Rows:
        """The rows about a task that may be deadly; the second time it is given up."""
        mark = self._note(json.dumps(task["name"])) + ".try"
        if self._destination.exists(mark):
            return self._as_rows(task, "", [lost(task["photo"])])
        self._destination.write(mark, b"\n")
        rows = self._rows(task, there, foreign)
        self._destination.remove([mark])
        return rows

    def _rows(self, task: Task, there: set[str], foreign: set[str]) -> Rows:
        photo, job = task["photo"], self._run.job
        try:
            data, mode = photo_content(photo)
        except UnreadableImageError as error:
            return self._as_rows(task, "", [Result(photo, None, "unreadable", detail=str(error))])
        key = content_key(self._run.settings, [data])
        faceless = not any(row["output"] for row in task["rows"])
        whole = faceless or there.issuperset(task["outputs"])
        if key == task["done"] and whole and not job.overwrite:
            mark_skipped(task["rows"])
            return [self._noted(row, task, row["detail"]) for row in task["rows"]]
        put = partial(self._put, task, foreign, mode)
        outputs = [Path(output) for output in task["outputs"]]
        results = edit_photo(self._editor, photo, outputs, job, put, data)
        return self._as_rows(task, key if finished(results) else "", results)

    def _put(
        self,
        task: Task,
        foreign: set[str],
        mode: int | None,
        encode: Callable[[Path], bytes],
        output: Path,
    ) -> str:
        """Write ``output``, or answer why not: see :mod:`fader.edit.folder`."""
        name = output.as_posix()
        full = self._destination.full(name)
        try:
            data = encode(output)
        except FaderError as error:
            raise type(error)(str(error).replace(output.name, full, 1)) from None
        if name in foreign and not self._run.job.overwrite:
            with suppress(OSError):  # a folder, or a link that leads nowhere
                if self._destination.read(name) == data:
                    return ""
            what = "the edit of another photo" if task["shared"] else "a file of other origin"
            return f"{full}: {what} is there; --overwrite replaces it"
        self._destination.write(name, data, mode)
        return ""

    def _as_rows(self, task: Task, key: str, results: list[Result]) -> Rows:
        rows = []
        for result in results:
            output = text(result.output) if result.output else ""
            detail = without_folders(result.detail, self._within)
            row = row_of(result, text(task["name"]), output, detail, self._run.mark, key)
            rows.append(self._noted(row, task, result.detail))
        return rows

    def _noted(self, row: Row, task: Task, told: str) -> Row:
        row = row | {PHOTO: task["photo"], TOLD: told, ORDER: order(task["name"]).hex()}
        # File names may hold bytes that are no text.
        return {name: cell.encode(errors="backslashreplace").decode() for name, cell in row.items()}


def write_report(run: Run, destination: Place, complete: bool) -> None:
    """Make ``report.csv`` of what was there and the notes, and remove those that are done with."""
    with closing(DoneRows(run.mark, run.header, run.fold)) as done:
        notes = done.read_all(destination, run.name, fresh=True)
        destination.write_lines(REPORT, done.lines(complete))
    with_rows = {name.removesuffix(".parquet") for name in notes if name.endswith(".parquet")}
    over = [name for name in notes if complete or name.rpartition(".")[0] in with_rows]
    destination.remove(f"{NOTES}/{name}" for name in over)
