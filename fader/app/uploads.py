"""Uploads, read into memory and never onto a disk."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from fastapi import Request
from starlette.formparsers import MultiPartException, MultiPartParser

from fader.app.errors import Refused
from fader.app.settings import MB, MOST_PHOTOS

# What a client that does not wait for the answer is let send, so that it gets to read it.
_PATIENCE = 256 * MB


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
        """The form of a request, whose memory counts while the block runs.

        Raises :class:`Refused`: 413 for one that is too large, 429 while others take the memory.
        """
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
        parser = _InMemory(
            request.headers,
            self._bounded(request, hold),
            max_files=MOST_PHOTOS,
            max_fields=100,
            max_part_size=64 << 10,
        )
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
    ) -> AsyncGenerator[bytes, None]:
        read = 0
        async for chunk in request.stream():
            read += len(chunk)
            if read > self._most + _PATIENCE:
                raise self._too_large()
            if read <= self._most:
                hold(len(chunk))
                yield chunk
        if read > self._most:
            raise self._too_large()

    def _too_large(self) -> Refused:
        return Refused(
            413,
            f"an upload may have {self._most / MB:g} MB at most; start the server with "
            "--max-upload for more",
        )
