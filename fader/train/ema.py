"""Averaged weights: what is looked at, validated and shipped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fader.data.batches import Batches

#: How many batches :func:`recalibrate` is to see: every time the same.
CALIBRATION_BATCHES = 8


def averaged(net: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of ``net``'s weights and buffers, kept by
    ``update_parameters(net)``. The decay warms up as (1 + n) / (10 + n), so that a short run is not
    judged by what is left of its random beginning."""

    def update(kept: Any, current: Any, _: Any) -> None:
        count = int(ema.n_averaged)  # lies on the CPU; a copy on the device would be waited for
        get_ema_multi_avg_fn(min(decay, (1 + count) / (10 + count)))(kept, current, count)

    ema = AveragedModel(net, multi_avg_fn=update, use_buffers=True)
    return ema


@torch.no_grad()
def recalibrate(net: nn.Module, batches: Iterable[tuple[Tensor, ...]]) -> None:
    """Measure the batch-normalisation statistics of ``net`` anew, over ``batches`` of its inputs:
    the average of its past weights' statistics does not fit their average (Izmailov et al. 2018,
    arXiv 1803.05407, §3.2)."""
    net.train()
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
    for inputs in batches if norms else ():
        net(*inputs)
    net.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def calibration(batches: Batches) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of training faces and their values, for :func:`recalibrate`."""
    return (batches.batch(i) for i in range(CALIBRATION_BATCHES))
