"""What the server is and has: health, models, attributes."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from fader._version import __version__
from fader.app.api import Here
from fader.attributes import ATTRIBUTES, GROUPS

router = APIRouter(prefix="/api", tags=["about"])

_HAIR = ["Bald", "Bangs", "Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair"]
_HAIR += ["Receding_Hairline", "Straight_Hair", "Wavy_Hair"]
_EXPRESSION = ("High_Cheekbones", "Mouth_Slightly_Open", "Narrow_Eyes", "Smiling")
# Under which heading an attribute's fader stands; all others under "face".
_SECTIONS = dict.fromkeys(_HAIR, "hair") | dict.fromkeys(_EXPRESSION, "expression")


@router.get("/health")
async def health(state: Here) -> dict[str, Any]:
    """That the server is there, and how much it holds."""
    return {
        "status": "ok",
        "version": __version__,
        "model": state.models.first,
        "photos": len(state.photos),
        "photo_bytes": state.photos.size,
        "folders": len(state.jobs),
    }


@router.get("/settings")
async def settings(state: Here) -> dict[str, Any]:
    """What a page needs to know: limits, and the section of each attribute."""
    return {
        "version": __version__,
        "max_upload": state.settings.max_upload,
        "idle": state.settings.idle,
        "sections": {name: _SECTIONS.get(name, "face") for name in ATTRIBUTES},
        "groups": {group: list(members.values()) for group, members in GROUPS.items()},
    }


@router.get("/models")
async def models(state: Here) -> list[dict[str, Any]]:
    """The models the server was started with: what each edits, its card as Markdown."""
    return await state.work.photo(lambda: [*map(state.models.describe, state.models.names)])


@router.post("/models/{name:path}/load")
async def load(name: str, state: Here) -> dict[str, Any]:
    """Load a model by its name in the list; photos sent with `model` set to it are edited by it."""
    state.models.check(name)
    await state.work.photo(state.models.editor, name)
    return await state.work.photo(state.models.describe, name)
