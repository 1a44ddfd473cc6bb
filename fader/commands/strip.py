"""``fader strip``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fader.attributes import parse_attributes
from fader.commands.echo import say
from fader.commands.options import (
    PATH,
    editor_options,
    make_editor,
    names_folder,
    overwrite_option,
    user_parameter,
)


@click.command(
    epilog="Example: fader strip photo.jpg --attr Smiling --attr Male --from -1 --to 2 -o strip.png"
)
@click.argument("photo", type=PATH)
@click.option(
    "--attr",
    "attributes",
    multiple=True,
    required=True,
    metavar="NAME",
    callback=user_parameter(parse_attributes),
    help="The attribute to slide; each gives a row. Repeat it, or separate names by commas.",
)
@click.option("--from", "start", type=float, default=-1, help="First value.")
@click.option("--to", "stop", type=float, default=2, help="Last value.")
@click.option(
    "--steps",
    type=click.IntRange(2, 200),
    default=7,
    help="How many values, 0 and 1 among them by default; the frames of a GIF go there and back.",
)
@click.option(
    "-o",
    "--out",
    required=True,
    help="The picture to write, or the folder for it, as in new/; .gif gives an animation.",
)
@click.option(
    "--face", type=click.IntRange(1), default=1, help="Which face, counted from the largest."
)
@overwrite_option
@editor_options
def command(
    photo: Path,
    attributes: tuple[tuple[str, ...], ...],
    start: float,
    stop: float,
    steps: int,
    out: str,
    face: int,
    overwrite: bool,
    **options: Any,
) -> None:
    """Show attributes' sliders on one face, as a picture or GIF.

    0 is without and 1 is with the attribute; values beyond exaggerate. The cell nearest to what
    the face has is framed. The path written is printed.
    """
    from fader.edit.outputs import refuse_overwriting, write
    from fader.edit.strip import strip

    if start == stop:
        raise click.UsageError(f"--from and --to are both {start:g}; give two different values")
    place = Path(out)
    if names_folder(out) or place.is_dir():
        place /= f"{photo.stem}.strip.png"
    refuse_overwriting(place, [photo], overwrite)
    names = [name for group in attributes for name in group]
    result = strip(make_editor(**options), photo, names, start, stop, steps, face=face)
    if place.suffix.lower() == ".gif":
        first, *rest = result.loop()
        write(first, place, photo, save_all=True, append_images=rest, duration=120, loop=0)
    else:
        write(result.grid(), place, photo)
    say(place)
