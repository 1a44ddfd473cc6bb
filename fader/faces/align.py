"""One geometry for every face: CelebA's own, reached by a similarity transform of five landmarks.

Points are ``(x, y)`` in pixels with pixel centres at whole numbers, as in OpenCV. A transform is a
2×3 matrix ``M`` that takes a point ``p`` to ``M[:, :2] @ p + M[:, 2]``.
"""

from __future__ import annotations

import math

import numpy as np

from fader.errors import FaderError

#: Mean landmarks of real CelebA images in their 178×218 frame: left eye, right eye (left and
#: right as seen in the image), nose, left and right mouth corner. Measured with MTCNN.
TEMPLATE = np.array(
    [[69.7, 112.1], [109.3, 112.3], [88.8, 136.8], [72.5, 153.2], [106.2, 152.9]], dtype=np.float64
)

# The model sees the square of CelebA's full width that starts at this row.
_FRAME, _FIRST_ROW = 178, 20


def template(size: int) -> np.ndarray:
    """The landmarks' places in a ``size``×``size`` crop, (5, 2) float64.

    The crop is CelebA's rows 20–198 (178×178) resized to ``size``; the halves keep pixel centres
    on pixel centres, so that a resize and a warp to this template agree.
    """
    return (TEMPLATE - (0, _FIRST_ROW) + 0.5) * (size / _FRAME) - 0.5


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The least-squares similarity transform (2×3 float64) that takes ``source`` to ``target``.

    Both are (n, 2) with n ≥ 2. Rotation, one scale and a translation, never a reflection
    (Umeyama 1991, IEEE TPAMI 13(4), eq. 40–43). In the plane that problem is linear: with points
    as complex numbers about their means, the rotation and scale are the one complex number
    a = Σ s̄·t / Σ |s|².

    Raises :class:`~fader.errors.FaderError` when the points allow no such transform (all in one
    place, or not finite).
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 2:
        raise FaderError(
            f"landmarks must be two (n, 2) arrays alike, got {source.shape} and {target.shape}"
        )
    if not (len(source) and np.isfinite(source).all() and np.isfinite(target).all()):
        raise FaderError("landmarks must be finite numbers, at least two points of them")
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    s = (source - source_mean) @ (1, 1j)
    t = (target - target_mean) @ (1, 1j)
    spread = np.sqrt((np.abs(s) ** 2).sum()), np.sqrt((np.abs(t) ** 2).sum())
    product = (s.conj() * t).sum()
    # Also catches a target that is the source's mirror image, to which no rotation leads.
    if min(spread) < 1e-6 or abs(product) < 1e-6 * spread[0] * spread[1]:
        raise FaderError("landmarks fall in one place; no face can be aligned to them")
    a = product / spread[0] ** 2
    rotation = np.array([[a.real, -a.imag], [a.imag, a.real]])
    return np.column_stack([rotation, target_mean - rotation @ source_mean])


def scale_of(matrix: np.ndarray) -> float:
    """How many target pixels one source pixel becomes under a similarity ``matrix``."""
    return math.hypot(matrix[0, 0], matrix[1, 0])


def invert(matrix: np.ndarray) -> np.ndarray:
    """The 2×3 transform that undoes ``matrix``."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.column_stack([linear, -linear @ matrix[:, 2]])


def transform_points(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """``points`` (n, 2) taken through ``matrix``."""
    return np.asarray(points) @ matrix[:, :2].T + matrix[:, 2]


def warp(
    image: np.ndarray,
    matrix: np.ndarray,
    size: int | tuple[int, int],
    mirrored: bool = True,
    cubic: bool = True,
) -> np.ndarray:
    """What ``image`` shows through ``matrix`` (image → result), as a new image of ``size``.

    ``image`` is H×W×C (or H×W), uint8 or float32, and the result keeps its type; ``size`` is the
    side of a square or (width, height). Beyond its border the image is mirrored (or zero). Between
    pixels it is cubic (or linear). Shrinking averages over all pixels that fall into one.
    """
    import cv2

    width, height = (size, size) if isinstance(size, int) else size
    matrix = np.array(matrix, dtype=np.float64)

    # Hand over only the part of the image that shows: OpenCV refuses to warp images with a side
    # of 32767 or more, and a huge photo would be slow.
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]]) - 0.5
    reach = transform_points(invert(matrix), corners)
    limit = np.array([image.shape[1], image.shape[0]])
    x0, y0 = np.clip(np.floor(reach.min(axis=0)) - 4, 0, limit - 1).astype(int)
    x1, y1 = np.clip(np.ceil(reach.max(axis=0)) + 5, (x0 + 1, y0 + 1), limit).astype(int)
    image = image[y0:y1, x0:x1]
    matrix[:, 2] += matrix[:, :2] @ (x0, y0)

    # Warping alone samples a few pixels around each point. When the image is finer than the
    # result, warp at (about) the image's resolution first and then average whole blocks. Of an
    # image that is much finer, blocks are averaged before, too: that is many times faster.
    block = int(1 / scale_of(matrix) / 2)
    if block > 1 and min(image.shape[:2]) >= block:
        rows, columns = (n // block for n in image.shape[:2])
        image = image[: rows * block, : columns * block]
        image = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA)
        matrix[:, 2] += matrix[:, :2] @ np.full(2, (block - 1) / 2)
        matrix[:, :2] *= block
    finer = max(1, math.ceil(1 / scale_of(matrix) - 0.05))
    matrix[:, 2] += 0.5
    matrix *= finer
    matrix[:, 2] -= 0.5

    result = cv2.warpAffine(
        image,
        matrix,
        (width * finer, height * finer),
        flags=cv2.INTER_CUBIC if cubic else cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT if mirrored else cv2.BORDER_CONSTANT,
    )
    if finer == 1:
        return result
    return cv2.resize(result, (width, height), interpolation=cv2.INTER_AREA)


def align(image: np.ndarray, landmarks: np.ndarray, size: int) -> np.ndarray:
    """The ``size``×``size`` crop of ``image`` with its ``landmarks`` (5, 2) at the template's."""
    return warp(image, similarity(landmarks, template(size)), size)
