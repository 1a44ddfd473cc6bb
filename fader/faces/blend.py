"""Putting an edit back: the decoder's change, added to the photo at the photo's own resolution.

With a decoder that gives a colour c and a mask m for the aligned crop x (x′ = x + m · (c − x)):

    edited = photo + up(m · (c − x)) − w · up(m) · (photo − up(x))

photo − up(x) is the detail that is too fine for the decoder: skin, strands of hair. With w = 0 all
of it stays, with w = 1 it goes where the mask is. It stays where the edit keeps the structure of
what is there (dyed hair) and goes where the edit replaces it (teeth behind a closed mouth, a frame
taken off); how alike x′ and x are in structure, place by place, tells the two apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from fader.faces.align import invert, scale_of, transform_points, warp
from fader.faces.detect import Face

# The structure of x′ and x is compared over a Gaussian of this σ, in widths of the crop (two pixels
# of 128); contrasts under this many levels (of 255) are noise.
_NEIGHBOURHOOD, _NOISE = 1 / 64, 6.0

# How unlike the structures are (0 to 1) when the photo's own detail starts to yield, and is gone.
_YIELD_FROM, _YIELD_TO = 0.15, 0.6

_LUMA = np.array([[0.299, 0.587, 0.114]], np.float32)

# The mask, in half-widths of the crop from its centre: whole up to the first, gone at the second.
_FEATHER_FROM, _FEATHER_TO = 0.72, 0.98

# Rows of the photo composited at a time, in each from the first column that changes to the last: a
# face of 10 megapixels needs no gigabyte.
_BAND = 64

# Times the decoder's size at which what varies smoothly is close enough for linear interpolation.
_FINER = 4


@dataclass(frozen=True)
class DecodedFace:
    """What a decoder makes of an aligned crop: ``before``, the crop (or what the decoder makes of
    it unchanged), and ``after``, the colour that an edit puts in its place, both (S, S, 3) float32
    in 0..255; and ``mask``, where and how far, (S, S) float32 in 0..1."""

    before: np.ndarray
    after: np.ndarray
    mask: np.ndarray

    @property
    def change(self) -> np.ndarray:
        """The change m · (c − x), (S, S, 3) float32 in −255..255."""
        return self.mask[:, :, None] * (self.after - self.before)

    @property
    def image(self) -> np.ndarray:
        """x′ = x + m · (c − x), (S, S, 3) uint8."""
        return np.clip(np.rint(self.before + self.change), 0, 255).astype(np.uint8)

    def layers(self) -> np.ndarray:
        """The a = m · (c − x) + w · m · x and b = w · m of edited = photo + a − b · photo, with a
        mask m that is no larger than :func:`inside`: (S, S, 4) float32."""
        mask = np.minimum(self.mask, inside(len(self.mask)))
        change = mask[:, :, None] * (self.after - self.before)
        w = mask * yielding(self.before, self.before + change)
        return np.dstack([change + w[:, :, None] * self.before, w]).astype(np.float32, copy=False)


def smoothstep(x: np.ndarray, start: float, end: float) -> np.ndarray:
    """0 up to ``start``, 1 from ``end`` on, and 3t² − 2t³ between."""
    t = np.clip((x - start) / (end - start), 0, 1)
    return t * t * (3 - 2 * t)


def mask(face: Face, shape: tuple[int, ...]) -> np.ndarray:
    """Where and how much an edit of ``face`` may change a photo of ``shape`` (H, W[, C]).

    (H, W) float32 in 0..1: 1 over face and hair, falling softly to 0 within the aligned crop. An
    edit leaves every pixel where this is 0 as it is, byte for byte.
    """
    whole = np.zeros(shape[:2], np.float32)
    x0, y0, x1, y1 = region(face, shape)
    x, y = np.arange(x0, x1, dtype=np.float32), np.arange(y0, y1, dtype=np.float32)[:, None]
    # In a crop of size 2 the distance from the centre, at (0.5, 0.5), is in half-widths.
    u, v = (row[0] * x + row[1] * y + (row[2] - 0.5) for row in face.transform(2))
    whole[y0:y1, x0:x1] = _fading(u, v, _FEATHER_FROM, _FEATHER_TO)
    return whole


def yielding(before: np.ndarray, edited: np.ndarray) -> np.ndarray:
    """How far the photo's own detail yields to the decoder's image: w, (S, S) float32 in 0..1.

    ``before`` and ``edited`` are x and x′, (S, S, 3) in 0..255. w rises with 1 − s, where s is the
    contrast and structure term of SSIM (Wang et al. 2004, eq. 9 and 10 with C3 = C2 / 2) of
    their brightness: 1 for a tint, 0 for structure that comes, goes or is another.
    """
    import cv2

    x, y = (cv2.transform(image.astype(np.float32), _LUMA) for image in (before, edited))
    sigma = _NEIGHBOURHOOD * len(x)

    def mean(values: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(values, (0, 0), sigmaX=sigma)

    mean_x, mean_y = mean(x), mean(y)
    variances = mean(x * x + y * y) - mean_x**2 - mean_y**2
    covariance = mean(x * y) - mean_x * mean_y
    alike = (2 * covariance + _NOISE**2) / (np.maximum(variances, 0) + _NOISE**2)
    return smoothstep(1 - alike, _YIELD_FROM, _YIELD_TO).astype(np.float32)


def composite(photo: np.ndarray, face: Face, decoded: DecodedFace) -> np.ndarray:
    """A copy of ``photo`` (H×W×3 uint8) in which ``face`` has changed as ``decoded`` says.

    Pixels outside :func:`mask` are the photo's own, and so are all pixels where nothing changes.
    """
    edited = photo.copy()
    composite_into(edited, face, decoded)
    return edited


def composite_into(photo: np.ndarray, face: Face, decoded: DecodedFace) -> None:
    """:func:`composite` that changes ``photo`` itself and touches only the face's part of it."""
    import cv2

    # All that varies smoothly is worked out at the decoder's size: one image is to be enlarged.
    size = len(decoded.before)
    layers = decoded.layers()
    changes = np.abs(layers).max(axis=2) > 0

    to_photo = invert(face.transform(size))
    touched = transform_points(to_photo, np.argwhere(changes)[:, ::-1])
    # How far from its centre a pixel of the decoder's reaches: two for cubic interpolation.
    reach = 2.5 * scale_of(to_photo) + 1
    if fine := scale_of(to_photo) > _FINER:
        # Cubic interpolation to photos of many megapixels is slow, and linear shows facets; linear
        # between pixels that are already close does not.
        layers = cv2.resize(layers, None, fx=_FINER, fy=_FINER, interpolation=cv2.INTER_CUBIC)
        to_photo = invert(face.transform(size * _FINER))
    x0, y0, x1, y1 = region(face, photo.shape)
    for top in range(y0, y1, _BAND):
        bottom = min(top + _BAND, y1)
        near = touched[(touched[:, 1] > top - reach) & (touched[:, 1] < bottom + reach), 0]
        if not len(near):
            continue
        left, right = max(x0, int(near.min() - reach)), min(x1, int(near.max() + reach) + 1)
        if left >= right:
            continue
        here = photo[top:bottom, left:right]
        shift = to_photo - [[0, 0, left], [0, 0, top]]
        enlarged = warp(layers, shift, here.shape[1::-1], False, cubic=not fine)
        yields = cv2.cvtColor(enlarged[:, :, 3], cv2.COLOR_GRAY2RGB)
        addition = enlarged[:, :, :3] - cv2.multiply(here, yields, dtype=cv2.CV_32F)
        # Rounds and keeps within 0..255.
        here[...] = cv2.add(here, addition, dtype=cv2.CV_8U)


@cache
def inside(size: int) -> np.ndarray:
    """How much of a mask there is room for at the decoder's size, (S, S) float32 in 0..1: 1 over
    face and hair, 0 towards the crop's border, so that no edge shows in the photo."""
    u = (np.arange(size, dtype=np.float32) - (size - 1) / 2) / (size / 2)
    # Enlarging spreads a pixel over the two next to it; the mask must hold that as well.
    spread = 5 / size
    return _fading(u[None], u[:, None], _FEATHER_FROM - spread, _FEATHER_TO - spread)


def region(face: Face, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """The part of a photo of ``shape`` (H, W[, C]) that an edit of ``face`` works on: what the
    aligned crop covers, as x0, y0, x1, y1 in pixels (ends exclusive)."""
    crop = np.array([[-0.5, -0.5], [1.5, -0.5], [-0.5, 1.5], [1.5, 1.5]])
    corners = transform_points(invert(face.transform(2)), crop)
    limit = np.array([shape[1], shape[0]])
    x0, y0 = np.clip(np.floor(corners.min(axis=0)), 0, limit).astype(int)
    x1, y1 = np.clip(np.ceil(corners.max(axis=0)) + 1, 0, limit).astype(int)
    return int(x0), int(y0), int(x1), int(y1)


def _fading(u: np.ndarray, v: np.ndarray, start: float, end: float) -> np.ndarray:
    """1 around the middle, and 0 from ``end`` on, for places in half-widths of the crop."""
    # A superellipse of the fourth order: a square with round corners, since hair reaches there.
    distance = np.sqrt(np.sqrt((u * u) ** 2 + (v * v) ** 2))
    return (1 - smoothstep(distance, start, end)).astype(np.float32)
