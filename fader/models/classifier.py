"""The attribute classifier: what a face shows, as a probability per attribute."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from fader.attributes import ATTRIBUTES
from fader.errors import FaderError


@dataclass(frozen=True)
class ClassifierConfig:
    """``size``: side of the images it looks at; ``width``: first channels; ``architecture``:
    ``resnet`` goes into a model; ``plain``, convolutions without shortcuts, is for a judge that
    must not share its blind spots."""

    attributes: tuple[str, ...] = ATTRIBUTES
    size: int = 128
    width: int = 24
    architecture: Literal["resnet", "plain"] = "resnet"

    def __post_init__(self) -> None:
        object.__setattr__(self, "attributes", tuple(self.attributes))
        if self.size < 32 or self.size % 32:
            raise FaderError(f"size={self.size}: a classifier's size is a multiple of 32")
        if self.architecture not in _FEATURES:
            known = " or ".join(_FEATURES)
            raise FaderError(f"architecture={self.architecture!r}: must be {known}")


class AttributeClassifier(nn.Module):
    """A small convolutional network; images of another side than ``config.size`` are resized."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        #: How it was trained, ``identities`` among it: which half of the people it learnt from.
        self.notes: dict[str, Any] = {}
        self.features, channels = _FEATURES[config.architecture](config.width)
        #: Length of what :meth:`embed` gives.
        self.channels: int = channels
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(channels, len(config.attributes)))

    def embed(self, x: Tensor) -> Tensor:
        """Features pooled over the image, N×C."""
        return self.features(resized(x, self.config.size)).mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Images N×3×S×S in [-1, 1] → logits N×n."""
        return self.head(self.embed(x))


def resized(x: Tensor, size: int) -> Tensor:
    """Square images N×3×S×S at another ``size``."""
    if x.shape[-1] == size:
        return x
    smaller = x.shape[-1] > size
    return F.interpolate(x, (size, size), mode="bilinear", align_corners=False, antialias=smaller)


def resnet(w: int) -> tuple[nn.Sequential, int]:
    """A pre-activation ResNet (He et al. 2016, arXiv 1603.05027), and its output channels."""
    stages = [w, 2 * w, 4 * w, 8 * w, 10 * w]
    layers: list[nn.Module] = [nn.Conv2d(3, stages[0], 3, stride=2, padding=1)]
    for inputs, outputs in itertools.pairwise(stages):
        halving = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)
        layers += [nn.BatchNorm2d(inputs), nn.ReLU(), halving, _Residual(outputs)]
    return nn.Sequential(*layers, nn.BatchNorm2d(stages[-1]), nn.ReLU()), stages[-1]


def _plain(w: int) -> tuple[nn.Sequential, int]:
    """Stride-2 and stride-1 convolutions in turn (VGG-like, Simonyan & Zisserman 2014, arXiv
    1409.1556), and its output channels."""
    widths = (w, 2 * w, 2 * w, 4 * w, 4 * w, 8 * w, 8 * w)
    layers: list[nn.Module] = []
    for i, (inputs, outputs) in enumerate(itertools.pairwise((3, *widths))):
        kernel, stride = (5, 2) if i == 0 else (3, 1 + i % 2)
        conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
        layers += [conv, nn.BatchNorm2d(outputs), nn.LeakyReLU(0.1)]
    return nn.Sequential(*layers), widths[-1]


_FEATURES = {"resnet": resnet, "plain": _plain}


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
