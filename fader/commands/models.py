"""``fader models``."""

from __future__ import annotations

import click

from fader.commands.echo import say, say_json
from fader.commands.options import json_option


@click.command("models", epilog="Example: fader models --json")
@json_option
def command(as_json: bool) -> None:
    """List the models that come in the package, and the attributes each one edits."""
    from fader.models.folders import available_models, model_info

    models = {name: model_info(name) for name in available_models()}
    if as_json:
        say_json(models)
        return
    for name, info in models.items():
        network = info["autoencoder"]
        say(f"{name}: {network['size']} px, {', '.join(network['attributes'])}")
