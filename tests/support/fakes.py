"""A model whose answers are known, with the interface of :class:`fader.models.model.FaderModel`."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch

from fader.attributes import ATTRIBUTES
from fader.faces.align import invert, template, transform_points
from fader.faces.detect import Face
from fader.models.model import Decoding


class FakeModel(torch.nn.Module):
    """Its decoder blurs the picture a little, and Smiling brightens a disc at the mouth.

    Estimates are Smiling 0.97, Male 0.3, and 0.1 for all else.
    """

    attributes = ("Male", "Smiling", "Blond_Hair", "Black_Hair")
    size = 64

    def __init__(self) -> None:
        super().__init__()
        self.classifier = SimpleNamespace(config=SimpleNamespace(attributes=ATTRIBUTES))
        self.strength: dict = {}
        self.decodings = 0
        x, y = template(self.size)[3:].mean(axis=0)
        rows, columns = torch.meshgrid(*(torch.arange(64.0),) * 2, indexing="ij")
        self.disc = torch.sigmoid((100 - (columns - x) ** 2 - (rows - y) ** 2) / 10)

    def encode(self, x):
        return [torch.nn.functional.avg_pool2d(x, 3, stride=1, padding=1)]

    def change(self, features, y, own):
        self.decodings += len(y)
        x = features[0].repeat(len(y) // len(features[0]), 1, 1, 1)
        own = own.repeat(len(y) // len(own), 1)
        lighter = 0.5 * (y - own)[:, 1, None, None, None] * self.disc
        return Decoding(x, (x + lighter).clamp(-1, 1), torch.ones_like(x[:, :1]))

    def estimate(self, x):
        row = torch.full((len(ATTRIBUTES),), 0.1)
        row[ATTRIBUTES.index("Smiling")] = 0.97
        row[ATTRIBUTES.index("Male")] = 0.3
        return row.repeat(len(x), 1)


def made_face(center=(150.0, 120.0), scale=1.0, angle=0.0) -> Face:
    """A face whose landmarks are the template's, turned by ``angle`` (radians) and enlarged.

    At ``scale`` 1 its aligned crop covers 100 pixels of the photo.
    """
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    points = template(100) - 49.5
    points = points @ np.array([[c, -s], [s, c]]).T + center
    low, high = points.min(axis=0), points.max(axis=0)
    return Face(np.concatenate([low, high]), 0.99, points)


def crop_corners(face: Face) -> np.ndarray:
    """The corners of the aligned crop, (4, 2), in the photo."""
    corners = np.array([[-0.5, -0.5], [99.5, -0.5], [99.5, 99.5], [-0.5, 99.5]])
    return transform_points(invert(face.transform(100)), corners)
