"""The faces of one training: its batches, and the held-out faces it is watched by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fader.data.annotations import TRAIN, VALID
from fader.data.batches import Augmentation, Batches, to_tensor
from fader.data.store import PreparedStore
from fader.errors import FaderError
from fader.train.config import TrainConfig

#: Held-out faces that a validation looks at, and faces in a sheet of samples.
VALIDATION_IMAGES, SAMPLES = 256, 8
#: What an ``augmentation`` of 1 is: standard deviations of a rotation in degrees, of zoom and shift
#: in parts of the side (about what a detector's landmarks differ by), and of contrast and light.
ROTATION, ZOOM, SHIFT, COLOUR = 2.0, 0.03, 0.01, 0.04


@dataclass(frozen=True)
class TrainingFaces:
    """``batches`` of training faces; ``images`` K×S×S×3 uint8 and values ``y`` (K×n) of held-out
    ones, of training faces where none are held out."""

    batches: Batches
    images: np.ndarray
    y: Tensor

    @property
    def x(self) -> Tensor:
        """The held-out faces, K×3×S×S in [-1, 1]."""
        return to_tensor(self.images)

    def samples(self) -> tuple[Tensor, Tensor]:
        """Some held-out faces, :data:`SAMPLES` at most, and their values."""
        some = slice(None, None, max(1, len(self.y) // SAMPLES))
        return self.x[some][:SAMPLES], self.y[some][:SAMPLES]


def take_faces(store: PreparedStore, config: TrainConfig) -> TrainingFaces:
    """The faces of ``store`` that a run with these settings uses. Raises :class:`FaderError` for
    data that the settings do not fit, or that cannot be learnt from."""
    attributes, amount = config.model.attributes, config.augmentation
    if not attributes:
        raise FaderError("no attributes to train; name at least one, such as Male")
    if store.size != config.model.size:
        raise FaderError(
            f"the data is prepared at {store.size} px but the model is of {config.model.size} px; "
            f"prepare it again with --size {config.model.size}"
        )
    rows, labels = store.indices(TRAIN), store.select_labels(attributes)
    if not len(rows):
        raise FaderError("the data has no training images; its partition names none")
    for name, column in zip(attributes, labels[rows].T, strict=True):
        if (column > 0.5).all() or (column <= 0.5).all():
            raise FaderError(f"{name}: every training image has the same value; leave it out")
    batches = Batches(
        store,
        rows,
        labels[rows],
        config.batch_size,
        Augmentation(True, ROTATION * amount, ZOOM * amount, SHIFT * amount, COLOUR * amount),
        seed=config.seed,
        balance=config.balance,
    )
    held_out = store.indices(VALID) if len(store.indices(VALID)) else rows
    count = min(VALIDATION_IMAGES, len(held_out))
    chosen = held_out[np.linspace(0, len(held_out) - 1, count).round().astype(int)]
    return TrainingFaces(batches, store.images[chosen], torch.from_numpy(labels[chosen]))
