"""``fader prepare``: CelebA or a labelled folder to the prepared store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fader.commands.echo import say
from fader.commands.options import PATH, folder_to_write
from fader.urls import path_or_url
from fader.words import plural

_ALIGNMENTS = {
    "landmarks": "by the source's landmarks, detected where it has none",
    "template": "taken for CelebA's own aligned images (--detect looks for the faces)",
    "detected": "faces detected",
}


@click.command("prepare", epilog="Example: fader prepare data/celeba data/celeba-128 --size 128")
@click.argument("source", type=PATH)
@click.argument("dest", type=path_or_url, callback=folder_to_write)
@click.option(
    "--size",
    type=click.IntRange(16, 1024),
    default=128,
    help="Width and height of the aligned faces, in pixels.",
)
@click.option("--workers", type=click.IntRange(1), help="Processes; default: one per processor.")
@click.option("--limit", type=click.IntRange(1), help="Take only the first N images.")
@click.option("--hard", is_flag=True, help="Ignore soft_attributes.csv, keep the -1/1 labels.")
@click.option(
    "--labels",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="CSV",
    help="The labels of a folder of photos: file name, then attributes; default: its labels.csv.",
)
@click.option(
    "--aligned/--detect",
    default=None,
    help="Take the images for CelebA's own aligned 178x218 ones, or detect every face; default: "
    "by the list of landmarks, without one aligned if CelebA's at 178x218, else detected.",
)
def command(source: Path, dest: Path | str, size: int, hard: bool, **options: Any) -> None:
    """Align the faces of SOURCE into the store DEST, which training reads.

    SOURCE is a folder with CelebA (img_align_celeba.zip or img_align_celeba/, and
    list_attr_celeba.txt), or with photos and a labels.csv. Run it again to go on after an
    interruption.
    """
    from fader.data.annotations import SPLIT_NAMES
    from fader.data.prepare import prepare
    from fader.data.store import REJECTED, is_prepared

    if isinstance(dest, str):
        raise click.UsageError(f"{dest}: prepare into a folder, and put it there with fader shard")
    before = is_prepared(dest)
    store = prepare(source, dest, size=size, soft=not hard, **options)
    rejected = store.meta["rejected"]
    say(
        f"{dest}: {'already done, ' if before else ''}{plural(len(store), 'face')} of "
        f"{size}x{size}, {plural(len(store.attribute_names), 'attribute')} "
        f"({store.meta['labels']} labels)"
    )
    say(f"alignment: {_ALIGNMENTS[store.meta['alignment']]}")
    sizes = ", ".join(f"{name} {store.meta['splits'][name]}" for name in SPLIT_NAMES)
    say(f"split: {sizes} (from {store.meta['split_from']})")
    if rejected:
        say(f"rejected: {rejected}, listed in {dest / REJECTED}")
