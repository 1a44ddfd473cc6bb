"""The real pictures that generators are compared with, and the samples beside them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from tqdm import tqdm

from cgan.data import ImageSet
from cgan.evaluate.features import FeatureSpace
from cgan.evaluate.metrics import Memory, memory, pixels
from cgan.networks import ConditionalVae, Generator
from fader.data.batches import to_images, to_tensor

#: Held-out pictures that make a second column; with fewer the training ones are halved.
ENOUGH = 100
#: Pictures looked at together.
CHUNK = 256
#: What real pictures are compared with, by whether there are held-out ones.
REAL = {True: "held-out pictures", False: "the other half of the training pictures"}


@dataclass(frozen=True, eq=False)
class Reals:
    """The real pictures, seen once; any number of generators can be compared with them.

    All are rows of ``images``, of which :meth:`features` knows the features in ``space``.
    ``reference``: what samples are compared with. ``others``: as different from it as real pictures
    are, the scale to read a generator's scores by; ``held_out`` says whether they are outside the
    training ones, or the other half of these. ``training``: what the generator learnt from.
    """

    images: ImageSet
    space: FeatureSpace
    reference: np.ndarray
    others: np.ndarray
    held_out: bool
    training: np.ndarray
    looked_at: np.ndarray
    found: np.ndarray

    @classmethod
    def seen(
        cls,
        images: ImageSet,
        space: FeatureSpace,
        *,
        limit: int = 2000,
        seed: int = 0,
        progress: bool = True,
    ) -> Reals:
        """Look at the training and the held-out pictures of a set.

        ``limit``: so many of each are compared with at most; among the training ones a sample's
        nearest is looked for in all.
        """
        random = np.random.default_rng([seed, 31])
        training = images.indices(0)
        others = random.permutation(np.flatnonzero(images.split != 0))
        held_out = len(others) >= min(ENOUGH, len(training) // 2)
        shuffled = random.permutation(training)
        if not held_out:
            middle = len(shuffled) // 2
            shuffled, others = shuffled[:middle], shuffled[middle:]
        others = others[:limit]
        rows = np.union1d(training, others)
        chunks = tqdm(_chunks(rows), "real pictures", disable=None if progress else True)
        found = np.concatenate([space.see(images.images[chunk]) for chunk in chunks])
        return cls(images, space, shuffled[:limit], others, held_out, training, rows, found)

    def features(self, rows: np.ndarray) -> np.ndarray:
        """The features (n, d) of some training and held-out rows, in their order."""
        return self.found[np.searchsorted(self.looked_at, rows)]

    def trained_on(self, rows: np.ndarray) -> Reals:
        """The same for a generator that learnt from these of the training rows alone."""
        return replace(self, training=self.training[np.isin(self.training, rows)])

    def pictures(self, rows: np.ndarray) -> np.ndarray:
        """The pictures of any rows, in their order."""
        # What is memory-mapped is read in rising order.
        order = np.argsort(rows)
        return self.images.images[rows[order]][np.argsort(order)]


def draw(
    generator: Generator,
    n: int,
    seed: int,
    labels: np.ndarray,
    truncation: float,
    progress: bool = False,
) -> np.ndarray:
    """Samples as pictures, n×S×S×C uint8; labels (n, k)."""
    latents = generator.latents(n, seed, truncation)
    y = torch.from_numpy(np.ascontiguousarray(labels, np.float32))
    parts = []
    for i in tqdm(range(0, n, CHUNK), "samples", disable=None if progress else True):
        parts.append(to_images(generator.render(latents[i : i + CHUNK], y[i : i + CHUNK])))
    return np.concatenate(parts)


def redraw(vae: ConditionalVae, reals: Reals, rows: np.ndarray) -> np.ndarray:
    """The pictures of M rows as the model decodes what it encoded, M×S×S×C uint8."""
    parts = []
    for some in _chunks(rows):
        x, y = to_tensor(reals.pictures(some)), torch.from_numpy(reals.images.labels[some])
        parts.append(to_images(vae.render(vae.codes(x, y), y)))
    return np.concatenate(parts)


def features_of(space: FeatureSpace, pictures: np.ndarray) -> np.ndarray:
    """Pictures N×S×S×C uint8 → features (N, d)."""
    chunks = (pictures[i : i + CHUNK] for i in range(0, len(pictures), CHUNK))
    return np.concatenate([space.see(chunk) for chunk in chunks])


def memories(
    reals: Reals, samples: np.ndarray, features: np.ndarray, seed: int
) -> tuple[Memory, Memory]:
    """What samples share with training pictures: in features, and in pixels, also turned over."""
    others = reals.others if reals.held_out else None
    known = None if others is None else reals.features(others)
    in_features = memory(features, reals.features(reals.training), known, seed=seed)
    training = [pixels(reals.images.images[rows]) for rows in _chunks(reals.training)]
    turned = None
    if others is not None:
        pictures = reals.pictures(others)
        known, turned = pixels(pictures), pixels(pictures[:, :, ::-1])
    in_pixels = memory(
        pixels(samples),
        np.concatenate(training),
        known,
        mirrored=pixels(samples[:, :, ::-1]),
        mirrored_held_out=turned,
        seed=seed,
    )
    return in_features, in_pixels


def _chunks(rows: np.ndarray) -> list[np.ndarray]:
    return np.array_split(rows, -(-len(rows) // CHUNK))
