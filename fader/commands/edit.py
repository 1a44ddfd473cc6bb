"""``fader edit``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fader.attributes import WORDS, parse_changes, parse_words
from fader.commands.options import (
    device_option,
    json_option,
    model_option,
    overwrite_option,
    resolve_device,
    user_parameter,
)
from fader.errors import FaderError

if TYPE_CHECKING:
    from fader.edit.batch import Job, Result
    from fader.edit.editor import Editor


def _checked(parse: Callable[[str], Any]) -> Callable[[str], str]:
    """Refuse text that ``parse`` refuses. It is parsed again for the model, once that is known."""

    def check(text: str) -> str:
        parse(text)
        return text

    return check


def _face(text: str) -> str | int:
    if text in ("largest", "all"):
        return text
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise FaderError(f"{text!r} is not 'largest', 'all' or a face's number, from 1")


@click.command(
    epilog="""Examples:

    \b
    fader edit photo.jpg --set Smiling=0
    fader edit photo.jpg --set Male=0,Young=1 --to smiling -o out.png
    fader edit holiday/ -o edited/ --to older --face all
    """,
)
@click.argument(
    "photos", nargs=-1, required=True, metavar="PHOTO...", type=click.Path(path_type=Path)
)
@click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="NAME=V[,NAME=V]",
    callback=user_parameter(_checked(parse_changes)),
    help="Set an attribute to a value: 0 is without, 1 is with, beyond exaggerates. "
    "NAME=+0.5 or NAME=-0.5 moves it from what the face has; Hair=Blond picks one of a group.",
)
@click.option(
    "--to",
    "words",
    multiple=True,
    metavar="WORD[,WORD]",
    callback=user_parameter(_checked(parse_words)),
    help=f"The same in words: {', '.join(WORDS)}.",
)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    metavar="OUT",
    help="A file for one photo, a folder for several or for a folder. "
    "Default: PHOTO.edited.EXT beside the photo.",
)
@click.option(
    "--face",
    default="largest",
    show_default=True,
    metavar="largest|all|N",
    callback=user_parameter(_face),
    help="Which face to edit; N counts from the largest, which is 1.",
)
@click.option(
    "--output",
    type=click.Choice(["photo", "crop", "pair"]),
    default="photo",
    show_default=True,
    help="The whole photo; the decoder's own image of the face; or before and after together.",
)
@click.option(
    "--quality",
    type=click.IntRange(1, 100),
    metavar="1-100",
    help="Quality of JPEG and WebP outputs; 95 when not given.",
)
@overwrite_option
@model_option
@device_option
@json_option
def command(
    photos: tuple[Path, ...],
    sets: tuple[str, ...],
    words: tuple[str, ...],
    out: Path | None,
    face: str | int,
    output: str,
    quality: int | None,
    overwrite: bool,
    model: str,
    device: str,
    as_json: bool,
) -> None:
    """Edit face attributes in photos, or in all photos of a folder.

    The path of each photo written is printed. An input is never overwritten.
    """
    if not sets and not words:
        raise click.UsageError("nothing to change; give --set, such as --set Smiling=0, or --to")
    folder = _folder(photos, out)
    places = [] if folder else _places(photos, out)

    from fader.edit.batch import Job
    from fader.edit.editor import Editor

    editor = Editor(model, resolve_device(device))
    known = editor.attributes
    changes = [change for text in words for change in parse_words(text, known)]
    changes += [change for text in sets for change in parse_changes(text, known)]
    job = Job(changes, face, output, overwrite, quality)

    results = []
    for result in _run(editor, folder, out, places, job):
        results.append(result)
        if result.output and result.status == "edited" and not as_json:
            click.echo(click.format_filename(result.output))
        if result.detail and result.status != "skipped":
            click.echo(f"Error: {result.detail}", err=True)
    if as_json:
        click.echo(json.dumps([result.to_dict() for result in results], indent=2))
    # In a folder, photos of other things than faces are to be expected.
    harmless = {"edited", "skipped", "no-face"} if folder else {"edited"}
    if any(result.status not in harmless for result in results):
        raise SystemExit(1)


def _run(
    editor: Editor,
    folder: Path | None,
    out: Path | None,
    places: list[tuple[Path, Path]],
    job: Job,
) -> Iterator[Result]:
    from tqdm import tqdm

    from fader.edit.batch import edit_file, edit_folder, find_photos

    if folder is None:
        inputs = [photo for photo, _ in places]
        for photo, place in tqdm(places, disable=None if len(places) > 1 else True, unit="photo"):
            yield edit_file(editor, photo, place, job, inputs)
        return
    photos = find_photos(folder)
    results = edit_folder(editor, folder, photos, out, job)
    yield from tqdm(results, total=len(photos), disable=None, unit="photo")


def _folder(photos: tuple[Path, ...], out: Path | None) -> Path | None:
    """The folder to edit, if one is given; with what makes no sense refused."""
    folder = next((photo for photo in photos if photo.is_dir()), None)
    if folder is None:
        return None
    if len(photos) > 1:
        raise click.UsageError(f"{folder} is a folder; give it alone, or photos only")
    if out is None:
        raise click.UsageError(f"{folder} is a folder; name the folder for the edits with -o")
    if out.is_file():
        raise click.UsageError(f"-o {out}: is a file; the edits of a folder need a folder")
    if out.resolve() == folder.resolve() or folder.resolve() in out.resolve().parents:
        raise click.UsageError(
            f"-o {out}: is in the folder to edit; choose a place outside {folder}"
        )
    return folder


def _places(photos: tuple[Path, ...], out: Path | None) -> list[tuple[Path, Path]]:
    """Each photo with its output file."""
    from fader.edit.outputs import beside, inside

    if out is None:
        places = [(photo, beside(photo)) for photo in photos]
    elif len(photos) == 1 and not out.is_dir():
        return [(photos[0], out)]
    elif out.is_file():
        raise click.UsageError(f"-o {out}: is a file; several photos need a folder")
    else:
        places = [(photo, inside(out, Path(photo.name))) for photo in photos]
    taken: dict[Path, Path] = {}
    for photo, place in places:
        if place in taken:
            raise click.UsageError(f"{taken[place]} and {photo} would both become {place}")
        taken[place] = photo
    return places
