"""JSON files that may come from a stranger."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

from fader.errors import FaderError

#: Bytes of a document, and how many lists and objects within each other, that are read at most.
LARGEST, DEEPEST = 4 << 20, 64


def check_regular(path: Path, most: int | None = None) -> None:
    """Raise :class:`FaderError` for what is no regular file (a pipe or a device, which to open may
    wait for ever, or a folder), or is of more than ``most`` bytes, and :class:`FileNotFoundError`
    for what is not there. Links are followed."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise FaderError(f"{path}: is not a regular file")
    if most is not None and status.st_size > most:
        raise FaderError(
            f"{path}: has {status.st_size:,} bytes, and such a file has at most {most:,}; it is "
            "damaged, or something else"
        )


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file, not larger than :data:`LARGEST` nor deeper than :data:`DEEPEST`.

    Raises :class:`FileNotFoundError` when there is no file, and :class:`FaderError` for one that
    cannot be read or holds something else.
    """
    try:
        check_regular(path, LARGEST)
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise FaderError(f"{path}: cannot be read ({error.strerror})") from None
    except (RecursionError, ValueError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else error
        raise FaderError(f"{path}: not readable as JSON ({why})") from None
    if not isinstance(value, dict):
        raise FaderError(f"{path}: not readable as JSON (a {type(value).__name__}, no object)")
    level: list[Any] = [value]
    for _ in range(DEEPEST):
        inside = (v.values() if isinstance(v, dict) else v for v in level)
        level = [v for values in inside for v in values if isinstance(v, (dict, list))]
    if level:
        raise FaderError(f"{path}: not readable as JSON (nested too deeply)")
    return value
