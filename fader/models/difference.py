"""A Fader autoencoder whose decoder is told the difference of the attributes and masks its colour.

The encoder, the latent code and the discriminator that keeps the attributes out of it are those of
Lample et al. 2017 (arXiv 1706.00409). Three things are new, each for what users ask of an edit:

- The decoder gets target minus source values (STGAN, Liu et al. 2019, arXiv 1904.09709): what is
  not to change is told so by a zero.
- Every level of the encoder reaches its decoder twin through a gate that the difference opens. At
  a difference of zero the gates pass the features as they are.
- The decoder gives a colour c and a mask m, and the edited image is x′ = x + m · (c − x) (HiSD, Li
  et al. 2021, arXiv 2103.01456): where an edit is, is learned; all else is the image itself.

The mask ends within the crop, where the editor's composition of crop and photo ends
(:func:`fader.faces.blend.inside`), so that training sees edits as users do.

The outermost level works on a grid of half the side (pixel unshuffle and shuffle): maps at full
resolution cost more than all levels below them together.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fader.faces.blend import inside
from fader.models.config import AutoencoderConfig
from fader.models.small_maps import Conv2d

# Channels of one group of the group normalisation (Wu & He 2018, arXiv 1803.08494).
_GROUP = 16

# The mask's logit before anything is learned: small edits, but with gradients.
_CLOSED = -2.0


class DifferenceAutoencoder(nn.Module):
    """Images N×3×S×S in [-1, 1] and differences N×n → latent, colour and mask.

    ``config.layers`` counts the levels; level i has side S / 2**(i + 1).
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        channels, attributes = config.channels, len(config.attributes)
        self.encoder = nn.ModuleList()
        for i, width in enumerate(channels):
            # Pixels of the unshuffled image, then halving convolutions as in the paper.
            layer = (
                [nn.Conv2d(3 * 4, width, 3, padding=1)]
                if i == 0
                else [Conv2d(channels[i - 1], width, 4, stride=2, padding=1), _norm(width)]
            )
            self.encoder.append(nn.Sequential(*layer, nn.LeakyReLU(0.2)))
        self.innermost = ModulatedBlock(channels[-1], attributes)
        self.decoder = nn.ModuleList(
            DecoderLevel(channels[i + 1], channels[i], attributes)
            for i in reversed(range(config.layers - 1))
        )
        #: (S, S) in 0..1: how much of the mask there is room for.
        self.inside: Tensor
        self.register_buffer("inside", torch.tensor(inside(config.size)), persistent=False)
        self.head = nn.Conv2d(channels[0], 4 * 4, 3, padding=1)
        assert self.head.bias is not None
        with torch.no_grad():  # the four pixels of a place start alike: no checkerboard to unlearn
            self.head.weight.copy_(self.head.weight[::4].repeat_interleave(4, dim=0))
            nn.init.zeros_(self.head.bias)

    def encode(self, x: Tensor) -> list[Tensor]:
        """Images N×3×S×S in [-1, 1] → the features of every level, outermost first; the last is the
        latent code N×C×s×s."""
        features, h = [], F.pixel_unshuffle(x, 2)
        for layer in self.encoder:
            h = layer(h)
            features.append(h)
        return features

    def decode(self, features: list[Tensor], difference: Tensor) -> tuple[Tensor, Tensor]:
        """Features of N images and differences N×n → colour N×3×S×S in [-1, 1] and mask N×1×S×S in
        0..1."""
        *skips, h = features
        h = self.innermost(h, difference)
        for level, skip in zip(self.decoder, reversed(skips), strict=True):
            h = level(h, skip, difference)
        out = F.pixel_shuffle(self.head(h), 2).float()
        return torch.tanh(out[:, :3]), self.inside * torch.sigmoid(out[:, 3:] + _CLOSED)

    def forward(self, x: Tensor, difference: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The latent code, the colour and the mask of ``x`` with ``difference``."""
        features = self.encode(x)
        return features[-1], *self.decode(features, difference)


class DecoderLevel(nn.Module):
    """Doubles the side, joins the gated features of the encoder's twin, told the difference.

    The gate is 1 + s(d) · tanh(g(h)): how much of each channel passes is the difference's say (s
    is linear without bias, so 0 at d = 0), and where is the decoder's (g), as in the selective
    transfer units of STGAN (§3.2).
    """

    def __init__(self, inner: int, outer: int, attributes: int) -> None:
        super().__init__()
        self.inward = nn.Conv2d(inner, outer, 1)
        self.gate = nn.Conv2d(outer, outer, 1)
        self.scale = nn.Linear(attributes, outer, bias=False)
        self.join = nn.Conv2d(2 * outer, outer, 1)
        self.block = ModulatedBlock(outer, attributes)

    def forward(self, h: Tensor, skip: Tensor, difference: Tensor) -> Tensor:
        """Inner features N×C×H×W, the twin's N×C′×2H×2W, differences N×n → N×C′×2H×2W."""
        h = F.interpolate(self.inward(h), scale_factor=2, mode="bilinear", align_corners=False)
        gate = 1 + self.scale(difference)[:, :, None, None] * torch.tanh(self.gate(h))
        return self.block(self.join(torch.cat([h, skip * gate], dim=1)), difference)


class ModulatedBlock(nn.Module):
    """h + a 3×3 convolution of it, normalised, scaled and shifted by a linear map of the difference
    (conditional normalisation, Dumoulin et al. 2017, arXiv 1610.07629)."""

    def __init__(self, channels: int, attributes: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.modulation = nn.Linear(attributes, 2 * channels, bias=False)
        self.conv = Conv2d(channels, channels, 3, padding=1)

    def forward(self, h: Tensor, difference: Tensor) -> Tensor:
        """Features N×C×H×W and differences N×n → N×C×H×W."""
        scale, shift = self.modulation(difference)[:, :, None, None].chunk(2, dim=1)
        inner = torch.addcmul(shift, self.norm(h), 1 + scale)
        return h + self.conv(F.leaky_relu(inner, 0.2))


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(max(1, channels // _GROUP), channels)
