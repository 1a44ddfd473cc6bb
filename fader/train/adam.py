"""Adam for weights in channels-last memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Adam(torch.optim.Adam):
    """torch's Adam, fused where it can be. It sees weights in channels-last memory with their axes
    turned, as the contiguous tensors that they then are.

    On a CPU its fused kernel copies weights of any other layout there and back, which takes as long
    again as the update. States and their files stay torch's own.
    """

    def __init__(self, parameters: Any, lr: float, betas: tuple[float, float]) -> None:
        parameters = list(parameters)
        fused = all(p.device.type in ("cpu", "cuda") for p in parameters)
        super().__init__(parameters, lr, betas=betas, fused=fused)

    def _init_group(self, group: dict[str, Any], *lists: list[Tensor]) -> bool:
        has_complex = super()._init_group(group, *lists)
        weights, gradients = lists[:2]
        for i, weight in enumerate(weights):
            if not _is_channels_last(weight):
                continue
            # A gradient or a loaded moment in other memory would meet the wrong weights.
            gradients[i] = gradients[i].contiguous(memory_format=torch.channels_last)
            for name, moments in zip(("exp_avg", "exp_avg_sq"), lists[2:4], strict=True):
                moments[i] = moments[i].contiguous(memory_format=torch.channels_last)
                self.state[weight][name] = moments[i]
            for tensors in lists[:4]:
                tensors[i] = tensors[i].permute(0, 2, 3, 1)
        return has_complex


def _is_channels_last(tensor: Tensor) -> bool:
    return tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
