"""The edits that training asks for: which attributes of which faces, how far, and in what light an
image discriminator sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fader.attributes import rivals

#: Share of a batch that is to stay as it is.
UNCHANGED = 0.2
#: Share of the edits that ask for all values of another face.
SHUFFLED = 0.3
#: How many times as far as to the other side edits go, at least and at most.
SHORTEST, LONGEST = 0.25, 1.5
# Attributes that hardly any face has would else be turned on and off all the time.
_RAREST = 0.02

# Of a view: brightness, in half the range of values; shifts and cutouts, in parts of the side; how
# often there are cutouts.
_BRIGHTNESS, _SHIFT, _CUTOUT, _CUTOUTS = 0.1, 1 / 32, 1 / 4, 0.2


@dataclass(frozen=True)
class Edits:
    """Edits of the first k of N faces.

    difference (N×n): what the decoder is told, target minus source values, up to :data:`LONGEST`
    times as far; 0 for faces that are not edited. target (k×n): the values on whose way the edits
    are. asked (k×n): the values that the edited face should show, 0..1. changed (k×n, bool): which
    attributes that is about.
    """

    difference: Tensor
    target: Tensor
    asked: Tensor
    changed: Tensor

    def of(self, rows: slice) -> Edits:
        """Those of some rows of the faces."""
        return Edits(*(part[rows] for part in vars(self).values()))


def edited_images(batch_size: int) -> int:
    """How many of a batch are edited; at least one is to stay as it is."""
    return batch_size - max(1, round(UNCHANGED * batch_size))


def draw_edits(
    y: Tensor, k: int, prior: Tensor, attributes: Sequence[str], random: torch.Generator
) -> Edits:
    """Edits of the first ``k`` of the faces with values ``y`` (N×n).

    One attribute is flipped or, for the share :data:`SHUFFLED` of them, all the values of the next
    face are asked for, which go together as a single flip's need not. ``prior`` (n,) is each
    attribute's share of ones. Half of the moves end at the target; the lengths of the others are
    uniform from :data:`SHORTEST` to :data:`LONGEST` times as far, since sliders go there, and what
    nothing has looked at in training is full of stains. Draws nothing for a ``k`` of 0.
    """
    difference, own = torch.zeros_like(y), y[:k]
    if not k:
        return Edits(difference, own, own, own > 0.5)
    target = flip_one(own, prior, attributes, random)
    first = k - round(SHUFFLED * k)
    target = torch.cat([target[:first], own.roll(-1, dims=0)[first:]])
    draw = torch.rand((2, k, 1), generator=random).to(y, non_blocking=True)
    length = torch.where(draw[0] < 0.5, SHORTEST + (LONGEST - SHORTEST) * draw[1], 1.0)
    difference[:k] = length * (target - own)
    changed = (target > 0.5) != (own > 0.5)
    return Edits(difference, target, (own + difference[:k]).clamp(0, 1), changed)


def flip_one(
    y: Tensor, prior: Tensor, attributes: Sequence[str], random: torch.Generator
) -> Tensor:
    """``y`` (N×n) with one attribute per row set to its other side (hard 0 or 1). The rarer a
    face's value, the likelier (by the root of it) it is flipped: both directions of an attribute
    get their turns, also where few faces have it."""
    share = torch.where(y > 0.5, prior, 1 - prior).clamp(min=_RAREST)
    # torch.multinomial's own way of drawing one column a row, without waiting for the device.
    race = torch.empty(y.shape).exponential_(generator=random).to(y.device, non_blocking=True)
    column = (share.rsqrt() / race).argmax(dim=1)
    return other_side(y, column, attributes)


def other_side(y: Tensor, column: Tensor, attributes: Sequence[str]) -> Tensor:
    """``y`` (N×n) with the attribute ``column`` (N,) of each row set to its other side (0 or 1).
    One that is turned on turns off those it excludes (:func:`exclusive`)."""
    rows = torch.arange(len(y), device=y.device)
    turned_on = y[rows, column] <= 0.5
    turned_off = exclusive(attributes).to(y.device)[column] & turned_on[:, None]
    target = torch.where(turned_off, torch.zeros_like(y), y)
    target[rows, column] = turned_on.to(y.dtype)
    return target


def exclusive(attributes: Sequence[str]) -> Tensor:
    """Which attributes exclude which (:func:`fader.attributes.rivals`), n×n bool; none itself."""
    return torch.tensor(
        [[other in rivals(name, attributes) for other in attributes] for name in attributes]
    )


class View:
    """One random view (DiffAugment, Zhao et al. 2020, arXiv 2006.10738, lightly) of N images, or of
    those some ``rows``; the same for all batches seen through it, photos and edited ones, as it has
    to be. Heavier views (blur, gray, cutouts half of the time) leave discriminators near chance."""

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
