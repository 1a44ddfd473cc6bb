"""What an image discriminator is shown: images under differentiable augmentation (DiffAugment, Zhao
et al. 2020, arXiv 2006.10738), lightly."""

from __future__ import annotations

import torch
from torch import Tensor

# Brightness, in half the range of values; shifts and cutouts, in parts of the side; how often.
_BRIGHTNESS, _SHIFT, _CUTOUT, _CUTOUTS = 0.1, 1 / 32, 1 / 4, 0.2


class View:
    """One random view, the same for all images seen through it: batches of N, or of those some
    ``rows``. Photos and edited images have to be seen through the same: heavier views (blur, gray,
    cutouts half of the time) leave discriminators near chance."""

    def __init__(
        self, n: int, size: int, random: torch.Generator, rows: slice = slice(None)
    ) -> None:
        most = max(1, round(_SHIFT * size))
        self.shift = tuple(torch.randint(-most, most + 1, (2,), generator=random).tolist())
        self.light = _BRIGHTNESS * (2 * torch.rand((n, 1, 1, 1), generator=random) - 1)[rows]
        self.holes = None
        if float(torch.rand((), generator=random)) < _CUTOUTS:
            side = round(_CUTOUT * size)
            corner = torch.randint(0, size - side + 1, (2, n, 1), generator=random)
            at = torch.arange(size)[None]
            down, across = ((at >= c) & (at < c + side) for c in corner[:, rows])
            self.holes = ~(down[:, :, None] & across[:, None])[:, None]

    def __call__(self, x: Tensor, first: int | None = None) -> Tensor:
        """Images N×3×S×S in [-1, 1] (or the ``first`` of the N) → the same, seen so; values may
        leave the range a little."""
        x = torch.roll(x, self.shift, dims=(2, 3)) + self.light[:first].to(x)
        return x if self.holes is None else x * self.holes[:first].to(x)
