"""Training of a generator against a discriminator (Goodfellow et al. 2014, arXiv 1406.2661).

A step is :meth:`GanTrainer.step`; everything else is bookkeeping that lets a run be watched, killed
and resumed. Whatever a step draws is a function of (seed, step), so a resumed run repeats what a
killed one had done since its last backup, snapshots included.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from cgan import losses
from cgan.augment import augment, policy_for
from cgan.collapse import Signs, diversity
from cgan.config import GanConfig
from cgan.data import ImageSet
from cgan.io import save_generator
from cgan.networks import LABEL_ROWS, Discriminator, Generator
from cgan.pictures import grid, label_rows, save_png, save_progress, snapshots
from fader.data.annotations import TRAIN
from fader.data.batches import Augmentation, Batches, to_tensor
from fader.errors import FaderError
from fader.train.device import make_accelerator
from fader.train.ema import averaged, recalibrate
from fader.train.loop import Loop, training_loop
from fader.train.run import RunFolder
from fader.train.schedule import learning_rate_at

#: Batches over which the averaged generator's normalisation is measured.
CALIBRATION_BATCHES = 4
#: Faces in a row of a snapshot.
COLUMNS = 8
#: Backups take at most this share of the time; snapshots between two are repeated by a resume.
BACKUP_SHARE = 0.03


class GanTrainer:
    """Trains a generator on an image set, into a run folder.

    ``initial`` is a generator to start from, its weights taken wherever the two have the same
    layer. ``warn`` is told in a sentence when a sign of collapse or divergence shows; the
    sentences are also in ``validation.jsonl``.
    """

    def __init__(
        self,
        config: GanConfig,
        images: ImageSet,
        out: str | Path | RunFolder,
        *,
        device: str | torch.device = "cpu",
        initial: Generator | None = None,
        resume: bool = False,
        progress: bool = True,
        warn: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        self.accelerator = make_accelerator(torch.device(device), config.mixed_precision)
        if self.accelerator.num_processes > 1:
            raise FaderError("cgan trains in one process; start it without accelerate launch")
        self.config, self.images = config, images
        self.run = out if isinstance(out, RunFolder) else RunFolder(out, samples="snapshots")
        self.progress, self.warn = progress, warn
        _check_fit(config, images)
        rows = images.indices(TRAIN)
        self.policy = policy_for(config.diffaugment, len(rows))
        labels = images.labels[rows]
        self.batches = Batches(
            images,
            rows,
            labels,
            config.batch_size,
            Augmentation(flip=config.flip),
            seed=config.seed,
            balance=config.balance,
        )

        torch.manual_seed(config.seed)
        generator = Generator(config)
        random = np.random.default_rng(config.seed)
        chosen = rows[random.integers(len(rows), size=LABEL_ROWS)]
        generator.label_rows.copy_(torch.from_numpy(images.labels[chosen]).round())
        if initial is not None:
            copy_weights(initial, generator)
        nets = {"generator": generator, "discriminator": Discriminator(config)}
        prepared = self.accelerator.prepare(
            *(net.to(memory_format=torch.channels_last) for net in nets.values())
        )
        self.nets: dict[str, nn.Module] = dict(zip(nets, prepared, strict=True))
        self.rates = {
            "generator": config.learning_rate,
            "discriminator": config.critic_learning_rate,
        }
        self.optimizers = {name: self._optimizer(name) for name in self.nets}
        self.ema = averaged(self.bare("generator"), config.ema_decay)
        some = rows[random.permutation(len(rows))[:128]]
        self.signs = Signs(diversity(to_tensor(images.images[some])))

        self.done = 0  # steps finished
        self._averaged: tuple[int, Generator] | None = None  # of which step, and the generator
        if resume:
            self._resume()
        else:
            self.run.start(config.to_dict())

    def _optimizer(self, name: str) -> Any:
        adam = torch.optim.Adam(
            self.nets[name].parameters(),
            self.rates[name],
            betas=(self.config.adam_beta1, self.config.adam_beta2),
            fused=self.accelerator.device.type in ("cpu", "cuda"),
        )
        return self.accelerator.prepare(adam)

    def bare(self, name: str) -> Any:
        """A network without accelerate's wrapper."""
        return self.accelerator.unwrap_model(self.nets[name])

    # One step

    def step(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """One optimisation step of both networks on images N×C×S×S and labels N×k.

        First the discriminator, on real and on generated images; then the generator, on the same
        generated images with the discriminator just updated. Both ask for the labels of the real
        batch.
        """
        c = self.config
        generator, critic = self.nets["generator"], self.nets["discriminator"]
        random = torch.Generator().manual_seed(
            int(np.random.SeedSequence([c.seed, self.done]).generate_state(1)[0])
        )
        z = torch.randn(len(x), c.latent, generator=random).to(x.device)
        fake = generator(z, y)

        # Spectral normalisation estimates its norms once per update, not once per pass.
        with self._cached_norms():
            real, told_real = critic(augment(x, self.policy, random), y)
            made, told_made = critic(augment(fake.detach(), self.policy, random), y)
            loss_d = adversarial_d = losses.discriminator_loss(c.loss, real, made)
            if told_real is not None:
                told = losses.told_labels_loss(c.label_kind, told_real, y)
                loss_d = loss_d + c.auxiliary_weight * told
            parts: dict[str, Tensor] = {}
            if c.r1_weight and self.done % c.r1_interval == 0:
                # Over fewer steps with as much more weight: the same mean (Karras et al. 2020, §4).
                seen = augment(x, self.policy, random)
                parts["gradient_penalty"] = losses.gradient_penalty(
                    self.bare("discriminator"), seen, y
                )
                loss_d = loss_d + c.r1_interval * c.r1_weight / 2 * parts["gradient_penalty"]
            self._update("discriminator", loss_d)

        critic.requires_grad_(False)
        with self._cached_norms():
            verdict, told_made = critic(augment(fake, self.policy, random), y)
            loss_g = adversarial_g = losses.generator_loss(c.loss, verdict)
            if told_made is not None:
                told = losses.told_labels_loss(c.label_kind, told_made, y)
                loss_g = loss_g + c.auxiliary_weight * told
            self._update("generator", loss_g)
        critic.requires_grad_(True)
        self.ema.update_parameters(self.bare("generator"))
        return {
            "generator_loss": adversarial_g.detach(),
            "discriminator_loss": adversarial_d.detach(),
            "real_score": real.detach().mean(),
            "fake_score": made.detach().mean(),
            **{name: value.detach() for name, value in parts.items()},
        }

    def _cached_norms(self) -> AbstractContextManager[Any]:
        return parametrize.cached() if self.config.critic_norm == "spectral" else nullcontext()

    def _update(self, name: str, loss: Tensor) -> None:
        optimizer = self.optimizers[name]
        optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        optimizer.step()

    # The loop

    def train(self, minutes: float | None = None) -> Generator:
        """Train to ``config.steps``, or for about ``minutes``; returns the averaged generator.

        A stop of any kind leaves the last backup. A stop by ``minutes`` or Ctrl-C finishes the step
        and makes one there, and the latter then raises :class:`KeyboardInterrupt`; a second Ctrl-C
        does not wait.
        """
        c = self.config
        for net in self.nets.values():
            net.train()
        with training_loop(
            self.run,
            c.steps,
            self.done,
            log_every=c.log_every,
            save=self._backup,
            minutes=minutes,
            progress=self.progress,
        ) as loop:
            with loop.aside():
                # Before the first step, to compare with; and what a full disk had no room for.
                due = self.done % c.snapshot_every == 0 or loop.last
                if due and not self._snapshot_path().exists():
                    self._snapshot(loop)
                if loop.last:
                    loop.save()
            for x, y in self.batches.from_step(self.done):
                if loop.last:
                    break
                self._set_learning_rates()
                device = self.accelerator.device
                values = self.step(x.to(device), y.to(device))
                self.done += 1
                if row := loop.count(values, len(x)):
                    self._log(row, loop)
                stop = loop.must_stop()
                self._keep(loop, stop)
                if stop:
                    break
            if not loop.stopped:
                with loop.aside():
                    save_progress(self.run)
        return self.averaged_generator()

    def _keep(self, loop: Loop, stop: bool) -> None:
        """A snapshot and a backup after a step, where they are due."""
        with loop.aside():
            pictured = self.done % self.config.snapshot_every == 0 or loop.last
            if pictured:
                self._snapshot(loop)
            due = pictured and loop.save_is_due(loop.save_seconds / BACKUP_SHARE)
            if due or stop or loop.last:
                loop.save()

    def _set_learning_rates(self) -> None:
        c = self.config
        for name, optimizer in self.optimizers.items():
            rate = learning_rate_at(self.done, c.steps, c.decay_steps, self.rates[name])
            for group in optimizer.param_groups:
                group["lr"] = rate

    def _log(self, row: dict[str, float], loop: Loop) -> None:
        self.signs.losses(row["discriminator_loss"])
        loop.log(
            row,
            f"D={row['discriminator_loss']:.3f} G={row['generator_loss']:.3f} "
            f"{row['images_per_second']:.0f} img/s",
        )

    # Looking at it

    def averaged_generator(self) -> Generator:
        """The generator with averaged weights, in evaluation mode."""
        if self._averaged is None or self._averaged[0] != self.done:
            self._averaged = self.done, self._average()
        return self._averaged[1]

    def _average(self) -> Generator:
        generator = Generator(self.config)
        source = self.ema.module if self.config.ema_decay else self.bare("generator")
        generator.load_state_dict(source.state_dict())
        generator.to(self.accelerator.device).to(memory_format=torch.channels_last)
        with self.accelerator.autocast():
            recalibrate(generator, self._calibration())
        return generator.eval().requires_grad_(False)

    def _calibration(self) -> list[tuple[Tensor, Tensor]]:
        """Inputs such as the generator sees in training: every time the same."""
        c, device = self.config, self.accelerator.device
        return [
            (
                torch.randn(c.batch_size, c.latent, generator=torch.Generator().manual_seed(i)).to(
                    device
                ),
                self.batches.labels_of(i).to(device),
            )
            for i in range(CALIBRATION_BATCHES)
        ]

    def _snapshot_path(self) -> Path:
        return self.run.samples / f"step-{self.done:08d}.png"

    def _snapshot(self, loop: Loop) -> None:
        """A grid of the same latents and labels every time, and what it says about the run.

        Each row of it has the same latents, so that only what is asked changes down a column.
        """
        generator = self.averaged_generator()
        y, titles = label_rows(self.config, COLUMNS)
        rows = len(y) // COLUMNS
        z = generator.latents(COLUMNS if titles else len(y), self.config.seed)
        with self.accelerator.autocast():
            faces = generator.render(z.repeat(rows, 1) if titles else z, y)
        picture = grid(faces, COLUMNS, titles)
        save_png(picture, self._snapshot_path())
        # Faces of one row: those of a column are meant to be alike.
        spread = float(np.mean([diversity(row) for row in faces.split(COLUMNS)]))
        warnings = self.signs.snapshot(spread) if self.done else []
        self.run.log(
            self.run.validation,
            {
                "step": self.done,
                "diversity": spread,
                "diversity_of_data": self.signs.real,
                "warnings": warnings,
            },
        )
        loop.scalars("snapshot", {"diversity": spread})
        for sentence in warnings:
            self.warn(f"step {self.done}: {sentence}")

    # Stopping and going on

    def _backup(self) -> None:
        """Everything the next step depends on, in one file; and the generator so far."""
        state = {
            "step": self.done,
            "ema": self.ema.state_dict(),
            "nets": {name: self.bare(name).state_dict() for name in self.nets},
            "optimizers": {name: opt.state_dict() for name, opt in self.optimizers.items()},
            "signs": self.signs.state_dict(),
        }
        if self.accelerator.scaler is not None:
            state["scaler"] = self.accelerator.scaler.state_dict()
        self.run.save_checkpoint(self.done, state, self.config.keep_backups)
        notes = {
            "steps": self.done,
            "images_seen": self.done * self.config.batch_size,
            "training_images": len(self.images.indices(TRAIN)),
            "diffaugment": ",".join(self.policy) or "none",
        }
        save_generator(self.averaged_generator(), self.run.model, notes)

    def _resume(self) -> None:
        """Take up the newest backup, or the beginning when the run died before its first."""
        self.run.hold()
        state = self.run.load_checkpoint(self.accelerator.device)
        if state is not None:
            try:
                for name in self.nets:
                    self.bare(name).load_state_dict(state["nets"][name])
                    self.optimizers[name].load_state_dict(state["optimizers"][name])
                self.ema.load_state_dict(state["ema"])
                self.signs.load_state_dict(state["signs"])
            except (LookupError, RuntimeError, ValueError, TypeError, AttributeError) as error:
                first = str(error).splitlines()[-1].strip()
                raise FaderError(
                    f"{self.run.path}: its backup does not fit these settings ({first})"
                ) from None
            if self.accelerator.scaler is not None and "scaler" in state:
                self.accelerator.scaler.load_state_dict(state["scaler"])
            self.done = state["step"]
        # What was made since will be made again.
        self.run.forget_after(self.done if state else -1)
        for path in snapshots(self.run):
            if state is None or int(path.stem.removeprefix("step-")) > self.done:
                path.unlink()
        self.run.write_config(self.config.to_dict())


def copy_weights(source: Generator, target: Generator) -> None:
    """Take over every layer that both have in the same shape; what reads labels, only when both
    have the same labels."""
    same_labels = source.label_names == target.label_names
    theirs, ours = source.state_dict(), target.state_dict()
    for name, value in theirs.items():
        reads_labels = "label_" in name
        fits = name in ours and ours[name].shape == value.shape
        if fits and name != "label_rows" and (same_labels or not reads_labels):
            ours[name].copy_(value)


def _check_fit(config: GanConfig, images: ImageSet) -> None:
    if (images.size, images.channels) != (config.size, config.channels):
        raise FaderError(
            f"the images are {images.size} px with {images.channels} channels, the generator is "
            f"for {config.size} px with {config.channels}; open them with its size and channels"
        )
    if images.label_names != config.label_names:
        raise FaderError(
            f"the images have the labels {', '.join(images.label_names) or 'none'}, the generator "
            f"is for {', '.join(config.label_names) or 'none'}"
        )
    if not len(images.indices(TRAIN)):
        raise FaderError("the data has no training images; its partition names none")
