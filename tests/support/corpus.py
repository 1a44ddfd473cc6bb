"""Bad and odd files, made when they are needed."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from paths import ASTRONAUT
from PIL import ExifTags, Image


def png_bomb() -> bytes:
    """A PNG that declares 60000×60000 pixels and has hardly any."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(10_000)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + chunk(b"IEND", b"")


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def write_corpus(folder: Path) -> dict[str, str]:
    """Write the files into ``folder``; answers with a phrase on each, by name."""
    folder.mkdir(parents=True)
    data = ASTRONAUT.read_bytes()
    photo = Image.open(ASTRONAUT).convert("RGB")
    files: dict[str, tuple[str, bytes]] = {
        "text.jpg": ("text named .jpg", b"dear diary"),
        "empty.png": ("zero bytes", b""),
        "bomb.png": ("declares 60000×60000 pixels", png_bomb()),
        "random.jpg": ("noise", np.random.default_rng(0).bytes(20_000)),
        "really-a-jpeg.png": ("a JPEG named .png", data),
        "cmyk.jpg": ("CMYK with Adobe's marker", encoded(photo.convert("CMYK"), "JPEG")),
        "animated.gif": (
            "three frames",
            encoded(photo, "GIF", save_all=True, append_images=[photo.rotate(a) for a in (9, 18)]),
        ),
        "floats.tif": (
            "floating-point values, not numbers",
            encoded(Image.fromarray(np.full((99, 99), np.nan, np.float32)), "TIFF"),
        ),
        "transparent.png": (
            "alpha only, no colours",
            encoded(Image.new("LA", (150, 150), (0, 0)), "PNG"),
        ),
    }
    for tenths in range(1, 10):
        cut = data[: len(data) * tenths // 10]
        files[f"cut{tenths}.jpg"] = (f"a JPEG cut short at {10 * tenths} %", cut)
    for size in ((1, 1), (1, 20000), (20000, 1)):
        name = f"{size[0]}x{size[1]}.png"
        files[name] = (f"{size[0]}×{size[1]} pixels", encoded(Image.new("RGB", size), "PNG"))
    for value in (0, 255):
        image = Image.new("L", (150, 150), value)
        files[f"constant{value}.png"] = (f"all pixels {value}", encoded(image, "PNG"))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    broken = bytearray(encoded(photo, "JPEG", exif=exif, quality=95))
    start = broken.index(b"Exif\0\0") + 6
    broken[start + 4 : start + 24] = b"\xff" * 20
    files["broken-exif.jpg"] = ("EXIF whose offsets lead nowhere", bytes(broken))
    for name, (_, content) in files.items():
        (folder / name).write_bytes(content)
    return {name: meaning for name, (meaning, _) in files.items()}
