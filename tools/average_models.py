"""Average the decoders of two models of one encoder: an older one, and one trained further from it.

    python tools/average_models.py runs/drawn/model runs/placed/model runs/average \\
        --weight 0.6 --store runs/store-128

Its normalisation is measured anew, as training measures it. A model given twice keeps its weights.

Weights between those of a model and of its continuation are often better than either (Wortsman et
al. 2022, arXiv 2109.01903): here the continuation draws hair better and the older model faces.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import click
import torch
from torch import Tensor

from fader.data.annotations import TRAIN
from fader.data.batches import Augmentation, Batches
from fader.data.prepared import PreparedStore
from fader.errors import FaderError
from fader.models.autoencoder import Autoencoder, copy_weights
from fader.models.io import FaderModel
from fader.train.config import TrainConfig
from fader.train.device import best_precision
from fader.train.ema import calibration, recalibrate


def averaged(older: FaderModel, newer: FaderModel, weight: float) -> dict[str, Tensor]:
    """State of ``newer``'s autoencoder whose decoder is ``weight`` times its own and the rest of
    ``older``'s; what the decoder is told of attributes that only ``newer`` knows is all its own.

    Encoder and erasure are the newer one's. Raises :class:`FaderError` when the encoders differ.
    """
    mine = newer.autoencoder.state_dict()
    start = Autoencoder(newer.autoencoder.config)
    copy_weights(older.autoencoder, start)
    theirs = start.state_dict()
    count = len(newer.attributes)
    state = {}
    for key, value in mine.items():
        if not key.startswith("decoder.") or not value.is_floating_point():
            # Statistics are measured anew by every run, and differ a little.
            weights = key.startswith("encoder.") and "running" not in key
            if weights and not torch.allclose(value, theirs[key], 1e-2, 1e-4):
                raise FaderError("the models have different encoders; an average has no meaning")
            state[key] = value
            continue
        state[key] = torch.lerp(theirs[key], value, weight)
        if key.endswith("up.weight"):
            for i, name in enumerate(newer.attributes):
                if name not in older.attributes:
                    two = slice(len(value) - 2 * (count - i), len(value) - 2 * (count - i) + 2)
                    state[key][two] = value[two]
    return state


@click.command()
@click.argument("older", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("newer", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("dest", type=click.Path(path_type=Path))
@click.option("--weight", default=0.5, show_default=True, type=click.FloatRange(0, 1))
@click.option(
    "--store",
    required=True,
    type=click.Path(path_type=Path, exists=True),
    help="Prepared faces, on which the normalisation of the average is measured.",
)
def main(older: Path, newer: Path, dest: Path, weight: float, store: Path) -> None:
    """Write to DEST the model NEWER with its decoder averaged with that of OLDER."""
    try:
        model = FaderModel.load(newer)
        if model.autoencoder.config.conditioning != "planes":
            raise FaderError(f"{newer}: only models with attribute planes can be averaged")
        model.autoencoder.load_state_dict(averaged(FaderModel.load(older), model, weight))
        model.autoencoder.freeze_encoder()
        known = {field.name for field in fields(TrainConfig)}
        notes = {k: v for k, v in model.training_notes.items() if k in known}
        c = TrainConfig(**{**notes, "model": model.autoencoder.config})
        faces = PreparedStore(store)
        rows = faces.indices(TRAIN)
        batches = Batches(
            faces,
            rows,
            faces.select_labels(model.attributes)[rows],
            c.batch_size,
            Augmentation(c.flip, c.rotation, c.zoom, c.shift, c.colour),
            seed=c.seed,
            balance=c.balance,
        )
        fast = best_precision(torch.device("cpu")) == "bf16"
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            recalibrate(model.autoencoder, calibration(batches, c))
    except FaderError as error:
        raise click.ClickException(str(error)) from error
    model.save(dest)
    click.echo(f"{dest}: {weight:g} of {newer}, {1 - weight:g} of {older}")


if __name__ == "__main__":
    main()
