"""Put the judge of a ``fader train-classifier`` run into the package, in half precision.

The recipe of the packaged judge (LFW faces in CelebA's layout):

    fader train-classifier --data DATA --out runs/judge --architecture plain --size 96 --width 32 \
        --identities odd --seed 1234 --steps 2000 --even-handed
    python tools/ship_judge.py runs/judge
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from fader.evaluate.judge import PACKAGED
from fader.models.io import load_classifier, model_info, save_classifier


def main(run: Path) -> None:
    model = run / "model"
    save_classifier(
        load_classifier(model), PACKAGED, model_info(model)["training"], dtype=torch.float16
    )
    print(f"{model} → {PACKAGED}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tools/ship_judge.py RUN")
    main(Path(sys.argv[1]))
