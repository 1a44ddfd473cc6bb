"""Editing a folder's photos, by several processes, with a report."""

from __future__ import annotations

import filecmp
import os
import re
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fader.edit.editor import Editor
from fader.edit.job import FileId, Job, Result, content_key, edit_photo, file_id, finished, lost
from fader.edit.outputs import plan
from fader.edit.report import Report, header
from fader.edit.workers import editing_pool
from fader.errors import FaderError
from fader.files import file_lock, flush_folder, make_folder, permissions, sweep_temporaries
from fader.interrupts import held_interrupts
from fader.photo import IMAGE_SUFFIXES
from fader.processes import WorkerPool

# Kept while a batch runs: the lock, and a folder for files that are not finished. The end of its
# name is made up anew each time, so that nobody can have put something there.
_LOCK, _SCRATCH = ".fader-lock", ".fader-work-"
_OUR_SCRATCH = re.compile(re.escape(_SCRATCH) + r"[a-z0-9_]{8}")
_UNFINISHED = re.compile(r"\d+(\.[^.]*)?", re.DOTALL)

# The names of edits that were written beside their photos: see fader.edit.outputs.beside.
_EDITED = re.compile(r"(.+)\.(?:edited|\w+=[^,]+(?:,\w+=[^,]+)*)", re.DOTALL)

#: What :func:`look_through` counts those as.
EARLIER_EDITS = "edits beside their photos"


def find_photos(folder: Path) -> list[Path]:
    """The photos that :func:`look_through` finds."""
    return look_through(folder)[0]


def look_through(folder: Path) -> tuple[list[Path], Counter[str]]:
    """All photos in a folder and its subfolders, in order of their names, and how many files of
    which suffix are none.

    Links to photos count; links to folders are not followed, since they may lead in circles. A
    subfolder that may not be looked into is among the photos, so that it is not passed over in
    silence: it comes out as unreadable. Hidden files are nothing at all, and edits that were
    written beside their photos are counted as :data:`EARLIER_EDITS`.

    Raises :class:`~fader.errors.FaderError` when there are no photos, or ``folder`` cannot be
    looked into.
    """
    photos: list[Path] = []
    others: Counter[str] = Counter()
    waiting = [folder]
    while waiting:  # os.walk calls itself for each level
        place = waiting.pop()
        try:
            with os.scandir(place) as entries:
                found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        except OSError as error:
            if place == folder:
                raise FaderError(f"{folder}: cannot be looked into ({error.strerror})") from None
            photos.append(place)
            continue
        waiting += [place / name for name, is_folder in found if is_folder]
        names, more = sort_out(name for name, is_folder in found if not is_folder)
        photos += [place / name for name in names]
        others += more
    if not photos:
        raise no_photos(folder, others)
    return sorted(photos), others


def sort_out(names: Iterable[str]) -> tuple[list[str], Counter[str]]:
    """Of the names of one folder's files those of photos to edit, in order, and how many of which
    suffix are none; see :func:`look_through`."""
    seen = sorted(name for name in names if not name.startswith("."))
    images = [name for name in seen if Path(name).suffix.lower() in IMAGE_SUFFIXES]
    stems = {Path(name).stem for name in images}
    photos: list[str] = []
    others: Counter[str] = Counter()
    for name in images:
        edited = _EDITED.fullmatch(Path(name).stem)
        if edited and edited[1] in stems:
            others[EARLIER_EDITS] += 1
        else:
            photos.append(name)
    known = set(images)
    others.update(
        Path(name).suffix.lower() or "without suffix" for name in seen if name not in known
    )
    return photos, others


def no_photos(folder: object, others: Mapping[str, int]) -> FaderError:
    """What is said of a folder in which :func:`look_through` finds nothing."""
    there = f"; there are {counted(others)}" if others else ""
    known = ", ".join(sorted(IMAGE_SUFFIXES))
    return FaderError(f"{folder}: no photos in it{there} (photos are named {known})")


def counted(others: Mapping[str, int]) -> str:
    """``"12 .txt, 3 .mov"``, the most frequent first."""
    return ", ".join(f"{n} {what}" for what, n in Counter(others).most_common())


@dataclass(frozen=True)
class _Task:
    """One input of a batch.

    ``done`` is the key of an earlier run that left all its outputs; ``owned`` are those of
    ``outputs`` that earlier runs made of this input and no other; ``shared`` says whether other
    inputs have some.
    """

    photo: Path
    relative: Path
    outputs: tuple[Path, ...]
    done: str = ""
    owned: frozenset[Path] = frozenset()
    shared: bool = False


def edit_folder(
    editor: Editor,
    folder: Path,
    photos: Sequence[Path],
    destination: Path,
    job: Job,
    workers: int = 1,
) -> Generator[list[Result]]:
    """Edit ``photos`` of ``folder`` into the same tree under ``destination``.

    Yields the results of each photo (one per variant, or one that tells why there is none) as it
    is finished. ``destination/report.csv`` gets a row for each at once, and is put in the order of
    the inputs at the end: ``input`` and ``output`` (relative to the two folders), ``status``,
    ``faces``, ``detail``, ``variant`` where there are variants, and the estimated and set values
    (with variants also the achieved ones) of the attributes, with ``;`` between faces.

    What the report says was done with the same settings to a file of the same content is not done
    again: it is ``skipped`` and keeps the values in its row. A file in the way that no run made of
    this photo is left alone, unless ``job.overwrite``: also the edit of a photo of another folder.

    ``workers`` processes share the work; with 1 it is done in this one.

    Raises :class:`~fader.errors.FaderError` when ``destination`` cannot be written, or is being
    written by another run.
    """
    relatives = [photo.relative_to(folder) for photo in photos]
    inputs = frozenset(filter(None, map(file_id, photos)))
    held = f"{destination}: another run is writing into this folder"
    with file_lock(destination / _LOCK, held), _scratch(destination) as scratch:
        fold = folding if folds_case(scratch) else str
        places = plan(destination, relatives, job.names, fold)
        with Report(folder, destination, scratch, header(editor, job), fold) as report:
            tasks = [
                _Task(photo, relative, tuple(outputs), *report.known(relative, outputs))
                for photo, relative, outputs in zip(photos, relatives, places, strict=True)
            ]
            worker = partial(
                _Worker, folder, inputs, destination, scratch, job, job.settings(editor)
            )
            yield from _reported(editing_pool(worker, editor, tasks, workers, _lost), report)
            for place in {output.parent for task in tasks for output in task.outputs}:
                flush_folder(place)


def _reported(pool: WorkerPool, report: Report) -> Generator[list[Result]]:
    """The results as they come, each written down before it is told."""
    hurry = False
    with closing(pool):
        answers = iter(pool)
        try:
            while True:
                # Nothing comes between an answer, whose output is there, and its row.
                with held_interrupts() as pool.interrupted:
                    try:
                        answer = next(answers, None)
                        results = _written(report, *answer) if answer else []
                    except KeyboardInterrupt:  # the second, from someone in a hurry
                        hurry = True
                        raise
                if pool.interrupted():
                    raise KeyboardInterrupt
                if answer is None:
                    return
                yield results
        except (KeyboardInterrupt, GeneratorExit):
            if not hurry:
                _finish(pool, report)
            raise


def _finish(pool: WorkerPool, report: Report) -> None:
    """What is being worked on gets finished, and its rows."""
    with held_interrupts() as pool.interrupted:
        for answer in pool.finish():
            _written(report, *answer)
    if pool.interrupted():
        raise KeyboardInterrupt from None


def _written(report: Report, task: _Task, outcome: tuple[str, list[Result] | None]) -> list[Result]:
    key, results = outcome
    if results is None:
        return report.skip(task.relative, task.photo)
    report.add(task.relative, key, results)
    return results


class _Worker:
    """What one process does: answers a task with a key and results, None for "done before"."""

    def __init__(
        self,
        folder: Path,
        inputs: frozenset[FileId],
        destination: Path,
        scratch: Path,
        job: Job,
        settings: str,
        editor: Editor,
    ) -> None:
        self._inputs, self._destination, self._scratch = inputs, destination, scratch
        self._job, self._settings, self._editor = job, settings, editor
        source, target = folder.resolve(), destination.resolve()
        self._inside = source in (target, *target.parents)

    def __call__(self, task: _Task) -> tuple[str, list[Result] | None]:
        key = _key_of(task.photo, self._settings)
        if key and key == task.done and not self._job.overwrite:
            return key, None
        put = partial(self._put, task)
        results = edit_photo(self._editor, task.photo, task.outputs, self._job, put)
        return key if finished(results) else "", results

    def _put(self, task: _Task, write: Callable[[Path], None], output: Path) -> str:
        """Write ``output``, or answer why not.

        A run that was killed may have left an output without a row. Such a file is known by being
        the same, byte for byte.
        """
        if self._inside:
            raise FaderError(f"{output}: lies among the inputs, by way of a link; remove the link")
        if link := self._link_to(output.parent):
            raise FaderError(
                f"{link}: is a link, and edits are not written to where it leads; remove the link"
            )
        # A link there is replaced, and what it leads to stays.
        if not output.is_symlink() and file_id(output) in self._inputs:
            raise FaderError(f"{output}: is an input photo, never overwritten; choose another -o")
        temporary = self._scratch / f"{os.getpid()}{output.suffix}"
        try:
            write(temporary)
        except FaderError as error:
            raise type(error)(str(error).replace(str(temporary), str(output))) from None
        if os.path.lexists(output) and not (self._job.overwrite or output in task.owned):
            same = output.is_file() and filecmp.cmp(temporary, output, shallow=False)
            if not same:
                temporary.unlink()
                what = "the edit of another photo" if task.shared else "a file of other origin"
                return f"{output}: {what} is there; --overwrite replaces it"
        try:
            make_folder(output.parent)
            with suppress(OSError):  # some disks know no permissions
                temporary.chmod(permissions(output, temporary.stat().st_mode))
            os.replace(temporary, output)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise FaderError(f"{output}: could not be written ({error.strerror})") from None
        return ""

    def _link_to(self, place: Path) -> Path | None:
        """A link on the way from the output folder, which may be one itself, to ``place``."""
        while place != self._destination:
            if place.is_symlink():
                return place
            place = place.parent
        return None


@contextmanager
def _scratch(destination: Path) -> Iterator[Path]:
    """A new folder in ``destination`` for what is not finished; those of killed runs are removed.

    To be entered with ``destination`` locked.
    """
    for name in os.listdir(destination):
        if _OUR_SCRATCH.fullmatch(name):
            _clear(destination / name)
    try:
        folder = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=destination))
    except OSError as error:
        raise FaderError(f"{destination}: cannot be written to ({error.strerror})") from None
    try:
        yield folder
    finally:
        _clear(folder)


def _clear(folder: Path) -> None:
    """Remove a scratch folder with what batches leave in one; what else is there stays."""
    if folder.is_symlink():
        return
    sweep_temporaries(folder)
    with suppress(OSError):
        with os.scandir(folder) as entries:
            for entry in entries:
                if _UNFINISHED.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    os.unlink(entry.path)
        folder.rmdir()


def folds_case(folder: Path) -> bool:
    """Whether ``folder`` is on a disk to which names are the same in small and capital letters."""
    try:
        return folder.samefile(folder.with_name(folder.name.upper()))
    except OSError:
        return False


def folding(name: str) -> str:
    """What names have in common that are the same to such a disk."""
    # Disks that fold case mostly do not tell how accents are put together, either.
    return unicodedata.normalize("NFC", name).casefold()


def _lost(task: _Task) -> tuple[str, list[Result]]:
    return "", [lost(task.photo)]


def _key_of(photo: Path, settings: str) -> str:
    """The :func:`content_key` of a file; "" if it cannot be read."""
    try:
        if not photo.is_file():
            return ""
        with open(photo, "rb") as file:
            return content_key(settings, iter(lambda: file.read(1 << 20), b""))
    except OSError:
        return ""
