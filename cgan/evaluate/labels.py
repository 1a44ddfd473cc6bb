"""Who says what a generated picture shows: a classifier that had no part in its generator."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from cgan.data import ImageSet
from cgan.evaluate.features import as_rgb
from fader.data.batches import Augmentation, Batches
from fader.data.cache import cache_folder, mark_used
from fader.errors import FaderError
from fader.evaluate.judge import PACKAGED, Judge
from fader.interrupts import held_interrupts
from fader.models.classifier import AttributeClassifier, ClassifierConfig
from fader.models.folders import CONFIG, model_info
from fader.models.model import save_classifier
from fader.models.pretrained import load_classifier
from fader.train.classifier import photographic
from fader.train.ema import averaged
from fader.train.run import read_checkpoint, write_checkpoint

# Of a set that names no held-out images, every so manyth is kept from the judge, to score it.
_KEPT_BACK = 10
# What a judge's training is resumed from, and seconds between two of them.
_CHECKPOINT, _CHECKPOINT_SECONDS = "training.pt", 60.0
# α of mixup, the share of pictures with a hole, and the hole's sides in parts of theirs.
_MIXUP, _HOLES, _HOLE = 0.4, 0.3, (1 / 8, 5 / 12)


@dataclass(frozen=True)
class ClassTraining:
    """Settings of a class judge: AdamW, one cycle of learning rate, averaged weights; mixup, holes
    and label smoothing, without which small sets are soon known by heart. size: of the pictures it
    looks at, a multiple of 32; width: its first channels."""

    size: int = 64
    width: int = 32
    steps: int = 5000
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    label_smoothing: float = 0.1
    seed: int = 4321


@dataclass(frozen=True)
class LabelJudge:
    """A judge of the labels it knows: ``names`` in its order, of ``kind`` attributes or classes;
    ``scored_on`` are rows of the data that it did not learn from."""

    judge: Judge
    kind: str
    scored_on: np.ndarray

    @property
    def names(self) -> tuple[str, ...]:
        """The labels it tells, in the order of its answers."""
        return self.judge.attributes

    def see(self, images: np.ndarray) -> np.ndarray:
        """N×S×S×C uint8 → (N, k) bool: attributes each for itself, of classes exactly one."""
        logits = self.judge.see(as_rgb(images))[0]
        if self.kind == "attributes":
            return logits > 0
        return logits.argmax(axis=1)[:, None] == np.arange(len(self.names))


def find_label_judge(
    images: ImageSet,
    folder: str | os.PathLike[str] | None = None,
    device: str | torch.device = "cpu",
    training: ClassTraining | None = None,
    progress: bool = True,
) -> LabelJudge | None:
    """The judge of a set's labels; None for a set without labels.

    Of attributes it is the packaged one, or that in ``folder`` (a run of ``fader
    train-classifier``). Of classes it is trained on the training images, once: the next
    evaluation on the same images finds it under ``~/.cache/fader`` (``$XDG_CACHE_HOME/fader``).
    A training that was stopped goes on there; Ctrl-C raises :class:`KeyboardInterrupt`.
    """
    if images.label_kind == "none":
        return None
    held_out = np.flatnonzero(images.split != 0)
    if images.label_kind == "attributes":
        folder = PACKAGED if folder is None else Path(folder)
        inside = folder / "model"
        folder = inside if (inside / CONFIG).is_file() else folder
        judge = _judge(folder, "packaged" if folder == PACKAGED else str(folder), device)
        scored_on = held_out if len(held_out) else np.arange(len(images))
        return LabelJudge(judge, "attributes", scored_on)
    if folder is not None:
        raise FaderError(
            "--judge is for attributes; of classes the judge is trained on the data, leave it out"
        )
    training = training or ClassTraining(size=min(96, -(-images.size // 32) * 32))
    learnt_from = images.indices(0)
    if not len(held_out):
        held_out = learnt_from[::_KEPT_BACK]
        learnt_from = np.setdiff1d(learnt_from, held_out)
    cache = _cache_of(images, learnt_from, training)
    if not (cache / CONFIG).is_file():
        _train(images, learnt_from, training, cache, device, progress)
    judge = _judge(cache, "trained on the training images", device)
    mark_used(cache)
    return LabelJudge(judge, "classes", held_out)


def _judge(folder: Path, name: str, device: str | torch.device) -> Judge:
    classifier = load_classifier(folder).requires_grad_(False).to(device)
    return Judge(classifier, name, model_info(folder).get("training"))


def _cache_of(images: ImageSet, rows: np.ndarray, training: ClassTraining) -> Path:
    """Where a judge of exactly these images and settings is kept."""
    key = hashlib.sha256(repr((asdict(training), images.label_names)).encode())
    for chunk in np.array_split(rows, max(1, len(rows) // 1024)):
        key.update(np.ascontiguousarray(images.images[chunk]).data)
        key.update(np.ascontiguousarray(images.labels[chunk]).data)
    return cache_folder() / f"judge-{key.hexdigest()[:16]}"


def _train(
    images: ImageSet,
    rows: np.ndarray,
    training: ClassTraining,
    out: Path,
    device: str | torch.device,
    progress: bool,
) -> None:
    """Train a classifier of the classes on these rows, and save it into ``out``."""
    labels = images.labels[rows]
    # With rare classes as rare as they are, but judged as if all were alike (logit adjustment,
    # Menon et al. 2021, arXiv 2007.07314): else a rare one is seldom decided for.
    frequency = torch.from_numpy(np.log(labels.mean(axis=0).clip(min=1e-6))).float().to(device)
    with torch.random.fork_rng(devices=[]), held_interrupts() as interrupted:
        torch.manual_seed(training.seed)
        config = ClassifierConfig(images.label_names, training.size, training.width, "plain")
        net = AttributeClassifier(config).to(device).to(memory_format=torch.channels_last)
        rate = training.learning_rate
        optimizer = torch.optim.AdamW(net.parameters(), rate, weight_decay=training.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=training.steps)
        ema = averaged(net, 0.99)
        parts: dict[str, Any] = {
            "net": net,
            "optimizer": optimizer,
            "schedule": schedule,
            "ema": ema,
        }
        done = _resume(out / _CHECKPOINT, parts, device)
        moved = Augmentation(flip=True, rotation=6, zoom=0.05, shift=0.03)
        batches = Batches(images, rows, labels, training.batch_size, moved, seed=training.seed)
        bar = tqdm(
            zip(range(done, training.steps), batches.from_step(done), strict=False),
            desc="judge of labels",
            initial=done,
            total=training.steps,
            unit="step",
            disable=None if progress else True,
        )
        saved = time.monotonic()
        for step, (x, y) in bar:
            random = torch.Generator().manual_seed(training.seed * 1_000_003 + step)
            x, y = _mixed(_with_holes(_seen(x, random), random), y, random)
            x = x.to(device, memory_format=torch.channels_last)
            smoothing = training.label_smoothing
            loss = F.cross_entropy(net(x) + frequency, y.to(device), label_smoothing=smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            ema.update_parameters(net)
            if interrupted() or time.monotonic() - saved > _CHECKPOINT_SECONDS:
                _save(out / _CHECKPOINT, parts, step + 1)
                saved = time.monotonic()
            if interrupted():
                raise KeyboardInterrupt
    notes: dict[str, Any] = {**asdict(training), "images": len(rows), "labels": "classes"}
    save_classifier(cast(AttributeClassifier, ema.module.eval()), out, notes)
    (out / _CHECKPOINT).unlink(missing_ok=True)


def _seen(x: Tensor, random: torch.Generator) -> Tensor:
    """A batch N×C×S×S as the judge in training sees it, N×3×S×S. Samples are often blurred and
    noisy; in small pictures that can hide what is asked, so half of each batch stays sharp."""
    x = x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x
    half = len(x) // 2
    return torch.cat([photographic(x[:half], random), x[half:]])


def _with_holes(x: Tensor, random: torch.Generator) -> Tensor:
    """Images N×3×S×S, in some of which a rectangle is grey (random erasing, Zhong et al. 2017,
    arXiv 1708.04896)."""
    side, (least, most) = x.shape[-1], _HOLE
    for i in (torch.rand(len(x), generator=random) < _HOLES).nonzero().flatten().tolist():
        sizes = least + (most - least) * torch.rand(2, generator=random)
        height, width = (sizes * side).long().clamp(min=1).tolist()
        top, left = (torch.rand(2, generator=random) * (side - (sizes * side))).long().tolist()
        x[i, :, top : top + height, left : left + width] = 0
    return x


def _mixed(x: Tensor, y: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """A batch and its labels, each mixed with another of it (mixup, Zhang et al. 2018, arXiv
    1710.09412)."""
    seed = int(torch.randint(2**31, (), generator=random))
    share = float(np.random.default_rng(seed).beta(_MIXUP, _MIXUP))
    others = torch.randperm(len(x), generator=random)
    return share * x + (1 - share) * x[others], share * y + (1 - share) * y[others]


def _save(path: Path, parts: dict[str, Any], done: int) -> None:
    """Keep everything the next step depends on; dropout draws from the global generator."""
    state = {name: part.state_dict() for name, part in parts.items()}
    write_checkpoint(path, {"done": done, "random": torch.get_rng_state(), **state})


def _resume(path: Path, parts: dict[str, Any], device: str | torch.device) -> int:
    """Take up the checkpoint at ``path``, and answer how many steps are done; 0 without one."""
    if not path.exists():
        return 0
    try:
        state = read_checkpoint(path, torch.device(device))
        for name, part in parts.items():
            part.load_state_dict(state[name])
        torch.set_rng_state(state["random"].cpu())
        return int(state["done"])
    except Exception:  # damaged pickles are answered with any exception there is
        raise FaderError(
            f"{path}: not a checkpoint of this judge's training; remove it to start anew"
        ) from None
