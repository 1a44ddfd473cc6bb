"""TIFF files: every way of storing grey and colour of 8 and 16 bits, read by tifffile."""

from __future__ import annotations

import io
import logging
import struct
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin

from fader.errors import UnreadableImageError
from fader.photo.formats import check_size, opened
from fader.photo.metadata import DESCRIBING, Contents
from fader.photo.photo import Photo, eight_bit, photo_of, photo_of_values
from fader.photo.resources import CAPTION, caption_of, packed, parsed, with_caption
from fader.words import plural

_XMP, _CAPTION, _RESOURCES, _ICC = 700, 33723, 34377, 34675
_RAW_CAMERA, _RAW_COLOURS = 50706, (32803, 34892)  # DNGVersion; a colour filter's, or linear
_CREDENTIALS, _LAYERS = 52545, 37724

_IS_RAW = "is a camera's raw file; convert it to TIFF or JPEG"

# Entries of a directory on how pixels are stored, and where; and what is read beside.
_STORAGE = frozenset(
    (
        *(*range(254, 260), *range(262, 267), 273, 274, *range(277, 285), *range(288, 294)),
        *(296, 297, 300, 301, *range(317, 348), *range(512, 533), 559, 34232),
        *(_XMP, _CAPTION, _RESOURCES, _ICC, _CREDENTIALS, _LAYERS, 40965),
    )
)
# An entry that nobody here knows is kept if it has no more bytes: no picture is as small.
_MOST_UNKNOWN = 1024

# Channels of each kind of colour: grey with white or black as zero, RGB, inks.
_WHITE_IS_ZERO = 0
_CHANNELS = {_WHITE_IS_ZERO: 1, 1: 1, 2: 3, 5: 4}
_WITH_ALPHA = (1, 2)
_NAMES = {
    **{4: "a mask", 8: "CIE L*a*b* colours", 9: "ICC L*a*b* colours", 10: "ITU L*a*b* colours"},
    **dict.fromkeys((32803, 34892), "a camera's raw values"),
    **{32844: "CIE Log luminances", 32845: "CIE Log colours"},
}
_KINDS = {1: "unsigned whole numbers", 2: "whole numbers with a sign", 3: "floating-point values"}
# Compressions that are formats of pictures themselves; Pillow reads them.
_PICTURES = {6, 7, 34892, 33003, 33005, 34712, 50001, 52546, 34887, 2, 3, 4}
# Those that lose nothing, in Pillow's words; a photo that had another one is written as deflate.
_LOSSLESS = {"raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "zstd"}


def read_tiff(data: bytes, contents: Contents) -> tuple[Photo, dict[str, Any], int] | None:
    """The first page as it looks, not turned; options that repeat its encoding; how many pages.

    None for what Pillow reads as well (palettes, bits, JPEG inside). What is not kept is noted in
    ``contents``.

    Raises :class:`~fader.errors.UnreadableImageError`, which names them, for kinds of values that
    are no photo's.
    """
    import tifffile

    if data[8:11] == b"CR\2":
        raise UnreadableImageError(_IS_RAW)
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages.first
            check_size(page.imagewidth, page.imagelength)
            if not (page.imagewidth and page.imagelength and page.samplesperpixel):
                raise UnreadableImageError("has no pixels")
            needed = _channels(page)
            if needed is None:
                return None
            compression = int(page.compression)
            values, alpha, associated = _values(page, data, needed, contents.notes)
            pages = len(file.pages)
    except UnreadableImageError:
        raise
    except Exception as error:  # broken, answered with any exception there is
        reason = " ".join(str(error).split(" <_io")[0].split())[:200] or type(error).__name__
        raise UnreadableImageError(f"broken or cut short ({reason})") from None
    encoding = tiff_encoding(TiffImagePlugin.COMPRESSION_INFO.get(compression, ""))
    if needed == 4:
        photo = photo_of(Image.fromarray(eight_bit(values), "CMYK"), "TIFF", contents)
        photo = replace(photo, alpha=None if alpha is None else eight_bit(alpha))
        if values.dtype == np.uint16:
            contents.notes.append("written with 8 bits per channel, not 16")
    else:
        photo = photo_of_values(values, alpha)
    if associated and photo.deep is not None:
        encoding["associated"] = True
    return photo, encoding, pages


def tiff_encoding(compression: str) -> dict[str, Any]:
    """Options of Pillow's writer for what loses nothing, as ``compression`` in its words or so."""
    compression = compression if compression in _LOSSLESS else "tiff_adobe_deflate"
    return {"compression": None if compression == "raw" else compression}


def _channels(page: Any) -> int | None:
    """How many channels of colour are to be read here, None where Pillow is to read the page."""
    _refuse_kinds(page)
    bits, compression = page.bitspersample, int(page.compression)
    planes = page.planarconfig == 2 and page.samplesperpixel > 1
    needed = _CHANNELS.get(page.photometric)
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
    if reason or needed is None:
        return None
    if bits == 8 and not planes:  # what is plain Pillow reads faster
        alpha = page.photometric in _WITH_ALPHA and tuple(page.extrasamples) in ((1,), (2,))
        return None if page.samplesperpixel == needed + alpha else needed
    return needed


def _values(
    page: Any, data: bytes, colours: int, notes: list[str]
) -> tuple[np.ndarray, np.ndarray | None, bool]:
    """Pixels (H, W, colours) as they look, an alpha (H, W), and whether they were multiplied by it.

    They are uint8 or uint16.
    """
    values = _decoded(page, data)
    if values.shape[2] < colours:
        raise UnreadableImageError("broken or cut short (it has too few channels)")
    alpha, associated = None, False
    # A channel too many of which nothing is said is an alpha, as OpenCV writes it.
    kinds = page.extrasamples if 338 in page.tags else (2,) * (values.shape[2] - colours)
    for i, kind in enumerate(kinds, colours):
        if kind in (1, 2) and alpha is None and i < values.shape[2]:
            alpha, associated = np.ascontiguousarray(values[:, :, i]), kind == 1
        elif values.shape[2] > colours:
            notes.append("a further channel is left out")
    main = values[:, :, :colours]
    if page.photometric == _WHITE_IS_ZERO:
        main = np.iinfo(values.dtype).max - main
    if alpha is not None and associated:
        main = _divided(main, alpha)
    return np.ascontiguousarray(main), alpha, associated


def _refuse_kinds(page: Any) -> None:
    if _RAW_CAMERA in page.tags or _has_raw_page(page):
        raise UnreadableImageError(_IS_RAW)
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


def _has_raw_page(page: Any) -> bool:
    """Whether a page is only the preview of a camera's raw values, which are below or behind it."""
    if not page.is_reduced:
        return False
    pages = [*(page.pages or ()), *page.parent.pages[:8]]
    return any(getattr(one, "photometric", None) in _RAW_COLOURS for one in pages)


def _decoded(page: Any, data: bytes) -> np.ndarray:
    """(H, W, samples) of the file's type, in this machine's order of bytes."""
    height, width, samples = page.imagelength, page.imagewidth, page.samplesperpixel
    compression, fill_order = int(page.compression), page.fillorder
    if page.is_tiled:
        across, down = page.tilewidth, max(1, page.tilelength)
    else:
        across, down = width, max(1, min(page.rowsperstrip, height))
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
            missing = plural(max(length - len(part), 1), "byte is", "bytes are")
            raise ValueError(f"{missing} missing")
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
    """Colours that were multiplied by alpha, as they were before; :func:`multiplied` undoes it."""
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
    found, whole, kept = Contents(), Image.Exif(), Image.Exif()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, on damage: that is told in a note
        try:
            whole.endian = "<" if data[:2] == b"II" else ">"
            whole.bigtiff = b"+" in data[2:4]
            place = struct.unpack_from(whole.endian + ("8xQ" if whole.bigtiff else "4xI"), data)[0]
            whole.load_from_fp(io.BytesIO(data), place)
            for tag in whole:
                if tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
                    kept[tag] = whole.get_ifd(tag)
                elif tag in (*DESCRIBING, ExifTags.Base.Orientation) or _is_small(whole, tag):
                    kept[tag] = whole[tag]
                elif tag not in _STORAGE:
                    found.others.append(f"entry {tag}")
            if _CREDENTIALS in whole:
                found.gone.append("content credentials (C2PA)")
            if _LAYERS in whole:
                found.notes.append("its layers are left out")
            found.exif = kept.tobytes() if len(kept) else b""
            found.xmp = _bytes(whole.get(_XMP))
            found.icc = _bytes(whole.get(_ICC)) or None
            found.dpi = _resolution(whole)
            found.resources = with_caption(_bytes(whole.get(_RESOURCES)), _caption(whole, data))
        except Exception:  # broken, answered with whatever its parser ran into
            found.notes.append("its metadata is broken and left out")
    return found


def _is_small(whole: Image.Exif, tag: int) -> bool:
    """Whether an entry of unknown meaning is too small to show the photo."""
    if tag in _STORAGE:
        return False
    value = whole[tag]
    if isinstance(value, tuple):
        return 8 * len(value) <= _MOST_UNKNOWN
    return not isinstance(value, bytes | str) or len(value) <= _MOST_UNKNOWN


def _resolution(whole: Image.Exif) -> tuple[float, float] | None:
    tags = ExifTags.Base
    x, y = whole.get(tags.XResolution), whole.get(tags.YResolution)
    per_inch = {2: 1.0, 3: 2.54}.get(whole.get(tags.ResolutionUnit, 2))
    if x is None or y is None or per_inch is None:
        return None
    return float(x) * per_inch, float(y) * per_inch


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
    for tag in _STORAGE & set(directory):
        del directory[tag]
    others = packed([one for one in parsed(contents.resources) if one[0] != CAPTION])
    caption = caption_of(contents.resources)
    for tag, value in {_XMP: contents.xmp, _CAPTION: caption, _RESOURCES: others}.items():
        if value:
            directory[tag] = value
    return directory


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
