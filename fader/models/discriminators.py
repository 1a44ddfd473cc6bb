"""The latent discriminator of the paper, and the optional patch discriminator."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn


class LatentDiscriminator(nn.Module):
    """Guesses the attributes from the latent code (arXiv 1706.00409, §3 and appendix).

    Convolutions down to 1×1, dropout 0.3, two linear layers. Returns logits N×n: for a binary
    attribute the two-way softmax of the paper is the sigmoid of its logits' difference.
    """

    def __init__(
        self, latent_shape: tuple[int, int, int], attributes: int, width: int = 512
    ) -> None:
        super().__init__()
        channels, side, _ = latent_shape
        layers: list[nn.Module] = []
        for _ in range(math.ceil(math.log2(side))):
            layers += [
                UnfoldedConv2d(channels, width),
                nn.BatchNorm2d(width),
                nn.LeakyReLU(0.2),
                nn.Dropout(0.3),
            ]
            channels = width
        self.convolutions = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels, width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, attributes),
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.head(self.convolutions(z))


class PerceptronDiscriminator(nn.Sequential):
    """Guesses the attributes from the whole latent code at once, each of its values standardised.

    Returns logits N×n. Against an encoder that hides attributes it is the sharper of the two: its
    first layer sees every place of the latent, and standardising lets it see what is written in
    small letters.
    """

    def __init__(
        self, latent_shape: tuple[int, int, int], attributes: int, width: int = 512
    ) -> None:
        values = math.prod(latent_shape)
        super().__init__(
            nn.Flatten(),
            nn.BatchNorm1d(values, affine=False),
            nn.Linear(values, width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, attributes),
        )


LATENT_DISCRIMINATORS = {
    "convolutions": LatentDiscriminator,
    "perceptron": PerceptronDiscriminator,
}


class UnfoldedConv2d(nn.Linear):
    """4×4 convolution, stride 2, padding 1, as one matrix product: for small maps of many channels.

    There the weights are all the work; oneDNN's convolution reorders them at every call, which
    makes it half as fast on a CPU as the product itself.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs * 16, outputs)

    def forward(self, x: Tensor) -> Tensor:
        n, _, height, width = x.shape
        columns = F.unfold(x, 4, padding=1, stride=2).transpose(1, 2)
        h = super().forward(columns.reshape(-1, self.in_features))
        return h.view(n, height // 2, width // 2, self.out_features).permute(0, 3, 1, 2)

    def as_convolution(self) -> nn.Conv2d:
        """The same map as torch's own convolution."""
        conv = nn.Conv2d(self.in_features // 16, self.out_features, 4, stride=2, padding=1)
        conv.weight.data.copy_(self.weight.view_as(conv.weight))
        conv.bias.data.copy_(self.bias)
        return conv


class PatchDiscriminator(nn.Module):
    """Real or decoded, patch by patch (Isola et al. 2017, arXiv 1611.07004).

    Images N×3×S×S in [-1, 1] → logits N×1×S/8×S/8, each of which sees 22×22 pixels: enough for
    texture and edges, too little for what a face is. Unnormalised: held to a gain of 1 per layer by
    spectral normalisation it could not tell even rainbow stripes from skin.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for i in range(3):
            layers += [
                nn.Conv2d(channels, width * 2**i, 4, stride=2, padding=1),
                nn.LeakyReLU(0.2),
            ]
            channels = width * 2**i
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
