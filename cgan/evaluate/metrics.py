"""The measures themselves, on plain arrays: features (n, d) or pictures N×S×S×C in 0..255.

Nothing here knows which network made the features or the pictures: whoever shows a number says it.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, is_dataclass
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
# Without the detour over a product of matrices, equal points are at 0 exactly.
_EXACT = "donot_use_mm_for_euclid_dist"


def frechet(real: np.ndarray, generated: np.ndarray) -> float:
    """The Fréchet distance of two sets of features (n, d), (m, d) taken as Gaussians:
    |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁ Σ₂)^½), Heusel et al. 2017 (arXiv 1706.08500), by torchmetrics.
    Biased upwards for few pictures: compare only numbers with like n and m."""
    metric: Any = FrechetInceptionDistance(feature=_AsGiven(real.shape[1]))
    _update(metric.set_dtype(torch.float64), real, generated)
    # Where there are fewer pictures than features, rounding can bring it just below 0.
    return max(0.0, float(metric.compute()))


def kid(real: np.ndarray, generated: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """The squared maximum mean discrepancy with the kernel (x·y/d + 1)³ (Bińkowski et al. 2018,
    arXiv 1801.01401), by torchmetrics: mean over random subsets, and their standard deviation.

    Unbiased, so it may be negative, and sets of any size can be compared. Subsets hold half of the
    smaller set, at most 1,000 pictures.
    """
    size = min(1000, max(2, min(len(real), len(generated)) // 2))
    # It warns that it keeps all features, and says so through logging too.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        feature = _AsGiven(real.shape[1])
        metric: Any = KernelInceptionDistance(feature, subsets=50, subset_size=size)
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
    """See :class:`Manifolds`; features (n, d), (m, d) with n, m ≥ 2. The intervals are over the
    points that are counted, with the other cloud as it is."""
    r, g = (torch.from_numpy(some.astype(np.float64)) for some in (real, generated))
    (real_3, real_5), (generated_3,) = _radii(r, 3, 5), _radii(g, 3)
    parts = []
    for rows, radii in zip(g.split(_ROWS), generated_3.split(_ROWS), strict=True):
        d = torch.cdist(rows, r, compute_mode=_EXACT)
        inside = d <= real_5
        density = inside.sum(dim=1) / min(5, len(r) - 1)
        recalled = (d <= radii[:, None]).any(dim=0)
        parts.append(((d <= real_3).any(dim=1), recalled, density, inside.any(dim=0)))
    precise, recalls, densities, covered = zip(*parts, strict=True)
    views = [torch.cat(precise), torch.stack(recalls).any(dim=0)]
    views += [torch.cat(densities), torch.stack(covered).any(dim=0)]
    return Manifolds(*(estimate(v.double().numpy(), np.arange(len(v)), seed=seed) for v in views))


def _radii(points: Tensor, *ks: int) -> list[Tensor]:
    """For each k, how far each point's k-th nearest other is (n,); the farthest of fewer."""
    distances = []
    for start in range(0, len(points), _ROWS):
        d = torch.cdist(points[start : start + _ROWS], points, compute_mode=_EXACT)
        d.diagonal(start).fill_(-1)  # itself, first
        distances.append(d.topk(min(max(ks) + 1, len(points)), largest=False).values)
    nearest = torch.cat(distances)
    return [nearest[:, min(k, nearest.shape[1] - 1)] for k in ks]


def nearest(
    queries: np.ndarray, references: np.ndarray, k: int = 1, *, among_themselves: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest of ``references`` (m, d) to each of ``queries`` (n, d): Euclidean distances
    (n, k), rising, and rows (n, k). ``k`` is lowered to what there is. ``among_themselves``: both
    are one set, and nothing is its own neighbour."""
    q, r = (torch.from_numpy(np.ascontiguousarray(a, np.float32)) for a in (queries, references))
    k = min(k, len(r) - among_themselves)
    distances, rows = [], []
    for start in range(0, len(q), _ROWS):
        some = q[start : start + _ROWS]
        d = torch.cdist(some, r)
        if among_themselves:
            d.diagonal(start).fill_(torch.inf)
        found = d.topk(k, largest=False).indices
        # The product of matrices behind cdist leaves little of small distances: once more, rightly.
        exact = torch.stack([(some - r[column]).norm(dim=1) for column in found.T], dim=1)
        order = exact.argsort(dim=1, stable=True)
        distances.append(exact.gather(1, order).numpy())
        rows.append(found.gather(1, order).numpy())
    return np.concatenate(distances), np.concatenate(rows)


def spread(features: np.ndarray) -> float:
    """The mean distance between two of (n, d) points, over all pairs; 0 for fewer than two."""
    if len(features) < 2:
        return 0.0
    points = torch.from_numpy(features.astype(np.float64))
    return float(F.pdist(points).mean())


def similarity(images: np.ndarray, seed: int = 0) -> Estimate | None:
    """Mean MS-SSIM between random pairs of N×S×S×C uint8 (Odena et al. 2017, arXiv 1610.09585): 1
    for one picture repeated, low for varied ones. As many scales as the size allows; negative
    structure terms count as 0. None for fewer than two pictures, or 22 pixels, the least for the
    measure's window."""
    size = images.shape[1]
    if len(images) < 2 or size < 22:
        return None
    random = np.random.default_rng([seed, 21])
    first = random.integers(len(images), size=_PAIRS)
    second = (first + random.integers(1, len(images), size=_PAIRS)) % len(images)
    values = []
    options: Any = {"data_range": 2.0, "reduction": "none", "betas": scale_weights(size)}
    for chunk in np.array_split(np.arange(_PAIRS), _PAIRS // 64):
        one, other = (to_tensor(images[some[chunk]]).contiguous() for some in (first, second))
        values.append(ms_ssim(one, other, normalize="relu", **options))
    return estimate(torch.cat(values).double().numpy(), np.arange(_PAIRS), seed=seed)


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
        divergence = float(sum(term.sum() for term in terms) / 2)
        missing = float((p - q).clip(min=0).sum())
        return Filled(float(different.mean()), divergence, missing, len(p))


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
    is lacking among as many held-out ones, seen in pixels. Whole kinds left out show here.
    ``modes``: how many distinct pictures there would be, all equally likely, for so many pairs of
    samples to be alike (Arora & Zhang 2017, arXiv 1706.08224); None when no two are.
    """

    score: float
    spread: float
    repeats: float
    bins: float
    modes: float | None
    sign: str


def repeat_distance(real: np.ndarray) -> float:
    """The distance in features that only 1 % of real pictures (n, d) have a nearer other within."""
    return float(np.quantile(nearest(real, real, among_themselves=True)[0][:, 0], RARELY))


def collapse(
    features: np.ndarray, real_spread: float, near: float, filled: Filled, filled_by_real: Filled
) -> Collapse:
    """Judge samples by their features (n, d) and how they fill the bins of real pictures.

    ``real_spread``: :func:`spread` of real ones; ``near``: :func:`repeat_distance` of as many.
    ``filled_by_real``: how held-out pictures fill the bins.
    """
    lost = 1 - min(1.0, spread(features) / real_spread) if real_spread > 0 else 0.0
    pairs = F.pdist(torch.from_numpy(features.astype(np.float64)))
    alike = int((pairs <= near).sum())
    closest = nearest(features, features, among_themselves=True)[0][:, 0]
    repeated = max(0.0, (float((closest <= near).mean()) - RARELY) / (1 - RARELY))
    usual = filled_by_real.missing
    lacking = max(0.0, (filled.missing - usual) / (1 - usual)) if usual < 1 else 0.0
    parts = {"spread": lost, "repeats": repeated, "bins": lacking}
    sign = max(parts, key=lambda name: parts[name])
    modes = len(pairs) / alike if alike else None
    return Collapse(score=parts[sign], sign=sign, modes=modes, **parts)


def pixels(images: np.ndarray, side: int = _PIXELS) -> np.ndarray:
    """N×S×S×C uint8 → (N, d) float32 in 0..1: the values of the picture, shrunk to ``side``
    (larger ones only) and divided by √d, so that a distance is a root mean square difference."""
    if images.shape[1] > side:
        shape, area = (side, side), cv2.INTER_AREA
        images = np.stack([cv2.resize(one, shape, interpolation=area) for one in images])
    points = images.reshape(len(images), -1).astype(np.float32) / 255
    return points / np.float32(np.sqrt(points.shape[1]))


@dataclass(frozen=True)
class Memory:
    """Whether samples are training pictures over again, in one space (features or pixels).

    ``distances``, ``rows``: of each sample's nearest training picture, (n,). ``threshold``: only
    1 % of real pictures outside the training ones are as near to one. ``near``: the share of
    samples that are. ``copies`` (each: ``copied``): the share that, beyond that, lies so much
    nearer to that picture than to the next ones as only 1 % of the real ones do (the relative
    distance of Carlini et al. 2023, arXiv 2301.13188). A smooth average face is ``near`` to many
    and a copy of none. ``median``, ``real_median``: distances of the samples, of the real pictures.
    """

    distances: np.ndarray
    rows: np.ndarray
    threshold: float
    near: Estimate | None
    copies: Estimate | None
    copied: np.ndarray
    median: float
    real_median: float


def memory(
    generated: np.ndarray,
    training: np.ndarray,
    held_out: np.ndarray | None,
    *,
    mirrored: np.ndarray | None = None,
    mirrored_held_out: np.ndarray | None = None,
    seed: int = 0,
) -> Memory:
    """Look up samples (n, d) among the training pictures (m, d), m ≥ 2.

    ``held_out`` (h, d) are real pictures outside the training ones; None compares with each
    training picture among the others. ``mirrored``: the same samples seen in a mirror, where that
    makes a difference; a copy may be turned over.
    """
    distances, ratios, rows = _closest(generated, training, mirrored)
    if held_out is None:
        usual, usual_ratios, _ = _closest(training, training, None, among_themselves=True)
    else:
        usual, usual_ratios, _ = _closest(held_out, training, mirrored_held_out)
    threshold = float(np.quantile(usual, RARELY))
    # At equal distances, as among drawn or posed pictures, nothing is nearer than usual.
    is_near = (distances < threshold) | (distances == 0)
    copied = is_near & ((ratios < np.quantile(usual_ratios, RARELY)) | (distances == 0))
    each = np.arange(len(generated))
    near, copies = (estimate(some, each, seed=seed) for some in (is_near, copied))
    medians = float(np.median(distances)), float(np.median(usual))
    return Memory(distances, rows, threshold, near, copies, copied, *medians)


def _closest(
    queries: np.ndarray,
    references: np.ndarray,
    mirrored: np.ndarray | None,
    among_themselves: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distance to the nearest, that over the mean distance to the 50 next ones, and its row."""
    distances, rows = nearest(queries, references, 51, among_themselves=among_themselves)
    if mirrored is not None:
        others, other_rows = nearest(mirrored, references, 51)
        turned = others[:, 0] < distances[:, 0]
        distances[turned], rows[turned] = others[turned], other_rows[turned]
    following = distances[:, 1:].mean(axis=1) if distances.shape[1] > 1 else distances[:, 0]
    return distances[:, 0], distances[:, 0] / np.maximum(following, 1e-12), rows[:, 0]


def plain(score: Any) -> Any:
    """A score for a JSON document: numbers to four digits, an estimate and the like by name."""
    if score is None or isinstance(score, str):
        return score
    if is_dataclass(score):
        return {name: plain(value) for name, value in vars(score).items()}
    return round(float(score), 4)


def plain_kid(real: np.ndarray, points: np.ndarray, seed: int) -> dict[str, float]:
    """``value`` and ``std`` of :func:`kid`, of features (n, d) and (m, d)."""
    mean, deviation = kid(real, points, seed)
    return {"value": round(mean, 6), "std": round(deviation, 6)}
