"""Layers of generators."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cgan.config import GanConfig
from fader.models.small_maps import conv_transpose2d


class Norm(nn.Module):
    """Batch normalisation whose gain and shift may depend on a condition: labels (de Vries et al.
    2017), or labels and latents (self-modulation, Chen et al. 2019, arXiv 1810.01365)."""

    def __init__(self, channels: int, length: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=not length)
        self.label_gain = nn.Linear(length, channels) if length else None
        self.label_shift = nn.Linear(length, channels) if length else None

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        """Maps N×channels×s×s, normalised, scaled and shifted as the condition N×length says."""
        h = self.norm(h)
        if self.label_gain is None or self.label_shift is None:
            return h
        gain, shift = self.label_gain(condition), self.label_shift(condition)
        return torch.addcmul(shift[:, :, None, None], h, 1 + gain[:, :, None, None])


class ToImage(nn.Module):
    """The image N×C×s×s that a side of a growing generator draws, before the last side."""

    def __init__(self, width: int, channels: int, length: int) -> None:
        super().__init__()
        self.norm = Norm(width, length)
        self.conv = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        """Maps N×width×s×s and conditions N×length → N×C×s×s."""
        return self.conv(F.relu(self.norm(h, condition)))


class Upsample(nn.Module):
    """Twice the side. ``nearest`` has the weights of a 3×3 convolution behind nearest-neighbour
    enlargement, which draws no checkerboard (Odena et al. 2016).

    That is the same map as a transposed 4×4 convolution with each weight spread over the 2×2
    places it would meet, at 4/9 of the work, so it is computed as one.
    """

    def __init__(self, inputs: int, outputs: int, kind: str) -> None:
        super().__init__()
        self.nearest = kind == "nearest"
        side = 3 if self.nearest else 4
        self.weight = nn.Parameter(torch.empty(inputs, outputs, side, side))
        nn.init.normal_(self.weight, 0, 0.02)
        if self.nearest:
            rows = torch.eye(4)[:3] + torch.eye(4)[1:]  # each weight goes to two places
            #: (9, 16): of the 3×3 weights, those that each of the 4×4 places sums.
            self.spread: Tensor
            self.register_buffer("spread", torch.kron(rows, rows), persistent=False)

    def kernel(self) -> Tensor:
        """The 4×4 kernel of the transposed convolution."""
        if not self.nearest:
            return self.weight
        # As a product: sums of shifted weights take seven times as long, most of it going back.
        with torch.autocast(self.weight.device.type, enabled=False):
            kernel = self.weight.flatten(2) @ self.spread
        return kernel.unflatten(2, (4, 4))

    def forward(self, h: Tensor) -> Tensor:
        """Maps N×inputs×s×s → N×outputs×2s×2s."""
        return conv_transpose2d(h, self.kernel(), stride=2, padding=1)


class GeneratorBlock(nn.Module):
    """Norm, ReLU, enlargement; in the residual kind also Norm, ReLU, convolution and a shortcut."""

    def __init__(self, inputs: int, outputs: int, config: GanConfig, length: int) -> None:
        super().__init__()
        self.norm = Norm(inputs, length)
        self.enlarge = Upsample(inputs, outputs, config.upsampling)
        self.residual = config.residual
        if self.residual:
            self.second_norm = Norm(outputs, length)
            self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
            self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        """Maps N×inputs×s×s and conditions N×length → N×outputs×2s×2s."""
        out = self.enlarge(F.relu(self.norm(h, condition)))
        if not self.residual:
            return out
        out = self.second(F.relu(self.second_norm(out, condition)))
        return out + F.interpolate(self.shortcut(h), scale_factor=2, mode="nearest")


def initialise(module: nn.Module) -> None:
    """As in DCGAN: all weights normal with deviation 0.02; label gains and shifts begin at zero.

    In an unnormalised discriminator that begins as a weak judge, which is to the good: begun with
    He's, its first gradients were so large that R1 was all it learned from for hundreds of steps.
    """
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        # Under spectral normalisation the weight is computed from this one.
        layer: Any = module
        parametrized = hasattr(module, "parametrizations")
        weight = layer.parametrizations.weight.original if parametrized else layer.weight
        nn.init.normal_(weight, 0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    if isinstance(module, Norm):
        for linear in (module.label_gain, module.label_shift):
            if linear is not None:
                nn.init.zeros_(linear.weight)
                nn.init.zeros_(linear.bias)
