"""Held-out faces reconstructed and edited: the numbers that a run is watched by."""

from __future__ import annotations

import torch
from torch import Tensor

from fader.models.model import FaderModel
from fader.train import losses
from fader.train.edits import flip_one


@torch.no_grad()
def validate(
    model: FaderModel, x: Tensor, y: Tensor, prior: Tensor, batch_size: int
) -> dict[str, float]:
    """Faces N×3×S×S in [-1, 1] with values N×n, decoded as they are and with one attribute flipped.

    reconstruction_loss: mean square error with nothing changed. With a classifier, swap_accuracy:
    share of flips that it sees; kept: share of its decisions on the model's other attributes that
    are those on the photo.
    """
    sums: dict[str, float] = {}
    names = model.attributes
    for start in range(0, len(x), batch_size):
        faces, own = (part[start : start + batch_size].to(model.device) for part in (x, y))
        random = torch.Generator().manual_seed(start)
        asked = flip_one(own, prior.to(own), names, random)
        features = model.encode(faces)
        plain = model.decode(features, own, own).float()
        values = {"reconstruction_loss": losses.reconstruction_mse(plain, faces)}
        if model.classifier is not None:
            known = model.classifier.config.attributes
            columns = [known.index(name) for name in names]
            edited = model.decode(features, asked, own).float()
            before = model.classifier(faces)[:, columns] > 0
            after = model.classifier(edited)[:, columns] > 0
            flipped = asked != own
            values["swap_accuracy"] = (after == (asked > 0.5))[flipped].float().mean()
            values["kept"] = (after == before)[~flipped].float().mean()
        for name, value in values.items():
            sums[name] = sums.get(name, 0.0) + float(value) * len(faces) / len(x)
    return sums
