"""Put the judge of a ``fader train-classifier`` run into the package, in half precision.

The recipe of the packaged judge (CelebA, prepared at 128 pixels):

    fader train-classifier --data STORE --out runs/judge --architecture plain --size 96 --width 24 \
        --identities odd --seed 1234 --even-handed \
        --steps 3400 --batch-size 32 --learning-rate 1.5e-3
    python tools/ship_judge.py runs/judge
"""

from __future__ import annotations

from pathlib import Path

import click
import torch

from fader.evaluate.judge import PACKAGED
from fader.models.folders import model_info
from fader.models.model import save_classifier
from fader.models.pretrained import load_classifier


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(run: Path) -> None:
    """Put the classifier of RUN into the package as the judge."""
    model = run / "model"
    save_classifier(
        load_classifier(model), PACKAGED, model_info(model)["training"], dtype=torch.float16
    )
    click.echo(f"{model} → {PACKAGED}")


if __name__ == "__main__":
    main()
