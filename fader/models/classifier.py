"""The attribute classifier: what a face shows, as a probability per attribute."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from fader.attributes import ATTRIBUTES
from fader.errors import FaderError


@dataclass(frozen=True)
class ClassifierConfig:
    """``size``: side of the images it looks at (others are resized); ``width``: first channels."""

    attributes: tuple[str, ...] = ATTRIBUTES
    size: int = 128
    width: int = 24

    def __post_init__(self) -> None:
        object.__setattr__(self, "attributes", tuple(self.attributes))
        if self.size < 32 or self.size % 32:
            raise FaderError(f"size={self.size}: a classifier's size is a multiple of 32")


class AttributeClassifier(nn.Module):
    """A small pre-activation ResNet (He et al. 2016, arXiv 1603.05027): images → logits N×n.

    Images are N×3×S×S in [-1, 1]; another S than ``config.size`` is resized.
    """

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        w = config.width
        stages = [w, 2 * w, 4 * w, 8 * w, 10 * w]
        layers: list[nn.Module] = [nn.Conv2d(3, stages[0], 3, stride=2, padding=1)]
        for inputs, outputs in itertools.pairwise(stages):
            layers += [
                nn.BatchNorm2d(inputs),
                nn.ReLU(),
                nn.Conv2d(inputs, outputs, 3, stride=2, padding=1),
                _Residual(outputs),
            ]
        self.features = nn.Sequential(*layers, nn.BatchNorm2d(stages[-1]), nn.ReLU())
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(stages[-1], len(config.attributes)))

    def embed(self, x: Tensor) -> Tensor:
        """Pooled features, N×(10·width)."""
        if x.shape[-1] != self.config.size:
            x = F.interpolate(
                x,
                size=(self.config.size, self.config.size),
                mode="bilinear",
                antialias=x.shape[-1] > self.config.size,
                align_corners=False,
            )
        return self.features(x).mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.embed(x))


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, h: Tensor) -> Tensor:
        return h + self.body(h)
