"""The one place where an evaluation asks a model for pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fader.attributes import rivals
from fader.data.batches import to_images
from fader.faces.align import template
from fader.faces.blend import composite
from fader.faces.detect import Face
from fader.models.model import Decoding, FaderModel

# Where a mask is below this, a pixel counts as outside.
_OUTSIDE = 0.05


def device_of(model: FaderModel) -> torch.device:
    """Where the model's weights are."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def asked_of(model: FaderModel, own: Tensor, column: int, value: float | np.ndarray) -> Tensor:
    """The values ``own`` (N×n) with one attribute set to ``value`` (one, or N of them), and those
    it excludes taken down with it as the editor does (:func:`fader.edit.editor.settle`)."""
    asked = own.clone()
    asked[:, column] = torch.as_tensor(value, dtype=own.dtype, device=own.device)
    rises = asked[:, column] > own[:, column]
    most = (1 - asked[:, column]).clamp(min=0)
    for rival in rivals(model.attributes[column], model.attributes):
        other = model.attributes.index(rival)
        asked[:, other] = torch.where(rises, own[:, other].minimum(most), own[:, other])
    return asked


def decode(
    model: FaderModel, features: list[Tensor], y: Tensor, own: Tensor | None = None
) -> Tensor:
    """The faces decoded with values ``y`` (N×n), N×3×S×S in [-1, 1]: as they are, where these are
    their ``own`` (which is what None says)."""
    return model.decode(features, y, y if own is None else own)


@dataclass(frozen=True)
class Edited:
    """Faces after an edit: ``made`` as :meth:`FaderModel.change` gives it."""

    made: Decoding

    @property
    def image(self) -> Tensor:
        """N×3×S×S in [-1, 1]."""
        return self.made.image

    @property
    def mask(self) -> Tensor | None:
        """N×1×S×S in 0..1; None of a model without."""
        return None if bool((self.made.mask == 1).all()) else self.made.mask

    @property
    def pictures(self) -> np.ndarray:
        """uint8 N×S×S×3."""
        return to_images(self.image)


def edit(
    model: FaderModel, features: list[Tensor], asked: Tensor, own: Tensor, unedited: Tensor
) -> Edited:
    """The faces with the values ``asked`` (N×n) in the place of their ``own``."""
    return Edited(model.change(features, asked, own))


def code(model: FaderModel, x: Tensor) -> Tensor:
    """What the attributes are to be gone from, flat, N×D float32 on the CPU.

    Of a model with a mask that is the latent code: its skips bring the photo itself, and are meant
    to. Of another it is all that the decoder gets.
    """
    _, *features = model.encode(x)
    if getattr(model.autoencoder.config, "kind", None) == "difference":
        features = features[-1:]
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
    pasted = [
        composite(photo, whole, face)
        for photo, face in zip(photos, edited.made.faces(), strict=True)
    ]
    return np.stack(pasted) if pasted else photos
