"""Curves, colours, and the canvas that synthetic faces are drawn on.

All shapes are given in face coordinates: CelebA's aligned frame (178x218 pixels, y downwards)
with x measured from the middle of an upright, frontal face. :class:`Canvas` turns them into pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import cv2
import numpy as np

#: Red, green, blue, 0..255.
Colour = tuple[float, ...]
Points = np.ndarray | Sequence[tuple[float, float]]
_FRACTION_BITS = 4


def shade(colour: Colour, factor: float) -> Colour:
    """``colour`` made darker (factor below 1) or lighter."""
    return tuple(min(255.0, max(0.0, value * factor)) for value in colour)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """``share`` (0..1) of the way from ``first`` to ``second``."""
    return tuple(a + (b - a) * share for a, b in zip(first, second, strict=True))


def ramp(colours: Sequence[Colour], position: float) -> Colour:
    """The colour at ``position`` (0..1) of a piecewise linear ramp."""
    place = position * (len(colours) - 1)
    index = min(int(place), len(colours) - 2)
    return mix(colours[index], colours[index + 1], place - index)


# Points on a Catmull-Rom spline at sixths of a step, of the four points around it.
_POWERS = np.stack([(np.arange(6) / 6) ** power for power in range(4)], axis=1)
_CATMULL_ROM = 0.5 * np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]])
_BASIS = _POWERS @ _CATMULL_ROM
_ANGLES = np.arange(28) * (math.tau / 28)
_UNIT_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)


def loop(points: Points) -> np.ndarray:
    """A smooth closed curve (Catmull-Rom) through ``points``."""
    points = np.asarray(points, np.float64)
    windows = np.stack([np.roll(points, shift, axis=0) for shift in (1, 0, -1, -2)])
    return np.einsum("sk,knd->nsd", _BASIS, windows).reshape(-1, 2)


def curve(points: Points) -> np.ndarray:
    """A smooth open curve (Catmull-Rom) from the first of ``points`` to the last."""
    points = np.asarray(points, np.float64)
    padded = np.concatenate([points[:1], points, points[-1:]])
    count = len(points) - 1
    windows = np.stack([padded[start : start + count] for start in range(4)])
    return np.concatenate([np.einsum("sk,knd->nsd", _BASIS, windows).reshape(-1, 2), points[-1:]])


def ellipse(x: float, y: float, rx: float, ry: float) -> np.ndarray:
    """The outline of an ellipse, N×2."""
    return _UNIT_CIRCLE * (rx, ry) + (x, y)


def symmetric(right: Points) -> np.ndarray:
    """Points listed down the right side, joined with their mirror image to a closed outline; a
    first or last point with x = 0 lies on the axis and is not doubled."""
    right = np.asarray(right, np.float64)
    left = right[::-1] * (-1, 1)
    start = 1 if right[-1, 0] == 0 else 0
    end = len(left) - 1 if right[0, 0] == 0 else len(left)
    return np.concatenate([right, left[start:end]])


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
        """A canvas whose paint lands here only inside ``points``: translucent by ``alpha`` (0..1),
        with a border softened by ``feather`` (face units)."""
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
        mask: np.ndarray = np.zeros(region.shape[:2], np.uint8)
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
