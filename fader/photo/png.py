"""PNG files as chunks: what they hold beside the pixels, and how it is put back."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from fader.errors import UnreadableImageError
from fader.photo.exif import PREFIX
from fader.photo.metadata import Contents
from fader.photo.resources import parsed, with_caption

SIGNATURE = b"\x89PNG\r\n\x1a\n"
XMP_KEY = b"XML:com.adobe.xmp"

# What Pillow needs to see; the rest is read here, where it cannot make it refuse the picture.
_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"pHYs")
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
# Chunks that describe the photo whatever way its pixels are stored, and those that do if the way
# (bits and colours, told by the header) stays the same.
_DESCRIBING = frozenset(b"gAMA cHRM cICP sRGB mDCV mDCv cLLI cLLi tIME oFFs sCAL pCAL sTER".split())
_LIKE_PIXELS = (b"sBIT", b"bKGD")
_BEFORE_PALETTE = frozenset((b"gAMA", b"cHRM", b"cICP", b"sRGB", b"sBIT", b"mDCV", b"cLLI"))

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
    found, pixels, frames = Contents(), [SIGNATURE], 1
    damaged: dict[str, None] = {}
    ended = False
    for kind, start, stop, whole in _chunks(data):
        payload = data[start:stop]
        if kind == b"IEND":
            ended = True
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
    if damaged:
        found.notes.append(f"damaged parts beside the pixels left out ({', '.join(damaged)})")
    if not ended:
        found.notes.append("its end is missing")
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
        _, _, packed = payload.partition(b"\0")
        found.icc = _unpacked(packed[1:]) or None
    elif kind == b"caBX":
        found.gone.append("content credentials (C2PA)")


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int, bool]]:
    """(kind, start and stop of the content, whether it is whole) of each chunk."""
    place = len(SIGNATURE)
    while place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        start, stop = place + 8, place + 8 + length
        check = data[stop : stop + 4]
        whole = check == struct.pack(">I", zlib.crc32(memoryview(data)[place + 4 : stop]))
        if kind == b"IDAT" and not whole and len(check) < 4:
            return  # cut short: Pillow tells whether all rows are there
        yield kind, start, stop, whole
        place = stop + 4


def take_text(found: Contents, kind: bytes, payload: bytes) -> None:
    """Put a text where it belongs: some hold EXIF, XMP, captions or a profile."""
    key, _, rest = payload.partition(b"\0")
    folded = key.lower()
    if key == XMP_KEY:
        found.xmp = _text(kind, rest) or found.xmp
    elif folded.startswith(b"raw profile type "):
        _take_profile(found, folded.rpartition(b" ")[2], _text(kind, rest))
    elif folded.rpartition(b":")[2] == b"orientation":
        found.chunks.append((b"tEXt", key + b"\x001"))
    elif folded in (b"exif:thumbnail", b"thumbnail", b"thumb::image"):
        return
    else:
        found.chunks.append((kind, payload))


def _take_profile(found: Contents, kind: bytes, text: bytes) -> None:
    """A block written out in hexadecimal digits, as ImageMagick does."""
    lines = text.strip().split(b"\n", 2)
    try:
        block = bytes.fromhex(b"".join(lines[2].split()).decode("ascii"))
    except (ValueError, IndexError):
        return
    is_exif = block.startswith((PREFIX, b"II*\0", b"MM\0*"))
    if kind in (b"exif", b"app1") and is_exif:
        found.exif = found.exif or PREFIX + block.removeprefix(PREFIX)
    elif kind in (b"xmp", b"app1"):
        found.xmp = found.xmp or block.removeprefix(b"http://ns.adobe.com/xap/1.0/\0")
    elif kind in (b"iptc", b"8bim"):
        block = block.removeprefix(b"Photoshop 3.0\0")
        found.resources = found.resources or (block if parsed(block) else with_caption(b"", block))
    elif kind in (b"icc", b"icm"):
        found.icc = found.icc or block


def _text(kind: bytes, rest: bytes) -> bytes:
    if kind == b"zTXt":
        return _unpacked(rest[1:])
    if kind == b"iTXt":
        packed = rest[:1] == b"\1"
        text = rest[2:].split(b"\0", 2)[-1]
        return _unpacked(text) if packed else text
    return rest


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
    place = len(SIGNATURE) + 25
    early, late = _described(contents, encoded[24:26], software)
    if contents.exif:
        late.append(chunk(b"eXIf", contents.exif.removeprefix(PREFIX)))
    if contents.xmp:
        late.append(chunk(b"iTXt", XMP_KEY + b"\0\0\0\0\0" + contents.xmp))
    if contents.resources:
        digits = contents.resources.hex().encode()
        lines = b"\n".join(digits[i : i + 72] for i in range(0, len(digits), 72))
        text = b"\niptc\n%8d\n" % len(contents.resources) + lines + b"\n"
        late.append(chunk(b"zTXt", b"Raw profile type iptc\0\0" + zlib.compress(text)))
    for comment in contents.comments:
        text = comment.rstrip(b"\0").decode("utf-8", "replace").encode()
        late.append(chunk(b"iTXt", b"Comment\0\0\0\0\0" + text))
    if software:
        late.append(chunk(b"tEXt", b"Software\0" + software.encode("latin-1", "replace")))
    return b"".join((encoded[:place], *early, *late, encoded[place:]))


def _described(
    contents: Contents, pixels: bytes, software: str | None
) -> tuple[list[bytes], list[bytes]]:
    """The chunks before and after the palette; ``pixels`` is the header's bits and colours."""
    early: list[bytes] = []
    late: list[bytes] = []
    if contents.icc:
        early.append(chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(contents.icc)))
    same_pixels = False
    for kind, payload in contents.chunks:
        if kind == b"IHDR":
            same_pixels = payload == pixels
            continue
        replaced = software and kind in _TEXTS and payload.partition(b"\0")[0] == b"Software"
        untrue = kind in _LIKE_PIXELS and not same_pixels
        if not (replaced or untrue or (contents.icc and kind == b"sRGB")):
            (early if kind in _BEFORE_PALETTE else late).append(chunk(kind, payload))
    return early, late
