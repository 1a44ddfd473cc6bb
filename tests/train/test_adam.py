"""Adam is torch's own, however weights lie in memory."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fader.train.adam import Adam

CHANNELS_LAST = torch.channels_last


@pytest.mark.parametrize("gradient", [CHANNELS_LAST, torch.contiguous_format])
@pytest.mark.parametrize("moments", [CHANNELS_LAST, torch.contiguous_format])
@pytest.mark.parametrize("shape", [(6, 5, 3, 4), (6, 4, 4, 4), (3, 2)])
def test_adam_is_torchs(shape: tuple[int, ...], gradient, moments) -> None:
    torch.manual_seed(0)
    start = torch.randn(shape)
    images = len(shape) == 4
    ours = nn.Parameter(start.clone(memory_format=CHANNELS_LAST) if images else start.clone())
    theirs = nn.Parameter(start.clone())
    rates = {"lr": 1e-2, "betas": (0.5, 0.99)}
    adam, reference = Adam([ours], **rates), torch.optim.Adam([theirs], **rates, fused=False)
    for _ in range(3):
        theirs.grad = torch.randn(shape)
        ours.grad = theirs.grad.clone(memory_format=gradient) if images else theirs.grad.clone()
        adam.step()
        reference.step()
        for name in ("exp_avg", "exp_avg_sq") if images else ():  # as a loaded state may be
            adam.state[ours][name] = adam.state[ours][name].clone(memory_format=moments)
    torch.testing.assert_close(ours, theirs)
