"""XMP packets: what they say of edits, of a photo's orientation, and of things beside the photo.

Packets come from strangers: they are read by a parser that expands no entities, up to a size, and
in time that grows with it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.dom.minidom import Document, Element, Node
from xml.parsers.expat import ExpatError

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_XMLNS = "http://www.w3.org/2000/xmlns/"
_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_OURS = "urn:x-fader:edits/1/"
_NOTE = "http://ns.adobe.com/xmp/note/"
_BASIC = "http://ns.adobe.com/xap/1.0/"
_GOOGLE = "http://ns.google.com/photos/"

#: IPTC's word for a photo parts of which a trained model made.
DIGITAL_SOURCE_TYPE = (
    "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
)

_HEAD = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
_EMPTY = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}"></rdf:RDF></x:xmpmeta>'
_ROOT = re.compile(r"<((?:[\w.-]{1,40}:)?(?:xmpmeta|xapmeta|RDF))[\s>]")

# A packet with more is not read: characters beside embedded pictures, elements, attributes.
_MOST_CHARACTERS, _MOST_ELEMENTS, _MOST_ATTRIBUTES = 4_000_000, 50_000, 100_000
_MOST_BYTES = 64_000_000

# What is said of things that are not in an edited file any more: in these namespaces all, in the
# next ones only properties whose names begin so. Beside each, what to call it.
_GONE = {
    "http://ns.adobe.com/hdr-gain-map/1.0/": "gain map",
    "http://ns.apple.com/HDRGainMap/1.0/": "gain map",
    "http://ns.apple.com/pixeldatainfo/1.0/": "gain map",
    f"{_GOOGLE}1.0/container/": "",
    f"{_GOOGLE}1.0/container/item/": "",
    f"{_GOOGLE}1.0/depthmap/": "depth map",
    f"{_GOOGLE}1.0/image/": "",
    f"{_GOOGLE}1.0/audio/": "sound",
}
_GONE_PREFIXES = {f"{_GOOGLE}dd/1.0/": "depth map"}
_GONE_NAMES = re.compile(r"(MotionPhoto|MicroVideo|OLivePhoto|VideoLength$)")

# An extension's name. Other values are not ours to take away.
_IS_NAME = re.compile(r"[0-9A-Fa-f]{32}").fullmatch

# What pictures and orientations look like in a packet that cannot be read.
_RAW_PICTURE = re.compile(rb"/9j/|iVBORw0KGgo|R0lGOD|UklGR|SUkqA|TU0AK|Orientation|\xff\xd8\xff")

# How pictures begin, to be found in base64.
_PICTURES = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"GIF8", b"II*\0", b"MM\0*")
_SHORTEST_PICTURE = 64

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
        if not extension and _leave_extension(element):
            changed = True
        for attribute in list(element.attributes.values()):
            word = _gone(attribute.namespaceURI, attribute.localName or "")
            if word is not None or _is_picture(attribute.value):
                element.removeAttributeNode(attribute)
                gone[word or ""] = None
                changed = True
            elif attribute.localName == "Orientation" and attribute.value.strip() != "1":
                orientation = orientation or _turn(attribute.value)
                attribute.value, changed = "1", True
        word = _gone(element.namespaceURI, element.localName)
        if word is not None or _is_picture(_text(element)):
            if element.parentNode is not None:
                element.parentNode.removeChild(element)
            gone[word or ""] = None
            changed = True
        elif element.localName == "Orientation" and _text(element).strip() != "1":
            orientation = orientation or _turn(_text(element))
            _set_text(document, element, "1")
            changed = True
    written = _written(document) if changed else packet
    return Cleaned(written, extension, tuple(word for word in gone if word), orientation, broken)


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


def _leave_extension(element: Element) -> bool:
    if not _IS_NAME(element.getAttributeNS(_NOTE, "HasExtendedXMP")):
        return False
    element.removeAttributeNS(_NOTE, "HasExtendedXMP")
    return True


def marked_xmp(packet: bytes, edits: str, software: str) -> bytes:
    """``packet`` (or a new one) that also says the photo is a composite, and made by what.

    What the packet says else is kept; where it already names a digital source type, ours takes
    its place, and earlier edits of ours are named before the new ones.
    """
    document, _ = _parsed(packet)
    if document is None or not document.getElementsByTagNameNS(_RDF, "RDF"):
        document, _ = _parsed(_EMPTY.encode())
    earlier = _value(document, _OURS, "Edits")
    edits = f"{earlier}; {edits}" if earlier else edits
    ours = {(_IPTC, "DigitalSourceType"), (_OURS, "Edits"), (_OURS, "Software")}
    about = ""
    for element in list(_elements(document)):
        for attribute in list(element.attributes.values()):
            if (attribute.namespaceURI, attribute.localName) in ours:
                element.removeAttributeNode(attribute)
        about = about or element.getAttributeNS(_RDF, "about")
        if (element.namespaceURI, element.localName) in ours:
            element.parentNode.removeChild(element)
    for element in list(document.getElementsByTagNameNS(_RDF, "Description")):
        if element.getAttribute("xmlns:fader") == _OURS and not element.childNodes:
            element.parentNode.removeChild(element)  # our own of an earlier edit
    rdf = document.getElementsByTagNameNS(_RDF, "RDF")[0]
    rdf.appendChild(_mark(document, rdf, about, edits, software))
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
    extension, _ = _parsed(_EMPTY.encode())
    if document is None:
        return b"", b"", ""
    main_rdf = document.getElementsByTagNameNS(_RDF, "RDF")[:1]
    if not main_rdf:
        return b"", b"", ""
    mark = document.createElementNS(_RDF, f"{_prefix(main_rdf[0])}Description")
    mark.setAttributeNS(_RDF, f"{_prefix(main_rdf[0])}about", "")
    mark.setAttributeNS(_XMLNS, "xmlns:xmpNote", _NOTE)
    mark.setAttributeNS(_NOTE, "xmpNote:HasExtendedXMP", "0" * 32)
    main_rdf[0].appendChild(mark)
    target = extension.getElementsByTagNameNS(_RDF, "RDF")[0]
    # Whatever is in the way of fitting, by our mark first, then by size.
    parts = [part for part in main_rdf[0].childNodes if part is not mark and _is_element(part)]
    parts.sort(key=lambda part: (part.getAttribute("xmlns:fader") != _OURS, -len(part.toxml())))
    size = len(_written(document))
    for part in parts:
        if size <= most:
            break
        size -= _move(part, target, size - most)
    if size > most:
        return b"", b"", ""
    content = extension.documentElement.toxml().encode()
    # Names the extension, nothing is kept safe by it.
    name = hashlib.md5(content, usedforsecurity=False).hexdigest().upper()
    mark.setAttributeNS(_NOTE, "xmpNote:HasExtendedXMP", name)
    return _written(document), content, name


def _move(part: Element, target: Element, excess: int) -> int:
    """Move a description, or as much of it as is needed, to ``target``; the bytes that saved."""
    whole = len(part.toxml().encode())
    children = [child for child in part.childNodes if _is_element(child)]
    if part.getAttribute("xmlns:fader") == _OURS or whole <= 2 * excess or not children:
        part.parentNode.removeChild(part)
        target.appendChild(part)
        return whole
    twin = part.cloneNode(False)
    for attribute in list(twin.attributes.values()):
        if attribute.namespaceURI not in (_XMLNS, _RDF):
            twin.removeAttributeNode(attribute)
    target.appendChild(twin)
    saved = 0
    for child in sorted(children, key=lambda child: -len(child.toxml())):
        if saved >= excess:
            break
        saved += len(child.toxml().encode())
        part.removeChild(child)
        twin.appendChild(child)
    if saved < excess:
        part.parentNode.removeChild(part)
        target.appendChild(part)
        return whole
    return saved


def _mark(document: Document, rdf: Element, about: str, edits: str, software: str) -> Element:
    description = document.createElementNS(_RDF, f"{_prefix(rdf)}Description")
    description.setAttributeNS(_RDF, f"{_prefix(rdf)}about", about)
    description.setAttributeNS(_XMLNS, "xmlns:Iptc4xmpExt", _IPTC)
    description.setAttributeNS(_XMLNS, "xmlns:fader", _OURS)
    for namespace, name, text in (
        (_IPTC, "Iptc4xmpExt:DigitalSourceType", DIGITAL_SOURCE_TYPE),
        (_OURS, "fader:Software", software),
        (_OURS, "fader:Edits", edits),
    ):
        element = document.createElementNS(namespace, name)
        element.appendChild(document.createTextNode(text))
        description.appendChild(element)
    return description


def _prefix(rdf: Element) -> str:
    return f"{rdf.prefix}:" if rdf.prefix else ""


def _parsed(packet: bytes) -> tuple[Document | None, bool]:
    """The document in a packet, None if it cannot be read; and whether pictures were left out."""
    if not packet or len(packet) > _MOST_BYTES:
        return None, False
    text = _decoded(packet)
    start = _ROOT.search(text)
    end = text.rfind(f"</{start[1]}>") if start else -1
    if end < 0:
        return None, False
    text = text[start.start() : end + len(start[1]) + 3]
    # Long texts would take the parser time that grows with their square.
    pieces = text.split("<")
    pictures = False
    for i, piece in enumerate(pieces):
        if len(piece) > 1500:
            pieces[i] = _LONG.sub(lambda found: _blank(found) or found[0], piece)
            pictures |= len(pieces[i]) < len(piece)
    text = "<".join(pieces)
    attributes = text.count('="') + text.count("='")
    if (
        len(text) > _MOST_CHARACTERS
        or len(pieces) > 2 * _MOST_ELEMENTS
        or attributes > _MOST_ATTRIBUTES
    ):
        return None, False
    from defusedxml import DefusedXmlException
    from defusedxml.minidom import parseString

    try:
        document = parseString(text.encode("utf-8", "replace"), forbid_dtd=True)
        list(_elements(document, most_deep=100))
    except (ExpatError, DefusedXmlException, ValueError, RecursionError):
        return None, False
    return document, pictures


def _decoded(packet: bytes) -> str:
    packet = packet.strip(b"\0") if packet[:4].count(0) == 0 else packet
    for mark, name in ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if packet.startswith(mark):
            return packet.decode(name, "replace")
    if packet[:2] == b"<\0":
        return packet.decode("utf-16-le", "replace")
    if packet[:2] == b"\0<":
        return packet.decode("utf-16-be", "replace")
    return packet.decode("utf-8-sig", "replace")


def _elements(document: Document, most_deep: int | None = None) -> Iterator[Element]:
    """All elements, without recursion; :class:`ValueError` below ``most_deep`` levels."""
    stack = [(document.documentElement, 0)]
    while stack:
        element, depth = stack.pop()
        if most_deep is not None and depth > most_deep:
            raise ValueError("too deep")
        yield element
        below = [(child, depth + 1) for child in element.childNodes if _is_element(child)]
        stack += reversed(below)


def _is_element(node: Node) -> bool:
    return node.nodeType == Node.ELEMENT_NODE


def _gone(namespace: str | None, name: str) -> str | None:
    """What a property tells of that is gone ("" for nothing that has a name), None for others."""
    if namespace == _XMLNS or not namespace:
        return None
    if namespace == _BASIC and name == "Thumbnails":
        return ""
    if namespace in _GONE:
        return _GONE[namespace]
    for prefix, word in _GONE_PREFIXES.items():
        if namespace.startswith(prefix):
            return word
    return "video" if _GONE_NAMES.match(name) else None


def _blank(found: re.Match[str]) -> str:
    """What takes the place of a long text that is a picture, "" for other ones."""
    text = found[0]
    if text.startswith("="):
        return '=""' if _is_picture(text[2:-1]) else ""
    return " " if _is_picture(text) else ""


def _is_picture(text: str) -> bool:
    if len(text) < _SHORTEST_PICTURE:
        return False
    begin = "".join(text[:400].split()).rstrip("=")[:64]
    try:
        data = base64.b64decode(begin[: len(begin) // 4 * 4], validate=True)
    except (binascii.Error, ValueError):
        return False
    return data.startswith(_PICTURES) or data[4:8] == b"ftyp"


def _text(element: Element) -> str:
    return "".join(node.data for node in element.childNodes if node.nodeType in (Node.TEXT_NODE, 4))


def _set_text(document: Document, element: Element, text: str) -> None:
    for node in list(element.childNodes):
        element.removeChild(node)
    element.appendChild(document.createTextNode(text))


def _turn(text: str) -> int | None:
    text = text.strip()
    return int(text) if text in tuple("2345678") else None


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
    if targets and sources:
        prefixes = {
            name: value for name, value in sources[0].attributes.items() if name.startswith("xmlns")
        }
        for child in list(sources[0].childNodes):
            if _is_element(child):
                for name, value in prefixes.items():
                    if not child.hasAttribute(name):
                        child.setAttributeNS(_XMLNS, name, value)
                targets[0].appendChild(document.importNode(child, True))


def _written(document: Document) -> bytes:
    return f'{_HEAD}{document.documentElement.toxml()}<?xpacket end="w"?>'.encode()
