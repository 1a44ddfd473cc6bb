"""XMP packets: what they say of edits, of a photo's orientation, of things beside the photo."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.dom.minidom import Attr, Document, Element, Text

from fader.photo.packets import (
    MOST_BYTES,
    RDF,
    XMLNS,
    elements,
    empty,
    is_element,
    is_picture,
    parsed,
    root,
    written,
)

_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_OURS = "urn:x-fader:edits/1/"
_NOTE = "http://ns.adobe.com/xmp/note/"
_BASIC = "http://ns.adobe.com/xap/1.0/"
_GOOGLE = "http://ns.google.com/photos/"

#: IPTC's word for a photo parts of which a trained model made.
DIGITAL_SOURCE_TYPE = (
    "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
)

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
    document, pictures = parsed(packet)
    if document is None:
        return Cleaned(broken=bool(packet.strip(b"\0 \t\r\n")))
    changed, broken = pictures, False
    if extension:
        more, _ = parsed(extension)
        if more is not None:
            _join(document, more)
            extension, changed = b"", True
        elif _RAW_PICTURE.search(extension) or len(extension) > MOST_BYTES:
            extension, broken = b"", True
    gone: dict[str, None] = {}
    orientation = None
    for element in list(elements(document)):
        changed |= not extension and _leave_extension(element)
        for part, text in _properties(element):
            word = _gone(part.namespaceURI, part.localName or "")
            if word is not None or is_picture(text):
                _remove(part)
                gone[word or ""] = None
            elif part.localName == "Orientation" and text.strip() != "1":
                orientation = orientation or _turn(text)
                _set_text(document, part, "1")
            else:
                continue
            changed = True
    result = written(document) if changed else packet
    return Cleaned(result, extension, tuple(word for word in gone if word), orientation, broken)


def _properties(element: Element) -> Iterator[tuple[Attr | Element, str]]:
    """What may say something of the photo, with its text: the attributes and the element."""
    for attribute in list(element.attributes.values()):
        yield attribute, attribute.value
    yield element, _text(element)


def without_extension(packet: bytes) -> bytes:
    """``packet`` without the name of an extension."""
    document, _ = parsed(packet)
    if document is None:
        return b""
    for element in elements(document):
        _leave_extension(element)
    return written(document)


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
    document, _ = parsed(packet)
    if document is None or not document.getElementsByTagNameNS(RDF, "RDF"):
        document = empty()
    earlier = _value(document, _OURS, "Edits")
    edits = f"{earlier}; {edits}" if earlier else edits
    ours = {(_IPTC, "DigitalSourceType"), (_OURS, "Edits"), (_OURS, "Software")}
    about = ""
    for element in list(elements(document)):
        for attribute in list(element.attributes.values()):
            if (attribute.namespaceURI, attribute.localName) in ours:
                _remove(attribute)
        about = about or element.getAttributeNS(RDF, "about")
        if (element.namespaceURI, element.localName) in ours:
            _remove(element)
    for element in list(document.getElementsByTagNameNS(RDF, "Description")):
        if element.getAttribute("xmlns:fader") == _OURS and not element.childNodes:
            _remove(element)  # our own of an earlier edit
    rdf = document.getElementsByTagNameNS(RDF, "RDF")[0]
    rdf.appendChild(_mark(document, rdf, about, edits, software))
    return written(document)


def read_marks(packet: bytes) -> tuple[str, str, str]:
    """A packet's digital source type, our edits in it, and the software; "" for nothing."""
    document, _ = parsed(packet)
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
    document, _ = parsed(packet)
    if document is None:
        return b"", b"", ""
    main_rdf = document.getElementsByTagNameNS(RDF, "RDF")[:1]
    if not main_rdf:
        return b"", b"", ""
    mark = document.createElementNS(RDF, f"{_prefix(main_rdf[0])}Description")
    mark.setAttributeNS(RDF, f"{_prefix(main_rdf[0])}about", "")
    mark.setAttributeNS(XMLNS, "xmlns:xmpNote", _NOTE)
    mark.setAttributeNS(_NOTE, "xmpNote:HasExtendedXMP", "0" * 32)
    main_rdf[0].appendChild(mark)
    extension = empty()
    target = extension.getElementsByTagNameNS(RDF, "RDF")[0]
    # Whatever is in the way of fitting, by our mark first, then by size.
    parts = [part for part in main_rdf[0].childNodes if part is not mark and is_element(part)]
    parts.sort(key=lambda part: (part.getAttribute("xmlns:fader") != _OURS, -len(part.toxml())))
    size = len(written(document))
    for part in parts:
        if size <= most:
            break
        size -= _move(part, target, size - most)
    if size > most:
        return b"", b"", ""
    content = root(extension).toxml().encode()
    # Names the extension, nothing is kept safe by it.
    name = hashlib.md5(content, usedforsecurity=False).hexdigest().upper()
    mark.setAttributeNS(_NOTE, "xmpNote:HasExtendedXMP", name)
    return written(document), content, name


def _move(part: Element, target: Element, excess: int) -> int:
    """Move a description, or as much of it as is needed, to ``target``; the bytes that saved."""
    whole = len(part.toxml().encode())
    children = [child for child in part.childNodes if is_element(child)]
    if part.getAttribute("xmlns:fader") == _OURS or whole <= 2 * excess or not children:
        _remove(part)
        target.appendChild(part)
        return whole
    twin = part.cloneNode(False)
    assert twin is not None  # an element can always be copied
    for attribute in list(twin.attributes.values()):
        if attribute.namespaceURI not in (XMLNS, RDF):
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
        _remove(part)
        target.appendChild(part)
        return whole
    return saved


def _mark(document: Document, rdf: Element, about: str, edits: str, software: str) -> Element:
    description = document.createElementNS(RDF, f"{_prefix(rdf)}Description")
    description.setAttributeNS(RDF, f"{_prefix(rdf)}about", about)
    description.setAttributeNS(XMLNS, "xmlns:Iptc4xmpExt", _IPTC)
    description.setAttributeNS(XMLNS, "xmlns:fader", _OURS)
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


def _gone(namespace: str | None, name: str) -> str | None:
    """What a property tells of that is gone ("" for nothing that has a name), None for others."""
    if namespace == XMLNS or not namespace:
        return None
    if namespace == _BASIC and name == "Thumbnails":
        return ""
    if namespace in _GONE:
        return _GONE[namespace]
    for prefix, word in _GONE_PREFIXES.items():
        if namespace.startswith(prefix):
            return word
    return "video" if _GONE_NAMES.match(name) else None


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


def _turn(text: str) -> int | None:
    text = text.strip()
    return int(text) if text in tuple("2345678") else None


def _value(document: Document, namespace: str, name: str) -> str:
    """The text of a simple property, written as an element or as an attribute."""
    for element in elements(document):
        if element.namespaceURI == namespace and element.localName == name:
            return _text(element).strip()
        if value := element.getAttributeNS(namespace, name):
            return value.strip()
    return ""


def _join(document: Document, more: Document) -> None:
    """Put the descriptions of an extension beside those of the packet it belongs to."""
    targets = document.getElementsByTagNameNS(RDF, "RDF")
    sources = more.getElementsByTagNameNS(RDF, "RDF")
    if targets and sources:
        prefixes = {
            name: value for name, value in sources[0].attributes.items() if name.startswith("xmlns")
        }
        for child in list(sources[0].childNodes):
            if is_element(child):
                for name, value in prefixes.items():
                    if not child.hasAttribute(name):
                        child.setAttributeNS(XMLNS, name, value)
                targets[0].appendChild(document.importNode(child, True))
