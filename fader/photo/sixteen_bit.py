"""PNG and TIFF with 16 bits per channel in colour, which Pillow reads and writes with 8 only."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin

from fader.photo.png import SIGNATURE, chunk


def read_deep_png(data: bytes) -> np.ndarray | None:
    """A PNG's pixels as stored, not turned: (H, W, 1..4) uint16 in the order R, G, B, A.

    None when OpenCV does not find 16 bits in it.
    """
    import cv2

    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16:
        return None
    values = values if values.ndim == 3 else values[:, :, None]
    colours = values.shape[2]
    return values[:, :, [2, 1, 0, *range(3, colours)]] if colours >= 3 else values


def used_bits(values: np.ndarray) -> int:
    """How many of 16 bits are in use, of those that cameras have: 8, 10, 12, 14, or all 16.

    Values of 12 bits in 16 are a sixteenth as bright as they ought to look.
    """
    bits = int(values.max(initial=0)).bit_length()
    return next((usual for usual in (8, 10, 12, 14) if 0 < bits <= usual), 16)


def deep_png(values: np.ndarray) -> bytes:
    """(H, W, 1..4) uint16 as a PNG of pixels alone."""
    height, width, channels = values.shape
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    # Filter 2 of the PNG specification, "up": each row as its difference from the one above.
    rows = values.astype(">u2").view(np.uint8).reshape(height, -1)
    filtered = np.empty((height, 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = 2
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    pixels = chunk(b"IDAT", zlib.compress(filtered.data, 6))
    return SIGNATURE + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def deep_tiff(values: np.ndarray, associated: bool, options: Mapping[str, Any]) -> bytes:
    """(H, W, 1..4) uint16 as an uncompressed TIFF; ``options`` are those Pillow's writer takes.

    ``associated`` says that colours are multiplied by the alpha in the last channel.
    """
    height, width, channels = values.shape
    # Pillow knows 16 bits for grey alone. The bytes of a colour image are those of a grey one
    # that is so many times as wide: written as that, and its directory set right afterwards.
    exif = options.get("exif") or Image.Exif()
    exif[TiffImagePlugin.SAMPLESPERPIXEL] = channels
    if channels in (2, 4):
        exif[TiffImagePlugin.EXTRASAMPLES] = 1 if associated else 2
    grey = Image.fromarray(np.ascontiguousarray(values).reshape(height, width * channels))
    buffer = io.BytesIO()
    grey.save(buffer, "TIFF", **{**options, "exif": exif, "compression": None})
    data = bytearray(buffer.getvalue())
    data += b"\0" * (len(data) % 2)
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    corrected = {
        TiffImagePlugin.IMAGEWIDTH: (4, 1, width),
        TiffImagePlugin.PHOTOMETRIC_INTERPRETATION: (3, 1, 1 if channels < 3 else 2),
        TiffImagePlugin.BITSPERSAMPLE: (3, channels, len(data) if channels > 2 else 16 * 0x10001),
    }
    if channels > 2:
        data += struct.pack(f"<{channels}H", *[16] * channels)
    elif channels == 1:
        corrected[TiffImagePlugin.BITSPERSAMPLE] = (3, 1, 16)
    for at in range(start + 2, start + 2 + 12 * count, 12):
        (tag,) = struct.unpack_from("<H", data, at)
        if tag in corrected:
            struct.pack_into("<HII", data, at + 2, *corrected[tag])
    return bytes(data)
