"""Staged training of a Fader Network (Lample et al. 2017, arXiv 1706.00409, §3 and §4).

One process, or several under ``accelerate launch``; CPU, CUDA or MPS. A step is
:meth:`Trainer.step`; everything else is bookkeeping that lets a run be watched, killed and resumed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fader.data.batches import Augmentation, Batches, to_tensor
from fader.data.prepared import PreparedStore
from fader.errors import FaderError
from fader.models.autoencoder import Autoencoder, copy_weights
from fader.models.classifier import AttributeClassifier
from fader.models.copies import MOST_COPIES, moved, moved_back
from fader.models.discriminators import (
    LATENT_DISCRIMINATORS,
    ImageDiscriminator,
    PretrainedDiscriminator,
)
from fader.models.io import FaderModel
from fader.train import losses
from fader.train.config import TrainConfig
from fader.train.device import make_accelerator
from fader.train.ema import averaged, calibration, recalibrate
from fader.train.loop import Loop, training_loop
from fader.train.run import RunFolder
from fader.train.samples import sample_grid, save_grid
from fader.train.schedule import lambda_at, learning_rate_at

TRAIN, VALID = 0, 1
#: Faces, at most, from which it is learned what to erase, and about as many, at most, that have
#: their features held in memory for it (1.2 GB at 128 pixels).
ERASURE_FACES, COVARIANCE_FACES = 20_000, 2_560
#: Steps between gradient penalties, each for all of them (lazy regularisation, Karras et al. 2020).
PENALTY_EVERY = 8

#: Steps between updates of the latent discriminator once the encoder is frozen.
MEASURE_EVERY = 4

# Steps over which the usual norm of each network's gradient is averaged.
NORM_STEPS = 50


class Trainer:
    """Trains a model on a prepared store, into a run folder.

    ``classifier`` is needed when ``config.classifier_weight`` is positive, scores the swaps of
    the validation, and is saved with the model. ``initial`` is a model to start from: its weights
    are taken wherever the two have the same layer, attributes by name. ``rivals`` is a run of the
    same attributes whose discriminators this one's start from, beside which a finished decoder
    would be far ahead of new ones.
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
        rivals: RunFolder | None = None,
        resume: bool = False,
        progress: bool = True,
    ) -> None:
        self.accelerator = make_accelerator(
            torch.device(device), config.mixed_precision, freezes=config.erase_steps > 0
        )
        self.config, self.store = config, store
        self.run = out if isinstance(out, RunFolder) else RunFolder(out)
        self.main = self.accelerator.is_main_process
        self.progress = progress and self.main
        attributes = config.model.attributes
        if not attributes:
            raise FaderError("no attributes to train; name at least one, such as Male")
        if store.size != config.model.size:
            raise FaderError(
                f"the data is prepared at {store.size} px but the model is of "
                f"{config.model.size} px; prepare it again with --size {config.model.size}"
            )
        uses_images = bool(config.patch_weight or config.recognition_weight)
        pretrained = uses_images and config.image_discriminator == "classifier"
        if classifier is None and (config.classifier_weight or pretrained):
            name, off = (
                ("classifier_weight", "classifier_weight=0")
                if config.classifier_weight
                else ("image_discriminator=classifier", "image_discriminator=fresh")
            )
            raise FaderError(
                f"{name} is set but there is no classifier; give --classifier, or set {off}"
            )
        self.classifier = classifier
        if classifier is not None:
            classifier.eval().requires_grad_(False)
            seen = classifier.config.attributes
            missing = [name for name in attributes if name not in seen]
            if missing:
                raise FaderError(
                    f"the classifier does not know {', '.join(missing)}; train one that does with "
                    "fader train-classifier, or leave it out with classifier_weight=0"
                )
            self.seen_columns = [seen.index(name) for name in attributes]

        torch.manual_seed(config.seed)
        network = Autoencoder(config.model)
        if initial is not None:
            copy_weights(initial.autoencoder, network)
        discriminator = LATENT_DISCRIMINATORS[config.discriminator]
        nets = {
            "autoencoder": network,
            "discriminator": discriminator(config.model.feature_shapes, len(attributes)),
        }
        if uses_images:
            nets["images"] = (
                PretrainedDiscriminator(classifier, self.seen_columns)
                if pretrained
                else ImageDiscriminator(config.model.size, len(attributes))
            )
        if rivals is not None:
            _take_rivals(nets, rivals, attributes)
        prepared = self.accelerator.prepare(
            *(net.to(memory_format=torch.channels_last) for net in nets.values())
        )
        self.nets: dict[str, nn.Module] = dict(zip(nets, prepared, strict=True))
        self.optimizers = {
            name: self.accelerator.prepare(
                torch.optim.Adam(
                    net.parameters(),
                    config.learning_rate,
                    betas=(config.adam_beta1, config.adam_beta2),
                    fused=self.accelerator.device.type in ("cpu", "cuda"),
                )
            )
            for name, net in self.nets.items()
        }
        self.ema = averaged(self.bare("autoencoder"), config.ema_decay)
        if classifier is not None:
            classifier.to(self.accelerator.device, memory_format=torch.channels_last)

        rows = store.indices(TRAIN)
        labels = store.select_labels(attributes)
        if not len(rows):
            raise FaderError("the data has no training images; its partition names none")
        for name, column in zip(attributes, labels[rows].T, strict=True):
            if (column > 0.5).all() or (column <= 0.5).all():
                raise FaderError(f"{name}: every training image has the same value; leave it out")
        self.batches = Batches(
            store,
            rows,
            labels[rows],
            config.batch_size,
            Augmentation(config.flip, config.rotation, config.zoom, config.shift, config.colour),
            seed=config.seed,
            rank=self.accelerator.process_index,
            balance=config.balance,
        )
        self.prior = self.batches.prior.to(self.accelerator.device)
        held_out = store.indices(VALID)
        held_out = held_out if len(held_out) else rows
        self.held_out = held_out[
            np.linspace(0, len(held_out) - 1, min(config.validation_images, len(held_out)))
            .round()
            .astype(int)
        ]
        self.held_out_labels = torch.from_numpy(labels[self.held_out])

        self.done = 0  # steps finished
        self._averaged: tuple[int, FaderModel] | None = None  # of which step, and the model
        self.best = float("inf")
        self.gradient_norms: dict[str, float] = {}
        if resume:
            self._resume()
        elif self.main:
            self.run.start(config.to_dict())

    def bare(self, name: str) -> Any:
        """A network without the wrapper that several processes need."""
        return self.accelerator.unwrap_model(self.nets[name])

    # One step

    def step(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """One optimisation step of every network on images N×3×S×S and values N×n.

        L_dis = −log P_dis(y | E(x))                                          (eq. 1)
        L_ae = ‖D(E(x), y) − x‖² − λ_E log P_dis(1 − y | E(x))                (eq. 2)

        (or, for 1 − y, what ``adversarial_target`` says). Both use the same encoding. While
        λ_E > 0, the optional terms look at decodings with other attributes: the image
        discriminator's and the classifier's opinion of them, and how much of the picture changed.
        """
        c = self.config
        lambda_e = lambda_at(self.done, c.pretrain_steps, c.ramp_steps, c.lambda_max)
        ramp = lambda_e / c.lambda_max if c.lambda_max else 1.0
        random = torch.Generator().manual_seed(
            int(np.random.SeedSequence([c.seed, self.done, self._rank]).generate_state(1)[0])
        )
        torch.manual_seed(random.initial_seed())  # dropout; a resumed step draws the same

        n = len(x)
        changed_images = c.changed_images(n)
        weights = (c.classifier_weight, c.patch_weight, c.recognition_weight, c.change_weight)
        use_changed = ramp > 0 and max(weights) > 0
        asked, flipped = losses.asked_values(
            y[:changed_images], self.prior, c.shuffled_fraction, random
        )
        values = losses.lengthened(y[:changed_images], asked, c.longest_move, random)
        # Image by image, so that those that are changed come first.
        copies = torch.randperm(MOST_COPIES, generator=random)[: c.copies].tolist()
        placed = x if c.copies == 1 else torch.stack([moved(x, i) for i in copies], 1).flatten(0, 1)
        asked_of_all = torch.cat([y, values]) if use_changed else y
        code, decoded = self.nets["autoencoder"](
            placed, asked_of_all.repeat_interleave(c.copies, dim=0)
        )
        if c.copies > 1:
            each = decoded.float().unflatten(0, (-1, c.copies)).unbind(1)
            decoded = sum(moved_back(d, i) for d, i in zip(each, copies, strict=True)) / c.copies
        decoded, changed = decoded[:n], decoded[n:]
        if use_changed:
            before = decoded[:changed_images].detach()
            changed = self.bare("autoencoder").confined(changed, before, values, y[:changed_images])

        # Nothing learns from it once the encoder is frozen: then it only goes on measuring.
        reads = not self.bare("autoencoder").frozen or self.done % MEASURE_EVERY == 0
        with torch.set_grad_enabled(reads):
            guesses = self.nets["discriminator"]([z.detach() for z in code])
            own = y.repeat_interleave(c.copies, dim=0)
            loss_dis = losses.attribute_nll(guesses, own)
        if reads:
            self._update("discriminator", loss_dis)

        parts: dict[str, Tensor] = {}
        if use_changed and "images" in self.nets:
            k = changed_images
            images = torch.cat([x[:k], decoded[:k].detach(), changed.detach()])
            verdicts, seen = self.nets["images"](images, torch.cat([y[:k], y[:k], asked]))
            parts["patch_discriminator_loss"] = losses.patch_discriminator_loss(verdicts, k)
            parts["recognition_discriminator_loss"] = (
                losses.attribute_nll(seen[:k], y[:k]) / y.shape[1]
            )
            loss = parts["patch_discriminator_loss"] + parts["recognition_discriminator_loss"]
            if c.unconvinced_weight:
                parts["unconvinced_loss"] = losses.unconvinced_loss(seen[2 * k :], y[:k], flipped)
                loss = loss + c.unconvinced_weight * parts["unconvinced_loss"]
            if c.gradient_penalty and self.done % PENALTY_EVERY == 0:
                # As the decoder meets it, and without photos alone moving its statistics.
                discriminator = self.bare("images").eval()
                penalty = losses.gradient_penalty(discriminator, x[:k], y[:k], random)
                discriminator.train()
                loss = loss + PENALTY_EVERY / 2 * c.gradient_penalty * penalty
            self._update("images", loss)

        reconstruction = losses.reconstruction_mse(decoded, x)
        loss_ae = reconstruction
        if c.structure_weight:
            parts["structure_loss"] = losses.structural_dissimilarity(decoded, x)
            loss_ae = loss_ae + c.structure_weight * parts["structure_loss"]
        if lambda_e and not self.bare("autoencoder").frozen:
            with self._judging("discriminator") as discriminator:
                opposite = c.adversarial_target == "opposite"
                wanted = 1 - own if opposite else self.prior.expand_as(own)
                parts["adversarial_loss"] = losses.attribute_nll(discriminator(code), wanted)
            loss_ae = loss_ae + lambda_e * parts["adversarial_loss"]
        if use_changed and "images" in self.nets:
            with self._judging("images") as discriminator:
                verdicts, seen = discriminator(changed, asked)
            parts["patch_loss"] = losses.patch_generator_loss(verdicts)
            parts["recognition_loss"] = losses.asked_attributes_loss(seen, asked, flipped)
            loss_ae = loss_ae + ramp * (
                c.patch_weight * parts["patch_loss"]
                + c.recognition_weight * parts["recognition_loss"]
            )
        if use_changed and c.classifier_weight:
            with self.accelerator.autocast():
                seen = self.classifier(losses.weathered(changed, random))[:, self.seen_columns]
            parts["classifier_loss"] = losses.asked_attributes_loss(seen, asked, flipped)
            loss_ae = loss_ae + ramp * c.classifier_weight * parts["classifier_loss"]
        if use_changed and c.change_weight:
            parts["change_loss"] = losses.change_size(changed, decoded[:changed_images])
            loss_ae = loss_ae + ramp * c.change_weight * parts["change_loss"]
        self._update("autoencoder", loss_ae)
        self.ema.update_parameters(self.bare("autoencoder"))

        return {
            "reconstruction_loss": reconstruction.detach(),
            # Per attribute, so that ln 2 = 0.693 always means "knows nothing".
            "discriminator_loss": loss_dis.detach() / y.shape[1],
            "discriminator_accuracy": losses.accuracy(guesses, own),
            **{name: value.detach() for name, value in parts.items()},
        }

    def _update(self, name: str, loss: Tensor) -> None:
        optimizer = self.optimizers[name]
        optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        if self.config.gradient_clip:
            usual = self.gradient_norms.get(name)
            limit = self.config.gradient_clip * usual if usual else math.inf
            norm = float(self.accelerator.clip_grad_norm_(self.nets[name].parameters(), limit))
            if math.isfinite(norm):
                norm = min(norm, limit)
                self.gradient_norms[name] = usual + (norm - usual) / NORM_STEPS if usual else norm
        optimizer.step()

    @contextmanager
    def _judging(self, name: str) -> Iterator[nn.Module]:
        """A discriminator as a fixed judge: no dropout, no gradients of its own weights."""
        net = self.bare(name).eval().requires_grad_(False)
        try:
            yield net
        finally:
            net.train().requires_grad_(True)

    @property
    def _rank(self) -> int:
        return self.accelerator.process_index

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
                if c.erase_from is not None and self.done >= c.erase_from:
                    self._freeze_encoder()
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
                group["lr"] = rate * (c.image_learning_rate if name == "images" else 1)

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
        if self.ema.module.frozen:
            model.autoencoder.freeze_encoder()
        model.classifier = self.classifier
        model.training_notes = {
            "steps": self.done,
            "images": self.done * self.config.batch_size * self.accelerator.num_processes,
            **{k: v for k, v in self.config.to_dict().items() if k != "model"},
        }
        model.to(self.accelerator.device, memory_format=torch.channels_last)
        with self.accelerator.autocast():
            recalibrate(model.autoencoder, self._calibration())
        return model.eval()

    def _freeze_encoder(self) -> None:
        """Begin the last stage: the averaged encoder for good, the attributes erased from its code.

        Until here the code moved with every step, and what is to be erased with it.
        """
        autoencoder = self.bare("autoencoder")
        if autoencoder.frozen:
            return
        if not autoencoder.erasure.measured:
            averaged = self.averaged_model().autoencoder
            with self.accelerator.autocast():
                faces = min(len(self.batches.rows), ERASURE_FACES)
                averaged.measure_erasure(self._faces_to_erase(), -(-faces // COVARIANCE_FACES))
            for net in (autoencoder, self.ema.module):
                net.load_state_dict(averaged.state_dict())
        for net in (autoencoder, self.ema.module):
            net.freeze_encoder()

    def _faces_to_erase(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Training faces and their values."""
        rows, labels = self.batches.rows, self.batches.labels
        step = -(-len(rows) // ERASURE_FACES)
        for start in range(0, len(rows), 64 * step):
            some = slice(start, start + 64 * step, step)
            x = to_tensor(self.store.images[rows[some]]).to(self.accelerator.device)
            y = torch.from_numpy(labels[some]).to(self.accelerator.device)
            yield x, y

    def _calibration(self) -> Iterator[tuple[Tensor, Tensor]]:
        device = self.accelerator.device
        for x, y in calibration(self.batches, self.config):
            yield x.to(device), y.to(device)

    def _sample(self) -> None:
        if self.main:
            rows = self.held_out[:: max(1, len(self.held_out) // 8)][:8]
            x = to_tensor(self.store.images[rows]).to(self.accelerator.device)
            y = torch.from_numpy(self.store.select_labels(self.config.model.attributes)[rows])
            grid = sample_grid(self.averaged_model(), x, y.to(self.accelerator.device))
            save_grid(grid, self.run.samples / f"step-{self.done:08d}.jpg")

    @torch.no_grad()
    def _validate(self, loop: Loop) -> None:
        """Held-out reconstruction and swaps of the averaged model; saves it when best.

        Best is the lowest sum of the root of the reconstruction's MSE and, with a classifier, the
        share of swaps it does not recognise, once λ has reached its maximum. The discriminator
        has no say: it knows the latents of the raw weights, not of the averaged ones.
        """
        if not self.main:
            return
        c, device = self.config, self.accelerator.device
        model = self.averaged_model()
        sums: dict[str, float] = {}
        for start in range(0, len(self.held_out), c.batch_size):
            rows = self.held_out[start : start + c.batch_size]
            x = to_tensor(self.store.images[rows]).to(device)
            y = self.held_out_labels[start : start + c.batch_size].to(device)
            random = torch.Generator().manual_seed(start)
            asked, flipped = losses.flip_one(y, self.prior, random)
            with self.accelerator.autocast():
                _, decoded = model.autoencoder(x, torch.cat([y, asked]))
            decoded, changed = decoded[: len(x)].float(), decoded[len(x) :].float()
            values = {"reconstruction_loss": losses.reconstruction_mse(decoded, x)}
            if self.classifier is not None:
                seen = self.classifier(changed)[:, self.seen_columns]
                values["classifier_loss"] = losses.asked_attributes_loss(seen, asked, flipped)
                hits = (seen > 0) == (asked > 0.5)
                values["swap_accuracy"] = hits[flipped].float().mean()
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(x) / len(self.held_out)
        loop.scalars("valid", sums)
        self.run.log(self.run.validation, {"step": self.done, **sums})
        score = sums["reconstruction_loss"] ** 0.5 + 1 - sums.get("swap_accuracy", 1.0)
        if self.done >= c.pretrain_steps + c.ramp_steps and score < self.best:
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
            "gradient_norms": self.gradient_norms,
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
                # A run whose last stage is new has nothing to erase yet.
                for key, value in self.ema.state_dict().items():
                    if ".erasure." in key:
                        state["ema"].setdefault(key, value)
                        state["nets"]["autoencoder"].setdefault(key.removeprefix("module."), value)
                for name in self.nets:
                    self.bare(name).load_state_dict(state["nets"][name])
                    self.optimizers[name].load_state_dict(state["optimizers"][name])
                self.ema.load_state_dict(state["ema"])
            except (LookupError, RuntimeError, ValueError, TypeError, AttributeError) as error:
                first = str(error).splitlines()[-1].strip()
                raise FaderError(
                    f"{self.run.path}: its checkpoint does not fit these settings ({first})"
                ) from None
            if self.accelerator.scaler is not None and "scaler" in state:
                self.accelerator.scaler.load_state_dict(state["scaler"])
            self.done, self.best = state["step"], state["best"]
            self.gradient_norms = state.get("gradient_norms", {})
            if self.config.erase_steps and self.bare("autoencoder").erasure.measured:
                self._freeze_encoder()
        if self.main:
            self.run.forget_after(self.done)
            self.run.write_config(self.config.to_dict())


def _take_rivals(nets: dict[str, nn.Module], run: RunFolder, attributes: tuple[str, ...]) -> None:
    """Load the discriminators of ``run`` into those of ``nets``."""
    state = run.load_checkpoint(torch.device("cpu"))
    if state is None:
        raise FaderError(f"{run.path}: holds no run with a checkpoint to take discriminators from")
    if tuple(state["attributes"]) != attributes:
        raise FaderError(
            f"{run.path}: its discriminators know {', '.join(state['attributes'])}; they can only "
            "be taken for the same attributes in the same order"
        )
    for name in nets.keys() - {"autoencoder"}:
        try:
            nets[name].load_state_dict(state["nets"][name])
        except (KeyError, RuntimeError):
            raise FaderError(
                f"{run.path}: its discriminators are of another kind; train with the run's own "
                "settings for discriminator, image_discriminator and size, or start from new ones"
            ) from None
