"""What the trainings of all generators have in common: a run that is watched, killed and resumed.

Their steps are :meth:`cgan.gan.GanTrainer.step` and :meth:`cgan.vae.VaeTrainer.step`. Whatever a
step draws is a function of (seed, step), so a resumed run repeats what a killed one had done since
its last backup, snapshots included.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cgan.collapse import Signs, diversity
from cgan.config import GanConfig
from cgan.data import ImageSet
from cgan.io import save_generator
from cgan.networks import LABEL_ROWS, Generator, make_generator
from cgan.pictures import grid, label_rows, save_png, save_progress, snapshots
from cgan.soften import softened
from cgan.transfer import copy_weights
from fader.data.annotations import TRAIN
from fader.data.batches import Augmentation, Batches, to_tensor
from fader.errors import FaderError
from fader.train.adam import Adam
from fader.train.device import make_accelerator
from fader.train.ema import averaged, recalibrate
from fader.train.loop import Loop, training_loop
from fader.train.run import RunFolder, fitting_checkpoint
from fader.train.schedule import learning_rate_at
from fader.words import plural

#: Batches over which the averaged generator's normalisation is measured.
CALIBRATED = 4
#: Faces in a row of a snapshot.
COLUMNS = 8
#: Backups take at most this share of the time; snapshots between two are repeated by a resume.
BACKUP_SHARE = 0.03


class Trainer(ABC):
    """Trains a generator on an image set, into a run folder.

    ``initial`` is a generator to start from (:mod:`cgan.transfer`). ``warn`` is told in a sentence
    when a sign of collapse or divergence shows; the sentences are also in ``validation.jsonl``.
    """

    #: What may help a run whose pictures become alike.
    mend: str

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
        labels = softened(images, rows, config.soften, device, progress)
        self.batches = Batches(
            images,
            rows,
            labels,
            config.batch_size,
            Augmentation(flip=config.flip),
            seed=config.seed,
            balance=config.balance,
            combined=config.label_kind == "attributes",  # classes exclude each other
        )

        torch.manual_seed(config.seed)
        generator = make_generator(config)
        random = np.random.default_rng(config.seed)
        chosen = random.integers(len(rows), size=LABEL_ROWS)
        generator.label_rows.copy_(torch.from_numpy(labels[chosen]))
        if initial is not None:
            copy_weights(initial, generator)
        nets = {"generator": generator, **self.opponents()}
        self.nets: dict[str, nn.Module] = {
            name: self.accelerator.prepare(net.to(memory_format=torch.channels_last))
            for name, net in nets.items()
        }
        self.rates = dict.fromkeys(nets, config.critic_learning_rate)
        self.rates["generator"] = config.learning_rate
        self.optimizers = {name: self._optimizer(name) for name in self.nets}
        self.ema = averaged(self.bare("generator"), config.ema_decay)
        some = rows[random.permutation(len(rows))[:128]]
        self.signs = Signs(diversity(to_tensor(images.images[some])), self.mend)

        self.done = 0  # steps finished
        self._averaged: tuple[int, Generator] | None = None  # of which step, and the generator
        if resume:
            self._resume()
        else:
            self.run.start(config.to_dict())

    def opponents(self) -> dict[str, nn.Module]:
        """The networks that are trained beside the generator, by name, new."""
        return {}

    @abstractmethod
    def step(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """One optimisation step on images N×C×S×S and labels N×k; what of it is logged."""

    @abstractmethod
    def progress_text(self, row: dict[str, float]) -> str:
        """What is shown beside the progress, of a row of metrics."""

    def notes(self) -> dict[str, Any]:
        """How the generator was trained, for its ``config.json``."""
        return {
            "steps": self.done,
            "images_seen": self.done * self.config.batch_size,
            "training_images": len(self.images.indices(TRAIN)),
            "aligned": self.images.aligned,
        }

    def random(self) -> torch.Generator:
        """What the present step draws from, the same whenever it is done."""
        sequence = np.random.SeedSequence([self.config.seed, self.done])
        return torch.Generator().manual_seed(int(sequence.generate_state(1)[0]))

    def _optimizer(self, name: str) -> Any:
        betas = self.config.adam_beta1, self.config.adam_beta2
        return self.accelerator.prepare(Adam(self.nets[name].parameters(), self.rates[name], betas))

    def bare(self, name: str) -> Any:
        """A network without accelerate's wrapper."""
        return self.accelerator.unwrap_model(self.nets[name])

    def update(self, name: str, loss: Tensor) -> None:
        """Move a network's weights down its loss."""
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
        if "discriminator_loss" in row:
            self.signs.losses(row["discriminator_loss"])
        loop.log(row, f"{self.progress_text(row)} {row['images_per_second']:.0f} img/s")

    # Looking at it

    def averaged_generator(self) -> Generator:
        """The generator with averaged weights, in evaluation mode."""
        if self._averaged is None or self._averaged[0] != self.done:
            self._averaged = self.done, self._average()
        return self._averaged[1]

    def _average(self) -> Generator:
        generator = make_generator(self.config)
        source = self.ema.module if self.config.ema_decay else self.bare("generator")
        generator.load_state_dict(source.state_dict())
        generator.grow_to(self.done)
        generator.to(self.accelerator.device).to(memory_format=torch.channels_last)
        with self.accelerator.autocast():
            recalibrate(generator, map(partial(self.calibration, generator), range(CALIBRATED)))
        return generator.eval().requires_grad_(False)

    def calibration(self, generator: Generator, i: int) -> tuple[Tensor, Tensor]:
        """Latents and labels such as the generator sees in training: every time the same."""
        c, device = self.config, self.accelerator.device
        z = torch.randn(c.batch_size, c.latent, generator=torch.Generator().manual_seed(i))
        return z.to(device), self.batches.labels_of(i).to(device)

    def shown_above(self, generator: Generator) -> tuple[list[Tensor], list[str]]:
        """Rows of :data:`COLUMNS` images above those of a snapshot, and their titles."""
        return [], []

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
            above, above_titles = self.shown_above(generator)
        titles = [*above_titles, *titles]
        save_png(grid(torch.cat([*above, faces]), COLUMNS, titles), self._snapshot_path())
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
        save_generator(self.averaged_generator(), self.run.model, self.notes())

    def _resume(self) -> None:
        """Take up the newest backup, or the beginning when the run died before its first."""
        self.run.hold()
        state = self.run.load_checkpoint(self.accelerator.device)
        if state is not None:
            with fitting_checkpoint(self.run):
                for name in self.nets:
                    self.bare(name).load_state_dict(state["nets"][name])
                    self.optimizers[name].load_state_dict(state["optimizers"][name])
                self.ema.load_state_dict(state["ema"])
                self.signs.load_state_dict(state["signs"])
            if self.accelerator.scaler is not None and "scaler" in state:
                self.accelerator.scaler.load_state_dict(state["scaler"])
            self.done = state["step"]
        # What was made since will be made again.
        self.run.forget_after(self.done if state else -1)
        for path in snapshots(self.run):
            if state is None or int(path.stem.removeprefix("step-")) > self.done:
                path.unlink()
        self.run.write_config(self.config.to_dict())


def _check_fit(config: GanConfig, images: ImageSet) -> None:
    if (images.size, images.channels) != (config.size, config.channels):
        raise FaderError(
            f"the images are {images.size} px with {plural(images.channels, 'channel')}, the "
            f"generator is for {config.size} px with {config.channels}; open them with its size "
            "and channels"
        )
    if images.label_names != config.label_names:
        raise FaderError(
            f"the images have the labels {', '.join(images.label_names) or 'none'}, the generator "
            f"is for {', '.join(config.label_names) or 'none'}"
        )
    if not len(images.indices(TRAIN)):
        raise FaderError("the data has no training images; its partition names none")
