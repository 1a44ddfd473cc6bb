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
_PHOTOSHOP, _OLD_PHOTOSHOP = b"Photoshop 3.0\0", b"Adobe_Photoshop2.5:"
_ICC = b"ICC_PROFILE\0"
_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1\0"

#: The most bytes a segment holds, without its length.
MOST = 65_533

_APP1, _APP2, _APP11, _APP13, _COMMENT = 0xE1, 0xE2, 0xEB, 0xED, 0xFE
_APPS = range(0xE0, 0xF0)
_PROGRESSIVE, _HUFFMAN, _START_OF_SCAN, _END = 0xC2, 0xC4, 0xDA, 0xD9
# How the standard's table for the brightness of pictures begins (ITU-T T.81, table K.5): its class
# and number, and how many codes of each length it has.
_STANDARD_TABLE = bytes.fromhex("10 00020103 03020403 05050404 0000017d")
# Segments that say nothing of a photo but how it was compressed, where its previews are, and what
# is read elsewhere.
_TECHNICAL = re.compile(
    rb"JFIF|JFXX|MPF\x00|Adobe|SPIFF|AVI1|Q \d|Ducky\x00\x01\x00\x04....(\x00\x00|$)", re.DOTALL
)
_NAME = re.compile(rb"\W{0,2}([\w .-]{1,20})")
# The frames of nearly all JPEGs, and others: lossless, hierarchical, JPEG-LS.
_USUAL_FRAMES = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)
_UNUSUAL_FRAMES = (0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7)
# In the pixels, what is neither a stuffed byte nor a restart.
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def jpeg_contents(data: bytes) -> Contents:
    """What a JPEG's segments hold, and what comes after the picture."""
    found = Contents()
    extensions: dict[bytes, dict[int, bytes]] = {}
    rest = b""
    for marker, payload, stop in _segments(data):
        if marker == _END:
            rest = data[stop:]
        elif marker == _APP1 and payload.startswith(PREFIX):
            block = payload[len(PREFIX) :]
            if found.exif and is_tiff(block):
                found.more_exif.append(payload)
            else:  # a block too long for one segment goes on
                found.exif += block if found.exif else payload
        elif marker == _APP1 and payload.startswith(_XMP):
            if found.xmp and found.xmp != payload[len(_XMP) :]:
                found.others.append("a second XMP packet")
            found.xmp = found.xmp or payload[len(_XMP) :]
        elif marker == _APP1 and payload.startswith(_EXTENSION):
            place = len(_EXTENSION)
            if len(payload) >= place + 40:
                name, _, offset = struct.unpack_from(">32sII", payload, place)
                extensions.setdefault(name, {})[offset] = payload[place + 40 :]
        else:
            _take_other(found, marker, payload)
    named = (parts for name, parts in extensions.items() if name in found.xmp)
    found.extension = b"".join(part for _, part in sorted(next(named, {}).items()))
    _look_behind(found, rest)
    return found


def has_standard_tables(data: bytes) -> bool:
    """Whether a JPEG is coded by the standard's Huffman tables, not by ones made for the picture:
    2 % more bytes, and less than half the time to write."""
    for marker, payload, _ in _segments(data):
        if marker == _START_OF_SCAN:
            break
        if marker == _HUFFMAN and _STANDARD_TABLE in payload:
            return True
    return False


def unusual(data: bytes) -> str:
    """What is unusual about a JPEG, so that it is not read; "" for nothing."""
    for marker, payload, _ in _segments(data):
        if marker in _UNUSUAL_FRAMES:
            return "is a lossless or otherwise unusual JPEG, which is not read"
        if marker in _USUAL_FRAMES and payload[:1] not in (b"", b"\x08"):
            return f"is a JPEG of {payload[0]} bits per channel, which is not read"
    return ""


def _take_other(found: Contents, marker: int, payload: bytes) -> None:
    """Keep a segment's captions or comment, or note what is left out."""
    if marker == _APP13 and payload.startswith((_PHOTOSHOP, _OLD_PHOTOSHOP)):
        found.resources += payload.removeprefix(_PHOTOSHOP).removeprefix(_OLD_PHOTOSHOP)
    elif marker == _COMMENT:
        found.comments.append(payload)
    elif marker == _APP11 and b"jumb" in payload[:64]:
        found.gone.append("content credentials (C2PA)")
    elif marker == _APP2 and payload.startswith(_GAIN_MAP):
        found.gone.append("gain map")
    elif marker == _APP2 and payload.startswith(_ICC):
        found.icc = b""  # there is one, which Pillow puts together
    elif marker in _APPS and not _TECHNICAL.match(payload):
        name = _NAME.match(payload)
        found.others.append(
            f"APP{marker - 0xE0} {name[1].decode().strip() if name else ''}".strip()
        )


def _look_behind(found: Contents, rest: bytes) -> None:
    rest = rest.strip(b"\0")
    if b"ftyp" in rest[:4096] or b"MotionPhoto_Data" in rest:
        found.gone.append("video")
    elif b"HDRGainMap" in rest or b"hdr-gain-map" in rest:
        found.gone.append("gain map")
    elif len(rest) > 4096 and b"\xff\xd8\xff" not in rest[:4096]:
        found.notes.append(f"{len(rest) // 1000} kB of other data behind the picture left out")


def _segments(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """(marker, payload, where it stops) of each segment up to the picture's end."""
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
            yield marker, b"", place + 2
            return
        elif marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:
            place += 2
        else:
            (length,) = struct.unpack_from(">H", data, place + 2)
            stop = place + 2 + max(length, 2)
            yield marker, data[place + 4 : stop], stop
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
    exif = _pieces(contents.exif[len(PREFIX) :], len(PREFIX))
    if any(map(is_tiff, exif[1:])):
        notes.append("its EXIF, which is too large for a JPEG")
        exif = []
    blocks = [PREFIX + piece for piece in exif]
    blocks += [block for block in contents.more_exif if len(block) <= MOST]
    blocks += _xmp_payloads(contents, notes) if contents.xmp else []
    profile = _pieces(contents.icc or b"", len(_ICC) + 2)
    if len(profile) > 255:
        notes.append("its colour profile, which is too large for a JPEG")
        profile = []
    segments = {
        _APP1: blocks,
        _APP2: [_ICC + bytes((n, len(profile))) + piece for n, piece in enumerate(profile, 1)],
        _APP13: [_PHOTOSHOP + piece for piece in _pieces(contents.resources, len(_PHOTOSHOP))],
        _COMMENT: [comment[:MOST] for comment in contents.comments],
    }
    parts = [
        struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload
        for marker, payloads in segments.items()
        for payload in payloads
    ]
    return b"".join((encoded[:place], *parts, encoded[place:])), notes


def _xmp_payloads(contents: Contents, notes: list[str]) -> list[bytes]:
    main, extension, name = split_xmp(contents.xmp, MOST - len(_XMP))
    if contents.extension and extension:  # there is one place for two
        main, extension, name = split_xmp(without_extension(contents.xmp), MOST - len(_XMP))
        notes.append("the second part of its XMP, which is broken")
    elif contents.extension:
        extension, name = contents.extension, extension_name(main).decode()
    payloads = [_XMP + main] if main else []
    if not main:
        notes.append("its XMP, which is too large for a JPEG")
    place = 0
    for piece in _pieces(extension, len(_EXTENSION) + 40):
        head = struct.pack(">32sII", name.encode(), len(extension), place)
        payloads.append(_EXTENSION + head + piece)
        place += len(piece)
    return payloads


def _pieces(data: bytes, head: int) -> list[bytes]:
    """``data`` in pieces that fit a segment, each behind a head of so many bytes."""
    room = MOST - head
    return [data[i : i + room] for i in range(0, len(data), room)]


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
    for marker, payload, _ in _segments(data):
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
