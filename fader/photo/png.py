"""PNG files as chunks: what they hold beside the pixels, and how it is put back; and pixels of 16
bits per channel in colour, which Pillow reads and writes with 8 only."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np

from fader.errors import UnreadableImageError
from fader.photo.exif import PREFIX, is_tiff, without_jpegs
from fader.photo.metadata import Contents
from fader.photo.resources import merged, parsed, with_caption
from fader.photo.xmp import is_picture

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_XMP_KEY = b"XML:com.adobe.xmp"

# What Pillow needs to see; the rest is read here, where it cannot make it refuse the picture.
_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"pHYs")
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
# Chunks that describe the photo whatever way its pixels are stored, and those that do if the way
# (bits and colours, told by the header) stays the same.
_DESCRIBING = frozenset(b"gAMA cHRM cICP sRGB mDCV mDCv cLLI cLLi tIME oFFs sCAL pCAL sTER".split())
_LIKE_PIXELS = (b"sBIT", b"bKGD")
_BEFORE_PALETTE = frozenset((b"gAMA", b"cHRM", b"cICP", b"sRGB", b"sBIT", b"mDCV", b"cLLI"))

# Those that are about the pixels alone; of others left out there is a note.
_TECHNICAL = frozenset(b"PLTE tRNS IDAT hIST sPLT fcTL fdAT iDOT vpAg caNv orNT".split())
# Texts that are a picture of the photo, however it is written.
_THUMBNAILS = (b"exif:thumbnail", b"thumbnail", b"thumb::image")
NO_END = "its end is missing"
BROKEN_PROFILE = "its colour profile is broken and left out"

# The most that a compressed text is unpacked to.
_MOST_TEXT = 16_000_000


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk with its length and check."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_contents(data: bytes) -> tuple[bytes, Contents, int]:
    """A PNG of nothing but its pixels, what it holds beside them, and its number of frames.

    Damage outside of the pixels is passed over, and noted.

    Raises :class:`~fader.errors.UnreadableImageError` where the pixels' own chunks are damaged.
    """
    found, pixels, frames = Contents(), [_SIGNATURE], 1
    damaged: dict[str, None] = {}
    for kind, start, stop, whole in _chunks(data):
        payload = data[start:stop]
        if kind == b"IEND":
            break
        if kind == b"IDAT" and stop + 4 > len(data):
            # Cut short: Pillow tells whether all rows are there.
            pixels.append(chunk(kind, payload))
            found.notes.append(NO_END)
            break
        if not whole:
            if kind in (b"IHDR", b"PLTE", b"IDAT"):
                raise UnreadableImageError(f"broken or cut short (in {kind.decode()})")
            damaged[kind.decode("latin-1")] = None
        elif kind == b"acTL" and len(payload) >= 4:
            frames = max(1, struct.unpack_from(">I", payload)[0])
        else:
            if kind in _PIXELS:
                pixels.append(data[start - 8 : stop + 4])
            _take_chunk(found, kind, payload)
    else:
        found.notes.append(NO_END)
    if damaged:
        found.notes.insert(0, f"damaged parts beside the pixels left out ({', '.join(damaged)})")
    return b"".join((*pixels, chunk(b"IEND", b""))), found, frames


def _take_chunk(found: Contents, kind: bytes, payload: bytes) -> None:
    """Put what a chunk says of the photo where it belongs."""
    if kind == b"IHDR":
        found.chunks.append((kind, payload[8:10]))
    elif kind == b"pHYs" or kind in _DESCRIBING or kind in _LIKE_PIXELS:
        found.chunks.append((kind, payload))
    elif kind in _TEXTS:
        take_text(found, kind, payload)
    elif kind == b"eXIf":
        found.exif = PREFIX + payload.removeprefix(PREFIX)
    elif kind == b"iCCP":
        found.icc = _unpacked(payload.partition(b"\0")[2][1:]) or None
        if found.icc is None:
            found.notes.append(BROKEN_PROFILE)
    elif kind == b"caBX":
        found.gone.append("content credentials (C2PA)")
    elif kind not in _TECHNICAL:
        found.others.append(kind.decode("ascii", "backslashreplace"))


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int, bool]]:
    """(kind, start and stop of the content, whether it is whole) of each chunk."""
    place = len(_SIGNATURE)
    while place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        start, stop = place + 8, place + 8 + length
        check = data[stop : stop + 4]
        whole = check == struct.pack(">I", zlib.crc32(memoryview(data)[place + 4 : stop]))
        yield kind, start, stop, whole
        place = stop + 4


def take_text(found: Contents, kind: bytes, payload: bytes) -> None:
    """Put a text where it belongs: some hold EXIF, XMP, captions or a profile."""
    key, _, text = payload.partition(b"\0")
    folded = key.lower()
    if key == _XMP_KEY:
        found.xmp = _text(kind, text) or found.xmp
    elif folded.startswith(b"raw profile type "):
        _take_profile(found, folded[len(b"raw profile type ") :], _text(kind, text))
    elif folded.rpartition(b":")[2] == b"orientation":
        found.chunks.append((b"tEXt", key + b"\x001"))
    elif folded not in _THUMBNAILS and not _shows_the_photo(_text(kind, text)):
        found.chunks.append((kind, payload))


def _shows_the_photo(text: bytes) -> bool:
    """Whether a text is a picture, or has one in it."""
    return is_picture(text.decode("latin-1")) or without_jpegs(text) != text


def _take_profile(found: Contents, kind: bytes, text: bytes) -> None:
    """A block written out in hexadecimal digits, as ImageMagick does."""
    name = kind.decode("ascii", "backslashreplace")[:20]
    lines = text.strip().split(b"\n", 2)
    try:
        block = bytes.fromhex(b"".join(lines[2].split()).decode("ascii"))
    except (ValueError, IndexError):
        block = b""
    if not block:
        found.others.append(f"broken raw profile {name!r}")
    elif kind in (b"exif", b"app1") and (block.startswith(PREFIX) or is_tiff(block)):
        found.exif = found.exif or PREFIX + block.removeprefix(PREFIX)
    elif kind in (b"xmp", b"app1"):
        found.xmp = found.xmp or block.removeprefix(b"http://ns.adobe.com/xap/1.0/\0")
    elif kind in (b"iptc", b"8bim"):
        block = block.removeprefix(b"Photoshop 3.0\0")
        block = block if parsed(block) else with_caption(b"", block)
        found.resources = merged(found.resources, block) if found.resources else block
    elif kind in (b"icc", b"icm"):
        found.icc = found.icc or block
    else:
        found.others.append(f"raw profile {name!r}")


def _text(kind: bytes, text: bytes) -> bytes:
    if kind == b"zTXt":
        return _unpacked(text[1:])
    if kind == b"iTXt":
        packed = text[:1] == b"\1"
        text = text[2:].split(b"\0", 2)[-1]
        return _unpacked(text) if packed else text
    return text


def _unpacked(data: bytes) -> bytes:
    """What ``data`` holds, b"" where that is broken or beyond measure."""
    stream = zlib.decompressobj()
    try:
        text = stream.decompress(data, _MOST_TEXT)
    except zlib.error:
        return b""
    return b"" if stream.unconsumed_tail else text


def with_contents(encoded: bytes, contents: Contents, software: str | None) -> bytes:
    """A plain PNG with ``contents`` and the name of a program put in."""
    early, late = _described(contents, encoded[24:26], software)
    if contents.exif:
        late.append((b"eXIf", contents.exif.removeprefix(PREFIX)))
    if contents.xmp:
        late.append((b"iTXt", _XMP_KEY + b"\0\0\0\0\0" + contents.xmp))
    if contents.resources:
        digits = contents.resources.hex().encode()
        lines = b"\n".join(digits[i : i + 72] for i in range(0, len(digits), 72))
        text = b"\niptc\n%8d\n" % len(contents.resources) + lines + b"\n"
        late.append((b"zTXt", b"Raw profile type iptc\0\0" + zlib.compress(text)))
    for comment in contents.comments:
        text = comment.rstrip(b"\0").decode("utf-8", "replace").encode()
        late.append((b"iTXt", b"Comment\0\0\0\0\0" + text))
    if software:
        late.append((b"tEXt", b"Software\0" + software.encode("latin-1", "replace")))
    place = len(_SIGNATURE) + 25
    return encoded[:place] + b"".join(chunk(*one) for one in early + late) + encoded[place:]


_Chunks = list[tuple[bytes, bytes]]


def _described(contents: Contents, pixels: bytes, software: str | None) -> tuple[_Chunks, _Chunks]:
    """The chunks before and after the palette; ``pixels`` is the header's bits and colours."""
    early, late = _Chunks(), _Chunks()
    if contents.icc:
        early.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(contents.icc)))
    same_pixels = False
    for kind, payload in contents.chunks:
        if kind == b"IHDR":
            same_pixels = payload == pixels
            continue
        replaced = software and kind in _TEXTS and payload.partition(b"\0")[0] == b"Software"
        untrue = kind in _LIKE_PIXELS and not same_pixels
        if not (replaced or untrue or (contents.icc and kind == b"sRGB")):
            (early if kind in _BEFORE_PALETTE else late).append((kind, payload))
    return early, late


def completed(data: bytes) -> bytes:
    """A PNG of nothing but its pixels, whose compressed data lack their end, with one."""
    width, height = struct.unpack_from(">II", data, 16)
    packed, others = b"", [_SIGNATURE]
    for kind, start, stop, _ in _chunks(data):
        if kind == b"IDAT":
            packed += data[start:stop]
        elif kind != b"IEND":
            others.append(chunk(kind, data[start:stop]))
    try:
        rows = zlib.decompressobj().decompress(packed, 16 * (width + 1) * (height + 8))
    except zlib.error:
        return data
    return b"".join((*others, chunk(b"IDAT", zlib.compress(rows, 1)), chunk(b"IEND", b"")))


def read_deep_png(data: bytes) -> np.ndarray | None:
    """A PNG's pixels as stored, not turned: (H, W, 1..4) uint16 in the order R, G, B, A.

    None when OpenCV does not find 16 bits in it.
    """
    import cv2

    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16:
        return None
    values = values if values.ndim == 3 else values[:, :, None]
    colours = values.shape[2]
    return values[:, :, [2, 1, 0, *range(3, colours)]] if colours >= 3 else values


def deep_png(values: np.ndarray) -> bytes:
    """(H, W, 1..4) uint16 as a PNG of pixels alone."""
    height, width, channels = values.shape
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    # Filter 2 of the PNG specification, "up": each row as its difference from the one above.
    rows = values.astype(">u2").view(np.uint8).reshape(height, -1)
    filtered = np.full((height, 1 + rows.shape[1]), 2, np.uint8)
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    chunks = {b"IHDR": header, b"IDAT": zlib.compress(filtered.data, 6), b"IEND": b""}
    return _SIGNATURE + b"".join(chunk(*one) for one in chunks.items())
