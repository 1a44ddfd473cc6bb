"""The ``cgan`` command. One module per subcommand, imported only when that subcommand is named."""

from __future__ import annotations

import warnings

import click

from cgan import DEFAULT_MODEL
from fader._version import __version__
from fader.commands import CommandGroup

#: Subcommand → the one line ``cgan --help`` shows.
COMMANDS = {
    "train": "Train a generator on faces with attributes, class folders, or any images.",
    "progress": "Make the GIF, loss graph and grid of a run, also while it trains.",
    "generate": "Draw new images.",
    "reconstruct": "Redraw photos, with other attributes, or one turning into another.",
    "evaluate": "Measure quality, variety, labels and memory of a generator.",
    "models": "List the generators that --model knows by name.",
}

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


@click.group(
    cls=CommandGroup,
    package="cgan.commands",
    summaries=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: cgan generate -n 10 -o faces.png",
)
@click.version_option(__version__, "--version", prog_name="cgan")
def main() -> None:
    """Generate faces (or whatever a folder shows), and train the networks that do it."""
    # What Pillow warns of (odd EXIF, large images) is answered by results, in one sentence each.
    warnings.filterwarnings("ignore", module=r"PIL\.")
