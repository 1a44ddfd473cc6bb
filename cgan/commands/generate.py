"""``cgan generate``."""

from __future__ import annotations

import secrets
from pathlib import Path

import click

from cgan.commands import PICTURES, model_option
from fader.commands.echo import say
from fader.commands.options import (
    device_option,
    names_folder,
    overwrite_option,
    resolve_device,
    usage,
)
from fader.errors import FaderError
from fader.files import check_folder


@click.command("generate", epilog="Example: cgan generate --set Male=0,Blond_Hair=1 -n 10")
@model_option
@click.option(
    "--set",
    "values",
    metavar="NAME=V,…",
    help="Attributes to ask for, 0..1, such as Male=0,Blond_Hair=1; others are left to chance.",
)
@click.option(
    "--label",
    "classes",
    multiple=True,
    metavar="CLASS",
    help="The class to ask for, such as happy; repeated, -n of each; all is a row of each.",
)
@click.option("-n", "count", type=click.IntRange(1, 100_000), default=10, show_default=True)
@click.option(
    "--seed", type=click.IntRange(0), help="The same seed draws the same.  [default: any]"
)
@click.option(
    "--truncation",
    type=click.FloatRange(0, 2),
    default=1.0,
    show_default=True,
    help="Below 1: nearer to the average face, less various, usually cleaner.",
)
@click.option(
    "--interpolate",
    "second_seed",
    type=click.IntRange(0),
    metavar="SEED2",
    help="A GIF of each image turning into that of this other seed, and back; --frames says in how "
    "many pictures.",
)
@click.option(
    "--frames",
    type=click.IntRange(2, 200),
    default=24,
    show_default=True,
    help="Pictures from seed to seed.",
)
@click.option(
    "-o",
    "--out",
    "name",
    metavar="OUT",
    help="A picture (.png, .jpg) for a grid, .gif with --interpolate, or a folder for a file "
    "each.  [default: MODEL-seed-SEED.png]",
)
@overwrite_option
@device_option
def command(
    model: str,
    values: str | None,
    classes: tuple[str, ...],
    count: int,
    seed: int | None,
    truncation: float,
    second_seed: int | None,
    frames: int,
    name: str | None,
    overwrite: bool,
    device: str,
) -> None:
    """Draw new images, as a grid or as files.

    The same seed gives the same images, whatever else is asked: with another --set or --label the
    same latents become the same kind of person with what was asked.
    """
    if values and classes:
        raise click.UsageError("--set is for attributes and --label for classes; give one of them")
    if seed is not None and seed == second_seed:
        raise click.UsageError(
            f"--seed and --interpolate are both {seed}; give two different seeds"
        )
    chosen = secrets.randbelow(1_000_000) if seed is None else seed
    suffix = ".png" if second_seed is None else ".gif"
    out = Path(name or f"{Path(model).name}-seed-{chosen}{suffix}")
    as_files = not out.suffix or out.is_dir() or names_folder(name or "-")
    _check_output(out, as_files, second_seed is not None, overwrite)

    from cgan.generate import asked_labels, check_spelling, file_names, interpolation
    from cgan.io import load_generator
    from cgan.pictures import grid, save_animation, save_png
    from fader.photo import save_image

    generator = load_generator(model, resolve_device(device))
    if classes == ("all",):
        classes = generator.label_names
    with usage():
        check_spelling(generator, (values,) if values else (), classes)
    labels, titles = asked_labels(generator, count, chosen, values, classes)
    columns = count if titles and count <= 16 else min(len(labels), 10)
    titles = titles if columns == count else []
    if second_seed is not None:
        steps = interpolation(generator, labels, count, (chosen, second_seed), frames, truncation)
        save_animation([grid(faces, columns, titles) for faces in steps], out, 60)
    else:
        z = generator.latents(count, chosen, truncation).repeat(len(labels) // count, 1)
        faces = generator.render(z, labels)
        if as_files:
            prefixes = [f"{name}-" for name in file_names(classes)] or [""]
            for i, face in enumerate(faces.split(1)):
                place = out / f"{prefixes[i // count]}seed-{chosen}-{i % count:04d}.png"
                save_png(grid(face, 1), place)
        else:
            save_image(grid(faces, columns, titles), out)
    if seed is None:
        say(f"seed {chosen}: --seed {chosen} draws the same again", err=True)
    say(out)


def _check_output(out: Path, as_files: bool, animated: bool, overwrite: bool) -> None:
    """Refuse, before the work for it is done, a name that does not fit or is there already."""
    suffix = out.suffix.lower()
    if animated and suffix != ".gif":
        raise click.UsageError("--interpolate makes a GIF: give -o a name that ends in .gif")
    if suffix == ".gif" and not animated:
        raise click.UsageError("a GIF needs --interpolate SEED2; for a grid end the name in .png")
    if not as_files and suffix not in (*PICTURES, ".gif"):
        raise click.UsageError(f"{out}: give a name that ends in .png or .jpg, or a folder")
    check_folder(out if as_files else out.parent)
    if not overwrite and (any(out.iterdir()) if as_files and out.is_dir() else out.exists()):
        raise FaderError(f"{out}: is already there; add --overwrite, or give another -o")
