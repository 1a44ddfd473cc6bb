"""What an evaluation is of: a model that edits faces, and a judge that looks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fader.data.batches import to_tensor
from fader.data.store import PreparedStore
from fader.evaluate.judge import Judge
from fader.evaluate.statistics import Estimate, estimate_some
from fader.models.model import FaderModel
from fader.progress import Progress


@dataclass(frozen=True)
class Faces:
    """Faces (N, S, S, 3) uint8, labels (N, n) of the model's attributes in 0..1, and whose face
    each is (N,)."""

    images: np.ndarray
    labels: np.ndarray
    people: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: np.ndarray) -> Faces:
        """Some of them."""
        return Faces(self.images[rows], self.labels[rows], self.people[rows])

    def batches(self, title: str = "", shown: bool = False) -> Iterator[slice]:
        """Slices of 32 faces at most that cover all, with a progress of that ``title``."""
        with Progress(len(self), unit=f"{title}: face", shown=shown) as bar:
            for start in range(0, len(self), 32):
                batch = slice(start, min(start + 32, len(self)))
                yield batch
                bar.update(batch.stop - start)

    def encoded(self, model: FaderModel, batch: slice = slice(None)) -> tuple[list[Tensor], Tensor]:
        """What ``model`` makes of some, the images themselves first, and their values, both on its
        device."""
        y = torch.from_numpy(self.labels[batch]).to(device_of(model))
        return model.encode(to_tensor(self.images[batch]).to(y.device)), y


@dataclass(frozen=True)
class Case:
    """``faces`` are those of the rows ``rows`` of a ``store``, of its part ``split``; ``labels`` of
    the model's attributes are those of all its rows. ``shown``: with progress."""

    model: FaderModel
    judge: Judge
    store: PreparedStore
    split: str
    rows: np.ndarray
    labels: np.ndarray
    faces: Faces
    seed: int
    shown: bool

    @property
    def judged(self) -> list[str]:
        """The model's attributes that the judge knows."""
        return [name for name in self.model.attributes if name in self.judge.attributes]

    def column(self, name: str) -> int:
        """An attribute's column in the model's labels."""
        return self.model.attributes.index(name)

    def seen(self, name: str) -> int:
        """Its column in the judge's logits."""
        return self.judge.attributes.index(name)

    def estimate(self, values: Any, people: np.ndarray, sides: Any = None) -> Estimate:
        """:func:`estimate_some` with this evaluation's seed."""
        return estimate_some(values, people, sides, self.seed)


def device_of(model: FaderModel) -> torch.device:
    """Where the model's weights are."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def draw(rows: np.ndarray | int, count: int | None, *seed: int) -> np.ndarray:
    """At most ``count`` of these rows (or of the first so many), at random and in order."""
    return np.sort(np.random.default_rng(seed).permutation(rows)[:count])
