"""The HTTP API, a module per subject."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from fastapi import Request, Response

from fader.app.state import State

_TYPES = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".bmp": "image/bmp",
    ".avif": "image/avif",
    ".heic": "image/heic",
    ".gif": "image/gif",
    ".zip": "application/zip",
}


def state_of(request: Request) -> State:
    """What the server keeps."""
    return request.app.state.fader


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
