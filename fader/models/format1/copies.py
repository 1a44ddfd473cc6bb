"""Decoding a face in several places at once, and taking the mean.

A network of strided convolutions gives a little different picture of a face that lies a pixel
further: its errors, and the weave of its transposed convolutions, stay with the grid of pixels,
while the face moves along. So a face is encoded and decoded as it is and as moved, partly mirrored
copies, and the mean of their decodings, moved back, keeps what they agree on (cycle spinning,
Coifman & Donoho 1995, "Translation-invariant de-noising").
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

# Each mirrored or not, then moved by so many pixels right and down. Odd and even, so that every
# stride's grid is met in several places; small, since what is moved beyond the border is lost.
_COPIES = ((False, 0, 0), (True, 1, 1), (False, 2, -1), (True, -1, 3))

#: The most copies a face can be decoded in.
MOST_COPIES = len(_COPIES)


def moved(x: Tensor, copy: int) -> Tensor:
    """The ``copy``-th copy, from 0, of images N×C×H×W; number 0 is the images themselves."""
    mirrored, right, down = _COPIES[copy]
    return _shifted(x.flip(3) if mirrored else x, right, down)


def moved_back(x: Tensor, copy: int) -> Tensor:
    """Undo :func:`moved`. Next to a border, pixels are those at the border."""
    mirrored, right, down = _COPIES[copy]
    x = _shifted(x, -right, -down)
    return x.flip(3) if mirrored else x


def _shifted(x: Tensor, right: int, down: int) -> Tensor:
    if not (right or down):
        return x
    height, width = x.shape[2:]
    padded = F.pad(x, (max(right, 0), max(-right, 0), max(down, 0), max(-down, 0)), "replicate")
    top, left = max(-down, 0), max(-right, 0)
    return padded[:, :, top : top + height, left : left + width]
