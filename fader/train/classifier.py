"""Training of the attribute classifier."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor

from fader.data.annotations import TEST, TRAIN, VALID
from fader.data.batches import Augmentation, Batches, to_images, to_tensor
from fader.data.store import PreparedStore
from fader.errors import FaderError
from fader.models.classifier import AttributeClassifier, ClassifierConfig
from fader.models.model import save_classifier
from fader.train.device import any_process, make_accelerator
from fader.train.ema import averaged
from fader.train.loop import Loop, training_loop
from fader.train.run import KEPT_CHECKPOINTS, RunFolder, fitting_checkpoint
from fader.train.share import Share

#: Seconds between checkpoints.
CHECKPOINT_SECONDS = 600.0


@dataclass(frozen=True)
class ClassifierTraining:
    """Settings of a classifier's training: AdamW, one cycle of learning rate, averaged weights.

    identities: ``even`` or ``odd`` trains on half of the people, so that two classifiers can be
    had that share none. size, width, architecture: see :class:`ClassifierConfig`; images of
    another size are resized. even_handed: shift each attribute's decision to where both of its
    values are recognised equally often in held-out faces, as a judge's should be; without it the
    classifier's outputs are probabilities, and rare values are seldom decided for.
    """

    size: int = 128
    width: int = 24
    architecture: Literal["resnet", "plain"] = "resnet"
    steps: int = 2500
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    seed: int = 0
    identities: Literal["all", "even", "odd"] = "all"
    even_handed: bool = False


@dataclass(frozen=True)
class AttributeScore:
    """accuracy and balanced accuracy on held-out faces, beside what always guessing the more
    frequent value would score (``majority``); all 0..1. It is agreement with labels, which may
    themselves be an annotator's guesses."""

    accuracy: float
    balanced_accuracy: float
    majority: float


def train_classifier(
    store: PreparedStore,
    out: str | Path | RunFolder,
    settings: ClassifierTraining,
    *,
    initial: AttributeClassifier | None = None,
    device: str | torch.device = "cpu",
    resume: bool = False,
    progress: bool = True,
) -> dict[str, AttributeScore]:
    """Train on the store's labels (hard or soft) and save into ``out/model``; each attribute's
    score on the test split, else on the validation split, else on the training images. Attributes
    that never vary in the training images are left out. ``initial`` is where to start from instead
    of from chance; raises :class:`FaderError` when it is of another kind. With ``resume`` a run
    goes on exactly where its last checkpoint was; Ctrl-C leaves one, and raises
    :class:`KeyboardInterrupt`."""
    run = out if isinstance(out, RunFolder) else RunFolder(out)
    fit = _Fit(store, run, settings, make_accelerator(torch.device(device)), initial)
    if resume:
        fit.resume()
    elif fit.main:
        run.start(asdict(settings))
    with training_loop(
        run,
        settings.steps,
        fit.done,
        log_every=50,
        save=fit.save,
        progress=progress,
        main=fit.main,
        agree=any_process(fit.accelerator),
    ) as loop:
        fit.train(loop)
        if loop.stopped:
            raise KeyboardInterrupt
        return fit.finish()


class _Fit:
    """One training of a classifier, ``done`` steps of it finished."""

    def __init__(
        self,
        store: PreparedStore,
        run: RunFolder,
        settings: ClassifierTraining,
        accelerator: Accelerator,
        initial: AttributeClassifier | None,
    ) -> None:
        self.store, self.run, self.settings, self.done = store, run, settings, 0
        self.accelerator, self.main = accelerator, accelerator.is_main_process
        self.share = Share(accelerator.process_index, accelerator.num_processes)
        self.rows = _half(store, store.indices(TRAIN), settings.identities)
        if not len(self.rows):
            raise FaderError("the data has no training images; its partition names none")
        labels = store.labels[self.rows]
        positive = labels > 0.5
        varied = np.flatnonzero(positive.any(axis=0) & ~positive.all(axis=0))
        attributes = tuple(np.array(store.attribute_names)[varied])
        if not attributes:
            raise FaderError("no attribute varies over the training images; nothing can be learned")
        torch.manual_seed(settings.seed)
        self.classifier = AttributeClassifier(
            ClassifierConfig(attributes, settings.size, settings.width, settings.architecture)
        )
        if initial is not None:
            if initial.config != self.classifier.config:
                raise FaderError(
                    "the classifier to start from has other attributes, size, width or architecture"
                )
            self.classifier.load_state_dict(initial.state_dict())
        self.batches = Batches(
            _Resized(store, settings.size),
            self.rows,
            labels[:, varied],
            settings.batch_size,
            Augmentation(flip=True, rotation=3, zoom=0.04, shift=0.02),
            seed=settings.seed,
            balance=0.5,
        )
        joined = self.share.joined(self.classifier, settings.batch_size)
        self.net = accelerator.prepare(joined.to(memory_format=torch.channels_last))
        rate, steps = settings.learning_rate, settings.steps
        optimizer = torch.optim.AdamW(
            self.net.parameters(), rate, weight_decay=settings.weight_decay
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
        #: What a checkpoint has of this, by name.
        self.parts: dict[str, Any] = {
            "net": self.classifier,
            "optimizer": accelerator.prepare(optimizer),
            "schedule": schedule,
            "ema": averaged(self.classifier, 0.995),
        }

    def train(self, loop: Loop) -> None:
        """Train until the last step, or a stop."""
        for x, y in self.batches.from_step(self.done, self.share.rows):
            if loop.last:
                break
            row = loop.count(self._step(x, y), len(y))
            if row and self.main:
                loop.log(row, f"loss={row['loss']:.4f}")
            stop = loop.must_stop()
            with loop.aside():
                if stop or loop.last or loop.save_is_due(CHECKPOINT_SECONDS):
                    loop.save()
            if stop:
                break

    def _step(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """One step on this process's images of a batch with the labels ``y``."""
        seed = self.settings.seed * 1_000_003 + self.done
        torch.manual_seed(seed)  # of dropout; a resumed step draws the same
        random = torch.Generator().manual_seed(seed + (self.share.rank << 40))
        x = photographic(x, random).to(self.accelerator.device)
        logits, own = self.net(x).float(), y[self.share.rows].to(self.accelerator.device)
        loss = self.share.weight(len(y)) * F.binary_cross_entropy_with_logits(logits, own)
        self.parts["optimizer"].zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        self.parts["optimizer"].step()
        self.parts["schedule"].step()
        self.parts["ema"].update_parameters(self.classifier)
        self.done += 1
        return self.share.means({"loss": loss.detach()})

    def save(self) -> None:
        """Everything the next step depends on, in one file."""
        self.accelerator.wait_for_everyone()
        if self.main:
            state = {name: part.state_dict() for name, part in self.parts.items()}
            self.run.save_checkpoint(self.done, {"step": self.done, **state}, KEPT_CHECKPOINTS)

    def resume(self) -> None:
        """Take up the newest checkpoint, or the beginning when the run died before its first."""
        if self.main:
            self.run.hold()
        state = self.run.load_checkpoint(self.accelerator.device)
        if state is not None:
            with fitting_checkpoint(self.run):
                for name, part in self.parts.items():
                    part.load_state_dict(state[name])
                self.done = state["step"]
        if self.main:
            self.run.forget_after(self.done)
            self.run.write_config(asdict(self.settings))

    def finish(self) -> dict[str, AttributeScore]:
        """Score and save the averaged weights."""
        classifier, store = self.classifier, self.store
        classifier.load_state_dict(self.parts["ema"].module.state_dict())
        classifier.eval()
        held_out = store.indices(VALID) if len(store.indices(VALID)) else self.rows
        if self.settings.even_handed:
            make_even_handed(classifier, store, held_out)
        scores = score_classifier(classifier, store, held_out)
        notes = {**asdict(self.settings), "scores": {n: asdict(s) for n, s in scores.items()}}
        if len(unseen := store.indices(TEST)):
            # Nothing is chosen by these.
            scores = score_classifier(classifier, store, unseen)
            notes["test_scores"] = {name: asdict(s) for name, s in scores.items()}
        if self.main:
            save_classifier(classifier, self.run.model, notes)
        return scores


def score_classifier(
    classifier: AttributeClassifier, store: PreparedStore, rows: np.ndarray
) -> dict[str, AttributeScore]:
    """How often the classifier is on the label's side of one half, over these rows of the store."""
    scores = {}
    for name, logits, true in _attributes(classifier, store, rows):
        right = (logits > 0) == true
        per_side = [float(right[side].mean()) for side in (~true, true) if side.any()]
        share = float(true.mean())
        scores[name] = AttributeScore(
            float(right.mean()), float(np.mean(per_side)), max(share, 1 - share)
        )
    return scores


@torch.no_grad()
def make_even_handed(
    classifier: AttributeClassifier, store: PreparedStore, rows: np.ndarray
) -> None:
    """Shift the biases of the last layer so that, over these rows of the store, each attribute's
    two values are recognised equally often. One with fewer than ten faces on a side is left."""
    last = classifier.head[-1]
    assert isinstance(last, torch.nn.Linear)
    for i, (_, logits, true) in enumerate(_attributes(classifier, store, rows)):
        yes, no, ends = np.sort(logits[true]), np.sort(logits[~true]), np.sort(logits)
        if min(len(yes), len(no)) < 10:
            continue
        candidates = (ends[1:] + ends[:-1]) / 2
        recognised_yes = 1 - np.searchsorted(yes, candidates) / len(yes)
        recognised_no = np.searchsorted(no, candidates) / len(no)
        threshold = candidates[np.argmin(np.abs(recognised_yes - recognised_no))]
        last.bias[i] -= float(threshold)


@torch.no_grad()
def _attributes(
    classifier: AttributeClassifier, store: PreparedStore, rows: np.ndarray
) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Each attribute, its logits on these rows of the store, and whether they have it."""
    device, names = next(classifier.parameters()).device, classifier.config.attributes
    chunks = np.array_split(rows, max(1, len(rows) // 64))
    logits = [classifier(to_tensor(store.images[some]).to(device)).cpu().numpy() for some in chunks]
    truth = store.select_labels(names)[rows] > 0.5
    return list(zip(names, np.concatenate(logits).T, truth.T, strict=True))


def photographic(x: Tensor, random: torch.Generator) -> Tensor:
    """Images N×3×S×S in [-1, 1] as other cameras and other hands show them, each otherwise: in
    other light, contrast and colour, noisy, enlarged from few pixels, squeezed by JPEG."""
    n = len(x)
    gain = 1 + 0.12 * torch.randn(n, 1, 1, 1, generator=random)
    shift = 0.1 * torch.randn(n, 1, 1, 1, generator=random)
    tint = 0.03 * torch.randn(n, 3, 1, 1, generator=random)
    noise = 0.06 * torch.rand(n, 1, 1, 1, generator=random) ** 2
    x = x * gain + shift + tint + noise * torch.randn(x.shape, generator=random)
    seed = int(torch.randint(2**31, (), generator=random))
    return to_tensor(_softened(to_images(x), np.random.default_rng(seed)))


def _softened(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """uint8 N×S×S×3 images, a quarter of them enlarged from few pixels, as many squeezed."""
    images, side = images.copy(), images.shape[1]
    enlarged, squeezed = random.random((2, len(images))) < 0.25
    small = random.integers(round(0.35 * side), side, len(images))
    quality = random.integers(25, 95, len(images))
    for i in np.flatnonzero(enlarged):
        reduced = cv2.resize(images[i], (int(small[i]),) * 2, interpolation=cv2.INTER_AREA)
        images[i] = cv2.resize(reduced, (side, side), interpolation=cv2.INTER_LINEAR)
    for i in np.flatnonzero(squeezed):
        _, packed = cv2.imencode(".jpg", images[i], [cv2.IMWRITE_JPEG_QUALITY, int(quality[i])])
        images[i] = cv2.imdecode(packed, cv2.IMREAD_COLOR)
    return images


class _Resized:
    """A store's images at another side: what :class:`Batches` takes rows of."""

    def __init__(self, store: PreparedStore, size: int) -> None:
        self.images, self._store, self._size = self, store, size

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        images, size = self._store.images[rows], self._size
        if size == images.shape[1]:
            return images
        method = cv2.INTER_AREA if size < images.shape[1] else cv2.INTER_LINEAR
        return np.stack([cv2.resize(image, (size, size), interpolation=method) for image in images])


def _half(store: PreparedStore, rows: np.ndarray, identities: str) -> np.ndarray:
    if identities == "all":
        return rows
    people = store.identity[rows]
    if (people < 0).any():
        raise FaderError("the data does not say who is who, so it cannot be halved by identity")
    return rows[people % 2 == (0 if identities == "even" else 1)]
