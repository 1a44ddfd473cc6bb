"""Faces that nobody has."""

from __future__ import annotations

import base64
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from fader.app.api import Here, file_response

router = APIRouter(prefix="/api", tags=["generate"])


class GenerateRequest(BaseModel):
    """What to draw: `set` are attributes by name, 0..1 (others are left to chance); `label` is a
    class, or "all". The same seed draws the same. Truncation below 1 draws plainer faces."""

    model_config = ConfigDict(extra="forbid")

    generator: str = ""
    n: int = Field(10, ge=1, le=64)
    seed: int | None = Field(None, ge=0, lt=2**53)
    truncation: float = Field(1.0, ge=0, le=2)
    set: dict[str, float] = Field(default_factory=dict)
    label: str = ""
    answer: Literal["images", "grid"] = "images"


@router.get("/generators")
async def generators(state: Here) -> list[dict[str, Any]]:
    """The generators there are, and what each can be asked for."""
    return await state.work.photo(state.generators.catalogue)


@router.post("/generate")
async def generate(asked: GenerateRequest, state: Here) -> Any:
    """Draw faces: the seed, and each as a PNG in base64; with `answer: "grid"` one PNG of all."""
    values = ",".join(f"{name}={value:g}" for name, value in asked.set.items())
    how = asked.n, asked.seed, values, asked.label, asked.truncation
    drawn = await state.work.photo(state.generators.draw, asked.generator, *how)
    if asked.answer == "grid":
        return file_response(drawn.grid, f"faces-seed-{drawn.seed}.png")
    images = [
        {"title": title, "png": base64.b64encode(png).decode()} for title, png in drawn.images
    ]
    facts = {"generator": asked.generator, "seed": drawn.seed, "size": drawn.size}
    return {**facts, "images": images}
