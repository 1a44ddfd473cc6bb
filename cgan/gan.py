"""Training of a generator against a discriminator (Goodfellow et al. 2014, arXiv 1406.2661)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from cgan import losses
from cgan.augment import adapted, augment, policy_for
from cgan.networks import Discriminator, shrunk
from cgan.trainer import Trainer


class GanTrainer(Trainer):
    """Trains a generator and a discriminator against each other."""

    mend = "a lower learning_rate, r1_weight=10 or diffaugment may help"

    def opponents(self) -> dict[str, nn.Module]:
        """The discriminator."""
        return {"discriminator": Discriminator(self.config)}

    @property
    def policy(self) -> tuple[str, ...]:
        """What DiffAugment does to what the discriminator sees."""
        adapts = self.config.augment_target > 0
        return policy_for(self.config.diffaugment, 0 if adapts else len(self.batches.rows))

    @property
    def augmented(self) -> float:
        """The share of images that it is done to, as it is at present."""
        adapts = self.config.augment_target > 0
        return float(self.bare("discriminator").augmented) if adapts else 1.0

    def step(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """One optimisation step of both networks on images N×C×S×S and labels N×k.

        First the discriminator, on real and on generated images; then, after
        ``critic_warmup_steps``, the generator, on the same generated images with the discriminator
        just updated. Both ask for the labels of the real batch.
        """
        c, random = self.config, self.random()
        level = {"level": c.level_at(self.done)} if c.growth else {}
        if c.growth:
            x = shrunk(x, c, **level)
        judge = partial(self.nets["discriminator"], **level)
        change = partial(augment, policy=self.policy, random=random, share=self.augmented)
        z = torch.randn(len(x), c.latent, generator=random).to(x.device)
        learns = self.done >= c.critic_warmup_steps
        with nullcontext() if learns else torch.no_grad():
            fake = self.nets["generator"](z, y, **level)

        # Spectral normalisation estimates its norms once per update, not once per pass.
        with self._cached_norms():
            real, told_real = judge(change(x), y)
            made, _ = judge(change(fake.detach()), y)
            loss_d = adversarial_d = losses.discriminator_loss(c.loss, real, made)
            if told_real is not None:
                told = losses.told_labels_loss(c.label_kind, told_real, y)
                loss_d = loss_d + c.auxiliary_weight * told
            parts: dict[str, Tensor] = {}
            if c.r1_weight and self.done % c.r1_interval == 0:
                # Over fewer steps with as much more weight: the same mean (Karras et al. 2020, §4).
                seen = change(x)
                plain = partial(self.bare("discriminator"), **level)
                parts["gradient_penalty"] = losses.gradient_penalty(plain, seen, y)
                loss_d = loss_d + c.r1_interval * c.r1_weight / 2 * parts["gradient_penalty"]
            self.update("discriminator", loss_d)
        if c.augment_target:
            share = self.bare("discriminator").augmented
            parts["augmented"] = share.copy_(adapted(share, real, c.augment_target)).clone()

        if learns:
            loss_g = self._generator_step(judge, change(fake), y)
        else:
            loss_g = losses.generator_loss(c.loss, made)
        return {
            "generator_loss": loss_g.detach(),
            "discriminator_loss": adversarial_d.detach(),
            "real_score": real.detach().mean(),
            "fake_score": made.detach().mean(),
            **{name: value.detach() for name, value in parts.items()},
        }

    def _generator_step(
        self, judge: Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]], x: Tensor, y: Tensor
    ) -> Tensor:
        """Let the generator learn from what the discriminator says of its images N×C×S×S, of which
        it wanted labels N×k; the adversarial part of its loss."""
        c, critic = self.config, self.nets["discriminator"]
        critic.requires_grad_(False)
        with self._cached_norms():
            verdict, told = judge(x, y)
            loss = adversarial = losses.generator_loss(c.loss, verdict)
            if told is not None:
                told_loss = losses.told_labels_loss(c.label_kind, told, y)
                loss = loss + c.auxiliary_weight * told_loss
            self.update("generator", loss)
        critic.requires_grad_(True)
        self.ema.update_parameters(self.bare("generator"))
        return adversarial

    def _cached_norms(self) -> AbstractContextManager[Any]:
        return parametrize.cached() if self.config.critic_norm == "spectral" else nullcontext()

    def progress_text(self, row: dict[str, float]) -> str:
        """Both losses."""
        return f"D={row['discriminator_loss']:.3f} G={row['generator_loss']:.3f}"

    def notes(self) -> dict[str, Any]:
        """How the generator was trained; DiffAugment among it."""
        notes = {**super().notes(), "diffaugment": ",".join(self.policy) or "none"}
        if self.config.augment_target:
            notes["augmented"] = round(self.augmented, 3)
        return notes
