"""Held-out faces reconstructed and edited: the numbers and pictures that a run is watched by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from fader.data.batches import to_images
from fader.models.model import FaderModel
from fader.photo import save_image
from fader.train import losses
from fader.train.edits import flip_one, other_side


@torch.no_grad()
def validate(
    model: FaderModel, x: Tensor, y: Tensor, prior: Tensor, batch_size: int
) -> dict[str, float]:
    """Faces N×3×S×S in [-1, 1] with values N×n, decoded as they are (``reconstruction_loss``: mean
    square error) and with one attribute flipped. With a classifier, ``swap_accuracy``: share of
    flips that it sees; ``kept``: share of its decisions on the model's other attributes that are
    those on the photo."""
    sums: dict[str, float] = {}
    names = model.attributes
    for start in range(0, len(x), batch_size):
        faces, own = (part[start : start + batch_size].to(model.device) for part in (x, y))
        asked = flip_one(own, prior.to(own), names, torch.Generator().manual_seed(start))
        features = model.encode(faces)
        plain = model.decode(features, own, own).float()
        values = {"reconstruction_loss": losses.reconstruction_mse(plain, faces)}
        if model.classifier is not None:
            columns = [model.classifier.config.attributes.index(name) for name in names]
            edited = model.decode(features, asked, own).float()
            before, after = (model.classifier(seen)[:, columns] > 0 for seen in (faces, edited))
            flipped = asked != own
            values["swap_accuracy"] = (after == (asked > 0.5))[flipped].float().mean()
            values["kept"] = (after == before)[~flipped].float().mean()
        for name, value in values.items():
            sums[name] = sums.get(name, 0.0) + float(value) * len(faces) / len(x)
    return sums


@torch.no_grad()
def sample_grid(model: FaderModel, x: Tensor, y: Tensor) -> Image.Image:
    """Faces N×3×S×S in [-1, 1] with values N×n → a picture: a row per face; columns are the photo,
    its reconstruction, and the decoding with each attribute asked to be on its other side."""
    features = model.encode(x)
    columns = [to_images(x), to_images(model.decode(features, y, y))]
    for i in range(y.shape[1]):
        swapped = other_side(y, torch.full((len(y),), i, device=y.device), model.attributes)
        columns.append(to_images(model.decode(features, swapped, y)))
    return with_titles(columns, ["photo", "decoded", *model.attributes])


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


def with_titles(columns: Sequence[np.ndarray], titles: Sequence[str]) -> Image.Image:
    """Columns of images M×S×S×3 uint8, side by side under a band with their titles."""
    band, width = 16, columns[0].shape[2]
    picture = np.hstack([np.vstack(list(column)) for column in columns])
    image = Image.new("RGB", (picture.shape[1], picture.shape[0] + band), "white")
    image.paste(Image.fromarray(picture), (0, band))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=11)
    for i, title in enumerate(titles):
        draw.text((i * width + 2, 1), title[: max(1, width // 6)], fill="black", font=font)
    return image
