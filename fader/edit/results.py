"""What an edit gives: the photo, the faces, what was done to each."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from PIL import Image

from fader.attributes import Change
from fader.faces.detect import Face
from fader.photo import Photo, Provenance, save_photo


@dataclass(frozen=True)
class Description:
    """A face and what the classifier makes of it: attribute name → probability, 0..1."""

    face: Face
    attributes: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """The same as plain lists, numbers and strings, for JSON."""
        return {
            "box": _pixels(self.face.box),
            "score": round(self.face.score, 4),
            "landmarks": [_pixels(point) for point in self.face.landmarks],
            "attributes": _values(self.attributes),
        }


@dataclass(frozen=True)
class FaceEdit:
    """What was done to one face: the values its attributes were estimated at, and set to.

    ``before`` and ``after`` have all attributes the model edits. ``achieved`` has what the
    classifier makes of the edited face, where that was asked for.
    """

    face: Face
    before: dict[str, float]
    after: dict[str, float]
    achieved: dict[str, float] = field(default_factory=dict)

    @property
    def changed(self) -> dict[str, float]:
        """The new values of the attributes that were changed."""
        return {name: v for name, v in self.after.items() if v != self.before[name]}

    def to_dict(self) -> dict[str, Any]:
        """The same as plain lists, numbers and strings, for JSON."""
        document = {
            "box": _pixels(self.face.box),
            "before": _values(self.before),
            "after": _values(self.after),
        }
        return document | ({"achieved": _values(self.achieved)} if self.achieved else {})


@dataclass(frozen=True)
class Edit:
    """An edited photo (or crop, or pair), how many faces the photo has, and the edits made.

    ``notes`` are short phrases on what was left alone or could not be kept, ``asked`` the changes
    asked for.
    """

    photo: Photo
    found: int
    faces: tuple[FaceEdit, ...]
    notes: tuple[str, ...] = ()
    asked: tuple[Change, ...] = ()

    @cached_property
    def image(self) -> Image.Image:
        """The result for Pillow: RGB, or RGBA where the photo has alpha."""
        return self.photo.image()

    @property
    def provenance(self) -> Provenance | None:
        """The mark for the result's file: what was asked for and done. None for no change.
        Estimates stay out of it: what a classifier made of a face is nobody else's to read."""
        if any(change.face for change in self.asked):
            done = {name for edit in self.faces for name in edit.changed}
            asked = [str(change) for change in self.asked if change.attribute in done]
            return Provenance(", ".join(asked)) if asked else None
        values = [
            ", ".join(str(change) for change in self.asked if change.attribute in edit.changed)
            for edit in self.faces
            if edit.changed
        ]
        return Provenance(" / ".join(dict.fromkeys(values))) if values else None

    def save(
        self, path: str | os.PathLike[str], *, quality: int | None = None, provenance: bool = True
    ) -> tuple[str, ...]:
        """Write the result with all that the photo's file had: see :func:`fader.photo.save_photo`.
        ``provenance=False`` leaves out the mark that says the photo was edited."""
        mark = self.provenance if provenance else None
        return save_photo(self.photo, path, quality=quality, provenance=mark)


def _pixels(values: Iterable[float]) -> list[float]:
    return [round(float(v), 2) for v in values]


def _values(attributes: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in attributes.items()}
