"""Which attribute values a changed decoding is asked for."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def flip_one(
    y: Tensor, generator: torch.Generator, odds: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """``y`` with one attribute per row set to its other side (hard 0 or 1).

    ``y`` is N×n in 0..1. Attributes are drawn evenly, or in proportion to ``odds`` (n×2): of
    attribute j's change to 0 and to 1. Returns the new values and which of them changed (N×n,
    bool).
    """
    changed = _drawn(y, generator, odds).to(y.device)
    return torch.where(changed, (y <= 0.5).to(y.dtype), y), changed


class Flips:
    """Flips one attribute and, of the others, what would be rare beside it.

    ``labels`` (N×n in 0..1) are those of the training images. A face of the values c is asked for
    values t that some of them have, with the drawn attribute on its other side; t is drawn in
    proportion to how many have it, times ``along`` for each further attribute in which t differs
    from c. So where the flip alone is common (a smile), it mostly stays alone; where next to no
    face is like that (young and grey-haired), the partner goes along, and the decoder need not
    draw what nobody looks like. With ``along`` 0 one attribute is flipped, whatever comes of it.
    """

    def __init__(self, labels: np.ndarray, along: float) -> None:
        self._along = along
        combinations, counts = np.unique(labels > 0.5, axis=0, return_counts=True)
        self._combinations = torch.from_numpy(combinations)
        self._counts = torch.from_numpy(counts).float()

    def draw(
        self, y: Tensor, generator: torch.Generator, odds: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As :func:`flip_one`; more than one attribute of a row may change."""
        if not self._along:
            return flip_one(y, generator, odds)
        own = (y > 0.5).cpu()
        first = _drawn(y, generator, odds)
        differs = self._combinations[None] != own[:, None]  # rows × combinations × n
        fits = differs[first[:, None].expand_as(differs)].view(len(y), -1)
        weights = self._counts * self._along ** (differs.sum(dim=2) - 1) * fits
        drawn = torch.multinomial(weights, 1, generator=generator)
        changed = differs.gather(1, drawn[:, :, None].expand(-1, -1, y.shape[1]))[:, 0].to(y.device)
        return torch.where(changed, (y <= 0.5).to(y.dtype), y), changed


def _drawn(y: Tensor, generator: torch.Generator, odds: Tensor | None) -> Tensor:
    """One attribute per row, N×n bool, on the CPU."""
    n, k = y.shape
    if odds is None:
        column = torch.randint(k, (n,), generator=generator)
    else:
        to_1 = (y <= 0.5).long().cpu()
        weights = odds.expand(n, -1, -1).gather(2, to_1[:, :, None])[:, :, 0]
        column = torch.multinomial(weights, 1, generator=generator)[:, 0]
    return F.one_hot(column, k).bool()
