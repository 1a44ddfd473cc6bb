"""Folders where photos are and edits go: on a disk, or at a URL that fsspec knows."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

from fader.errors import FaderError, UnreadableImageError
from fader.files import write_lines
from fader.photo import photo_file, write_bytes
from fader.urls import is_disk, is_url, make_folder_for, open_system, reason, write_file

#: The folder in a destination for what a run notes down. It is there while a run is unfinished.
NOTES = ".fader-cluster"


class DiskPlace:
    """A folder on a disk that all machines see by the same path. Names in it are relative, with
    ``/`` between their parts. What fails is an :class:`OSError`."""

    def __init__(self, folder: Path) -> None:
        self._folder = Path(os.path.abspath(folder))
        self.address = str(self._folder)

    def full(self, name: str) -> str:
        """The path or URL of a name."""
        return str(self._folder / name)

    def listed(self, folder: str) -> tuple[list[str], list[str]]:
        """The names of the subfolders of a folder in it (``""`` is itself), and of its files, links
        to folders among them."""
        folders: list[str] = []
        files: list[str] = []
        with os.scandir(self._folder / folder) as entries:
            for entry in entries:
                (folders if entry.is_dir(follow_symlinks=False) else files).append(entry.name)
        return folders, files

    def exists(self, name: str) -> bool:
        """Whether there is a file, or a link that leads nowhere."""
        return os.path.lexists(self._folder / name)

    def read(self, name: str) -> bytes:
        """The content of a file."""
        return (self._folder / name).read_bytes()

    def write(self, name: str, data: bytes, mode: int | None = None) -> None:
        """Write a file, whole or not at all, with permissions no wider than ``mode``. Raises
        :class:`~fader.errors.FaderError`, also where a link would lead elsewhere."""
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
        """Write a text file, whole or not at all."""
        write_lines(self._folder / name, lines, self._notes())

    def opened(self, name: str) -> IO[bytes]:
        """A file, to be read."""
        return open(self._folder / name, "rb")

    def remove(self, names: Iterable[str]) -> None:
        """Remove files; :data:`NOTES` as well once it is empty."""
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


class _UrlPlace:
    """A folder of an object store, or of whatever else fsspec knows, with the methods of a
    :class:`DiskPlace`. Stores know no permissions and no links."""

    def __init__(self, address: str, system: Any, root: str) -> None:
        self.address = address.rstrip("/")
        self._system, self._root = system, root.rstrip("/")

    def full(self, name: str) -> str:
        return f"{self.address}/{name}" if name else self.address

    def listed(self, folder: str) -> tuple[list[str], list[str]]:
        path = self._path(folder)
        folders: list[str] = []
        files: list[str] = []
        with self._naming(folder):
            entries = self._system.ls(path, detail=True)
        for entry in entries:
            name = entry["name"].rstrip("/")
            if name.strip("/") != path.strip("/"):  # a mark that says that there is a folder
                names = folders if entry["type"] == "directory" else files
                names.append(name.rsplit("/", 1)[-1])
        return folders, files

    def exists(self, name: str) -> bool:
        # What the system's own test answers to a lost connection is that there is no file.
        try:
            with self._naming(name):
                return self._system.info(self._path(name))["type"] == "file"
        except FileNotFoundError:
            return False

    def read(self, name: str) -> bytes:
        with self._naming(name):
            return self._system.cat_file(self._path(name))

    def write(self, name: str, data: bytes, mode: int | None = None) -> None:
        try:
            write_file(self._system, self._path(name), data)
        except Exception as error:
            why = f"could not be written ({reason(error)})"
            raise FaderError(f"{self.full(name)}: {why}") from None

    def write_lines(self, name: str, lines: Iterable[str]) -> None:
        with self._naming(name):
            make_folder_for(self._system, self._path(name))
            with self._system.open(self._path(name), "wb") as file:
                for line in lines:
                    file.write(line.encode("utf-8"))

    def opened(self, name: str) -> IO[bytes]:
        with self._naming(name):
            return self._system.open(self._path(name), "rb")

    def remove(self, names: Iterable[str]) -> None:
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


Place = DiskPlace | _UrlPlace


def place_of(address: str) -> Place:
    """The place at a path or URL. Raises :class:`~fader.errors.FaderError` for a URL of an unknown
    kind."""
    if not is_url(address):
        return DiskPlace(Path(address))
    system, root = open_system(address)
    # What fsspec finds on this machine's disk is a path like any other.
    return DiskPlace(Path(root)) if is_disk(system) else _UrlPlace(address, system, root)


def photo_content(address: str) -> tuple[bytes, int | None]:
    """The bytes of a photo at a path or URL, and its permissions where it has some. Raises
    :class:`~fader.errors.UnreadableImageError`."""
    if not is_url(address):
        return photo_file(address)
    try:
        system, path = open_system(address)
        if is_disk(system):
            return photo_file(path)
        return system.cat_file(path), None
    except UnreadableImageError:
        raise
    except FileNotFoundError:
        why = "there is no such file"
    except PermissionError:
        why = "no permission to read it"
    except Exception as error:  # those of the stores' libraries have no base in common
        why = f"cannot be read ({reason(error)})"
    raise UnreadableImageError(f"{address}: {why}")
