"""JPEG files as segments: what they hold beside the pixels, and how it is put back."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator

import numpy as np
from PIL import Image

from fader.photo.exif import PREFIX, is_tiff
from fader.photo.metadata import Contents
from fader.photo.xmp import extension_name, split_xmp, without_extension

_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"
_PHOTOSHOP = b"Photoshop 3.0\0"
_ICC = b"ICC_PROFILE\0"
_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1\0"

#: The most bytes a segment holds, without its length.
MOST = 65_533

_APP1, _APP2, _APP11, _APP13, _COMMENT = 0xE1, 0xE2, 0xEB, 0xED, 0xFE
_PROGRESSIVE, _HUFFMAN, _START_OF_SCAN, _END = 0xC2, 0xC4, 0xDA, 0xD9
# How the standard's table for the brightness of pictures begins (ITU-T T.81, table K.5): its class
# and number, and how many codes of each length it has.
_STANDARD_TABLE = bytes.fromhex("10 00020103 03020403 05050404 0000017d")
# In the pixels, what is neither a stuffed byte nor a restart.
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def jpeg_contents(data: bytes) -> Contents:
    """What a JPEG's segments hold, and what comes after the picture."""
    found = Contents()
    extensions: dict[bytes, dict[int, bytes]] = {}
    rest = b""
    for marker, start, stop in _segments(data):
        payload = data[start:stop]
        if marker == _END:
            rest = data[stop:]
        elif marker == _APP1 and payload.startswith(PREFIX):
            _take_exif(found, payload)
        elif marker == _APP1 and payload.startswith(_XMP):
            found.xmp = found.xmp or payload[len(_XMP) :]
        elif marker == _APP1 and payload.startswith(_EXTENSION):
            place = len(_EXTENSION)
            if len(payload) >= place + 40:
                name, _, offset = struct.unpack_from(">32sII", payload, place)
                extensions.setdefault(name, {})[offset] = payload[place + 40 :]
        else:
            _take_other(found, marker, payload)
    named = [parts for name, parts in extensions.items() if name in found.xmp]
    for parts in named[:1]:
        found.extension = b"".join(parts[offset] for offset in sorted(parts))
    _look_behind(found, rest)
    return found


def has_standard_tables(data: bytes) -> bool:
    """Whether a JPEG is coded by the standard's Huffman tables, not by ones made for the picture:
    2 % more bytes, and less than half the time to write."""
    for marker, start, stop in _segments(data):
        if marker == _START_OF_SCAN:
            break
        if marker == _HUFFMAN and _STANDARD_TABLE in data[start:stop]:
            return True
    return False


def _take_exif(found: Contents, payload: bytes) -> None:
    block = payload[len(PREFIX) :]
    if not found.exif:
        found.exif = payload
    elif is_tiff(block):
        found.more_exif.append(payload)
    else:  # a block too long for one segment goes on
        found.exif += block


def _take_other(found: Contents, marker: int, payload: bytes) -> None:
    """Keep a segment's captions or comment, or note what is left out."""
    if marker == _APP13 and payload.startswith(_PHOTOSHOP):
        found.resources += payload[len(_PHOTOSHOP) :]
    elif marker == _COMMENT:
        found.comments.append(payload)
    elif marker == _APP11 and b"jumb" in payload[:64]:
        found.gone.append("content credentials (C2PA)")
    elif marker == _APP2 and payload.startswith(_GAIN_MAP):
        found.gone.append("gain map")


def _look_behind(found: Contents, rest: bytes) -> None:
    rest = rest.strip(b"\0")
    if b"ftyp" in rest[:4096] or b"MotionPhoto_Data" in rest:
        found.gone.append("video")
    elif b"HDRGainMap" in rest or b"hdr-gain-map" in rest:
        found.gone.append("gain map")
    elif len(rest) > 4096 and b"\xff\xd8\xff" not in rest[:4096]:
        found.notes.append(f"{len(rest) // 1000} kB of other data behind the picture left out")


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start and stop of its payload) of each segment up to the picture's end."""
    place = 2
    while place + 4 <= len(data) or data[place : place + 2] == b"\xff\xd9":
        if data[place] != 0xFF:  # rubbish between segments, passed over as decoders do
            place = data.find(b"\xff", place)
            if place < 0:
                return
            continue
        marker = data[place + 1]
        if marker == 0xFF:
            place += 1
        elif marker == _END:
            yield marker, place, place + 2
            return
        elif marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:
            place += 2
        else:
            (length,) = struct.unpack_from(">H", data, place + 2)
            stop = place + 2 + max(length, 2)
            yield marker, place + 4, stop
            place = stop
            if marker == _START_OF_SCAN:
                following = _NEXT_MARKER.search(data, place)
                if not following:
                    return
                place = following.start()


def with_contents(encoded: bytes, contents: Contents) -> tuple[bytes, list[str]]:
    """A plain JPEG with ``contents`` put in; and phrases on what found no room."""
    place, notes = 2, list[str]()
    while encoded[place + 1] == 0xE0:  # JFIF comes first
        place += 2 + struct.unpack_from(">H", encoded, place + 2)[0]
    parts = [encoded[:place]]
    parts += _exif_segments(contents, notes)
    parts += _xmp_segments(contents, notes)
    parts += _icc_segments(contents.icc or b"", notes)
    for piece in _pieces(contents.resources, MOST - len(_PHOTOSHOP)):
        parts.append(_segment(_APP13, _PHOTOSHOP + piece))
    parts += [_segment(_COMMENT, comment[:MOST]) for comment in contents.comments]
    return b"".join((*parts, encoded[place:])), notes


def _exif_segments(contents: Contents, notes: list[str]) -> list[bytes]:
    pieces = _pieces(contents.exif[len(PREFIX) :], MOST - len(PREFIX))
    if any(map(is_tiff, pieces[1:])):
        notes.append("its EXIF, which is too large for a JPEG")
        pieces = []
    blocks = [PREFIX + piece for piece in pieces]
    blocks += [block for block in contents.more_exif if len(block) <= MOST]
    return [_segment(_APP1, block) for block in blocks]


def _xmp_segments(contents: Contents, notes: list[str]) -> list[bytes]:
    if not contents.xmp:
        return []
    main, extension, name = split_xmp(contents.xmp, MOST - len(_XMP))
    if contents.extension and extension:  # there is one place for two
        main, extension, name = split_xmp(without_extension(contents.xmp), MOST - len(_XMP))
        notes.append("the second part of its XMP, which is broken")
    elif contents.extension:
        extension, name = contents.extension, extension_name(main).decode()
    parts = [_segment(_APP1, _XMP + main)] if main else []
    if not main:
        notes.append("its XMP, which is too large for a JPEG")
    room = MOST - len(_EXTENSION) - 40
    for number, piece in enumerate(_pieces(extension, room)):
        head = struct.pack(">32sII", name.encode(), len(extension), number * room)
        parts.append(_segment(_APP1, _EXTENSION + head + piece))
    return parts


def _icc_segments(icc: bytes, notes: list[str]) -> list[bytes]:
    pieces = _pieces(icc, MOST - len(_ICC) - 2)
    if len(pieces) > 255:
        notes.append("its colour profile, which is too large for a JPEG")
        return []
    return [
        _segment(_APP2, _ICC + bytes((number, len(pieces))) + piece)
        for number, piece in enumerate(pieces, 1)
    ]


def _pieces(data: bytes, room: int) -> list[bytes]:
    return [data[i : i + room] for i in range(0, len(data), room)]


def _segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def mended(data: bytes) -> bytes | None:
    """A JPEG whose end was cut off with an end of ours, if next to nothing of the picture is gone.

    That is so if only a few pixels of the last 16 rows change when other bytes follow what is
    there: a hundredth of the picture, or one block. None for other ones.
    """
    if not _has_all_scans(data):
        return None
    # Decoders go on with zeros where the data ends, so what follows has to be something else.
    ends = [data + b"\xff\xd9", data + bytes(range(1, 255)) + b"\xff\xd9"]
    if data.endswith(b"\xff"):
        ends = [data[:-1] + end[len(data) :] for end in ends]
    try:
        pictures = []
        for end in ends:
            with Image.open(io.BytesIO(end), formats=["JPEG"]) as image:
                pictures.append(np.asarray(image))
    except Exception:  # broken, answered with any exception there is
        return None
    first, second = pictures
    differing = (first != second).reshape(*first.shape[:2], -1).any(axis=2)
    few = differing.sum() <= max(256, differing.size // 100)
    return ends[0] if few and not differing[:-16].any() else None


def _has_all_scans(data: bytes) -> bool:
    """Whether every coefficient of a progressive JPEG is begun to be told down to its last bit."""
    missing: set[tuple[int, int]] = set()
    for marker, start, stop in _segments(data):
        payload = data[start:stop]
        if marker == _PROGRESSIVE and len(payload) >= 6:
            components = payload[6 : 6 + 3 * payload[5] : 3]
            missing = {(component, i) for component in components for i in range(64)}
        elif marker == _START_OF_SCAN and len(payload) >= 4:
            count = payload[0]
            first, last, precision = (*payload[1 + 2 * count : 4 + 2 * count], 0, 0, 1)[:3]
            if precision & 15 == 0:
                scanned = payload[1 : 1 + 2 * count : 2]
                missing -= {(one, i) for one in scanned for i in range(first, last + 1)}
    return not missing
