"""Every refusal is one sentence: ``{"detail": "…"}``, and no traceback."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from fader.edit.session import Superseded
from fader.errors import DiskFullError, FaderError, UnreadableImageError
from fader.files import FULL


class Refused(FaderError):
    """A request that is answered by ``status`` and a sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def answer(status: int, sentence: str) -> JSONResponse:
    """The sentence as JSON."""
    return JSONResponse({"detail": sentence}, status)


def add_handlers(app: FastAPI) -> None:
    """Have ``app`` answer all that goes wrong in a sentence."""

    @app.exception_handler(FaderError)
    async def refused(request: Request, error: FaderError) -> JSONResponse:
        return answer(_status(error), str(error))

    @app.exception_handler(Superseded)
    async def superseded(request: Request, error: Superseded) -> JSONResponse:
        return answer(409, "a later move of this face came before this one was drawn")

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
        return answer(422, f"{place}: {first['msg'][:1].lower()}{first['msg'][1:]}")

    @app.exception_handler(HTTPException)
    async def plain(request: Request, error: HTTPException) -> JSONResponse:
        sentences = {404: f"there is no {request.url.path} here; /docs lists what there is"}
        sentences[405] = f"{request.url.path} does not answer {request.method}; see /docs"
        known = error.detail in ("Not Found", "Method Not Allowed")
        sentence = sentences[error.status_code] if known else str(error.detail)
        return JSONResponse({"detail": sentence}, error.status_code, error.headers)

    @app.exception_handler(MemoryError)
    async def memory(request: Request, error: MemoryError) -> JSONResponse:
        return answer(503, "the server's memory is full; try again later, or with a smaller photo")

    @app.exception_handler(OSError)
    async def disk(request: Request, error: OSError) -> JSONResponse:
        if error.errno not in FULL:
            raise error
        return answer(507, "the server's disk is full; free some space there and try again")

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> JSONResponse:
        # Starlette raises it again, so that the terminal gets the traceback.
        return answer(500, "something is wrong in the server; its terminal says more")


def _status(error: FaderError) -> int:
    if isinstance(error, Refused):
        return error.status
    if isinstance(error, UnreadableImageError):
        return 415
    return 507 if isinstance(error, DiskFullError) else 422
