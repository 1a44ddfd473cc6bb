"""XMP packets: what they say of edits, of a photo's orientation, of things beside the photo.

They come from strangers: the parser expands no entities, reads up to a size, and takes time that
grows with it.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.dom.minidom import Attr, Document, Element, Text
from xml.parsers.expat import ExpatError

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_XMLNS = "http://www.w3.org/2000/xmlns/"
_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_OURS = "urn:x-fader:edits/1/"
_NOTE = "http://ns.adobe.com/xmp/note/"
_BASIC = "http://ns.adobe.com/xap/1.0/"
_TERMS = "http://purl.org/dc/terms/"
_GOOGLE = "http://ns.google.com/photos/"

#: IPTC's word for a photo parts of which a trained model made.
DIGITAL_SOURCE_TYPE = (
    "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
)

# What is said of things that are not in an edited file any more: in these namespaces all, in others
# only properties whose names begin so. Beside each, what to call it.
_GONE = {
    "http://ns.adobe.com/hdr-gain-map/1.0/": "gain map",
    "http://ns.apple.com/HDRGainMap/1.0/": "gain map",
    "http://ns.apple.com/pixeldatainfo/1.0/": "gain map",
    "http://ns.apple.com/depthData/1.0/": "depth map",
    f"{_GOOGLE}1.0/container/": "",
    f"{_GOOGLE}1.0/container/item/": "",
    f"{_GOOGLE}1.0/depthmap/": "depth map",
    f"{_GOOGLE}1.0/image/": "",
    f"{_GOOGLE}1.0/audio/": "sound",
}
_GONE_NAMES = re.compile(r"(MotionPhoto|MicroVideo|OLivePhoto|VideoLength$)")

# Where content credentials are.
_IS_PLACE = re.compile(r"(self#|https?:)\S*").fullmatch

# An extension's name. Other values are not ours to take away.
_IS_NAME = re.compile(r"[0-9A-Fa-f]{32}").fullmatch

# How pictures begin, to be found in base64; and what they and orientations look like in a packet
# that cannot be read.
_PICTURES = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"GIF8", b"II*\0", b"MM\0*")
_SHORTEST_PICTURE = 64
_RAW_PICTURE = re.compile(rb"/9j/|iVBORw0KGgo|R0lGOD|UklGR|SUkqA|TU0AK|Orientation|\xff\xd8\xff")

_HEAD = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
_EMPTY = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}"></rdf:RDF></x:xmpmeta>'
_ROOT = re.compile(r"<((?:[\w.-]{1,40}:)?(?:xmpmeta|xapmeta|RDF))[\s>]")
_UTF16 = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"<\0": "utf-16-le", b"\0<": "utf-16-be"}

# A packet with more is not read: characters beside embedded pictures, begins and ends of elements,
# attributes, levels.
_MOST_CHARACTERS, _MOST_PIECES, _MOST_ATTRIBUTES, _DEEPEST = 4_000_000, 100_000, 100_000, 100
_MOST_BYTES = 64_000_000

# A long attribute, or the text behind a tag.
_LONG = re.compile(r"""="[^"]{1000,}"|='[^']{1000,}'|(?<=>)[^>]{1000,}$""")


@dataclass(frozen=True)
class Cleaned:
    """A packet that fits an edited photo; what of the file it no longer promises; and what the
    orientation was, None where it said nothing of it. ``broken`` ones cannot be read. An extension
    that cannot be read, but has no picture in it, is kept as it is in ``extension``."""

    packet: bytes = b""
    extension: bytes = b""
    gone: tuple[str, ...] = ()
    orientation: int | None = None
    broken: bool = False


def cleaned_xmp(packet: bytes, extension: bytes = b"") -> Cleaned:
    """A packet, joined with its ``extension``, without what is not true of an edited photo.

    Orientations become upright. Pictures in it are left out, as are gain maps, videos and
    depth maps that it promises. Where there is nothing of all that the packet is left as it is.
    """
    document, pictures = _parsed(packet)
    if document is None:
        return Cleaned(broken=bool(packet.strip(b"\0 \t\r\n")))
    changed, broken = pictures, False
    if extension:
        more, _ = _parsed(extension)
        if more is not None:
            _join(document, more)
            extension, changed = b"", True
        elif _RAW_PICTURE.search(extension) or len(extension) > _MOST_BYTES:
            extension, broken = b"", True
    gone: dict[str, None] = {}
    orientation = None
    for element in list(_elements(document)):
        changed |= not extension and _leave_extension(element)
        attributes = [(one, one.value) for one in element.attributes.values()]
        parts: list[tuple[Attr | Element, str]] = [*attributes, (element, _text(element))]
        for part, text in parts:
            word = _gone(part.namespaceURI, part.localName or "", text)
            if word is not None or is_picture(text):
                _remove(part)
                gone[word or ""] = None
            elif part.localName == "Orientation" and (turn := text.strip()) != "1":
                orientation = orientation or (int(turn) if turn in tuple("2345678") else None)
                _set_text(document, part, "1")
            else:
                continue
            changed = True
    result = _written(document) if changed else packet
    return Cleaned(result, extension, tuple(word for word in gone if word), orientation, broken)


def without_extension(packet: bytes) -> bytes:
    """``packet`` without the name of an extension."""
    document, _ = _parsed(packet)
    if document is None:
        return b""
    for element in _elements(document):
        _leave_extension(element)
    return _written(document)


def extension_name(packet: bytes) -> bytes:
    """The name of the extension that belongs to ``packet``: 32 hexadecimal digits, b"" for none."""
    found = re.search(rb"HasExtendedXMP\s?[=>]\s?[\"']?([0-9A-Fa-f]{32})\b", packet)
    return found[1] if found else b""


def marked_xmp(packet: bytes, edits: str, software: str) -> bytes:
    """``packet`` (or a new one) that also says the photo is a composite, and made by what.

    What the packet says else is kept; where it already names a digital source type, ours takes
    its place, and earlier edits of ours are named before the new ones.
    """
    document, _ = _parsed(packet)
    if document is None or not document.getElementsByTagNameNS(_RDF, "RDF"):
        document = _empty()
    earlier = _value(document, _OURS, "Edits")
    marks = {
        (_IPTC, "Iptc4xmpExt", "DigitalSourceType"): DIGITAL_SOURCE_TYPE,
        (_OURS, "fader", "Software"): software,
        (_OURS, "fader", "Edits"): f"{earlier}; {edits}" if earlier else edits,
    }
    ours = {(namespace, name) for namespace, _, name in marks}
    about = ""
    for element in list(_elements(document)):
        parts: list[Attr | Element] = [*element.attributes.values(), element]
        about = about or element.getAttributeNS(_RDF, "about")
        for part in parts:
            if (part.namespaceURI, part.localName) in ours:
                _remove(part)
    for element in list(document.getElementsByTagNameNS(_RDF, "Description")):
        if element.getAttribute("xmlns:fader") == _OURS and not element.childNodes:
            _remove(element)  # our own of an earlier edit
    rdf = document.getElementsByTagNameNS(_RDF, "RDF")[0]
    description = _description(document, rdf, about, Iptc4xmpExt=_IPTC, fader=_OURS)
    for (namespace, prefix, name), text in marks.items():
        element = document.createElementNS(namespace, f"{prefix}:{name}")
        element.appendChild(document.createTextNode(text))
        description.appendChild(element)
    return _written(document)


def read_marks(packet: bytes) -> tuple[str, str, str]:
    """A packet's digital source type, our edits in it, and the software; "" for nothing."""
    document, _ = _parsed(packet)
    if document is None:
        return "", "", ""
    software = _value(document, _OURS, "Software") or _value(document, _BASIC, "CreatorTool")
    kind = _value(document, _IPTC, "DigitalSourceType")
    return kind, _value(document, _OURS, "Edits"), software


def split_xmp(packet: bytes, most: int) -> tuple[bytes, bytes, str]:
    """A packet in two, the first of at most ``most`` bytes: the main one, the extension, its name.

    The extension has our own mark first of all, then the largest properties.
    """
    if len(packet) <= most:
        return packet, b"", ""
    document, _ = _parsed(packet)
    if document is None or not (found := document.getElementsByTagNameNS(_RDF, "RDF")):
        return b"", b"", ""
    parts = [part for part in found[0].childNodes if isinstance(part, Element)]
    mark = _description(document, found[0], "", xmpNote=_NOTE)
    mark.setAttributeNS(_NOTE, "xmpNote:HasExtendedXMP", "0" * 32)
    extension = _empty()
    target = extension.getElementsByTagNameNS(_RDF, "RDF")[0]
    # Whatever is in the way of fitting, by our mark first, then by size.
    parts.sort(key=lambda part: (part.getAttribute("xmlns:fader") != _OURS, -len(part.toxml())))
    size = len(_written(document))
    for part in parts:
        if size <= most:
            break
        size -= _move(part, target, size - most)
    if size > most:
        return b"", b"", ""
    content = next(_elements(extension)).toxml().encode()
    # Names the extension, nothing is kept safe by it.
    name = hashlib.md5(content, usedforsecurity=False).hexdigest().upper()
    mark.setAttributeNS(_NOTE, "xmpNote:HasExtendedXMP", name)
    return _written(document), content, name


def _move(part: Element, target: Element, excess: int) -> int:
    """Move a description, or as much of it as is needed, to ``target``; the bytes that saved."""
    whole = len(part.toxml().encode())
    children = [child for child in part.childNodes if isinstance(child, Element)]
    if part.getAttribute("xmlns:fader") != _OURS and whole > 2 * excess and children:
        twin = part.cloneNode(False)
        assert twin is not None  # an element can always be copied
        for attribute in list(twin.attributes.values()):
            if attribute.namespaceURI not in (_XMLNS, _RDF):
                twin.removeAttributeNode(attribute)
        target.appendChild(twin)
        saved = 0
        for child in sorted(children, key=lambda child: -len(child.toxml())):
            saved += len(child.toxml().encode())
            twin.appendChild(child)
            if saved >= excess:
                return saved
    target.appendChild(part)
    return whole


def _description(document: Document, rdf: Element, about: str, **namespaces: str) -> Element:
    """A new description in ``rdf`` that knows ``namespaces``, by prefix."""
    prefix = f"{rdf.prefix}:" if rdf.prefix else ""
    description = document.createElementNS(_RDF, f"{prefix}Description")
    description.setAttributeNS(_RDF, f"{prefix}about", about)
    for name, namespace in namespaces.items():
        description.setAttributeNS(_XMLNS, f"xmlns:{name}", namespace)
    rdf.appendChild(description)
    return description


def _leave_extension(element: Element) -> bool:
    if not _IS_NAME(element.getAttributeNS(_NOTE, "HasExtendedXMP")):
        return False
    element.removeAttributeNS(_NOTE, "HasExtendedXMP")
    return True


def _gone(namespace: str | None, name: str, text: str) -> str | None:
    """What a property tells of that is gone ("" for nothing that has a name), None for others."""
    if namespace == _XMLNS or not namespace:
        return None
    if namespace == _BASIC and name == "Thumbnails":
        return ""
    if namespace.startswith(f"{_GOOGLE}dd/1.0/"):
        return "depth map"
    if namespace == _TERMS and name == "provenance" and _IS_PLACE(text.strip()):
        return "content credentials (C2PA)"
    return _GONE.get(namespace, "video" if _GONE_NAMES.match(name) else None)


def _text(element: Element) -> str:
    return "".join(node.data for node in element.childNodes if isinstance(node, Text))


def _set_text(document: Document, part: Attr | Element, text: str) -> None:
    if isinstance(part, Attr):
        part.value = text
        return
    for node in list(part.childNodes):
        part.removeChild(node)
    part.appendChild(document.createTextNode(text))


def _remove(part: Attr | Element) -> None:
    """Take an attribute or an element out of what holds it."""
    if isinstance(part, Attr):
        if part.ownerElement is not None:
            part.ownerElement.removeAttributeNode(part)
    elif part.parentNode is not None:
        part.parentNode.removeChild(part)


def _value(document: Document, namespace: str, name: str) -> str:
    """The text of a simple property, written as an element or as an attribute."""
    for element in _elements(document):
        if element.namespaceURI == namespace and element.localName == name:
            return _text(element).strip()
        if value := element.getAttributeNS(namespace, name):
            return value.strip()
    return ""


def _join(document: Document, more: Document) -> None:
    """Put the descriptions of an extension beside those of the packet it belongs to."""
    targets = document.getElementsByTagNameNS(_RDF, "RDF")
    sources = more.getElementsByTagNameNS(_RDF, "RDF")
    if not (targets and sources):
        return
    prefixes = [(n, value) for n, value in sources[0].attributes.items() if n.startswith("xmlns")]
    for child in sources[0].childNodes:
        if isinstance(child, Element):
            for name, value in prefixes:
                if not child.hasAttribute(name):
                    child.setAttributeNS(_XMLNS, name, value)
            targets[0].appendChild(document.importNode(child, True))


# Reading and writing


def _parsed(packet: bytes) -> tuple[Document | None, bool]:
    """The document in a packet, None if it cannot be read; and whether pictures were left out."""
    if not packet or len(packet) > _MOST_BYTES:
        return None, False
    if packet[:4].count(0) == 0:
        packet = packet.strip(b"\0")
    text = packet.decode(_UTF16.get(packet[:2], "utf-8-sig"), "replace")
    start = _ROOT.search(text)
    if start is None or (end := text.rfind(f"</{start[1]}>")) < 0:
        return None, False
    text = text[start.start() : end + len(start[1]) + 3]
    # Long texts would take the parser time that grows with their square.
    pieces = text.split("<")
    pictures = False
    for i, piece in enumerate(pieces):
        if len(piece) > 1500:
            pieces[i] = _LONG.sub(_without_picture, piece)
            pictures |= len(pieces[i]) < len(piece)
    text = "<".join(pieces)
    attributes = text.count('="') + text.count("='")
    sizes = (
        (len(text), _MOST_CHARACTERS),
        (len(pieces), _MOST_PIECES),
        (attributes, _MOST_ATTRIBUTES),
    )
    if any(size > most for size, most in sizes):
        return None, False
    from defusedxml import DefusedXmlException
    from defusedxml.minidom import parseString

    try:
        document = parseString(text.encode("utf-8", "replace"), forbid_dtd=True)
        list(_elements(document, _DEEPEST))
    except (ExpatError, DefusedXmlException, ValueError, RecursionError):
        return None, False
    return document, pictures


def _without_picture(found: re.Match[str]) -> str:
    """A long text, or what takes its place if it is a picture."""
    text = found[0]
    if text.startswith("="):
        return '=""' if is_picture(text[2:-1]) else text
    return " " if is_picture(text) else text


def is_picture(text: str) -> bool:
    """Whether a text is a picture in base64."""
    if len(text) < _SHORTEST_PICTURE:
        return False
    begin = "".join(text[:400].split()).rstrip("=")[:64]
    try:
        data = base64.b64decode(begin[: len(begin) // 4 * 4], validate=True)
    except ValueError:
        return False
    return data.startswith(_PICTURES) or data[4:8] == b"ftyp"


def _empty() -> Document:
    """A new packet that says nothing."""
    document, _ = _parsed(_EMPTY.encode())
    assert document is not None  # our own text can be read
    return document


def _elements(document: Document, deepest: float = math.inf) -> Iterator[Element]:
    """All elements, without recursion; :class:`ValueError` below ``deepest`` levels."""
    stack = [(node, 0) for node in document.childNodes if isinstance(node, Element)]
    while stack:
        element, depth = stack.pop()
        if depth > deepest:
            raise ValueError("too deep")
        yield element
        below = [(node, depth + 1) for node in element.childNodes if isinstance(node, Element)]
        stack += reversed(below)


def _written(document: Document) -> bytes:
    """The packet of a document; b"" where its root was taken out."""
    root = document.documentElement
    return b"" if root is None else f'{_HEAD}{root.toxml()}<?xpacket end="w"?>'.encode()
