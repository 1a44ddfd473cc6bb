"""The sample grid: held-out faces, reconstructed, and with every attribute swapped."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from fader.data.batches import to_images
from fader.models.model import FaderModel
from fader.photo import save_image
from fader.train.edits import other_side


@torch.no_grad()
def sample_grid(model: FaderModel, x: Tensor, y: Tensor) -> Image.Image:
    """Faces N×3×S×S in [-1, 1] with values N×n → a picture: a row per face; columns are the
    photo, its reconstruction, and the decoding with each attribute asked to be on its other
    side."""
    features = model.encode(x)
    columns = [to_images(x), to_images(model.decode(features, y, y))]
    for i in range(y.shape[1]):
        swapped = other_side(y, torch.full((len(y),), i, device=y.device), model.attributes)
        columns.append(to_images(model.decode(features, swapped, y)))
    picture = np.concatenate([np.concatenate(list(column), axis=0) for column in columns], axis=1)
    return with_titles(picture, ["photo", "decoded", *model.attributes], model.size)


def sheet(x: Tensor) -> Image.Image:
    """Images N×3×S×S in [-1, 1] as a picture of about as many rows as columns, which begins again
    where it is not full."""
    images = to_images(x)
    across = math.ceil(len(images) ** 0.5)
    rows = [images[i : i + across] for i in range(0, len(images), across)]
    rows[-1] = np.concatenate([rows[-1], images[: across - len(rows[-1])]])
    return Image.fromarray(np.vstack([np.hstack(list(row)) for row in rows]))


def save_grid(grid: Image.Image, path: Path) -> None:
    """Write a grid as JPEG."""
    save_image(grid, path, quality=90)


def with_titles(picture: np.ndarray, titles: list[str], width: int) -> Image.Image:
    """An H×W×3 uint8 picture under a band with a title for each of its ``width``-wide columns."""
    band = 16
    image = Image.new("RGB", (picture.shape[1], picture.shape[0] + band), "white")
    image.paste(Image.fromarray(picture), (0, band))
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=11)
    for i, title in enumerate(titles):
        draw.text((i * width + 2, 1), title[: max(1, width // 6)], fill="black", font=font)
    return image
