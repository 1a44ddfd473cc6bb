"""``fader synth``: a data set of drawn faces whose attributes are known."""

from __future__ import annotations

from pathlib import Path

import click

from fader.commands.echo import say
from fader.commands.options import PATH, folder_to_write


@click.command(epilog="Example: fader synth drawn-faces -n 2000")
@click.argument("dest", type=PATH, callback=folder_to_write)
@click.option(
    "-n",
    "--number",
    type=click.IntRange(3, 999_999),
    default=5000,
    help="How many faces to draw; a tenth each are for validation and test.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, help="The same seed draws the same faces."
)
@click.option(
    "--counterfactuals/--no-counterfactuals",
    default=True,
    help="Also draw each test face with every one of its attributes changed.",
)
def command(dest: Path, number: int, seed: int, counterfactuals: bool) -> None:
    """Draw a data set of cartoon faces into the folder DEST.

    The folder is laid out as CelebA is, so everything that takes CelebA takes it. Nineteen of the
    forty attributes are drawn and labelled truly (synth.json in the folder names them), the
    others are -1 everywhere. For each test face counterfactuals/ holds the true picture with one
    attribute changed: the right answer of an edit. A run that was stopped goes on when repeated.
    """
    from fader.data.synthetic import write_dataset

    write_dataset(dest, number, seed, counterfactuals)
    say(
        f"drew {number} faces; try: fader train --attrs Eyeglasses,Smiling "
        f"--data {dest} --preset tiny",
        err=True,
    )
    say(dest)
