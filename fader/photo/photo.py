"""A photo in memory: its pixels upright, and what is to be written back with them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from PIL import Image

from fader.photo.metadata import Contents, Provenance, read_provenance
from fader.photo.sixteen_bit import used_bits

#: A path, the content of a file, a Pillow image, or an H×W×3 uint8 RGB array.
ImageLike = str | os.PathLike[str] | bytes | Image.Image | np.ndarray


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo upright, and all that is to be written back with it.

    ``pixels`` is H×W×3 uint8 RGB, whatever the file holds: what faces are found and edited in.
    Beside it: is the photo ``grey``; its ``alpha`` (H, W), uint8 or uint16; its pixels at ``deep``
    16 bits (H, W, 3) uint16, of which the lower ``bits`` are used; ``contents``, its metadata made
    fit for an edited photo that is upright; and ``encoding``, options of Pillow's writer that
    repeat how the file was compressed. ``kind`` is Pillow's name of its format, ``mode`` the file's
    permissions, both None for a photo that was no file. ``notes`` are short phrases on what of the
    file is not kept.
    """

    pixels: np.ndarray
    name: str = "the image"
    kind: str | None = None
    grey: bool = False
    alpha: np.ndarray | None = None
    deep: np.ndarray | None = None
    bits: int = 16
    contents: Contents = field(default_factory=Contents)
    encoding: dict[str, Any] = field(default_factory=dict)
    mode: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def xmp(self) -> bytes:
        """The XMP packet, ``b""`` for none."""
        return self.contents.xmp

    @property
    def icc(self) -> bytes | None:
        """The colour profile."""
        return self.contents.icc

    @property
    def provenance(self) -> Provenance | None:
        """What the file says about being edited by a trained model."""
        return read_provenance(self.xmp)

    @property
    def alpha8(self) -> np.ndarray | None:
        """The alpha as (H, W) uint8."""
        if self.alpha is None or self.alpha.dtype == np.uint8:
            return self.alpha
        return eight_bit(self.alpha, used_bits(self.alpha) if self.bits < 16 else 16)

    def edited(self, pixels: np.ndarray) -> Photo:
        """The same photo with other ``pixels`` (H×W×3 uint8).

        A photo of 16 bits changes by as much as ``pixels`` did, so that where they are the same it
        keeps every bit; a grey photo stays grey.
        """
        if self.grey:
            pixels = stacked(np.asarray(Image.fromarray(pixels).convert("L")))
        deep = self.deep
        if deep is not None:
            most = (1 << self.bits) - 1
            deep = deep.copy()
            changed = (pixels != self.pixels).any(axis=2)
            change = pixels[changed].astype(np.int32) - self.pixels[changed]
            # 257 steps for one of 8 bits, where all of 16 are used.
            step = np.rint(change * (most / 255)).astype(np.int32)
            deep[changed] = np.clip(deep[changed] + step, 0, most)
        return replace(self, pixels=pixels, deep=deep)

    def made_into(self, pixels: np.ndarray) -> Photo:
        """A picture made from this photo (H×W×3 uint8), with its name, colours and permissions."""
        return Photo(pixels, self.name, contents=Contents(icc=self.icc), mode=self.mode)

    def image(self) -> Image.Image:
        """The photo for Pillow: RGB, or RGBA with its alpha, with its ICC profile and ``dpi``."""
        image = Image.fromarray(self.pixels)
        alpha8 = self.alpha8
        if alpha8 is not None:
            image.putalpha(Image.fromarray(alpha8))
        if self.icc and not self.grey:
            image.info["icc_profile"] = self.icc
        if self.contents.dpi:
            image.info["dpi"] = self.contents.dpi
        return image


def stacked(grey: np.ndarray) -> np.ndarray:
    """(H, W) → (H, W, 3)."""
    return np.repeat(grey[:, :, None], 3, axis=2)


def eight_bit(values: np.ndarray, bits: int = 16) -> np.ndarray:
    """uint16 values of so many bits as uint8; uint8 ones as they are."""
    return (values >> (bits - 8)).astype(np.uint8) if values.dtype == np.uint16 else values
