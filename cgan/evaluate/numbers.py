"""Scores as plain values for a JSON document."""

from __future__ import annotations

from typing import Any

import numpy as np

from cgan.evaluate.metrics import kid
from fader.evaluate.statistics import Estimate


def plain_kid(real: np.ndarray, points: np.ndarray, seed: int) -> dict[str, float]:
    """``value`` and ``std`` of :func:`kid`, of features (n, d) and (m, d)."""
    mean, deviation = kid(real, points, seed)
    return {"value": round(mean, 6), "std": round(deviation, 6)}


def plain(found: Estimate | None) -> dict[str, Any] | None:
    """An estimate's numbers, by name."""
    if found is None:
        return None
    return {key: rounded(value) for key, value in vars(found).items()}


def rounded(value: float | None) -> float | None:
    """To four digits after the point; None stays."""
    return None if value is None else round(float(value), 4)
