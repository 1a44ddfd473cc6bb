"""The three stages of MTCNN (Zhang et al. 2016, arXiv 1604.02878), made for large photos.

The networks are run by :mod:`fader.runtime`, with facenet-pytorch's weights. Its code takes longer
to import than an edit, resizes with PyTorch, and squeezes boxes that leave the photo into the part
that is inside, which displaces the landmarks of tightly cropped faces. Here OpenCV resizes, the
first stage goes over the photo in bands, and what lies outside the photo is black.

Boxes are (x0, y0, x1, y1), x1 and y1 exclusive, in pixels of the image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import cv2
import numpy as np

from fader.faces.align import invert, warp
from fader.faces.detect import Face

# Probabilities from which a box goes on to the next stage. The first two are the paper's code's;
# its 0.7 for the last lets patterns in cloth and foliage through, which `--face all` would edit.
_THRESHOLDS = 0.6, 0.7, 0.9

# The first stage sees squares of 12 pixels, one every 2 pixels, in copies of the photo each 0.709
# times (half the area) as large as the one before.
_CELL, _STRIDE, _STEP = 12, 2, 0.709

# Black around each copy: a face of 12 pixels there may be half outside of the photo.
_MARGIN = 6

# Rows of a copy that go through the first stage at once, and boxes that go through the others, so
# that activations stay in the cache.
_BAND, _BOXES = 64, 32

# Squares to be cut out lie on so fine a grid. Else the last bits of an answer, which depend on the
# runtime and the processor, move some of a crop's pixels (OpenCV interpolates at 32nds of a pixel),
# and landmarks by 0.07 pixels.
_GRID = 16

# The package cuts boxes out half a pixel up and to the left of where it takes them to be, and the
# template's landmarks were measured so.
_SHIFT = 0.5


class Networks(Protocol):
    """The three networks. Crops are N×S×S×3 uint8 RGB, S 24 for the second and 48 for the third."""

    def first(self, image: np.ndarray) -> np.ndarray:
        """H×W×3 uint8 RGB → for each square h×w×6 scores of no face and face, and four moves."""

    def second(self, crops: np.ndarray) -> list[np.ndarray]:
        """Probabilities (N,) and moves (N, 4)."""

    def third(self, crops: np.ndarray) -> list[np.ndarray]:
        """Probabilities (N,), moves (N, 4) and points (N, 10)."""


def find_faces(networks: Networks, image: np.ndarray, min_face: float, longest: int) -> list[Face]:
    """The faces in ``image`` (H×W×3 uint8 RGB).

    They are looked for in a copy whose sides are at most ``longest``, where a face must have
    ``min_face`` pixels. The landmarks are what the third network says when it looks again at
    the faces found, in the middle of what it sees and, small ones, at the image's own size. That
    halves their scatter; faces of 30 pixels in a copy a sixth as large have theirs within 0.4 % of
    the face's width of where they are found at full size, and not 3 %.
    """
    image, small = reduced(image, longest)
    copies = _copies(small, _CELL / min_face)
    boxes, scores = _proposed(networks, copies)
    if len(boxes):
        probabilities, moves = _asked(networks.second, copies, boxes, 24)
        boxes, scores, moves = _above(_THRESHOLDS[1], probabilities, boxes, moves)
        keep = _suppressed(boxes, scores, 0.7)
        boxes = _squares(_moved(boxes[keep], moves[keep]))
    if len(boxes):
        probabilities, moves, _ = _asked(networks.third, copies, boxes, 48)
        boxes, scores, moves = _above(_THRESHOLDS[2], probabilities, boxes, moves)
        boxes = _moved(boxes, moves)
        keep = _inner_suppressed(boxes, scores, 0.7)
        boxes, scores = boxes[keep], scores[keep]
    if not len(boxes):
        return []
    boxes = boxes * np.tile(np.array(image.shape[1::-1]) / small.shape[1::-1], 2)
    around = _squares(boxes)
    copies = copies if image is small else [image, *copies]
    points = _asked(networks.third, copies, around, 48)[2].reshape(-1, 2, 5).swapaxes(1, 2)
    landmarks = around[:, None, :2] + points * (around[:, 2:] - around[:, :2])[:, None] + _SHIFT
    return [
        Face(box, float(score), five)
        for box, score, five in zip(boxes, scores, landmarks, strict=True)
    ]


def _proposed(networks: Networks, copies: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Square boxes that may be faces and their probabilities, from the first stage."""
    some = [np.zeros((0, 9), np.float32)]
    for copy in copies[1:]:
        scale = np.array(copy.shape[1::-1]) / copies[0].shape[1::-1]
        rows, columns, answers = _scanned(networks, copy)
        corners = np.stack([columns, rows], axis=1) * _STRIDE - _MARGIN
        boxes = np.hstack([corners / scale, (corners + _CELL) / scale])
        keep = _suppressed(boxes, answers[:, 0], 0.5)
        some.append(np.hstack([boxes, answers])[keep])
    rows = np.concatenate(some)
    rows = rows[_suppressed(rows[:, :4], rows[:, 4], 0.7)]
    return _squares(_moved(rows[:, :4], rows[:, 5:])), rows[:, 4]


def _scanned(networks: Networks, copy: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, columns and answers (probability, moves) of the squares likely to be faces."""
    bordered = cv2.copyMakeBorder(copy, *(_MARGIN,) * 4, cv2.BORDER_CONSTANT)
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for top in range(0, len(bordered) - _CELL + 1, _BAND):
        answers = networks.first(bordered[top : top + _BAND + _CELL - _STRIDE])
        # Of two classes, face is the second.
        likely = answers[:, :, 1] - answers[:, :, 0]
        rows, columns = np.nonzero(likely > math.log(_THRESHOLDS[0] / (1 - _THRESHOLDS[0])))
        probabilities = 1 / (1 + np.exp(-likely[rows, columns]))
        chosen = np.column_stack([probabilities, answers[rows, columns, 2:]])
        found.append((rows + top // _STRIDE, columns, chosen))
    rows, columns, answers = zip(*found, strict=True)
    return np.concatenate(rows), np.concatenate(columns), np.concatenate(answers)


def _asked(
    network: Callable[[np.ndarray], list[np.ndarray]],
    copies: list[np.ndarray],
    boxes: np.ndarray,
    size: int,
) -> list[np.ndarray]:
    """What the second or third network answers of the crops of n boxes, each n long."""
    answers = []
    for start in range(0, len(boxes), _BOXES):
        crops = [_cut(copies, box, size) for box in boxes[start : start + _BOXES]]
        answers.append(network(np.stack(crops)))
    return [np.concatenate(parts) for parts in zip(*answers, strict=True)]


def reduced(image: np.ndarray, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """A copy whose sides are at most ``longest``, and the part of ``image`` that it shows.

    That part lacks a few pixels at the right and below where needed for averaging whole blocks of
    pixels, which is the fast way to shrink.
    """
    height, width = image.shape[:2]
    times = max(height, width) / longest
    if times <= 1:
        return image, image
    block = int(times)
    # A photo that is thin as a thread keeps its pixel of width.
    image = image[: height // block * block or height, : width // block * block or width]
    height, width = image.shape[:2]
    small = max(1, width // block), max(1, height // block)
    reduced = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    size = max(1, round(width / times)), max(1, round(height / times))
    return image, cv2.resize(reduced, size, interpolation=cv2.INTER_LINEAR)


def _copies(image: np.ndarray, scale: float) -> list[np.ndarray]:
    """``image`` and copies of it, from ``scale`` down to where the shorter side is 8 pixels.

    A face of half as much again as that side is then of 12 pixels.
    """
    height, width = image.shape[:2]
    copies = [image]
    while min(height, width) * scale >= 8:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        # From a copy twice as large, where linear interpolation is the mean of two by two pixels.
        source = copies[-2] if len(copies) > 2 else copies[-1]
        copies.append(cv2.resize(source, size, interpolation=cv2.INTER_LINEAR))
        scale *= _STEP
    return copies


def _cut(copies: list[np.ndarray], box: np.ndarray, size: int) -> np.ndarray:
    """The part of an image in the square ``box``, black where it is outside, at ``size``×``size``.

    Of the image's ``copies`` the smallest in which the box is no smaller than that is used.
    """
    # Plain numbers: there are hundreds of boxes, and small arrays take longer than the warp.
    x0, y0, x1, _ = box.tolist()
    (width, height), side = copies[0].shape[1::-1], x1 - x0
    fine = (copy for copy in reversed(copies) if copy.shape[1] * side >= size * width)
    image = next(fine, copies[0])
    across, down = image.shape[1] / width, image.shape[0] / height
    step_x, step_y = side / size * across, side / size * down
    left, top = x0 * across + step_x / 2 - 0.5, y0 * down + step_y / 2 - 0.5
    to_image = np.array([[step_x, 0, left], [0, step_y, top]])
    if step_x > 2:
        return warp(image, invert(to_image), size, mirrored=False)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, to_image, (size, size), flags=flags)


def _above(
    threshold: float, scores: np.ndarray, boxes: np.ndarray, *more: np.ndarray
) -> tuple[np.ndarray, ...]:
    """The rows whose score is above ``threshold``: boxes, scores, and what ``more`` is given."""
    keep = scores > threshold
    return boxes[keep], scores[keep], *(values[keep] for values in more)


def _moved(boxes: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """Boxes whose edges are moved by fractions of their size."""
    return boxes + moves * np.tile(boxes[:, 2:] - boxes[:, :2], 2)


def _squares(boxes: np.ndarray) -> np.ndarray:
    """The squares with the boxes' centres and longer sides, to 1 / :data:`_GRID` of a pixel."""
    half = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True) / 2
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half, centre = (np.round(part * _GRID) / _GRID for part in (half, centre))
    return np.hstack([centre - half, centre + half])


def _suppressed(boxes: np.ndarray, scores: np.ndarray, overlap: float) -> np.ndarray:
    """Indices of boxes, best first, that share no more than ``overlap`` with a better one.

    Shared is the intersection by the union, all in float32, as in torchvision, whose import takes
    seconds. ``cv2.dnn.NMSBoxes`` decides otherwise where boxes on the first stage's grid share
    ``overlap`` exactly: landmarks of 7 of 36 portraits moved, by up to 0.9 % of the face.
    """
    order = np.argsort(-scores.astype(np.float32), kind="stable")
    x0, y0, x1, y1 = boxes[order].astype(np.float32).T
    area = (x1 - x0) * (y1 - y0)
    kept, left = [], np.arange(len(order))
    while len(left):
        i, left = left[0], left[1:]
        kept.append(i)
        width = np.minimum(x1[i], x1[left]) - np.maximum(x0[i], x0[left])
        height = np.minimum(y1[i], y1[left]) - np.maximum(y0[i], y0[left])
        shared = np.maximum(width, 0) * np.maximum(height, 0)
        left = left[shared / (area[i] + area[left] - shared) <= np.float64(overlap)]
    return order[np.array(kept, int)]


def _inner_suppressed(boxes: np.ndarray, scores: np.ndarray, overlap: float) -> np.ndarray:
    """As :func:`_suppressed`, with the overlap as a fraction of the smaller box."""
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        low = np.maximum(boxes[i, :2], boxes[kept, :2])
        shared = np.clip(np.minimum(boxes[i, 2:], boxes[kept, 2:]) - low, 0, None).prod(axis=1)
        if (shared <= overlap * np.minimum(area[i], area[kept])).all():
            kept.append(int(i))
    return np.array(kept, int)
