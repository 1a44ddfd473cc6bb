"""The image files of a data set, in a folder or a zip, taken with caution: they may be anybody's.

Whatever is wrong with one of them is an :class:`~fader.errors.UnreadableImageError`, so that the
others go on. Nothing is told by the file's name: what it holds decides.
"""

from __future__ import annotations

import io
import os
import stat
import unicodedata
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from fader.data.archives import open_zip
from fader.errors import UnreadableImageError
from fader.photo import IMAGE_SUFFIXES, open_photo
from fader.photo.formats import register_heif

#: An image file (also one that is packed in a zip) has at most this many bytes.
MOST_BYTES = 256 << 20

# What is packed in a zip may unpack to this many times its size, or to this many bytes. Pictures
# of one colour, uncompressed, pack better than that; nobody learns from them at that size.
_MOST_RATIO, _ANY_RATIO_BYTES = 200, 16 << 20
# Python unpacks bzip2 without a bound: a few bytes of it can fill the memory.
_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA)

# Formats with a signature that no text begins with.
_SIGNED_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "AVIF", "HEIF", "JPEG2000")


class FolderImages:
    """Images by their path relative to ``folder``; only regular files inside it are read.

    A link inside counts as what it leads to.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.path = Path(folder)
        self._alike: dict[str, dict[str, list[str]]] = {}

    def names(self) -> list[str]:
        """The files that are images by their name or content, at any depth, in order.

        Hidden ones, and those in hidden folders, are none.
        """
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
            found += [name for name in sorted(files) if has_image_suffix(name) or self._sniff(name)]
            todo += sorted(folders, reverse=True)
        return found

    def _sniff(self, name: str) -> bool:
        try:
            with _open_regular(self.path / name) as file:
                return begins_as_image(file.read(64))
        except (UnreadableImageError, OSError):
            return False

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

    def read(self, name: str) -> np.ndarray:
        """The upright image, (H, W, 3) uint8 RGB; raises :class:`UnreadableImageError`."""
        return _pixels(self.data(name))

    def _renamed(self, name: str) -> str:
        """The one image that is called nearly so."""
        folder, last = os.path.split(name)
        if folder not in self._alike:
            alike: dict[str, list[str]] = {}
            try:
                for other in os.listdir(self.path / folder):
                    alike.setdefault(_loosely(other), []).append(other)
            except OSError:
                pass
            self._alike[folder] = alike
        return os.path.join(folder, _only(self._alike[folder].get(_loosely(last), []), last))


class ZipImages:
    """Images read straight from the zip ``path``.

    Can be sent to other processes: each opens the zip for itself, because a file position shared
    between processes would mix up their reads.

    Raises :class:`FaderError` when it is not a zip.
    """

    def __init__(self, path: str | os.PathLike[str], preferred: tuple[str, ...] = ()) -> None:
        self.path, self._preferred = Path(path), preferred
        self._owner = 0
        self._open()

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "_preferred": self._preferred, "_owner": 0}

    def _open(self) -> None:
        self._zip = open_zip(self.path)
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
            if place.name not in self._by_name or self._is_preferred(place):
                self._by_name[place.name] = info
        self._owner = os.getpid()

    def _is_preferred(self, place: PurePosixPath) -> bool:
        return place.parent.name in self._preferred

    def names(self) -> list[str]:
        """The entries that are images by their name or content, in order; each name once."""
        return [
            name
            for name in sorted(self._members)
            if not any(part == "__MACOSX" or part.startswith(".") for part in name.split("/")[:-1])
            and not PurePosixPath(name).name.startswith(".")
            and (has_image_suffix(name) or self._sniff(name))
        ]

    def _sniff(self, name: str) -> bool:
        try:
            return begins_as_image(self._unpack(self._members[name], 64))
        except UnreadableImageError:
            return False

    def data(self, name: str) -> bytes:
        """The content of an entry; raises :class:`UnreadableImageError`.

        ``name`` is its path in the zip, or its file name, whatever folder it is in.
        """
        if self._owner != os.getpid():
            self._open()
        info = self._members.get(name) or self._by_name.get(name)
        if info is None:
            info = self._by_name[_only(self._alike.get(_loosely(name), []), name)]
        return self._unpack(info)

    def read(self, name: str) -> np.ndarray:
        """The upright image, (H, W, 3) uint8 RGB; raises :class:`UnreadableImageError`."""
        return _pixels(self.data(name))

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


def begins_as_image(data: bytes) -> bool:
    """Whether the first bytes of a file are those of an image format."""
    return any(accepts(data) for accepts in _signatures())


@cache
def _signatures() -> tuple[Callable[[bytes], bool | str], ...]:
    register_heif()
    Image.init()
    known = (Image.OPEN[name][1] for name in _SIGNED_FORMATS if name in Image.OPEN)
    return tuple(accepts for accepts in known if accepts)


def _pixels(data: bytes) -> np.ndarray:
    try:
        return open_photo(data).pixels
    except UnreadableImageError as error:
        reason = str(error).removeprefix("the image: ")
        raise UnreadableImageError(
            reason if reason.startswith("broken") else f"broken: {reason}"
        ) from None


def _open_regular(path: Path) -> io.BufferedReader:
    """The file, which is not waited for, as a pipe would be.

    Raises :class:`FileNotFoundError`, and :class:`UnreadableImageError` for anything else.
    """
    try:
        handle = os.open(
            path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        )
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise UnreadableImageError(f"unreadable: {_in_words(error)}") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise UnreadableImageError("no regular file, so not a photo")
    return open(handle, "rb")


def _only(alike: list[str], name: str) -> str:
    """The one image of those that are called nearly as ``name``, best with its very letters."""
    images = sorted(other for other in alike if has_image_suffix(other))
    same = [other for other in images if _without_suffix(other) == _without_suffix(name)]
    images = same or images
    if not images:
        raise UnreadableImageError("missing")
    if len(images) > 1:
        raise UnreadableImageError(f"missing; there are {' and '.join(images)} instead")
    return images[0]


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


def _in_words(error: BaseException) -> str:
    words = getattr(error, "strerror", None) or " ".join(str(error).split())
    return words or type(error).__name__
