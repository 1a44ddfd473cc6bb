"""Writing files so that a kill or a full disk never leaves half of one behind."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_path(
    path: str | os.PathLike[str],
    folder: str | os.PathLike[str] | None = None,
    mode: int | None = None,
) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that becomes ``path`` when the block succeeds.

    The temporary file has the same suffix (writers such as Pillow choose the format by it), is
    flushed to disk before the rename, and is removed if the block raises. A kill leaves it: where
    that matters, ``folder``, on the same disk, is where it is made instead, and is cleared later.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".tmp-", suffix=path.suffix, dir=folder or path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        # mkstemp makes the file private.
        with suppress(OSError):  # some disks know no permissions
            temporary.chmod(permissions(path, mode))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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
