"""Reading photos: the one place where files become RGB arrays."""

from __future__ import annotations

import os
import re
import struct
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, JpegImagePlugin, UnidentifiedImageError

from fader.errors import UnreadableImageError
from fader.photo.exif import PREFIX, exif_orientation
from fader.photo.formats import file_content, opened, sniffed
from fader.photo.jpeg import has_standard_tables, jpeg_contents, mended, unusual
from fader.photo.metadata import Contents
from fader.photo.others import look_into
from fader.photo.photo import ImageLike, Photo, photo_of, photo_of_values
from fader.photo.png import (
    BROKEN_PROFILE,
    NO_END,
    completed,
    png_contents,
    read_deep_png,
    take_text,
)
from fader.photo.quiet import quiet
from fader.photo.tiff import read_tiff, tiff_contents, tiff_encoding

_REASONS: dict[type[Exception], str] = {
    FileNotFoundError: "there is no such file",
    PermissionError: "no permission to read it",
    MemoryError: "too large for this machine's memory",
}
_NO_IMAGE = "not an image, or of a kind that is not read; convert it to JPEG or PNG"
_NEEDS_LIBRARY = "reading HEIC photos needs a library; install it with: pip install 'fader[heif]'"
# Where a JPEG's orientation may be beside its first EXIF block.
_HIDDEN_TURN = re.compile(
    rb"Orientation|O\0r\0i\0e\0n|8BIM\x04\x22|Exif\0\0(II|MM).*\xff\xe1..Exif\0\0(II|MM)", re.DOTALL
)
_HEIC = (b"heic", b"heix", b"hevc", b"mif1", b"msf1")


def open_photo(source: ImageLike | Photo) -> Photo:
    """A photo with everything that is to be written back.

    ``source`` is a path, a file's content, a PIL image, or an H×W×3 / H×W ``uint8`` array in RGB
    order. The orientation is obeyed; CMYK becomes sRGB (through its profile where it has one); of
    an animation or a file of several pages it is the first.

    Raises :class:`~fader.errors.UnreadableImageError` when the file is not an image or is broken.
    """
    if isinstance(source, Photo):
        return source
    if isinstance(source, np.ndarray):
        return _of_array(source)
    if isinstance(source, Image.Image):
        try:
            with quiet():
                return _of_pillow(source)
        except UnreadableImageError as error:
            raise UnreadableImageError(f"the image: {error}") from None
    if isinstance(source, bytes):
        return _of_content(source, "the image", None)
    data, mode = photo_file(path := Path(source))
    return _of_content(data, str(path), mode)


def photo_file(path: str | os.PathLike[str]) -> tuple[bytes, int]:
    """The bytes of a photo's file and its permissions.

    Raises :class:`~fader.errors.UnreadableImageError` for what cannot be read.
    """
    try:
        return file_content(path)
    except (OSError, ValueError, MemoryError) as error:
        reason = f"cannot be read ({getattr(error, 'strerror', None) or error})"
        reason = _REASONS.get(type(error), reason)
        raise UnreadableImageError(f"{path}: {reason}") from None


def read_photo(data: bytes, name: str) -> Photo:
    """:func:`open_photo` for the content of a file that is called ``name``, whatever its suffix."""
    return _of_content(data, name, None)


def open_image(source: ImageLike) -> Image.Image:
    """A photo as an upright RGB :class:`PIL.Image.Image`; see :func:`open_photo`."""
    return Image.fromarray(open_photo(source).pixels)


def open_reduced(source: str | os.PathLike[str] | bytes, side: int) -> Image.Image:
    """A photo as an upright RGB image to learn from, on white where it is transparent.

    A JPEG is decoded at a fraction of its size, where both sides stay as long as ``side`` pixels.
    Raises what :func:`open_photo` raises.
    """
    # What is broken is answered with any exception there is: told in words below.
    with suppress(Exception), quiet():
        data = source if isinstance(source, bytes) else file_content(source)[0]
        # Thumbnails and the like are no hindrance; only plain JPEGs are taken the short way.
        if sniffed(data) == "JPEG" and not _HIDDEN_TURN.search(data, 0, 65536):
            with opened(data) as image:
                if image.mode in ("L", "RGB") and (exif_orientation(_exif(image)) or 1) == 1:
                    image.draft(image.mode, (side, side))
                    return image.convert("RGB")
    return open_photo(source).opaque().convert("RGB")


def _of_array(values: np.ndarray) -> Photo:
    if values.dtype != np.uint8 or values.ndim not in (2, 3) or values.shape[2:] not in ((), (3,)):
        raise UnreadableImageError(
            f"expected an H×W×3 uint8 RGB array, got shape {values.shape} of {values.dtype}"
        )
    if not values.size:
        raise UnreadableImageError(f"the array is empty: its shape is {values.shape}")
    # A grey array, unlike a grey file, is asked about in RGB and answered in it.
    return Photo(values if values.ndim == 3 else np.repeat(values[:, :, None], 3, axis=2))


def _of_content(data: bytes, name: str, mode: int | None) -> Photo:
    try:
        if not data:
            raise UnreadableImageError("is empty (zero bytes)")
        reader = {"JPEG": _of_jpeg, "PNG": _of_png, "TIFF": _of_tiff}.get(sniffed(data) or "")
        with quiet():
            photo = reader(data) if reader else _of_pillow(opened(data), data)
        return replace(photo, name=name, mode=mode)
    except UnreadableImageError as error:
        raise UnreadableImageError(f"{name}: {error}") from None
    except UnidentifiedImageError:
        if kind := sniffed(data):
            raise UnreadableImageError(f"{name}: broken or cut short (a {kind} file)") from None
        heic = data[4:8] == b"ftyp" and data[8:12] in _HEIC
        raise UnreadableImageError(f"{name}: {_NEEDS_LIBRARY if heic else _NO_IMAGE}") from None
    except MemoryError:
        raise UnreadableImageError(f"{name}: {_REASONS[MemoryError]}") from None
    except Exception as error:
        # Decoders answer broken data with any exception there is.
        reason = " ".join(str(error).split(" <_io")[0].split()) or type(error).__name__
        raise UnreadableImageError(f"{name}: broken or cut short ({reason})") from None


def _of_jpeg(data: bytes) -> Photo:
    contents = jpeg_contents(data)
    try:
        image = opened(data)
        image.load()
    except OSError:
        if reason := unusual(data):
            raise UnreadableImageError(f"{reason}; save it as a usual JPEG or PNG") from None
        whole = mended(data)
        if whole is None:
            raise
        image = opened(whole)
        contents.notes.append(NO_END)
    profile = image.info.get("icc_profile")
    if contents.icc is not None and not profile:
        contents.notes.append(BROKEN_PROFILE)
    contents.icc = profile
    contents.dpi = _dpi(image.info)
    frames = getattr(image, "n_frames", 1)
    photo = photo_of(image, "JPEG", contents)
    return _finished(photo, contents, "JPEG", _encoding(image, "JPEG", data), frames)


def _of_png(data: bytes) -> Photo:
    pixels, contents, frames = png_contents(data)
    image = opened(pixels)
    image.load()
    contents.dpi = _dpi(image.info)
    values = None
    if pixels[24] == 16 and image.mode.startswith("I"):
        transparent = image.info.get("transparency")
        if isinstance(transparent, int):
            grey = np.asarray(image).astype(np.uint16)
            opacity = np.where(grey == transparent, 0, 65535).astype(np.uint16)
            values = np.dstack([grey, opacity])
    elif pixels[24] == 16:
        values = read_deep_png(completed(pixels) if NO_END in contents.notes else pixels)
        if values is None or values.shape[:2] != image.size[::-1]:
            values = None
            contents.notes.append("written with 8 bits per channel, not 16")
    if values is None:
        photo = photo_of(image, "PNG", contents)
    else:
        has_alpha = values.shape[2] in (2, 4) and image.has_transparency_data
        alpha = np.ascontiguousarray(values[:, :, -1]) if has_alpha else None
        colour = pixels[25] & 2
        photo = photo_of_values(values[:, :, : 3 if colour else 1], alpha)
    return _finished(photo, contents, "PNG", {}, frames)


def _of_tiff(data: bytes) -> Photo:
    contents = tiff_contents(data)
    if found := read_tiff(data, contents):
        photo, encoding, frames = found
        return _finished(photo, contents, "TIFF", encoding, frames)
    image = opened(data)
    frames, encoding = getattr(image, "n_frames", 1), _encoding(image, "TIFF", data)
    image.load()  # which turns it, too
    photo = photo_of(image, "TIFF", contents)
    return _finished(photo, contents, "TIFF", encoding, frames, upright=True)


def _of_pillow(image: Image.Image, data: bytes = b"") -> Photo:
    """A photo of what Pillow made or opened, where it did from a file's content."""
    contents = _pillow_contents(image)
    kind = "JPEG" if image.format == "MPO" else image.format
    if 0 in image.size:
        raise UnreadableImageError(f"has no pixels, its size is {image.size}")
    frames = getattr(image, "n_frames", 1) if data else 1
    if data:
        look_into(data, image, contents)
        if kind == "PSD" or (kind == "HEIF" and contents.gone):
            frames = 1
    encoding = _encoding(image, kind, data)
    image.load()
    photo = photo_of(image, kind, contents)
    # HEIC comes turned already, and TIFFs are turned by Pillow; of AVIF, it writes what its boxes
    # say of it into the EXIF.
    upright = kind == ("HEIF" if data else "TIFF")
    return _finished(photo, contents, kind, encoding, frames, upright)


def _finished(
    photo: Photo,
    contents: Contents,
    kind: str | None,
    encoding: dict[str, Any],
    frames: int,
    upright: bool = False,
) -> Photo:
    """The photo turned, unless it is ``upright``, with all that is beside its pixels."""
    turn = contents.clean()
    # A gain map is a frame, too.
    if frames > 1 and not (kind == "JPEG" and "its gain map is left out" in contents.notes):
        contents.notes.insert(0, f"only the first of its {frames} frames or pages")
    profile_space = {b"RGB ": False, b"GRAY": True}.get((contents.icc or b"")[16:20])
    if profile_space is not photo.grey and contents.icc:
        contents.icc = None  # a profile for other values than those written does not apply
        contents.notes.append("its colour profile is for another kind of pixels, and left out")
    notes, contents.notes = tuple(dict.fromkeys(contents.notes)), []
    photo = replace(photo, kind=kind, contents=contents, encoding=encoding, notes=notes)
    return photo.turned(1 if upright else turn)


# What is beside the pixels


def _exif(image: Image.Image) -> bytes:
    exif = image.info.get("exif")
    return exif if isinstance(exif, bytes) else b""


def _pillow_contents(image: Image.Image) -> Contents:
    """What Pillow found in a file of a kind that is not taken apart here."""
    info, found = image.info, Contents()
    if exif := _exif(image):
        found.exif = PREFIX + exif.removeprefix(PREFIX).removeprefix(PREFIX)
    elif image.format == "TIFF":
        found.exif = image.getexif().tobytes()
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp") or b""
    found.xmp = xmp.encode() if isinstance(xmp, str) else xmp if isinstance(xmp, bytes) else b""
    icc = info.get("icc_profile")
    found.icc = icc if isinstance(icc, bytes) else None
    if comment := info.get("comment"):
        found.comments = [comment.encode() if isinstance(comment, str) else bytes(comment)]
    for key, text in info.items() if image.format == "PNG" else ():
        if isinstance(key, str) and isinstance(text, str) and 0 < len(key) < 80 and key.isascii():
            take_text(found, b"iTXt", key.encode() + b"\0\0\0\0\0" + text.encode())
    found.dpi = _dpi(info)
    return found


def _encoding(image: Image.Image, kind: str | None, data: bytes) -> dict[str, Any]:
    """How the file was compressed, as options of Pillow's writer."""
    if isinstance(image, JpegImagePlugin.JpegImageFile) and image.quantization:
        sampling = JpegImagePlugin.get_sampling(image) if image.layers == 3 else 0
        return {
            "qtables": [image.quantization[key] for key in sorted(image.quantization)][:2],
            "subsampling": max(0, sampling),
            "progressive": bool(image.info.get("progressive")),
            "optimize": not has_standard_tables(data),
        }
    if kind == "WEBP" and _is_lossless_webp(data):
        return {"lossless": True, "exact": True}
    if kind == "TIFF":
        return tiff_encoding(image.info.get("compression", "raw"))
    return {}


def _is_lossless_webp(data: bytes) -> bool:
    place = 12
    while place + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, place)
        if kind in (b"VP8L", b"VP8 "):
            return kind == b"VP8L"
        place += 8 + length + length % 2
    return False


def _dpi(info: dict[Any, Any]) -> tuple[float, float] | None:
    with suppress(KeyError, TypeError, ValueError, ZeroDivisionError):
        x, y = (float(v) for v in info["dpi"])
        if 1 < x < 65536 and 1 < y < 65536:  # a TIFF without resolution is said to have 1
            return x, y
    return None
