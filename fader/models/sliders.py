"""How far a slider takes an attribute: within the trained range 0..1, and beyond it.

A decoder does not make as much of every attribute: told 0 it may leave a face as young as before,
and a value of 2 may be a somewhat stronger smile, or a face that breaks. So what is asked for is
scaled, attribute by attribute: moves until a classifier sees in the decoding what was asked, and
positions beyond 0..1 until the picture changes as much as is wanted, or shows no more of it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from fader.models.io import FaderModel
from fader.models.regions import EXAGGERATION

#: Moves to 0 or 1 are lengthened until the classifier sees the value in this share of the faces
#: that had the other, but to no more than so many times their length (the packaged model has met
#: none longer), and only as long as this share of what it sees of the other attributes stays.
SEEN, LONGEST, KEPT = 0.95, 2.5, 0.83

#: Where no length reaches :data:`SEEN`, the shortest that has this much of what the best has: past
#: it a move only adds stains.
NEARLY = 0.96

#: A slider one unit beyond the range changes the picture this many times as much as one that goes
#: through the whole range.
GROWTH = 1 + EXAGGERATION

_HALVINGS = 6

# How often a way beyond the range is halved where less and less is seen of the attribute, and how
# much less of its mean probability counts as that.
_SHORTER, _LESS = 4, 0.02

# Labels at least this far from one half are clear. With fewer clear faces on one side, what a
# classifier sees in them says little.
_CLEAR, _FEWEST = 0.2, 8

# Lengths of a move that are tried, and faces that are decoded at once.
_LENGTHS, _BATCH = 13, 32

# σ in pixels of a 128-pixel face, and no fewer of a smaller one. Thin rims of glasses, seen well as
# they are, went with it.
_BLUR = 1.0


@torch.inference_mode()
def reaching(model: FaderModel, x: Tensor, y: Tensor) -> dict[str, tuple[float, float]]:
    """What :attr:`FaderModel.reach` is to hold, measured with the model's classifier.

    ``x`` are aligned faces N×3×S×S in [-1, 1], ``y`` their values N×n in 0..1. Of each attribute
    the shortest moves to 0 and to 1, in times 1..:data:`LONGEST` the way there, after which the
    classifier sees the new value in :data:`SEEN` of the faces that clearly had the other, and
    still does after a light blur, or in :data:`NEARLY` as many as it ever does; of those that leave
    :data:`KEPT` of its decisions on the model's other attributes as they are. For an attribute
    that it does not know, or that fewer than eight faces have, 1.
    """
    known = model.classifier.config.attributes if model.classifier else ()
    names = [name for name in model.attributes if name in known]
    columns = [known.index(name) for name in names]
    encoded = [model.encode(some) for some in x.split(_BATCH)]
    features = [torch.cat(parts) for parts in zip(*encoded, strict=True)]

    network, everyone = model.autoencoder, torch.arange(len(x))
    parts = everyone.split(_BATCH)
    shown = torch.cat([network.decode([f[some] for f in features], y[some]) for some in parts])

    def looked(images: Tensor) -> Tensor:
        return model.estimate(images)[:, columns] > 0.5

    def seen(rows: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Which of ``names`` the classifier sees in the faces ``rows``, decoded with ``codes``,
        as they are and blurred."""
        answers = []
        for some, code in zip(rows.split(_BATCH), codes.split(_BATCH), strict=True):
            decoded = network.decode([f[some] for f in features], code)
            decoded = network.confined(decoded, shown[some], code, y[some])
            decoded = decoded.float().clamp(-1, 1)
            sigma = _BLUR * max(1, decoded.shape[-1] / 128)
            answers.append((looked(decoded), looked(gaussian_blur(decoded, 7, sigma))))
        sharp, blurred = (torch.cat(parts) for parts in zip(*answers, strict=True))
        return sharp, blurred

    before = seen(everyone, y)[0] if names else None

    def length(name: str, column: int, value: int, rows: Tensor) -> float:
        mine = names.index(name)
        others = [i for i in range(len(names)) if i != mine]
        shares: dict[float, float] = {}
        start, wanted = y[rows], y[rows]
        wanted[:, column] = value
        if network.regions is not None:
            wanted = network.regions.eased(wanted, start)
        for tried in torch.linspace(1, LONGEST, _LENGTHS).tolist():
            codes = wanted.clone()
            codes[:, column] = start[:, column] + tried * (value - start[:, column])
            after, blurred = seen(rows, codes)
            kept = (after == before[rows])[:, others].float().mean() if others else 1.0
            if tried > 1 and kept < KEPT:
                break
            right = (after[:, mine] == value) & (blurred[:, mine] == value)
            shares[tried] = float(right.float().mean())
            if shares[tried] >= SEEN:
                break
        enough = min(SEEN, NEARLY * max(shares.values()))
        return next(tried for tried, share in shares.items() if share >= enough)

    reach = {}
    for column, name in enumerate(model.attributes):
        lengths = [1.0, 1.0]
        for value in (0, 1):
            rows = ((1 - value - y[:, column]).abs() <= 0.5 - _CLEAR).nonzero()[:, 0]
            if name in known and len(rows) >= _FEWEST:
                lengths[value] = length(name, column, value, rows)
        reach[name] = (lengths[0], lengths[1])
    return reach


@torch.inference_mode()
def calibrated(model: FaderModel, x: Tensor, y: Tensor) -> dict[str, tuple[float, float]]:
    """What :attr:`FaderModel.beyond` is to hold: scales below 0 and above 1, in 0..1.

    ``x`` are aligned faces N×3×S×S in [-1, 1], ``y`` their values N×n in 0..1. At position −1 their
    mean absolute change from position 1 is then :data:`GROWTH` times that from 1 to 0, and at 2
    the same from 0; or the scale is 1, where a unit changes less than that. Where the classifier,
    if it knows the attribute, sees it less at the end than half way there (by more than 0.02 of its
    probability), the way is halved (at most four times): a smile taken too far is no smile. Moves
    are as long as the model's :attr:`~FaderModel.reach` has them, which is to be measured first.
    """
    known = model.classifier.config.attributes if model.classifier else ()
    features = model.encode(x)
    shown = model.autoencoder.decode(features, y)

    def decoded(column: int, position: float) -> Tensor:
        codes = y.clone()
        codes[:, column] = position
        return model.decode(features, codes, y, shown).float().clamp(-1, 1)

    def seen(name: str, images: Tensor) -> float:
        """The mean probability of the attribute ``name``."""
        parts = [model.estimate(some)[:, known.index(name)] for some in images.split(_BATCH)]
        return float(torch.cat(parts).mean())

    def scale(name: str, column: int, start: int) -> float:
        """How many units past the other end faces that show ``start`` change as is wanted."""
        before, sign = decoded(column, start), 1 - 2 * start

        def change(units: float) -> float:
            return float((decoded(column, start + sign * units) - before).abs().mean())

        most = GROWTH * change(1)
        beyond = _largest(lambda beyond: change(1 + beyond) <= most)
        if name in known:

            def shows(units: float) -> float:
                return sign * seen(name, decoded(column, start + sign * units))

            end = shows(1 + beyond)
            for _ in range(_SHORTER):
                half = shows(1 + beyond / 2)
                if end >= half - _LESS:
                    break
                beyond, end = beyond / 2, half
        return beyond

    pace, model.beyond = model.beyond, {}
    try:
        return {
            name: (scale(name, column, 1), scale(name, column, 0))
            for column, name in enumerate(model.attributes)
        }
    finally:
        model.beyond = pace


def _largest(holds: Callable[[float], bool]) -> float:
    """The largest number in 0..1 up to which ``holds`` is true."""
    if holds(1.0):
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
