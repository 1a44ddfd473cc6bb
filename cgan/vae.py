"""Training of a conditional variational autoencoder: Kingma & Welling 2014 (arXiv 1312.6114), with
labels as Sohn et al. 2015 (Learning Structured Output Representation) have them."""

from __future__ import annotations

from functools import cached_property
from typing import cast

import numpy as np
import torch
from torch import Tensor

from cgan import losses
from cgan.networks import ConditionalVae, Generator
from cgan.soften import softened
from cgan.trainer import COLUMNS, Trainer
from fader.data.annotations import TRAIN
from fader.data.batches import to_tensor

#: Batches of images whose codes are drawn from.
FITTED = 16


class VaeTrainer(Trainer):
    """Trains a generator as the decoder of its encoder."""

    mend = "a higher kl_warmup_steps or a lower learning_rate may help"

    def step(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """One optimisation step on images N×C×S×S and labels N×k.

        What is minimised is −ELBO, E_q(z|x,y)[−log p(x|z,y)] + β KL(q(z|x,y) ‖ p(z)), in nats per
        value. β rises to 1 while decoding is learnt: a divergence that is minimised before z says
        anything is minimal where z never does (Bowman et al. 2016, arXiv 1511.06349). What z tells
        of y the decoder would not hear from y, so its correlation is kept down.
        """
        decoder = self.nets["generator"]
        with self.accelerator.autocast():
            mean, log_variance = self.bare("generator").encode(x, y)
        noise = torch.randn(mean.shape, generator=self.random()).to(x.device)
        decoded = decoder(mean + (0.5 * log_variance).exp() * noise, y)

        reconstruction = losses.reconstruction_loss(decoded, x)
        kl = losses.kl_divergence(mean, log_variance)
        beta = min(1.0, (self.done + 1) / self.config.kl_warmup_steps)
        correlation = losses.label_correlation(mean, y)
        weighed = beta * kl + self.config.correlation_weight * correlation
        self.update("generator", reconstruction + weighed / x[0].numel())
        self.ema.update_parameters(self.bare("generator"))
        return {
            "reconstruction_loss": reconstruction.detach(),
            "kl_loss": kl.detach(),
            "label_correlation": correlation.detach(),
        }

    def progress_text(self, row: dict[str, float]) -> str:
        """Both losses."""
        return f"reconstruction={row['reconstruction_loss']:.3f} KL={row['kl_loss']:.0f}"

    @torch.no_grad()
    def _average(self) -> Generator:
        generator = cast(ConditionalVae, super()._average())
        posteriors = [
            generator.encode(*(part.to(self.accelerator.device) for part in self.batches.batch(i)))
            for i in range(FITTED)
        ]
        mean, log_variance = map(torch.cat, zip(*posteriors, strict=True))
        # The trained ones carry it along, so that a checkpoint's generator draws as well.
        for net in (generator, self.ema.module, self.bare("generator")):
            cast(ConditionalVae, net).fit_codes(mean, log_variance)
        return generator

    @torch.no_grad()
    def calibration(self, generator: Generator, i: int) -> tuple[Tensor, Tensor]:
        """Latents as the encoder draws them, and the labels of their images."""
        x, y = (part.to(self.accelerator.device) for part in self.batches.batch(i))
        mean, log_variance = cast(ConditionalVae, generator).encode(x, y)
        noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(i)).to(x.device)
        return mean + (0.5 * log_variance).exp() * noise, y

    @cached_property
    def _shown(self) -> tuple[Tensor, Tensor]:
        """Images that training does not see, where there are enough, and their labels."""
        held_out = np.flatnonzero(self.images.split != TRAIN)
        some = held_out if len(held_out) >= COLUMNS else self.images.indices(TRAIN)
        rows = np.resize(some, COLUMNS)
        labels = softened(self.images, rows, self.config.soften)
        return to_tensor(self.images.images[rows]), torch.from_numpy(labels)

    def shown_above(self, generator: Generator) -> tuple[list[Tensor], list[str]]:
        """The same images every time, and their reconstructions."""
        x, y = self._shown
        decoded = generator.render(cast(ConditionalVae, generator).codes(x, y), y)
        return [x, decoded], ["images", "redrawn"]
