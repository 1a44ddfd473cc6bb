"""The packaged face embedder: small, trained on people's true identities, for measuring only."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fader.files import write_text
from fader.models.classifier import resized, resnet
from fader.models.folders import read_config
from fader.models.model import save_weights
from fader.models.weights import load_weights

WEIGHTS, CONFIG = "embedder.safetensors", "config.json"

# The part of an aligned face that is looked at, from the left and from above, and its side, as
# fractions of the image: brows to chin. Hair and background are not who somebody is.
_LEFT, _TOP, _SIDE = 0.15, 0.195, 0.7


@dataclass(frozen=True)
class EmbedderConfig:
    """``size``: side of the part of a face it looks at, pixels, a multiple of 32; ``width``: first
    channels; ``dimensions`` of an embedding. ``same_person``: two embeddings nearer than this are
    one person's, chosen on validation people."""

    size: int = 64
    width: int = 16
    dimensions: int = 64
    same_person: float = 1.0


class FaceEmbedder(nn.Module):
    """Aligned faces N×3×S×S in [-1, 1] → embeddings N×d of length 1; near means alike."""

    def __init__(self, config: EmbedderConfig) -> None:
        super().__init__()
        self.config = config
        self.features, channels = resnet(config.width)
        self.project = nn.Linear(channels * (config.size // 32) ** 2, config.dimensions)

    def forward(self, x: Tensor) -> Tensor:
        """Aligned faces N×3×S×S in [-1, 1] → their embeddings N×d."""
        return self.placed(self.seen(resized(inner(x), self.config.size)))

    def seen(self, x: Tensor) -> Tensor:
        """What the convolutions make of the inner faces N×3×s×s, flat, N×D."""
        return self.features(x).flatten(1)

    def placed(self, seen: Tensor) -> Tensor:
        """The embeddings of what was seen."""
        return F.normalize(self.project(seen))


def inner(x: Tensor) -> Tensor:
    """The part of aligned faces N×3×S×S between brows and chin."""
    size = x.shape[-1]
    left, top, side = (round(part * size) for part in (_LEFT, _TOP, _SIDE))
    return x[..., top : top + side, left : left + side]


def save_embedder(
    embedder: FaceEmbedder, folder: str | os.PathLike[str], notes: dict[str, Any]
) -> None:
    """Write the embedder in half precision, with ``notes`` on its training and its accuracy."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(embedder, folder / WEIGHTS, torch.float16)
    config = {"embedder": asdict(embedder.config), "training": notes}
    write_text(folder / CONFIG, json.dumps(config, indent=2) + "\n")


def load_embedder(folder: str | os.PathLike[str]) -> tuple[FaceEmbedder, dict[str, Any]]:
    """An embedder that :func:`save_embedder` wrote, in evaluation mode, and its notes.

    Raises :class:`FaderError` when the folder holds none or its files do not fit.
    """
    config = read_config(Path(folder), "embedder", "face embedder")
    embedder = FaceEmbedder(EmbedderConfig(**config["embedder"]))
    load_weights(embedder, Path(folder) / WEIGHTS)
    return embedder.eval().requires_grad_(False), config["training"]
