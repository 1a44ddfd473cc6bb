"""A photo in memory: its pixels upright, and what is to be written back with them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from PIL import Image

from fader.photo.metadata import Provenance, read_provenance

ImageLike = str | os.PathLike[str] | Image.Image | np.ndarray


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo upright, and all that is to be written back with it.

    ``pixels`` is H×W×3 uint8 RGB, whatever the file holds: what faces are found and edited in.
    Beside it: is the photo ``grey``; its ``alpha`` (H, W), uint8 or uint16; its pixels at ``deep``
    16 bits (H, W, 3) uint16; metadata as the file had it (orientation set to upright); ``dpi``;
    PNG's ``texts``; and ``encoding``, options of Pillow's writer that repeat how the file was
    compressed. ``kind`` is Pillow's name of its format, None for a photo that was no file.
    ``notes`` are short phrases on what of the file is not kept.
    """

    pixels: np.ndarray
    name: str = "the image"
    kind: str | None = None
    grey: bool = False
    alpha: np.ndarray | None = None
    deep: np.ndarray | None = None
    exif: bytes = b""
    icc: bytes | None = None
    xmp: bytes = b""
    dpi: tuple[float, float] | None = None
    texts: dict[str, str] = field(default_factory=dict)
    encoding: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def provenance(self) -> Provenance | None:
        """What the file says about being edited by a trained model."""
        return read_provenance(self.xmp)

    def edited(self, pixels: np.ndarray) -> Photo:
        """The same photo with other ``pixels`` (H×W×3 uint8).

        A photo of 16 bits changes by as much as ``pixels`` did, so that where they are the same it
        keeps every bit; a grey photo stays grey.
        """
        if self.grey:
            pixels = stacked(np.asarray(Image.fromarray(pixels).convert("L")))
        deep = self.deep
        if deep is not None:
            deep = deep.copy()
            changed = (pixels != self.pixels).any(axis=2)
            change = pixels[changed].astype(np.int32) - self.pixels[changed]
            deep[changed] = np.clip(deep[changed] + 257 * change, 0, 65535)
        return replace(self, pixels=pixels, deep=deep)

    def image(self) -> Image.Image:
        """The photo for Pillow: RGB, or RGBA with its alpha, with its ICC profile and ``dpi``."""
        image = Image.fromarray(self.pixels)
        if self.alpha is not None:
            image.putalpha(Image.fromarray(eight_bit(self.alpha)))
        if self.icc and not self.grey:
            image.info["icc_profile"] = self.icc
        if self.dpi:
            image.info["dpi"] = self.dpi
        return image


def stacked(grey: np.ndarray) -> np.ndarray:
    """(H, W) → (H, W, 3)."""
    return np.repeat(grey[:, :, None], 3, axis=2)


def eight_bit(values: np.ndarray) -> np.ndarray:
    return (values >> 8).astype(np.uint8) if values.dtype == np.uint16 else values
