"""The one place where an evaluation asks a model for pictures."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fader.attributes import rivals
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


def code(model: FaderModel, x: Tensor) -> Tensor:
    """What the attributes are to be gone from, flat, N×D float32 on the CPU.

    Of a model with a mask that is the latent code: its skips bring the photo itself, and are meant
    to. Of another it is all that the decoder gets.
    """
    _, *features = model.encode(x)
    if model.autoencoder.config.kind == "difference":
        features = features[-1:]
    return torch.cat([f.flatten(1) for f in features], dim=1).float().cpu()


def outside(photos: np.ndarray, images: np.ndarray, mask: Tensor) -> np.ndarray:
    """PSNR in dB (N,) of uint8 ``images`` N×S×S×3 to their ``photos`` where the mask (N×1×S×S) is
    (nearly) nothing, 60 at most; NaN where it is everywhere something."""
    result = np.full(len(images), np.nan)
    for i, where in enumerate((mask[:, 0] < _OUTSIDE).cpu().numpy()):
        if where.mean() >= 0.01:
            error = (photos[i][where].astype(np.float64) - images[i][where]) / 255
            result[i] = min(60.0, -10 * np.log10(max((error**2).mean(), 1e-12)))
    return result


def paste(photos: np.ndarray, made: Decoding) -> np.ndarray:
    """The crops ``photos`` (uint8 N×S×S×3) with their edits composed into them as the editor does
    in a photo."""
    size = photos.shape[1]
    whole = Face(np.array([0, 0, size, size], float), 1.0, template(size))
    pasted = [
        composite(photo, whole, face) for photo, face in zip(photos, made.faces(), strict=True)
    ]
    return np.stack(pasted) if pasted else photos
