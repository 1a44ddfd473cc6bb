"""Discriminators of the latent code and of images."""

from __future__ import annotations

import itertools
import math

import torch.nn.functional as F
from torch import Tensor, nn


class LatentDiscriminator(nn.Module):
    """Guesses the attributes from the latent code (arXiv 1706.00409, §3 and appendix).

    Convolutions down to 1×1, dropout 0.3, two linear layers. Returns logits N×n: for a binary
    attribute the two-way softmax of the paper is the sigmoid of its logits' difference.
    ``latent`` is the code's shape (C, H, W).
    """

    def __init__(self, latent: tuple[int, int, int], attributes: int, width: int = 512) -> None:
        super().__init__()
        channels, side, _ = latent
        layers: list[nn.Module] = []
        for _ in range(int(math.log2(side))):  # 3 → 1, 6 → 3 → 1
            layers += [
                UnfoldedConv2d(channels, width, side),
                nn.BatchNorm2d(width),
                nn.LeakyReLU(0.2),
                nn.Dropout(0.3),
            ]
            channels, side = width, side // 2
        self.convolutions = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels, width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, attributes),
        )

    def forward(self, latent: Tensor) -> Tensor:
        """Codes N×C×H×W → logits N×n."""
        return self.head(self.convolutions(latent))


class UnfoldedConv2d(nn.Linear):
    """4×4 convolution, stride 2, padding 1, as one matrix product: for small maps of many channels.

    There the weights are all the work; oneDNN's convolution reorders them at every call, which
    makes it half as fast on a CPU as the product itself. On a map of ``side`` 2 the outer taps
    only ever meet the padding, so there are no weights for them.
    """

    def __init__(self, inputs: int, outputs: int, side: int) -> None:
        taps = 2 if side == 2 else 4
        super().__init__(inputs * taps**2, outputs)
        self.taps = taps
        # As torch initialises the whole convolution.
        bound = (inputs * 16) ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Maps N×C×H×W → N×C′×H/2×W/2."""
        n, _, height, width = x.shape
        if self.taps == 2:
            return super().forward(x.flatten(1))[:, :, None, None]
        columns = F.unfold(x, 4, padding=1, stride=2).transpose(1, 2)
        h = super().forward(columns.reshape(-1, self.in_features))
        return h.view(n, height // 2, width // 2, self.out_features).permute(0, 3, 1, 2)

    def as_convolution(self) -> nn.Conv2d:
        """The same map as torch's own convolution."""
        weight = self.weight.data.unflatten(1, (-1, self.taps, self.taps))
        conv = nn.Conv2d(weight.shape[1], self.out_features, 4, stride=2, padding=1)
        weight = F.pad(weight, [(4 - self.taps) // 2] * 4)
        conv.load_state_dict({"weight": weight, "bias": self.bias.data})
        return conv


class ImageDiscriminator(nn.Module):
    """Edited or not, and which attributes the image shows: two heads on one trunk, as in AttGAN (He
    et al. 2019, arXiv 1711.10678) and STGAN.

    Images N×3×S×S in [-1, 1], S even and at least 32, and the values N×n that they have or should
    have → verdicts, a list of two maps of logits, N×S/16×S/16 and N×S/32×S/32 (positive: a photo),
    and logits N×n of the attributes. Verdicts are given the sides of the values (projection, Miyato
    & Koyama 2018, arXiv 1802.05637): what is asked is "is this a photo of a blond man", so that
    being rare is no sign of being edited. Unnormalised, on a grid of half the side.
    """

    def __init__(self, size: int, attributes: int, width: int = 24, max_width: int = 256) -> None:
        super().__init__()
        channels = [min(width * 2**i, max_width) for i in range(5)]
        self.stem = nn.Conv2d(3 * 4, channels[0], 3, padding=1)
        self.halvings = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 4, stride=2, padding=1)
            for inputs, outputs in itertools.pairwise(channels)
        )
        self.real = nn.ModuleList(nn.Conv2d(c, 1, 1) for c in channels[-2:])
        given = [nn.Linear(attributes, c, bias=False) for c in channels[-2:]]
        self.given = nn.ModuleList(given)
        self.attributes = nn.Linear(channels[-1] * (size // 32) ** 2, attributes)
        # torch's own start shrinks what unnormalised layers say to nearly nothing, and the
        # discriminator stays at chance for as long as a short run lasts.
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, 0.2)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for head in (*self.real, self.attributes):
            nn.init.xavier_normal_(head.weight)
        for linear in given:
            nn.init.zeros_(linear.weight)

    def forward(self, x: Tensor, y: Tensor) -> tuple[list[Tensor], Tensor]:
        """Images and values → two maps of verdicts, and the attributes' logits."""
        h, maps = F.leaky_relu(self.stem(F.pixel_unshuffle(x, 2)), 0.2), []
        for halving in self.halvings:
            h = F.leaky_relu(halving(h), 0.2)
            maps.append(h)
        sides = (y > 0.5).to(h.dtype) * 2 - 1
        verdicts = [
            (real(m) + (m * given(sides)[:, :, None, None]).mean(dim=1, keepdim=True))[:, 0]
            for real, given, m in zip(self.real, self.given, maps[-2:], strict=True)
        ]
        return verdicts, self.attributes(h.flatten(1))
