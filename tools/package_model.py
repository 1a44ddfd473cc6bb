"""Turn a run's model into one that can be shipped: float16 weights, classifier included.

python tools/package_model.py runs/default/best fader/weights/default --data "LFW, …" \\
    --store runs/store-128
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import torch

from fader.data.annotations import VALID
from fader.data.batches import to_tensor
from fader.data.prepared import PreparedStore
from fader.errors import FaderError
from fader.models.copies import MOST_COPIES
from fader.models.io import FaderModel
from fader.models.sliders import calibrated, reaching
from fader.train.device import best_precision


@click.command()
@click.argument("source", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("dest", type=click.Path(path_type=Path))
@click.option("--data", required=True, help="What it was trained on, for config.json.")
@click.option(
    "--store",
    required=True,
    type=click.Path(path_type=Path, exists=True),
    help="Prepared faces; sliders are calibrated on up to 256 of its validation part.",
)
@click.option(
    "--copies",
    default=MOST_COPIES,
    show_default=True,
    type=click.IntRange(1, MOST_COPIES),
    help="Moved copies of a face that are decoded; their mean has less grain, and takes longer.",
)
def main(source: Path, dest: Path, data: str, store: Path, copies: int) -> None:
    """Write SOURCE (a run's model/ or best/) to DEST in float16, its sliders calibrated."""
    try:
        model = FaderModel.load(source)
        if model.classifier is None:
            raise FaderError(f"{source}: has no classifier; train with --classifier")
        prepared = PreparedStore(store)
        rows = np.sort(np.random.default_rng(0).permutation(prepared.indices(VALID))[:256])
        values = torch.from_numpy(prepared.select_labels(model.attributes)[rows])
        faces = to_tensor(prepared.images[rows])
        fast = best_precision(torch.device("cpu")) == "bf16"
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            model.copies = copies
            model.reach = reaching(model, faces, values)
            # How much a picture changes, one copy tells as well.
            model.copies = 1
            model.beyond = calibrated(model, faces[:128], values[:128])
        model.copies = copies
    except FaderError as error:
        raise click.ClickException(str(error)) from error
    for name, (down, up) in model.reach.items():
        below, above = model.beyond[name]
        click.echo(
            f"{name}: moves {down:.2f} times as far down, {up:.2f} up; beyond the range "
            f"{below:.2f} and {above:.2f} times"
        )
    model.training_notes["data"] = data
    model.save(dest, torch.float16)
    total = sum(path.stat().st_size for path in dest.iterdir())
    click.echo(f"{dest}: {total / 1e6:.1f} MB, {', '.join(model.attributes)}")


if __name__ == "__main__":
    main()
