"""Writing photos: the one place where RGB arrays become files."""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile

from fader.errors import DiskFullError, FaderError
from fader.files import FULL, atomic_path
from fader.photo import jpeg, png, tiff
from fader.photo.exif import signed_exif
from fader.photo.formats import can_write, file_content, kind_of
from fader.photo.metadata import Contents, Provenance
from fader.photo.photo import Photo
from fader.photo.resources import caption_of
from fader.photo.xmp import without_extension

# What each format has a place for, of what a photo may have.
_LIKE_WEBP = frozenset(("alpha", "exif", "xmp", "icc"))
_EVERYTHING = {*_LIKE_WEBP, "resources", "dpi"}
_HOLDS: dict[str, Set[str]] = {
    "JPEG": {"exif", "xmp", "icc", "resources", "dpi", "comments"},
    "PNG": {*_EVERYTHING, "16 bits", "comments", "chunks"},
    "TIFF": {*_EVERYTHING, "16 bits"},
    **dict.fromkeys(("WEBP", "AVIF", "HEIF"), _LIKE_WEBP),
    **dict.fromkeys(("JPEG2000", "TGA", "QOI"), frozenset(("alpha",))),
    "GIF": {"comments"},
    "BMP": {"dpi"},
    "PPM": set(),
}
_WORDS = {
    "exif": "EXIF",
    "xmp": "XMP",
    "icc": "its colour profile",
    "resources": "its caption (IPTC)",
    "comments": "its comment",
    "chunks": "its PNG texts",
    "dpi": "its resolution",
}
_LOSSY = ("JPEG", "WEBP", "AVIF", "HEIF")

# Pillow's buffer for JPEGs belongs to the whole process; it is only enlarged while this is held.
_ENCODING = threading.Lock()


def save_photo(
    photo: Photo,
    path: str | os.PathLike[str],
    *,
    quality: int | None = None,
    provenance: Provenance | None = None,
) -> tuple[str, ...]:
    """Write ``photo`` atomically, with its metadata; the format follows the suffix.

    Without ``quality`` (1..100) a JPEG that comes from a JPEG is compressed with that file's own
    tables, and other lossy files with quality 95. With ``provenance`` the file says that it was
    edited. The file's permissions are no wider than those of the photo's own file, or of the file
    that is replaced. Answers with phrases on what the format has no place for.

    Raises :class:`~fader.errors.FaderError` when that suffix or place cannot be written,
    :class:`~fader.errors.DiskFullError` when the disk is full.
    """
    path = Path(path)
    kind = _kind_to_write(path)
    with _reasons(path), atomic_path(path, mode=photo.mode) as temporary:
        encoded, notes = _encoded(photo, kind, quality, provenance)
        temporary.write_bytes(encoded)
    return notes


def photo_bytes(
    photo: Photo,
    name: str,
    *,
    quality: int | None = None,
    provenance: Provenance | None = None,
) -> tuple[bytes, tuple[str, ...]]:
    """What :func:`save_photo` would write to a file that is called ``name``, and its answer;
    raises the same."""
    kind = _kind_to_write(Path(name))
    with _reasons(Path(name)):
        return _encoded(photo, kind, quality, provenance)


def _encoded(
    photo: Photo, kind: str, quality: int | None, provenance: Provenance | None
) -> tuple[bytes, tuple[str, ...]]:
    """The file's content, and phrases on what it has no place for."""
    contents = _marked(photo.contents, kind, provenance)
    options = _options(photo, kind, quality)
    notes = _unkept(photo, kind, provenance)
    if kind == "JPEG":
        encoded, more = jpeg.with_contents(_encoded_jpeg(photo, options), contents)
        return encoded, (*notes, *(f"not kept: {one}" for one in more))
    if kind == "PNG":
        software = str(provenance) if provenance else None
        return png.with_contents(_encoded_png(photo, options), contents, software), notes
    if kind == "TIFF":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, on what EXIF from elsewhere holds
            return _encoded_tiff(photo, contents, options), notes
    told = {
        "exif": ("exif", contents.exif),
        "xmp": ("xmp", contents.xmp),
        "icc": ("icc_profile", contents.icc),
        "comments": ("comment", b"\n".join(contents.comments)[:65_535]),
    }
    options |= {option: said for n, (option, said) in told.items() if said and n in _HOLDS[kind]}
    return _pillow(photo, kind, **options), notes


def save_image(
    image: Image.Image, path: str | os.PathLike[str], mode: int | None = None, **options: Any
) -> None:
    """Write ``image`` atomically; the format follows the suffix, JPEG at quality 95 by default.

    The file's permissions are no wider than ``mode``. Raises what :func:`save_photo` raises.
    """
    path = Path(path)
    kind = _kind_to_write(path)
    if kind == "JPEG":
        options = {"quality": 95, "subsampling": 0, **options}
    with _reasons(path), atomic_path(path, mode=mode) as temporary:
        image.save(temporary, kind, **options)


def copy_file(source: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Write a copy of the file ``source`` atomically; raises what :func:`save_photo` raises."""
    write_bytes(path, *file_content(source))


def write_bytes(
    path: str | os.PathLike[str], data: bytes, mode: int | None = None, folder: Path | None = None
) -> None:
    """Write a file atomically, by way of ``folder`` where one is given, with permissions no wider
    than ``mode``; raises what :func:`save_photo` raises."""
    with _reasons(Path(path)), atomic_path(path, folder, mode) as temporary:
        temporary.write_bytes(data)


def _kind_to_write(path: Path) -> str:
    suffix = path.suffix.lower()
    kind = kind_of(suffix)
    if kind is None or not can_write(suffix):
        what = suffix or "a file without suffix"
        raise FaderError(f"{path}: cannot write {what}; use .png or .jpg")
    return kind


@contextmanager
def _reasons(path: Path) -> Iterator[None]:
    """What goes wrong while ``path`` is written, in one sentence."""
    try:
        yield
    except (OSError, ValueError, TypeError, AttributeError) as error:
        # The last two are Pillow's answer to damaged EXIF that is to go into a TIFF.
        reason = getattr(error, "strerror", None) or error
        if getattr(error, "errno", None) in FULL:
            raise DiskFullError(f"{path}: the disk is full; no half of it was left") from None
        raise FaderError(f"{path}: could not be written ({reason})") from None


# What goes along


def _marked(contents: Contents, kind: str, provenance: Provenance | None) -> Contents:
    """``contents`` that also say that the photo was edited."""
    if contents.extension and kind != "JPEG":
        contents = replace(contents, xmp=without_extension(contents.xmp), extension=b"")
    if provenance is None:
        return contents
    exif = signed_exif(contents.exif, str(provenance))
    if kind == "JPEG" and len(contents.exif) <= jpeg.MOST < len(exif):
        exif = contents.exif  # what was there goes before our addition
    comments = contents.comments + [str(provenance).encode()] * (kind == "GIF")
    return replace(contents, exif=exif, xmp=provenance.marked(contents.xmp), comments=comments)


def _unkept(photo: Photo, kind: str, provenance: Provenance | None) -> tuple[str, ...]:
    """Phrases on what of ``photo`` a file of ``kind`` cannot hold."""
    holds, has = _HOLDS[kind], photo.contents
    told = {name: name not in holds and bool(getattr(has, name)) for name in _WORDS}
    told["resources"] &= bool(caption_of(has.resources))
    told["chunks"] &= any(one.endswith(b"Xt") for one, _ in has.chunks)
    told["icc"] |= bool(has.icc) and photo.grey and kind not in ("JPEG", "PNG", "TIFF")
    told["xmp"] |= bool(has.extension) and kind != "JPEG"
    told["exif"] |= bool(has.more_exif) and kind != "JPEG"
    words = [word for name, word in _WORDS.items() if told[name]]
    notes = [f"not kept: {', '.join(words)}"] if words else []
    if photo.alpha is not None and "alpha" not in holds:
        what = "left out" if kind == "BMP" else "white"
        notes.append(f"its transparency is {what}")
    if photo.deep is not None and "16 bits" not in holds:
        notes.append("written with 8 bits per channel, not 16")
    if kind == "GIF":
        notes.append("written with 256 colours")
    if provenance and not {"xmp", "comments"} & holds:
        notes.append("the file does not say that it was edited")
    return tuple(notes)


def _options(photo: Photo, kind: str, quality: int | None) -> dict[str, Any]:
    """Options of Pillow's writer on how to compress."""
    options: dict[str, Any] = dict(photo.encoding) if kind == photo.kind else {}
    options.pop("associated", None)
    if "dpi" in _HOLDS[kind] and photo.contents.dpi:
        options["dpi"] = photo.contents.dpi
    if kind in _LOSSY and not options.get("lossless"):
        if quality or not options.get("qtables"):
            options |= {"quality": quality or 95}
            options.pop("qtables", None)
        if kind == "JPEG":
            options.setdefault("subsampling", 0)
    return {key: value for key, value in options.items() if value is not None}


# Pixels


def _pillow(photo: Photo, kind: str, **options: Any) -> bytes:
    """The photo by Pillow's writer, in the mode that ``kind`` can hold and the source had."""
    image, alpha8 = photo.opaque(), photo.alpha8
    if alpha8 is not None and ("alpha" in _HOLDS[kind] or kind == "BMP"):
        image = Image.fromarray(photo.pixels[:, :, 0] if photo.grey else photo.pixels)
        image = image if kind in ("PNG", "TIFF", "BMP") else image.convert("RGB")
        if kind != "BMP":
            image.putalpha(Image.fromarray(alpha8))
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _encoded_jpeg(photo: Photo, options: dict[str, Any]) -> bytes:
    if not (options.get("optimize") or options.get("progressive")):
        return _pillow(photo, "JPEG", **options)
    # Such a picture has to fit into the buffer as a whole. Pillow guesses its size, too small for
    # noise at high qualities. A coefficient takes 26 bits at most; what is not used costs nothing.
    with _ENCODING:
        kept, ImageFile.MAXBLOCK = ImageFile.MAXBLOCK, 10 * photo.pixels[:, :, 0].size + 65_536
        try:
            return _pillow(photo, "JPEG", **options)
        finally:
            ImageFile.MAXBLOCK = kept


def _encoded_png(photo: Photo, options: dict[str, Any]) -> bytes:
    if any(kind == b"pHYs" for kind, _ in photo.contents.chunks):
        options = {key: value for key, value in options.items() if key != "dpi"}
    if photo.deep is None:
        return _pillow(photo, "PNG", **options)
    encoded = png.deep_png(_depth(photo))
    if "dpi" in options:
        per_metre = b"".join(round(v / 0.0254).to_bytes(4, "big") for v in options["dpi"])
        encoded = encoded[:33] + png.chunk(b"pHYs", per_metre + b"\1") + encoded[33:]
    return encoded


def _encoded_tiff(photo: Photo, contents: Contents, options: dict[str, Any]) -> bytes:
    options = {**options, "exif": tiff.tiff_directory(contents)}
    if contents.icc:
        options["icc_profile"] = contents.icc
    if photo.deep is None:
        return _pillow(photo, "TIFF", **options)
    return tiff.deep_tiff(_depth(photo), bool(photo.encoding.get("associated")), options)


def _depth(photo: Photo) -> np.ndarray:
    """(H, W, 1..4) uint16: the photo's own pixels with its alpha."""
    assert photo.deep is not None  # only photos of 16 bits are asked for them
    values = photo.deep[:, :, :1] if photo.grey else photo.deep
    if photo.alpha is None:
        return values
    alpha = photo.alpha if photo.alpha.dtype == np.uint16 else photo.alpha * np.uint16(257)
    if photo.encoding.get("associated"):
        values = tiff.multiplied(values, alpha)
    return np.dstack([values, alpha])
