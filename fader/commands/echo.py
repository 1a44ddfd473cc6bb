"""What the commands print: the one place where text gets to a terminal."""

from __future__ import annotations

import json
import os
import re
import sys
from contextlib import suppress
from typing import Any

import click

# A terminal obeys control characters, some of which come from names and metadata of files that
# strangers made: they would move its cursor, or write its clipboard. Those that turn the direction
# of writing make a name look like another. Surrogates are bytes of a name that are no text.
_UNSEEN = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

_STDOUT_FAILED = "fader.stdout_failed"


def visible(text: str) -> str:
    r"""``text`` with control characters written out: an escape is ``\x1b``, a new line ``\n``."""
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def say(*lines: object, err: bool = False) -> None:
    """Print lines on standard output, or on standard error, with control characters visible.

    When standard output can take no more, an error says so once, what is under way goes on without
    it, and the command ends with 1 (see :func:`stdout_failed`).
    """
    try:
        click.echo("\n".join(visible(str(line)) for line in lines), err=err)
    except BrokenPipeError:  # who read it has seen enough
        raise
    except OSError as error:
        if not err:
            _give_up_stdout(error)


def say_json(document: Any) -> None:
    """Print a document as JSON on standard output."""
    say(*json.dumps(document, indent=2).split("\n"))


def stdout_failed(context: click.Context) -> bool:
    """Whether something that was said in this command did not get to standard output."""
    return bool(context.meta.get(_STDOUT_FAILED))


def _give_up_stdout(error: OSError) -> None:
    context = click.get_current_context(silent=True)
    if context is None:
        raise error
    context.meta[_STDOUT_FAILED] = True
    give_up_stdout(error)


def give_up_stdout(error: OSError) -> None:
    """Say that standard output can take no more, and be silent there from now on."""
    say(f"Error: standard output cannot be written to ({error.strerror})", err=True)
    silence_stdout()


def printing_failed(error: OSError) -> bool:
    """Whether an error came from click's own printing, which is that of ``--help``."""
    place = error.__traceback__
    while place and place.tb_next:
        place = place.tb_next
    return place is not None and place.tb_frame.f_globals.get("__name__") == "click.utils"


def open_streams() -> None:
    """Open what the program was started without, of input, output and errors, to nowhere. Else the
    next files take their numbers, and whatever a library tells of gets into them."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        with suppress(OSError):
            try:
                os.fstat(number)
            except OSError:
                handle = os.open(os.devnull, os.O_RDWR)
                if handle != number:
                    os.dup2(handle, number)
                    os.close(handle)
        if getattr(sys, name) is None:
            mode = "w" if number else "r"
            stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)


def silence_stdout() -> None:
    """Drop what standard output still holds, and all that it is given from now on. Python would try
    to write it once more in the end, and fail again."""
    with suppress(OSError, ValueError):
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, sys.stdout.fileno())
        os.close(sink)
        sys.stdout.flush()
