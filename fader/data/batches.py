"""Training batches from a prepared store, each a pure function of (seed, step): a resumed run sees
what the killed one would have, and several processes take parts of a batch without a word."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fader.data.store import HasImages


def to_tensor(images: np.ndarray) -> Tensor:
    """Uint8 N×H×W×C → float32 N×C×H×W in [-1, 1], channels_last in memory."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_images(x: Tensor) -> np.ndarray:
    """Float N×C×H×W in [-1, 1] → uint8 N×H×W×C, rounded."""
    scaled = ((x.detach().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).cpu().numpy()


@dataclass(frozen=True)
class Augmentation:
    """Random changes that leave the labels true.

    flip: mirror half of the images. rotation (degrees), zoom (fraction) and shift (fraction of
    the side) are standard deviations of a small similarity, as errors of landmarks make. colour is
    that of contrast, of brightness (in half the range of values) and of twice each channel's gain.
    """

    flip: bool = True
    rotation: float = 0.0
    zoom: float = 0.0
    shift: float = 0.0
    colour: float = 0.0

    def __call__(
        self, x: Tensor, random: np.random.Generator, n: int = 0, rows: slice = slice(None)
    ) -> Tensor:
        """Images N×C×S×S in [-1, 1] → the same, changed; the border is replicated. They may be only
        some ``rows`` of a batch of ``n``, for which the changes are drawn."""
        n, channels = n or len(x), x.shape[1]
        x = self._moved(x, random, n, rows)
        if not self.colour:
            return x
        gain = random.standard_normal((n, 1)) + random.standard_normal((n, channels)) / 2
        light = self.colour * random.standard_normal((n, 1, 1, 1))
        gain, light = np.exp(self.colour * gain)[rows, :, None, None], light[rows]
        x = x * torch.from_numpy(gain).float() + torch.from_numpy(light).float()
        return x.clamp_(-1, 1)

    def _moved(self, x: Tensor, random: np.random.Generator, n: int, rows: slice) -> Tensor:
        mirror = np.where(random.random(n) < 0.5, -1.0, 1.0) if self.flip else np.ones(n)
        angle = np.deg2rad(self.rotation) * random.standard_normal(n)
        scale = np.exp(self.zoom * random.standard_normal(n))
        shift = 2 * self.shift * random.standard_normal((2, n))
        if not (self.rotation or self.zoom or self.shift):
            flipped = torch.from_numpy(mirror[rows] < 0)
            x[flipped] = x[flipped].flip(3)
            return x
        cos, sin = scale * np.cos(angle), scale * np.sin(angle)
        matrix = np.stack([cos * mirror, -sin, shift[0], sin * mirror, cos, shift[1]], axis=1)
        theta = torch.from_numpy(matrix.reshape(n, 2, 3)[rows]).float()
        grid = F.affine_grid(theta, list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


class Batches:
    """Endless batches ``(x, y)`` of the chosen rows of a store: images and their labels."""

    def __init__(
        self,
        store: HasImages,
        rows: np.ndarray,
        labels: np.ndarray,
        batch_size: int,
        augmentation: Augmentation,
        seed: int = 0,
        balance: float = 0.0,
        combined: bool = False,
    ) -> None:
        """``labels`` is N×n in 0..1, a row for each of ``rows``; n may be 0.

        ``balance`` draws faces with rare attribute values more often: a face's weight is the
        mean over attributes of 1 / frequency of its value, to this power; 0 draws all alike.
        ``combined`` takes the frequency of all its values together, which may be rarer than each.
        """
        self.store, self.rows, self.labels, self.seed = store, rows, labels, seed
        self.batch_size, self.augmentation = batch_size, augmentation
        weights = _rarity(labels, combined) ** balance
        weights /= weights.sum()
        #: Each attribute's mean value among the faces drawn, (n,) float32.
        self.prior = torch.from_numpy(weights @ labels).float()
        self._cumulative = np.cumsum(weights)
        self._cumulative[-1] = 1.0  # whatever the rounding of the sum

    def batch(self, step: int, rows: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """The batch of this step: x N×3×S×S in [-1, 1], y N×n in 0..1; of x only the ``rows`` of a
        process that shares the batch with others."""
        random, chosen = self._draw(step)
        x = to_tensor(self.store.images[self.rows[chosen[rows]]])
        x = self.augmentation(x, random, len(chosen), rows)
        return x, torch.from_numpy(self.labels[chosen])

    def labels_of(self, step: int) -> Tensor:
        """The labels N×n of this step's batch, without its images."""
        return torch.from_numpy(self.labels[self._draw(step)[1]])

    def _draw(self, step: int) -> tuple[np.random.Generator, np.ndarray]:
        random = np.random.default_rng([self.seed, step, 0])
        return random, np.searchsorted(self._cumulative, random.random(self.batch_size))

    def from_step(self, step: int, rows: slice = slice(None)) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches from ``step`` on; the next one is made while the present one is used, or the next
        few, where the images say that they come from far."""
        several = getattr(self.store.images, "ahead", 1)
        with ThreadPoolExecutor(several, thread_name_prefix="batches") as executor:
            ahead = deque(executor.submit(self.batch, step + i, rows) for i in range(several))
            for later in count(step + several):
                ready = ahead.popleft().result()
                ahead.append(executor.submit(self.batch, later, rows))
                yield ready


def _rarity(labels: np.ndarray, combined: bool) -> np.ndarray:
    """1 / frequency of each row of labels N×n in 0..1: (N,), see :class:`Batches`."""
    if not labels.shape[1]:
        return np.ones(len(labels))
    if combined:
        sides = labels > 0.5
        _, kind, counts = np.unique(sides, axis=0, return_inverse=True, return_counts=True)
        return len(labels) / counts[kind.reshape(-1)]
    share = labels.mean(axis=0).clip(1e-3, 1 - 1e-3)
    return (labels / share + (1 - labels) / (1 - share)).mean(axis=1)
