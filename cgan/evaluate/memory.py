"""Whether samples are training pictures over again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cgan.evaluate.metrics import RARELY, nearest
from fader.evaluate.statistics import Estimate, estimate


@dataclass(frozen=True)
class Memory:
    """Whether samples are training pictures over again, in one space (features or pixels).

    ``distances``, ``rows``: of each sample's nearest training picture, (n,). ``threshold``: only
    1 % of real pictures outside the training ones are as near to one. ``near``: the share of
    samples that are. ``copies``: the share that, beyond that, lies so much nearer to that picture
    than to the next ones as only 1 % of the real ones do (the relative distance of Carlini et al.
    2023, arXiv 2301.13188). A smooth average face is ``near`` to many and a copy of none.
    ``median``, ``real_median``: distances of the samples, and of the real pictures.
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
    training picture among the others. ``mirrored``: the points of the same samples seen in a
    mirror, where that makes a difference; a copy may be turned over.
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
    return Memory(
        distances=distances,
        rows=rows,
        threshold=threshold,
        near=estimate(is_near, each, seed=seed),
        copies=estimate(copied, each, seed=seed),
        copied=copied,
        median=float(np.median(distances)),
        real_median=float(np.median(usual)),
    )


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
