"""Writing photos: the one place where RGB arrays become files."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from fader.errors import DiskFullError, FaderError
from fader.files import atomic_path
from fader.photo.formats import can_write
from fader.photo.metadata import DESCRIBING, Provenance, marked_xmp, upright_exif
from fader.photo.photo import Photo, eight_bit
from fader.photo.sixteen_bit import write_deep_png, write_deep_tiff

_XMP_TAG = 700


def save_photo(
    photo: Photo,
    path: str | os.PathLike[str],
    *,
    quality: int | None = None,
    provenance: Provenance | None = None,
) -> None:
    """Write ``photo`` atomically, with its metadata; the format follows the suffix.

    Without ``quality`` (1..100) a JPEG that comes from a JPEG is compressed with that file's own
    tables, and other lossy files with quality 95. With ``provenance`` the file says that it was
    edited.

    Raises :class:`~fader.errors.FaderError` when that suffix or place cannot be written,
    :class:`~fader.errors.DiskFullError` when the disk is full.
    """
    path = Path(path)
    kind = _kind_to_write(path)
    xmp, software = photo.xmp, None
    if provenance:
        xmp, software = marked_xmp(photo.xmp, provenance), str(provenance)
    exif = upright_exif(photo.exif, software)
    options: dict[str, Any] = {"icc_profile": photo.icc or None}
    if photo.dpi:
        options["dpi"] = photo.dpi
    if kind == photo.kind:
        options |= photo.encoding
    if kind in ("JPEG", "WEBP", "AVIF", "HEIF") and not options.get("lossless"):
        if quality or not options.get("qtables"):
            options |= {"quality": quality or 95}
            options.pop("qtables", None)
        if kind == "JPEG":
            options.setdefault("subsampling", 0)
    alpha, deep = photo.alpha, photo.deep
    if kind in ("PNG", "TIFF") and deep is not None:
        depth: np.ndarray | None = deep[:, :, :1] if photo.grey else deep
        if alpha is not None:
            factor = np.uint16(1 if alpha.dtype == np.uint16 else 257)
            depth = np.dstack([depth, alpha * factor])
    else:
        depth = None

    if kind == "PNG":
        options["pnginfo"] = _png_texts(photo, xmp, provenance)
        options["exif"] = exif or None
    elif kind == "TIFF":
        options["exif"] = _tiff_directory(exif, xmp)
    elif kind in ("JPEG", "WEBP", "AVIF", "HEIF"):
        # An APP1 segment holds 64 kB; what does not fit there any more goes without our additions.
        limit = 65_000 if kind == "JPEG" else 2**31
        options["exif"] = exif if len(exif) < limit else upright_exif(b"", software)
        xmp = xmp if len(xmp) < limit or not provenance else marked_xmp(b"", provenance)
        options["xmp"] = xmp if len(xmp) < limit else b""

    def encode(temporary: Path) -> None:
        if depth is not None:
            (write_deep_png if kind == "PNG" else write_deep_tiff)(temporary, depth, options)
            return
        _for_writing(photo, kind).save(temporary, kind, **_given(options))

    _write(path, encode)


def save_image(image: Image.Image, path: str | os.PathLike[str], **options: Any) -> None:
    """Write ``image`` atomically; the format follows the suffix, JPEG at quality 95 by default.

    Raises what :func:`save_photo` raises.
    """
    path = Path(path)
    if _kind_to_write(path) == "JPEG":
        options = {"quality": 95, "subsampling": 0, **options}
    _write(path, lambda temporary: image.save(temporary, **options))


def copy_file(source: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Write a copy of the file ``source`` atomically; raises what :func:`save_photo` raises."""
    data = Path(source).read_bytes()
    _write(Path(path), lambda temporary: temporary.write_bytes(data))


def _kind_to_write(path: Path) -> str:
    suffix = path.suffix.lower()
    if not can_write(suffix):
        raise FaderError(
            f"{path}: cannot write {suffix or 'a file without suffix'!s}; use .png or .jpg"
        )
    return Image.registered_extensions()[suffix]


def _write(path: Path, encode: Callable[[Path], Any]) -> None:
    try:
        with atomic_path(path) as temporary:
            encode(temporary)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        # The last two are Pillow's answer to damaged EXIF that is to go into a TIFF.
        reason = getattr(error, "strerror", None) or error
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(f"{path}: the disk is full; no half of it was left") from None
        raise FaderError(f"{path}: could not be written ({reason})") from None


def _for_writing(photo: Photo, kind: str) -> Image.Image:
    """The photo in the mode that ``kind`` can hold and the source had."""
    image = Image.fromarray(photo.pixels[:, :, 0] if photo.grey else photo.pixels)
    if photo.alpha is None or kind == "BMP":
        return image
    alpha = Image.fromarray(eight_bit(photo.alpha))
    if kind == "JPEG":  # has no alpha: what is transparent is seen on white, as in most viewers
        white = Image.new(image.mode, image.size, "white")
        white.paste(image, mask=alpha)
        return white
    if kind not in ("PNG", "TIFF"):
        image = image.convert("RGB")
    image.putalpha(alpha)
    return image


def _png_texts(photo: Photo, xmp: bytes, provenance: Provenance | None) -> PngImagePlugin.PngInfo:
    texts = PngImagePlugin.PngInfo()
    for key, text in photo.texts.items():
        if 0 < len(key) < 80 and key.isascii() and key.isprintable():
            texts.add_itxt(key, text) if not text.isascii() else texts.add_text(key, text)
    if provenance:
        texts.add_text("Software", str(provenance))
    if xmp:
        texts.add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8", "replace"))
    return texts


def _tiff_directory(exif: bytes, xmp: bytes) -> Image.Exif:
    directory = Image.Exif()
    if exif:
        directory.load(exif)
    for tag in list(directory):
        if tag not in DESCRIBING:
            del directory[tag]
    if xmp:
        directory[_XMP_TAG] = xmp
    return directory


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if value is not None}
