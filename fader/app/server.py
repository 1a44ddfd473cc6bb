"""The server: the app with its routes, and how it is started and stopped."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from fader._version import __version__
from fader.app.api import about, folders, generate, photos
from fader.app.errors import add_handlers
from fader.app.jobs import remove_leftovers
from fader.app.security import Guard
from fader.app.settings import Settings
from fader.app.state import State
from fader.errors import FaderError

_STATIC = Path(__file__).parent / "static"

# Seconds between two looks for what nobody asks for any more; that requests get when it is stopped.
_SWEEP, _GRACE = 20, 5


def create_app(settings: Settings) -> FastAPI:
    """The page and its API; models are loaded when they are first needed. Raises
    :class:`~fader.errors.FaderError` for settings that do not fit."""
    settings.check()
    state = State(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        remove_leftovers()
        sweeping = asyncio.create_task(_sweep(state))
        try:
            yield
        finally:
            sweeping.cancel()
            await asyncio.to_thread(state.close)

    app = FastAPI(
        title="Fader",
        version=__version__,
        description="Edit face attributes in photos. Every refusal is a 4xx with one sentence: "
        '{"detail": "…"}.',
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.fader = state
    for module in (photos, folders, generate, about):
        app.include_router(module.router)
    add_handlers(app)

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(_STATIC / "index.html")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> FileResponse:
        return FileResponse(_STATIC / "docs.html")

    app.mount("/static", StaticFiles(directory=_STATIC), name="static")
    app.add_middleware(Guard, settings=settings)
    return app


async def _sweep(state: State) -> None:
    while True:
        await asyncio.sleep(_SWEEP)
        state.sweep()


class _Server(uvicorn.Server):
    """Has folder jobs stop, and the streams that tell of them end, as soon as it is asked to."""

    def __init__(self, config: uvicorn.Config, state: State) -> None:
        super().__init__(config)
        self._state = state

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        threading.Thread(target=self._state.jobs.close, daemon=True).start()


def serve(settings: Settings, ready: Callable[[str], None] = lambda address: None) -> None:
    """Serve until Ctrl-C; ``ready`` is told the address once it can be opened. Raises
    :class:`~fader.errors.FaderError` when the port is taken or the first model cannot be loaded."""
    app = create_app(settings)
    state: State = app.state.fader
    listening = _listen(settings)
    port = listening.getsockname()[1]
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE,
        timeout_keep_alive=30,
        # Whom a request comes from is no one's business here, and headers may say anything.
        proxy_headers=False,
    )
    server = _Server(config, state)
    failures: list[FaderError] = []

    def load() -> None:
        try:
            _ = state.models.editor().detector
        except FaderError as error:
            failures.append(error)
            server.should_exit = True

    threading.Thread(target=load, daemon=True).start()
    host = settings.host if settings.host not in ("0.0.0.0", "::", "") else "localhost"
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    token = f"?token={settings.token}" if settings.token else ""
    ready(f"http://{host}:{port}/{token}")
    with suppress(KeyboardInterrupt), listening:
        server.run(sockets=[listening])
    if failures:
        raise failures[0]


def _listen(settings: Settings) -> socket.socket:
    host, listening = settings.host.strip("[]"), None
    try:
        family = socket.getaddrinfo(host or None, settings.port, type=socket.SOCK_STREAM)[0][0]
        # asyncio sends at once only on sockets that say their protocol; else each answer waits for
        # up to 40 ms.
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        if os.name == "posix":  # elsewhere it lets two servers have one port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, settings.port))
        listening.listen(256)
    except OSError as error:
        if listening is not None:
            listening.close()
        raise FaderError(
            f"{settings.host}:{settings.port}: cannot be listened at ({error.strerror or error}); "
            "choose another with --port"
        ) from None
    return listening
