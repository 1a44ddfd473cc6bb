"""Folders: many photos or a zip in, a zip with pictures and report.csv out."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from sse_starlette import EventSourceResponse

from fader.app.api import Here, form_of
from fader.app.api.photos import asked_changes
from fader.app.errors import Refused
from fader.app.uploads import Form
from fader.edit.job import Job

router = APIRouter(prefix="/api", tags=["folders"])

_CHUNK = 1 << 18

_PHOTOS = {
    "type": "array",
    "items": {"type": "string", "format": "binary"},
    "description": "photos, or a zip of photos",
}
_FORM = form_of(
    photos=_PHOTOS,
    set="as for fader edit --set",
    to="as for fader edit --to",
    face="largest, all, or a number",
    model="",
    start="false waits for more photos",
)


@router.post("/folders", status_code=201, openapi_extra=_FORM)
async def send_folder(request: Request, state: Here) -> dict[str, Any]:
    """Send a folder's photos, or a zip, and what is to be set; the work starts at once.

    With `start=false` it waits for more photos (POST /api/folders/{id}/photos) and for
    POST /api/folders/{id}/start.
    """
    async with state.uploads.reading(request) as form:
        waits = form.fields.get("start", "true").lower() in ("false", "0", "no")
        if not waits:
            await state.work.photo(_edit_of, state, form)
        job = state.jobs.create()
        try:
            await state.work.photo(state.jobs.add, job, form.all)
            if not waits:
                await state.work.photo(_start, state, job, form)
        except BaseException:
            state.jobs.cancel(job)
            raise
        return job.to_dict()


@router.post("/folders/{folder_id}/photos", openapi_extra=_FORM)
async def send_more(folder_id: str, request: Request, state: Here) -> dict[str, Any]:
    """Send more photos to a folder that waits."""
    job = state.jobs.get(folder_id)
    async with state.uploads.reading(request) as form:
        await state.work.photo(state.jobs.add, job, form.all)
    return job.to_dict()


@router.post("/folders/{folder_id}/start", openapi_extra=_FORM)
async def start(folder_id: str, request: Request, state: Here) -> dict[str, Any]:
    """Begin, with the form's `set`, `to`, `face` and `model`."""
    job = state.jobs.get(folder_id)
    async with state.uploads.reading(request) as form:
        await state.work.photo(_start, state, job, form)
    return job.to_dict()


@router.get("/folders/{folder_id}")
async def look(folder_id: str, state: Here) -> dict[str, Any]:
    """How far the folder is."""
    return state.jobs.get(folder_id).to_dict()


@router.get("/folders/{folder_id}/events")
async def events(folder_id: str, state: Here) -> EventSourceResponse:
    """The same each time it changes, as server-sent events, until it is over."""
    job = state.jobs.get(folder_id)

    async def stream() -> AsyncIterator[dict[str, str]]:
        async for document in state.jobs.events(job):
            yield {"event": "progress", "data": json.dumps(document)}

    return EventSourceResponse(stream())


@router.delete("/folders/{folder_id}")
async def cancel(folder_id: str, state: Here) -> dict[str, Any]:
    """Cancel it, whatever its state; its photos and results are removed."""
    job = state.jobs.get(folder_id)
    state.jobs.cancel(job)
    return job.to_dict()


@router.get("/folders/{folder_id}/result", response_class=StreamingResponse)
async def result(folder_id: str, state: Here) -> StreamingResponse:
    """The zip: the edited pictures and report.csv."""
    job = state.jobs.get(folder_id)
    if job.result is None:
        raise Refused(409, f"this folder has no result: it is {job.state}")
    file = job.result

    def read(place: int) -> bytes:
        with job.reading:  # several may read it at once
            file.seek(place)
            return file.read(_CHUNK)

    def chunks() -> Iterator[bytes]:
        place = 0
        while chunk := read(place):
            place += len(chunk)
            yield chunk

    headers = {"content-disposition": 'attachment; filename="edited.zip"'}
    return StreamingResponse(chunks(), media_type="application/zip", headers=headers)


def _edit_of(state: Any, form: Form) -> Job:
    editor = state.models.editor(form.fields.get("model", ""))
    changes, which, quality = asked_changes(form, editor.attributes)
    return Job(tuple(changes), which, quality=quality)


def _start(state: Any, job: Any, form: Form) -> None:
    edit = _edit_of(state, form)
    model = form.fields.get("model", "")
    state.jobs.start(job, lambda: state.models.editor(model), edit)
