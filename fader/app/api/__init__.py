"""The HTTP API, a module per subject."""

from __future__ import annotations

import json
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Depends, Request, Response

from fader.app.state import State

_IMAGES = ("jpeg", "png", "webp", "tiff", "bmp", "avif", "heic", "gif")
_TYPES = {f".{name}": f"image/{name}" for name in _IMAGES}
_TYPES |= {".jpg": "image/jpeg", ".tif": "image/tiff"}


async def _state(request: Request) -> State:
    return request.app.state.fader


#: What the server keeps, as an argument of who answers.
Here = Annotated[State, Depends(_state)]


def form_of(*required: str, **fields: str | dict[str, Any]) -> dict[str, Any]:
    """What OpenAPI is told of a multipart form: its ``fields``, of texts what is said of them."""
    properties: dict[str, Any] = {}
    for name, field in fields.items():
        text = {"type": "string", "description": field} if field else {"type": "string"}
        properties[name] = text if isinstance(field, str) else field
    needed = {"required": list(required)} if required else {}
    schema = {"type": "object", **needed, "properties": properties}
    content = {"multipart/form-data": {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}}


def file_response(data: bytes, name: str, account: Any = None) -> Response:
    """A file to keep under ``name``; ``account``, of what was done, is in the Fader-Edit header."""
    suffix = name[name.rfind(".") :].lower()
    response = Response(data, media_type=_TYPES.get(suffix, "application/octet-stream"))
    plain = "".join(c if (c.isascii() and c.isalnum()) or c in "._-" else "_" for c in name)
    response.headers["content-disposition"] = (
        f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
    )
    if account is not None:
        response.headers["fader-edit"] = json.dumps(account)
    return response
