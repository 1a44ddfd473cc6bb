"""The staged schedule: λ is zero while the autoencoder learns to reconstruct, then it rises."""

from __future__ import annotations


def lambda_at(step: int, pretrain_steps: int, ramp_steps: int, lambda_max: float) -> float:
    """λ_E of a step (counted from 0): 0 for ``pretrain_steps``, then a linear ramp to
    ``lambda_max``, then constant (Lample et al. 2017, arXiv 1706.00409, §4, which begins with the
    ramp, of 500,000 steps)."""
    if step < pretrain_steps:
        return 0.0
    if ramp_steps <= 0:
        return lambda_max
    return lambda_max * min(1.0, (step - pretrain_steps + 1) / ramp_steps)


def learning_rate_at(step: int, steps: int, decay_steps: int, learning_rate: float) -> float:
    """Constant, then linearly to zero over the last ``decay_steps`` of ``steps``."""
    if decay_steps <= 0:
        return learning_rate
    return learning_rate * min(1.0, (steps - step) / decay_steps)
