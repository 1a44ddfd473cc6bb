"""``cgan reconstruct``."""

from __future__ import annotations

from pathlib import Path

import click

from cgan.commands import PICTURES
from fader.commands import options
from fader.commands.echo import say, visible
from fader.errors import FaderError


@click.command(
    "reconstruct",
    epilog="Example: cgan reconstruct me.jpg --model runs/vae --set Smiling=1 -o sheet.png",
)
@click.argument(
    "photos", nargs=-1, required=True, metavar="PHOTO...", type=click.Path(path_type=Path)
)
@click.option(
    "--model", required=True, metavar="RUN", help="The folder of a run of cgan train --model cvae."
)
@click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="NAME=V,…|CLASS",
    help="What to change, such as Smiling=1 or happy; repeated, a picture more for each.",
)
@click.option(
    "--label",
    metavar="NAME=V,…|CLASS",
    help="What the photos show. Attributes that are not named are estimated; a class must be.",
)
@click.option(
    "--interpolate",
    "steps",
    type=click.IntRange(2, 200),
    metavar="STEPS",
    help="Of two photos: so many pictures from the one to the other, as a strip or a GIF.",
)
@click.option(
    "--face",
    type=click.IntRange(1),
    help="Which face, counted from the largest. A model of any pictures takes a photo's middle "
    "square, and a face only with this.",
)
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="The picture to write; .gif with --interpolate gives an animation.",
)
@options.overwrite_option
@options.device_option
def command(
    photos: tuple[Path, ...],
    model: str,
    sets: tuple[str, ...],
    label: str | None,
    steps: int | None,
    face: int | None,
    out: Path,
    overwrite: bool,
    device: str,
) -> None:
    """Take up photos into a conditional VAE, and draw them again: a row for each.

    Beside a photo, as the model sees it, is what it makes of it, and then the same with each --set.
    A photo that cannot be read or shows no face is told of, and the others are drawn.
    """
    animated = out.suffix.lower() == ".gif"
    if steps and len(photos) != 2:
        raise click.UsageError(f"--interpolate goes from one photo to another; {len(photos)} given")
    if animated and not steps:
        raise click.UsageError("a GIF needs --interpolate STEPS; for a sheet end the name in .png")
    _check_output(out, photos, overwrite)

    import torch

    from cgan.generate import check_spelling
    from cgan.pictures import grid, save_animation
    from cgan.reconstruct import Redrawer
    from fader.photo import save_image

    redrawer = Redrawer(model, options.resolve_device(device))
    with options.usage():
        texts = (*sets, label) if label else sets
        check_spelling(redrawer.vae, texts, texts)
    taken = []
    for photo in photos:
        try:
            taken.append((visible(photo.name), *redrawer.take(photo, face)))
        except FaderError as error:
            say(f"Error: {error}", err=True)
    if not taken or (steps and len(taken) < 2):
        raise SystemExit(1)
    names, images, labels = zip(*taken, strict=True)
    x, y = torch.cat(images), redrawer.labelled(torch.cat(labels), label)
    if not steps:
        columns = [x, *redrawer.redraw(x, y, sets)]
        faces = torch.stack(columns, dim=1).flatten(0, 1)
        save_image(grid(faces, len(columns), names, ["photo", "redrawn", *sets]), out)
    else:
        rows = redrawer.between(x, y, steps, sets)
        if animated:
            frames = [grid(torch.stack(some), 1) for some in zip(*rows, strict=True)]
            save_animation(frames + frames[-2:0:-1], out, 120)
        else:
            faces = torch.cat([face for row in rows for face in (x[:1], row, x[1:])])
            save_image(grid(faces, steps + 2, ["redrawn", *sets] if sets else []), out)
    say(out)
    if len(taken) < len(photos):
        raise SystemExit(1)


def _check_output(out: Path, photos: tuple[Path, ...], overwrite: bool) -> None:
    """Refuse, before the work for it is done, a name that does not fit or is there already."""
    if out.suffix.lower() not in (*PICTURES, ".gif"):
        raise click.UsageError(f"{out}: give a name that ends in .png or .jpg")
    if out.exists() and any(photo.exists() and out.samefile(photo) for photo in photos):
        raise FaderError(f"{out}: is an input photo, never overwritten; give another -o")
    options.refuse_replacing(out, overwrite)
