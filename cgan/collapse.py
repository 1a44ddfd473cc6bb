"""Signs that a training goes wrong: all faces become one (collapse), or one player wins."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

#: The discriminator has won where its loss stays below this; it begins near 1.4 (2 for hinge).
WON = 0.05
#: Snapshots less various than this share of the data, or of what they were, are collapsing.
COLLAPSED, FALLEN = 0.35, 0.6


def diversity(images: Tensor) -> float:
    """Mean distance between two of the images N×C×S×S, N ≥ 2: root mean square, seen from afar.

    At 16×16 pixels: noise, which always differs, is no diversity. In units of the range [-1, 1].
    """
    small = F.adaptive_avg_pool2d(images.float(), 16).flatten(1)
    n, values = small.shape
    # Σ over pairs of squared distances is n times the sum of squares about the mean.
    total = (small - small.mean(dim=0)).square().sum() * n
    return float((total / (n * (n - 1) / 2) / values).sqrt())


class Signs:
    """Watches losses and snapshots; each sign is told when it appears, and anew after it was gone.

    ``real`` is the :func:`diversity` of training images; ``mend`` may help against collapse.
    """

    def __init__(self, real: float, mend: str = "") -> None:
        self.real, self.mend = real, mend
        self.loss = 1.0  # the discriminator's, smoothed
        self.most = 0.0  # diversity of the snapshots so far
        self.seen: list[float] = []
        self.shown: list[str] = []

    def losses(self, discriminator: float) -> None:
        """Take note of a mean loss of the discriminator (see :mod:`cgan.losses`)."""
        self.loss = 0.9 * self.loss + 0.1 * discriminator

    def snapshot(self, spread: float) -> list[str]:
        """Take note of a snapshot's diversity; returns the signs that are new, as sentences."""
        self.seen = [*self.seen, spread][-3:]
        recent, several = sum(self.seen) / len(self.seen), len(self.seen) == 3
        signs = {}
        # The first snapshots of any run are all alike.
        begun = several and self.most > COLLAPSED * self.real
        if begun and recent < max(COLLAPSED * self.real, FALLEN * self.most):
            signs["collapse"] = (
                f"the faces of the snapshot become alike (diversity {recent:.3f}, was "
                f"{self.most:.3f}, the data has {self.real:.3f}): the generator may be "
                f"collapsing; {self.mend}"
            )
        if self.loss < WON:
            signs["won"] = (
                f"the discriminator's loss is near 0 ({self.loss:.3f}): it tells every generated "
                "image, and the generator learns nothing more from it; a lower "
                "critic_learning_rate, r1_weight=10 or diffaugment may help"
            )
        self.most = max(self.most, recent if several else 0.0)
        new = [sentence for name, sentence in signs.items() if name not in self.shown]
        self.shown = list(signs)
        return new

    def state_dict(self) -> dict[str, Any]:
        """What it has noted so far, for a backup."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        vars(self).update(state)
