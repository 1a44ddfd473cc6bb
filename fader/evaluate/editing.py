"""The one place where an evaluation asks a model for pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fader.data.batches import to_images
from fader.faces.align import template
from fader.faces.blend import composite
from fader.faces.detect import Face
from fader.models.io import FaderModel

# Where a mask is below this, a pixel counts as outside.
_OUTSIDE = 0.05


def device_of(model: FaderModel) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def decode(
    model: FaderModel, features: list[Tensor], y: Tensor, own: Tensor | None = None
) -> Tensor:
    """The faces decoded with values ``y`` (N×n), N×3×S×S in [-1, 1]: as they are, where these are
    their ``own`` (which is what None says)."""
    if hasattr(model, "change"):
        return model.decode(features, y, y if own is None else own)
    return model.decode(features, y)


@dataclass(frozen=True)
class Edited:
    """Faces after an edit: ``image`` N×3×S×S in [-1, 1], the model's ``mask`` N×1×S×S in 0..1
    (None of a model without), and where only a tint changed (see :meth:`FaderModel.tinted`)."""

    image: Tensor
    mask: Tensor | None
    tinted: Tensor | None

    @property
    def pictures(self) -> np.ndarray:
        """uint8 N×S×S×3."""
        return to_images(self.image)


def edit(
    model: FaderModel, features: list[Tensor], asked: Tensor, own: Tensor, unedited: Tensor
) -> Edited:
    """The faces with the values ``asked`` (N×n) in the place of their ``own``; ``unedited`` is
    what :func:`decode` makes of their own."""
    if hasattr(model, "change"):
        change = model.change(features, asked, own)
        return Edited(change.image, change.mask, None)
    image = model.decode(features, asked, own, unedited)
    return Edited(image, None, model.tinted(asked, own))


def code(model: FaderModel, x: Tensor) -> Tensor:
    """What the attributes are to be gone from, flat, N×D float32 on the CPU.

    Of a model with a mask that is the latent code: its skips bring the photo itself, and are meant
    to. Of another it is all that the decoder gets.
    """
    features = model.encode(x)[-1:] if hasattr(model, "change") else model.encode(x, copies=1)
    return torch.cat([f.flatten(1) for f in features], dim=1).float().cpu()


def outside(photos: np.ndarray, images: np.ndarray, mask: Tensor | None) -> np.ndarray:
    """PSNR in dB (N,) of uint8 ``images`` N×S×S×3 to their ``photos`` where the mask is (nearly)
    nothing, 60 at most; NaN where it is everywhere something, or there is none."""
    result = np.full(len(images), np.nan)
    if mask is None:
        return result
    for i, where in enumerate((mask[:, 0] < _OUTSIDE).cpu().numpy()):
        if where.mean() >= 0.01:
            error = (photos[i][where].astype(np.float64) - images[i][where]) / 255
            result[i] = min(60.0, -10 * np.log10(max((error**2).mean(), 1e-12)))
    return result


def paste(photos: np.ndarray, before: np.ndarray, edited: Edited) -> np.ndarray:
    """The crops ``photos`` with the change from ``before`` to ``edited`` composed into them as the
    editor does in a photo; all uint8 N×S×S×3."""
    size = photos.shape[1]
    whole = Face(np.array([0, 0, size, size], float), 1.0, template(size))
    tinted = [None] * len(photos)
    if edited.tinted is not None:
        tinted = edited.tinted[:, 0].float().cpu().numpy()
    pasted = [
        composite(photo, whole, b.astype(np.float32), a.astype(np.float32), where)
        for photo, b, a, where in zip(photos, before, edited.pictures, tinted, strict=True)
    ]
    return np.stack(pasted) if pasted else photos
