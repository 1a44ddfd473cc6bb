"""The edits that training asks for: which attributes of which faces, and how far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fader.attributes import rivals

# Attributes that hardly any face has would else be turned on and off all the time.
_RAREST = 0.02

# Shortest move that is trained; the longest is the config's.
_SHORTEST = 0.25


@dataclass(frozen=True)
class Edits:
    """Edits of N faces with values N×n.

    target (N×n): the values on whose way the edits are. difference (N×n): what the decoder is told,
    target minus source, up to ``longest`` times as far. asked (N×n): the values the edited face
    should show, 0..1. changed (N×n, bool): which attributes that is about.
    """

    target: Tensor
    difference: Tensor
    asked: Tensor
    changed: Tensor


def draw_edits(
    y: Tensor,
    prior: Tensor,
    attributes: Sequence[str],
    shuffled: float,
    longest: float,
    random: torch.Generator,
) -> Edits:
    """Edits of faces with values ``y``: one attribute flipped or, for the share ``shuffled`` of
    them, all the values of the next face, which go together as a single flip's need not.

    ``prior`` (n,) is each attribute's share of ones. Half of the moves end at the target; the
    lengths of the others are uniform from a quarter to ``longest`` times as far, since sliders go
    there and what nothing has looked at in training is full of stains.
    """
    n = len(y)
    target = flip_one(y, prior, attributes, random)
    first = n - round(shuffled * n)
    target = torch.cat([target[:first], y.roll(-1, dims=0)[first:]])
    draw = torch.rand((2, n, 1), generator=random).to(y)
    length = torch.where(draw[0] < 0.5, _SHORTEST + (longest - _SHORTEST) * draw[1], 1.0)
    difference = length * (target - y)
    changed = (target > 0.5) != (y > 0.5)
    return Edits(target, difference, (y + difference).clamp(0, 1), changed)


def flip_one(
    y: Tensor, prior: Tensor, attributes: Sequence[str], random: torch.Generator
) -> Tensor:
    """``y`` (N×n) with one attribute per row set to its other side (hard 0 or 1).

    The rarer a face's value, the likelier (by the root of it) it is the one flipped: both
    directions of an attribute get their turns, also where few faces have it.
    """
    share = torch.where(y > 0.5, prior, 1 - prior).clamp(min=_RAREST)
    column = torch.multinomial(share.rsqrt().cpu(), 1, generator=random)[:, 0].to(y.device)
    return other_side(y, column, attributes)


def other_side(y: Tensor, column: Tensor, attributes: Sequence[str]) -> Tensor:
    """``y`` (N×n) with the attribute ``column`` (N,) of each row set to its other side (0 or 1).

    One that is turned on turns off those it excludes (:func:`exclusive`).
    """
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
