"""TIFF files: every way of storing grey and colour of 8 and 16 bits, read by tifffile."""

from __future__ import annotations

import io
import logging
import struct
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin

from fader.errors import UnreadableImageError
from fader.photo.formats import check_size, opened
from fader.photo.metadata import DESCRIBING, Contents
from fader.photo.resources import caption_of, packed, parsed, with_caption

_XMP, _CAPTION, _RESOURCES, _ICC = 700, 33723, 34377, 34675
_RAW_CAMERA = 50706  # DNGVersion

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _SEPARATED = 0, 1, 2, 5
_NAMES = {
    4: "a mask",
    8: "CIE L*a*b* colours",
    9: "ICC L*a*b* colours",
    10: "ITU L*a*b* colours",
    32803: "a camera's raw values",
    32844: "CIE Log luminances",
    32845: "CIE Log colours",
    34892: "a camera's raw values",
}
_KINDS = {1: "unsigned whole numbers", 2: "whole numbers with a sign", 3: "floating-point values"}
# Compressions that are formats of pictures themselves; Pillow reads them.
_PICTURES = {6, 7, 34892, 33003, 33005, 34712, 50001, 52546, 34887, 2, 3, 4}


@dataclass
class Stored:
    """A TIFF's pixels as they look, not turned: (H, W, 1|3|4) uint8 or uint16, and its ``alpha``.

    Four channels are inks (CMYK). ``associated`` says that the file's colours are multiplied by
    its alpha; those here are not. ``compression`` is Pillow's name of it, "" for one that it has
    no name for.
    """

    values: np.ndarray
    alpha: np.ndarray | None
    associated: bool
    compression: str
    notes: list[str]
    pages: int = 1


def read_tiff(data: bytes) -> Stored | None:
    """The first page's pixels; None for what Pillow reads as well (palettes, bits, JPEG inside).

    Raises :class:`~fader.errors.UnreadableImageError`, which names them, for kinds of values that
    are no photo's.
    """
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages.first
            check_size(page.imagewidth, page.imagelength)
            if not (page.imagewidth and page.imagelength and page.samplesperpixel):
                raise UnreadableImageError("has no pixels")
            stored = _stored(page, data)
            if stored is not None:
                stored.pages = len(file.pages)
            return stored
    except UnreadableImageError:
        raise
    except Exception as error:  # broken, answered with any exception there is
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UnreadableImageError(f"broken or cut short ({reason})") from None


def _stored(page: Any, data: bytes) -> Stored | None:
    _refuse_kinds(page)
    bits, colours, compression = page.bitspersample, page.photometric, int(page.compression)
    planes = page.planarconfig == 2 and page.samplesperpixel > 1
    needed = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _SEPARATED: 4}.get(colours)
    reason = ""
    if bits not in (8, 16) or needed is None:
        reason = (
            f"holds {bits}-bit values in a layout that is not read; convert it to 8 or 16 "
            "bits per channel, RGB or grey"
        )
    elif compression in _PICTURES:
        reason = (
            f"is compressed in a way that is not read (TIFF's number {compression}); save it "
            "with LZW, deflate or no compression"
        )
    if reason and (planes or bits > 8):
        raise UnreadableImageError(reason)
    if needed is None or reason or (bits == 8 and not planes and _is_plain(page, needed)):
        return None  # Pillow reads it, and what is plain faster
    values = _decoded(page, data)
    if values.shape[2] < needed:
        raise UnreadableImageError("broken or cut short (it has too few channels)")
    main = values[:, :, :needed]
    alpha, associated, notes = _alpha(page, values, needed)
    if colours == _WHITE_IS_ZERO:
        main = np.iinfo(values.dtype).max - main
    if alpha is not None and associated:
        main = _divided(main, alpha)
    name = TiffImagePlugin.COMPRESSION_INFO.get(compression, "")
    return Stored(np.ascontiguousarray(main), alpha, associated, name, notes)


def _alpha(
    page: Any, values: np.ndarray, colours: int
) -> tuple[np.ndarray | None, bool, list[str]]:
    """The alpha behind the colour channels, whether they are multiplied by it, and notes."""
    alpha, associated, notes = None, False, []
    # A channel too many of which nothing is said is an alpha, as OpenCV writes it.
    kinds = page.extrasamples if 338 in page.tags else (2,) * (values.shape[2] - colours)
    for i, kind in enumerate(kinds):
        if kind in (1, 2) and alpha is None and colours + i < values.shape[2]:
            alpha = np.ascontiguousarray(values[:, :, colours + i])
            associated = kind == 1
        elif values.shape[2] > colours:
            notes.append("a further channel is left out")
    return alpha, associated, notes


def _is_plain(page: Any, needed: int) -> bool:
    alpha = page.photometric in (_BLACK_IS_ZERO, _RGB) and tuple(page.extrasamples) in ((1,), (2,))
    return page.samplesperpixel == needed + alpha


def _refuse_kinds(page: Any) -> None:
    if _RAW_CAMERA in page.tags:
        raise UnreadableImageError("is a camera's raw file (DNG); convert it to TIFF or JPEG")
    kinds = page.tags.valueof(339, default=1)
    kind = max(kinds) if isinstance(kinds, tuple) else kinds
    bits = page.bitspersample
    if kind not in (1, 4) or bits > 16:
        name = _KINDS.get(kind, "complex numbers or other values")
        raise UnreadableImageError(
            f"holds {bits}-bit {name}; convert it to 8 or 16 bits per channel (unsigned)"
        )
    if page.photometric in _NAMES:
        raise UnreadableImageError(
            f"holds {_NAMES[page.photometric]}, which are not read; convert it to RGB"
        )


def _decoded(page: Any, data: bytes) -> np.ndarray:
    """(H, W, samples) of the file's type, in this machine's order of bytes."""
    height, width, samples = page.imagelength, page.imagewidth, page.samplesperpixel
    compression, fill_order = int(page.compression), page.fillorder
    across, down = (
        (page.tilewidth, page.tilelength) if page.is_tiled else (width, page.rowsperstrip)
    )
    down = max(1, min(down, height) if not page.is_tiled else down)
    expected = -(-height // down) * -(-width // max(across, 1))
    planes = samples if page.planarconfig == 2 else 1
    if len(page.dataoffsets) < expected * planes:
        raise ValueError("parts are missing")
    row = across * (samples // planes) * page.bitspersample // 8
    # What is unpacked here is given to tifffile as if it had been stored so.
    page.compression = page.fillorder = 1
    out = np.zeros((page.shaped[0], *page.shaped[2:]), np.dtype(f"u{page.bitspersample // 8}"))
    for index in range(expected * planes):
        offset, length = page.dataoffsets[index], page.databytecounts[index]
        part = data[offset : offset + length]
        if len(part) < length or not length:
            raise ValueError(f"{max(length - len(part), 1)} bytes are missing")
        rows = down if page.is_tiled else min(down, height - index % -(-height // down) * down)
        if compression != 1 or fill_order != 1:
            part = _unpacked(part, compression, row, rows, fill_order)
        values, (plane, _, top, left, _), _ = page.decode(part, index)
        room = out[plane, top : top + values.shape[1], left : left + values.shape[2]]
        room[...] = values[0, : room.shape[0], : room.shape[1]]
    return np.moveaxis(out[..., 0], 0, 2) if planes > 1 else out[0]


def _unpacked(part: bytes, compression: int, row: int, rows: int, fill_order: int) -> bytes:
    """A strip or tile unpacked, as rows of bytes: by Pillow, as if it were a grey picture."""
    entries = [(256, 4, row), (257, 4, rows), (258, 3, 8), (259, 3, compression), (262, 3, 1)]
    entries += [(266, 3, fill_order), (273, 4, 8), (277, 3, 1), (278, 4, rows), (279, 4, len(part))]
    start = 8 + len(part) + len(part) % 2
    file = struct.pack("<2sHI", b"II", 42, start) + part.ljust(start - 8, b"\0")
    file += struct.pack("<H", len(entries))
    file += b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return opened(file + bytes(4), ("TIFF",)).tobytes()


def _divided(values: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Colours that were multiplied by alpha, as they were before; :func:`_multiplied` undoes it."""
    most = np.iinfo(values.dtype).max
    divisor = np.maximum(alpha, 1).astype(np.uint64)[:, :, None]
    whole = (values.astype(np.uint64) * most + divisor // 2) // divisor
    return np.minimum(whole, most).astype(values.dtype)


def multiplied(values: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """(H, W, C) colours multiplied by (H, W) alpha of the same type."""
    most = np.iinfo(values.dtype).max
    whole = (values.astype(np.uint64) * alpha[:, :, None] + most // 2) // most
    return whole.astype(values.dtype)


def tiff_contents(data: bytes) -> Contents:
    """What a TIFF's first directory holds beside the pixels."""
    found = Contents()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, on damage: that is told in a note
        _read_directory(data, found)
    return found


def _read_directory(data: bytes, found: Contents) -> None:
    try:
        whole, kept = Image.Exif(), Image.Exif()
        whole.endian = "<" if data[:2] == b"II" else ">"
        whole.bigtiff = b"+" in data[2:4]
        place = struct.unpack_from(whole.endian + ("8xQ" if whole.bigtiff else "4xI"), data)[0]
        whole.load_from_fp(io.BytesIO(data), place)
        for tag in (*DESCRIBING, ExifTags.Base.Orientation):
            if tag in whole:
                kept[tag] = whole.get_ifd(tag) if tag in tuple(ExifTags.IFD) else whole[tag]
        found.exif = kept.tobytes() if len(kept) else b""
        found.xmp = _bytes(whole.get(_XMP))
        found.icc = _bytes(whole.get(_ICC)) or None
        found.dpi = _resolution(whole)
        found.resources = with_caption(_bytes(whole.get(_RESOURCES)), _caption(whole, data))
    except Exception:  # broken, answered with whatever its parser ran into
        found.notes.append("its metadata is broken and left out")


def _resolution(whole: Image.Exif) -> tuple[float, float] | None:
    tags = ExifTags.Base
    if tags.XResolution not in whole or tags.YResolution not in whole:
        return None
    per_inch = {2: 1.0, 3: 2.54}.get(whole.get(tags.ResolutionUnit, 2))
    if per_inch is None:
        return None
    return float(whole[tags.XResolution]) * per_inch, float(whole[tags.YResolution]) * per_inch


def _bytes(value: Any) -> bytes:
    if isinstance(value, tuple) and value and isinstance(value[0], bytes):
        value = value[0]
    if isinstance(value, tuple) and all(isinstance(v, int) and 0 <= v < 256 for v in value):
        return bytes(value)
    return value if isinstance(value, bytes) else b""


def _caption(whole: Image.Exif, data: bytes) -> bytes:
    value = whole.get(_CAPTION)
    if isinstance(value, tuple) and value and all(isinstance(v, int) for v in value):
        # Written as 32-bit words by some; their bytes stand as they are in the file.
        order = "<" if data[:2] == b"II" else ">"
        return struct.pack(f"{order}{len(value)}I", *value).rstrip(b"\0")
    return _bytes(value)


def tiff_directory(contents: Contents) -> Image.Exif:
    """The entries for a new file that say what ``contents`` hold."""
    directory = Image.Exif()
    if contents.exif:
        directory.load(contents.exif)
    for tag in list(directory):
        if tag not in DESCRIBING:
            del directory[tag]
    if contents.xmp:
        directory[_XMP] = contents.xmp
    if caption := caption_of(contents.resources):
        directory[_CAPTION] = caption
    others = [one for one in parsed(contents.resources) if one[0] != 0x0404]
    if others:
        directory[_RESOURCES] = packed(others)
    return directory
