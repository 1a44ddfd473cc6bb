"""Gradients clipped at a multiple of their usual norm."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

# Steps over which the usual norm is averaged.
_STEPS = 50


class GradientClip:
    """Scales a network's gradient down to at most ``times`` its usual norm (0: never).

    Norms of different networks differ by a factor of forty, so a limit has to be relative. The
    usual norm stays a tensor: reading it every step would make a GPU wait.
    """

    def __init__(self, times: float) -> None:
        self.times = times
        self.usual: Tensor | None = None

    def __call__(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Clip the gradients of ``parameters`` in place, and learn from their norm."""
        if not self.times:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = get_total_norm(gradients)
        if self.usual is None:
            self.usual = norm.detach().clone()
        limit = self.times * self.usual
        scale = (limit / (norm + 1e-6)).clamp(max=1)
        for gradient in gradients:
            gradient.mul_(scale)
        clipped = torch.where(torch.isfinite(norm), torch.minimum(norm, limit), self.usual)
        self.usual = self.usual + (clipped - self.usual) / _STEPS
