"""Photos: sent once, then looked at and edited."""

from __future__ import annotations

import io
import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from fader.app.api import Here, file_response, form_of
from fader.app.errors import Refused
from fader.app.state import State
from fader.app.uploads import Form
from fader.attributes import attribute_name, parse_changes, parse_words
from fader.edit.results import Edit
from fader.edit.session import Edits, OpenPhoto, reduced
from fader.errors import FaderError, NoFaceError

router = APIRouter(prefix="/api", tags=["photos"])

Values = dict[str, float | str]

_PHOTO: dict[str, Any] = {
    "photo": {"type": "string", "format": "binary"},
    "model": "a name of GET /api/models",
}
_EDIT = {
    "set": "as for fader edit --set: Smiling=1,Male=+0.5; a sign moves from what is there",
    "to": "as for fader edit --to: serious,blond",
    "face": "largest (default), all, or the n-th largest face's number",
    "quality": "1..100, of JPEG, WebP and AVIF; without, a JPEG's own",
}
_TYPES = ("image/jpeg", "image/png", "image/webp")
# What answers a picture.
_PICTURE: dict[str, Any] = {
    "response_class": Response,
    "responses": {200: {"content": {kind: {} for kind in _TYPES}}},
}


class EditRequest(BaseModel):
    """What a photo's faces are to become.

    ``faces`` are values by face number and attribute; ``set`` with ``face`` is the same for one
    face, or for "largest" or "all". A number is the value to set (0 without, 1 with, beyond
    exaggerates); text is what --set takes: "+0.5" moves from what is there.
    """

    model_config = ConfigDict(extra="forbid")

    faces: dict[int, Values] = Field(default_factory=dict)
    set: Values = Field(default_factory=dict)
    face: int | Literal["largest", "all"] = "largest"
    quality: int | None = Field(None, ge=1, le=100)
    provenance: bool = True


@router.post("/photos", status_code=201, openapi_extra=form_of("photo", **_PHOTO))
async def send_photo(request: Request, state: Here) -> dict[str, Any]:
    """Send a photo: it is read, searched for faces and encoded once.

    Answers its id, its size, and the faces, largest first: their number, box, landmarks, the region
    that edits can touch, and the estimated value of every attribute the model edits.
    """
    async with state.uploads.reading(request) as form:
        name, data = form.one("photo")
        model = form.fields.get("model", "")
        photo = await state.work.photo(_opened, state, data, name, model)
    return {"id": state.photos.add(photo), **_described(photo, model or state.models.first)}


def _opened(state: State, data: bytes, name: str, model: str) -> OpenPhoto:
    return OpenPhoto(state.models.editor(model), data, name.replace("\\", "/").split("/")[-1])


def _described(photo: OpenPhoto, model: str) -> dict[str, Any]:
    faces = [
        {
            "number": face.number,
            "box": [round(float(v), 1) for v in face.face.box],
            "landmarks": face.face.landmarks.round(1).tolist(),
            "region": list(face.region),
            "score": round(face.face.score, 4),
            "editable": face.editable,
            "attributes": _rounded(photo.before(face.number)) if face.editable else {},
        }
        for face in photo.faces
    ]
    return {
        "name": photo.source.name,
        "output": photo.output.name,
        "width": photo.width,
        "height": photo.height,
        "format": photo.photo.kind,
        "notes": list(photo.photo.notes),
        "model": model,
        "attributes": list(photo.editor.attributes),
        "faces": faces,
    }


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}


@router.get("/photos/{photo_id}")
async def look(photo_id: str, state: Here) -> dict[str, Any]:
    """What POST /api/photos answered, and the edits made last."""
    photo = state.photos.get(photo_id)
    model = state.models.name_of(photo.editor)
    return {"id": photo_id, **_described(photo, model), "edits": photo.current}


@router.delete("/photos/{photo_id}", status_code=204)
async def forget(photo_id: str, state: Here) -> Response:
    """Have the server forget a photo now."""
    state.photos.get(photo_id)
    state.photos.remove(photo_id)
    return Response(status_code=204)


@router.get("/photos/{photo_id}/picture", **_PICTURE)
async def picture(
    photo_id: str, state: Here, side: Annotated[int, Query(ge=32, le=4096)] = 1600
) -> Response:
    """The photo as it was sent, upright, small enough to look at, as a JPEG."""
    photo = state.photos.get(photo_id)
    return await state.work.photo(_shown, photo.photo.pixels, side, None)


@router.get("/photos/{photo_id}/faces/{number}/preview", **_PICTURE)
async def preview(
    photo_id: str,
    number: int,
    request: Request,
    state: Here,
    side: Annotated[int, Query(ge=32, le=1024)] = 512,
    encoding: Annotated[Literal["jpeg", "webp", "png"], Query(alias="as")] = "jpeg",
) -> Response:
    """A face's region with the values of the query, such as `?Smiling=1&Male=0.3`.

    Only the decoder is run. Of several asked of one face at the same time the latest is answered,
    the others are 409. The Fader-Edit header has the values of all attributes.
    """
    photo = state.photos.get(photo_id)
    values = _numbers(photo, request)

    def draw(wanted: Any) -> Response:
        image = photo.preview(number, values, side, wanted)
        return _encoded(image, encoding, _rounded(photo.values(number, values)))

    return await state.work.latest((photo_id, number), draw)


@router.get("/photos/{photo_id}/faces/{number}/strip", **_PICTURE)
async def strip_of(
    photo_id: str,
    number: int,
    state: Here,
    attribute: str,
    start: Annotated[float, Query(alias="from", ge=-5, le=5)] = -1,
    stop: Annotated[float, Query(alias="to", ge=-5, le=5)] = 2,
    steps: Annotated[int, Query(ge=2, le=60)] = 7,
    encoding: Annotated[Literal["png", "gif"], Query(alias="as")] = "png",
) -> Response:
    """An attribute's slider on a face, as `fader strip`: a picture, or a GIF that moves."""
    photo = state.photos.get(photo_id)

    def draw() -> Response:
        from fader.edit.strip import strip

        photo.face(number)
        asked = attribute_name(attribute, photo.editor.attributes)
        made = strip(photo.editor, photo.photo.pixels, [asked], start, stop, steps, face=number)
        buffer = io.BytesIO()
        if encoding == "gif":
            first, *rest = made.loop()
            first.save(buffer, "GIF", save_all=True, append_images=rest, duration=120, loop=0)
        else:
            made.grid().save(buffer, "PNG")
        return file_response(buffer.getvalue(), f"{photo.source.stem}.{asked}.{encoding}")

    return await state.work.photo(draw)


@router.post("/photos/{photo_id}/edit", **_PICTURE)
async def edit_photo(
    photo_id: str,
    asked: EditRequest,
    state: Here,
    side: Annotated[int | None, Query(ge=32, le=4096)] = None,
) -> Response:
    """The whole photo, edited: the file that `fader edit` would write, byte for byte.

    With `side`, a JPEG of it to look at instead. The Fader-Edit header is JSON: the `command` that
    makes the same file, the values of each face before and after, notes.
    """
    photo = state.photos.get(photo_id)
    edits = _edits(photo, asked)

    def make(wanted: Any) -> Response:
        edit = photo.edited(edits)
        account = _account(photo, edits, edit, asked)
        if side is None:
            data = photo.file(edit, asked.quality, asked.provenance)
            return file_response(data, photo.output.name, account)
        photo.current = {number: dict(values) for number, values in edits.items()}
        return _shown(edit.photo.pixels, side, account)

    if side is None:
        return await state.work.photo(make, lambda: True)
    return await state.work.latest((photo_id, "whole"), make, whole=True)


@router.post("/edit", **_PICTURE, openapi_extra=form_of("photo", **_PHOTO, **_EDIT))
async def edit_at_once(request: Request, state: Here) -> Response:
    """A photo in, the edited photo out, as `fader edit` writes it; nothing is kept."""
    async with state.uploads.reading(request) as form:
        name, data = form.one("photo")
        return await state.work.photo(_edited_at_once, state, name, data, form)


def _edited_at_once(state: State, name: str, data: bytes, form: Form) -> Response:
    photo = _opened(state, data, name, form.fields.get("model", ""))
    changes, which, quality = asked_changes(form, photo.editor.attributes)
    edit = photo.apply(changes, which)
    account = {"faces": [one.to_dict() for one in edit.faces], "notes": list(edit.notes)}
    return file_response(photo.file(edit, quality), photo.output.name, account)


def asked_changes(form: Form, known: tuple[str, ...]) -> tuple[list[Any], Any, int | None]:
    """The changes, the faces and the quality that a form asks for, as the command line's options;
    else :class:`~fader.errors.FaderError`."""
    unknown = set(form.fields) - {"set", "to", "face", "quality", "model", "start"}
    if unknown:
        raise Refused(422, f"{sorted(unknown)[0]}: no field of this form; see /docs")
    changes: list[Any] = []
    for field, parse in (("to", parse_words), ("set", parse_changes)):
        if form.fields.get(field):
            changes += parse(form.fields[field], known)
    if not changes:
        raise Refused(422, "nothing to change; give set, such as Smiling=1, or to")
    which: Any = form.fields.get("face") or "largest"
    if which not in ("largest", "all"):
        if not (which.isdecimal() and 0 < int(which) < 10_000):
            raise Refused(422, f"face: {which!r} is not largest, all or a face's number, from 1")
        which = int(which)
    quality = form.fields.get("quality")
    if quality and not (quality.isdecimal() and 1 <= int(quality) <= 100):
        raise Refused(422, f"quality: {quality!r} is not a number from 1 to 100")
    return changes, which, int(quality) if quality else None


def _edits(photo: OpenPhoto, asked: EditRequest) -> dict[int, Values]:
    """The values by face, all of them known to be possible."""
    edits = {number: values for number, values in asked.faces.items() if values}
    if asked.set:
        numbers = [face.number for face in photo.faces if face.editable]
        if asked.face != "all":
            numbers = [1 if asked.face == "largest" else asked.face]
        if not numbers:
            raise NoFaceError(f"{photo.name}: no face found that could be edited")
        edits |= {number: {**edits.get(number, {}), **asked.set} for number in numbers}
    for number, values in edits.items():
        photo.changes(number, values)
    return edits


def _account(photo: OpenPhoto, edits: Edits, edit: Edit, asked: EditRequest) -> dict[str, Any]:
    command = photo.command(edits)
    if command:
        command += f" --quality {asked.quality}" if asked.quality else ""
        command += "" if asked.provenance else " --no-provenance"
    faces = {
        number: {
            "before": _rounded(photo.before(number)),
            "after": _rounded(photo.values(number, values)),
        }
        for number, values in edits.items()
    }
    return {"command": command, "faces": faces, "notes": list(edit.notes)}


def _numbers(photo: OpenPhoto, request: Request) -> dict[str, float]:
    values = {}
    for key, text in request.query_params.items():
        if key in ("side", "as", "token"):
            continue
        known = attribute_name(key, photo.editor.attributes)
        try:
            values[known] = float(text)
        except ValueError:
            raise FaderError(f"{known}={text}: the value must be a number, such as 0.5") from None
    return values


def _shown(pixels: Any, side: int, account: Any) -> Response:
    height, width = pixels.shape[:2]
    shrink = min(1.0, side / max(width, height))
    size = max(1, round(width * shrink)), max(1, round(height * shrink))
    return _encoded(Image.fromarray(reduced(pixels, size)), "jpeg", account)


def _encoded(image: Image.Image, encoding: str, account: Any = None) -> Response:
    options = {"jpeg": {"quality": 88}, "webp": {"quality": 85, "method": 0}}
    buffer = io.BytesIO()
    image.save(buffer, encoding.upper(), **options.get(encoding, {"compress_level": 1}))
    response = Response(buffer.getvalue(), media_type=f"image/{encoding}")
    if account is not None:
        response.headers["fader-edit"] = json.dumps(account)
    return response
