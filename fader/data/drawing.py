"""Draws one synthetic face: a :class:`~fader.data.synthetic.SyntheticFace` in, a picture out.

All shapes are given in face coordinates: CelebA's aligned frame (178x218 pixels, y downwards)
with x measured from the middle of an upright, frontal face. :class:`Canvas` turns them into
pixels of a picture twice as large, which is shrunk at the end so that edges come out smooth.
One function draws one feature, back to front in :func:`draw`; each reads only the traits that
belong to it, so changing one trait leaves all other pixels as they were.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from fader.data.synthetic import SyntheticFace

WIDTH, HEIGHT = 178, 218

Colour = tuple[float, float, float]
Points = np.ndarray | Sequence[tuple[float, float]]

_SUPERSAMPLING = 2
_FRACTION_BITS = 4

_CENTRE_X = 89.4  # the middle of CelebA's mean eyes and mouth corners
_EYE_X, _EYE_Y = 19.8, 112.2
_NOSE_Y = 136.8
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
_WHITE: Colour = (248, 246, 242)


# ---------------------------------------------------------------- colours and curves


def _shade(colour: Colour, factor: float) -> Colour:
    """``colour`` made darker (factor below 1) or lighter."""
    return tuple(min(255.0, max(0.0, value * factor)) for value in colour)


def _mix(first: Colour, second: Colour, share: float) -> Colour:
    """``share`` (0..1) of the way from ``first`` to ``second``."""
    return tuple(a + (b - a) * share for a, b in zip(first, second, strict=True))


def _ramp(colours: Sequence[Colour], position: float) -> Colour:
    """The colour at ``position`` (0..1) of a piecewise linear ramp."""
    place = position * (len(colours) - 1)
    index = min(int(place), len(colours) - 2)
    return _mix(colours[index], colours[index + 1], place - index)


def _spline_basis(steps: int) -> np.ndarray:
    t = np.arange(steps) / steps
    powers = np.stack([np.ones(steps), t, t**2, t**3], axis=1)
    catmull_rom = 0.5 * np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]])
    return powers @ catmull_rom


_BASIS = _spline_basis(6)
_UNIT_CIRCLE = np.stack(
    [np.cos(np.arange(28) * (math.tau / 28)), np.sin(np.arange(28) * (math.tau / 28))], axis=1
)


def _loop(points: Points) -> np.ndarray:
    """A smooth closed curve (Catmull-Rom) through ``points``."""
    points = np.asarray(points, np.float64)
    windows = np.stack([np.roll(points, shift, axis=0) for shift in (1, 0, -1, -2)])
    return np.einsum("sk,knd->nsd", _BASIS, windows).reshape(-1, 2)


def _curve(points: Points) -> np.ndarray:
    """A smooth open curve (Catmull-Rom) from the first of ``points`` to the last."""
    points = np.asarray(points, np.float64)
    padded = np.concatenate([points[:1], points, points[-1:]])
    count = len(points) - 1
    windows = np.stack([padded[start : start + count] for start in range(4)])
    return np.concatenate([np.einsum("sk,knd->nsd", _BASIS, windows).reshape(-1, 2), points[-1:]])


def _ellipse(x: float, y: float, rx: float, ry: float) -> np.ndarray:
    return _UNIT_CIRCLE * (rx, ry) + (x, y)


def _raised(points: np.ndarray, by: float) -> np.ndarray:
    return points - (0, by)


def _symmetric(right: Points) -> np.ndarray:
    """Points listed down the right side, joined with their mirror image to a closed outline.

    A first or last point with x = 0 lies on the axis and is not doubled.
    """
    right = np.asarray(right, np.float64)
    left = right[::-1] * (-1, 1)
    start = 1 if right[-1, 0] == 0 else 0
    end = len(left) - 1 if right[0, 0] == 0 else len(left)
    return np.concatenate([right, left[start:end]])


# ---------------------------------------------------------------- canvas


class Canvas:
    """RGB pixels to paint on in face coordinates, through an affine ``matrix`` (2x3)."""

    def __init__(self, pixels: np.ndarray, matrix: np.ndarray) -> None:
        self.pixels = pixels
        self._matrix = matrix
        self._scale = math.hypot(matrix[0, 0], matrix[1, 0])

    def _place(self, points: Points) -> np.ndarray:
        return np.asarray(points, np.float64) @ self._matrix[:, :2].T + self._matrix[:, 2]

    def _fixed(self, points: Points) -> np.ndarray:
        return np.rint(self._place(points) * (1 << _FRACTION_BITS)).astype(np.int32)

    def shifted(self, dx: float) -> Canvas:
        """The same pixels with everything painted ``dx`` further right."""
        matrix = self._matrix.copy()
        matrix[:, 2] += matrix[:, 0] * dx
        return Canvas(self.pixels, matrix)

    def fill(self, points: Points, colour: Colour) -> None:
        """Paint the inside of ``points``."""
        cv2.fillPoly(self.pixels, [self._fixed(points)], colour, cv2.LINE_AA, _FRACTION_BITS)

    def stroke(
        self, lines: Sequence[Points], colour: Colour, width: float, closed: bool = False
    ) -> None:
        """Paint lines ``width`` face units wide."""
        thickness = max(1, round(width * self._scale))
        fixed = [self._fixed(line) for line in lines]
        cv2.polylines(self.pixels, fixed, closed, colour, thickness, cv2.LINE_AA, _FRACTION_BITS)

    @contextmanager
    def inside(self, points: Points, alpha: float = 1.0, feather: float = 0.0) -> Iterator[Canvas]:
        """A canvas whose paint lands here only inside ``points``.

        ``alpha`` (0..1) makes it translucent; ``feather`` (face units) softens the border.
        """
        placed = self._place(points)
        margin = math.ceil(3 * feather * self._scale) + 2
        height, width = self.pixels.shape[:2]
        x0, y0 = np.maximum(np.floor(placed.min(axis=0)).astype(int) - margin, 0)
        x1, y1 = np.minimum(np.ceil(placed.max(axis=0)).astype(int) + margin, (width, height))
        if x1 <= x0 or y1 <= y0:
            yield Canvas(np.zeros((1, 1, 3), np.uint8), self._matrix)
            return
        region = self.pixels[y0:y1, x0:x1]
        matrix = self._matrix.copy()
        matrix[:, 2] -= (x0, y0)
        layer = Canvas(region.copy(), matrix)
        yield layer
        mask = np.zeros(region.shape[:2], np.uint8)
        cv2.fillPoly(mask, [layer._fixed(points)], 255, cv2.LINE_AA, _FRACTION_BITS)
        if feather:
            mask = cv2.GaussianBlur(mask, (0, 0), feather * self._scale)
        weight = mask.astype(np.float32) * (alpha / 255)
        region[:] = cv2.blendLinear(layer.pixels, region, weight, 1 - weight)

    def tint(self, points: Points, colour: Colour, alpha: float, feather: float = 0.0) -> None:
        """Lay translucent ``colour`` over the inside of ``points``."""
        with self.inside(points, alpha, feather) as layer:
            layer.pixels[:] = colour

    def glow(self, x: float, y: float, rx: float, ry: float, colour: Colour, alpha: float) -> None:
        """A soft spot: ``alpha`` of ``colour`` at its centre, nothing beyond its radii."""
        height, width = self.pixels.shape[:2]
        (cx, cy), rx, ry = self._place([(x, y)])[0], rx * self._scale, ry * self._scale
        x0, x1 = max(0, math.ceil(cx - rx)), min(width, math.floor(cx + rx) + 1)
        y0, y1 = max(0, math.ceil(cy - ry)), min(height, math.floor(cy + ry) + 1)
        if x1 <= x0 or y1 <= y0:
            return
        across = np.cos((np.arange(x0, x1) - cx) * (math.pi / 2 / rx)) ** 2
        down = np.cos((np.arange(y0, y1) - cy) * (math.pi / 2 / ry)) ** 2
        weight = (alpha * np.outer(down, across)).astype(np.float32)
        region = self.pixels[y0:y1, x0:x1]
        paint = np.empty_like(region)
        paint[:] = np.rint(colour)
        region[:] = cv2.blendLinear(paint, region, weight, 1 - weight)


# ---------------------------------------------------------------- geometry


def _pose(face: SyntheticFace) -> np.ndarray:
    """Face coordinates → pixels of the 178x218 picture, a similarity (2x3)."""
    look = face.look
    angle = math.radians(look.roll)
    cos, sin = look.scale * math.cos(angle), look.scale * math.sin(angle)
    linear = np.array([[cos, -sin], [sin, cos]])
    pivot = np.array([0.0, 130.0])  # the middle of the five landmarks: a tilt moves them least
    shift = np.array([_CENTRE_X + look.shift_x, look.shift_y])
    offset = pivot + shift - linear @ pivot
    return np.column_stack([linear, offset])


def _turn(face: SyntheticFace, depth: float) -> float:
    """How far a feature that stands ``depth`` before the head's axis moves when it turns."""
    return face.look.turn * depth


_EYE_DEPTH, _NOSE_DEPTH, _MOUTH_DEPTH = 1.0, 1.9, 1.25


def _mouth_corner(face: SyntheticFace) -> tuple[float, float]:
    """The right mouth corner; the left one mirrors it. A smile pulls both out and up."""
    smile = 1.0 if face.traits.smiling else -1.0
    return 16.85 + 0.9 * face.look.mouth_width + 1.5 * smile, _MOUTH_Y - 1.2 * smile


def landmarks(face: SyntheticFace) -> np.ndarray:
    """Where the drawn eyes, nose tip and mouth corners are: (5, 2) float64, x and y in pixels.

    Order and meaning are CelebA's: left eye, right eye (as seen in the picture), nose, left
    and right mouth corner.
    """
    x, y = _mouth_corner(face)
    eye, nose, mouth = (_turn(face, d) for d in (_EYE_DEPTH, _NOSE_DEPTH, _MOUTH_DEPTH))
    points = np.array(
        [
            (-_EYE_X + eye, _EYE_Y),
            (_EYE_X + eye, _EYE_Y),
            (nose, _NOSE_Y + face.look.nose_length),
            (-x + mouth, y),
            (x + mouth, y),
        ]
    )
    matrix = _pose(face)
    return points @ matrix[:, :2].T + matrix[:, 2]


def _outline(face: SyntheticFace) -> np.ndarray:
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
    return _loop(_symmetric(right * (wide, 1)))


def _skin(face: SyntheticFace) -> Colour:
    tones = _PALE_TONES if face.traits.pale else _SKIN_TONES
    return _ramp(tones, face.look.skin)


def _hair(face: SyntheticFace) -> Colour:
    """The hair's colour; a bald head's brows and beard keep what grew there before."""
    name = face.traits.hair if face.traits.hair in _HAIR_COLOURS else "Brown"
    return _shade(_HAIR_COLOURS[name], 1 + 0.13 * face.look.hair_shade)


# ---------------------------------------------------------------- behind and around the face


def _background(face: SyntheticFace, height: int, width: int) -> np.ndarray:
    """A gradient between two colours, drawn tiny and enlarged."""
    look = face.look
    y, x = np.mgrid[-1:1:24j, -1:1:20j]
    angle = look.background_angle
    slope = 0.5 + 0.36 * (x * math.cos(angle) + y * math.sin(angle))
    slope += 0.18 * np.sin(3 * x + 9 * look.skin) * np.cos(2.5 * y + angle)
    first, second = (np.array(c) for c in (look.background, look.background_second))
    small = first + (second - first) * np.clip(slope, 0, 1)[..., None]
    return cv2.resize(
        np.rint(np.clip(small, 0, 255)).astype(np.uint8),
        (width, height),
        interpolation=cv2.INTER_LINEAR,
    )


def _under_hat(points: np.ndarray, hat: bool) -> np.ndarray:
    """Hair pressed below a hat's edge, when there is one."""
    return np.column_stack([points[:, 0], np.maximum(points[:, 1], 82)]) if hat else points


def _hair_end(face: SyntheticFace) -> float:
    return 172 + 34 * face.look.hair_length


def _draw_back_hair(canvas: Canvas, face: SyntheticFace) -> None:
    """Long hair behind neck and shoulders: a woman's."""
    if face.traits.male or face.traits.hair == "Bald":
        return
    look, end = face.look, _hair_end(face)
    wave = 2.5 * look.hair_wave
    top = 46 - 5 * look.hair_volume
    right = [
        (0, top),
        (30, top + 8),
        (48, 74),
        (53 + 3 * look.hair_volume, 100),
        (53 + wave + 3 * look.hair_volume, 128),
        (54 - wave + 3 * look.hair_volume, 150),
        (52 + wave + 3 * look.hair_volume, end - 10),
        (40, end + 4),
        (20, end),
        (0, end - 4),
    ]
    outline = _under_hat(_loop(_symmetric(right)), face.traits.hat)
    canvas.fill(outline, _shade(_hair(face), 0.72))


def _draw_body(canvas: Canvas, face: SyntheticFace) -> None:
    look, skin = face.look, _skin(face)
    neck = 28.0 if face.traits.male else 20.5
    shoulder = 192.0 if face.traits.male else 197.0
    throat = [(neck, 140), (neck, 178), (neck + 3, 191), (neck + 3, 240)]
    canvas.fill(_symmetric(throat), _shade(skin, 0.9))
    shadow = _raised(_outline(face) * (0.94, 1), -6)
    shadow[:, 1] = np.maximum(shadow[:, 1], 145)  # the head covers the rest
    canvas.tint(shadow, _shade(skin, 0.62), 0.6, feather=2)
    drop = (200, 208, 216)[look.clothes_style]
    cloth = [(0, drop), (neck * 0.62, drop - 5), (neck + 4, 190), (neck + 14, shoulder + 2)]
    cloth += [(80, shoulder + 14), (100, 240), (0, 240)]
    canvas.fill(_symmetric(cloth), look.clothes)
    edge = [(0, drop), (neck * 0.62, drop - 5), (neck + 4, 190)]
    mirrored = [(-x, y) for x, y in edge]
    canvas.stroke([edge, mirrored], _shade(look.clothes, 0.72), 1.8)


def _draw_ears(canvas: Canvas, face: SyntheticFace) -> None:
    skin = _skin(face)
    for side in (-1, 1):
        x = side * 43.5 * (1 + 0.035 * face.look.face_width)
        canvas.fill(_ellipse(x, 122, 6.2, 12.5), _shade(skin, 0.93))
        canvas.fill(_ellipse(x + side * 0.6, 121, 3.2, 7.5), _shade(skin, 0.78))


# ---------------------------------------------------------------- the face


def _draw_head(canvas: Canvas, face: SyntheticFace) -> None:
    """The skin with its shading, and what lies in the skin: blush, smile cheeks, wrinkles."""
    outline, skin = _outline(face), _skin(face)
    canvas.fill(outline, skin)
    with canvas.inside(outline) as head:
        for side in (-1, 1):
            head.glow(side * 46, 140, 24, 62, _shade(skin, 0.72), 0.6)
        head.glow(0, 184, 46, 20, _shade(skin, 0.74), 0.5)
        head.glow(-6, 82, 34, 26, _mix(skin, (255, 244, 232), 0.4), 0.5)
        inner = head.shifted(_turn(face, _EYE_DEPTH))
        _draw_cheeks(inner, face)
        if not face.traits.young:
            _draw_wrinkles(inner, face)
    if face.traits.hair == "Bald":
        canvas.glow(-10, 68, 20, 9, (255, 255, 255), 0.45)


def _draw_cheeks(canvas: Canvas, face: SyntheticFace) -> None:
    skin = _skin(face)
    for side in (-1, 1):
        if face.traits.rosy:
            canvas.glow(side * 27, 137, 15, 12, _mix(skin, (226, 58, 76), 0.75), 0.85)
        if face.traits.smiling:
            canvas.glow(side * 25, 130, 13, 8, _shade(skin, 1.14), 0.55)
            fold = [(side * 14, 138), (side * 20.5, 143), (side * 24, 151)]
            canvas.stroke([_curve(fold)], _shade(skin, 0.74), 1.0)


def _draw_wrinkles(canvas: Canvas, face: SyntheticFace) -> None:
    """Lines on the forehead, beside the eyes and around the mouth, and bags under the eyes."""
    skin = _skin(face)
    line = _shade(skin, 0.66)
    for row, half in ((82, 20), (87.5, 23), (93, 19)):
        canvas.stroke([_curve([(-half, row + 1.5), (0, row - 0.6), (half, row + 1.5)])], line, 1.0)
    canvas.stroke([[(-3, 97), (-2.4, 104)], [(3, 97), (2.4, 104)]], line, 1.0)
    for side in (-1, 1):
        x = side * _EYE_X
        canvas.glow(x, 121.5, 10, 5, _shade(skin, 0.6), 0.6)
        folds = [
            [(x - side * 7, 120), (x, 123.4), (x + side * 7.5, 120)],
            [(side * 10.5, 139), (side * 17, 146), (side * 21.5, 157)],
            [(side * 19.5, 158), (side * 20.5, 163), (side * 19, 168)],
        ]
        crow = [[(side * 31, y), (side * 37.5, y + d)] for y, d in ((109, -3), (112, 0), (115, 3))]
        canvas.stroke([_curve(fold) for fold in folds] + crow, line, 1.1)


def _draw_beard(canvas: Canvas, face: SyntheticFace) -> None:
    """What grows on jaw and chin; the mouth is painted over it."""
    style = face.beard
    if style == "none":
        return
    colour = _shade(_hair(face), 0.86)
    chin = 182.0 + 1.5 * face.look.chin
    if style == "goatee":
        right = [(0, 166.5), (5, 167), (12, 166), (14.5, 173), (11, chin + 1), (0, chin + 5)]
        shape = _loop(_symmetric(right))
    else:
        wide, jaw = 1 + 0.035 * face.look.face_width, 1.2 * face.look.jaw
        right = [(0, 168), (12, 165.5), (21, 158), (27, 148), (35, 136), (40.5 * wide, 116)]
        right += [(44 * wide, 118), (42 * wide, 142), (38.5 + jaw, 160), (25 + jaw, 177)]
        right += [(0, chin + 5)]
        shape = _loop(_symmetric(right))
    with canvas.inside(shape, alpha=0.94, feather=0.7) as beard:
        beard.pixels[:] = np.rint(colour)
        curls = [[(x, 140), (x * 1.03, 160), (x * 0.85, 190)] for x in range(-40, 41, 5)]
        beard.stroke(curls, _shade(colour, 1.35), 0.6)
        beard.glow(0, chin, 40, 12, _shade(colour, 0.6), 0.5)


def _draw_mustache(canvas: Canvas, face: SyntheticFace) -> None:
    if not face.mustache:
        return
    x, y = _mouth_corner(face)
    colour = _shade(_hair(face), 0.8)
    right = [(0, 143.5), (7, 143.2), (13, 146), (x + 1.5, y - 0.5), (x, y + 2.2)]
    right += [(11, 150.6), (4, 149.8), (0, 149)]
    shape = _loop(_symmetric(right))
    canvas.fill(shape, colour)
    hairs = [
        [(t * 3, 144.5), (t * 3 + math.copysign(2.2, t), 149.2)] for t in (-4, -3, -1, 1, 3, 4)
    ]
    canvas.stroke(hairs, _shade(colour, 1.4), 0.6)


def _draw_nose(canvas: Canvas, face: SyntheticFace) -> None:
    look, skin = face.look, _skin(face)
    wing = 8.2 + 1.4 * look.nose_width
    tip = _NOSE_Y + look.nose_length
    dark = _shade(skin, 0.68)
    canvas.glow(0, 121, 4, 18, _shade(skin, 1.12), 0.6)
    canvas.glow(6.5, 126, 5, 18, _shade(skin, 0.8), 0.6)
    canvas.glow(-6.5, 126, 5, 18, _shade(skin, 0.84), 0.45)
    canvas.glow(0, tip - 0.5, 7, 5.5, _shade(skin, 1.16), 0.8)
    for side in (-1, 1):
        ala = [
            (side * (wing - 1.2), tip - 3.5),
            (side * wing, tip + 1),
            (side * (wing - 2.4), tip + 4),
        ]
        canvas.stroke([_curve(ala)], dark, 1.2)
        canvas.fill(_ellipse(side * 3.9, tip + 3.6, 2.1, 1.1), _shade(skin, 0.42))
    canvas.stroke([_curve([(-3, tip + 4.4), (0, tip + 5.4), (3, tip + 4.4)])], dark, 1.0)


def _lip_colour(face: SyntheticFace) -> Colour:
    if face.traits.lipstick:
        return _ramp(((206, 16, 50), (176, 12, 72)), face.look.lipstick_shade)
    share = 0.28 if face.traits.male else 0.4
    return _mix(_shade(_skin(face), 0.84), (178, 74, 78), share)


def _draw_mouth(canvas: Canvas, face: SyntheticFace) -> None:
    """Lips between the corners; an open mouth shows teeth, and more of them when smiling."""
    traits, look = face.traits, face.look
    x, y = _mouth_corner(face)
    bend = 4.4 if traits.smiling else -0.6  # how far the middle hangs below the corners
    gap = 0.0 if not traits.mouth_open else 6.5 if traits.smiling else 7.0
    full = (0.84 if traits.male else 1.12) * (1 + 0.16 * look.lip_fullness)
    upper, lower = 3.6 * full, 4.9 * full
    middle = y + bend - 0.12 * gap
    bottom = middle + gap
    lip = _lip_colour(face)

    # A smile's arc stays low between corner and middle; a resting mouth is nearly straight.
    slope = 0.62 * bend
    top_edge = [(-x, y), (-x * 0.55, y + slope - upper * 0.75), (-3.2, middle - upper)]
    top_edge += [(0, middle - upper + 1.0), (3.2, middle - upper)]
    top_edge += [(x * 0.55, y + slope - upper * 0.75), (x, y)]
    under = y + slope + 0.62 * gap
    low_edge = [
        (x * 0.6, under + lower * 0.75),
        (0, bottom + lower),
        (-x * 0.6, under + lower * 0.75),
    ]
    canvas.glow(0, bottom + lower + 2.5, 11, 3.5, _shade(_skin(face), 0.66), 0.55)
    canvas.fill(np.concatenate([_curve(top_edge), _curve([(x, y), *low_edge, (-x, y)])]), lip)

    over = y + 0.72 * bend - 0.1 * gap
    inner_top = _curve([(-x, y), (-x * 0.5, over), (0, middle), (x * 0.5, over), (x, y)])
    if traits.mouth_open:
        inset = 0.93
        deep = y + slope + 0.66 * gap
        right = [(0, bottom), (x * 0.58, deep), (x * inset, y)]
        left = [(-x * inset, y), (-x * 0.58, deep), (0, bottom)]
        opening = np.concatenate([inner_top * (inset, 1), _curve(right[::-1] + left[1::-1])])
        with canvas.inside(opening) as mouth:
            mouth.pixels[:] = (78, 22, 26)
            teeth = 5.2 if traits.smiling else 2.6
            mouth.fill(np.concatenate([inner_top, _raised(inner_top[::-1], -teeth)]), _WHITE)
            if not traits.smiling:
                mouth.fill(_ellipse(0, bottom + 1.5, 8, 3), (176, 72, 80))
        canvas.stroke([inner_top * (inset, 1)], _shade(lip, 0.62), 0.9)
    else:
        canvas.stroke([inner_top], _shade(lip, 0.5), 1.3)
        canvas.glow(0, bottom + lower * 0.5, 7, 2.2, _shade(lip, 1.35), 0.5)
    for side in (-1, 1):
        canvas.stroke([[(side * (x - 0.6), y), (side * (x + 0.9), y - 0.7)]], _shade(lip, 0.5), 1.2)


def _draw_eye(canvas: Canvas, face: SyntheticFace, side: int) -> None:
    traits, look, skin = face.traits, face.look, _skin(face)
    x = side * _EYE_X
    half = 8.6 + 0.4 * look.eye_size
    tall = (4.1 if traits.male else 4.8) + 0.5 * look.eye_size
    if traits.smiling:
        tall *= 0.76
    inner, outer = (x - side * half, _EYE_Y + 1.2), (x + side * half, _EYE_Y - 0.2)
    lid = _curve(
        [inner, (x - side * 3, _EYE_Y - tall), (x + side * 4, _EYE_Y - tall * 0.92), outer]
    )
    lower = _curve([outer, (x + side * 2, _EYE_Y + tall * 0.82), inner])
    canvas.glow(x, _EYE_Y - 5.5, half + 3, 6, _shade(skin, 0.72), 0.5)
    with canvas.inside(np.concatenate([lid, lower])) as eye:
        eye.pixels[:] = np.rint(_WHITE)
        eye.fill(_ellipse(x, _EYE_Y - 0.2, 4.4, 4.4), _shade(look.iris, 0.55))
        eye.fill(_ellipse(x, _EYE_Y - 0.2, 3.7, 3.7), look.iris)
        eye.fill(_ellipse(x, _EYE_Y - 0.2, 1.9, 1.9), (14, 12, 14))
        eye.fill(_ellipse(x - 1.4, _EYE_Y - 1.7, 1.0, 1.0), (255, 255, 255))
        eye.stroke([_raised(lid, -1.0)], (150, 140, 138), 0.8)
    ink = (34, 24, 22)
    if traits.male:
        canvas.stroke([lid], ink, 1.0)
    else:
        lash = [(x + side * half, _EYE_Y - 0.2), (x + side * (half + 3.0), _EYE_Y - 3.0)]
        mid = [(x + side * (half - 2), _EYE_Y - 2.6), (x + side * (half + 0.8), _EYE_Y - 5.6)]
        canvas.stroke([lid, lash, mid], ink, 1.6)
    canvas.stroke([_raised(lid, 2.6)], _shade(skin, 0.68), 0.7)
    canvas.stroke([lower], _shade(skin, 0.6), 0.8)
    if traits.smiling:
        pouch = [(x - side * 6, _EYE_Y + 5.4), (x, _EYE_Y + 6.6), (x + side * 7, _EYE_Y + 4.4)]
        canvas.stroke([_curve(pouch)], _shade(skin, 0.76), 0.8)


def _draw_brow(canvas: Canvas, face: SyntheticFace, side: int) -> None:
    """A man's brow is thick, low and straight; a woman's thin, high and arched."""
    look = face.look
    thick, arch, y = (4.6, 1.6, 102.6) if face.traits.male else (2.2, 4.2, 101.0)
    thick *= 1 + 0.15 * look.brow_weight
    y -= 0.8 * look.brow_height
    tilt = 0.7 * look.brow_angle
    top = [(8.5, y + tilt), (20, y - arch - 0.5), (31, y + 0.6 - tilt)]
    low = [(31, y + 1.4 - tilt), (20, y - arch + thick * 0.9), (9, y + thick + tilt)]
    shape = np.concatenate([_curve(top), _curve(low)]) * (side, 1)
    canvas.fill(shape, _mix(_shade(_hair(face), 0.62), (62, 44, 34), 0.35))


# ---------------------------------------------------------------- hair, hat, jewellery, glasses


def _draw_front_hair(canvas: Canvas, face: SyntheticFace) -> None:
    """The hair on top with its strands, and a woman's locks over the sides of the face."""
    traits, look = face.traits, face.look
    if traits.hair == "Bald":
        return
    colour = _hair(face)
    rise = 46 - 6 * look.hair_volume
    part = 16 * look.hair_part
    low = 117 if traits.male else 122
    outer = _curve(
        [
            *[(-46, low), (-48.5, 96), (-45.5, 72), (-29, rise + 7), (0, rise)],
            *[(29, rise + 7), (45.5, 72), (48.5, 96), (46, low)],
        ]
    )
    line = 76 - 2 * look.hair_volume
    hairline = _curve(
        [
            *[(-41, low), (-40.5, 98), (-36, 87), (-20, line + 3), (part, line - 2)],
            *[(20, line + 3), (36, 87), (40.5, 98), (41, low)],
        ]
    )
    shape = np.concatenate([outer, hairline[::-1]])
    canvas.fill(_under_hat(shape, traits.hat), colour)
    if not traits.hat:
        crown = slice(8, -8)
        starts, ends = outer[crown][::3], hairline[crown][::3]
        for factor, pairs in ((1.28, slice(0, None, 2)), (0.72, slice(1, None, 2))):
            strands = [
                _curve([a + (b - a) * 0.08, (a + b) / 2 + (part * 0.12, -2), a + (b - a) * 0.95])
                for a, b in zip(starts[pairs], ends[pairs], strict=True)
            ]
            canvas.stroke(strands, _shade(colour, factor), 0.8)
        canvas.glow(-14, rise + 13, 22, 9, _shade(colour, 1.5), 0.45)
    if not traits.male:
        _draw_locks(canvas, face, colour)


def _draw_locks(canvas: Canvas, face: SyntheticFace, colour: Colour) -> None:
    end, wave, wide = _hair_end(face), 2.5 * face.look.hair_wave, 3 * face.look.hair_volume
    for side in (-1, 1):
        lock = np.array(
            [
                *[(37, 84), (46, 76), (51 + wide, 100), (51 + wave + wide, 128)],
                *[(52 - wave + wide, 150), (50 + wave + wide, end - 12), (43, end)],
                *[(38 + wave, end - 14), (42 - wave, 152), (39.5 + 0.5 * wave, 132), (40, 106)],
            ]
        )
        canvas.fill(_loop(_under_hat(lock, face.traits.hat)) * (side, 1), colour)
        strands = [
            _curve([(x - 2, 92), (x + wide * 0.5 + 0.6 * wave, 128), (x - 1 - wave, end - 16)])
            * (side, 1)
            for x in (44.0, 48.0)
        ]
        canvas.stroke(strands[:1], _shade(colour, 1.28), 0.8)
        canvas.stroke(strands[1:], _shade(colour, 0.72), 0.8)


def _draw_bangs(canvas: Canvas, face: SyntheticFace) -> None:
    if not face.bangs:
        return
    look, colour = face.look, _shade(_hair(face), 1.06)
    sweep = 2.0 * look.hair_part
    top = [(-42, 92), (-36, 76), (-18, 66), (0, 63), (18, 66), (36, 76), (42, 92)]
    tips = [(36.0 - 6 * i, (98.0, 94.5)[i % 2] - 0.002 * (36 - 6 * i) ** 2) for i in range(13)]
    tips = [(x, y + sweep * x / 36) for x, y in tips]
    canvas.fill(np.concatenate([_curve(top), np.array(tips)]), colour)
    roots = np.linspace(20, -20, len(tips))
    strands = [
        _curve([(root, 68), ((root + x) / 2 + math.copysign(2, x), 80), (x, y - 2.5)])
        for root, (x, y) in zip(roots, tips, strict=True)
    ]
    canvas.stroke(strands[1::2], _shade(colour, 0.7), 0.9)
    canvas.stroke(strands[::2], _shade(colour, 1.3), 0.7)


def _draw_hat(canvas: Canvas, face: SyntheticFace) -> None:
    if not face.traits.hat:
        return
    colour, style = face.look.hat_colour, face.look.hat_style
    dark = _shade(colour, 0.62)
    crown = [(0, 30), (30, 36), (47, 56), (53, 78), (52, 90), (0, 88)]
    if style == "brim":
        crown = [(0, 33), (24, 30), (37, 38), (44, 62), (50, 84), (0, 90)]
    canvas.fill(_loop(_symmetric(crown)), colour)
    canvas.glow(-20, 54, 24, 22, _shade(colour, 1.35), 0.5)
    if style == "beanie":
        band = [(0, 76), (30, 76.5), (54.5, 79), (54, 91), (30, 92), (0, 92.5)]
        canvas.fill(_symmetric(band), _shade(colour, 0.82))
        ribs = [[(x, 77.5), (x, 91)] for x in range(-48, 49, 6)]
        canvas.stroke(ribs, dark, 0.8)
    elif style == "cap":
        visor = [(0, 79), (26, 80.5), (49, 87), (42, 93), (22, 94.5), (0, 95)]
        canvas.fill(_loop(_symmetric(visor)), dark)
        seams = [[(0, 30), (0, 80)], *([(s * 20, 33), (s * 30, 56), (s * 32, 82)] for s in (-1, 1))]
        canvas.stroke([_curve(seam) for seam in seams], dark, 0.8)
    else:
        canvas.fill(_symmetric([(0, 72), (45.5, 68), (50, 84), (0, 88)]), dark)
        canvas.fill(_ellipse(0, 86, 74, 7.5), _shade(colour, 0.88))
        canvas.stroke([_ellipse(0, 86, 74, 7.5)[:15]], dark, 1.2)


def _draw_earrings(canvas: Canvas, face: SyntheticFace) -> None:
    if not face.traits.earrings:
        return
    gold = _ramp(((242, 204, 76), (226, 230, 240)), face.look.jewel_shade)
    for side in (-1, 1):
        x = side * 45.5 * (1 + 0.035 * face.look.face_width)
        canvas.stroke([_ellipse(x, 142.5, 4.6, 6.4)], (70, 52, 24), 3.0, closed=True)
        canvas.stroke([_ellipse(x, 142.5, 4.6, 6.4)], gold, 2.0, closed=True)
        canvas.fill(_ellipse(x, 135.5, 2.2, 2.2), gold)


def _lens(style: str, side: int) -> np.ndarray:
    x, y = side * _EYE_X, _EYE_Y + 1.5
    if style == "round":
        return _ellipse(x, y, 14.8, 13.6)
    if style == "square":
        corners = [(-14.5, -8.5), (-12, -10.5), (12.5, -10.5), (15.5, -8), (14.5, 7.5), (12, 10.5)]
        corners += [(-11, 10.5), (-13.5, 8)]
    else:
        corners = [(-13.5, -8), (0, -10), (15.5, -9), (15.5, 1), (8, 13), (-6, 13), (-13, 3)]
    return _loop(np.array(corners) * (side, 1) + (x, y))


def _draw_glasses(canvas: Canvas, face: SyntheticFace) -> None:
    if not face.traits.eyeglasses:
        return
    look = face.look
    frame = look.glasses_colour
    front = canvas.shifted(_turn(face, _EYE_DEPTH))
    hinges = []
    for side in (-1, 1):
        lens = _lens(look.glasses_style, side)
        front.tint(lens, (214, 232, 244), 0.1)
        x = side * _EYE_X
        with front.inside(lens, alpha=0.3) as glass:
            glass.stroke([[(x - 9, _EYE_Y + 6), (x + 1, _EYE_Y - 8)]], (255, 255, 255), 2.2)
        front.stroke([lens], frame, 2.4, closed=True)
        hinges.append([(side * 34.5, 108.5), (side * 38.5, 108)])
    bridge = _curve([(-5.5, 111), (0, 108.4), (5.5, 111)])
    front.stroke([bridge, *hinges], frame, 2.4)
    # The temples end at the ears, which do not move when the head turns.
    turn = _turn(face, _EYE_DEPTH)
    temples = [[(side * 38 + turn, 108), (side * 45, 110)] for side in (-1, 1)]
    canvas.stroke(temples, frame, 2.2)


# ---------------------------------------------------------------- the whole picture


def _light(pixels: np.ndarray, face: SyntheticFace) -> np.ndarray:
    """Light from one side, and a camera's fine noise; the same for every variant of a face."""
    look = face.look
    x = np.linspace(-1, 1, WIDTH, dtype=np.float32)[None, :]
    y = np.linspace(-1, 1, HEIGHT, dtype=np.float32)[:, None]
    slope = x * np.float32(math.cos(look.light_angle)) + y * np.float32(math.sin(look.light_angle))
    gain = np.float32(look.brightness) * (1 + np.float32(look.light_strength) * slope)
    noise = np.random.default_rng(look.noise_seed).standard_normal((HEIGHT, WIDTH), np.float32)
    lit = cv2.multiply(pixels, cv2.merge([gain] * 3), dtype=cv2.CV_32F)
    return cv2.add(lit, cv2.merge([noise * np.float32(look.noise)] * 3), dtype=cv2.CV_8U)


def draw(face: SyntheticFace) -> np.ndarray:
    """The picture of ``face``: (218, 178, 3) uint8 RGB, the same for equal faces."""
    pixels = _background(face, HEIGHT * _SUPERSAMPLING, WIDTH * _SUPERSAMPLING)
    # Pixel centres: picture pixel p covers p·k … p·k + k - 1 of the large one.
    matrix = _pose(face) * _SUPERSAMPLING
    matrix[:, 2] += (_SUPERSAMPLING - 1) / 2
    canvas = Canvas(pixels, matrix)

    _draw_back_hair(canvas, face)
    _draw_body(canvas, face)
    _draw_ears(canvas, face)
    _draw_head(canvas, face)
    _draw_nose(canvas.shifted(_turn(face, _NOSE_DEPTH)), face)
    _draw_beard(canvas, face)
    mouth = canvas.shifted(_turn(face, _MOUTH_DEPTH))
    _draw_mouth(mouth, face)
    _draw_mustache(mouth, face)
    eyes = canvas.shifted(_turn(face, _EYE_DEPTH))
    for side in (-1, 1):
        _draw_eye(eyes, face, side)
        _draw_brow(eyes, face, side)
    _draw_front_hair(canvas, face)
    _draw_bangs(canvas, face)
    _draw_earrings(canvas, face)
    _draw_hat(canvas, face)
    _draw_glasses(canvas, face)

    small = cv2.resize(pixels, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    return _light(small, face)
