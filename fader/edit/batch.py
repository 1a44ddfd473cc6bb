"""Editing files: one at a time with an account of each, and whole folders with a report."""

from __future__ import annotations

import csv
import filecmp
import hashlib
import io
import itertools
import json
import os
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TextIO

from fader.attributes import Change, parse_changes
from fader.edit.editor import Ask, Box, Edit, Editor, FaceEdit, Output, Which
from fader.edit.outputs import plan, refuse_overwriting, write_edit
from fader.edit.workers import Crew, Pull
from fader.errors import DiskFullError, FaderError, NoFaceError, UnreadableImageError
from fader.files import atomic_path, permissions
from fader.interrupts import held_interrupts
from fader.photo import IMAGE_SUFFIXES

Status = Literal["edited", "no-face", "unreadable", "skipped", "failed"]

REPORT = "report.csv"

# Holds files not finished, and the lock, while a batch runs.
_SCRATCH = ".fader-work"

# Photos whose faces go through the network together: so many, with so many pixels in all at most
# (or one that is larger), since they are held in memory.
_TOGETHER, _PIXELS_TOGETHER = 16, 24_000_000

# Faces whose attributes are estimated together: always as many, see Editor.answer.
_ESTIMATED = 4

# The first columns of the report.
_COLUMNS = "input", "output", "status", "faces", "detail"

# The last column: what input and settings a row is about. A row cut short has none.
_KEY = "key"


@dataclass(frozen=True)
class Result:
    """What became of one input, or of one variant of it.

    ``output`` is the file written (or found there, when ``skipped``), else None; ``faces`` how
    many faces the photo has; ``detail`` the sentence about what went wrong, or what was left
    alone in a photo that was edited, else empty.
    """

    input: Path
    output: Path | None
    status: Status
    faces: int = 0
    detail: str = ""
    edits: tuple[FaceEdit, ...] = ()
    variant: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The same as plain lists, numbers and strings, for JSON."""
        document = {
            "input": str(self.input),
            "output": None if self.output is None else str(self.output),
            "status": self.status,
            "faces": self.faces,
            "detail": self.detail,
            "edits": [edit.to_dict() for edit in self.edits],
        }
        return document | ({"variant": self.variant} if self.variant else {})


@dataclass(frozen=True)
class Job:
    """What to do to every input; the fields are the options of ``fader edit``.

    ``variants`` are names with changes that come after ``changes``: each gives an output of its
    own. Without any there is one output.
    """

    changes: Sequence[Change]
    face: Which = "largest"
    output: Output = "photo"
    overwrite: bool = False
    quality: int | None = None
    where: Box | None = None
    provenance: bool = True
    variants: Sequence[tuple[str, tuple[Change, ...]]] = ()

    @property
    def names(self) -> list[str]:
        """A name per output: those of the variants, or one that is empty."""
        return [name for name, _ in self.variants] or [""]

    @property
    def each(self) -> list[list[Change]]:
        """The changes per output."""
        return [[*self.changes, *more] for _, more in self.variants] or [list(self.changes)]

    def settings(self, editor: Editor) -> str:
        """Text that differs where outputs would."""
        fields = [self.names, [[str(change) for change in changes] for changes in self.each]]
        fields += [self.face, self.output, self.quality, self.where, self.provenance]
        return json.dumps([*fields, editor.fingerprint])


def combinations(
    texts: Sequence[str], known: Sequence[str]
) -> list[tuple[str, tuple[Change, ...]]]:
    """``["Male=0,1", "Hair=Blond,Black"]`` → every combination, each with its name.

    The first is named ``"Male=0,Hair=Blond"``. ``known`` are the model's attributes.

    Raises :class:`~fader.errors.FaderError` for text that is not ``NAME=V,V``.
    """
    axes = []
    for text in texts:
        name, equals, values = text.partition("=")
        choices = [value.strip() for value in values.split(",") if value.strip()]
        if not equals or len(choices) < 2 or len(set(choices)) < len(choices):
            raise FaderError(
                f"--variants {text}: must be NAME=V,V with two different values or more, such as "
                "Male=0,1"
            )
        parts = [f"{name.strip()}={value}" for value in choices]
        axes.append([(part, parse_changes(part, known)) for part in parts])
    return [
        (",".join(name for name, _ in parts), tuple(c for _, changes in parts for c in changes))
        for parts in itertools.product(*axes)
    ]


def edit_file(
    editor: Editor, photo: Path, outputs: Sequence[Path], job: Job, inputs: Iterable[Path] = ()
) -> list[Result]:
    """Edit ``photo`` into ``outputs``, one per variant; failures become results.

    ``inputs`` are all photos of the run: none of them is overwritten.
    """

    def put(write: Callable[[Path], None], output: Path) -> str:
        refuse_overwriting(output, (photo, *inputs), job.overwrite)
        write(output)
        return ""

    steps = _edit(editor, photo, outputs, job, put)
    answer = None
    try:
        while True:
            (answer,) = editor.answer([steps.send(answer)])
    except StopIteration as end:
        return end.value
    except DiskFullError as error:
        return [Result(photo, None, "failed", detail=str(error))]


def _edit(
    editor: Editor,
    photo: Path,
    outputs: Sequence[Path],
    job: Job,
    put: Callable[[Callable[[Path], None], Path], str],
) -> Generator[Ask, Any, list[Result]]:
    """The results of editing ``photo``; yields what it asks the networks.

    ``put(write, output)`` has ``write`` make each file, or answers why it leaves it alone.
    """
    results: list[Result] = []
    options = {"face": job.face, "where": job.where, "output": job.output}
    try:
        steps = editor.steps(photo, job.each, **options, measure=bool(job.variants))
        for name, output in zip(job.names, outputs, strict=True):
            edit = yield from _next_edit(steps)
            write = partial(write_edit, edit, photo, quality=job.quality, provenance=job.provenance)
            said = [*edit.notes]
            left = put(lambda place, write=write, say=said.extend: say(write(output=place)), output)
            said = list(dict.fromkeys(said))
            notes = f"{photo}: {'; '.join(said)}" if said else ""
            place, status = (None, "skipped") if left else (output, "edited")
            results.append(
                Result(photo, place, status, edit.found, left or notes, edit.faces, name)
            )
    except NoFaceError as error:
        results.append(Result(photo, None, "no-face", error.found, str(error)))
    except UnreadableImageError as error:
        results.append(Result(photo, None, "unreadable", detail=str(error)))
    except DiskFullError:
        raise
    except FaderError as error:
        results.append(Result(photo, None, "failed", detail=str(error)))
    except MemoryError:
        results.append(Result(photo, None, "failed", detail=f"{photo}: the memory is full"))
    return results


def _next_edit(steps: Generator[Ask | Edit, Any, None]) -> Generator[Ask, Any, Edit]:
    step = next(steps)
    while isinstance(step, Ask):
        step = steps.send((yield step))
    return step


def find_photos(folder: Path) -> list[Path]:
    """All photos in a folder and its subfolders, in order of their names.

    Links to photos count; links to folders are not followed, since they may lead in circles. A
    subfolder that may not be looked into is among the photos, so that it is not passed over in
    silence: it comes out as unreadable.

    Raises :class:`~fader.errors.FaderError` when there is none.
    """
    photos: list[Path] = []

    def closed(error: OSError) -> None:
        if Path(error.filename) == folder:
            raise FaderError(f"{folder}: cannot be looked into ({error.strerror})") from None
        photos.append(Path(error.filename))

    for root, folders, names in os.walk(folder, onerror=closed):
        folders.sort()
        photos += [
            Path(root, name)
            for name in names
            if Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith(".")
        ]
    if not photos:
        raise FaderError(f"{folder}: no photos in it ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return sorted(photos)


@dataclass(frozen=True)
class _Task:
    """One input of a batch.

    ``done`` is the key of an earlier run that left all its outputs; ``owned`` are those of
    ``outputs`` that earlier runs wrote.
    """

    photo: Path
    name: str
    outputs: tuple[Path, ...]
    done: str = ""
    owned: frozenset[Path] = frozenset()


def edit_folder(
    editor: Editor,
    folder: Path,
    photos: Sequence[Path],
    destination: Path,
    job: Job,
    workers: int = 1,
) -> Iterator[list[Result]]:
    """Edit ``photos`` of ``folder`` into the same tree under ``destination``.

    Yields the results of each photo (one per variant, or one that tells why there is none) as it
    is finished. ``destination/report.csv`` gets a row for each at once, and is put in the order of
    the inputs at the end: ``input`` and ``output`` (relative to the two folders), ``status``,
    ``faces``, ``detail``, ``variant`` where there are variants, and the estimated and set values
    (with variants also the achieved ones) of the attributes, with ``;`` between faces.

    What the report says was done with the same settings to a file of the same content is not done
    again: it is ``skipped`` and keeps the values in its row. A file in the way that no run of this
    kind wrote is left alone, unless ``job.overwrite``.

    ``workers`` processes share the work; with 1 it is done in this one.

    Raises :class:`~fader.errors.FaderError` when ``destination`` cannot be written, or is being
    written by another run.
    """
    relatives = [photo.relative_to(folder) for photo in photos]
    places = plan(destination, relatives, job.names)
    inputs = frozenset(filter(None, map(_identity, photos)))
    with _Report(destination, _header(editor, job)) as report:
        tasks = [report.task(*task) for task in zip(photos, relatives, places, strict=True)]
        worker = partial(_Worker, folder, inputs, destination, job, job.settings(editor))

        def reported(task: _Task, key: str, results: list[Result] | None) -> list[Result]:
            if results is None:
                return report.skip(task)
            rows = [_row(editor, destination, task.name, key, result) for result in results]
            report.add(task.name, rows)
            return results

        hurry = False
        with closing(Crew(worker, editor, tasks, workers, _lost)) as crew:
            answers = iter(crew)
            try:
                while True:
                    # Nothing comes between an answer, whose output is there, and its row.
                    with held_interrupts() as crew.interrupted:
                        try:
                            answer = next(answers, None)
                            results = reported(answer[0], *answer[1]) if answer else []
                        except KeyboardInterrupt:  # the second, from someone in a hurry
                            hurry = True
                            raise
                    if crew.interrupted():
                        raise KeyboardInterrupt
                    if answer is None:
                        return
                    yield results
            except (KeyboardInterrupt, GeneratorExit):
                if not hurry:
                    # What is being worked on gets finished, and its rows.
                    with held_interrupts() as crew.interrupted:
                        for task, outcome in crew.finish():
                            reported(task, *outcome)
                    if crew.interrupted():
                        raise KeyboardInterrupt from None
                raise


class _Worker:
    """What one process does: answers tasks with a key and results, None for "done before"."""

    def __init__(
        self,
        folder: Path,
        inputs: frozenset[tuple[int, int]],
        destination: Path,
        job: Job,
        settings: str,
        editor: Editor,
    ) -> None:
        self._folder, self._inputs = folder.resolve(), inputs
        self._scratch = destination / _SCRATCH
        self._job, self._settings, self._editor = job, settings, editor

    def __call__(self, pull: Pull) -> Iterator[tuple[_Task, tuple[str, list[Result] | None]]]:
        """Several photos are begun, and what they ask the networks is answered together."""
        while True:
            asking: list[tuple[_Task, Generator[Ask, Any, Any], Ask]] = []
            while len(asking) < _TOGETHER and (
                sum(ask.pixels for _, _, ask in asking) < _PIXELS_TOGETHER
            ):
                task = pull(not asking)
                if task is None:
                    break
                yield from self._advanced(task, self._done(task), None, asking)
            if not asking:
                return
            while asking:
                answers = self._editor.answer([ask for _, _, ask in asking], _ESTIMATED)
                begun, asking = asking, []
                for i, answer in enumerate(answers):
                    task, steps, _ = begun[i]
                    # Nothing else may hold on to a photo that is finished.
                    begun[i] = None
                    yield from self._advanced(task, steps, answer, asking)
                    del steps

    def _advanced(
        self, task: _Task, steps: Generator[Ask, Any, Any], answer: Any, asking: list
    ) -> Iterator[tuple[_Task, Any]]:
        """Yield ``task`` if it gets finished by ``answer``, else add to ``asking`` what it asks."""
        try:
            asking.append((task, steps, steps.send(answer)))
        except StopIteration as end:
            yield task, end.value

    def _done(self, task: _Task) -> Generator[Ask, Any, tuple[str, list[Result] | None]]:
        key = _key_of(task.photo, self._settings)
        if key and key == task.done and not self._job.overwrite:
            return key, None
        put = partial(self._put, task.owned)
        results = yield from _edit(self._editor, task.photo, task.outputs, self._job, put)
        finished = all(result.status in ("edited", "no-face") for result in results)
        return key if finished else "", results

    def _put(self, owned: frozenset[Path], write: Callable[[Path], None], output: Path) -> str:
        """Write ``output``, or answer why not.

        A run that was killed may have left an output without a row. Such a file is known by being
        the same, byte for byte.
        """
        if self._folder in (output.parent.resolve(), *output.parent.resolve().parents):
            raise FaderError(f"{output}: lies among the inputs, by way of a link; remove the link")
        # A link there is replaced, and what it leads to stays.
        if not output.is_symlink() and _identity(output) in self._inputs:
            raise FaderError(f"{output}: is an input photo, never overwritten; choose another -o")
        temporary = self._scratch / f"{os.getpid()}{output.suffix}"
        write(temporary)
        if os.path.lexists(output) and not (self._job.overwrite or output in owned):
            same = output.is_file() and filecmp.cmp(temporary, output, shallow=False)
            if not same:
                temporary.unlink()
                return f"{output}: a file of other origin is there; --overwrite replaces it"
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
            with suppress(OSError):
                temporary.chmod(permissions(output, temporary.stat().st_mode))
            os.replace(temporary, output)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise FaderError(f"{output}: could not be written ({error.strerror})") from None
        return ""


def _identity(path: Path) -> tuple[int, int] | None:
    """What all names of one file have in common; None where there is no file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _lost(task: _Task) -> tuple[str, list[Result]]:
    detail = f"{task.photo}: the process that worked on it died, for lack of memory or by a crash"
    return "", [Result(task.photo, None, "failed", detail=detail)]


def _key_of(photo: Path, settings: str) -> str:
    """Text that differs when the file's content or the settings do; "" if it cannot be read."""
    digest = hashlib.blake2b(settings.encode(), digest_size=16)
    try:
        if not photo.is_file():
            return ""
        with open(photo, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError:
        return ""
    return digest.hexdigest()


class _Report:
    """``report.csv`` while a batch runs: rows of earlier runs, and new ones as they come."""

    def __init__(self, destination: Path, header: Sequence[str]) -> None:
        self._destination, self._header = destination, header
        self._order: list[str] = []

    def __enter__(self) -> _Report:
        scratch = self._destination / _SCRATCH
        try:
            scratch.mkdir(parents=True, exist_ok=True)
            self._lock = open(scratch / "lock", "w")
            if not _locked(self._lock):
                raise FaderError(f"{self._destination}: another run is writing into this folder")
            for left in scratch.iterdir():
                if left.name != "lock":
                    left.unlink()
            report = self._destination / REPORT
            if not _is_report(report):
                shutil.rmtree(scratch, ignore_errors=True)
                raise FaderError(
                    f"{report}: is no report of an earlier run; move it away or choose another -o"
                )
            self._rows = _read_report(report)
            self._rewrite(self._rows)
            self._file = open(self._destination / REPORT, "a", newline="", encoding="utf-8")
        except OSError as error:
            raise FaderError(
                f"{self._destination}: cannot be written to ({error.strerror or error})"
            ) from None
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._file.close()
            # With a full disk, the rows as they came are still there.
            done = {name: self._rows[name] for name in self._order if name in self._rows}
            self._rewrite(done)
        self._lock.close()
        shutil.rmtree(self._destination / _SCRATCH, ignore_errors=True)

    def task(self, photo: Path, relative: Path, places: Sequence[Path]) -> _Task:
        """The task for an input, with what earlier rows tell about it."""
        name = _text(relative)
        self._order.append(name)
        rows = self._rows.get(name, [])
        named = {row["output"] for row in rows} - {""}
        owned = frozenset(p for p in places if _text(p.relative_to(self._destination)) in named)
        keys = {row[_KEY] for row in rows}
        faceless = [row["status"] for row in rows] == ["no-face"]
        whole = len(owned) == len(places) and all(place.is_file() for place in places)
        done = keys.pop() if len(keys) == 1 and (faceless or whole) else ""
        return _Task(photo, name, tuple(places), done, owned)

    def add(self, name: str, rows: list[dict[str, str]]) -> None:
        self._rows[name] = rows
        try:
            self._file.write(_csv(self._header, rows))
            self._file.flush()
        except OSError as error:
            raise FaderError(
                f"{self._destination / REPORT}: could not be written ({error.strerror}); mend "
                "that and run the same again, finished photos are not done twice"
            ) from None

    def skip(self, task: _Task) -> list[Result]:
        """Mark a finished input's rows, and give them as results."""
        results = []
        for row in self._rows[task.name]:
            output = self._destination / row["output"] if row["output"] else None
            if output:
                row["status"] = "skipped"
                row["detail"] = row["detail"] or "done in an earlier run"
            faces = int(row["faces"]) if row["faces"].isdecimal() else 0
            variant = row.get("variant", "")
            results.append(
                Result(task.photo, output, row["status"], faces, row["detail"], variant=variant)
            )
        return results

    def _rewrite(self, rows: Mapping[str, list[dict[str, str]]]) -> None:
        text = (
            ",".join(self._header)
            + "\r\n"
            + "".join(_csv(self._header, some) for some in rows.values())
        )
        scratch = self._destination / _SCRATCH
        with atomic_path(self._destination / REPORT, scratch) as temporary:
            temporary.write_bytes(text.encode("utf-8"))


def _locked(file: TextIO) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows: two runs at once are not noticed there
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_report(path: Path) -> bool:
    """Whether ``path`` is a report, or nothing that would be lost by writing one."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            header = file.readline(1000).rstrip()
    except FileNotFoundError:
        return True
    ours = ",".join(_COLUMNS)
    # It may have been cut anywhere.
    return header.startswith(ours) or ours.startswith(header)


def _read_report(path: Path) -> dict[str, list[dict[str, str]]]:
    """The last rows about each input of a report that may end anywhere; {} for none."""
    rows: dict[str, list[dict[str, str]]] = {}
    try:
        with open(path, newline="", encoding="utf-8", errors="replace") as file:
            for row in csv.DictReader(file):
                if row.get(_KEY) is None or None in row or "output" not in row:
                    continue
                same = rows.setdefault(row["input"], [])
                # Rows of one photo's variants belong together; others replace what was before.
                if same and (
                    same[0][_KEY] != row[_KEY]
                    or row.get("variant") in [one.get("variant") for one in same]
                ):
                    same.clear()
                same.append(row)
    except (OSError, csv.Error):
        pass
    return rows


def _header(editor: Editor, job: Job) -> list[str]:
    names = _changed_names(job)
    header = [*_COLUMNS, "variant"] if job.variants else [*_COLUMNS]
    header += [f"estimated_{name}" for name in editor.attributes]
    header += [f"set_{name}" for name in names]
    header += [f"achieved_{name}" for name in editor.attributes] if job.variants else []
    return [*header, _KEY]


def _changed_names(job: Job) -> list[str]:
    return list(dict.fromkeys(change.attribute for some in job.each for change in some))


def _row(editor: Editor, destination: Path, name: str, key: str, result: Result) -> dict[str, str]:
    kept = result.output if result.status == "edited" else None
    row = {
        "input": name,
        "output": _text(kept.relative_to(destination)) if kept else "",
        "status": result.status,
        "faces": str(result.faces),
        "detail": result.detail,
        "variant": result.variant,
        _KEY: key,
    }
    for edit in result.edits:
        cells = {f"estimated_{name}": value for name, value in edit.before.items()}
        cells |= {f"set_{name}": value for name, value in edit.after.items()}
        cells |= {f"achieved_{name}": value for name, value in edit.achieved.items()}
        for column, value in cells.items():
            before = f"{row[column]};" if column in row else ""
            row[column] = f"{before}{value:.4g}"
    return row


def _csv(header: Sequence[str], rows: Iterable[Mapping[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, header, restval="", extrasaction="ignore")
    writer.writerows(rows)
    # File names may hold bytes that are no text.
    return text.getvalue().encode("utf-8", "backslashreplace").decode("utf-8")


def _text(path: Path) -> str:
    """A relative path as the report writes it."""
    return path.as_posix().encode("utf-8", "backslashreplace").decode("utf-8")
