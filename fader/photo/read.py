"""Reading photos: the one place where files become RGB arrays."""

from __future__ import annotations

import os
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, JpegImagePlugin, UnidentifiedImageError

from fader.errors import UnreadableImageError
from fader.photo.exif import exif_orientation
from fader.photo.formats import file_content, opened, sniffed
from fader.photo.jpeg import has_standard_tables, jpeg_contents, mended
from fader.photo.metadata import Contents
from fader.photo.photo import ImageLike, Photo, eight_bit, stacked
from fader.photo.pixels import Raster, of_values, raster_of, turned
from fader.photo.png import png_contents, take_text
from fader.photo.sixteen_bit import read_deep_png

# Compressions of TIFF that lose nothing; a photo that had another one is written as deflate.
_LOSSLESS_TIFF = {"raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "zstd"}


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
        return _of_image(source)
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
    except FileNotFoundError:
        raise UnreadableImageError(f"{path}: there is no such file") from None
    except PermissionError:
        raise UnreadableImageError(f"{path}: no permission to read it") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UnreadableImageError(f"{path}: cannot be read ({reason})") from None
    except MemoryError:
        raise UnreadableImageError(f"{path}: too large for this machine's memory") from None


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
    try:
        data = source if isinstance(source, bytes) else file_content(source)[0]
        # Thumbnails and the like are no hindrance; only plain JPEGs are taken the short way.
        if sniffed(data) == "JPEG" and b"Orientation" not in data[:65536]:
            with opened(data) as image:
                if image.mode in ("L", "RGB") and (exif_orientation(_exif(image)) or 1) == 1:
                    image.draft(image.mode, (side, side))
                    return image.convert("RGB")
    except Exception:  # broken, answered with any exception there is: told in words below
        pass
    return _on_white(open_photo(source))


def _exif(image: Image.Image) -> bytes:
    exif = image.info.get("exif")
    return exif if isinstance(exif, bytes) else b""


def _on_white(photo: Photo) -> Image.Image:
    image = Image.fromarray(photo.pixels)
    if photo.alpha8 is None:
        return image
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=Image.fromarray(photo.alpha8))
    return white


def _of_array(values: np.ndarray) -> Photo:
    if values.dtype != np.uint8 or not (
        values.ndim == 2 or (values.ndim == 3 and values.shape[2] == 3)
    ):
        raise UnreadableImageError(
            f"expected an H×W×3 uint8 RGB array, got shape {values.shape} of {values.dtype}"
        )
    if not values.size:
        raise UnreadableImageError(f"the array is empty: its shape is {values.shape}")
    # A grey array, unlike a grey file, is asked about in RGB and answered in it.
    return Photo(values if values.ndim == 3 else stacked(values))


def _of_image(image: Image.Image) -> Photo:
    """A photo from what Pillow opened or made."""
    contents = _pillow_contents(image)
    kind = "JPEG" if image.format == "MPO" else image.format
    if 0 in image.size:
        raise UnreadableImageError(f"the image: has no pixels, its size is {image.size}")
    try:
        image.load()
        raster = raster_of(image, kind, contents)
    except UnreadableImageError as error:
        raise UnreadableImageError(f"the image: {error}") from None
    # Of TIFFs it is Pillow that turns them.
    turn = contents.clean()
    return _photo(
        raster, contents, 1 if kind == "TIFF" else turn, kind, _encoding(image, kind, b"")
    )


def _of_content(data: bytes, name: str, mode: int | None) -> Photo:
    try:
        if not data:
            raise UnreadableImageError("is empty (zero bytes)")
        readers = {"JPEG": _of_jpeg, "PNG": _of_png, "TIFF": _of_tiff}
        photo = readers.get(sniffed(data) or "", _of_other)(data)
        return replace(photo, name=name, mode=mode)
    except UnreadableImageError as error:
        raise UnreadableImageError(f"{name}: {error}") from None
    except UnidentifiedImageError:
        raise UnreadableImageError(f"{name}: {_why_unidentified(data)}") from None
    except MemoryError:
        raise UnreadableImageError(f"{name}: too large for this machine's memory") from None
    except Exception as error:
        # Decoders answer broken data with any exception there is.
        reason = " ".join(str(error).split(" <_io")[0].split()) or type(error).__name__
        raise UnreadableImageError(f"{name}: broken or cut short ({reason})") from None


def _of_jpeg(data: bytes) -> Photo:
    contents = jpeg_contents(data)
    image = opened(data)
    try:
        image.load()
    except OSError:
        whole = mended(data)
        if whole is None:
            raise
        image = opened(whole)
        contents.notes.append("its end is missing")
    contents.icc = image.info.get("icc_profile")
    contents.dpi = _dpi(image.info)
    frames = getattr(image, "n_frames", 1)
    raster = raster_of(image, "JPEG", contents)
    encoding = _encoding(image, "JPEG", data)
    turn = contents.clean()
    if frames > 1 and "its gain map is left out" not in contents.notes:
        contents.notes.insert(0, _frames_note(frames))
    return _photo(raster, contents, turn, "JPEG", encoding)


def _of_png(data: bytes) -> Photo:
    pixels, contents, frames = png_contents(data)
    image = opened(pixels)
    image.load()
    contents.dpi = _dpi(image.info)
    if frames > 1:
        contents.notes.insert(0, _frames_note(frames))
    values = None
    if pixels[24] == 16 and not image.mode.startswith("I"):
        values = read_deep_png(pixels)
        if values is None or values.shape[:2] != image.size[::-1]:
            values = None
            contents.notes.append("written with 8 bits per channel, not 16")
    if values is None:
        raster = raster_of(image, "PNG", contents)
    else:
        has_alpha = values.shape[2] in (2, 4) and image.has_transparency_data
        alpha = np.ascontiguousarray(values[:, :, -1]) if has_alpha else None
        colour = pixels[25] & 2
        raster = of_values(values[:, :, :3] if colour else values[:, :, :1], alpha)
    return _photo(raster, contents, contents.clean(), "PNG", {})


def _of_tiff(data: bytes) -> Photo:
    from fader.photo.tiff import read_tiff, tiff_contents

    contents = tiff_contents(data)
    stored = read_tiff(data)
    if stored is None:
        image = opened(data)
        frames = getattr(image, "n_frames", 1)
        encoding = _encoding(image, "TIFF", data)
        image.load()
        raster, turn = raster_of(image, "TIFF", contents), contents.clean() and 1
    else:
        frames, encoding = stored.pages, _tiff_encoding(stored.compression)
        contents.notes += stored.notes
        if stored.values.shape[2] == 4:
            inks = Image.fromarray(eight_bit(stored.values), "CMYK")
            raster = raster_of(inks, "TIFF", contents)
            raster.alpha = None if stored.alpha is None else eight_bit(stored.alpha)
        else:
            raster = of_values(stored.values, stored.alpha)
            if stored.associated and raster.deep is not None:
                encoding["associated"] = True
        turn = contents.clean()
    if frames > 1:
        contents.notes.insert(0, _frames_note(frames))
    return _photo(raster, contents, turn, "TIFF", encoding)


def _of_other(data: bytes) -> Photo:
    image = opened(data)
    kind = "JPEG" if image.format == "MPO" else image.format
    if 0 in image.size:
        raise UnreadableImageError(f"has no pixels, its size is {image.size}")
    frames = getattr(image, "n_frames", 1)
    contents = _pillow_contents(image)
    if kind in ("HEIF", "AVIF"):
        _look_into_boxes(data, image, contents)
        frames = frames if kind == "AVIF" or frames == 1 else 1 if contents.gone else frames
    encoding = _encoding(image, kind, data)
    image.load()
    raster = raster_of(image, kind, contents)
    # HEIC comes turned already; of AVIF, Pillow writes what its boxes say of it into the EXIF.
    turn = contents.clean()
    turn = 1 if kind == "HEIF" else turn
    if frames > 1:
        contents.notes.insert(0, _frames_note(frames))
    return _photo(raster, contents, turn, kind, encoding)


def _frames_note(frames: int) -> str:
    return f"only the first of its {frames} frames or pages"


def _photo(
    raster: Raster, contents: Contents, turn: int, kind: str | None, encoding: dict[str, Any]
) -> Photo:
    profile_space = {b"RGB ": False, b"GRAY": True}.get((contents.icc or b"")[16:20])
    if profile_space is not raster.grey:
        contents.icc = None  # a profile for other values than those written does not apply
    notes, contents.notes = tuple(dict.fromkeys(contents.notes)), []
    return Photo(
        pixels=turned(raster.pixels, turn),
        kind=kind,
        grey=raster.grey,
        alpha=None if raster.alpha is None else turned(raster.alpha, turn),
        deep=None if raster.deep is None else turned(raster.deep, turn),
        bits=raster.bits,
        contents=contents,
        encoding=encoding,
        notes=notes,
    )


# What is beside the pixels


def _pillow_contents(image: Image.Image) -> Contents:
    """What Pillow found in a file of a kind that is not taken apart here."""
    info, found = image.info, Contents()
    exif = info.get("exif")
    if isinstance(exif, bytes) and exif:
        found.exif = b"Exif\0\0" + exif.removeprefix(b"Exif\0\0").removeprefix(b"Exif\0\0")
    elif image.format == "TIFF":
        found.exif = image.getexif().tobytes()
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp") or b""
    found.xmp = xmp.encode() if isinstance(xmp, str) else xmp if isinstance(xmp, bytes) else b""
    icc = info.get("icc_profile")
    found.icc = icc if isinstance(icc, bytes) else None
    comment = info.get("comment")
    if comment:
        found.comments = [comment.encode() if isinstance(comment, str) else bytes(comment)]
    if image.format == "PNG":
        for key, text in info.items():
            if not (isinstance(key, str) and isinstance(text, str)):
                continue
            if 0 < len(key) < 80 and key.isascii():
                take_text(found, b"iTXt", key.encode() + b"\0\0\0\0\0" + text.encode())
    found.dpi = _dpi(info)
    return found


def _look_into_boxes(data: bytes, image: Image.Image, contents: Contents) -> None:
    """Note what a HEIC or AVIF file has beside its picture."""
    head = data[:65536]
    auxiliary = " ".join(map(str, image.info.get("aux") or ()))
    if b"hdrgainmap" in head or "hdrgainmap" in auxiliary or b"tmap" in head:
        contents.gone.append("gain map")
    if image.info.get("depth_images") or (b"auxid:2" in head and b"depth" in head):
        contents.gone.append("depth map")
    place = 0
    while place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        if kind == b"mpvd":
            contents.gone.append("video")
        if length < 8:
            break
        place += length
    found = head.find(b"av1C")
    depth = image.info.get("bit_depth", 8)
    if depth > 8 or (found >= 0 and head[found + 6 : found + 7] and head[found + 6] & 0x40):
        contents.notes.append("written with 8 bits per channel, not more")


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
        return _tiff_encoding(image.info.get("compression", "raw"))
    return {}


def _tiff_encoding(compression: str) -> dict[str, Any]:
    compression = compression if compression in _LOSSLESS_TIFF else "tiff_adobe_deflate"
    return {"compression": None if compression == "raw" else compression}


def _is_lossless_webp(data: bytes) -> bool:
    place = 12
    while place + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, place)
        if kind in (b"VP8L", b"VP8 "):
            return kind == b"VP8L"
        place += 8 + length + length % 2
    return False


def _dpi(info: dict[Any, Any]) -> tuple[float, float] | None:
    try:
        x, y = (float(v) for v in info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    # A TIFF without resolution is said to have 1.
    return (x, y) if 1 < x < 65536 and 1 < y < 65536 else None


def _why_unidentified(data: bytes) -> str:
    if data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"hevc", b"mif1", b"msf1"):
        return "reading HEIC photos needs a library; install it with: pip install 'fader[heif]'"
    return "not an image, or of a kind that is not read; convert it to JPEG or PNG"
