"""Which of a photo's faces are edited, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from fader.errors import NoFaceError
from fader.faces.blend import region
from fader.faces.detect import Face, select
from fader.photo import Photo

#: ``"largest"``, ``"all"``, or the n-th largest, from 1.
Which = Literal["largest", "all"] | int
#: x0, y0, x1, y1 in pixels of the upright photo.
Box = Sequence[float]

#: Faces smaller than this, in pixels of the photo, are left alone: there is too little to go by.
SMALLEST_FACE = 32


def choose(
    photo: Photo,
    found: Sequence[Face],
    which: Which | Sequence[int],
    where: Box | None,
    detect: Callable[[np.ndarray], Sequence[Face]],
) -> tuple[list[int], list[Face], list[str]]:
    """Numbers and faces of those to edit, and notes on those left alone.

    ``which`` may be several numbers. With ``where``, only faces whose middle is in that box count;
    where none is known there, ``detect`` looks closely.

    Raises :class:`NoFaceError`, with ``found``, the number of faces of the whole photo.
    """
    try:
        faces = found if where is None else _within(photo, found, where, detect)
        asked = [which] if isinstance(which, str | int) else which
        chosen = [face for one in asked for face in select(faces, one)]
        large = [face for face in chosen if face.side >= SMALLEST_FACE]
        if not large:
            raise NoFaceError(
                f"the face is only {max(face.side for face in chosen):.0f} pixels large; those "
                f"under {SMALLEST_FACE} are left alone, give a larger photo"
            )
    except NoFaceError as error:
        named = NoFaceError(f"{photo.name}: {error}")
        named.found = len(found)
        raise named from None
    small = len(chosen) - len(large)
    notes = [f"{small} of its faces left alone, under {SMALLEST_FACE} pixels"] if small else []
    numbers = {id(face): number for number, face in enumerate(faces, 1)}
    return [numbers[id(face)] for face in large], large, notes


def _within(
    photo: Photo, faces: Sequence[Face], box: Box, detect: Callable[[np.ndarray], Sequence[Face]]
) -> Sequence[Face]:
    """The faces whose middle is in ``box``; when none is known, it is searched closely."""
    height, width = photo.pixels.shape[:2]
    x0, y0, x1, y1 = map(float, box)
    named = f"the box {x0:g},{y0:g},{x1:g},{y1:g}"
    if not (max(x0, 0) < min(x1, width) and max(y0, 0) < min(y1, height)):
        raise NoFaceError(f"{named} covers nothing of the photo, which is {width}x{height} pixels")

    def inside(face: Face) -> bool:
        x, y = (face.box[:2] + face.box[2:]) / 2
        return x0 <= x <= x1 and y0 <= y <= y1

    if there := [face for face in faces if inside(face)]:
        return there
    margin = max(x1 - x0, y1 - y0) / 2
    left, top = max(0, int(x0 - margin)), max(0, int(y0 - margin))
    right, bottom = min(width, int(x1 + margin) + 1), min(height, int(y1 + margin) + 1)
    near = detect(np.ascontiguousarray(photo.pixels[top:bottom, left:right]))
    there = [face for one in near if inside(face := one.moved(left, top))]
    if not there:
        raise NoFaceError(
            f"no face found in {named}; elsewhere in the photo there are {len(faces)}"
        )
    return there


def turns(faces: Sequence[Face], shape: tuple[int, ...]) -> list[list[int]]:
    """Indices of ``faces`` in lists, so that faces in one list can be edited at once.

    Faces that overlap come one after the other, the earlier (larger) one first: the later one's
    edit then begins with what the earlier one's left.
    """
    places = np.array([region(face, shape) for face in faces])
    turn = np.zeros(len(faces), int)
    for i, (x0, y0, x1, y1) in enumerate(places):
        left, top, right, bottom = places[:i].T
        meets = (left < x1) & (right > x0) & (top < y1) & (bottom > y0)
        turn[i] = 1 + turn[:i][meets].max(initial=-1)
    return [np.flatnonzero(turn == n).tolist() for n in np.unique(turn)]
