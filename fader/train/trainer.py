"""Staged training of a Fader Network (Lample et al. 2017, arXiv 1706.00409, §3 and §4).

One process, or several under ``accelerate launch``; CPU, CUDA or MPS. A step is
:meth:`Trainer.step`; everything else is bookkeeping that lets a run be watched, killed and resumed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fader.data.batches import Augmentation, Batches, to_tensor
from fader.data.store import PreparedStore
from fader.errors import FaderError
from fader.models.classifier import AttributeClassifier
from fader.models.discriminators import ImageDiscriminator, LatentDiscriminator
from fader.models.io import FaderModel, build_autoencoder
from fader.models.transfer import copy_weights
from fader.train import losses
from fader.train.clip import GradientClip
from fader.train.config import TrainConfig
from fader.train.device import make_accelerator
from fader.train.edits import draw_edits
from fader.train.ema import averaged, calibration, recalibrate
from fader.train.loop import Loop, training_loop
from fader.train.run import RunFolder
from fader.train.samples import sample_grid, save_grid
from fader.train.schedule import lambda_at, learning_rate_at
from fader.train.validation import validate
from fader.train.views import View

TRAIN, VALID = 0, 1
#: Steps between gradient penalties, each for all of them (lazy regularisation, Karras et al. 2020).
PENALTY_EVERY = 16


class Trainer:
    """Trains a model on a prepared store, into a run folder.

    ``classifier`` scores the swaps of the validation and is saved with the model; no loss asks it.
    ``initial`` is a model to start from: its weights are taken wherever the two have the same
    layer, attributes by name.
    """

    def __init__(
        self,
        config: TrainConfig,
        store: PreparedStore,
        out: str | Path | RunFolder,
        *,
        device: str | torch.device = "cpu",
        classifier: AttributeClassifier | None = None,
        initial: FaderModel | None = None,
        resume: bool = False,
        progress: bool = True,
    ) -> None:
        self.accelerator = make_accelerator(torch.device(device), config.mixed_precision)
        self.config, self.store = config, store
        self.run = out if isinstance(out, RunFolder) else RunFolder(out)
        self.main = self.accelerator.is_main_process
        self.progress = progress and self.main
        self.classifier = classifier
        if classifier is not None:
            seen = classifier.config.attributes
            if missing := [name for name in config.model.attributes if name not in seen]:
                raise FaderError(
                    f"the classifier does not know {', '.join(missing)}; train one that does with "
                    "fader train-classifier"
                )
            classifier.eval().requires_grad_(False)
            classifier.to(self.accelerator.device, memory_format=torch.channels_last)
        self._take_data()
        self._build(initial)
        self.done = 0  # steps finished
        self._averaged: tuple[int, FaderModel] | None = None  # of which step, and the model
        self.best = float("-inf")
        if resume:
            self._resume()
        elif self.main:
            self.run.start(config.to_dict())

    def _take_data(self) -> None:
        c, store = self.config, self.store
        if not c.model.attributes:
            raise FaderError("no attributes to train; name at least one, such as Male")
        if store.size != c.model.size:
            raise FaderError(
                f"the data is prepared at {store.size} px but the model is of {c.model.size} px; "
                f"prepare it again with --size {c.model.size}"
            )
        rows, labels = store.indices(TRAIN), store.select_labels(c.model.attributes)
        if not len(rows):
            raise FaderError("the data has no training images; its partition names none")
        for name, column in zip(c.model.attributes, labels[rows].T, strict=True):
            if (column > 0.5).all() or (column <= 0.5).all():
                raise FaderError(f"{name}: every training image has the same value; leave it out")
        self.batches = Batches(
            store,
            rows,
            labels[rows],
            c.batch_size,
            Augmentation(c.flip, c.rotation, c.zoom, c.shift, c.colour),
            seed=c.seed,
            rank=self.accelerator.process_index,
            balance=c.balance,
        )
        self.prior = self.batches.prior.to(self.accelerator.device)
        held_out = store.indices(VALID)
        held_out = held_out if len(held_out) else rows
        count = min(c.validation_images, len(held_out))
        self.held_out = held_out[np.linspace(0, len(held_out) - 1, count).round().astype(int)]
        self.held_out_labels = torch.from_numpy(labels[self.held_out])

    def _build(self, initial: FaderModel | None) -> None:
        c, attributes = self.config, len(self.config.model.attributes)
        torch.manual_seed(c.seed)
        nets: dict[str, nn.Module] = {"autoencoder": build_autoencoder(c.model)}
        if initial is not None:
            copy_weights(initial.autoencoder, nets["autoencoder"])
        nets["latent"] = LatentDiscriminator(c.model.latent_shape, attributes)
        if c.model.kind == "difference":
            nets["images"] = ImageDiscriminator(c.model.size, attributes)
        prepared = self.accelerator.prepare(
            *(net.to(memory_format=torch.channels_last) for net in nets.values())
        )
        self.nets: dict[str, nn.Module] = dict(zip(nets, prepared, strict=True))
        self.optimizers = {
            name: self.accelerator.prepare(
                torch.optim.Adam(
                    net.parameters(),
                    c.learning_rate,
                    betas=(c.adam_beta1, c.adam_beta2),
                    fused=self.accelerator.device.type in ("cpu", "cuda"),
                )
            )
            for name, net in self.nets.items()
        }
        self.clips = {name: GradientClip(c.gradient_clip) for name in self.nets}
        self.ema = averaged(self.bare("autoencoder"), c.ema_decay)

    def bare(self, name: str) -> Any:
        """A network without the wrapper that several processes need."""
        return self.accelerator.unwrap_model(self.nets[name])

    # One step

    def step(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """One optimisation step of every network on images N×3×S×S and values N×n.

        L_dis = −log P_dis(y | E(x))                                          (eq. 1)
        L_ae = ‖D(E(x), y) − x‖² − λ_E log P_dis(1 − y | E(x))                (eq. 2)

        (or, for 1 − y, what ``adversarial_target`` says). Both use the same encoding. For the kind
        ``difference``, :meth:`_edit` says what stands in place of the square.
        """
        c, lambda_e, random = self.config, self._lambda(), self._random()
        if c.model.kind == "paper":
            code, decoded = self.nets["autoencoder"](x, y)
            loss = losses.reconstruction_mse(decoded, x)
            parts = {"reconstruction_loss": loss}
        else:
            code, loss, parts = self._edit(x, y, random)

        guesses = self.nets["latent"](code.detach())
        loss_dis = losses.attribute_nll(guesses, y)
        self._update("latent", loss_dis)

        if lambda_e:
            wanted = 1 - y if c.adversarial_target == "opposite" else self.prior.expand_as(y)
            with self._judging("latent") as discriminator:
                parts["adversarial_loss"] = losses.attribute_nll(discriminator(code), wanted)
            loss = loss + lambda_e * parts["adversarial_loss"]
        self._update("autoencoder", loss)
        self.ema.update_parameters(self.bare("autoencoder"))
        return {
            # Per attribute, so that ln 2 = 0.693 always means "knows nothing".
            "discriminator_loss": loss_dis.detach() / y.shape[1],
            "discriminator_accuracy": losses.accuracy(guesses, y),
            **{name: value.detach() for name, value in parts.items()},
        }

    def _edit(
        self, x: Tensor, y: Tensor, random: torch.Generator
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The latent code, and the loss of a batch of which most faces are edited:

        L = λ_rec |c − x| (where nothing is to change)
            − λ_adv D(x′, y′) + λ_cls L_cls(x′, y′) + λ_mask ramp L_mask

        On the way the image discriminator takes its step. While λ_E is 0 nothing is edited: the
        autoencoder reconstructs, and the attribute head learns on photos.
        """
        c, n = self.config, len(x)
        k = c.edited_images if self.done >= c.pretrain_steps else 0
        difference = torch.zeros_like(y)
        if k:
            edits = draw_edits(y[:k], self.prior, c.model.attributes, c.shuffled, c.longest, random)
            difference[:k] = edits.difference
        code, colour, mask = self.nets["autoencoder"](x, difference)
        edited = x[:k] + mask[:k] * (colour[:k] - x[:k])
        reconstruction = (colour[k:] - x[k:]).abs().mean()
        parts = {"reconstruction_loss": reconstruction}

        view = View(n, c.model.size, random)
        asked = edits.target if k else y[:0]
        images = torch.cat([view(x), view(edited.detach(), k)])
        verdicts, seen = self.nets["images"](images, torch.cat([y, asked]))
        parts["recognition_loss"] = losses.attribute_nll(seen[:n], y) / y.shape[1]
        loss_images = parts["recognition_loss"]
        if k:
            parts["image_discriminator_loss"] = losses.hinge_discriminator_loss(verdicts, n)
            parts["image_discriminator_accuracy"] = losses.separation(verdicts, n)
            loss_images = loss_images + parts["image_discriminator_loss"]
        if c.r1_gamma and self.done % PENALTY_EVERY == 0:
            penalty = losses.gradient_penalty(self.bare("images"), view(x), y, random)
            loss_images = loss_images + PENALTY_EVERY / 2 * c.r1_gamma * penalty
        self._update("images", loss_images)

        if not k:
            return code, c.lambda_rec * reconstruction, parts
        own = seen[:k].detach()
        with self._judging("images") as discriminator:
            verdicts, seen = discriminator(view(edited, k), asked)
        parts["realism_loss"] = losses.hinge_generator_loss(verdicts)
        parts["edit_loss"] = losses.asked_attributes_loss(seen, edits.asked, edits.changed, own)
        parts["mask_loss"] = losses.mask_size(mask[:k], edited, x[:k])
        loss = (
            c.lambda_rec * reconstruction
            + c.lambda_adv * parts["realism_loss"]
            + c.lambda_cls * parts["edit_loss"]
            + c.lambda_mask * self._ramp() * parts["mask_loss"]
        )
        return code, loss, parts

    def _lambda(self) -> float:
        c = self.config
        return lambda_at(self.done, c.pretrain_steps, c.ramp_steps, c.lambda_max)

    def _ramp(self) -> float:
        c = self.config
        return lambda_at(self.done, c.pretrain_steps, c.ramp_steps, 1.0)

    def _random(self) -> torch.Generator:
        """This step's own randomness, dropout's as well; a resumed step draws the same."""
        words = [self.config.seed, self.done, self.accelerator.process_index]
        seed = int(np.random.SeedSequence(words).generate_state(1)[0])
        torch.manual_seed(seed)
        return torch.Generator().manual_seed(seed)

    def _update(self, name: str, loss: Tensor) -> None:
        optimizer = self.optimizers[name]
        optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        self.clips[name](self.nets[name].parameters())
        optimizer.step()

    @contextmanager
    def _judging(self, name: str) -> Iterator[nn.Module]:
        """A discriminator as a fixed judge: no dropout, no gradients of its own weights."""
        net = self.bare(name).eval().requires_grad_(False)
        try:
            yield net
        finally:
            net.train().requires_grad_(True)

    # The loop

    def train(self, minutes: float | None = None) -> FaderModel:
        """Train to ``config.steps``, or for about ``minutes``; returns the averaged model.

        A stop of any kind leaves the last checkpoint. A stop by ``minutes`` or Ctrl-C finishes the
        step and writes one there, and the latter then raises :class:`KeyboardInterrupt`; a second
        Ctrl-C does not wait.
        """
        c = self.config
        for net in self.nets.values():
            net.train()
        with training_loop(
            self.run,
            c.steps,
            self.done,
            log_every=c.log_every,
            save=self._checkpoint,
            minutes=minutes,
            progress=self.progress,
            main=self.main,
            agree=self._any if self.accelerator.num_processes > 1 else None,
        ) as loop:
            with loop.aside():
                if loop.last:
                    loop.save()  # the disk may have had no room for the model
            for x, y in self.batches.from_step(self.done):
                if loop.last:
                    break
                self._set_learning_rate()
                device = self.accelerator.device
                x, y = (part.to(device, non_blocking=True) for part in (x, y))
                values = self.step(x, y)
                self.done += 1
                if row := loop.count(values, len(x) * self.accelerator.num_processes):
                    self._log(row, loop)
                stop = loop.must_stop()
                with loop.aside():
                    if self.done % c.sample_every == 0 or loop.last:
                        self._sample()
                    if self.done % c.validate_every == 0 or loop.last:
                        self._validate(loop)
                    if stop or loop.last or loop.save_is_due(c.checkpoint_minutes * 60):
                        loop.save()
                if stop:
                    break
        return self.averaged_model()

    def _any(self, flag: bool) -> bool:
        """Whether any process says so; their clocks differ, but they must act together."""
        if flag:
            self.accelerator.set_trigger()
        return self.accelerator.check_trigger()

    def _set_learning_rate(self) -> None:
        c = self.config
        rate = learning_rate_at(self.done, c.steps, c.decay_steps, c.learning_rate)
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = rate * (c.discriminator_rate if name == "images" else 1)

    def _log(self, row: dict[str, float], loop: Loop) -> None:
        if not self.main:
            return
        c = self.config
        lambda_e = lambda_at(self.done - 1, c.pretrain_steps, c.ramp_steps, c.lambda_max)
        row = {"step": self.done, "stage": 1 if lambda_e == 0 else 2, "lambda": lambda_e, **row}
        loop.log(
            row,
            f"λ={lambda_e:.1e} rec={row['reconstruction_loss']:.4f} "
            f"dis={row['discriminator_loss']:.3f} acc={row['discriminator_accuracy']:.2f} "
            f"{row['images_per_second']:.0f} img/s",
        )

    # Looking at it

    def averaged_model(self) -> FaderModel:
        """The model with averaged weights, and the classifier if there is one."""
        if self._averaged is None or self._averaged[0] != self.done:
            self._averaged = self.done, self._average()
        return self._averaged[1]

    def _average(self) -> FaderModel:
        model = FaderModel(self.config.model)
        model.autoencoder.load_state_dict(self.ema.module.state_dict())
        model.classifier = self.classifier
        model.training_notes = {
            "steps": self.done,
            "images": self.done * self.config.batch_size * self.accelerator.num_processes,
            **{k: v for k, v in self.config.to_dict().items() if k != "model"},
        }
        model.to(self.accelerator.device, memory_format=torch.channels_last)
        device = self.accelerator.device
        with self.accelerator.autocast():
            batches = ((x.to(device), y.to(device)) for x, y in calibration(self.batches))
            recalibrate(model.autoencoder, batches)
        return model.eval()

    def _sample(self) -> None:
        if self.main:
            rows = self.held_out[:: max(1, len(self.held_out) // 8)][:8]
            x = to_tensor(self.store.images[rows]).to(self.accelerator.device)
            y = torch.from_numpy(self.store.select_labels(self.config.model.attributes)[rows])
            grid = sample_grid(self.averaged_model(), x, y.to(self.accelerator.device))
            save_grid(grid, self.run.samples / f"step-{self.done:08d}.jpg")

    def _validate(self, loop: Loop) -> None:
        """Held-out reconstruction and edits of the averaged model; saves it when best.

        Best is the highest sum of the shares of edits that the classifier recognises and of other
        attributes that it finds unchanged, of the pictures users see, once λ has reached its
        maximum. The discriminators have no say: they know the raw weights' edits, not these.
        """
        if not self.main:
            return
        model, c = self.averaged_model(), self.config
        x = to_tensor(self.store.images[self.held_out])
        with self.accelerator.autocast():
            values = validate(model, x, self.held_out_labels, self.prior.cpu(), c.batch_size)
        loop.scalars("valid", values)
        self.run.log(self.run.validation, {"step": self.done, **values})
        score = values.get("swap_accuracy", 0) + values.get("kept", 0)
        score -= values["reconstruction_loss"] ** 0.5
        if self.done >= c.pretrain_steps + c.ramp_steps and score > self.best:
            self.best = score
            model.save(self.run.path / "best")

    # Stopping and going on

    def _checkpoint(self) -> None:
        """Everything the next step depends on, in one file; and the model so far."""
        self.accelerator.wait_for_everyone()
        if not self.main:
            return
        state = {
            "step": self.done,
            "best": self.best,
            "attributes": list(self.config.model.attributes),
            "ema": self.ema.state_dict(),
            "nets": {name: self.bare(name).state_dict() for name in self.nets},
            "optimizers": {name: opt.state_dict() for name, opt in self.optimizers.items()},
            "gradient_norms": {name: clip.usual for name, clip in self.clips.items()},
        }
        if self.accelerator.scaler is not None:
            state["scaler"] = self.accelerator.scaler.state_dict()
        self.run.save_checkpoint(self.done, state, self.config.keep_checkpoints)
        self.averaged_model().save(self.run.model)

    def _resume(self) -> None:
        """Take up the newest checkpoint, or the beginning when the run died before its first."""
        if self.main:
            self.run.hold()
        state = self.run.load_checkpoint(self.accelerator.device)
        if state is not None:
            try:
                for name in self.nets:
                    self.bare(name).load_state_dict(state["nets"][name])
                    self.optimizers[name].load_state_dict(state["optimizers"][name])
                    self.clips[name].usual = state["gradient_norms"][name]
                self.ema.load_state_dict(state["ema"])
                self.done, self.best = state["step"], state["best"]
            except (LookupError, RuntimeError, ValueError, TypeError, AttributeError) as error:
                first = str(error).splitlines()[-1].strip()
                raise FaderError(
                    f"{self.run.path}: its checkpoint does not fit these settings ({first})"
                ) from None
            if self.accelerator.scaler is not None and "scaler" in state:
                self.accelerator.scaler.load_state_dict(state["scaler"])
        if self.main:
            self.run.forget_after(self.done)
            self.run.write_config(self.config.to_dict())
