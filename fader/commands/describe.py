"""``fader describe``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fader.commands.echo import say, say_json
from fader.commands.options import PATH, editor_options, json_option, make_editor
from fader.errors import FaderError

if TYPE_CHECKING:
    from fader.edit.editor import Editor
    from fader.edit.results import Description
    from fader.photo import Provenance


@click.command(epilog="Example: fader describe photo.jpg --json")
@click.argument("photos", nargs=-1, required=True, metavar="PHOTO...", type=PATH)
@click.option("--all", "everything", is_flag=True, help="Also the attributes below one half.")
@editor_options
@json_option
def command(photos: tuple[Path, ...], everything: bool, as_json: bool, **options: Any) -> None:
    """Find the faces in photos, or in those of a folder, and estimate their attributes.

    For each face its place and size, and the attributes it more likely has than not, the surest
    first. --json gives box, landmarks and all attributes. A photo whose
    metadata says that a trained model edited it is said to be such.
    """
    editor = make_editor(**options)
    _ = editor.networks  # A model that is not there is one failure, not one per photo.
    document, failed = [], False
    for photo, alone in _each(photos):
        provenance, faces, detail = _described(editor, photo)
        entry: dict[str, Any] = {
            "input": str(photo),
            "provenance": provenance and asdict(provenance),
            "faces": [face.to_dict() for face in faces or ()],
        }
        if not faces:
            # In a folder, photos of other things than faces are to be expected.
            failed |= alone or faces is None
            entry["detail"] = detail
            say(f"{'Error' if alone or faces is None else 'Note'}: {detail}", err=True)
        document.append(entry)
        if not as_json:
            _print(photo, provenance, faces or [], everything)
    if as_json:
        say_json(document)
    if failed:
        raise SystemExit(1)


def _each(photos: tuple[Path, ...]) -> Iterator[tuple[Path, bool]]:
    """Every photo, and whether it was named itself: those of folders were not."""
    from fader.edit.folder import counted, look_through

    for photo in photos:
        if not photo.is_dir():
            yield photo, True
            continue
        found, others = look_through(photo)
        for one in found:
            yield one, False
        if others:
            say(f"{photo}: passed over {counted(others)}", err=True)


def _described(
    editor: Editor, photo: Path
) -> tuple[Provenance | None, list[Description] | None, str]:
    """A photo's mark, its faces, and what to say where there are none; None if it is unreadable."""
    from fader.photo import open_photo

    provenance = None
    try:
        opened = open_photo(photo)
        provenance = opened.provenance
        return provenance, editor.describe(opened.pixels), f"{photo}: no face found"
    except FaderError as error:
        return provenance, None, str(error)


def _print(
    photo: Path, provenance: Provenance | None, faces: list[Description], everything: bool
) -> None:
    if provenance:
        say(f"{photo}: edited by a trained model: {provenance}")
    for number, face in enumerate(faces, 1):
        x0, y0, x1, y1 = (round(v) for v in face.face.box)
        say(
            f"{photo}: face {number} of {len(faces)}, "
            f"{x1 - x0}x{y1 - y0} pixels at ({x0}, {y0}), score {face.face.score:.3f}"
        )
        for name, value in sorted(face.attributes.items(), key=lambda item: -item[1]):
            if everything or value > 0.5:
                say(f"  {name:<20} {value:.2f}")
