"""How far a slider takes an attribute beyond the trained range 0..1.

A decoder that only ever saw values within 0..1 goes on beyond them, each attribute at its own pace:
a value of 2 may be a somewhat stronger smile, or a face that breaks. So positions beyond 0..1 are
scaled, attribute by attribute, until the picture changes as much as is wanted.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from fader.models.io import FaderModel

#: A slider one unit beyond the range changes the picture this many times as much as one that goes
#: through the whole range.
GROWTH = 1.5

_HALVINGS = 6


@torch.inference_mode()
def calibrated(model: FaderModel, x: Tensor, y: Tensor) -> dict[str, tuple[float, float]]:
    """What :attr:`FaderModel.beyond` is to hold: scales below 0 and above 1, in 0..1.

    ``x`` are aligned faces N×3×S×S in [-1, 1], ``y`` their values N×n in 0..1. At position −1 their
    mean absolute change from position 1 is then :data:`GROWTH` times that from 1 to 0, and at 2
    the same from 0; or the scale is 1, where a unit changes less than that.
    """
    features = model.encode(x)

    def change(column: int, value: float, other: float) -> float:
        decoded = []
        for one in (value, other):
            codes = y.clone()
            codes[:, column] = one
            decoded.append(model.autoencoder.decode(features, codes).float().clamp(-1, 1))
        return float((decoded[0] - decoded[1]).abs().mean())

    scales = {}
    for column, name in enumerate(model.attributes):
        move = partial(change, column)
        wanted = GROWTH * move(0, 1)
        below = _largest(lambda s, move=move, wanted=wanted: move(-s, 1) <= wanted)
        above = _largest(lambda s, move=move, wanted=wanted: move(1 + s, 0) <= wanted)
        scales[name] = (below, above)
    return scales


def _largest(holds: Callable[[float], bool]) -> float:
    """The largest number in 0..1 up to which ``holds`` is true."""
    if holds(1.0):
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
