"""What strangers send: forms, read into memory and never onto a disk, and zips, looked through
before anything of them is written."""

from __future__ import annotations

import io
import stat
import zipfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from fastapi import Request
from starlette.formparsers import MultiPartException, MultiPartParser

from fader.app.errors import Refused
from fader.app.settings import MB, MOST_PHOTOS, MOST_RATIO, MOST_UNPACKED
from fader.files import FULL
from fader.photo import IMAGE_SUFFIXES

# What a client that does not wait for the answer is let send, so that it gets to read it; what a
# zip may have packed as tightly as it likes.
_PATIENCE, _HARMLESS = 256 * MB, MB


@dataclass
class Form:
    """A form's files, as names with contents, by field, and its other fields."""

    files: dict[str, list[tuple[str, bytes]]] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)

    @property
    def all(self) -> list[tuple[str, bytes]]:
        """The files of all fields."""
        return [file for some in self.files.values() for file in some]

    def one(self, name: str) -> tuple[str, bytes]:
        """The only file of a field, or of the whole form, whatever its field is called."""
        files = self.files.get(name) or self.all
        if len(files) != 1:
            raise Refused(422, f"{name}: send one photo in this field, as multipart/form-data")
        if not files[0][1]:
            raise Refused(415, f"{files[0][0]}: is empty (zero bytes)")
        return files[0]


class _InMemory(MultiPartParser):
    spool_max_size = 1 << 62


class Uploads:
    """Reads forms, none larger than ``most`` bytes and together no more than ``memory``."""

    def __init__(self, most: int, memory: int) -> None:
        self._most, self._memory, self._held = most, max(memory, 2 * most), 0

    @asynccontextmanager
    async def reading(self, request: Request) -> AsyncIterator[Form]:
        """The form of a request, whose memory counts while the block runs. Raises :class:`Refused`:
        413 for one that is too large, 429 while others take the memory."""
        if not request.headers.get("content-type", "").startswith("multipart/form-data"):
            raise Refused(415, "send the photo as multipart/form-data, as a browser's form does")
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._most and "expect" in request.headers:
            raise self._too_large()
        held = 0

        def hold(count: int) -> None:
            nonlocal held
            if self._held + count > self._memory:
                raise Refused(429, "others are sending photos right now; try again in a moment")
            held += count
            self._held += count

        try:
            yield await self._parsed(request, hold)
        finally:
            self._held -= held

    async def _parsed(self, request: Request, hold: Callable[[int], None]) -> Form:
        limits = {"max_files": MOST_PHOTOS, "max_fields": 100, "max_part_size": 64 << 10}
        parser = _InMemory(request.headers, self._bounded(request, hold), **limits)
        try:
            parsed = await parser.parse()
        except MultiPartException as error:
            raise Refused(400, f"the form cannot be read ({error.message})") from None
        form = Form()
        for name, value in parsed.multi_items():
            if isinstance(value, str):
                form.fields[name] = value
            else:
                content = value.file.read()
                form.files.setdefault(name, []).append((value.filename or "photo", content))
                value.file.close()
        return form

    async def _bounded(
        self, request: Request, hold: Callable[[int], None]
    ) -> AsyncGenerator[bytes]:
        read = 0
        async for chunk in request.stream():
            read += len(chunk)
            if read <= self._most:
                hold(len(chunk))
                yield chunk
            elif read > self._most + _PATIENCE:
                break
        if read > self._most:
            raise self._too_large()

    def _too_large(self) -> Refused:
        most = f"{self._most / MB:g} MB"
        mend = "start the server with --max-upload for more"
        return Refused(413, f"an upload may have {most} at most; {mend}")


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

    Raises :class:`Refused`, and writes nothing, for a zip with links, with names that lead out of
    ``folder``, with a password, or beyond ``limits``; one that turns out damaged half-way leaves
    the photos before that. Raises :class:`OSError` where the disk is full.
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
    # A damaged zip is answered with whatever its reader ran into.
    except Exception as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        if isinstance(error, OSError) and error.filename is not None:
            raise Refused(422, f"{name}: cannot be unpacked ({error.strerror})") from None
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Refused(415, f"{name}: not a whole zip ({reason})") from None
    return len(entries)


def _checked(
    entries: list[zipfile.ZipInfo], name: str, limits: ZipLimits
) -> dict[PurePosixPath, zipfile.ZipInfo]:
    """The photos among the entries, by their places."""

    def need(fine: bool, otherwise: str) -> None:
        if not fine:
            raise Refused(413, f"{name}: {otherwise}")

    allowed = f"{limits.entries} are allowed at most"
    need(len(entries) <= limits.entries, f"has {len(entries)} entries, and {allowed}")
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
    allowed = f"{limits.unpacked / MB:.0f} are allowed at most"
    need(unpacked <= limits.unpacked, f"would unpack to {unpacked / MB:.0f} MB, and {allowed}")
    most, times = max(_HARMLESS, limits.ratio * packed), f"{limits.ratio} times its size"
    need(unpacked <= most, f"would unpack to more than {times}, which no photos do")
    return photos


def _place(entry: zipfile.ZipInfo, name: str) -> PurePosixPath:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        what = "a link; links" if kind == stat.S_IFLNK else "no regular file; such"
        raise Refused(422, f"{name}: {entry.filename} is {what} are refused")
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
