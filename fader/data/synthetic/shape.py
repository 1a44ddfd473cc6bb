"""Where a synthetic face has its parts, and in which colours."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fader.data.synthetic.canvas import Colour, loop, ramp, shade, symmetric

if TYPE_CHECKING:
    from fader.data.synthetic.face import SyntheticFace

_CENTRE_X = 89.4  # the middle of CelebA's mean eyes and mouth corners
EYE_X, EYE_Y = 19.8, 112.2
NOSE_Y = 136.8
_MOUTH_Y = 153.05
#: Light to dark, interpolated by ``look.skin``; pale skin is outside this range.
_SKIN_TONES = ((230, 180, 148), (218, 164, 126), (198, 140, 102), (150, 100, 70), (104, 68, 48))
_PALE_TONES = ((246, 226, 216), (238, 216, 204))
_HAIR_COLOURS = {
    "Black": (30, 26, 28),
    "Brown": (104, 66, 38),
    "Blond": (226, 190, 112),
    "Gray": (172, 174, 178),
}


def pose_of(face: SyntheticFace) -> np.ndarray:
    """Face coordinates → pixels of the 178x218 picture, a similarity (2x3)."""
    look = face.look
    angle = math.radians(look.roll)
    cos, sin = look.scale * math.cos(angle), look.scale * math.sin(angle)
    linear = np.array([[cos, -sin], [sin, cos]])
    pivot = np.array([0.0, 130.0])  # the middle of the five landmarks: a tilt moves them least
    shift = np.array([_CENTRE_X + look.shift_x, look.shift_y])
    offset = pivot + shift - linear @ pivot
    return np.column_stack([linear, offset])


def turned_by(face: SyntheticFace, depth: float) -> float:
    """How far a feature that stands ``depth`` before the head's axis moves when it turns."""
    return face.look.turn * depth


EYE_DEPTH, NOSE_DEPTH, MOUTH_DEPTH = 1.0, 1.9, 1.25


def mouth_corner(face: SyntheticFace) -> tuple[float, float]:
    """The right mouth corner; the left one mirrors it. A smile pulls both out and up."""
    smile = 1.0 if face.traits.smiling else -1.0
    return 16.85 + 0.9 * face.look.mouth_width + 1.5 * smile, _MOUTH_Y - 1.2 * smile


def landmarks(face: SyntheticFace) -> np.ndarray:
    """Where the drawn eyes, nose tip and mouth corners are: (5, 2) float64, x and y in pixels.

    Order and meaning are CelebA's: left eye, right eye (as seen in the picture), nose, left
    and right mouth corner.
    """
    x, y = mouth_corner(face)
    eye, nose, mouth = (turned_by(face, d) for d in (EYE_DEPTH, NOSE_DEPTH, MOUTH_DEPTH))
    points = np.array(
        [
            (-EYE_X + eye, EYE_Y),
            (EYE_X + eye, EYE_Y),
            (nose, NOSE_Y + face.look.nose_length),
            (-x + mouth, y),
            (x + mouth, y),
        ]
    )
    matrix = pose_of(face)
    return points @ matrix[:, :2].T + matrix[:, 2]


def face_outline(face: SyntheticFace) -> np.ndarray:
    """The head without hair: a man's jaw is wider and squarer, a woman's chin narrower."""
    look = face.look
    jaw, corner, chin = (36.5, 23.5, 182.0) if face.traits.male else (30.0, 14.0, 178.5)
    wide = 1 + 0.035 * look.face_width
    right = np.array(
        [
            (0.0, 51.0),
            (21.0, 55.5),
            (37.0, 73.0),
            (42.5, 96.0),
            (42.5, 118.0),
            (0.35 * 42.5 + 0.65 * jaw, 142.0),
            (jaw + 1.2 * look.jaw, 158.0),
            (corner + 1.2 * look.jaw, 173.5),
            (0.0, chin + 1.5 * look.chin),
        ]
    )
    return loop(symmetric(right * (wide, 1)))


def skin_colour(face: SyntheticFace) -> Colour:
    """Between light and dark as the look says; pale skin is outside that range."""
    tones = _PALE_TONES if face.traits.pale else _SKIN_TONES
    return ramp(tones, face.look.skin)


def hair_colour(face: SyntheticFace) -> Colour:
    """The hair's colour; a bald head's brows and beard keep what grew there before."""
    name = face.traits.hair if face.traits.hair in _HAIR_COLOURS else "Brown"
    return shade(_HAIR_COLOURS[name], 1 + 0.13 * face.look.hair_shade)
