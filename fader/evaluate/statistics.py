"""The statistics of an evaluation, on plain arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A mean over ``n`` faces, and the ends of its 95 % interval (see :func:`estimate`)."""

    value: float
    low: float
    high: float
    n: int


def estimate(
    values: np.ndarray, people: np.ndarray, sides: np.ndarray | None = None, seed: int = 0
) -> Estimate | None:
    """The mean of ``values`` (n,), with a bootstrap interval; None when there are no values.

    ``people`` (n,) says whose face each value belongs to: whole people are drawn, not faces, since
    two faces of one person are no independent evidence (cluster bootstrap, Davison & Hinkley
    1997, §3.8). With ``sides`` (n,) it is the mean over sides of the mean within each, so that
    right/wrong values give a balanced accuracy.

    A share of 0 or of 1 looks certain to the bootstrap, however few the faces: there the interval
    is Wilson's (1927), with the people for its number.
    """
    values = np.asarray(values, np.float64)
    if not len(values):
        return None
    sides = np.zeros(len(values)) if sides is None else np.asarray(sides)
    _, group = np.unique(people, return_inverse=True)
    count = group.max() + 1
    draws = np.random.default_rng(seed).integers(count, size=(1000, count))
    means, resampled, wilsons = [], [], []
    for side in np.unique(sides):
        own, whose = values[sides == side], group[sides == side]
        means.append(own.mean())
        if np.isin(own, (0, 1)).all() and means[-1] in (0, 1):
            wilsons.append(wilson(means[-1], len(np.unique(whose))))
        sums, sizes = (np.bincount(whose, weights, count)[draws] for weights in (own, None))
        drawn = sizes.sum(axis=1)
        # A draw may have missed this side; it then says nothing.
        with np.errstate(invalid="ignore"):
            resampled.append(np.where(drawn > 0, sums.sum(axis=1) / drawn, np.nan))
    if len(wilsons) == len(means):
        low, high = np.mean(wilsons, axis=0)
    else:
        spread = np.mean(resampled, axis=0)
        low, high = np.quantile(spread[np.isfinite(spread)], [0.025, 0.975])
    return Estimate(float(np.mean(means)), float(low), float(high), len(values))


def estimate_some(
    values: np.ndarray, people: np.ndarray, sides: np.ndarray | None = None, seed: int = 0
) -> Estimate:
    """:func:`estimate` of values of which there is at least one; else :class:`ValueError`."""
    found = estimate(values, people, sides, seed)
    if found is None:
        raise ValueError("there are no values to estimate from")
    return found


def wilson(share: float, n: int) -> tuple[float, float]:
    """The ends of the 95 % interval of a ``share`` (0..1) that ``n`` independent trials had."""
    z2 = 1.959964**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def distinct_people(identity: np.ndarray) -> np.ndarray:
    """Identity numbers (n,) in which every face of an unknown person (-1) is its own person."""
    return np.where(identity < 0, -1 - np.arange(len(identity)), identity)


def balanced_accuracy(guesses: np.ndarray, truth: np.ndarray) -> float:
    """The mean over the sides that occur in ``truth`` of the share guessed right; both (n,) bool.
    0.5 is what knowing nothing scores."""
    return float(np.mean([(guesses == truth)[truth == side].mean() for side in np.unique(truth)]))


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation of two (n,) arrays; 0 where one of them does not vary."""
    x, y = _ranks(a), _ranks(b)
    x, y = x - x.mean(), y - y.mean()
    norm = np.sqrt((x * x).sum() * (y * y).sum())
    return float((x * y).sum() / norm) if norm else 0.0


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """The Fréchet distance of two sets of features (n, d), (m, d) taken as Gaussians: |μa − μb|² +
    tr(Σa + Σb − 2 (Σa Σb)^½) (Dowson & Landau 1982). Biased upwards for few images: compare only
    numbers with like n."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    covariances = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    # The root's trace needs only the product's eigenvalues, which are real and not negative.
    product = np.linalg.eigvals(covariances[0] @ covariances[1]).real.clip(min=0)
    shift = ((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum()
    return float(shift + sum(np.trace(c) for c in covariances) - 2 * np.sqrt(product).sum())


def strangeness(points: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """How far each of ``points`` (n, d) is from what is usual among ``reference`` (m, d): the
    squared Mahalanobis distance over d, about 1 for another of the same kind. The covariance is
    shrunk by a tenth towards a sphere (Ledoit & Wolf 2004), so that few references will do."""
    reference = reference.astype(np.float64)
    covariance = np.atleast_2d(np.cov(reference, rowvar=False))
    d = len(covariance)
    sphere = np.trace(covariance) / d * np.eye(d)
    inverse = np.linalg.pinv(0.9 * covariance + 0.1 * sphere)
    shift = points - reference.mean(axis=0)
    return np.einsum("ni,ij,nj->n", shift, inverse, shift) / d


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0; equal values share the mean of theirs."""
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[index]
