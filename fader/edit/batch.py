"""Editing files: one at a time with an account of each, and whole folders with a report."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

from fader.attributes import Change
from fader.edit.editor import Editor, FaceEdit, Output, Which
from fader.edit.outputs import inside, refuse_overwriting, write
from fader.errors import FaderError, NoFaceError, UnreadableImageError
from fader.images import IMAGE_SUFFIXES

Status = Literal["edited", "no-face", "unreadable", "skipped", "failed"]

REPORT = "report.csv"


@dataclass(frozen=True)
class Result:
    """What became of one input.

    ``output`` is the file written (or found there, when ``skipped``), else None; ``faces`` how
    many faces the photo has; ``detail`` the sentence about what went wrong, else empty.
    """

    input: Path
    output: Path | None
    status: Status
    faces: int = 0
    detail: str = ""
    edits: tuple[FaceEdit, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The same as plain lists, numbers and strings, for JSON."""
        return {
            "input": str(self.input),
            "output": None if self.output is None else str(self.output),
            "status": self.status,
            "faces": self.faces,
            "detail": self.detail,
            "edits": [edit.to_dict() for edit in self.edits],
        }


@dataclass(frozen=True)
class Job:
    """What to do to every input; the fields are the options of ``fader edit``."""

    changes: Sequence[Change]
    face: Which = "largest"
    output: Output = "photo"
    overwrite: bool = False
    quality: int | None = None


def edit_file(
    editor: Editor, photo: Path, output: Path, job: Job, inputs: Iterable[Path] = ()
) -> Result:
    """Edit ``photo`` into ``output``; failures become the result's status and detail.

    ``inputs`` are all photos of the run: none of them is overwritten.
    """
    try:
        refuse_overwriting(output, (photo, *inputs), job.overwrite)
        edit = editor.apply(photo, job.changes, face=job.face, output=job.output)
        write(edit.image, output, job.quality)
    except NoFaceError as error:
        return Result(photo, None, "no-face", detail=str(error))
    except UnreadableImageError as error:
        return Result(photo, None, "unreadable", detail=str(error))
    except FaderError as error:
        return Result(photo, None, "failed", detail=str(error))
    return Result(photo, output, "edited", edit.found, edits=edit.faces)


def find_photos(folder: Path) -> list[Path]:
    """All photos in a folder and its subfolders, in order of their names.

    Raises :class:`~fader.errors.FaderError` when there is none.
    """
    photos = sorted(
        path
        for root, _, names in os.walk(folder)
        for path in (Path(root, name) for name in names)
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )
    if not photos:
        raise FaderError(f"{folder}: no photos in it ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return photos


def edit_folder(
    editor: Editor, folder: Path, photos: Sequence[Path], destination: Path, job: Job
) -> Iterator[Result]:
    """Edit ``photos`` of ``folder`` into the same tree under ``destination``, one result each.

    An output that is there already is left and its photo ``skipped``, unless ``job.overwrite``.
    ``destination/report.csv`` gets one row per photo, as soon as it is done: ``input`` and
    ``output`` (relative to the two folders), ``status``, ``faces``, ``detail``, and the estimated
    and set values of the attributes, with ``;`` between faces.
    """
    names = list(dict.fromkeys(change.attribute for change in job.changes))
    header = ["input", "output", "status", "faces", "detail"]
    header += [f"estimated_{name}" for name in editor.attributes] + [f"set_{n}" for n in names]
    with _open_report(destination) as file:
        report = csv.writer(file)
        report.writerow(header)
        for photo in photos:
            relative = photo.relative_to(folder)
            output = inside(destination, relative)
            if output.is_file() and not job.overwrite:
                result = Result(photo, output, "skipped", detail="the output is there already")
            else:
                result = edit_file(editor, photo, output, job, photos)
            written = result.output.relative_to(destination).as_posix() if result.output else ""
            row = [relative.as_posix(), written, result.status, result.faces, result.detail]
            row += [
                _joined(edit.before[name] for edit in result.edits) for name in editor.attributes
            ]
            row += [_joined(edit.after[name] for edit in result.edits) for name in names]
            report.writerow(row)
            file.flush()
            yield result


def _open_report(destination: Path) -> TextIO:
    try:
        destination.mkdir(parents=True, exist_ok=True)
        # File names may hold bytes that are no text.
        return open(destination / REPORT, "w", newline="", encoding="utf-8", errors="replace")
    except OSError as error:
        raise FaderError(f"{destination}: cannot be written to ({error.strerror})") from None


def _joined(values: Iterable[float]) -> str:
    return ";".join(f"{value:.4g}" for value in values)
