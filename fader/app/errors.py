"""Every refusal is one sentence: ``{"detail": "…"}``, and no traceback."""

from __future__ import annotations

from functools import partial

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


# What is answered whatever the error says.
_ANSWERS: dict[type[Exception], tuple[int, str]] = {
    Superseded: (409, "a later move of this face came before this one was drawn"),
    MemoryError: (503, "the server's memory is full; try again later, or with a smaller photo"),
    # Starlette raises it again, so that the terminal gets the traceback.
    Exception: (500, "something is wrong in the server; its terminal says more"),
}


def add_handlers(app: FastAPI) -> None:
    """Have ``app`` answer all that goes wrong in a sentence."""

    @app.exception_handler(FaderError)
    async def refused(request: Request, error: FaderError) -> JSONResponse:
        known = {UnreadableImageError: 415, DiskFullError: 507}
        status = known.get(type(error), 422)
        return answer(error.status if isinstance(error, Refused) else status, str(error))

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

    @app.exception_handler(OSError)
    async def disk(request: Request, error: OSError) -> JSONResponse:
        if error.errno not in FULL:
            raise error
        return answer(507, "the server's disk is full; free some space there and try again")

    for kind, (status, sentence) in _ANSWERS.items():
        app.add_exception_handler(kind, partial(_answered, status, sentence))


async def _answered(status: int, sentence: str, *_: object) -> JSONResponse:
    return answer(status, sentence)
