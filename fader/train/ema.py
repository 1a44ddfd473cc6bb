"""Averaged weights: what is looked at, validated and shipped."""

from __future__ import annotations

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def averaged(net: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of ``net``'s weights and buffers, kept by
    ``update_parameters(net)``.

    The decay warms up as (1 + n) / (10 + n), so that a short run is not judged by what is left
    of its random beginning.
    """

    def update(kept: list[Tensor], current: list[Tensor], n: Tensor) -> None:
        count = float(n)
        get_ema_multi_avg_fn(min(decay, (1 + count) / (10 + count)))(kept, current, n)

    return AveragedModel(net, multi_avg_fn=update, use_buffers=True)
