"""Turn a generator's run into a model that can be shipped: float16 weights.

python tools/package_generator.py runs/faces-64 cgan/weights/faces --data "LFW, …"
"""

from __future__ import annotations

from pathlib import Path

import click
import torch

from cgan.io import find_generator, generator_config, load_generator, save_generator
from fader.errors import FaderError


@click.command()
@click.argument("source", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("dest", type=click.Path(path_type=Path))
@click.option("--data", required=True, help="What it was trained on, for config.json.")
def main(source: Path, dest: Path, data: str) -> None:
    """Write the generator of SOURCE (a run of cgan train) to DEST in float16."""
    try:
        notes = generator_config(find_generator(source))["training"]
        generator = load_generator(source)
    except FaderError as error:
        raise click.ClickException(str(error)) from error
    save_generator(generator, dest, {**notes, "data": data}, torch.float16)
    total = sum(path.stat().st_size for path in dest.iterdir())
    click.echo(f"{dest}: {total / 1e6:.1f} MB, {', '.join(generator.label_names) or 'no labels'}")


if __name__ == "__main__":
    main()
