"""The measures themselves, on plain arrays: features (n, d) or pictures N×S×S×C in 0..255.

Nothing here knows which network made the features or the pictures, so whoever shows a number has
to say it.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure as ms_ssim,
)
from torchmetrics.functional.image import peak_signal_noise_ratio
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from fader.data.batches import to_tensor
from fader.evaluate.reconstruction import scale_weights
from fader.evaluate.statistics import Estimate, estimate

#: A sample nearer to another picture than this share of real ones is, is called a repeat of it.
RARELY = 0.01

# Rows of distances at once, pictures compared for MS-SSIM, and the sides pictures are shrunk to
# for distances between pixels and for bins of pixels.
_ROWS, _PAIRS, _PIXELS, _BIN_PIXELS = 1024, 500, 32, 16


# ---------------------------------------------------------------- distances of two sets


def frechet(real: np.ndarray, generated: np.ndarray) -> float:
    """The Fréchet distance of two sets of features (n, d), (m, d) taken as Gaussians.

    |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁ Σ₂)^½), Heusel et al. 2017 (arXiv 1706.08500); computed by
    torchmetrics. Biased upwards for few pictures: compare only numbers with like n and m.
    """
    metric: Any = FrechetInceptionDistance(feature=_AsGiven(real.shape[1]))
    _update(metric.set_dtype(torch.float64), real, generated)
    # Where there are fewer pictures than features, rounding can bring it just below 0.
    return max(0.0, float(metric.compute()))


def kid(
    real: np.ndarray, generated: np.ndarray, seed: int = 0, subsets: int = 50
) -> tuple[float, float]:
    """The squared maximum mean discrepancy with the kernel (x·y/d + 1)³: mean over random subsets,
    and their standard deviation.

    Unbiased, so it may be negative, and sets of any size can be compared. Bińkowski et al. 2018
    (arXiv 1801.01401); computed by torchmetrics. Subsets hold half of the smaller set, at most
    1,000 pictures.
    """
    size = min(1000, max(2, min(len(real), len(generated)) // 2))
    # It warns that it keeps all features, and says so through logging too.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metric: Any = KernelInceptionDistance(
            feature=_AsGiven(real.shape[1]), subsets=subsets, subset_size=size
        )
    _update(metric, real, generated)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        mean, spread = metric.compute()
    return float(mean), float(spread)


class _AsGiven(nn.Module):
    """The feature extractor torchmetrics asks for, where the features are there already."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, features: Tensor) -> Tensor:
        """Features (n, d) as they are."""
        return features


def _update(metric: Any, real: np.ndarray, generated: np.ndarray) -> None:
    for features, is_real in ((real, True), (generated, False)):
        metric.update(torch.from_numpy(features.astype(np.float64)), real=is_real)


# ---------------------------------------------------------------- neighbourhoods


@dataclass(frozen=True)
class Manifolds:
    """Four views of how two clouds of points lie in each other, each with a 95 % interval.

    ``precision``, ``recall`` (Kynkäänniemi et al. 2019, arXiv 1904.06991; k = 3): the share of
    generated points within the real cloud, and of real ones within the generated. ``density``,
    ``coverage`` (Naeem et al. 2020, arXiv 2002.09797; k = 5): in how many real neighbourhoods a
    generated point lies, on average and over k, so beyond 1 where the real ones crowd; and the
    share of real neighbourhoods that hold one. The last two are steadier against outliers.
    """

    precision: Estimate | None
    recall: Estimate | None
    density: Estimate | None
    coverage: Estimate | None


def manifolds(real: np.ndarray, generated: np.ndarray, seed: int = 0) -> Manifolds:
    """See :class:`Manifolds`; features (n, d), (m, d) with n, m ≥ 2.

    The intervals are over the points that are counted, with the other cloud as it is.
    """
    r, g = (torch.from_numpy(some.astype(np.float64)) for some in (real, generated))
    real_radii, generated_radii = _radii(r, (3, 5)), _radii(g, (3,))
    within_3: list[Tensor] = []
    within_5: list[Tensor] = []
    covered: list[Tensor] = []
    recalled = torch.zeros(len(r), dtype=torch.bool)
    for rows in g.split(_ROWS):
        # Without the detour over a product of matrices, equal points are at 0 exactly.
        d = torch.cdist(rows, r, compute_mode="donot_use_mm_for_euclid_dist")
        start = sum(len(some) for some in within_3)
        within_3.append((d <= real_radii[0]).any(dim=1))
        inside = d <= real_radii[1]
        within_5.append(inside.sum(dim=1) / min(5, len(r) - 1))
        covered.append(inside.any(dim=0))
        recalled |= (d <= generated_radii[0][start : start + len(rows), None]).any(dim=0)

    def mean(values: Tensor) -> Estimate | None:
        return estimate(values.double().numpy(), np.arange(len(values)), seed=seed)

    return Manifolds(
        precision=mean(torch.cat(within_3)),
        recall=mean(recalled),
        density=mean(torch.cat(within_5)),
        coverage=mean(torch.stack(covered).any(dim=0)),
    )


def _radii(points: Tensor, ks: tuple[int, ...]) -> list[Tensor]:
    """For each k, how far each point's k-th nearest other is (n,); the farthest of fewer."""
    distances = []
    for start in range(0, len(points), _ROWS):
        rows = points[start : start + _ROWS]
        d = torch.cdist(rows, points, compute_mode="donot_use_mm_for_euclid_dist")
        d[torch.arange(len(rows)), torch.arange(start, start + len(rows))] = -1  # itself, first
        distances.append(d.topk(min(max(ks) + 1, len(points)), largest=False).values)
    nearest = torch.cat(distances)
    return [nearest[:, min(k, nearest.shape[1] - 1)] for k in ks]


def nearest(
    queries: np.ndarray, references: np.ndarray, k: int = 1, *, among_themselves: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest of ``references`` (m, d) to each of ``queries`` (n, d): Euclidean distances
    (n, k), rising, and rows (n, k). ``k`` is lowered to what there is.

    ``among_themselves``: both are one set, and nothing is its own neighbour.
    """
    q, r = (torch.from_numpy(np.ascontiguousarray(some, np.float32)) for some in
            (queries, references))  # fmt: skip
    k = min(k, len(r) - among_themselves)
    distances, rows = [], []
    for start in range(0, len(q), _ROWS):
        some = q[start : start + _ROWS]
        d = torch.cdist(some, r)
        if among_themselves:
            d[torch.arange(len(some)), torch.arange(start, start + len(some))] = torch.inf
        found = d.topk(k, largest=False).indices
        # The product of matrices behind cdist leaves little of small distances: once more, rightly.
        exact = torch.stack([(some - r[column]).norm(dim=1) for column in found.T], dim=1)
        order = exact.argsort(dim=1, stable=True)
        distances.append(exact.gather(1, order).numpy())
        rows.append(found.gather(1, order).numpy())
    return np.concatenate(distances), np.concatenate(rows)


# ---------------------------------------------------------------- diversity and collapse


def spread(features: np.ndarray) -> float:
    """The mean distance between two of (n, d) points, over all pairs; 0 for fewer than two."""
    if len(features) < 2:
        return 0.0
    points = torch.from_numpy(features.astype(np.float64))
    return float(F.pdist(points).mean())


def similarity(images: np.ndarray, seed: int = 0, pairs: int = _PAIRS) -> Estimate | None:
    """Mean MS-SSIM between random pairs of pictures (Odena et al. 2017, arXiv 1610.09585): 1 for
    one picture repeated, low for varied ones. None below two pictures, or below 22 pixels, where
    the measure's window does not fit.

    Images N×S×S×C uint8. As many scales as the size allows; negative structure terms count as 0.
    """
    size = images.shape[1]
    if len(images) < 2 or size < 22:
        return None
    random = np.random.default_rng([seed, 21])
    first = random.integers(len(images), size=pairs)
    second = (first + random.integers(1, len(images), size=pairs)) % len(images)
    values = []
    for chunk in np.array_split(np.arange(pairs), max(1, pairs // 64)):
        one, other = (to_tensor(images[some[chunk]]).contiguous() for some in (first, second))
        betas = scale_weights(size)
        found = ms_ssim(one, other, data_range=2.0, reduction="none", betas=betas, normalize="relu")
        values.append(found)
    return estimate(torch.cat(values).double().numpy(), np.arange(pairs), seed=seed)


def psnr(redrawn: np.ndarray, images: np.ndarray, seed: int = 0) -> Estimate | None:
    """Peak signal-to-noise ratio in dB of pictures redrawn to what they were, N×S×S×C uint8: its
    mean, at most 60 each, which is where 8 bits end."""
    pair = to_tensor(redrawn), to_tensor(images)
    values = peak_signal_noise_ratio(*pair, data_range=2.0, reduction="none", dim=(1, 2, 3))
    return estimate(values.clamp(max=60).numpy(), np.arange(len(images)), seed=seed)


@dataclass(frozen=True)
class Bins:
    """Real pictures sorted into groups that look alike, by k-means on small pixels: the bins of
    Richardson & Weiss 2018 (arXiv 1805.12462)."""

    centres: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, images: np.ndarray, seed: int = 0) -> Bins:
        """Sort N×S×S×C uint8; a bin for 20 pictures, 2 to 100 of them."""
        points = np.ascontiguousarray(pixels(images, _BIN_PIXELS), np.float32)
        k = int(np.clip(len(points) // 20, min(2, len(points)), 100))
        cv2.setRNGSeed(seed)
        criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 50, 1e-3)
        start: Any = None  # its type has no word for "begin from nothing"
        _, owners, centres = cv2.kmeans(points, k, start, criteria, 2, cv2.KMEANS_PP_CENTERS)
        return cls(centres, np.bincount(owners.ravel(), minlength=k))

    def compare(self, images: np.ndarray) -> Filled:
        """How other pictures fill these bins."""
        _, owners = nearest(pixels(images, _BIN_PIXELS), self.centres)
        counts = np.bincount(owners[:, 0], minlength=len(self.counts))
        n, m = self.counts.sum(), counts.sum()
        p, q = self.counts / n, counts / m
        pooled = (self.counts + counts) / (n + m)
        error = np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
        different = np.abs(p - q) > 1.96 * error
        middle = (p + q) / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = [np.where(some > 0, some * np.log2(some / middle), 0) for some in (p, q)]
        return Filled(
            different=float(different.mean()),
            divergence=float(sum(term.sum() for term in terms) / 2),
            missing=float((p - q).clip(min=0).sum()),
            bins=len(p),
        )


@dataclass(frozen=True)
class Filled:
    """``different``: the share of bins filled significantly otherwise (NDB/K, two-sided at 5 %, so
    0.05 for equals); ``divergence``: Jensen-Shannon, 0..1 bits; ``missing``: the share of the real
    pictures that is lacking where the bins are too empty (the total variation distance)."""

    different: float
    divergence: float
    missing: float
    bins: int


@dataclass(frozen=True)
class Collapse:
    """How much of the variety of real pictures is gone, seen in three ways; 0 is as varied as they
    are, 1 is one picture for all. ``score`` is the largest, ``sign`` its name.

    ``spread``: 1 − mean pairwise distance / that of real ones, in features. One face with small
    changes shows here; ten faces in turn do not.
    ``repeats``: the share of samples with another sample nearer than all but 1 % of real pictures
    have another real one (:data:`RARELY`), less that 1 %. Ten faces in turn show here.
    ``bins``: the share of real pictures whose kind is lacking (:attr:`Filled.missing`), less what
    is lacking among as many held-out ones. Whole kinds of faces left out show here; it is seen in
    pixels, so that not everything hangs on the features.
    ``modes``: how many distinct pictures there would be, all equally likely, for so many pairs of
    samples to be alike (the birthday paradox; Arora & Zhang 2017, arXiv 1706.08224); None when no
    two are.
    """

    score: float
    sign: str
    spread: float
    repeats: float
    bins: float
    modes: float | None


def repeat_distance(real: np.ndarray) -> float:
    """The distance in features that only 1 % of real pictures (n, d) have a nearer other within."""
    return float(np.quantile(nearest(real, real, among_themselves=True)[0][:, 0], RARELY))


def collapse(
    features: np.ndarray,
    real_spread: float,
    near: float,
    filled: Filled,
    filled_by_real: Filled | None,
) -> Collapse:
    """Judge samples by their features (n, d) and how they fill the bins of real pictures.

    ``real_spread``: :func:`spread` of real ones; ``near``: :func:`repeat_distance` of as many real
    ones. ``filled_by_real``: how held-out pictures fill the bins; None takes it as perfectly.
    """
    lost = 1 - min(1.0, spread(features) / real_spread) if real_spread > 0 else 0.0
    pairs = F.pdist(torch.from_numpy(features.astype(np.float64)))
    alike = int((pairs <= near).sum())
    closest = nearest(features, features, among_themselves=True)[0][:, 0]
    repeated = max(0.0, (float((closest <= near).mean()) - RARELY) / (1 - RARELY))
    usual = filled_by_real.missing if filled_by_real else 0.0
    lacking = max(0.0, (filled.missing - usual) / (1 - usual)) if usual < 1 else 0.0
    parts = {"spread": lost, "repeats": repeated, "bins": lacking}
    sign = max(parts, key=lambda name: parts[name])
    return Collapse(parts[sign], sign, **parts, modes=len(pairs) / alike if alike else None)


def pixels(images: np.ndarray, side: int = _PIXELS) -> np.ndarray:
    """N×S×S×C uint8 → (N, d) float32 in 0..1: the values of the picture, shrunk to ``side``
    (larger ones only) and divided by √d, so that a distance is a root mean square difference."""
    small = images
    if images.shape[1] > side:
        small = np.stack(
            [cv2.resize(one, (side, side), interpolation=cv2.INTER_AREA) for one in images]
        )
    points = small.reshape(len(images), -1).astype(np.float32) / 255
    return points / np.float32(np.sqrt(points.shape[1]))
