"""Make the face embedder by which ``fader evaluate`` measures identity.

    python tools/train_embedder.py STORE --init CLASSIFIER_RUN --out fader/evaluate/weights/identity

STORE is a prepared store that says who is who (CelebA's identity_CelebA). The convolutions are
those of a ``resnet`` classifier of ``fader train-classifier``; what follows them is a linear
discriminant analysis (Fisher 1936): the directions in which photos of different people of the
training part differ most for how much those of one person do. It takes a minute.

The embedder is measured on the people of the test part, who are other people: the share of pairs
told apart rightly (as many of one person as of two), at the distance that was best on the people
of the validation part.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch

from fader.data.annotations import TEST, TRAIN, VALID
from fader.data.batches import to_tensor
from fader.data.store import PreparedStore
from fader.evaluate.identity import EmbedderConfig, FaceEmbedder, save_embedder
from fader.models.pretrained import load_classifier

# How far the scatter within people is taken towards a sphere (Ledoit & Wolf 2004).
_SHRINKAGE = 0.02


@torch.no_grad()
def features_of(net: FaceEmbedder, store: PreparedStore, rows: np.ndarray) -> np.ndarray:
    """What the convolutions see in these rows of the store, flat, N×D float32."""
    parts = np.array_split(rows, max(1, len(rows) // 64))
    return np.concatenate([net.seen(to_tensor(store.images[some])).numpy() for some in parts])


def discriminant(features: np.ndarray, people: np.ndarray, dimensions: int) -> tuple:
    """The directions (``dimensions``×D) that tell people apart, and the mean (D,) to look from."""
    _, who, counts = np.unique(people, return_inverse=True, return_counts=True)
    x = features.astype(np.float64)
    centre = x.mean(axis=0)
    means = np.zeros((len(counts), x.shape[1]))
    np.add.at(means, who, x)
    means /= counts[:, None]
    apart = x - means[who]
    within = apart.T @ apart / max(1, len(x) - len(counts))
    sphere = np.trace(within) / len(within) * np.eye(len(within))
    values, vectors = np.linalg.eigh((1 - _SHRINKAGE) * within + _SHRINKAGE * sphere)
    whiten = vectors / np.sqrt(values)
    several = counts > 1
    spread = (means[several] - centre) @ whiten
    share, axes = np.linalg.eigh(spread.T @ spread / several.sum())
    # What people's means differ by, less what those of so few photos would differ by anyway. Within
    # people, all directions differ by 1: so much of a difference is theirs, and counts.
    own = np.maximum(share[::-1] - (1 / counts[several]).mean(), 0)[:dimensions]
    weights = np.sqrt(own / (1 + own))
    return weights[:, None] * (whiten @ axes[:, ::-1][:, :dimensions]).T, centre


def distances(embeddings: np.ndarray, people: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances of all pairs of photos of one person, and of as many pairs of two people."""
    order = np.argsort(people, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(people[order])) + 1)
    same = np.array([pair for group in groups for pair in itertools.combinations(group, 2)])
    random = np.random.default_rng(0)
    other = random.integers(len(people), size=(4 * len(same), 2))
    other = other[people[other[:, 0]] != people[other[:, 1]]][: len(same)]
    return tuple(
        np.linalg.norm(embeddings[pair[:, 0]] - embeddings[pair[:, 1]], axis=1)
        for pair in (same, other)
    )


def best_threshold(same: np.ndarray, other: np.ndarray) -> float:
    """The distance that tells most pairs of one person from pairs of two."""
    candidates = np.linspace(0, 2, 401)
    right = [(same < t).mean() + (other >= t).mean() for t in candidates]
    return float(candidates[int(np.argmax(right))])


def area(same: np.ndarray, other: np.ndarray) -> float:
    """How often a pair of one person is nearer than a pair of two."""
    return 1 - float(np.searchsorted(np.sort(other), same, side="right").mean()) / len(other)


@click.command()
@click.argument("store", type=click.Path(exists=True, path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path))
@click.option(
    "--init",
    required=True,
    type=click.Path(exists=True, path_type=Path),
    help="The run of a resnet classifier.",
)
@click.option("--size", default=64, show_default=True)
@click.option("--dimensions", default=64, show_default=True)
def main(store: Path, out: Path, init: Path, size: int, dimensions: int) -> None:
    """Make an embedder of the classifier of --init and STORE's training people: --out."""
    data = PreparedStore(store)
    classifier = load_classifier(init / "model")
    net = FaceEmbedder(EmbedderConfig(size, classifier.config.width, dimensions)).eval()
    net.features.load_state_dict(classifier.features.state_dict())
    parts = {split: data.indices(split) for split in (TRAIN, VALID, TEST)}
    seen = {split: features_of(net, data, rows) for split, rows in parts.items()}
    matrix, centre = discriminant(seen[TRAIN], data.identity[parts[TRAIN]], dimensions)
    with torch.no_grad():
        net.project.weight.copy_(torch.from_numpy(matrix))
        net.project.bias.copy_(torch.from_numpy(-matrix @ centre))
        pairs = {
            split: distances(
                net.placed(torch.from_numpy(seen[split])).numpy(), data.identity[parts[split]]
            )
            for split in (VALID, TEST)
        }
    threshold = round(best_threshold(*pairs[VALID]), 3)
    net.config = replace(net.config, same_person=threshold)
    same, other = pairs[TEST]
    right = ((same < threshold).mean() + (other >= threshold).mean()) / 2
    notes = {
        "people": len(np.unique(data.identity[parts[TRAIN]])),
        "photos": len(parts[TRAIN]),
        "verification_accuracy": round(float(right), 4),
        "verification_area": round(area(same, other), 4),
        "pairs": 2 * len(same),
    }
    save_embedder(net, out, notes)
    click.echo(json.dumps(notes))


if __name__ == "__main__":
    main()
