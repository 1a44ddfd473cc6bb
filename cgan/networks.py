"""Generator and discriminator: DCGAN (Radford et al. 2015, arXiv 1511.06434) and what came after;
and the conditional variational autoencoder, whose decoder is that generator.

Labels y are N×k in 0..1: attribute values, or one-hot classes; k may be 0.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from cgan.config import GanConfig
from fader.errors import NotFiniteError

#: Rows of training labels that a generator carries, to draw from when it is asked for nothing.
LABEL_ROWS = 256
#: Images per pass as users draw or encode, always exactly this many: a convolution may round
#: differently for another batch size, and a face must not depend on how many are asked for.
RENDER_BATCH = 16


class Generator(nn.Module):
    """Latents N×latent and labels N×k → images N×C×S×S in [-1, 1]."""

    def __init__(self, config: GanConfig) -> None:
        super().__init__()
        self.config = config
        k = len(config.label_names)
        self.concat = k if config.conditioning == "concat" else 0
        self.modulated = k if config.conditioning == "cbn" else 0
        widths = [
            min(config.max_width, config.width * 2 ** (config.blocks - i))
            for i in range(config.blocks + 1)
        ]
        self.first = nn.Linear(config.latent + self.concat, widths[0] * config.base**2)
        self.blocks = nn.ModuleList(
            GeneratorBlock(a, b, config, self.modulated) for a, b in pairwise(widths)
        )
        self.norm = Norm(widths[-1], self.modulated)
        self.last = nn.Conv2d(widths[-1], config.channels, 3, padding=1)
        rows = torch.zeros(LABEL_ROWS, k)
        if config.label_kind == "classes":
            rows = F.one_hot(torch.arange(LABEL_ROWS) % k, k).float()
        #: (LABEL_ROWS, k): labels as frequent as they were in training.
        self.label_rows: Tensor
        self.register_buffer("label_rows", rows)
        self.apply(_initialise)

    @property
    def label_names(self) -> tuple[str, ...]:
        """What a face can be asked to be, in the order of y's columns."""
        return self.config.label_names

    @property
    def label_kind(self) -> str:
        """``attributes``, ``classes`` or ``none``."""
        return self.config.label_kind

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Latents N×latent and labels N×k → images N×C×S×S in [-1, 1]."""
        h = self.first(torch.cat([z, y], dim=1) if self.concat else z)
        h = h.view(len(z), -1, self.config.base, self.config.base)
        for block in self.blocks:
            h = block(h, y)
        return torch.tanh(self.last(F.relu(self.norm(h, y))))

    # As users draw from it

    def latents(self, n: int, seed: int) -> Tensor:
        """(n, latent) standard normal; row i depends on seed and i alone."""
        return torch.stack(
            [
                torch.randn(self.config.latent, generator=_stream(seed, i, "latent"))
                for i in range(n)
            ]
        )

    def random_labels(self, n: int, seed: int) -> Tensor:
        """(n, k) labels drawn as frequent as in training; row i depends on seed and i alone."""
        rows = [
            int(torch.randint(LABEL_ROWS, (), generator=_stream(seed, i, "label")))
            for i in range(n)
        ]
        return self.label_rows.cpu()[rows]

    def render(self, z: Tensor, y: Tensor) -> Tensor:
        """Images of latents n×latent and labels n×k: n×C×S×S in [-1, 1], float32 on the CPU.

        Raises :class:`NotFiniteError` when they are none, of weights beyond all measure.
        """
        return self._in_batches(self, z, y)

    @torch.no_grad()
    def _in_batches(self, run: Callable[[Tensor, Tensor], Tensor], a: Tensor, y: Tensor) -> Tensor:
        """``run`` of n rows of ``a`` and labels n×k, :data:`RENDER_BATCH` at a time."""
        device = self.label_rows.device
        results = []
        for start in range(0, max(len(a), 1), RENDER_BATCH):
            some, some_y = a[start : start + RENDER_BATCH], y[start : start + RENDER_BATCH]
            whole = a.new_zeros(RENDER_BATCH, *a.shape[1:])
            whole[: len(some)] = some
            whole_y = F.pad(some_y, (0, 0, 0, RENDER_BATCH - len(some)))
            results.append(run(whole.to(device), whole_y.to(device))[: len(some)].float().cpu())
            if not torch.isfinite(results[-1]).all():
                raise NotFiniteError("this generator draws no pictures; its weights are damaged")
        return torch.cat(results)

    def sample(
        self, n: int, seed: int, labels: Tensor | None = None, truncation: float = 1.0
    ) -> Tensor:
        """New images, n×C×S×S in [-1, 1]: the same for the same seed, whatever n is.

        ``labels`` are n×k in 0..1, or n class numbers; without, they are drawn as frequent as in
        training. ``truncation`` scales the latents: below 1 faces are nearer to the average one,
        less various and usually cleaner. Expects evaluation mode.
        """
        if labels is None:
            labels = self.random_labels(n, seed)
        elif labels.ndim == 1 and self.label_kind == "classes":
            labels = F.one_hot(labels.long(), len(self.label_names))
        return self.render(self.latents(n, seed) * truncation, labels.float())


class ConditionalVae(Generator):
    """The decoder p(x|z,y) of a conditional VAE, drawn from as any generator, and its encoder
    q(z|x,y), a Gaussian with diagonal covariance (Sohn et al. 2015; Kingma & Welling 2014)."""

    def __init__(self, config: GanConfig) -> None:
        super().__init__(config)
        k, code = len(config.label_names), config.critic_max_width
        features, channels = _halvings(config, config.channels, "none")
        self.features = nn.Sequential(*features, nn.Flatten())
        self.code = nn.Linear(channels * config.base**2, code)
        self.label_code = nn.Linear(k, code, bias=False) if k else None
        self.posterior = nn.Linear(code, 2 * config.latent)
        for layer in (*self.features, self.code):
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(layer.weight, 0.2)
        nn.init.normal_(self.posterior.weight, 0, 0.02)  # begins near the prior

    def encode(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Images N×C×S×S in [-1, 1] and their labels N×k → mean and log variance, N×latent."""
        code = self.code(self.features(x))
        if self.label_code is not None:
            code = code + self.label_code(2 * y - 1)
        mean, log_variance = self.posterior(F.leaky_relu(code, 0.2)).float().chunk(2, dim=1)
        return mean, log_variance

    def codes(self, x: Tensor, y: Tensor) -> Tensor:
        """The latents, n×latent on the CPU, that :meth:`render` redraws images n×C×S×S in [-1, 1]
        from, whose labels are n×k."""
        return self._in_batches(lambda *both: self.encode(*both)[0], x, y)


def make_generator(config: GanConfig) -> Generator:
    """The generator of a cGAN, or a cVAE, as the settings say."""
    return ConditionalVae(config) if config.model == "cvae" else Generator(config)


class Norm(nn.Module):
    """Batch normalisation whose gain and shift may depend on labels (de Vries et al. 2017)."""

    def __init__(self, channels: int, labels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=not labels)
        self.label_gain = nn.Linear(labels, channels) if labels else None
        self.label_shift = nn.Linear(labels, channels) if labels else None

    def forward(self, h: Tensor, y: Tensor) -> Tensor:
        """Maps N×channels×s×s, normalised, scaled and shifted as y N×k says."""
        h = self.norm(h)
        if self.label_gain is None or self.label_shift is None:
            return h
        centred = 2 * y - 1
        gain, shift = self.label_gain(centred), self.label_shift(centred)
        return torch.addcmul(shift[:, :, None, None], h, 1 + gain[:, :, None, None])


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

    def kernel(self) -> Tensor:
        """The 4×4 kernel of the transposed convolution."""
        if not self.nearest:
            return self.weight
        w = F.pad(self.weight, (1, 1, 1, 1))
        return w[..., 1:, 1:] + w[..., :-1, 1:] + w[..., 1:, :-1] + w[..., :-1, :-1]

    def forward(self, h: Tensor) -> Tensor:
        """Maps N×inputs×s×s → N×outputs×2s×2s."""
        return F.conv_transpose2d(h, self.kernel(), stride=2, padding=1)


class GeneratorBlock(nn.Module):
    """Norm, ReLU, enlargement; in the residual kind also Norm, ReLU, convolution and a shortcut."""

    def __init__(self, inputs: int, outputs: int, config: GanConfig, labels: int) -> None:
        super().__init__()
        self.norm = Norm(inputs, labels)
        self.enlarge = Upsample(inputs, outputs, config.upsampling)
        self.residual = config.residual
        if self.residual:
            self.second_norm = Norm(outputs, labels)
            self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
            self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, h: Tensor, y: Tensor) -> Tensor:
        """Maps N×inputs×s×s → N×outputs×2s×2s."""
        out = self.enlarge(F.relu(self.norm(h, y)))
        if not self.residual:
            return out
        out = self.second(F.relu(self.second_norm(out, y)))
        return out + F.interpolate(self.shortcut(h), scale_factor=2, mode="nearest")


class Discriminator(nn.Module):
    """Images N×C×S×S in [-1, 1] and labels N×k → how real each is with these labels, N logits.

    With ``auxiliary`` labels it also tells them: N×k logits, else None.
    """

    def __init__(self, config: GanConfig) -> None:
        super().__init__()
        k = len(config.label_names)
        self.kind = config.critic if k else "none"
        self.batch_deviation = config.batch_deviation
        wrap = spectral_norm if config.critic_norm == "spectral" else _unchanged
        channels = config.channels + (k if self.kind == "concat" else 0)
        features, channels = _halvings(config, channels, config.critic_norm)
        self.features = nn.Sequential(*features)
        inputs = (channels + self.batch_deviation) * config.base**2
        if config.critic_norm == "batch":
            # DCGAN's own end: every place of the last maps straight into the verdict.
            self.code, code = nn.Sequential(nn.Flatten()), inputs
        else:
            code = config.critic_max_width
            self.code = nn.Sequential(
                nn.Flatten(), wrap(nn.Linear(inputs, code)), nn.LeakyReLU(0.2)
            )
        self.verdict = wrap(nn.Linear(code, 1))
        if self.kind == "projection":
            self.projection = wrap(nn.Linear(k, code, bias=False))
        if self.kind == "auxiliary":
            self.told = wrap(nn.Linear(code, k))
        self.apply(_initialise)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor | None]:
        """Images N×C×S×S and labels N×k → N logits, and N×k of the labels or None."""
        if self.kind == "concat":
            planes = (2 * y - 1)[:, :, None, None].expand(-1, -1, *x.shape[2:])
            x = torch.cat([x, planes.to(x.dtype)], dim=1)
        h = self.features(x)
        if self.batch_deviation:
            h = torch.cat([h, _batch_deviation(h)], dim=1)
        code = self.code(h)
        logits = self.verdict(code)[:, 0]
        if self.kind == "projection":
            logits = logits + (self.projection(2 * y - 1) * code).sum(dim=1)
        return logits, self.told(code) if self.kind == "auxiliary" else None


def _halvings(config: GanConfig, channels: int, norm: str) -> tuple[list[nn.Module], int]:
    """Layers that halve the side of N×channels×S×S down to ``config.base``, and their output's
    channels."""
    wrap = spectral_norm if norm == "spectral" else _unchanged
    layers: list[nn.Module] = []
    for i in range(config.blocks):
        width = min(config.critic_max_width, config.critic_width * 2**i)
        # As in DCGAN, the layer that sees the pixels is not normalised.
        normed = norm == "batch" and i > 0
        layers.append(wrap(nn.Conv2d(channels, width, 4, 2, padding=1, bias=not normed)))
        if normed:
            layers.append(nn.BatchNorm2d(width))
        layers.append(nn.LeakyReLU(0.2))
        channels = width
    return layers, channels


def _batch_deviation(h: Tensor) -> Tensor:
    """Maps N×1×s×s of the mean deviation, over groups of 4 images, of all features."""
    n, _, height, width = h.shape
    group = next(size for size in (4, 3, 2, 1) if n % size == 0)
    features = h.float().reshape(group, n // group, -1)
    variance = (features - features.mean(dim=0)).square().mean(dim=0)
    level = (variance + 1e-8).sqrt().mean(dim=1)
    return level.repeat(group)[:, None, None, None].expand(-1, 1, height, width).to(h.dtype)


def _stream(seed: int, index: int, what: str) -> torch.Generator:
    sequence = np.random.SeedSequence([seed, index, {"latent": 0, "label": 1}[what]])
    return torch.Generator().manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> 1))


def _unchanged(layer: nn.Module) -> nn.Module:
    return layer


def _initialise(module: nn.Module) -> None:
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
