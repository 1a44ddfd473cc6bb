"""Folders at URLs that fsspec knows, such as ``s3://bucket/photos``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fader.errors import FaderError


def is_url(text: str | os.PathLike[str]) -> bool:
    """Whether ``text`` is a URL rather than a path."""
    return "://" in os.fspath(text)


def path_or_url(text: str | os.PathLike[str]) -> Path | str:
    """What a user calls a place: a path, or the URL as it is but for a ``/`` at its end."""
    return os.fspath(text).rstrip("/") if is_url(text) else Path(text)


def open_system(address: str) -> tuple[Any, str]:
    """The file system of fsspec for a URL, and the path there.

    Raises :class:`~fader.errors.FaderError` for a URL of an unknown kind, and where the package
    for it is missing.
    """
    try:
        import fsspec
    except ImportError:
        raise _missing(address, "fsspec") from None
    try:
        return fsspec.core.url_to_fs(address, use_listings_cache=False)
    except ImportError as error:
        package = getattr(error.__cause__ or error, "name", None)
        raise _missing(address, package) if package else FaderError(f"{address}: {error}") from None
    except ValueError as error:
        raise FaderError(f"{address}: is no URL that can be read ({error})") from None


def _missing(address: str, package: str) -> FaderError:
    where = "'fader[cluster]'" if package in ("fsspec", "s3fs") else package
    return FaderError(f"{address}: needs {package}, which is not installed; pip install {where}")


def protocols(system: Any) -> set[str]:
    """How the URLs of a file system may begin."""
    return {system.protocol} if isinstance(system.protocol, str) else set(system.protocol)


def is_disk(system: Any) -> bool:
    """Whether a file system is this machine's own."""
    return "file" in protocols(system)


def write_file(system: Any, path: str, data: bytes) -> None:
    """Write a file, and the folder for it. Raises whatever the file system does."""
    make_folder_for(system, path)
    system.pipe_file(path, data)


def make_folder_for(system: Any, path: str) -> None:
    """Make the folder that a file is to be in, where there is such a thing."""
    # Stores of objects have none, but would make a bucket.
    if not protocols(system) & {"s3", "gs", "gcs", "az", "abfs", "http", "https"}:
        system.makedirs(path.rpartition("/")[0], exist_ok=True)


def reason(error: Exception) -> str:
    """Why a file system failed, in one line."""
    text = str(getattr(error, "strerror", None) or error) or type(error).__name__
    return text.splitlines()[0]
