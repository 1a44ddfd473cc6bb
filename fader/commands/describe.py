"""``fader describe``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from fader.commands.options import device_option, json_option, model_option, resolve_device
from fader.errors import FaderError


@click.command(epilog="Example: fader describe photo.jpg --json")
@click.argument(
    "photos", nargs=-1, required=True, metavar="PHOTO...", type=click.Path(path_type=Path)
)
@click.option("--all", "everything", is_flag=True, help="Also the attributes below one half.")
@model_option
@device_option
@json_option
def command(
    photos: tuple[Path, ...], everything: bool, model: str, device: str, as_json: bool
) -> None:
    """Find the faces in photos and estimate their attributes.

    For each face its place and size, and the attributes it more likely has than not, the surest
    first. --json gives box, landmarks and all attributes. A photo whose
    metadata says that a trained model edited it is said to be such.
    """
    from fader.edit.editor import Editor
    from fader.photo import open_photo

    editor = Editor(model, resolve_device(device))
    _ = editor.model  # A model that is not there is one failure, not one per photo.
    document, failed = [], False
    for photo in photos:
        provenance = None
        try:
            opened = open_photo(photo)
            provenance = opened.provenance
            faces = editor.describe(opened)
            detail = "" if faces else f"{photo}: no face found"
        except FaderError as error:
            faces, detail = [], str(error)
        document.append(
            {
                "input": str(photo),
                "provenance": provenance and asdict(provenance),
                "faces": [face.to_dict() for face in faces],
            }
        )
        if detail:
            failed = True
            document[-1]["detail"] = detail
            click.echo(f"Error: {detail}", err=True)
        if as_json:
            continue
        if provenance:
            click.echo(f"{click.format_filename(photo)}: edited by a trained model: {provenance}")
        for number, face in enumerate(faces, 1):
            x0, y0, x1, y1 = (round(v) for v in face.face.box)
            click.echo(
                f"{click.format_filename(photo)}: face {number} of {len(faces)}, "
                f"{x1 - x0}x{y1 - y0} pixels at ({x0}, {y0}), score {face.face.score:.3f}"
            )
            for name, value in sorted(face.attributes.items(), key=lambda item: -item[1]):
                if everything or value > 0.5:
                    click.echo(f"  {name:<20} {value:.2f}")
    if as_json:
        click.echo(json.dumps(document, indent=2))
    if failed:
        raise SystemExit(1)
