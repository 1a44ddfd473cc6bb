"""``fader import``."""

from __future__ import annotations

import os
from pathlib import Path

import click

from fader.attributes import parse_attributes
from fader.commands.echo import say
from fader.commands.options import PATH, folder_to_write, user_parameter
from fader.errors import FaderError
from fader.words import plural


@click.command("import", epilog="Example: fader import male.pth male/")
@click.argument("checkpoint", type=PATH)
@click.argument("out", type=PATH, callback=folder_to_write)
@click.option(
    "--attrs",
    "attributes",
    metavar="NAME[,NAME]",
    callback=user_parameter(parse_attributes),
    help="What it edits, for a checkpoint that does not say so itself.",
)
def command(checkpoint: Path, out: Path, attributes: tuple[str, ...] | None) -> None:
    """Make the model folder OUT of a CHECKPOINT that the authors of Fader Networks released.

    Such a file is a whole network, pickled by the torch of its day. It is read as data: what it
    names is looked up in a short list, and nothing of it is ever run. The model's decodings are
    those of the original; edits take the estimates of the packaged classifier. Then:
    fader edit photo.jpg --set Male=0 --model OUT
    """
    if os.path.lexists(out) and not (out.is_dir() and not any(out.iterdir())):
        raise FaderError(f"{out}: is already there; give another name")

    from fader.models.released.convert import import_checkpoint

    model = import_checkpoint(checkpoint, attributes or ())
    model.save(out)
    config = model.autoencoder.config
    layers = plural(config.layers, "layer")
    say(f"{config.size} px, {layers}, edits {', '.join(model.attributes)}", err=True)
    say(out)
