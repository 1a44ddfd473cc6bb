"""What files of the less usual kinds hold beside the picture, and Pillow does not tell of."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Any

from PIL import Image

from fader.photo.exif import PREFIX
from fader.photo.metadata import Contents
from fader.photo.resources import packed, with_caption

_CREDENTIALS = "content credentials (C2PA)"
_EIGHT_BITS = "written with 8 bits per channel, not {}"

_WEBP_PARTS = frozenset(b"VP8.VP8L.VP8X.ALPH.ANIM.ANMF.ICCP.EXIF.XMP".split(b"."))

# Boxes of bytes that are named by these.
_XMP_BOX = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_CREDENTIALS_BOX = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
_EXIF_BOXES = (b"JpgTiffExif->JP2", bytes.fromhex("0537cdab9d0c4431a72afa561f2a113e"))
_CAPTION_BOX = bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38")
_RESOURCES_BOX = bytes.fromhex("2c4c0100850440b9a03e562148d6dfeb")
_JPEG2000_BOXES = frozenset((b"jP  ", b"ftyp", b"jp2h", b"jp2c", b"jp2i", b"rreq", b"free"))

# A GIF's XMP ends where a part begins that leads readers to its end, wherever they look for it.
_GIF_XMP, _GIF_XMP_END = b"!\xff\x0bXMP DataXMP", b"\x01\xff\xfe\xfd\xfc"

_PPM_WORD = re.compile(rb"\s*(?:#([^\r\n]*)[\r\n]|(\S+))")


def look_into(data: bytes, image: Image.Image, contents: Contents) -> None:
    """Take or note what the file of an ``image`` that Pillow opened has beside its pixels."""
    kind = image.format or ""
    if kind in ("HEIF", "AVIF"):
        _look_into_heif(data, image, contents)
    elif kind == "WEBP":
        _look_into_webp(data, contents)
    elif kind == "JPEG2000":
        _look_into_jpeg2000(data, image, contents)
    elif kind == "GIF":
        _look_into_gif(data, contents)
    elif kind == "PSD":
        resources: list[Any] = getattr(image, "resources", [])
        contents.resources = packed([(number, b"\0\0", part) for number, _, part in resources])
        if getattr(image, "n_frames", 1) > 1:
            contents.notes.append("its layers are left out")
    elif kind == "PPM":
        _look_into_ppm(data, image, contents)
    elif kind == "SGI" and data[3:4] == b"\2":
        contents.notes.append(_EIGHT_BITS.format(16))


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(kind, content) of each box that a file of this kind (ISO 14496-12) consists of."""
    place = 0
    while place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        head = 8
        if length == 1 and place + 16 <= len(data):
            (length,), head = struct.unpack_from(">Q", data, place + 8), 16
        stop = place + length if length else len(data)
        if stop < place + head:
            return
        yield kind, data[place + head : stop]
        place = stop


def _look_into_heif(data: bytes, image: Image.Image, contents: Contents) -> None:
    head = data[:65536]
    auxiliary = " ".join(map(str, image.info.get("aux") or ()))
    if b"hdrgainmap" in head or "hdrgainmap" in auxiliary or b"tmap" in head:
        contents.gone.append("gain map")
    if image.info.get("depth_images") or (b"auxid:2" in head and b"depth" in head):
        contents.gone.append("depth map")
    for kind, content in boxes(data):
        if kind == b"mpvd":
            contents.gone.append("video")
        elif kind == b"uuid" and content.startswith(_CREDENTIALS_BOX):
            contents.gone.append(_CREDENTIALS)
    found = head.find(b"av1C")
    depth = image.info.get("bit_depth", 8)
    if depth > 8 or (found >= 0 and head[found + 6 : found + 7] and head[found + 6] & 0x40):
        contents.notes.append(_EIGHT_BITS.format("more"))


def _look_into_webp(data: bytes, contents: Contents) -> None:
    place, end = 12, min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    while place + 8 <= end:
        kind, length = struct.unpack_from("<4sI", data, place)
        if kind == b"C2PA":
            contents.gone.append(_CREDENTIALS)
        elif kind.isalnum() and kind.strip() not in _WEBP_PARTS:
            contents.others.append(kind.decode("ascii", "replace"))
        place += 8 + length + length % 2


def _look_into_jpeg2000(data: bytes, image: Image.Image, contents: Contents) -> None:
    for kind, content in boxes(data) if data[4:8] == b"jP  " else ():
        name, content = (content[:16], content[16:]) if kind == b"uuid" else (kind, content)
        if name == _XMP_BOX:
            contents.xmp = contents.xmp or content
        elif name in _EXIF_BOXES:
            contents.exif = contents.exif or PREFIX + content.removeprefix(PREFIX)
        elif name == _CAPTION_BOX:
            contents.resources = with_caption(contents.resources, content)
        elif name == _RESOURCES_BOX:
            contents.resources += content
        elif name == b"jumb":
            contents.gone.append(_CREDENTIALS)
        elif name not in _JPEG2000_BOXES:
            contents.others.append(kind.decode("ascii", "replace").strip())
    size = data.find(b"\xff\x4f\xff\x51")  # where the picture itself begins
    deep = size >= 0 and size + 42 < len(data) and data[size + 42] & 0x7F > 7
    if deep and not image.mode.startswith("I"):
        contents.notes.append(_EIGHT_BITS.format("more"))


def _look_into_gif(data: bytes, contents: Contents) -> None:
    start = data.find(_GIF_XMP)
    if start >= 0 and not contents.xmp:
        start += len(_GIF_XMP)
        end = data.find(_GIF_XMP_END, start)
        contents.xmp = data[start : end if end >= 0 else start]
    if b"!\xff\x0bC2PA_GIF" in data:
        contents.gone.append(_CREDENTIALS)


def _look_into_ppm(data: bytes, image: Image.Image, contents: Contents) -> None:
    place, words = 0, list[bytes]()
    while len(words) < 4 and (found := _PPM_WORD.match(data, place)):
        place = found.end()
        if found[2]:
            words.append(found[2])
        elif comment := found[1].strip():
            contents.comments.append(comment)
    if words[:1] in ([b"P3"], [b"P6"]) and len(words[3:]) and words[3] not in (b"255", b"1"):
        more = words[3].isdigit() and int(words[3][:9]) > 255
        if more and not image.mode.startswith("I"):
            contents.notes.append(_EIGHT_BITS.format("more"))
