"""Options that several commands of ``cgan`` share."""

from __future__ import annotations

import click

from cgan import DEFAULT_MODEL

#: Suffixes of pictures that are written.
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")

model_option = click.option(
    "--model",
    default=DEFAULT_MODEL,
    show_default=True,
    metavar="NAME|RUN",
    help="The generator: one that comes with the package (cgan models), or the folder of a run of "
    "cgan train.",
)
