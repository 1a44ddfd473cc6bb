"""Photoshop's image resources, where captions (IPTC) are kept in JPEG, TIFF and PNG files."""

from __future__ import annotations

import struct

from fader.photo.exif import without_jpegs

#: The number of the one with the captions.
CAPTION = 0x0404
_DIGEST = 0x0425
_EXIF, _EXIF3, _XMP, _ICC = 0x0422, 0x0423, 0x0424, 0x040F
_THUMBNAILS = (0x0409, 0x040C)

_SIGNATURES = (b"8BIM", b"MeSa", b"PHUT", b"AgHg", b"DCSR")

Resource = tuple[int, bytes, bytes]


def parsed(data: bytes) -> list[Resource]:
    """(number, name as it stands, content) of each resource, up to the first that is broken."""
    return _parsed(data)[0]


def _parsed(data: bytes) -> tuple[list[Resource], bytes]:
    """As :func:`parsed`, and what follows that is no resource."""
    found: list[Resource] = []
    place = 0
    while data[place : place + 4] in _SIGNATURES:
        try:
            number, name_length = struct.unpack_from(">HB", data, place + 4)
            start = place + 6
            after = start + 1 + name_length
            after += (after - start) % 2
            (length,) = struct.unpack_from(">I", data, after)
        except struct.error:
            break
        content = data[after + 4 : after + 4 + length]
        if len(content) < length:
            break
        found.append((number, data[start:after], content))
        place = after + 4 + length
        if data[place : place + 4] not in _SIGNATURES:  # some programs write no even lengths
            place += length % 2
    return found, data[place:].strip(b"\0")


def packed(resources: list[Resource]) -> bytes:
    """The inverse of :func:`parsed`."""
    parts: list[bytes] = []
    for number, name, content in resources:
        parts += [b"8BIM", struct.pack(">H", number), name, struct.pack(">I", len(content))]
        parts += [content, bytes(len(content) % 2)]
    return b"".join(parts)


def caption_of(data: bytes) -> bytes:
    """The IPTC records among resources; ``b""`` for none."""
    return next((content for number, _, content in parsed(data) if number == CAPTION), b"")


def with_caption(data: bytes, records: bytes) -> bytes:
    """Resources that have IPTC ``records``, unless they have some already."""
    resources = parsed(data)
    if records and not any(number == CAPTION for number, _, _ in resources):
        resources.append((CAPTION, b"\0\0", records))
    return packed(resources)


def merged(data: bytes, more: bytes) -> bytes:
    """Resources, and those of ``more`` whose numbers are not among them."""
    resources = parsed(data)
    numbers = {number for number, _, _ in resources}
    return packed(resources + [one for one in parsed(more) if one[0] not in numbers])


def separated(data: bytes) -> tuple[bytes, bytes, bytes, bool]:
    """Resources without pictures of the photo, the EXIF and the XMP that were among them, and
    whether some were broken.

    Thumbnails go, and a preview among the IPTC records; EXIF and XMP have places of their own.
    """
    kept, exif, xmp = [], b"", b""
    changed = False
    resources, rest = _parsed(data)
    for number, name, content in resources:
        if number == _EXIF:
            exif = content
        elif number == _XMP:
            xmp = content
        elif number == CAPTION:
            records = _without_previews(content)
            changed |= records != content
            kept.append((number, name, records))
        elif number not in (*_THUMBNAILS, _EXIF3, _ICC):
            kept.append((number, name, without_jpegs(content)))
    if changed:
        kept = [one for one in kept if one[0] != _DIGEST]
    return packed(kept), exif, xmp, bool(rest)


def _without_previews(records: bytes) -> bytes:
    """IPTC records but those of a preview (2:200 to 2:202) or of the object itself (7 and 8)."""
    kept, place = [], 0
    while records[place : place + 1] == b"\x1c" and place + 5 <= len(records):
        record, dataset, length = struct.unpack_from(">BBH", records, place + 1)
        end = place + 5
        if length & 0x8000:  # a longer length follows, in as many bytes
            end += length & 0x7FFF
            length = int.from_bytes(records[place + 5 : end][:8], "big")
        end += length
        if record not in (7, 8) and not (record == 2 and 200 <= dataset <= 202):
            kept.append(records[place:end])
        place = end
    return b"".join(kept)
