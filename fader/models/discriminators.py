"""Discriminators of the latent code and of images."""

from __future__ import annotations

import itertools
import math

import torch.nn.functional as F
from torch import Tensor, nn

from fader.models.small_maps import Conv2d


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
            # On a map of side 2 the outer taps would only ever meet the padding.
            kernel, padding = (2, 0) if side == 2 else (4, 1)
            layers += [
                Conv2d(channels, width, kernel, stride=2, padding=padding),
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
            Conv2d(inputs, outputs, 4, stride=2, padding=1)
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
