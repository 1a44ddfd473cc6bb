"""Finding faces: MTCNN (Zhang et al. 2016, arXiv 1604.02878) behind one small value, ``Face``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from fader.errors import NoFaceError
from fader.faces.align import similarity, template

if TYPE_CHECKING:
    from fader.faces.mtcnn import Networks

# Detection looks at a copy no larger than this. MTCNN was trained on faces of 48 pixels and its
# time grows with the area: at 1600 a 12-megapixel photo takes an eighth of a second on one CPU
# core, and a face of a twentieth of the photo's width is still 80 pixels wide.
_LONGEST_SIDE = 1600

# An upright face scores above 0.99 nearly always; what MTCNN takes for a face in a photo that lies
# on its side or stands on its head scores less. Where no face is as sure as that, turned copies of
# at most this size are looked at, and only sure faces count there.
_SURE, _TURNED_SIDE = 0.99, 640


@dataclass(frozen=True, eq=False)
class Face:
    """One face found in a photo; places are in the photo's pixels, pixel centres at whole numbers.

    ``box`` is (x0, y0, x1, y1) and may reach beyond the photo; ``score`` the detector's
    probability, 0..1; ``landmarks`` (5, 2): left eye, right eye (left and right as seen in the
    image), nose, left and right mouth corner.
    """

    box: np.ndarray
    score: float
    landmarks: np.ndarray

    @property
    def area(self) -> float:
        """The box's area in square pixels."""
        return float(np.prod(self.box[2:] - self.box[:2]))

    @property
    def side(self) -> float:
        """The longer side of the box, in pixels."""
        return float(np.max(self.box[2:] - self.box[:2]))

    def moved(self, x: float, y: float) -> Face:
        """The same face, ``x`` pixels further to the right and ``y`` further down."""
        shift = np.array([x, y])
        return Face(self.box + np.tile(shift, 2), self.score, self.landmarks + shift)

    def transform(self, size: int) -> np.ndarray:
        """The 2×3 similarity transform from the photo to the aligned ``size``×``size`` crop."""
        return similarity(self.landmarks, template(size))


class Detector:
    """Finds the faces in a photo, with ``networks`` or those of PyTorch on ``device``.

    ``min_face`` is the smallest face looked for, in pixels of the photo (of its reduced copy
    where the photo is larger than 1600 pixels). The same photo always gives the same faces.

    A photo in which no face is surely upright is also looked at turned by 90, 180 and 270 degrees.
    """

    def __init__(
        self, device: str = "cpu", min_face: int = 20, networks: Networks | None = None
    ) -> None:
        if networks is None:
            from fader.runtime.torch_mtcnn import TorchMtcnn

            # For mps it is many small steps, which cost more to send there than to do.
            networks = TorchMtcnn("cpu" if device.startswith("mps") else device)
        self._min_face, self._networks = min_face, networks

    def __call__(self, image: np.ndarray) -> list[Face]:
        """The faces in ``image`` (H×W×3 uint8 RGB), largest first, ties from left to right."""
        faces = self._upright(image)
        if all(face.score < _SURE for face in faces):
            faces = self._turned(image) or faces
        return sorted(faces, key=lambda face: (-face.area, *face.box[:2]))

    def _turned(self, image: np.ndarray) -> list[Face]:
        """The faces of the quarter turn of ``image`` that surely shows some, the most of it."""
        from fader.faces.mtcnn import reduced

        _, small = reduced(image, _TURNED_SIDE)
        areas = [sum(face.area for face in self._sure(small, turns)) for turns in (1, 2, 3)]
        quarters = 1 + areas.index(max(areas))
        found = self._sure(image, quarters) if max(areas) else []
        return [_turned_back(face, quarters, image.shape) for face in found]

    def _sure(self, image: np.ndarray, quarters: int) -> list[Face]:
        faces = self._upright(np.ascontiguousarray(np.rot90(image, quarters)))
        return [face for face in faces if face.score >= _SURE]

    def _upright(self, image: np.ndarray) -> list[Face]:
        from fader.faces.mtcnn import find_faces

        return find_faces(self._networks, image, self._min_face, _LONGEST_SIDE)


def _turned_back(face: Face, quarters: int, shape: tuple[int, ...]) -> Face:
    """A face found in ``np.rot90(image, quarters)``, at its place in the image of ``shape``."""
    points = np.concatenate([face.box.reshape(2, 2), face.landmarks])
    x, y = points.T
    right, bottom = shape[1] - 1, shape[0] - 1
    turned = {1: (right - y, x), 2: (right - x, bottom - y), 3: (y, bottom - x)}[quarters]
    points = np.stack(turned, axis=1)
    box = np.concatenate([points[:2].min(axis=0), points[:2].max(axis=0)])
    return Face(box, face.score, points[2:])


def select(faces: Sequence[Face], which: Literal["largest", "all"] | int) -> list[Face]:
    """The faces to work on: the ``"largest"``, ``"all"``, or the ``which``-th largest (from 1).

    ``faces`` are largest first, as :class:`Detector` gives them. Raises
    :class:`~fader.errors.NoFaceError` when there is none, or none with that number.
    """
    if not faces:
        raise NoFaceError(
            "no face found; a face must be turned to the camera, and 32 pixels wide or more to be "
            "edited"
        )
    if which == "all":
        return list(faces)
    number = 1 if which == "largest" else int(which)
    if not 1 <= number <= len(faces):
        there = "only face 1" if len(faces) == 1 else f"faces 1 (the largest) to {len(faces)}"
        raise NoFaceError(f"there is no face {number}; the photo has {there}")
    return [faces[number - 1]]
