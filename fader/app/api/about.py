"""What the server is and has: health, models, attributes."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from fader._version import __version__
from fader.app.api import state_of
from fader.app.errors import Refused
from fader.app.sections import section_of
from fader.attributes import ATTRIBUTES, GROUPS

router = APIRouter(prefix="/api", tags=["about"])


@router.get("/health")
async def health(request: Request) -> dict[str, Any]:
    """That the server is there, and how much it holds."""
    state = state_of(request)
    return {
        "status": "ok",
        "version": __version__,
        "model": state.models.first,
        "photos": len(state.photos),
        "photo_bytes": state.photos.size,
        "folders": len(state.jobs),
    }


@router.get("/settings")
async def settings(request: Request) -> dict[str, Any]:
    """What a page needs to know: limits, and the section of each attribute."""
    state = state_of(request)
    return {
        "version": __version__,
        "max_upload": state.settings.max_upload,
        "idle": state.settings.idle,
        "sections": {name: section_of(name) for name in ATTRIBUTES},
        "groups": {group: list(members.values()) for group, members in GROUPS.items()},
    }


@router.get("/models")
async def models(request: Request) -> list[dict[str, Any]]:
    """The models the server was started with: what each edits, its card as Markdown."""
    state = state_of(request)

    def describe() -> list[dict[str, Any]]:
        return [state.models.describe(name) for name in state.models.names]

    return await state.work.photo(describe)


@router.post("/models/{name:path}/load")
async def load(name: str, request: Request) -> dict[str, Any]:
    """Load a model by its name in the list; photos sent with `model` set to it are edited by it."""
    state = state_of(request)
    if name not in state.models.names:
        raise Refused(404, f"there is no model {name!r}; there are {', '.join(state.models.names)}")
    await state.work.photo(state.models.editor, name)
    return await state.work.photo(state.models.describe, name)
