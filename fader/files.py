"""Writing files so that a kill or a full disk never leaves half of one behind."""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fader.errors import FaderError

# What mkstemp makes of it is long enough not to be met by chance, so that it can be swept.
_TEMPORARY = ".tmp-"
_OUR_TEMPORARY = re.compile(re.escape(_TEMPORARY) + r"[a-z0-9_]{8}(\..*)?", re.DOTALL)

#: What a disk says that has no room left.
FULL = (errno.ENOSPC, errno.EDQUOT)

#: A spreadsheet takes a cell for a formula that begins with one of these and is no number, or
#: several with a semicolon between them.
FORMULA = tuple("=+-@\t\r")
_NUMBER = r"[-+]?(\d+([.,]\d*)?|[.,]\d+)(e[-+]?\d+)?"
NUMBERS = re.compile(rf"{_NUMBER}(;{_NUMBER})*", re.IGNORECASE)

# How often to take a lock whose file was removed meanwhile, by whoever held it (some network file
# systems number their files anew each time), and seconds between two looks at one waited for.
_TRIES, _PATIENCE = 20, 0.5


@contextmanager
def atomic_path(
    path: str | os.PathLike[str],
    folder: str | os.PathLike[str] | None = None,
    mode: int | None = None,
) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that becomes ``path`` when the block succeeds.

    The temporary file has the same suffix (writers such as Pillow choose the format by it), is
    flushed to disk, as the folder is, and removed if the block raises. A kill leaves it:
    :func:`sweep_temporaries`. With ``folder``, on the same disk, it is made there, and whoever gave
    that flushes and clears it.

    The result has the :func:`permissions` of a new file, no wider than ``mode``. What the disk
    refuses is an :class:`OSError` that names ``path``, not the temporary file.
    """
    path = Path(path)
    make_folder(path.parent)
    handle, name = tempfile.mkstemp(path.suffix, _TEMPORARY, folder or path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as file:
            flush(file.fileno())
        # mkstemp makes the file private.
        with suppress(OSError):  # some disks know no permissions
            temporary.chmod(permissions(path, mode))
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is not None and error.filename in (None, name):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        temporary.unlink(missing_ok=True)
    if folder is None:
        flush_folder(path.parent)


def permissions(path: str | os.PathLike[str], mode: int | None = None) -> int:
    """The permissions for a new file at ``path``: no wider than ``mode`` and what is there now."""
    umask = os.umask(0)
    os.umask(umask)
    allowed = 0o666 & ~umask & (0o666 if mode is None else mode)
    try:
        return allowed & stat.S_IMODE(os.stat(path, follow_symlinks=False).st_mode)
    except OSError:
        return allowed


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` to ``path`` atomically, as UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_lines(
    path: str | os.PathLike[str], lines: Iterable[str], folder: str | os.PathLike[str] | None = None
) -> None:
    """Write ``lines``, which end as they are to end, to ``path`` atomically, as UTF-8."""
    with (
        atomic_path(path, folder) as temporary,
        open(temporary, "w", encoding="utf-8", newline="") as file,
    ):
        file.writelines(lines)


def harmless_cell(cell: str) -> str:
    """A table's cell that no spreadsheet takes for a formula: one gets an apostrophe in front."""
    return f"'{cell}" if cell.startswith(FORMULA) and not NUMBERS.fullmatch(cell) else cell


def make_folder(path: str | os.PathLike[str]) -> None:
    """Make a folder and those it lies in, however many (``mkdir(parents=True)`` calls itself)."""
    path, missing = Path(path), []
    while not path.exists():
        missing.append(path)
        if path == path.parent:
            break
        path = path.parent
    wanted = missing[0] if missing else path
    if place := _in_the_way(wanted):
        number = errno.ENOTDIR if missing else errno.EEXIST
        raise OSError(number, f"{place} is {_no_folder(place)}, not a folder", str(wanted))
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)


def check_folder(path: str | os.PathLike[str]) -> None:
    """Raise :class:`FaderError` where no folder can be made, since a file is there or on the way.
    To be asked before the work for it is done."""
    if place := _in_the_way(Path(path)):
        raise FaderError(
            f"{place}: is {_no_folder(place)}, and a folder is wanted there; give another name"
        )


def _in_the_way(path: Path) -> Path | None:
    """What is no folder, though ``path`` is to be one or to lie in it."""
    there = next((place for place in (path, *path.parents) if os.path.lexists(place)), None)
    return None if there is None or os.path.isdir(there) else there


def _no_folder(place: Path) -> str:
    return "a file" if os.path.exists(place) else "a link that leads nowhere"


def flush(handle: int) -> None:
    """Have the disk write down an open file, where it can be asked to; :class:`OSError` says that
    there is no room or the disk fails."""
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno in (*FULL, errno.EIO):
            raise


def flush_folder(path: str | os.PathLike[str]) -> None:
    """Have the disk write down which files a folder has, where it can be asked to."""
    with suppress(OSError):  # Windows opens no folders
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sweep_temporaries(folder: str | os.PathLike[str]) -> None:
    """Remove what killed processes left of :func:`atomic_path` in ``folder``. Only for who holds
    the folder's :func:`file_lock`: the others' may be in use."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _OUR_TEMPORARY.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with suppress(OSError):
                    os.unlink(entry.path)


@contextmanager
def file_lock(
    path: str | os.PathLike[str], held: str | None = None, wait: bool = False
) -> Iterator[None]:
    """Keep other processes out of what the file ``path`` stands for while the block runs.

    The file, and the folder for it, are made, and the file is removed in the end; the system frees
    it when a process dies. A lock that another process has is waited for with ``wait``, else
    :class:`~fader.errors.FaderError` says ``held``; where the file cannot be made, it says why.
    Disks that know no locks do without.
    """
    path = Path(path)
    held = held or (
        f"{path.parent}: another process is at work there; wait until it is done, or choose "
        "another folder"
    )
    try:
        make_folder(path.parent)
        while (handle := _open_locked(path)) is None:
            if not wait:
                raise FaderError(held)
            time.sleep(_PATIENCE)
    except OSError as error:
        raise FaderError(f"{path.parent}: cannot be written to ({error.strerror})") from None
    try:
        yield
    finally:
        # Removed while it is held: who waits for it finds that it is gone, and makes another.
        with suppress(OSError):
            if not os.fstat(handle).st_size and _is_at(handle, path):
                os.unlink(path)
        _unlock(handle)
        os.close(handle)


def _open_locked(path: Path) -> int | None:
    """A handle of the lock, or None if another process has it."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    for left in reversed(range(_TRIES)):
        handle = os.open(path, flags, 0o666)
        if not _lock(handle):
            os.close(handle)
            return None
        if _is_at(handle, path) or not left:
            break
        os.close(handle)
    return handle


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(path))
    except FileNotFoundError:
        return False


if sys.platform == "win32":  # pragma: no cover
    import msvcrt

    def _lock(handle: int) -> bool:
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            return error.errno not in (errno.EACCES, errno.EDEADLK)
        return True

    def _unlock(handle: int) -> None:
        with suppress(OSError):
            msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # the disk knows no locks
            pass
        return True

    def _unlock(handle: int) -> None:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)
