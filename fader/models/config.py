"""What an autoencoder is made of, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fader.errors import FaderError


@dataclass(frozen=True)
class AutoencoderConfig:
    """What an autoencoder is made of. The defaults are the paper's (arXiv 1706.00409, §4).

    kind: ``paper`` is the literal network (:mod:`fader.models.autoencoder`); ``difference`` is told
        the attributes' difference (:mod:`fader.models.difference`).
    size: side of the square images, in pixels; a multiple of 2**layers.
    layers: levels of half the side each; the latent is size / 2**layers on a side.
    attributes: names of the binary attributes the decoder is given.
    width, max_width: channels of level i are min(width · 2**i, max_width).

    Of the kind ``paper`` alone:

    conditioning: ``planes`` gives every decoder layer the one-hot code as constant planes (the
        paper); ``modulation`` scales and shifts normalised layers by a linear map of it (Dumoulin
        et al. 2017, arXiv 1610.07629), which costs no wider convolutions.
    blur_upsampling: low-pass every transposed convolution by a filter that is zero at the Nyquist
        frequency, so that their period-2 checkerboard cannot survive.
    skip: number of encoder layers, from the latent on, joined to their decoder twins.
    instance_norm: normalise by instance instead of by batch.
    """

    kind: Literal["paper", "difference"] = "paper"
    size: int = 256
    layers: int = 6
    attributes: tuple[str, ...] = ()
    width: int = 32
    max_width: int = 512
    conditioning: Literal["planes", "modulation"] = "planes"
    blur_upsampling: bool = False
    skip: int = 0
    instance_norm: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "attributes", tuple(self.attributes))
        words = {"kind": ("paper", "difference"), "conditioning": ("planes", "modulation")}
        for name, (one, other) in words.items():
            if getattr(self, name) not in (one, other):
                given = getattr(self, name)
                raise FaderError(f"{name}={given!r}: must be {one!r} or {other!r}")
        if self.layers < 2 or self.size < 2**self.layers or self.size % 2**self.layers:
            raise FaderError(
                f"size={self.size} with layers={self.layers}: the size must be a multiple of "
                f"2**layers, and layers at least 2"
            )
        if not 0 <= self.skip < self.layers:
            raise FaderError(f"skip={self.skip}: must be from 0 to layers - 1 = {self.layers - 1}")

    @property
    def channels(self) -> tuple[int, ...]:
        """Output channels of the encoder's layers, outermost first."""
        return tuple(min(self.width * 2**i, self.max_width) for i in range(self.layers))

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the latent code."""
        side = self.size // 2**self.layers
        return self.channels[-1], side, side
