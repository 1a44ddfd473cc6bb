"""Which files are taken for photos, and which can be written."""

from __future__ import annotations

from functools import cache

from PIL import Image

#: Suffixes taken for photos when a folder is searched.
IMAGE_SUFFIXES = frozenset(
    ".jpg .jpeg .png .webp .bmp .tif .tiff .gif .avif .heic .heif".split()  # noqa: SIM905
)


def can_write(suffix: str) -> bool:
    """Whether a file with this suffix can be written."""
    register_heif()
    return Image.registered_extensions().get(suffix.lower()) in Image.SAVE


def kind_of(suffix: str) -> str | None:
    """Pillow's name of the format that has this suffix, such as ``"JPEG"``; None for none."""
    register_heif()
    return Image.registered_extensions().get(suffix.lower())


@cache
def register_heif() -> None:
    """Let Pillow read and write HEIC, if the library for it is installed."""
    try:
        import pillow_heif
    except ImportError:
        return
    pillow_heif.register_heif_opener()
