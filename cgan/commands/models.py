"""``cgan models``."""

from __future__ import annotations

import click

from fader.commands.echo import say, say_json
from fader.commands.options import json_option


@click.command("models", epilog="Example: cgan models --json")
@json_option
def command(as_json: bool) -> None:
    """List the generators that come in the package, and what each can be asked for."""
    from cgan.io import available_generators, find_generator, generator_config

    models = {name: generator_config(find_generator(name)) for name in available_generators()}
    if as_json:
        say_json(models)
        return
    for name, info in models.items():
        settings = info["generator"]
        asked = ", ".join(settings["label_names"]) or "no labels"
        colour = "grey" if settings["channels"] == 1 else "colour"
        say(f"{name}: {settings['size']} px, {colour}, {asked}")
    if not models:
        say("no generator comes with this installation; cgan train makes one", err=True)
