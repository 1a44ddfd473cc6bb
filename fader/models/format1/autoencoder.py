"""The Fader autoencoder: E(x) → z and D(z, y) → x′ (Lample et al. 2017, arXiv 1706.00409, §3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fader.errors import FaderError
from fader.models.autoencoder import Blur, _AddByKind
from fader.models.format1.copies import moved, moved_back
from fader.models.format1.erasure import Erasure
from fader.models.format1.regions import Regions


@dataclass(frozen=True)
class AutoencoderConfig:
    """What an :class:`Autoencoder` is made of. The defaults of the options are the paper's.

    size: side of the square images, in pixels; a multiple of 2**layers.
    layers: stride-2 layers each way; the latent is size / 2**layers on a side.
    attributes: names of the binary attributes the decoder is given.
    width, max_width: channels of layer i are min(width · 2**i, max_width).
    conditioning: how the decoder gets the attributes. ``planes`` concatenates the one-hot code as
        constant planes at every layer (the paper); ``modulation`` scales and shifts every
        normalised layer by a linear map of the code (conditional batch normalisation, Dumoulin
        et al. 2017, arXiv 1610.07629), which costs no wider convolutions.
    blur_upsampling: low-pass every transposed convolution by a filter that is zero at the Nyquist
        frequency, so that the period-2 checkerboard of transposed convolutions cannot survive.
    residual_blocks: 3×3 residual blocks after each of the decoder's layers below half resolution.
    skip: number of encoder layers (counted from the latent) joined to their decoder twins, U-Net
        fashion. Detail survives better; only the ``perceptron`` discriminator reads them too.
    instance_norm: normalise by instance instead of by batch.
    erase: the encoder ends in an :class:`~fader.models.format1.erasure.Erasure` of the attributes.
    regions: what differs between a face's decodings is confined to where the attributes that differ
        are (:mod:`fader.models.format1.regions`).
    """

    size: int = 256
    layers: int = 6
    attributes: tuple[str, ...] = ()
    width: int = 32
    max_width: int = 512
    conditioning: Literal["planes", "modulation"] = "planes"
    blur_upsampling: bool = False
    residual_blocks: int = 0
    skip: int = 0
    instance_norm: bool = False
    erase: bool = False
    regions: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "attributes", tuple(self.attributes))
        if self.conditioning not in ("planes", "modulation"):
            raise FaderError(
                f"conditioning={self.conditioning!r}: must be 'planes' or 'modulation'"
            )
        if self.layers < 2 or self.size < 2**self.layers or self.size % 2**self.layers:
            raise FaderError(
                f"size={self.size} with layers={self.layers}: the size must be a multiple of "
                f"2**layers, and layers at least 2"
            )
        if not 0 <= self.skip < self.layers:
            raise FaderError(f"skip={self.skip}: must be from 0 to layers - 1 = {self.layers - 1}")

    @property
    def channels(self) -> tuple[int, ...]:
        """Output channels of the encoder's layers, outermost first."""
        return tuple(min(self.width * 2**i, self.max_width) for i in range(self.layers))

    @property
    def feature_shapes(self) -> tuple[tuple[int, int, int], ...]:
        """(C, H, W) of all that the decoder gets of an image; the last is the latent code."""
        return tuple(
            (self.channels[i], self.size // 2 ** (i + 1), self.size // 2 ** (i + 1))
            for i in range(self.layers - 1 - self.skip, self.layers)
        )


class Autoencoder(nn.Module):
    """Encoder and decoder, mirrors of one another.

    Images are N×3×S×S in [-1, 1]. Attribute values are N×n: 0 and 1 are the trained ends, values
    between interpolate and values beyond exaggerate.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.channels
        norm = nn.InstanceNorm2d if config.instance_norm else nn.BatchNorm2d
        code = 2 * len(config.attributes)
        planes = code if config.conditioning == "planes" else 0

        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        # Built side by side, so that the symmetry is visible: encoder layer i turns its `outer`
        # channels into `inner` ones, its decoder twin turns them back.
        for i, inner in enumerate(channels):
            outer = channels[i - 1] if i else 3
            self.encoder.append(
                nn.Sequential(
                    nn.Conv2d(outer, inner, 4, stride=2, padding=1),
                    norm(inner, affine=True) if i else nn.Identity(),
                    nn.LeakyReLU(0.2),
                )
            )
            skipped = inner if config.layers - 1 - config.skip <= i < config.layers - 1 else 0
            self.decoder.insert(
                0,
                DecoderLayer(
                    inner + skipped,
                    outer,
                    planes=planes,
                    modulation=code - planes,
                    norm=norm if i else None,
                    blur=config.blur_upsampling,
                    # At full and half resolution a residual block would cost more than all the
                    # layers below together.
                    residual_blocks=config.residual_blocks if i > 1 else 0,
                ),
            )
        erase = config.erase and config.attributes
        self.erasure = Erasure(config.feature_shapes, len(config.attributes)) if erase else None
        self.regions = Regions(config.attributes, config.size) if config.regions else None

    def encode(self, x: Tensor, copies: int = 1) -> list[Tensor]:
        """Images N×3×S×S in [-1, 1] → what the decoder needs of them.

        Shaped as ``config.feature_shapes`` says: the last element is the latent; before it, for a
        model with ``skip``, the encoder features that are joined to the decoder. Of several
        ``copies`` (:mod:`fader.models.format1.copies`) there are as many times the channels, and
        :meth:`decode` makes their mean.
        """
        if copies > 1:
            each = [self.encode(moved(x, copy)) for copy in range(copies)]
            return [torch.cat(parts, dim=1) for parts in zip(*each, strict=True)]
        features = self._features(x)
        if self.erasure is None or not self.erasure.measured:
            return features
        return self.erasure(features)

    def _features(self, x: Tensor) -> list[Tensor]:
        """:meth:`encode` before anything is erased."""
        features = []
        for layer in self.encoder:
            x = layer(x)
            features.append(x)
        return features[-1 - self.config.skip :]

    def decode(
        self,
        features: list[Tensor],
        y: Tensor,
        own: Tensor | None = None,
        unedited: Tensor | None = None,
    ) -> Tensor:
        """What :meth:`encode` gave for N images, and attribute values M×n → M×3×S×S in [-1, 1].

        M ≥ N; row m of ``y`` decodes image m mod N, so one call decodes a batch several ways.
        With ``own``, the images' own values N×n, a model with ``regions`` changes no more of them
        than :meth:`confined` says. ``unedited`` is the decoding with ``own`` (N×3×S×S), where it is
        there already.
        """
        if own is None or self.regions is None:
            return self._decode(features, y)
        if unedited is not None:
            return self.confined(self._decode(features, y), unedited, y, own)
        n = len(own)
        if len(y) >= n and torch.equal(y[:n], own):  # the first row decodes them as they are
            decoded = self._decode(features, y)
            return self.confined(decoded, decoded[:n], y, own)
        decoded = self._decode(features, torch.cat([own, y]))
        return self.confined(decoded[n:], decoded[:n], y, own)

    def confined(self, changed: Tensor, decoded: Tensor, y: Tensor, own: Tensor) -> Tensor:
        """The decodings ``changed`` (M×3×S×S) with values ``y``, where the attributes are in which
        ``y`` is not ``own`` (N×n); elsewhere ``decoded`` (N×3×S×S), those with ``own``.

        Without ``regions`` all of ``changed``.
        """
        if self.regions is None:
            return changed
        return self.regions(changed, decoded, y, own)

    def _decode(self, features: list[Tensor], y: Tensor) -> Tensor:
        copies = features[-1].shape[1] // self.config.channels[-1]
        if copies > 1:
            each = zip(*[f.chunk(copies, dim=1) for f in features], strict=True)
            decoded = [moved_back(self._decode(list(f), y), i) for i, f in enumerate(each)]
            return sum(decoded) / copies
        whole, rest = divmod(len(y), len(features[-1]))
        if (whole, rest) != (1, 0):
            features = [torch.cat([f] * whole + [f[:rest]]) for f in features]
        code = torch.stack([1 - y, y], dim=2).flatten(1)  # one-hot, two values per attribute
        *skipped, h = features
        for i, layer in enumerate(self.decoder):
            if i and skipped:
                h = torch.cat([h, skipped.pop()], dim=1)
            h = layer(h, code)
        return torch.tanh(h)

    def forward(self, x: Tensor, y: Tensor) -> tuple[list[Tensor], Tensor]:
        """Encode ``x`` once, decode it with every row of ``y``: the features and the decodings."""
        features = self.encode(x)
        return features, self.decode(features, y)


class DecoderLayer(nn.Module):
    """Transposed convolution that doubles the side, told the attribute code."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        planes: int,
        modulation: int,
        norm: type[nn.Module] | None,
        blur: bool,
        residual_blocks: int,
    ) -> None:
        super().__init__()
        self.planes = planes
        self.up = nn.ConvTranspose2d(inputs + planes, outputs, 4, stride=2, padding=1)
        with torch.no_grad():  # starts as bilinear enlargements, which make no checkerboard
            row = torch.tensor([0.25, 0.75, 0.75, 0.25])
            mix = torch.empty(inputs + planes, outputs, 1, 1).uniform_(-1, 1)
            self.up.weight.copy_(mix * torch.outer(row, row) / (inputs + planes) ** 0.5)
        # The image itself gets a filter that is sharper below Nyquist: 0.75 at half of it, not 0.5.
        taps = (1, 2, 1) if norm else (-1, 4, 10, 4, -1)
        self.blur = Blur(outputs, taps) if blur else nn.Identity()
        self.residual = nn.ModuleList(ResidualBlock(outputs, norm) for _ in range(residual_blocks))
        self.norm = norm(outputs, affine=not modulation) if norm else None
        self.modulation = nn.Linear(modulation, 2 * outputs) if modulation and norm else None
        if self.modulation is not None:
            nn.init.normal_(self.modulation.weight, std=0.1)
            nn.init.zeros_(self.modulation.bias)

    def forward(self, h: Tensor, code: Tensor) -> Tensor:
        h = self.blur(self._up_with_planes(h, code) if self.planes else self.up(h))
        for block in self.residual:
            h = block(h)
        if self.norm is None:
            return h
        h = self.norm(h)
        if self.modulation is not None:
            scale, shift = self.modulation(code).to(h.dtype)[:, :, None, None].chunk(2, dim=1)
            h = torch.addcmul(shift, h, 1 + scale)
        return F.relu(h)

    def _up_with_planes(self, h: Tensor, code: Tensor) -> Tensor:
        """``self.up`` of ``h`` and the code as constant planes, without laying out the planes.

        The convolution is linear, and what it makes of a constant plane is the same all over the
        inside of the map and differs only at its border: a doubled map has four kinds of rows and
        of columns. So the planes' part is a 4×4 map for each image, added to the rest by kind. It
        saves the planes' memory and keeps the convolution to a channel count that is fast.
        """
        ours, planes = self.up.weight.split([h.shape[1], self.planes])
        corner = code[:, :, None, None].expand(-1, -1, 2, 2)
        part = F.conv_transpose2d(corner, planes, self.up.bias, stride=2, padding=1)
        return _AddByKind.apply(F.conv_transpose2d(h, ours, stride=2, padding=1), part)


class ResidualBlock(nn.Module):
    """h + two 3×3 convolutions of it; starts as the identity."""

    def __init__(self, channels: int, norm: type[nn.Module] | None) -> None:
        super().__init__()
        normalise = norm or nn.BatchNorm2d
        self.body = nn.Sequential(
            normalise(channels, affine=True),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            normalise(channels, affine=True),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        nn.init.zeros_(self.body[-1].weight)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.body(h)
