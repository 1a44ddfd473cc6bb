"""What the values in a file look like: as RGB of 8 bits, and with all the bits they have."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms

from fader.errors import UnreadableImageError
from fader.photo.metadata import Contents
from fader.photo.photo import eight_bit, stacked
from fader.photo.sixteen_bit import used_bits

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


@dataclass
class Raster:
    """Pixels as they look, turned as they are in the file; the fields are those of a Photo."""

    pixels: np.ndarray
    grey: bool = False
    alpha: np.ndarray | None = None
    deep: np.ndarray | None = None
    bits: int = 16


def raster_of(image: Image.Image, kind: str | None, contents: Contents) -> Raster:
    """What a loaded image shows."""
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise UnreadableImageError("holds values that do not fit 16 bits; convert it to 8")
        return of_values(values.astype(np.uint16)[:, :, None], None)
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
    return Raster(stacked(values) if grey else values, grey, alpha)


def of_values(values: np.ndarray, alpha: np.ndarray | None) -> Raster:
    """What (H, W, 1 or 3) values of 8 or 16 bits, with an alpha (H, W) like them, show."""
    grey = values.shape[2] == 1
    values = stacked(values[:, :, 0]) if grey else values
    if values.dtype == np.uint8:
        return Raster(values, grey, alpha)
    bits = used_bits(values)
    return Raster(eight_bit(values, bits), grey, alpha, values, bits)


def turned(values: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W) or (H, W, C) values turned upright from an EXIF ``orientation``."""
    turn = _TURNS.get(orientation)
    return np.ascontiguousarray(turn(values) if turn else values)


def _from_cmyk(image: Image.Image, kind: str | None, icc: bytes | None) -> Image.Image:
    if kind == "JPEG" and "adobe" not in image.info:
        # Adobe stores its inks inverted and Pillow takes all CMYK JPEGs to be Adobe's.
        image = Image.fromarray(255 - np.asarray(image), "CMYK")
    if icc and icc[16:20] == b"CMYK":
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            target = ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
            assert converted is not None  # it is only where the image itself is changed
            return converted
        except (ImageCms.PyCMSError, OSError):
            pass  # A broken profile: the plain conversion shows the photo all the same.
    return image.convert("RGB")
