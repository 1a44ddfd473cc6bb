"""Brightness and colour of faces N×3×S×S in -1..1, pixel by pixel."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

# Red, green and blue in brightness (ITU-R BT.601); a summand and bounds for its quotients, since of
# dark pixels these could be anything.
_BRIGHTNESS, _BLACK, _QUOTIENTS = (0.299, 0.587, 0.114), 0.03, (0.25, 3.0)

# How colourful what gets brighter is, from no more than it was (0: gloss) to as much more as it is
# brighter (1: light).
LIT = 0.5


def brightness(x: Tensor) -> Tensor:
    return (x * x.new_tensor(_BRIGHTNESS)[:, None, None]).sum(dim=1, keepdim=True)


def mean_colour(x: Tensor, weight: Tensor) -> Tensor:
    """The mean colour of faces M×3×S×S where ``weight`` (M×1×S×S) is, M×3×1×1."""
    weight = weight.to(x.dtype)
    total = weight.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    return (x * weight).sum(dim=(2, 3), keepdim=True) / total


def box_mean(x: Tensor, reach: int) -> Tensor:
    """Means over squares of 2 · ``reach`` + 1 pixels."""
    # By rows and by columns: a pooling looks at every pixel of its window.
    side = 2 * reach + 1
    x = F.avg_pool2d(x, (1, side), 1, (0, reach), count_include_pad=False)
    return F.avg_pool2d(x, (side, 1), 1, (reach, 0), count_include_pad=False)


def as_bright(decoded: Tensor, changed: Tensor) -> Tensor:
    """``decoded``, its pixels as bright as those of ``changed``, their hues what they were."""
    decoded, changed = (decoded + 1) / 2 + _BLACK, (changed + 1) / 2 + _BLACK
    quotient = (brightness(changed) / brightness(decoded)).clamp(*_QUOTIENTS)
    # Darker by shade, which leaves less colour; brighter in part by gloss, which adds none.
    lit = 1 + LIT * (quotient - 1).clamp(min=0)
    shaded = decoded * quotient.clamp(max=1) * lit
    bright = shaded + brightness(decoded) * (quotient - lit).clamp(min=0) - _BLACK
    return (bright * 2 - 1).clamp(-1, 1)


def as_colourful(decoded: Tensor, changed: Tensor, share: Tensor) -> Tensor:
    """``changed``, its pixels no more colourful than ``share`` of those of ``decoded``."""
    grey = brightness(changed)
    colour = changed - grey
    before = (decoded - brightness(decoded)).norm(dim=1, keepdim=True)
    before = before * share.to(before.dtype)
    return grey + colour * (before / colour.norm(dim=1, keepdim=True).clamp(min=1e-3)).clamp(max=1)
