"""Generator and discriminator: DCGAN (Radford et al. 2015, arXiv 1511.06434) and what came after;
and the conditional variational autoencoder, whose decoder is that generator.

Labels y are N×k in 0..1: attribute values, or one-hot classes; k may be 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from cgan.config import GanConfig
from cgan.layers import GeneratorBlock, Norm, ToImage, initialise
from fader.errors import NotFiniteError
from fader.models.small_maps import Conv2d

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
        self.modulated += config.latent if config.self_modulation else 0
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
        self.to_images = nn.ModuleList(
            ToImage(width, config.channels, self.modulated)
            for width in widths[-1 - config.doublings : -1]
        )
        if config.growth:
            #: How far it has grown (:meth:`GanConfig.level_at`).
            self.level: Tensor
            self.register_buffer("level", torch.tensor(float(config.doublings)))
        rows = torch.zeros(LABEL_ROWS, k)
        if config.label_kind == "classes":
            rows = F.one_hot(torch.arange(LABEL_ROWS) % k, k).float()
        #: (LABEL_ROWS, k): labels as frequent as they were in training.
        self.label_rows: Tensor
        self.register_buffer("label_rows", rows)
        self.apply(initialise)

    @property
    def label_names(self) -> tuple[str, ...]:
        """What a face can be asked to be, in the order of y's columns."""
        return self.config.label_names

    @property
    def label_kind(self) -> str:
        """``attributes``, ``classes`` or ``none``."""
        return self.config.label_kind

    def forward(self, z: Tensor, y: Tensor, level: float | None = None) -> Tensor:
        """Latents N×latent and labels N×k → images N×C×S×S in [-1, 1].

        One that grows gives images of the side it has reached at ``level``; without, it takes the
        level it was trained to, and enlarges what it draws to S.
        """
        h = self.first(torch.cat([z, y], dim=1) if self.concat else z)
        h = h.view(len(z), -1, self.config.base, self.config.base)
        condition = self._condition(z, y)
        if not self.config.growth:
            for block in self.blocks:
                h = block(h, condition)
            return torch.tanh(self.last(F.relu(self.norm(h, condition))))
        reached = float(self.level) if level is None else level
        image = torch.tanh(self._grown(h, condition, reached))
        if level is None and image.shape[-1] < self.config.size:
            image = F.interpolate(image.float(), size=self.config.size, mode="bilinear")
        return image

    def grow_to(self, step: int) -> None:
        """Be what training has made of it by a step; nothing where it does not grow."""
        if self.config.growth:
            self.level.fill_(self.config.level_at(step))

    def _condition(self, z: Tensor, y: Tensor) -> Tensor:
        """N×modulated: what decides gains and shifts."""
        labels = 2 * y - 1 if self.config.conditioning == "cbn" else y[:, :0]
        return torch.cat([labels, z], dim=1) if self.config.self_modulation else labels

    def _grown(self, h: Tensor, condition: Tensor, level: float) -> Tensor:
        """The sum of what each side draws, enlarged (skip outputs, Karras et al. 2020, arXiv
        1912.04958, figure 7), the newest with the weight that it has at ``level``."""
        image, before = None, len(self.blocks) - 1 - len(self.to_images)
        for i, block in enumerate(self.blocks[: before + 1 + math.ceil(level)], -before):
            h = block(h, condition)
            if i < 0:
                continue
            if i == len(self.to_images):
                own = self.last(F.relu(self.norm(h, condition)))
            else:
                own = self.to_images[i](h, condition)
            if image is None:
                image = own
            else:
                larger = F.interpolate(image, scale_factor=2, mode="bilinear")
                image = larger + min(1.0, level - (i - 1)) * own
        assert image is not None
        return image

    # As users draw from it

    def latents(self, n: int, seed: int, truncation: float = 1.0) -> Tensor:
        """(n, latent) standard normal, times ``truncation``; row i depends on seed and i alone."""
        size = self.config.latent
        rows = [torch.randn(size, generator=_stream(seed, i, "latent")) for i in range(n)]
        return torch.stack(rows) * truncation

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
        return self.render(self.latents(n, seed, truncation), labels.float())


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
        #: (latent,) and (latent, latent): the codes of training images, as a Gaussian.
        self.codes_mean: Tensor
        self.codes_factor: Tensor
        self.register_buffer("codes_mean", torch.zeros(config.latent))
        self.register_buffer("codes_factor", torch.eye(config.latent))

    def encode(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Images N×C×S×S in [-1, 1] and their labels N×k → mean and log variance, N×latent."""
        code = self.code(self.features(x))
        if self.label_code is not None:
            code = code + self.label_code(2 * y - 1)
        mean, log_variance = self.posterior(F.leaky_relu(code, 0.2)).float().chunk(2, dim=1)
        return mean, log_variance

    def fit_codes(self, mean: Tensor, log_variance: Tensor) -> None:
        """Draw from the Gaussian that fits the posteriors (N×latent each) of N images.

        The posteriors never fill the prior as it asks: some directions have a hundredth of its
        variance, others twenty times it, and what is drawn from it is smeared (Ghosh et al. 2020,
        arXiv 1903.12436, §4). Raises :class:`NotFiniteError` when they are no numbers.
        """
        mean, log_variance = mean.cpu().double(), log_variance.cpu().double()
        covariance = torch.cov(mean.T) + torch.diag(log_variance.exp().mean(dim=0) + 1e-6)
        if not torch.isfinite(covariance).all():
            raise NotFiniteError("this generator has no codes to draw; its weights are damaged")
        self.codes_mean.copy_(mean.mean(dim=0))
        self.codes_factor.copy_(torch.linalg.cholesky(covariance))

    def latents(self, n: int, seed: int, truncation: float = 1.0) -> Tensor:
        """(n, latent) as the codes of training images are, their distance to the mean times
        ``truncation``; row i depends on seed and i alone."""
        rows = super().latents(n, seed, truncation)
        return self.codes_mean.cpu() + rows @ self.codes_factor.cpu().T

    def codes(self, x: Tensor, y: Tensor) -> Tensor:
        """The latents, n×latent on the CPU, that :meth:`render` redraws images n×C×S×S in [-1, 1]
        from, whose labels are n×k."""
        return self._in_batches(lambda *both: self.encode(*both)[0], x, y)


def make_generator(config: GanConfig) -> Generator:
    """The generator of a cGAN, or a cVAE, as the settings say."""
    return ConditionalVae(config) if config.model == "cvae" else Generator(config)


class Discriminator(nn.Module):
    """Images N×C×S×S in [-1, 1] and labels N×k → how real each is with these labels, N logits.

    With ``auxiliary`` labels, or ``both``, it also tells them: N×k logits, else None.
    """

    def __init__(self, config: GanConfig) -> None:
        super().__init__()
        k = len(config.label_names)
        self.kind = config.critic if k else "none"
        self.batch_deviation = config.batch_deviation
        wrap = spectral_norm if config.critic_norm == "spectral" else _unchanged
        channels = config.channels + (k if self.kind == "concat" else 0)
        self.doublings = config.doublings
        self.from_images = nn.ModuleList(
            nn.Sequential(wrap(nn.Conv2d(channels, width, 1)), nn.LeakyReLU(0.2))
            for width in _critic_widths(config)[: config.doublings]
        )
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
        if self.kind in ("projection", "both"):
            self.projection = wrap(nn.Linear(k, code, bias=False))
        if self.kind in ("auxiliary", "both"):
            self.told = wrap(nn.Linear(code, k))
        if config.augment_target:
            #: The share of images that are changed before it sees them (:mod:`cgan.augment`).
            self.augmented: Tensor
            self.register_buffer("augmented", torch.tensor(0.0))
        self.apply(initialise)

    def forward(
        self, x: Tensor, y: Tensor, level: float | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Images N×C×S×S, of the side reached at ``level`` where it grows, and labels N×k → N
        logits, and N×k of the labels or None."""
        if self.kind == "concat":
            planes = (2 * y - 1)[:, :, None, None].expand(-1, -1, *x.shape[2:])
            x = torch.cat([x, planes.to(x.dtype)], dim=1)
        h = self._grown(x, level) if self.doublings and level is not None else self.features(x)
        if self.batch_deviation:
            h = torch.cat([h, _batch_deviation(h)], dim=1)
        code = self.code(h)
        logits = self.verdict(code)[:, 0]
        if self.kind in ("projection", "both"):
            logits = logits + (self.projection(2 * y - 1) * code).sum(dim=1)
        return logits, self.told(code) if self.kind in ("auxiliary", "both") else None

    def _grown(self, x: Tensor, level: float) -> Tensor:
        skipped = self.doublings - math.ceil(level)
        h = self.from_images[skipped - 1](x) if skipped else x
        first, rest = 2 * skipped, 2 * skipped + 2  # a convolution and its LeakyReLU each
        h = self.features[first:rest](h)
        if fading := math.ceil(level) - level:
            smaller = self.from_images[skipped](F.avg_pool2d(x, 2))
            h = torch.lerp(h, smaller.to(h.dtype), fading)
        return self.features[rest:](h)


def shrunk(x: Tensor, config: GanConfig, level: float) -> Tensor:
    """Images N×C×S×S as networks at ``level`` of their growth see them: of that side, and while it
    is new also no sharper than its share (Karras et al. 2018, §2)."""
    x = F.avg_pool2d(x, 2 ** (config.doublings - math.ceil(level)))
    if fading := math.ceil(level) - level:
        coarse = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2, mode="nearest")
        x = torch.lerp(x, coarse, fading)
    return x


def _critic_widths(config: GanConfig) -> list[int]:
    return [min(config.critic_max_width, config.critic_width * 2**i) for i in range(config.blocks)]


def _halvings(config: GanConfig, channels: int, norm: str) -> tuple[list[nn.Module], int]:
    """Layers that halve the side of N×channels×S×S down to ``config.base``, and their output's
    channels."""
    wrap = spectral_norm if norm == "spectral" else _unchanged
    layers: list[nn.Module] = []
    for i, width in enumerate(_critic_widths(config)):
        # As in DCGAN, the layer that sees the pixels is not normalised.
        normed = norm == "batch" and i > 0
        layers.append(wrap(Conv2d(channels, width, 4, 2, padding=1, bias=not normed)))
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
