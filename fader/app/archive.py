"""Zips from strangers: looked through before anything of them is written."""

from __future__ import annotations

import io
import stat
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fader.app.errors import Refused
from fader.app.settings import MB, MOST_PHOTOS, MOST_RATIO, MOST_UNPACKED
from fader.photo import IMAGE_SUFFIXES

# So much may be packed as tightly as one likes.
_HARMLESS = MB


@dataclass(frozen=True)
class ZipLimits:
    """Entries, bytes unpacked, and how many times as many as packed."""

    entries: int = MOST_PHOTOS
    unpacked: int = MOST_UNPACKED
    ratio: int = MOST_RATIO


def is_zip(data: bytes) -> bool:
    """Whether a file is a zip, by its content."""
    return data[:4] in (b"PK\3\4", b"PK\5\6")


def unpack_photos(data: bytes, name: str, folder: Path, limits: ZipLimits = ZipLimits()) -> int:
    """Write the photos of a zip (those with a photo's suffix) into ``folder``; how many there are.

    Raises :class:`~fader.app.errors.Refused` for a zip with links, with names that lead out of
    ``folder``, with a password, damaged, or beyond ``limits``; nothing is written then.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = _checked(archive.infolist(), name, limits)
            # What an entry says of its size may be a lie: the reader stops there in any case.
            for place, entry in entries.items():
                target = folder / place
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(entry))
    except Refused:
        raise
    except OSError as error:
        if error.filename is None:
            raise Refused(415, f"{name}: not a whole zip ({error})") from None
        raise Refused(422, f"{name}: cannot be unpacked ({error.strerror})") from None
    # A damaged zip is answered with whatever its reader ran into.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Refused(415, f"{name}: not a whole zip ({reason})") from None
    return len(entries)


def _checked(
    entries: list[zipfile.ZipInfo], name: str, limits: ZipLimits
) -> dict[PurePosixPath, zipfile.ZipInfo]:
    """The photos among the entries, by their places."""
    if len(entries) > limits.entries:
        raise Refused(
            413, f"{name}: has {len(entries)} entries, and {limits.entries} are allowed at most"
        )
    photos: dict[PurePosixPath, zipfile.ZipInfo] = {}
    for entry in entries:
        place = _place(entry, name)
        if entry.is_dir():
            continue
        hidden = any(part.startswith((".", "__MACOSX")) for part in place.parts)
        if not hidden and place.suffix.lower() in IMAGE_SUFFIXES:
            if place in photos:
                raise Refused(422, f"{name}: has {place} twice")
            photos[place] = entry
    unpacked = sum(entry.file_size for entry in entries)
    packed = sum(entry.compress_size for entry in entries)
    if unpacked > limits.unpacked:
        raise Refused(
            413,
            f"{name}: would unpack to {unpacked / MB:.0f} MB, and {limits.unpacked / MB:.0f} are "
            "allowed at most",
        )
    if unpacked > max(_HARMLESS, limits.ratio * packed):
        raise Refused(
            413,
            f"{name}: would unpack to more than {limits.ratio} times its size, which no photos do",
        )
    return photos


def _place(entry: zipfile.ZipInfo, name: str) -> PurePosixPath:
    mode = entry.external_attr >> 16
    kind = stat.S_IFMT(mode)
    if kind == stat.S_IFLNK:
        raise Refused(422, f"{name}: {entry.filename} is a link; links are refused")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise Refused(422, f"{name}: {entry.filename} is no regular file; such are refused")
    if entry.flag_bits & 1:
        raise Refused(422, f"{name}: has a password; pack it without one")
    # zipfile cuts names at a zero byte and puts slashes for the system's separator.
    whole = (entry.orig_filename or entry.filename).replace("\\", "/")
    place = PurePosixPath(whole)
    drive = len(whole) > 1 and whole[1] == ":"
    leads_out = place.is_absolute() or drive or ".." in place.parts
    if leads_out or not whole.isprintable() or not place.parts:
        raise Refused(422, f"{name}: {whole!r} leads out of the zip; such names are refused")
    return place
