"""The one place where an evaluation asks a model for edits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fader.attributes import rivals
from fader.data.batches import to_images
from fader.evaluate.case import Faces
from fader.faces.align import template
from fader.faces.blend import composite
from fader.faces.detect import Face
from fader.models.model import Decoding, FaderModel
from fader.train.validation import sample_grid, with_titles

#: A label at least this far from one half is clear; only such faces are swapped.
CLEAR = 0.2

# Where a mask is below this, a pixel counts as outside.
_OUTSIDE = 0.05

# What a picture shows of a slider, and of how many faces.
_POSITIONS = (-1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0)
_SLIDING = 2


def other_side(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which faces have a clear label (bool), and the other side of each label (0.0 or 1.0)."""
    return np.abs(labels - 0.5) >= CLEAR, (labels < 0.5).astype(np.float32)


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


def swaps(
    model: FaderModel, features: list[Tensor], y: Tensor, names: Iterable[str]
) -> Iterator[tuple[str, np.ndarray, np.ndarray, Decoding]]:
    """Some attributes, each with the rows of the encoded faces with values ``y`` whose label is
    clear, its other side there, and how they change when it is set to that."""
    for name in names:
        column = model.attributes.index(name)
        clear, other = other_side(y[:, column].cpu().numpy())
        if len(rows := np.flatnonzero(clear)):
            asked = asked_of(model, y[rows], column, other[rows])
            yield name, rows, other[rows], model.change([f[rows] for f in features], asked, y[rows])


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


@torch.inference_mode()
def pictures(model: FaderModel, faces: Faces) -> dict[str, Image.Image]:
    """Sheets of these faces by title: decoded, pasted, and moved along the sliders."""
    (features, y), count = faces.encoded(model), len(model.attributes)
    pasted = [faces.images]
    for i in range(count):
        asked = asked_of(model, y, i, (y[:, i] <= 0.5).cpu().numpy())
        pasted.append(paste(faces.images, model.change(features, asked, y)))
    made = {
        "Decoded, as scored: photo, decoding, and each attribute at its other side": sample_grid(
            model, features[0], y
        ),
        "Pasted, as the editor composes it: photo, and each attribute at its other side": (
            with_titles(pasted, ["photo", *model.attributes])
        ),
    }
    for row in range(min(_SLIDING, len(faces))):
        alone, own = [f[[row]] for f in features], y[[row]]
        sheet = []
        for position in _POSITIONS:
            every = (asked_of(model, own, i, position) for i in range(count))
            column = [to_images(model.decode(alone, asked, own)) for asked in every]
            sheet.append(np.concatenate(column))
        title = f"Sliders of face {row + 1}; from above: {', '.join(model.attributes)}"
        made[title] = with_titles(sheet, [f"{position:g}" for position in _POSITIONS])
    return made
