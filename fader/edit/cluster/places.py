"""Folders where photos are and edits go: on a disk, or at a URL that fsspec knows."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

from fader.errors import FaderError, UnreadableImageError
from fader.files import atomic_path
from fader.photo import photo_file, write_bytes
from fader.urls import is_disk, is_url, make_folder_for, open_system, reason, write_file

#: The folder in a destination for what a run notes down. It is there while a run is unfinished.
NOTES = ".fader-cluster"


class Place(Protocol):
    """A folder. Names in it are relative, with ``/`` between their parts."""

    address: str

    def full(self, name: str) -> str:
        """The path or URL of a name."""

    def listed(self, folder: str) -> tuple[list[str], list[str]]:
        """The names of the subfolders of a folder in it (``""`` is itself), and of its files.

        Raises :class:`OSError`.
        """

    def exists(self, name: str) -> bool:
        """Whether there is a file, or a link that leads nowhere. Raises :class:`OSError`."""

    def read(self, name: str) -> bytes:
        """The content of a file. Raises :class:`OSError`."""

    def write(self, name: str, data: bytes, mode: int | None = None) -> None:
        """Write a file, whole or not at all, with permissions no wider than ``mode``.

        Raises :class:`~fader.errors.FaderError`.
        """

    def write_lines(self, name: str, lines: Iterable[str]) -> None:
        """Write a text file, whole or not at all. Raises :class:`OSError`."""

    def opened(self, name: str) -> IO[bytes]:
        """A file, to be read. Raises :class:`OSError`."""

    def remove(self, names: Iterable[str]) -> None:
        """Remove files; :data:`NOTES` as well once it is empty. Raises :class:`OSError`."""


def place_of(address: str) -> Place:
    """The place at a path or URL.

    Raises :class:`~fader.errors.FaderError` for a URL of an unknown kind.
    """
    if not is_url(address):
        return DiskPlace(Path(address))
    system, root = open_system(address)
    # What fsspec finds on this machine's disk is a path like any other.
    return DiskPlace(Path(root)) if is_disk(system) else UrlPlace(address, system, root)


def photo_content(address: str) -> tuple[bytes, int | None]:
    """The bytes of a photo at a path or URL, and its permissions where it has some.

    Raises :class:`~fader.errors.UnreadableImageError`.
    """
    if not is_url(address):
        return photo_file(address)
    try:
        system, path = open_system(address)
        if is_disk(system):
            return photo_file(path)
        return system.cat_file(path), None
    except FileNotFoundError:
        raise UnreadableImageError(f"{address}: there is no such file") from None
    except PermissionError:
        raise UnreadableImageError(f"{address}: no permission to read it") from None
    except UnreadableImageError:
        raise
    except Exception as error:  # those of the stores' libraries have no base in common
        raise UnreadableImageError(f"{address}: cannot be read ({reason(error)})") from None


class DiskPlace:
    """A folder on a disk that all machines see by the same path."""

    def __init__(self, folder: Path) -> None:
        self._folder = Path(os.path.abspath(folder))
        self.address = str(self._folder)

    def full(self, name: str) -> str:
        """See :class:`Place`."""
        return str(self._folder / name)

    def listed(self, folder: str) -> tuple[list[str], list[str]]:
        """See :class:`Place`. Links to folders are among the files."""
        with os.scandir(self._folder / folder) as entries:
            found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        return [name for name, inner in found if inner], [
            name for name, inner in found if not inner
        ]

    def exists(self, name: str) -> bool:
        """See :class:`Place`."""
        return os.path.lexists(self._folder / name)

    def read(self, name: str) -> bytes:
        """See :class:`Place`."""
        return (self._folder / name).read_bytes()

    def write(self, name: str, data: bytes, mode: int | None = None) -> None:
        """See :class:`Place`. Where a link would lead elsewhere, it is refused."""
        parts = PurePosixPath(name).parts
        if ".." in parts:
            raise FaderError(f"{self.full(name)}: leads out of the output folder; rename the photo")
        place = self._folder
        for part in parts[:-1]:
            place /= part
            if place.is_symlink():
                raise FaderError(
                    f"{place}: is a link, and edits are not written to where it leads; remove the "
                    "link"
                )
        write_bytes(self._folder / name, data, mode, self._notes())

    def write_lines(self, name: str, lines: Iterable[str]) -> None:
        """See :class:`Place`."""
        with (
            atomic_path(self._folder / name, self._notes()) as temporary,
            open(temporary, "w", encoding="utf-8", newline="") as file,
        ):
            file.writelines(lines)

    def opened(self, name: str) -> IO[bytes]:
        """See :class:`Place`."""
        return open(self._folder / name, "rb")

    def remove(self, names: Iterable[str]) -> None:
        """See :class:`Place`."""
        for name in names:
            (self._folder / name).unlink(missing_ok=True)
        notes = self._folder / NOTES
        if notes.is_dir() and not any(notes.iterdir()):
            notes.rmdir()

    def _notes(self) -> Path:
        """A folder on the same disk for what is unfinished."""
        notes = self._folder / NOTES
        notes.mkdir(parents=True, exist_ok=True)
        return notes


class UrlPlace:
    """A folder of an object store, or of whatever else fsspec knows."""

    def __init__(self, address: str, system: Any, root: str) -> None:
        self.address = address.rstrip("/")
        self._system, self._root = system, root.rstrip("/")

    def full(self, name: str) -> str:
        """See :class:`Place`."""
        return f"{self.address}/{name}" if name else self.address

    def listed(self, folder: str) -> tuple[list[str], list[str]]:
        """See :class:`Place`."""
        path = self._path(folder)
        folders: list[str] = []
        files: list[str] = []
        with self._naming(folder):
            found = self._system.ls(path, detail=True)
        for entry in found:
            name = entry["name"].rstrip("/")
            if name.strip("/") == path.strip("/"):  # a mark that says that there is a folder
                continue
            (folders if entry["type"] == "directory" else files).append(name.rsplit("/", 1)[-1])
        return folders, files

    def exists(self, name: str) -> bool:
        """See :class:`Place`."""
        # What the system's own test answers to a lost connection is that there is no file.
        try:
            with self._naming(name):
                return self._system.info(self._path(name))["type"] == "file"
        except FileNotFoundError:
            return False

    def read(self, name: str) -> bytes:
        """See :class:`Place`."""
        with self._naming(name):
            return self._system.cat_file(self._path(name))

    def write(self, name: str, data: bytes, mode: int | None = None) -> None:
        """See :class:`Place`. Stores know no permissions of this kind."""
        try:
            write_file(self._system, self._path(name), data)
        except Exception as error:
            why = f"could not be written ({reason(error)})"
            raise FaderError(f"{self.full(name)}: {why}") from None

    def write_lines(self, name: str, lines: Iterable[str]) -> None:
        """See :class:`Place`."""
        with self._naming(name):
            make_folder_for(self._system, self._path(name))
            with self._system.open(self._path(name), "wb") as file:
                for line in lines:
                    file.write(line.encode("utf-8"))

    def opened(self, name: str) -> IO[bytes]:
        """See :class:`Place`."""
        with self._naming(name):
            return self._system.open(self._path(name), "rb")

    def remove(self, names: Iterable[str]) -> None:
        """See :class:`Place`."""
        if paths := [self._path(name) for name in names]:
            with self._naming(NOTES):
                self._system.rm(paths)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    @contextmanager
    def _naming(self, name: str) -> Iterator[None]:
        """Turn failures, which have no base in common, into an :class:`OSError` that names the
        file."""
        try:
            yield
        except FaderError:
            raise
        except Exception as error:
            number = getattr(error, "errno", None) or errno.EIO
            number = errno.ENOENT if isinstance(error, FileNotFoundError) else number
            raise OSError(number, reason(error), self.full(name)) from None
