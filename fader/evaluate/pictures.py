"""The pictures of an evaluation's report."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from fader.data.batches import to_images, to_tensor
from fader.evaluate.editing import asked_of, device_of, paste
from fader.evaluate.swaps import Faces
from fader.models.model import FaderModel
from fader.train.samples import sample_grid, with_titles

# What a pixel grid shows of a slider, and of how many faces.
_SHOWN_POSITIONS = (-1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0)
_SLIDING = 2


@torch.inference_mode()
def pictures(model: FaderModel, faces: Faces) -> dict[str, Image.Image]:
    """Sheets of these faces by title: decoded, pasted, and moved along the sliders."""
    device = device_of(model)
    x, y = to_tensor(faces.images).to(device), torch.from_numpy(faces.labels).to(device)
    features = model.encode(x)
    columns = [faces.images]
    for i in range(len(model.attributes)):
        asked = asked_of(model, y, i, (y[:, i] <= 0.5).cpu().numpy())
        columns.append(paste(faces.images, model.change(features, asked, y)))
    made = {
        "Decoded, as scored: photo, decoding, and each attribute at its other side": sample_grid(
            model, x, y
        ),
        "Pasted, as the editor composes it: photo, and each attribute at its other side": (
            with_titles(_sheet(columns), ["photo", *model.attributes], model.size)
        ),
    }
    for row in range(min(_SLIDING, len(faces))):
        alone, own = [f[[row]] for f in features], y[[row]]
        sheet = []
        for position in _SHOWN_POSITIONS:
            column = []
            for i in range(len(model.attributes)):
                asked = asked_of(model, own, i, position)
                column.append(to_images(model.decode(alone, asked, own)))
            sheet.append(np.concatenate(column))
        titles = [f"{position:g}" for position in _SHOWN_POSITIONS]
        names = ", ".join(model.attributes)
        made[f"Sliders of face {row + 1}; from above: {names}"] = with_titles(
            _sheet(sheet), titles, model.size
        )
    return made


def _sheet(columns: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.concatenate(list(column), axis=0) for column in columns], axis=1)
