"""Where edited photos go, and what is never overwritten."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from fader.errors import FaderError
from fader.images import save_image

# Formats an edited photo may keep. Others cannot be written, or (GIF) hold too few colours to
# leave untouched pixels as they are; their edits become PNGs.
_KEPT = {"JPEG", "PNG", "WEBP", "BMP", "TIFF", "AVIF"}
_LOSSY = {"JPEG", "WEBP", "AVIF"}


def beside(photo: Path) -> Path:
    """The default place of an edit: ``photo.jpg`` → ``photo.edited.jpg``."""
    suffix = photo.suffix if _keeps(photo) else ".png"
    return photo.with_name(f"{photo.stem}.edited{suffix}")


def inside(folder: Path, relative: Path) -> Path:
    """The place in an output folder of the photo at ``relative``: ``a/b.jpg`` → ``OUT/a/b.jpg``.

    Where the format cannot be kept, ``b.gif`` → ``b.gif.png``, so that it meets no ``b.png``.
    """
    return folder / (relative if _keeps(relative) else relative.with_name(f"{relative.name}.png"))


def refuse_overwriting(output: Path, inputs: Iterable[Path], overwrite: bool) -> None:
    """Raise :class:`~fader.errors.FaderError` if writing ``output`` would destroy something.

    An input is never overwritten, by whatever name or link it is reached; another file only with
    ``overwrite``.
    """
    if not os.path.lexists(output):
        return
    if output.is_dir():
        raise FaderError(f"{output}: is a folder; name a file in it")
    for photo in inputs:
        if output.exists() and photo.exists() and output.samefile(photo):
            raise FaderError(f"{output}: is an input photo, never overwritten; choose another -o")
    if not overwrite:
        raise FaderError(
            f"{output}: is already there; replace it with --overwrite or choose another -o"
        )


def write(image: Image.Image, output: Path, quality: int | None = None) -> None:
    """Write an edited photo with its colour profile; ``quality`` 1..100 (95) for JPEG and WebP."""
    options = {}
    if profile := image.info.get("icc_profile"):
        options["icc_profile"] = profile
    if Image.registered_extensions().get(output.suffix.lower()) in _LOSSY:
        options["quality"] = quality or 95
    save_image(image, output, **options)


def _keeps(photo: Path) -> bool:
    kind = Image.registered_extensions().get(photo.suffix.lower())
    return kind in _KEPT and kind in Image.SAVE
