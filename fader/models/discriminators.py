"""Discriminators of the latent code, and the optional one of images."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fader.models.classifier import AttributeClassifier, resized

# Side of the largest map that the perceptron reads value by value: past that its weights, not its
# sharpness, would grow.
_COARSE = 8


class LatentDiscriminator(nn.Module):
    """Guesses the attributes from the latent code (arXiv 1706.00409, §3 and appendix).

    Convolutions down to 1×1, dropout 0.3, two linear layers. Returns logits N×n: for a binary
    attribute the two-way softmax of the paper is the sigmoid of its logits' difference. Of the
    features that the decoder gets (``shapes``) it reads the last, the latent.
    """

    def __init__(
        self, shapes: Sequence[tuple[int, int, int]], attributes: int, width: int = 512
    ) -> None:
        super().__init__()
        channels, side, _ = shapes[-1]
        layers: list[nn.Module] = []
        for _ in range(math.ceil(math.log2(side))):
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

    def forward(self, features: list[Tensor]) -> Tensor:
        return self.head(self.convolutions(features[-1]))


class PerceptronDiscriminator(nn.Module):
    """Guesses the attributes from all that the decoder gets of the image, each value standardised.

    Of maps larger than 8×8 it reads the means of blocks. Returns logits N×n. Against an encoder
    that hides attributes it is the sharper of the two: its first layer sees every place of the
    code, and standardising lets it see what is written in small letters.
    """

    def __init__(
        self, shapes: Sequence[tuple[int, int, int]], attributes: int, width: int = 512
    ) -> None:
        super().__init__()
        values = sum(c * min(h, _COARSE) * min(w, _COARSE) for c, h, w in shapes)
        self.layers = nn.Sequential(
            nn.BatchNorm1d(values, affine=False),
            nn.Linear(values, width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, attributes),
        )

    def forward(self, features: list[Tensor]) -> Tensor:
        coarse = [F.adaptive_avg_pool2d(f, min(f.shape[-1], _COARSE)) for f in features]
        return self.layers(torch.cat([f.flatten(1) for f in coarse], dim=1))


LATENT_DISCRIMINATORS = {
    "convolutions": LatentDiscriminator,
    "perceptron": PerceptronDiscriminator,
}


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
        conv.weight.data.copy_(F.pad(weight, [(4 - self.taps) // 2] * 4))
        conv.bias.data.copy_(self.bias)
        return conv


class ImageDiscriminator(nn.Module):
    """Changed or not, patch by patch (Isola et al. 2017, arXiv 1611.07004), and which attributes
    the whole shows (an auxiliary head, as in AttGAN, He et al. 2019, arXiv 1711.10678).

    Images N×3×S×S in [-1, 1], S ≥ 16, and their values (not heeded) → a list of two maps of
    logits, N×S/16×S/16 and N×S/32×S/32, whose places see 46×46 and 78×78 pixels; and logits N×n.
    Unnormalised: held to a gain of 1 per layer by spectral normalisation it could not tell even
    rainbow stripes from skin.
    """

    def __init__(self, size: int, attributes: int, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for i in range(4):
            layers += [
                nn.Conv2d(channels, width * 2**i, 4, stride=2, padding=1),
                nn.LeakyReLU(0.2),
            ]
            channels = width * 2**i
        self.trunk = nn.Sequential(*layers)
        self.wide = nn.Sequential(
            nn.Conv2d(channels, channels, 3, stride=2, padding=1), nn.LeakyReLU(0.2)
        )
        self.real, self.real_wide = nn.Conv2d(channels, 1, 1), nn.Conv2d(channels, 1, 1)
        self.attributes = nn.Linear(channels * math.ceil(size // 16 / 2) ** 2, attributes)
        # torch's own start shrinks what five unnormalised layers say to nearly nothing, and the
        # discriminator stays at chance for as long as a short run lasts.
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, 0.2)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor, y: Tensor) -> tuple[list[Tensor], Tensor]:
        h = self.trunk(x)
        wide = self.wide(h)
        verdicts = [self.real(h)[:, 0], self.real_wide(wide)[:, 0]]
        return verdicts, self.attributes(wide.flatten(1))


class PretrainedDiscriminator(nn.Module):
    """The same two answers as :class:`ImageDiscriminator`'s, by a copy of an attribute classifier
    that learns on.

    A discriminator that starts from features of faces needs far fewer images to learn (as in Sauer
    et al. 2021, arXiv 2111.01007, who keep the features fixed). Images N×3×S×S in [-1, 1] and the
    values N×n that they have or should have → a list of maps of logits, N×H×W, of 1/8, 1/16 … of
    the side, and logits N×n of the attributes, of which ``columns`` are the
    classifier's indices.

    Verdicts are given the sides of the values (Miyato & Koyama 2018, arXiv 1802.05637). Changed
    faces have rare attributes more often than photos do, and "glasses, so it is changed" is of no
    use to a decoder that was asked for glasses. It normalises by the batch while it learns: held to
    the classifier's own statistics it learns several times slower.
    """

    def __init__(
        self, classifier: AttributeClassifier, columns: Sequence[int], width: int = 64
    ) -> None:
        super().__init__()
        self.size = side = classifier.config.size
        self.features = copy.deepcopy(classifier.features).requires_grad_(True).eval()
        with torch.no_grad():
            maps, h = [], next(self.features.parameters()).new_zeros(1, 3, side, side)
            for layer in self.features:
                h = layer(h)
                maps.append(h.shape)
        # The last layer of each side.
        last = {shape[-1]: i for i, shape in enumerate(maps) if shape[-1] <= side // 8}
        self.taps = sorted(last.values())
        self.heads = nn.ModuleList(_Verdict(maps[i][1], width, len(columns)) for i in self.taps)
        known = classifier.head[-1]
        self.attributes = nn.Linear(known.in_features, len(columns))
        with torch.no_grad():
            self.attributes.weight.copy_(known.weight[list(columns)])
            self.attributes.bias.copy_(known.bias[list(columns)])

    def forward(self, x: Tensor, y: Tensor) -> tuple[list[Tensor], Tensor]:
        h, verdicts = resized(x, self.size), []
        for i, layer in enumerate(self.features):
            h = layer(h)
            if i in self.taps:
                verdicts.append(self.heads[len(verdicts)](h, y))
        return verdicts, self.attributes(h.mean(dim=(2, 3)))


class _Verdict(nn.Module):
    """Logits N×H×W, one for each place of a map, given the sides of the attributes' values."""

    def __init__(self, channels: int, width: int, attributes: int) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.LeakyReLU(0.2))
        self.plain = nn.Conv2d(width, 1, 1)
        self.given = nn.Linear(attributes, width, bias=False)
        nn.init.zeros_(self.given.weight)

    def forward(self, h: Tensor, y: Tensor) -> Tensor:
        h = self.hidden(h)
        # Photos have soft values and changed faces hard ones, which would tell them apart.
        given = self.given((y > 0.5).to(y.dtype) * 2 - 1)
        return self.plain(h)[:, 0] + (h * given[:, :, None, None]).sum(dim=1)
