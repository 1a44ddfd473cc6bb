"""EXIF blocks: their orientation, the pictures embedded in them, and the name of a program.

Nothing in a block moves, so that maker notes, whose offsets no one else understands, stay valid.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from contextlib import suppress

PREFIX = b"Exif\0\0"

_ORIENTATION, _SOFTWARE, _SUB_DIRECTORIES = 0x0112, 0x0131, 0x014A
_DIRECTORIES = (0x8769, 0x8825, 0xA005)  # EXIF's own, GPS, interoperability
# Offsets of a picture's data, and where their lengths are: strips, tiles, a JPEG.
_PICTURES = {0x0111: 0x0117, 0x0144: 0x0145, 0x0201: 0x0202}
_WHOLE_NUMBERS = {1: "B", 3: "H", 4: "I", 13: "I"}
_EMPTY = b"II*\0\x08\0\0\0" + b"\0\0" + b"\0\0\0\0"

# More directories, or entries in one, are no camera's.
_MOST_DIRECTORIES, _MOST_ENTRIES = 64, 4096

# The first byte is another one in some cameras' previews.
_JPEG_START = re.compile(rb"[\0-\xff]\xd8\xff[\xc0-\xfe]")


def is_tiff(block: bytes | bytearray) -> bool:
    """Whether a block begins as EXIF does, after its prefix."""
    return block[:4] in (b"II*\0", b"MM\0*")


def exif_orientation(exif: bytes) -> int | None:
    """The orientation a block tells, 1..8; None when it tells none."""
    with suppress(struct.error, ValueError):
        block = _Block(exif)
        for entry in block.entries(block.first)[0]:
            if block.tag(entry) == _ORIENTATION:
                values = block.values(entry)
                return values[0] if values and 1 <= values[0] <= 8 else None
    return None


def cleaned_exif(exif: bytes) -> bytes:
    """``exif`` with its orientation set to upright and all pictures in it overwritten.

    These are the thumbnail, further pictures that directories name, and whatever else in the block
    is a JPEG, such as the preview in a maker's notes: they show the photo as it was. Broken EXIF is
    ``b""``.
    """
    with suppress(struct.error, ValueError):
        return _Block(exif).cleaned()
    return b""


def signed_exif(exif: bytes, software: str) -> bytes:
    """``exif``, or a new block, that also names a program, in a new first directory at its end."""
    try:
        block = _Block(exif)
        entries = {block.tag(entry): entry for entry in block.entries(block.first)[0]}
    except (struct.error, ValueError):
        block, entries = _Block(_EMPTY), {}
    order, tiff = block.order, bytes(block.data)
    directory = len(tiff) + len(tiff) % 2
    text = software.encode("ascii", "replace") + b"\0"
    place = directory + 2 + 12 * len(entries.keys() | {_SOFTWARE}) + 4
    value = text.ljust(4, b"\0") if len(text) <= 4 else struct.pack(f"{order}I", place)
    entries[_SOFTWARE] = struct.pack(f"{order}HHI", _SOFTWARE, 2, len(text)) + value
    return b"".join(
        (
            PREFIX + tiff[:4] + struct.pack(f"{order}I", directory),
            tiff[8:].ljust(directory - 8, b"\0"),
            struct.pack(f"{order}H", len(entries)),
            *(entries[tag] for tag in sorted(entries)),
            b"\0\0\0\0",  # no second directory: that is a thumbnail's
            text,
        )
    )


class _Block:
    def __init__(self, exif: bytes) -> None:
        self.data = bytearray(exif.removeprefix(PREFIX))
        if not is_tiff(self.data):
            raise ValueError("no TIFF header")
        order = self.order = "<" if self.data[:2] == b"II" else ">"
        (self.first,) = struct.unpack_from(f"{order}I", self.data, 4)
        self._seen: set[int] = set()
        self._erased: list[tuple[int, int]] = []

    def entries(self, at: int) -> tuple[list[bytes], int]:
        """The 12-byte entries of a directory, and where the next one is."""
        (count,) = struct.unpack_from(f"{self.order}H", self.data, at)
        end = at + 2 + 12 * count
        if end > len(self.data) or count > _MOST_ENTRIES:
            raise ValueError("cut short")
        entries = [bytes(self.data[i : i + 12]) for i in range(at + 2, end, 12)]
        following = bytes(self.data[end : end + 4]).ljust(4, b"\0")
        return entries, struct.unpack(f"{self.order}I", following)[0]

    def tag(self, entry: bytes) -> int:
        return struct.unpack_from(f"{self.order}H", entry)[0]

    def values(self, entry: bytes) -> tuple[int, ...]:
        """The whole numbers of an entry; () for other kinds of values."""
        _, kind, count, place = struct.unpack(f"{self.order}HHII", entry)
        if kind not in _WHOLE_NUMBERS or not count:
            return ()
        form = f"{self.order}{count}{_WHOLE_NUMBERS[kind]}"
        source, start = (entry, 8) if struct.calcsize(form) <= 4 else (self.data, place)
        if start + struct.calcsize(form) > len(source):
            return ()
        return struct.unpack_from(form, source, start)

    def cleaned(self) -> bytes:
        if not self.entries(self.first)[0]:
            return b""
        self._clean(self.first, chained=True)
        self._erase_jpegs()
        end = len(self.data)
        for start, stop in sorted(self._erased, reverse=True):
            if stop >= end:
                end = min(end, start)
        # What was a thumbnail at the end makes room for what is to be added.
        return PREFIX + bytes(self.data[:end])

    def _clean(self, at: int, chained: bool = False) -> None:
        if at in self._seen or len(self._seen) > _MOST_DIRECTORIES:
            return
        self._seen.add(at)
        entries, following = self.entries(at)
        kept = [new for entry in entries if (new := self._cleaned_entry(entry))]
        self._erase_pictures(entries)
        if chained and following:
            self._erase_directory(following)
        end = at + 2 + 12 * len(entries)
        rest = bytes(4) if chained else bytes(self.data[end : end + 4])
        new = struct.pack(f"{self.order}H", len(kept)) + b"".join(kept) + rest
        length = min(end + 4, len(self.data)) - at
        self.data[at : at + length] = new.ljust(length, b"\0")[:length]

    def _cleaned_entry(self, entry: bytes) -> bytes:
        """An entry for an upright photo, with the directories below it cleaned; b"" to drop it."""
        tag = self.tag(entry)
        if tag == _ORIENTATION:
            return struct.pack(f"{self.order}HHIHH", _ORIENTATION, 3, 1, 1, 0)
        if tag == _SUB_DIRECTORIES:
            for below in self.values(entry):
                self._erase_directory(below)
            return b""
        if tag in _DIRECTORIES:
            for below in self.values(entry)[:1]:
                with suppress(struct.error, ValueError):  # an unreadable directory says nothing
                    self._clean(below)
        return b"" if tag in _PICTURES or tag in _PICTURES.values() else entry

    def _erase_directory(self, at: int) -> None:
        while at and at not in self._seen and len(self._seen) <= _MOST_DIRECTORIES:
            self._seen.add(at)
            try:
                entries, following = self.entries(at)
            except (struct.error, ValueError):
                return
            if any(not 1 <= struct.unpack_from(f"{self.order}H", e, 2)[0] <= 18 for e in entries):
                return  # no directory
            for entry in entries:
                if self.tag(entry) == _SUB_DIRECTORIES:
                    for below in self.values(entry)[:_MOST_DIRECTORIES]:
                        self._erase_directory(below)
            self._erase_pictures(entries)
            self._erase(at, at + 2 + 12 * len(entries) + 4)
            at = following

    def _erase_pictures(self, entries: list[bytes]) -> None:
        values = {self.tag(entry): self.values(entry) for entry in entries}
        for places, lengths in _PICTURES.items():
            for start, length in zip(values.get(places, ()), values.get(lengths, ()), strict=False):
                if start >= 8:
                    self._erase(start, start + length)

    def _erase_jpegs(self) -> None:
        for start, end in _jpegs(bytes(self.data)):
            self._erase(start, end)

    def _erase(self, start: int, stop: int) -> None:
        stop = min(stop, len(self.data))
        if start < stop:
            self.data[start:stop] = bytes(stop - start)
            self._erased.append((start, stop))


def without_jpegs(data: bytes) -> bytes:
    """``data`` with all JPEGs in it overwritten."""
    parts = bytearray(data)
    for start, end in _jpegs(data):
        parts[start:end] = bytes(end - start)
    return bytes(parts)


def _jpegs(data: bytes) -> Iterator[tuple[int, int]]:
    """Where the JPEGs in ``data`` begin and end."""
    place = 0
    while found := _JPEG_START.search(data, place):
        end = _jpeg_end(data, found.start())
        if end:
            yield found.start(), end
        place = end or found.start() + 2


def _jpeg_end(data: bytes, start: int) -> int | None:
    """Where the JPEG at ``start`` ends (the block's end, if it is cut); None if it is none."""
    place = start + 2
    for _ in range(64):
        if data[place : place + 1] != b"\xff" or place + 4 > len(data):
            return None
        marker = data[place + 1]
        (length,) = struct.unpack_from(">H", data, place + 2)
        place += 2 + length
        if marker == 0xDA:  # the pixels
            end = data.find(b"\xff\xd9", place)
            return end + 2 if end >= 0 else len(data)
        if length < 2 or marker < 0xC0 or 0xD0 <= marker <= 0xD9:
            return None
    return None
