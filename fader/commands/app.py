"""``fader app``."""

from __future__ import annotations

import sys
import webbrowser
from typing import Any

import click

from fader.commands.echo import say
from fader.commands.options import PATH, compute_options, model_option
from fader.errors import FaderError

_POSITIVE = click.FloatRange(0, min_open=True)


@click.command(epilog="Example: fader app --models runs/ --port 8000")
@click.option("--host", default="127.0.0.1", help="The address to listen at.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=7860,
    help="The port; 0 takes any that is free.",
)
@click.option(
    "--token",
    envvar="FADER_TOKEN",
    default="",
    show_default=False,
    help="The secret that clients must know, also $FADER_TOKEN; --host of another machine's reach "
    "needs one.",
)
@click.option(
    "--allow-host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="Another name this server is called by, such as that of a proxy in front of it.",
)
@model_option
@click.option(
    "--models",
    multiple=True,
    metavar="FOLDER|HUB_ID",
    help="More models for the page: a folder of models or runs, one of them, or a Hub id.",
)
@click.option(
    "--generators",
    type=PATH,
    metavar="FOLDER",
    help="Runs of cgan train, whose checkpoints the page can draw faces with.",
)
@click.option(
    "--max-upload",
    type=click.FloatRange(0, 4096, min_open=True),
    default=64,
    metavar="MB",
    help="The largest upload.",
)
@click.option(
    "--memory",
    type=_POSITIVE,
    default=2048,
    metavar="MB",
    help="What all open photos may take; the longest unused is forgotten first.",
)
@click.option(
    "--idle",
    type=_POSITIVE,
    default=60,
    metavar="MINUTES",
    help="How long a photo is kept that nobody asks for.",
)
@click.option(
    "--browser/--no-browser",
    default=None,
    help="Whether to open the page; by default if this is a terminal.",
)
@compute_options
def command(
    max_upload: float, memory: float, idle: float, browser: bool | None, **options: Any
) -> None:
    """Open a page to edit photos, folders and draw faces in, with an HTTP API.

    It listens on this machine alone, keeps photos in memory only, and ends with Ctrl-C.
    """
    from fader.app.settings import MB, Settings

    settings = Settings(
        max_upload=round(max_upload * MB), memory=round(memory * MB), idle=idle * 60, **options
    )
    settings.check()
    try:
        from fader.app.server import serve
    except ImportError as error:
        raise FaderError(
            f"the page needs more libraries ({error.name}); install them with: "
            "pip install 'fader[app]'"
        ) from None

    def ready(address: str) -> None:
        say(f"Fader is at {address} (Ctrl-C ends it)", err=True)
        if browser or (browser is None and sys.stdout.isatty()):
            webbrowser.open(address)

    serve(settings, ready)
    say("Stopped.", err=True)
