"""A photo in memory: its pixels upright, and what is to be written back with them."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from fader.errors import UnreadableImageError
from fader.photo.metadata import Contents, Provenance, read_provenance

#: A path, the content of a file, a Pillow image, or an H×W×3 uint8 RGB array.
ImageLike = str | os.PathLike[str] | bytes | Image.Image | np.ndarray

# What each EXIF orientation asks for, to be upright.
_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a.swapaxes(0, 1), 2),
    8: np.rot90,
}


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo upright, and all that is to be written back with it.

    ``pixels`` is H×W×3 uint8 RGB, whatever the file holds: what faces are found and edited in.
    Beside it: is the photo ``grey``; its ``alpha`` (H, W), uint8 or uint16; its pixels at ``deep``
    16 bits (H, W, 3) uint16, of which the lower ``bits`` are used; ``contents``, its metadata, fit
    for an edited photo; and ``encoding``, options of Pillow's writer that repeat how the file was
    compressed. ``kind`` is Pillow's name of its format, ``mode`` the file's permissions, both None
    for a photo that was no file. ``notes`` are phrases on what of the file is not kept.
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
    def provenance(self) -> Provenance | None:
        """What the file says about being edited by a trained model."""
        return read_provenance(self.xmp)

    @property
    def alpha8(self) -> np.ndarray | None:
        """The alpha as (H, W) uint8."""
        if self.alpha is None or self.alpha.dtype == np.uint8:
            return self.alpha
        return eight_bit(self.alpha, _used_bits(self.alpha) if self.bits < 16 else 16)

    def edited(self, pixels: np.ndarray) -> Photo:
        """The same photo with other ``pixels`` (H×W×3 uint8).

        A photo of 16 bits changes by as much as ``pixels`` did, so that where they are the same it
        keeps every bit; a grey photo stays grey.
        """
        if self.grey:
            pixels = _stacked(np.asarray(Image.fromarray(pixels).convert("L")))
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
        return Photo(pixels, self.name, contents=Contents(icc=self.contents.icc), mode=self.mode)

    def turned(self, orientation: int) -> Photo:
        """The photo turned upright from an EXIF ``orientation``."""
        turn = _TURNS.get(orientation, np.asarray)
        upright: dict[str, Any] = {}
        for name in ("pixels", "alpha", "deep"):
            if (values := getattr(self, name)) is not None:
                upright[name] = np.ascontiguousarray(turn(values))
        return replace(self, **upright)

    def image(self) -> Image.Image:
        """The photo for Pillow: RGB, or RGBA with its alpha, with its ICC profile and ``dpi``."""
        image = Image.fromarray(self.pixels)
        if (alpha8 := self.alpha8) is not None:
            image.putalpha(Image.fromarray(alpha8))
        if self.contents.icc and not self.grey:
            image.info["icc_profile"] = self.contents.icc
        if self.contents.dpi:
            image.info["dpi"] = self.contents.dpi
        return image

    def opaque(self) -> Image.Image:
        """The photo in RGB or grey, on white where it is transparent, as most viewers show it."""
        image = Image.fromarray(self.pixels[:, :, 0] if self.grey else self.pixels)
        if (alpha8 := self.alpha8) is None:
            return image
        white = Image.new(image.mode, image.size, "white")
        white.paste(image, mask=Image.fromarray(alpha8))
        return white


def photo_of(image: Image.Image, kind: str | None, contents: Contents) -> Photo:
    """What a loaded image shows, turned as it is in the file."""
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise UnreadableImageError("holds values that do not fit 16 bits; convert it to 8")
        return photo_of_values(values.astype(np.uint16)[:, :, None], None)
    if image.mode == "F":
        raise UnreadableImageError(
            "holds floating-point values; convert it to 8 or 16 bits per channel"
        )
    if image.mode in ("LAB", "HSV"):
        raise UnreadableImageError(
            f"holds {image.mode} colours, which are not read; convert to RGB"
        )
    grey = image.mode in ("1", "L", "LA", "La")
    alpha = None
    if image.mode == "CMYK":
        image = _from_cmyk(image, kind, contents.icc)
        contents.icc = None
        contents.notes.append("written as RGB, not CMYK")
    elif image.has_transparency_data:
        image = image.convert("LA" if grey else "RGBA")
        alpha = np.asarray(image.getchannel("A"))
    # Dropping the alpha channel by hand keeps the colours of transparent pixels.
    mode = "L" if grey else "RGB"
    values = np.asarray(image if image.mode == mode else image.convert(mode))
    return Photo(_stacked(values) if grey else values, grey=grey, alpha=alpha)


def photo_of_values(values: np.ndarray, alpha: np.ndarray | None) -> Photo:
    """What (H, W, 1 or 3) values of 8 or 16 bits, with an alpha (H, W) like them, show."""
    grey = values.shape[2] == 1
    values = _stacked(values[:, :, 0]) if grey else values
    if values.dtype == np.uint8:
        return Photo(values, grey=grey, alpha=alpha)
    bits = _used_bits(values)
    return Photo(eight_bit(values, bits), grey=grey, alpha=alpha, deep=values, bits=bits)


def eight_bit(values: np.ndarray, bits: int = 16) -> np.ndarray:
    """uint16 values of so many bits as uint8; uint8 ones as they are."""
    return (values >> (bits - 8)).astype(np.uint8) if values.dtype == np.uint16 else values


def _used_bits(values: np.ndarray) -> int:
    """How many of 16 bits are in use, of those that cameras have: 8, 10, 12, 14, or all 16.

    Values of 12 bits in 16 are a sixteenth as bright as they ought to look.
    """
    bits = int(values.max(initial=0)).bit_length()
    return next((usual for usual in (8, 10, 12, 14) if 0 < bits <= usual), 16)


def _stacked(grey: np.ndarray) -> np.ndarray:
    """(H, W) → (H, W, 3)."""
    return np.repeat(grey[:, :, None], 3, axis=2)


def _from_cmyk(image: Image.Image, kind: str | None, icc: bytes | None) -> Image.Image:
    if kind == "JPEG" and "adobe" not in image.info:
        # Adobe stores its inks inverted and Pillow takes all CMYK JPEGs to be Adobe's.
        image = Image.fromarray(255 - np.asarray(image), "CMYK")
    if icc and icc[16:20] == b"CMYK":
        # Of a broken profile, the plain conversion shows the photo all the same.
        with suppress(ImageCms.PyCMSError, OSError):
            source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            target = ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
            assert converted is not None  # it is only where the image itself is changed
            return converted
    return image.convert("RGB")
