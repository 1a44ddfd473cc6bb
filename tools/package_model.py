"""Turn a run's model into one that can be shipped: float16 weights, classifier included.

python tools/package_model.py runs/default/best fader/weights/default --data "LFW, …"
"""

from __future__ import annotations

from pathlib import Path

import click
import torch

from fader.errors import FaderError
from fader.models.io import FaderModel


@click.command()
@click.argument("source", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("dest", type=click.Path(path_type=Path))
@click.option("--data", required=True, help="What it was trained on, for config.json.")
def main(source: Path, dest: Path, data: str) -> None:
    """Write SOURCE (a run's model/ or best/) to DEST in float16."""
    try:
        model = FaderModel.load(source)
        if model.classifier is None:
            raise FaderError(f"{source}: has no classifier; train with --classifier")
    except FaderError as error:
        raise click.ClickException(str(error)) from error
    model.training_notes["data"] = data
    model.save(dest, torch.float16)
    total = sum(path.stat().st_size for path in dest.iterdir())
    click.echo(f"{dest}: {total / 1e6:.1f} MB, {', '.join(model.attributes)}")


if __name__ == "__main__":
    main()
