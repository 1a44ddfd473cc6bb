"""``fader cache``."""

from __future__ import annotations

from datetime import datetime

import click

from fader.commands.echo import say, say_json
from fader.commands.options import json_option


@click.command("cache", epilog="Example: fader cache --clear")
@click.option("--clear", is_flag=True, help="Remove all of it.")
@json_option
def command(clear: bool, as_json: bool) -> None:
    """Show or clear what is kept of data that was prepared on the way.

    Data in a folder that cannot be written to is prepared in the user's cache, where its aligned
    faces stay: in fader/ in $XDG_CACHE_HOME, or in ~/.cache. The classifiers that `cgan evaluate`
    trains to judge classes are kept there, too. What was not used for longest, data or judge, is
    removed when there is more than $FADER_CACHE_GB gigabytes of it (20).
    """
    from fader.data.cache import cache_folder, cache_limit, entries, remove

    found = entries()
    kept = [entry for entry in found if not (clear and remove(entry))]
    before, after = (sum(entry.size for entry in some) for some in (found, kept))
    if as_json:
        listed = [
            {"name": entry.path.name, "bytes": entry.size, "used": round(entry.used)}
            for entry in kept
        ]
        say_json({"folder": str(cache_folder()), "limit_bytes": cache_limit(), "entries": listed})
    else:
        for entry in kept:
            day = datetime.fromtimestamp(entry.used).strftime("%Y-%m-%d")
            state = "in use, kept" if clear else f"used {day}"
            say(f"{entry.path}: {entry.size / 1e6:.1f} MB, {state}")
        summary = f"{after / 1e6:.1f} MB of at most {cache_limit() / 1e9:g} GB"
        if clear:
            summary = f"{(before - after) / 1e6:.1f} MB removed"
        say(f"{cache_folder()}: {summary}", err=True)
    if clear and kept:
        raise SystemExit(1)
