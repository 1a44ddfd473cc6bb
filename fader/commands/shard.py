"""``fader shard``: a prepared store to shards, which need not lie on a disk."""

from __future__ import annotations

from pathlib import Path

import click

from fader.commands.echo import say
from fader.commands.options import folder_to_write
from fader.urls import path_or_url
from fader.words import plural


@click.command("shard", epilog="Example: fader shard data/celeba-128 s3://bucket/celeba-128")
@click.argument("store", type=path_or_url)
@click.argument("dest", type=path_or_url, callback=folder_to_write)
def command(store: Path | str, dest: Path | str) -> None:
    """Copy the prepared STORE, in shards, to DEST: a folder, or a URL such as s3://bucket/store.

    Training and evaluation read it from there, row by row, as --data DEST. Run it again to go on
    after an interruption.
    """
    from fader.data.sharding import shard

    faces, finished = shard(store, dest)
    shards = -(-len(faces) // faces.meta["shards"]["rows"])
    say(
        f"{dest}: {'already done, ' if finished else ''}{plural(len(faces), 'face')} of "
        f"{faces.size}x{faces.size} in {plural(shards, 'shard')}"
    )
