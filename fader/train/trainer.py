"""Staged training of a Fader Network (Lample et al. 2017, arXiv 1706.00409, §3 and §4).

One process, or several under ``accelerate launch`` that share each batch; CPU, CUDA or MPS. A step
is :meth:`Trainer.step`; everything else is bookkeeping that lets a run be watched, killed and
resumed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fader.data.store import PreparedStore
from fader.errors import FaderError
from fader.models.classifier import AttributeClassifier
from fader.models.discriminators import ImageDiscriminator, LatentDiscriminator
from fader.models.model import FaderModel, build_autoencoder
from fader.models.transfer import copy_weights
from fader.photo import save_image
from fader.train import losses
from fader.train.adam import Adam
from fader.train.clip import GradientClip
from fader.train.config import TrainConfig
from fader.train.device import any_process, make_accelerator
from fader.train.edits import View, draw_edits, edited_images
from fader.train.ema import averaged, calibration, recalibrate
from fader.train.faces import take_faces
from fader.train.loop import Loop, training_loop
from fader.train.run import KEPT_CHECKPOINTS, RunFolder, fitting_checkpoint
from fader.train.schedule import lambda_at, learning_rate_at
from fader.train.share import Share, check_batch_size
from fader.train.validation import sample_grid, save_grid, sheet, validate

#: Steps between gradient penalties, each for all of them (lazy regularisation, Karras et al. 2020,
#: arXiv 1912.04958, appendix B).
R1_EVERY = 16
#: The image discriminator's learning rate in parts of the others' (two time scales, Heusel et al.
#: 2017, arXiv 1706.08500).
DISCRIMINATOR_RATE = 3
#: Adam's first moment, as in the paper's code.
ADAM_BETA1 = 0.5


class Trainer:
    """Trains a model on a prepared store, into a run folder.

    ``classifier`` scores the swaps of the validation and is saved with the model; no loss asks it.
    ``initial`` is a model to start from: its weights are taken wherever the two have the same
    layer, attributes by name. ``compiled`` puts the autoencoder and the image discriminator
    through ``torch.compile``.
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
        compiled: bool = False,
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
            classifier.to(memory_format=torch.channels_last).to(self.accelerator.device)
        self.share = Share(self.accelerator.process_index, self.accelerator.num_processes)
        check_batch_size(config, self.share.of)
        self.faces = take_faces(store, config)
        self.prior = self.faces.batches.prior.to(self.accelerator.device)
        self._build(initial)
        for name in ("autoencoder", "images") if compiled else ():
            if name in self.nets:
                self.bare(name).compile(dynamic=False)
        self.done = 0  # steps finished
        self._averaged: tuple[int, FaderModel] | None = None  # of which step, and the model
        self.best = float("-inf")
        if resume:
            self._resume()
        elif self.main:
            self.run.start(config.to_dict())

    def _build(self, initial: FaderModel | None) -> None:
        c, attributes = self.config, len(self.config.model.attributes)
        torch.manual_seed(c.seed)
        nets: dict[str, nn.Module] = {"autoencoder": build_autoencoder(c.model)}
        if initial is not None:
            copy_weights(initial.autoencoder, nets["autoencoder"])
        nets["latent"] = LatentDiscriminator(c.model.latent_shape, attributes)
        if c.model.kind == "difference":
            widths = c.model.width, c.model.max_width
            nets["images"] = ImageDiscriminator(c.model.size, attributes, *widths)
        prepared = self.accelerator.prepare(
            *(
                self.share.joined(net, c.batch_size).to(memory_format=torch.channels_last)
                for net in nets.values()
            )
        )
        self.nets: dict[str, nn.Module] = dict(zip(nets, prepared, strict=True))
        self.optimizers = {
            name: self.accelerator.prepare(
                Adam(net.parameters(), c.learning_rate, (ADAM_BETA1, c.adam_beta2))
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
        """One step of every network on images N×3×S×S in [-1, 1], or this process's share of them,
        and all values N×n: the losses' parts, single numbers that stay on the device.
        The kind ``paper`` has the reconstruction and the latent term alone, its equation (2).
        """
        c, nets, random, share = self.config.at(self.done), self.nets, self._random(), self.share
        paper, editing = c.model.kind == "paper", self.done >= c.pretrain_steps
        ramp = lambda_at(self.done, c.pretrain_steps, c.ramp_steps, 1.0)
        lambda_e = lambda_at(self.done, c.pretrain_steps, c.ramp_steps, c.lambda_max)
        w_rec, w_adv, w_cls, w_mask = c.lambda_rec, c.lambda_adv, c.lambda_cls, c.lambda_mask
        offset = losses.prior_logits(self.prior, c.logit_adjustment)
        adv = cls = size = latent = torch.zeros((), device=x.device)  # not every step has them

        # Encode and decode; the first k images are edited.
        n, k = len(y), edited_images(len(y)) if editing and not paper else 0
        of_all, of_edited, of_kept = share.weight(n), share.weight(k), share.weight(n, k)
        whole = draw_edits(y, k, self.prior, c.model.attributes, random)
        y, edits = y[share.rows], whole.of(share.rows)
        k = len(edits.target)
        code, *decoded = nets["autoencoder"](x, y if paper else edits.difference)

        # The discriminator of the latent code (eq. 1), and that of images: photos and edits.
        loss, parts = losses.latent_discriminator_loss(nets["latent"](code.detach()), y, of_all)
        self._update("latent", loss)
        if paper:
            rec, of_rec = losses.square_reconstruction_loss(decoded[0], x, of_kept)
        else:
            colour, mask = decoded
            edited = x[:k] + mask[:k] * (colour[:k] - x[:k])
            rec, of_rec = losses.colour_reconstruction_loss(colour[k:], x[k:], of_kept)
            view = View(n, c.model.size, random, share.rows)
            shown = torch.cat([view(x), view(edited.detach(), k)])
            verdicts, logits = nets["images"](shown, torch.cat([y, edits.target]))
            means = of_all, of_edited
            loss, of_images = losses.image_discriminator_loss(verdicts, logits, y, offset, means)
            if c.r1_gamma and self.done % R1_EVERY == 0:
                loss = loss + of_all * c.r1_gamma * self._gradient_penalty(view(x), y, n, random)
            self._update("images", loss)
            parts |= of_images

        # The autoencoder (eq. 2), against both discriminators as they are now.
        parts |= of_rec
        if k:
            with self._judging("images") as judge:
                verdicts, seen = judge(view(edited, k), edits.target)
            adv, of_adv = losses.realism_loss(verdicts, of_edited)
            weights = share.weights(edits.changed, whole.changed, c.lambda_keep)
            seen = seen + edits.changed * losses.handicap_of(edits.target, offset)
            cls, of_cls = losses.edit_loss(seen, edits.asked, edits.changed, logits[:k], weights)
            size, of_size = losses.mask_loss(mask[:k], edited, x[:k], of_edited, c.mask_binary)
            parts |= of_adv | of_cls | of_size
        if lambda_e:
            wanted = 1 - y if c.adversarial_target == "opposite" else self.prior.expand_as(y)
            with self._judging("latent") as judge:
                latent, of_latent = losses.latent_adversarial_loss(judge(code), wanted, of_all)
            parts |= of_latent
        loss = w_rec * rec + w_adv * adv + w_cls * cls + ramp * w_mask * size + lambda_e * latent
        self._update("autoencoder", loss)
        self.ema.update_parameters(self.bare("autoencoder"))
        return share.means({name: value.detach() for name, value in parts.items()})

    def _gradient_penalty(self, x: Tensor, y: Tensor, n: int, random: torch.Generator) -> Tensor:
        """The image discriminator's R1 on this process's share of ``n`` photos, half and for all
        steps until the next."""
        signs = torch.randint(0, 2, (n, y.shape[1]), generator=random)[self.share.rows]
        return R1_EVERY / 2 * losses.gradient_penalty(self.bare("images").forward, x, y, signs)

    def _random(self) -> torch.Generator:
        """This step's own randomness, dropout's as well; a resumed step draws the same."""
        seed = int(np.random.SeedSequence([self.config.seed, self.done, 0]).generate_state(1)[0])
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
            agree=any_process(self.accelerator),
        ) as loop:
            with loop.aside():
                if loop.last:
                    loop.save()  # the disk may have had no room for the model
                elif not self.done:
                    self._show_reals()
                    self._sample()
            for x, y in self.faces.batches.from_step(self.done, self.share.rows):
                if loop.last:
                    break
                self._set_learning_rate()
                device = self.accelerator.device
                x, y = (part.to(device, non_blocking=True) for part in (x, y))
                values = self.step(x, y)
                self.done += 1
                if row := loop.count(values, len(y)):
                    self._log(row, loop)
                stop = loop.must_stop()
                with loop.aside():
                    if self.done % c.validate_every == 0 or loop.last:
                        self._sample()
                        self._validate(loop)
                    if stop or loop.last or loop.save_is_due(c.checkpoint_minutes * 60):
                        loop.save()
                if stop:
                    break
        return self.averaged_model()

    def _set_learning_rate(self) -> None:
        c = self.config.at(self.done)
        rate = learning_rate_at(self.done, c.steps, c.decay_steps, c.learning_rate)
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = rate * (DISCRIMINATOR_RATE if name == "images" else 1)

    def _log(self, row: dict[str, float], loop: Loop) -> None:
        if not self.main:
            return
        c = self.config.at(self.done - 1)
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
            **{k: v for k, v in self.config.to_dict().items() if k != "model"},
            "steps": self.done,  # of a run that was stopped, or of its best step
            "images": self.done * self.config.batch_size,
        }
        model.to(memory_format=torch.channels_last).to(self.accelerator.device)
        device = self.accelerator.device
        with self.accelerator.autocast():
            batches = ((x.to(device), y.to(device)) for x, y in calibration(self.faces.batches))
            recalibrate(model.autoencoder, batches)
        return model.eval()

    def _show_reals(self) -> None:
        """The first training faces as the networks see them."""
        if self.main:
            save_image(sheet(self.faces.batches.batch(0)[0][:64]), self.run.reals)

    def _sample(self) -> None:
        if self.main:
            x, y = (part.to(self.accelerator.device) for part in self.faces.samples())
            grid = sample_grid(self.averaged_model(), x, y)
            save_grid(grid, self.run.samples / f"step-{self.done:08d}.jpg")

    def _validate(self, loop: Loop) -> None:
        """Held-out reconstruction and edits of the averaged model; saves it when best.

        Best is the highest sum of the shares of edits that the classifier recognises and of other
        attributes that it finds unchanged, of the pictures users see, in the last stage and once λ
        has reached its maximum: an edit that need not look real is easily recognised. The
        discriminators have no say: they know the raw weights' edits, not these.
        """
        if not self.main:
            return
        model, c = self.averaged_model(), self.config
        with self.accelerator.autocast():
            values = validate(model, self.faces.x, self.faces.y, self.prior.cpu(), c.batch_size)
        loop.scalars("valid", values)
        self.run.log(self.run.validation, {"step": self.done, **values})
        score = values.get("swap_accuracy", 0) + values.get("kept", 0)
        score -= values["reconstruction_loss"] ** 0.5
        ramped = self.done >= c.pretrain_steps + c.ramp_steps
        if ramped and self.done > max([0, *(s.steps for s in c.stages)]) and score > self.best:
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
        self.run.save_checkpoint(self.done, state, KEPT_CHECKPOINTS)
        self.averaged_model().save(self.run.model)

    def _resume(self) -> None:
        """Take up the newest checkpoint, or the beginning when the run died before its first."""
        if self.main:
            self.run.hold()
        state = self.run.load_checkpoint(self.accelerator.device)
        if state is not None:
            with fitting_checkpoint(self.run):
                for name in self.nets:
                    self.bare(name).load_state_dict(state["nets"][name])
                    self.optimizers[name].load_state_dict(state["optimizers"][name])
                    self.clips[name].usual = state["gradient_norms"][name]
                self.ema.load_state_dict(state["ema"])
                self.done, self.best = state["step"], state["best"]
            if self.accelerator.scaler is not None and "scaler" in state:
                self.accelerator.scaler.load_state_dict(state["scaler"])
        if self.main:
            self.run.forget_after(self.done)
            self.run.write_config(self.config.to_dict())
