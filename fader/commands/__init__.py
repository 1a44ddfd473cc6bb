"""The ``fader`` command. One module per subcommand, imported only when that subcommand is named.

Command modules keep heavy imports (torch, cv2) inside their functions, so that ``--help`` and
``--version`` answer at once.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from keyword import iskeyword
from typing import Any

import click

from fader._version import __version__
from fader.commands.echo import (
    give_up_stdout,
    open_streams,
    printing_failed,
    stdout_failed,
    visible,
)
from fader.errors import FaderError
from fader.files import FULL

#: Subcommand → the one line ``fader --help`` shows.
COMMANDS = {
    "edit": "Edit face attributes in photos.",
    "strip": "Show one attribute's slider as a picture or GIF.",
    "describe": "Find the faces in photos and estimate their attributes.",
    "prepare": "Turn CelebA or a labelled folder into the prepared store.",
    "shard": "Copy a prepared store, in shards, to a folder or an object store.",
    "train": "Train a Fader Network.",
    "train-classifier": "Train the attribute classifier.",
    "app": "Open a page to edit photos and draw faces in.",
    "evaluate": "Measure how well a model edits, on people it never saw.",
    "synth": "Draw a dataset of faces with known attributes.",
    "export": "Write a model as ONNX, for machines without PyTorch.",
    "models": "List the models that --model knows by name.",
    "import": "Make a model of a checkpoint that the authors of Fader Networks released.",
    "push": "Upload a model, with its card, to the Hugging Face Hub.",
    "cache": "Show or clear what is kept of data that was prepared on the way.",
}

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100, "show_default": True}


class CommandGroup(click.Group):
    """A group that imports a subcommand when it is asked for, and turns failures into sentences.

    ``summaries`` are its subcommands with a line on each; the subcommand ``x-y`` is
    ``<package>.x_y.command``, and one that Python has a keyword of has ``_`` after it.
    """

    def __init__(self, *args: Any, package: str, summaries: dict[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.package, self.summaries = package, summaries

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The subcommands' names, in the order of the summaries."""
        return list(self.summaries)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import a subcommand; None for an unknown name."""
        if name not in self.summaries:
            return None
        module = name.replace("-", "_") + ("_" if iskeyword(name) else "")
        return import_module(f"{self.package}.{module}").command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the summaries, without importing any subcommand."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.summaries.items()))

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program, with output streams that can print every file name."""
        open_streams()
        for stream in (sys.stdout, sys.stderr):
            # It may be in a legacy code page that cannot print every file name, nor all the help.
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        # It tells of a home folder that cannot be written to, which is none of the user's worries.
        logging.getLogger("matplotlib").setLevel(logging.ERROR)
        try:
            return super().main(*args, **kwargs)
        except OSError as error:
            # All else is answered by `invoke`; this was said by --help or --version.
            if error.errno is None or error.filename is not None:
                raise
            give_up_stdout(error)
            raise SystemExit(1) from None

    def invoke(self, ctx: click.Context) -> object:
        """Run the subcommand; exit with 1 where it fails or its output cannot be written."""
        with _failures_in_words():
            result = super().invoke(ctx)
        if stdout_failed(ctx):
            raise SystemExit(1)
        return result


@contextmanager
def _failures_in_words() -> Iterator[None]:
    try:
        yield
    except FaderError as error:
        raise click.ClickException(visible(str(error))) from error
    except click.ClickException as error:
        # click's own, declared final: a new error of its class would need what only it knows.
        error.message = visible(error.message)  # type: ignore[misc]
        raise
    except ModuleNotFoundError as error:
        if error.name != "torch" and find_spec("torch") is not None:
            raise
        raise click.ClickException(
            f"this needs more than the light install has ({error.name}): pip install fader"
        ) from error
    except OSError as error:
        # A place that cannot be read or written, which no one has put into words yet.
        full = error.errno in FULL
        if isinstance(error, BrokenPipeError) or (error.filename is None and not full):
            raise
        if error.filename is None and printing_failed(error):  # said by a subcommand's --help
            give_up_stdout(error)
            raise SystemExit(1) from None
        reason = "the disk is full" if full else error.strerror
        told = f"{reason}; free some space and run the same again"
        if error.filename is not None:
            told = f"{visible(os.fsdecode(error.filename))}: {reason}"
        raise click.ClickException(told) from error


@click.group(
    cls=CommandGroup,
    package="fader.commands",
    summaries=COMMANDS,
    context_settings=_SETTINGS,
    epilog="Example: fader edit photo.jpg --set Smiling=0",
)
@click.version_option(__version__, "--version", prog_name="fader")
def main() -> None:
    """Edit face attributes in your own photos, and train the models that do it."""
    # What Pillow warns of (odd EXIF, large photos) is answered by results, in one sentence each.
    warnings.filterwarnings("ignore", module=r"PIL\.")
