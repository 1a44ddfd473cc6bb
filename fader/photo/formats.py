"""Which files are taken for photos, how they are opened, and which can be written."""

from __future__ import annotations

import io
import os
import stat
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from PIL import Image, features

from fader.errors import UnreadableImageError

# Suffixes of photos and Pillow's names of their formats. These formats and no others are ever
# handed to Pillow: some of its readers start programs (Ghostscript for EPS), or are hardly used.
_KINDS = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"), "JPEG"),
    **dict.fromkeys((".png", ".apng"), "PNG"),
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    **dict.fromkeys((".heic", ".heif", ".hif", ".heics", ".heifs"), "HEIF"),
    **dict.fromkeys((".avif", ".avifs"), "AVIF"),
    **dict.fromkeys((".bmp", ".dib"), "BMP"),
    **dict.fromkeys((".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c"), "JPEG2000"),
    **dict.fromkeys((".ppm", ".pgm", ".pbm", ".pnm"), "PPM"),
    **dict.fromkeys((".tga", ".icb", ".vda", ".vst"), "TGA"),
    ".webp": "WEBP",
    ".gif": "GIF",
    ".qoi": "QOI",
}
_FORMATS = (
    *("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "DIB", "AVIF", "JPEG2000", "PPM", "TGA"),
    *("QOI", "PCX", "SGI", "PSD", "ICO"),
)

_BEGINS: dict[str, bytes | tuple[bytes, ...]] = {
    "JPEG": b"\xff\xd8\xff",
    "PNG": b"\x89PNG\r\n\x1a\n",
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "GIF": b"GIF8",
    "BMP": b"BM",
}

#: Suffixes taken for photos when a folder is searched.
IMAGE_SUFFIXES = frozenset((*_KINDS, ".jif", ".pcx", ".psd", ".sgi"))

#: Names the most megapixels a photo may have, in place of what the memory allows.
LIMIT_VARIABLE = "FADER_MAX_MEGAPIXELS"

# What editing takes at its peak, for each pixel of the photo, and the most pixels in any case.
_BYTES_PER_PIXEL = 24
_MOST_PIXELS = 2_000_000_000

# A byte of a JPEG holds no more pixels than this, even of a plain colour. Asked beyond a size.
_JPEG_PER_BYTE, _ALWAYS_ALLOWED = 1000, 20_000_000

# Pillow's own limit of pixels belongs to the whole process; it is only put aside while held.
_OPENING = threading.Lock()


def kind_of(suffix: str) -> str | None:
    """Pillow's name of the format that has this suffix, such as ``"JPEG"``; None for none."""
    return _KINDS.get(suffix.lower())


def can_write(suffix: str) -> bool:
    """Whether a photo can be written to a file with this suffix."""
    kind = kind_of(suffix)
    if kind == "HEIF":
        return register_heif()
    if kind == "AVIF":
        return bool(features.check("avif"))
    return kind is not None


@cache
def register_heif() -> bool:
    """Let Pillow read and write HEIC, if the library for it is installed; answers whether."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def file_content(path: str | os.PathLike[str]) -> tuple[bytes, int]:
    """The bytes of a regular file, and its permissions (as of :func:`os.stat`).

    Raises :class:`~fader.errors.UnreadableImageError` for folders, pipes, devices and files that
    are larger than the memory; :class:`OSError` for what cannot be opened.
    """
    path = Path(path)
    if path.is_dir():
        seen = os.access(path, os.R_OK | os.X_OK)
        reason = "is a folder, not a photo" if seen else "no permission to look into this folder"
        raise UnreadableImageError(f"{path}: {reason}")
    # Opening a pipe waits for someone to write into it, unless it is not to.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with open(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise UnreadableImageError(f"{path}: is no regular file, not a photo")
        if found.st_size > _free_memory() // 2:
            raise UnreadableImageError(f"{path}: too large for this machine's memory")
        return file.read(found.st_size), stat.S_IMODE(found.st_mode)


def sniffed(data: bytes) -> str | None:
    """Pillow's name of the common format that ``data`` begins like, None for others."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return next((kind for kind, begins in _BEGINS.items() if data.startswith(begins)), None)


def opened(data: bytes, kinds: Sequence[str] = ()) -> Image.Image:
    """The image in a file's content, opened by Pillow, as one of our formats (or ``kinds``).

    Raises :class:`~fader.errors.UnreadableImageError` for more pixels than allowed, and whatever
    Pillow raises for what is no image.
    """
    if not kinds:
        kind = sniffed(data)
        kinds = (kind,) if kind else (*_FORMATS, *(("HEIF",) if register_heif() else ()))
    with _OPENING:
        kept, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(io.BytesIO(data), formats=tuple(kinds))
        finally:
            Image.MAX_IMAGE_PIXELS = kept
    check_size(*image.size)
    pixels = image.width * image.height
    if image.format == "JPEG" and pixels > max(_ALWAYS_ALLOWED, _JPEG_PER_BYTE * len(data)):
        # Decoders fill what is missing with grey, all of it.
        megapixels = f"{pixels / 1e6:.0f} megapixels"
        raise UnreadableImageError(f"broken or cut short (too few bytes for {megapixels})")
    return image


def check_size(width: int, height: int) -> None:
    """Raise :class:`~fader.errors.UnreadableImageError` if so many pixels are too many."""
    text = os.environ.get(LIMIT_VARIABLE, "")
    try:
        most = int(float(text) * 1e6)
    except (ValueError, OverflowError):
        most = min(_MOST_PIXELS, _free_memory() // _BYTES_PER_PIXEL)
    if width * height > most:
        raise UnreadableImageError(
            f"refused, it claims to have {width * height / 1e6:.0f} megapixels, and the memory "
            f"here is enough for about {most / 1e6:.0f}; the environment variable "
            f"{LIMIT_VARIABLE} sets another limit"
        )


def _free_memory() -> int:
    """Bytes that this process may still take, about."""
    free = 16 << 30
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file)
        free = int(fields["MemAvailable"].split()[0]) << 10
    except (OSError, KeyError, ValueError):
        with suppress(AttributeError, OSError, ValueError):
            free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    group = Path("/sys/fs/cgroup")
    old = "memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"
    for limit, used in (("memory.max", "memory.current"), old):
        with suppress(OSError, ValueError):
            free = min(free, int((group / limit).read_text()) - int((group / used).read_text()))
    return max(free, 0)
