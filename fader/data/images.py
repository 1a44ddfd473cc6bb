"""The image files of a data set, in a folder or a zip, taken with caution: they may be anybody's.

Whatever is wrong with one of them is an :class:`~fader.errors.UnreadableImageError`, so that the
others go on; what a file holds decides, not its name.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import unicodedata
import zipfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from fader.errors import FaderError, UnreadableImageError
from fader.photo import IMAGE_SUFFIXES, open_photo
from fader.photo.formats import register_heif

#: An image file (also one that is packed in a zip) has at most this many bytes.
MOST_BYTES = 256 << 20

# What is packed in a zip may unpack to this many times its size, or to this many bytes. Pictures
# of one colour, uncompressed, pack better than that; nobody learns from them at that size.
_MOST_RATIO, _ANY_RATIO_BYTES = 200, 16 << 20
# Python unpacks bzip2 without a bound: a few bytes of it can fill the memory.
_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA)
_UTF8_NAME, _KNOWN_VERSION = 0x800, 20  # in a zip's directory

# Formats with a signature that no text begins with.
_SIGNED_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "AVIF", "HEIF", "JPEG2000")


class _Images:
    """Images by their names: ``data`` is a file's content, ``_beginning`` its first bytes."""

    data: Callable[[str], bytes]
    _beginning: Callable[[str], bytes]

    def read(self, name: str) -> np.ndarray:
        """The upright image, (H, W, 3) uint8 RGB; raises :class:`UnreadableImageError`."""
        data = self.data(name)
        try:
            return open_photo(data).pixels
        except UnreadableImageError as error:
            reason = str(error).removeprefix("the image: ")
            reason = reason if reason.startswith("broken") else f"broken: {reason}"
            raise UnreadableImageError(reason) from None

    def _is_image(self, name: str) -> bool:
        """Whether a file is an image by its name or its first bytes."""
        if has_image_suffix(name):
            return True
        try:
            beginning = self._beginning(name)
        except (UnreadableImageError, OSError):
            return False
        return any(accepts(beginning) for accepts in _signatures())


class FolderImages(_Images):
    """Images by their path relative to ``folder``; only regular files inside it are read, and those
    that links inside lead to."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.path = Path(folder)
        self._alike: dict[str, dict[str, list[str]]] = {}

    def names(self) -> list[str]:
        """The files that are images by their name or content, at any depth, in order; hidden ones,
        and those in hidden folders, are none."""
        found, todo = [], [""]
        while todo:
            inside = todo.pop()
            files: list[str] = []
            folders: list[str] = []
            try:
                with os.scandir(self.path / inside) as entries:
                    for entry in entries:
                        if entry.name.startswith("."):
                            continue
                        name = f"{inside}/{entry.name}" if inside else entry.name
                        (folders if entry.is_dir(follow_symlinks=False) else files).append(name)
            except OSError:
                if not inside:
                    raise
                # Without permission, or deeper than the system can name: told when it is read.
                found.append(inside)
                continue
            found += filter(self._is_image, sorted(files))
            todo += sorted(folders, reverse=True)
        return found

    def _beginning(self, name: str) -> bytes:
        with _open_regular(self.path / name) as file:
            return file.read(64)

    def data(self, name: str) -> bytes:
        """The file's content; raises :class:`UnreadableImageError`."""
        place = PurePosixPath(name)
        if place.is_absolute() or Path(name).is_absolute() or ".." in place.parts:
            raise UnreadableImageError("lies outside the folder; give its path inside that")
        try:
            file = _open_regular(self.path / name)
        except FileNotFoundError:
            file = _open_regular(self.path / self._renamed(name))
        with file:
            if (size := os.fstat(file.fileno()).st_size) > MOST_BYTES:
                raise _too_large(size)
            try:
                return file.read(MOST_BYTES)
            except OSError as error:
                raise UnreadableImageError(f"unreadable: {error.strerror}") from None

    def _renamed(self, name: str) -> str:
        """The one image that is called nearly so."""
        folder, last = os.path.split(name)
        if folder not in self._alike:
            self._alike[folder] = alike = dict[str, list[str]]()
            with suppress(OSError):
                for other in os.listdir(self.path / folder):
                    alike.setdefault(_loosely(other), []).append(other)
        return os.path.join(folder, _only(self._alike[folder], last))


class ZipImages(_Images):
    """Images read straight from the zip ``path``; raises :class:`FaderError` when it is none. Each
    process opens it for itself, since a shared file position would mix up their reads."""

    def __init__(self, path: str | os.PathLike[str], preferred: tuple[str, ...] = ()) -> None:
        self.path, self._preferred = Path(path), preferred
        self._owner = 0
        self._open()

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "_preferred": self._preferred, "_owner": 0}

    def _open(self) -> None:
        self._zip = _open_zip(self.path)
        # Of entries of one name the last counts, as it does where a zip is unpacked.
        self._members = {
            name: info
            for info in self._zip.infolist()
            if not info.filename.endswith(("/", "\\")) and (name := _entry_name(info.filename))
        }
        self._by_name: dict[str, zipfile.ZipInfo] = {}
        self._alike: dict[str, list[str]] = {}
        for name, info in self._members.items():
            place = PurePosixPath(name)
            if "__MACOSX" in place.parts:
                continue
            if place.name not in self._by_name:
                self._alike.setdefault(_loosely(place.name), []).append(place.name)
            if place.name not in self._by_name or place.parent.name in self._preferred:
                self._by_name[place.name] = info
        self._owner = os.getpid()

    def names(self) -> list[str]:
        """The entries that are images by their name or content, in order; each name once."""
        return [
            name
            for name in sorted(self._members)
            if "__MACOSX" not in name.split("/")[:-1]
            and not any(part.startswith(".") for part in name.split("/"))
            and self._is_image(name)
        ]

    def _beginning(self, name: str) -> bytes:
        return self._unpack(self._members[name], 64)

    def data(self, name: str) -> bytes:
        """The content of the entry with that path in the zip, or with that file name in any folder;
        raises :class:`UnreadableImageError`."""
        if self._owner != os.getpid():
            self._open()
        info = self._members.get(name) or self._by_name.get(name)
        return self._unpack(info or self._by_name[_only(self._alike, name)])

    def _unpack(self, info: zipfile.ZipInfo, most: int = MOST_BYTES) -> bytes:
        if info.compress_type not in _PACKINGS:
            raise UnreadableImageError(
                "packed in a way that is not read; pack the zip anew with the usual method, deflate"
            )
        if info.file_size > MOST_BYTES:
            raise _too_large(info.file_size)
        ratio = info.file_size / max(info.compress_size, 1)
        if info.file_size > _ANY_RATIO_BYTES and ratio > _MOST_RATIO:
            raise UnreadableImageError(
                f"unpacks to {ratio:.0f} times its size, as no photo does; left packed"
            )
        try:
            with self._zip.open(info) as file:
                return file.read(most)
        except UnicodeDecodeError:
            raise UnreadableImageError("its name is not the UTF-8 that it claims to be") from None
        # A damaged archive is answered with whatever the unpacking ran into.
        except Exception as error:
            raise UnreadableImageError(f"broken in the zip: {_in_words(error)}") from None


@cache
def _signatures() -> tuple[Callable[[bytes], bool | str], ...]:
    register_heif()
    Image.init()
    known = (Image.OPEN[name][1] for name in _SIGNED_FORMATS if name in Image.OPEN)
    return tuple(accepts for accepts in known if accepts)


def _open_regular(path: Path) -> io.BufferedReader:
    """The file, which is not waited for, as a pipe would be; raises :class:`FileNotFoundError`, and
    :class:`UnreadableImageError` for anything else."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(path, flags)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise UnreadableImageError(f"unreadable: {_in_words(error)}") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise UnreadableImageError("no regular file, so not a photo")
    return open(handle, "rb")


def _only(alike: dict[str, list[str]], name: str) -> str:
    """The one image of those that are called nearly as ``name``, best with its very letters."""
    images = sorted(other for other in alike.get(_loosely(name), ()) if has_image_suffix(other))
    same = [other for other in images if _without_suffix(other) == _without_suffix(name)]
    images = same or images
    if not images:
        raise UnreadableImageError("missing")
    if len(images) > 1:
        raise UnreadableImageError(f"missing; there are {' and '.join(images)} instead")
    return images[0]


def is_picture(path: Path) -> bool:
    """Whether the file is an image by its name or its first bytes."""
    return FolderImages(path.parent)._is_image(path.name)


def has_image_suffix(name: str) -> bool:
    """Whether a file of this name is taken for an image without a look at it."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def _without_suffix(name: str) -> str:
    """The name without the suffix of an image; other suffixes are part of the name."""
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in IMAGE_SUFFIXES else name


def _entry_name(name: str) -> str:
    """A zip entry's name without what leads out of the zip; some are written with backslashes."""
    parts = name.replace("\\", "/").split("/")
    return "/".join(part for part in parts if part not in ("", ".", ".."))


def _loosely(name: str) -> str:
    """The name but for its suffix, capitals, and the ways to write an accent."""
    return unicodedata.normalize("NFC", _without_suffix(name)).casefold()


def _too_large(size: int) -> UnreadableImageError:
    return UnreadableImageError(
        f"is {size / 1e6:.0f} MB large, and no image may have more than {MOST_BYTES >> 20} MB"
    )


def one_line(error: BaseException) -> str:
    """What an error says in one line, or else its kind."""
    return " ".join(str(error).split()) or type(error).__name__


def _in_words(error: BaseException) -> str:
    return getattr(error, "strerror", None) or one_line(error)


# --- zips of which a single entry is not as it should be -------------------------------------


def _open_zip(path: Path) -> zipfile.ZipFile:
    """The zip at ``path``; :class:`FaderError` when it is no regular file or not a whole zip.

    Python's reader gives up on the whole archive when one name in its directory is not the UTF-8
    it claims to be, or one entry asks for a newer version of the format. Here such an entry is
    listed, and refused when it is read, or read all the same.
    """
    try:
        if stat.S_ISREG(path.stat().st_mode):
            try:
                return zipfile.ZipFile(path)
            except (UnicodeDecodeError, NotImplementedError):
                return zipfile.ZipFile(io.BufferedReader(_Mended(path)))
    # A damaged directory is answered with whatever its parser ran into.
    except Exception as error:
        raise FaderError(
            f"{path}: not a whole zip file ({one_line(error)}); fetch it again"
        ) from None
    raise FaderError(f"{path}: no regular file; give a zip or a folder")


class _Mended(io.FileIO):
    """A zip file whose directory has names in Python's fallback encoding, and known versions; to be
    read through a buffer, which asks for nothing but :meth:`readinto`."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._start, self._directory = _mended_directory(path)

    def readinto(self, buffer: Any) -> int:
        at = self.tell()
        count = super().readinto(buffer)
        first = max(at, self._start)
        last = min(at + count, self._start + len(self._directory))
        if first < last:
            part = self._directory[first - self._start : last - self._start]
            buffer[first - at : last - at] = part
        return count


def _mended_directory(path: Path) -> tuple[int, bytes]:
    """Where the zip's directory begins, and its content mended; raises
    :class:`zipfile.BadZipFile` where it is not found."""
    with open(path, "rb") as file:
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
        try:
            directory[at + 46 : at + 46 + name].decode("utf-8")
        except UnicodeDecodeError:
            struct.pack_into("<H", directory, at + 8, flags & ~_UTF8_NAME)
        at += 46 + name + extra + comment
    return start, bytes(directory)
