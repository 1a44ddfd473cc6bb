"""What travels beside a photo's pixels: EXIF, and XMP that says a photo was edited."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr, unescape

from PIL import ExifTags

from fader._version import __version__

#: IPTC's word for a photo parts of which a trained model made.
DIGITAL_SOURCE_TYPE = (
    "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
)

# Entries of a TIFF's directory that describe the photo and not the way its pixels are stored.
DESCRIBING = (
    *(ExifTags.Base.ImageDescription, ExifTags.Base.Make, ExifTags.Base.Model),
    *(ExifTags.Base.Software, ExifTags.Base.DateTime, ExifTags.Base.Artist),
    *(ExifTags.Base.HostComputer, ExifTags.Base.Rating, ExifTags.Base.Copyright),
    *range(0x9C9B, 0x9CA0),  # title, comment, author, keywords and subject, as Windows writes them
    *(ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo),
)

_EXIF_PREFIX = b"Exif\0\0"
_ORIENTATION, _SOFTWARE = 0x0112, 0x0131
_EMPTY_TIFF = b"II*\0\x08\0\0\0" + b"\0\0" + b"\0\0\0\0"

_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_NAMESPACE = "urn:x-fader:edits/1/"
_EMPTY_XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"></rdf:RDF>'
    '</x:xmpmeta><?xpacket end="w"?>'
)


@dataclass(frozen=True)
class Provenance:
    """That a photo was edited, as its file says it.

    ``software`` is the program with its version, ``edits`` the attributes it set, as text such as
    ``"Male=0, Smiling=1"`` (those of an earlier edit come first, with ``;`` between).
    """

    edits: str
    software: str = f"Fader {__version__}"

    def __str__(self) -> str:
        return f"{self.software} ({self.edits})"


def upright_exif(exif: bytes, software: str | None = None) -> bytes:
    """``exif`` with its orientation set to upright, its thumbnail unlinked, ``software`` noted.

    Nothing in the block moves: a new first directory is put at the end, so that maker notes,
    whose offsets no one else understands, stay valid. The thumbnail would show the photo as it
    was. Broken EXIF is given up (only ``software`` remains); without any of both the result is
    ``b""``.
    """
    try:
        return _rewritten(exif.removeprefix(_EXIF_PREFIX) or _EMPTY_TIFF, software)
    except (struct.error, ValueError):
        return _rewritten(_EMPTY_TIFF, software) if software else b""


def _rewritten(tiff: bytes, software: str | None) -> bytes:
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        raise ValueError("no TIFF header")
    (start,) = struct.unpack_from(f"{order}I", tiff, 4)
    (count,) = struct.unpack_from(f"{order}H", tiff, start)
    entries = {}
    for index in range(count):
        entry = tiff[start + 2 + 12 * index :][:12]
        entries[struct.unpack_from(f"{order}H", entry)[0]] = entry.ljust(12, b"\0")
    if tiff[start + 2 : start + 14] and len(tiff) < start + 2 + 12 * count:
        raise ValueError("cut short")
    if _ORIENTATION in entries:
        entries[_ORIENTATION] = struct.pack(f"{order}HHIHH", _ORIENTATION, 3, 1, 1, 0)
    directory = len(tiff) + len(tiff) % 2
    text = b""
    if software:
        text = software.encode("ascii", "replace") + b"\0"
        place = directory + 2 + 12 * len(entries.keys() | {_SOFTWARE}) + 4
        entries[_SOFTWARE] = struct.pack(f"{order}HHII", _SOFTWARE, 2, len(text), place)
    if not entries:
        return b""
    return b"".join(
        (
            _EXIF_PREFIX + tiff[:4] + struct.pack(f"{order}I", directory),
            tiff[8:].ljust(directory - 8, b"\0"),
            struct.pack(f"{order}H", len(entries)),
            *(entries[tag] for tag in sorted(entries)),
            b"\0\0\0\0",  # no second directory: that is the thumbnail's
            text,
        )
    )


def upright_xmp(xmp: bytes) -> bytes:
    """An XMP packet with its orientation, should it have one, set to upright."""
    xmp = re.sub(rb"(tiff:Orientation\s*=\s*[\"'])\d(?=[\"'])", rb"\g<1>1", xmp)
    return re.sub(rb"(<tiff:Orientation>\s*)\d(?=\s*</tiff:Orientation>)", rb"\g<1>1", xmp)


def marked_xmp(xmp: bytes, provenance: Provenance) -> bytes:
    """The XMP packet ``xmp`` (or a new one) that also says the photo is a composite, made by what.

    What the packet says else is kept; where it already names a digital source type, ours takes
    its place, and earlier edits of ours are named before the new ones.
    """
    packet = xmp.decode("utf-8", "replace")
    if "</rdf:RDF>" not in packet:
        packet = _EMPTY_XMP
    earlier = _value(packet, "fader:Edits")
    edits = f"{earlier}; {provenance.edits}" if earlier else provenance.edits
    for name in ("Iptc4xmpExt:DigitalSourceType", "fader:Edits", "fader:Software"):
        packet = re.sub(rf"\s{name}\s*=\s*(\"[^\"]*\"|'[^']*')", "", packet)
        packet = re.sub(rf"<{name}\b[^>]*?(/>|>.*?</{name}>)", "", packet, flags=re.DOTALL)
    about = re.search(r"rdf:about\s*=\s*(\"[^\"]*\"|'[^']*')", packet)
    description = (
        f"<rdf:Description rdf:about={about[1] if about else quoteattr('')}"
        f" xmlns:Iptc4xmpExt={quoteattr(_IPTC)} xmlns:fader={quoteattr(_NAMESPACE)}>"
        f"<Iptc4xmpExt:DigitalSourceType>{DIGITAL_SOURCE_TYPE}</Iptc4xmpExt:DigitalSourceType>"
        f"<fader:Software>{escape(provenance.software)}</fader:Software>"
        f"<fader:Edits>{escape(edits)}</fader:Edits></rdf:Description>"
    )
    head, _, tail = packet.rpartition("</rdf:RDF>")
    return f"{head}{description}</rdf:RDF>{tail}".encode()


def read_provenance(xmp: bytes) -> Provenance | None:
    """What an XMP packet says about edits by a trained model; None when it says nothing of any."""
    packet = xmp.decode("utf-8", "replace")
    kind = _value(packet, "Iptc4xmpExt:DigitalSourceType")
    if not kind or "rainedAlgorithmicMedia" not in kind:
        return None
    software = _value(packet, "fader:Software") or _value(packet, "xmp:CreatorTool")
    return Provenance(
        _value(packet, "fader:Edits") or kind.rpartition("/")[2], software or "unnamed software"
    )


def _value(packet: str, name: str) -> str:
    """The text of a simple XMP property, written as an element or as an attribute."""
    found = re.search(rf"<{name}\b[^>]*>([^<]*)</{name}>", packet) or re.search(
        rf"\s{name}\s*=\s*[\"']([^\"']*)[\"']", packet
    )
    return unescape(found[1], {"&quot;": '"', "&apos;": "'"}).strip() if found else ""
