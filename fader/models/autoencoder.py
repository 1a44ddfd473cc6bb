"""The Fader autoencoder: E(x) → z and D(z, y) → x′ (Lample et al. 2017, arXiv 1706.00409, §3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from fader.models.config import AutoencoderConfig
from fader.models.small_maps import Conv2d, conv_transpose2d


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
                    Conv2d(outer, inner, 4, stride=2, padding=1),
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
                ),
            )

    def encode(self, x: Tensor) -> list[Tensor]:
        """Images N×3×S×S in [-1, 1] → what the decoder needs of them: for a network with ``skip``
        the joined encoder features, then the latent code."""
        features = []
        for layer in self.encoder:
            x = layer(x)
            features.append(x)
        return features[-1 - self.config.skip :]

    def decode(self, features: list[Tensor], y: Tensor) -> Tensor:
        """What :meth:`encode` gave for N images, and attribute values N×n → N×3×S×S in [-1, 1]."""
        code = torch.stack([1 - y, y], dim=2).flatten(1)  # one-hot, two values per attribute
        *skipped, h = features
        for i, layer in enumerate(self.decoder):
            if i and skipped:
                h = torch.cat([h, skipped.pop()], dim=1)
            h = layer(h, code)
        return torch.tanh(h)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The latent code N×C×s×s of ``x`` and its decoding with the values ``y`` (N×n)."""
        features = self.encode(x)
        return features[-1], self.decode(features, y)


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
        self.norm = norm(outputs, affine=not modulation) if norm else None
        self.modulation = nn.Linear(modulation, 2 * outputs) if modulation and norm else None
        if self.modulation is not None:
            nn.init.normal_(self.modulation.weight, std=0.1)
            nn.init.zeros_(self.modulation.bias)

    def forward(self, h: Tensor, code: Tensor) -> Tensor:
        """Features N×C×H×W and the one-hot code N×2n → N×C′×2H×2W."""
        h = self.blur(self._up_with_planes(h, code) if self.planes else self.up(h))
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
        return _AddByKind.apply(conv_transpose2d(h, ours, stride=2, padding=1), part)


class _AddByKind(torch.autograd.Function):
    """``h`` (N×C×H×W, changed in place) + ``part`` (N×C×4×4), spread by kind of row and column.

    The kinds are: the first, odd ones, even ones, and the last. Pairs of rows, (even, odd), are
    worked on as one, with the first and the last set right afterwards: that way memory is read in
    long pieces.
    """

    @staticmethod
    def forward(ctx, h: Tensor, part: Tensor) -> Tensor:
        ctx.mark_dirty(h)
        part = part.to(h).permute(0, 2, 3, 1)
        height, width = h.shape[2:]
        rows = part[:, :, [2, 1]].repeat(1, 1, width // 2, 1)
        rows[:, :, 0], rows[:, :, -1] = part[:, :, 0], part[:, :, 3]
        by_rows = h.permute(0, 2, 3, 1)
        by_rows.unflatten(1, (height // 2, 2)).add_(rows[:, None, [2, 1]])
        by_rows[:, 0] += rows[:, 0] - rows[:, 2]
        by_rows[:, -1] += rows[:, 3] - rows[:, 1]
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor]:
        n, channels, height, width = grad.shape
        by_rows = grad.permute(0, 2, 3, 1).reshape(n, height, -1)
        rows = (_kinds(height, grad) @ by_rows).view(n * 4, width, channels)
        return grad, (_kinds(width, grad) @ rows).view(n, 4, 4, channels).permute(0, 3, 1, 2)


def _kinds(length: int, like: Tensor) -> Tensor:
    """4×length of 0 and 1: which row or column is the first, an odd, an even one, the last; on the
    device of ``like`` and in its precision, as the gradient is."""
    index = torch.arange(length, device=like.device)
    kinds = 2 - index % 2
    kinds[0], kinds[-1] = 0, 3
    return (kinds == torch.arange(4, device=like.device)[:, None]).to(like.dtype)


class Blur(nn.Module):
    """Separable depthwise low-pass with odd ``taps``, normalised to sum 1."""

    kernel: Tensor

    def __init__(self, channels: int, taps: tuple[int, ...]) -> None:
        super().__init__()
        row = torch.tensor(taps, dtype=torch.float32) / sum(taps)
        kernel = torch.outer(row, row).expand(channels, 1, -1, -1).contiguous()
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, h: Tensor) -> Tensor:
        """Maps N×C×H×W → the same, low-passed."""
        channels, _, side, _ = self.kernel.shape
        return F.conv2d(h, self.kernel.to(h.dtype), padding=side // 2, groups=channels)
