"""What travels beside a photo's pixels: gathered from a file, and set right for an edited one."""

from __future__ import annotations

from dataclasses import dataclass, field

from PIL import ExifTags

from fader._version import __version__
from fader.photo.exif import PREFIX, cleaned_exif, exif_orientation
from fader.photo.resources import separated
from fader.photo.xmp import cleaned_xmp, marked_xmp, read_marks

# Entries of a TIFF's directory that describe the photo and not the way its pixels are stored.
DESCRIBING = (
    *(ExifTags.Base.ImageDescription, ExifTags.Base.Make, ExifTags.Base.Model),
    *(ExifTags.Base.Software, ExifTags.Base.DateTime, ExifTags.Base.Artist),
    *(ExifTags.Base.HostComputer, ExifTags.Base.Rating, ExifTags.Base.Copyright),
    *(ExifTags.Base.DocumentName, ExifTags.Base.PageName, ExifTags.Base.RatingPercent),
    *range(0x9C9B, 0x9CA0),  # title, comment, author, keywords and subject, as Windows writes them
    *(ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo),
)


# So many of the parts left out are named.
_MOST_NAMED = 6


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

    def marked(self, xmp: bytes) -> bytes:
        """The XMP packet ``xmp``, or a new one, that also says this."""
        return marked_xmp(xmp, self.edits, self.software)


def read_provenance(xmp: bytes) -> Provenance | None:
    """What an XMP packet says about edits by a trained model; None when it says nothing of any."""
    kind, edits, software = read_marks(xmp)
    if "rainedAlgorithmicMedia" not in kind:
        return None
    return Provenance(edits or kind.rpartition("/")[2], software or "unnamed software")


@dataclass
class Contents:
    """What a file holds beside its pixels, as bytes in the form that each kind of block has.

    ``exif`` begins with its prefix; ``more_exif`` are further blocks of a JPEG; ``extension`` is
    the second part of a long ``xmp``, after cleaning only one that cannot be read; ``resources``
    are Photoshop's, captions among them; ``comments`` those of a JPEG or GIF; ``chunks`` a PNG's
    that describe the photo, in order, the first being the two bytes on its pixels from its header.
    ``gone`` names what is beside the photo and not kept, ``others`` parts of the file of which
    nothing is known but what they are called; ``notes`` are other phrases for the user.
    """

    exif: bytes = b""
    more_exif: list[bytes] = field(default_factory=list)
    xmp: bytes = b""
    extension: bytes = b""
    icc: bytes | None = None
    resources: bytes = b""
    comments: list[bytes] = field(default_factory=list)
    chunks: list[tuple[bytes, bytes]] = field(default_factory=list)
    dpi: tuple[float, float] | None = None
    gone: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def clean(self) -> int:
        """Make everything fit an edited photo that is upright; answers what its orientation was.

        No picture of the photo as it was is left, nor a promise of something that is gone; all
        orientations are 1. What that loses beside is said in ``notes``.
        """
        self.resources, exif, xmp, broken = separated(self.resources)
        if broken:
            self.notes.append("some of its Photoshop resources are broken and left out")
        self.exif = self.exif or (PREFIX + exif if exif else b"")
        self.xmp = self.xmp or xmp
        told = map(exif_orientation, (self.exif, *self.more_exif))
        orientation = next(filter(None, told), None)
        before = self.exif
        self.exif = cleaned_exif(before)
        if before.strip(b"\0") not in (b"", b"Exif") and not self.exif and len(before) > 20:
            self.notes.append("its EXIF is broken and left out")
        self.more_exif = [block for block in map(cleaned_exif, self.more_exif) if block]
        cleaned = cleaned_xmp(self.xmp, self.extension)
        if cleaned.broken:
            self.notes.append("its XMP is broken, or beyond measure, and left out")
        self.xmp, self.extension = cleaned.packet, cleaned.extension
        gone = dict.fromkeys((*self.gone, *cleaned.gone))
        for word in gone:
            self.notes.append(f"its {word} {'are' if 'credentials' in word else 'is'} left out")
        if others := list(dict.fromkeys(self.others)):
            more = ", …" if len(others) > _MOST_NAMED else ""
            self.notes.append(
                f"other parts of the file left out ({', '.join(others[:_MOST_NAMED])}{more})"
            )
        return orientation or cleaned.orientation or 1
