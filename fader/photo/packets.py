"""Reading and writing XMP packets that come from strangers.

They are read by a parser that expands no entities, up to a size, and in time that grows with it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import TypeGuard
from xml.dom.minidom import Document, Element, Node
from xml.parsers.expat import ExpatError

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
XMLNS = "http://www.w3.org/2000/xmlns/"

_HEAD = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
_EMPTY = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}"></rdf:RDF></x:xmpmeta>'
_ROOT = re.compile(r"<((?:[\w.-]{1,40}:)?(?:xmpmeta|xapmeta|RDF))[\s>]")

# A packet with more is not read: characters beside embedded pictures, elements, attributes.
_MOST_CHARACTERS, _MOST_ELEMENTS, _MOST_ATTRIBUTES = 4_000_000, 50_000, 100_000
MOST_BYTES = 64_000_000

# How pictures begin, to be found in base64.
_PICTURES = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"GIF8", b"II*\0", b"MM\0*")
_SHORTEST_PICTURE = 64

# A long attribute, or the text behind a tag.
_LONG = re.compile(r"""="[^"]{1000,}"|='[^']{1000,}'|(?<=>)[^>]{1000,}$""")


def parsed(packet: bytes) -> tuple[Document | None, bool]:
    """The document in a packet, None if it cannot be read; and whether pictures were left out."""
    if not packet or len(packet) > MOST_BYTES:
        return None, False
    text = _decoded(packet)
    start = _ROOT.search(text)
    if start is None or (end := text.rfind(f"</{start[1]}>")) < 0:
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
        list(elements(document, most_deep=100))
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


def empty() -> Document:
    """A new packet that says nothing."""
    document, _ = parsed(_EMPTY.encode())
    assert document is not None  # our own text can be read
    return document


def root(document: Document) -> Element:
    """The element that holds all others."""
    assert document.documentElement is not None  # no document is parsed without one
    return document.documentElement


def elements(document: Document, most_deep: int | None = None) -> Iterator[Element]:
    """All elements, without recursion; :class:`ValueError` below ``most_deep`` levels."""
    stack = [(root(document), 0)]
    while stack:
        element, depth = stack.pop()
        if most_deep is not None and depth > most_deep:
            raise ValueError("too deep")
        yield element
        below = [(child, depth + 1) for child in element.childNodes if is_element(child)]
        stack += reversed(below)


def is_element(node: Node) -> TypeGuard[Element]:
    """Whether a node is an element, not text or a comment."""
    return node.nodeType == Node.ELEMENT_NODE


def _blank(found: re.Match[str]) -> str:
    """What takes the place of a long text that is a picture, "" for other ones."""
    text = found[0]
    if text.startswith("="):
        return '=""' if is_picture(text[2:-1]) else ""
    return " " if is_picture(text) else ""


def is_picture(text: str) -> bool:
    """Whether a text is a picture in base64."""
    if len(text) < _SHORTEST_PICTURE:
        return False
    begin = "".join(text[:400].split()).rstrip("=")[:64]
    try:
        data = base64.b64decode(begin[: len(begin) // 4 * 4], validate=True)
    except (binascii.Error, ValueError):
        return False
    return data.startswith(_PICTURES) or data[4:8] == b"ftyp"


def written(document: Document) -> bytes:
    """The packet of a document; b"" where its root was taken out."""
    if document.documentElement is None:
        return b""
    return f'{_HEAD}{root(document).toxml()}<?xpacket end="w"?>'.encode()
