"""Train the face embedder by which ``fader evaluate`` measures identity.

    python tools/train_embedder.py STORE --init CLASSIFIER_RUN --out fader/evaluate/weights/identity

STORE is a prepared store that says who is who (CelebA's identity_CelebA). It learns from the
people of the training part by CosFace (Wang et al. 2018, arXiv 1801.09414), two photos of each of
a batch's people, and is measured on those of the test part, who are other people: the share of
pairs told apart rightly (as many of one person as of two), at the distance that was best on the
people of the validation part.
"""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from fader.data.annotations import TEST, TRAIN, VALID
from fader.data.batches import Augmentation, to_tensor
from fader.data.store import PreparedStore
from fader.evaluate.embedder import EmbedderConfig, FaceEmbedder, save_embedder
from fader.models.io import load_classifier
from fader.train.classifier import photographic
from fader.train.ema import averaged

_MARGIN, _SCALE, _PEOPLE = 0.2, 32.0, 64


class Pairs:
    """Batches of people, two photos of each: a pure function of the step."""

    def __init__(self, store: PreparedStore, seed: int) -> None:
        rows = store.indices(TRAIN)
        people, self.who = np.unique(store.identity[rows], return_inverse=True)
        order = np.argsort(self.who, kind="stable")
        self.photos = np.split(rows[order], np.flatnonzero(np.diff(self.who[order])) + 1)
        self.several = np.flatnonzero([len(some) > 1 for some in self.photos])
        self.count, self.store, self.seed = len(people), store, seed
        self.augmentation = Augmentation(flip=True, rotation=3, zoom=0.03, shift=0.015)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        per_round = len(self.several) // _PEOPLE
        order = np.random.default_rng([self.seed, step // per_round]).permutation(self.several)
        start = step % per_round * _PEOPLE
        chosen = order[start : start + _PEOPLE]
        random = np.random.default_rng([self.seed, 1, step])
        rows = np.concatenate([random.choice(self.photos[one], 2, replace=False) for one in chosen])
        x = self.augmentation(to_tensor(self.store.images[rows]), random)
        x = photographic(x, torch.Generator().manual_seed(self.seed * 1_000_003 + step))
        return x, torch.from_numpy(np.repeat(chosen, 2))


def cosface(embeddings: Tensor, centres: Tensor, who: Tensor) -> Tensor:
    """Cross-entropy of scaled cosines to everybody's centre, the right one's less the margin."""
    cosines = embeddings @ F.normalize(centres).T
    return F.cross_entropy(_SCALE * (cosines - _MARGIN * F.one_hot(who, len(centres))), who)


def likeness(embeddings: Tensor) -> Tensor:
    """InfoNCE between the two photos of each person, which stand beside each other."""
    cosines = (embeddings @ embeddings.T) / 0.1
    cosines.fill_diagonal_(-1e4)
    partner = torch.arange(len(embeddings)) ^ 1
    return F.cross_entropy(cosines, partner)


@torch.no_grad()
def distances(net: nn.Module, store: PreparedStore, split: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances of all pairs of photos of one person in a split, and of as many of two people."""
    rows = store.indices(split)
    found = np.concatenate(
        [
            net(to_tensor(store.images[some])).numpy()
            for some in np.array_split(rows, max(1, len(rows) // 64))
        ]
    )
    people = store.identity[rows]
    order = np.argsort(people, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(people[order])) + 1)
    same = np.array([pair for group in groups for pair in itertools.combinations(group, 2)])
    random = np.random.default_rng(0)
    other = random.integers(len(rows), size=(4 * len(same), 2))
    other = other[people[other[:, 0]] != people[other[:, 1]]][: len(same)]
    return tuple(
        np.linalg.norm(found[pair[:, 0]] - found[pair[:, 1]], axis=1) for pair in (same, other)
    )


def best_threshold(same: np.ndarray, other: np.ndarray) -> float:
    candidates = np.linspace(0, 2, 401)
    right = [(same < t).mean() + (other >= t).mean() for t in candidates]
    return float(candidates[int(np.argmax(right))])


def area(same: np.ndarray, other: np.ndarray) -> float:
    """How often a pair of one person is nearer than a pair of two."""
    return float(np.searchsorted(np.sort(other), same, side="right").mean() / -len(other) + 1)


@click.command()
@click.argument("store", type=click.Path(exists=True, path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path))
@click.option("--init", type=click.Path(exists=True, path_type=Path), help="A resnet classifier.")
@click.option("--steps", default=2500, show_default=True)
@click.option("--size", default=64, show_default=True)
@click.option("--width", default=16, show_default=True)
@click.option("--learning-rate", default=2e-3, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(
    store: Path, out: Path, init: Path | None, steps: int, size: int, width: int,
    learning_rate: float, seed: int,
) -> None:  # fmt: skip
    """Train on STORE's training people and save into --out, which may be half done already."""
    data = PreparedStore(store)
    pairs = Pairs(data, seed)
    torch.manual_seed(seed)
    net = FaceEmbedder(EmbedderConfig(size, width)).to(memory_format=torch.channels_last)
    if init:
        net.features.load_state_dict(load_classifier(init / "model").features.state_dict())
    centres = nn.Parameter(0.01 * torch.randn(pairs.count, net.config.dimensions))
    optimizer = torch.optim.AdamW(
        [{"params": net.parameters()}, {"params": [centres], "weight_decay": 0.0}],
        learning_rate,
        weight_decay=0.05,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps)
    ema = averaged(net, 0.995)
    start, state = 0, out.with_name(out.name + ".state")
    if state.exists():
        saved = torch.load(state, weights_only=True)
        start = saved["step"]
        centres.data.copy_(saved["centres"])
        for part, name in ((net, "net"), (ema, "ema"), (optimizer, "opt"), (schedule, "sched")):
            part.load_state_dict(saved[name])
    began = time.perf_counter()
    for step in tqdm(range(start, steps), initial=start, total=steps, disable=None):
        x, who = pairs.batch(step)
        embeddings = net(x)
        loss = cosface(embeddings, centres, who) + likeness(embeddings)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        ema.update_parameters(net)
        if (step + 1) % 100 == 0:
            speed = 2 * _PEOPLE * (step + 1 - start) / (time.perf_counter() - began)
            click.echo(f"step {step + 1} loss {float(loss.detach()):.3f} images/s {speed:.0f}")
        if (step + 1) % 500 == 0:
            ema.module.eval()
            same, other = distances(ema.module, data, VALID)
            click.echo(f"step {step + 1} validation area {area(same, other):.4f}")
            torch.save(
                {"step": step + 1, "net": net.state_dict(), "ema": ema.state_dict(),
                 "opt": optimizer.state_dict(), "sched": schedule.state_dict(),
                 "centres": centres.data},
                state,
            )  # fmt: skip
    made = ema.module.eval()
    threshold = best_threshold(*distances(made, data, VALID))
    made.config = replace(made.config, same_person=round(threshold, 3))
    same, other = distances(made, data, TEST)
    notes = {
        "steps": steps,
        "people": len(pairs.several),
        "verification_accuracy": round(
            float(((same < threshold).mean() + (other >= threshold).mean()) / 2), 4
        ),
        "verification_area": round(area(same, other), 4),
        "pairs": 2 * len(same),
    }
    save_embedder(made, out, notes)
    state.unlink(missing_ok=True)
    click.echo(json.dumps(notes))


if __name__ == "__main__":
    main()
