"""Opening zips of which a single entry is not as it should be.

Python's reader gives up on the whole archive when one name in its directory is not the UTF-8 it
claims to be, or one entry asks for a newer version of the format. Here such an entry is listed,
and refused when it is read, or read all the same.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import zipfile
from pathlib import Path
from typing import Any

from fader.errors import FaderError

_UTF8_NAME = 0x800
_KNOWN_VERSION = 20


def open_zip(path: str | os.PathLike[str]) -> zipfile.ZipFile:
    """The zip at ``path``, open for reading.

    Raises :class:`FaderError` when it is not a regular file or not a whole zip.
    """
    path = Path(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise FaderError(f"{path}: no regular file; give a zip or a folder")
        try:
            return zipfile.ZipFile(path)
        except (UnicodeDecodeError, NotImplementedError):
            return zipfile.ZipFile(io.BufferedReader(_Mended(path)))
    except FaderError:
        raise
    # A damaged directory is answered with whatever its parser ran into.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FaderError(f"{path}: not a whole zip file ({reason}); fetch it again") from None


class _Mended(io.RawIOBase):
    """A zip file whose directory has names in Python's fallback encoding, and known versions."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115
        self._start, self._directory = _mended_directory(self._file)
        self._file.seek(0)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        at = self._file.tell()
        count = self._file.readinto(buffer)
        first = max(at, self._start)
        last = min(at + count, self._start + len(self._directory))
        if first < last:
            part = self._directory[first - self._start : last - self._start]
            buffer[first - at : last - at] = part
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def _mended_directory(file: io.RawIOBase) -> tuple[int, bytes]:
    """Where the zip's directory begins, and its content mended.

    Raises :class:`zipfile.BadZipFile` where it is not found.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - (1 << 16) - 22))
    tail = file.read()
    end = tail.rfind(b"PK\5\6")
    if end < 0 or len(tail) - end < 22:
        raise zipfile.BadZipFile("without a directory")
    length = struct.unpack_from("<L", tail, end + 12)[0]
    start = size - len(tail) + end - length
    if start < 0:
        raise zipfile.BadZipFile("its directory is cut short")
    file.seek(start)
    directory = bytearray(file.read(length))
    at = 0
    # Each entry has 46 bytes, then its name, extra fields and a comment.
    while directory[at : at + 4] == b"PK\1\2" and at + 46 <= len(directory):
        version, flags = struct.unpack_from("<6xHH", directory, at)
        name, extra, comment = struct.unpack_from("<28xHHH", directory, at)
        if version > _KNOWN_VERSION:
            struct.pack_into("<H", directory, at + 6, _KNOWN_VERSION)
        if flags & _UTF8_NAME and not _is_utf8(directory[at + 46 : at + 46 + name]):
            struct.pack_into("<H", directory, at + 8, flags & ~_UTF8_NAME)
        at += 46 + name + extra + comment
    return start, bytes(directory)


def _is_utf8(name: bytes | bytearray) -> bool:
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
