"""What is to be done to photos, and what became of each."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from fader.attributes import Change, parse_changes
from fader.edit.choice import Box, Which
from fader.edit.editor import Editor, Output
from fader.edit.outputs import edit_bytes, refuse_overwriting, write_edit
from fader.edit.results import Edit, FaceEdit
from fader.errors import DiskFullError, FaderError, NoFaceError, UnreadableImageError
from fader.photo import read_photo

Status = Literal["edited", "no-face", "unreadable", "skipped", "failed"]

#: What all names of one file have in common; None where there is no file.
FileId = tuple[int, int] | None


def file_id(path: Path) -> FileId:
    """The file behind a name or a link."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


@dataclass(frozen=True)
class Result:
    """What became of one input, or of one variant of it.

    ``output`` is the file written (or found there, when ``skipped``), else None; either is text
    where it is a URL; ``faces`` how many faces the photo has; ``detail`` the sentence about what
    went wrong, or what was left alone in a photo that was edited, else empty.
    """

    input: Path | str
    output: Path | str | None
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
    editor: Editor,
    photo: Path,
    outputs: Sequence[Path],
    job: Job,
    inputs: Iterable[Path] = (),
    written: dict[FileId, Path] | None = None,
) -> list[Result]:
    """Edit ``photo`` into ``outputs``, one per variant; failures become results.

    ``inputs`` are all photos of the run: none of them is overwritten, nor is what it wrote before,
    which ``written`` has and is added to.
    """
    written = {} if written is None else written

    def put(write: Callable[[Path], None], output: Path) -> str:
        refuse_overwriting(output, (photo, *inputs), job.overwrite)
        if before := written.get(file_id(output)):
            raise FaderError(
                f"{output}: is the same file as {before} on this disk, which has just been "
                "written; choose another -o"
            )
        write(output)
        written[file_id(output)] = output
        return ""

    try:
        return edit_photo(editor, photo, outputs, job, put)
    except DiskFullError as error:
        return [Result(photo, None, "failed", detail=str(error))]


def content_key(settings: str, content: Iterable[bytes]) -> str:
    """Text that differs when a photo's content, or the settings of a :class:`Job`, do."""
    digest = hashlib.blake2b(settings.encode(), digest_size=16)
    for block in content:
        digest.update(block)
    return digest.hexdigest()


def finished(results: Sequence[Result]) -> bool:
    """Whether there is nothing left to do to their input, unless it changes."""
    return all(result.status in ("edited", "no-face") for result in results)


def lost(photo: Path | str) -> Result:
    """What is said of a photo that brought down who edited it."""
    detail = f"{photo}: the process that worked on it died, for lack of memory or by a crash"
    return Result(photo, None, "failed", detail=detail)


#: Has a photo's edit written to a place. It is given what to do with a path, or with a name.
Put = Callable[[Callable[[Path], Any], Path], str]


def edit_photo(
    editor: Editor,
    photo: Path | str,
    outputs: Sequence[Path],
    job: Job,
    put: Put,
    content: bytes | None = None,
) -> list[Result]:
    """The results of editing ``photo``, one per output; failures become results.

    ``put(write, output)`` has ``write(path)`` make each file, or answers why it leaves it alone.
    Where ``content`` is given, ``photo`` is but its name, and ``write(output)`` gives the content
    of the output. Raises :class:`~fader.errors.DiskFullError`, which is no fault of the photo.
    """
    results: list[Result] = []

    def written(edit: Edit, said: list[str], place: Path) -> bytes | None:
        if content is None:
            said += write_edit(edit, Path(photo), place, job.quality, job.provenance)
            return None
        source = (Path(photo), content)
        data, notes = edit_bytes(edit, source, place, job.quality, job.provenance)
        said += notes
        return data

    try:
        edits = editor.variants(
            photo if content is None else read_photo(content, str(photo)),
            job.each,
            face=job.face,
            where=job.where,
            output=job.output,
            measure=bool(job.variants),
        )
        for name, output, edit in zip(job.names, outputs, edits, strict=True):
            said = [*edit.notes]
            left = put(partial(written, edit, said), output)
            told = "; ".join(dict.fromkeys(said))
            detail = left or (f"{photo}: {told}" if told else "")
            place = None if left else output
            status: Status = "skipped" if left else "edited"
            results.append(Result(photo, place, status, edit.found, detail, edit.faces, name))
    except NoFaceError as error:
        results.append(Result(photo, None, "no-face", error.found, str(error)))
    except UnreadableImageError as error:
        results.append(Result(photo, None, "unreadable", detail=str(error)))
    except DiskFullError:
        raise
    except FaderError as error:
        results.append(Result(photo, None, "failed", detail=str(error)))
    except OSError as error:  # the photo is gone, say, before it could be copied
        detail = f"{error.filename or photo}: {error.strerror or error}"
        results.append(Result(photo, None, "failed", detail=detail))
    except MemoryError:
        results.append(Result(photo, None, "failed", detail=f"{photo}: the memory is full"))
    return results
