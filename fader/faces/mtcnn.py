"""The three stages of MTCNN (Zhang et al. 2016, arXiv 1604.02878), made for large photos.

The weights are those in the facenet-pytorch package; its code is not used. Importing it takes
longer than an edit. Its detector spends two thirds of its time on resizing with PyTorch and on
activations larger than the processor's caches. It also squeezes boxes that leave the photo into the
part that is inside, which displaces the landmarks of tightly cropped faces. Here OpenCV resizes,
the first stage goes over the photo in bands, and what lies outside the photo is black.

Boxes are (x0, y0, x1, y1), x1 and y1 exclusive, in pixels of the image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fader.errors import FaderError
from fader.faces.align import invert, warp

# Probabilities from which a box goes on to the next stage. The first two are the paper's code's;
# its 0.7 for the last lets patterns in cloth and foliage through, which `--face all` would edit.
_THRESHOLDS = 0.6, 0.7, 0.9

# The first stage sees squares of 12 pixels, one every 2 pixels, in copies of the photo each 0.709
# times (half the area) as large as the one before.
_CELL, _STRIDE, _STEP = 12, 2, 0.709

# Black around each copy: a face of 12 pixels there may be half outside of the photo.
_MARGIN = 6

# Rows of a copy that go through the first stage at once, so that its activations stay in the cache.
_BAND = 64

# Boxes that go through the other stages at once, for the same reason.
_BOXES = 32

# The package cuts boxes out half a pixel up and to the left of where it takes them to be, and the
# template's landmarks were measured so.
_SHIFT = 0.5


@dataclass(frozen=True)
class Found:
    """Faces found: ``boxes`` (n, 4), ``scores`` (n,) in 0..1 and ``landmarks`` (n, 5, 2)."""

    boxes: np.ndarray
    scores: np.ndarray
    landmarks: np.ndarray


class Cascade:
    """The three networks on ``device``."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._layers = [_placed(layer, device) for layer in _first_stage()]
        self._second = _Network("rnet", (3, 3, 0), 2, device)
        self._third = _Network("onet", (3, 3, 2, 0), 3, device)

    def find(self, image: np.ndarray, min_face: float, longest: int) -> Found:
        """The faces in ``image`` (H×W×3 uint8 RGB).

        They are looked for in a copy whose sides are at most ``longest``, where a face must have
        ``min_face`` pixels. The landmarks are what the third network says when it looks again at
        the faces found, now in the middle of what it sees and, small ones, at the image's own size.
        Over five sizes and places of eight portraits that halves their scatter; faces of 30 pixels
        in a copy a sixth as large have theirs within 0.4 % of the face's width of where they are
        found at full size, and not 3 %.
        """
        with _one_thread():
            return self._found(image, min_face, longest)

    def _found(self, image: np.ndarray, min_face: float, longest: int) -> Found:
        image, small = reduced(image, longest)
        copies = _copies(small, _CELL / min_face)
        boxes, scores = self._proposed(copies)
        if len(boxes):
            probabilities, moves = self._asked(self._second, copies, boxes, 24)
            boxes, scores, moves = _above(_THRESHOLDS[1], probabilities, boxes, moves)
            keep = _suppressed(boxes, scores, 0.7)
            boxes = _squares(_moved(boxes[keep], moves[keep]))
        if len(boxes):
            probabilities, moves, _ = self._asked(self._third, copies, boxes, 48)
            boxes, scores, moves = _above(_THRESHOLDS[2], probabilities, boxes, moves)
            boxes = _moved(boxes, moves)
            keep = _inner_suppressed(boxes, scores, 0.7)
            boxes, scores = boxes[keep], scores[keep]
        if not len(boxes):
            return Found(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 5, 2)))
        boxes = boxes * np.tile(np.array(image.shape[1::-1]) / small.shape[1::-1], 2)
        around = _squares(boxes)
        copies = copies if image is small else [image, *copies]
        points = self._asked(self._third, copies, around, 48)[2].reshape(-1, 2, 5).swapaxes(1, 2)
        landmarks = around[:, None, :2] + points * (around[:, 2:] - around[:, :2])[:, None] + _SHIFT
        return Found(boxes, scores, landmarks)

    def _proposed(self, copies: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Square boxes that may be faces and their probabilities, from the first stage."""
        some = [np.zeros((0, 9), np.float32)]
        for copy in copies[1:]:
            scale = np.array(copy.shape[1::-1]) / copies[0].shape[1::-1]
            rows, columns, answers = self._scanned(copy)
            corners = np.stack([columns, rows], axis=1) * _STRIDE - _MARGIN
            boxes = np.hstack([corners / scale, (corners + _CELL) / scale])
            keep = _suppressed(boxes, answers[:, 0], 0.5)
            some.append(np.hstack([boxes, answers])[keep])
        rows = np.concatenate(some)
        rows = rows[_suppressed(rows[:, :4], rows[:, 4], 0.7)]
        return _squares(_moved(rows[:, :4], rows[:, 5:])), rows[:, 4]

    def _scanned(self, copy: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows, columns and answers (probability, moves) of the squares likely to be faces."""
        bordered = cv2.copyMakeBorder(copy, *(_MARGIN,) * 4, cv2.BORDER_CONSTANT)
        height = bordered.shape[0]
        found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for top in range(0, height - _CELL + 1, _BAND):
            band = torch.from_numpy(bordered[top : top + _BAND + _CELL - _STRIDE])
            x = band.to(self._device).permute(2, 0, 1)[None].float()
            with torch.inference_mode():
                answers = self._first(x)[0].permute(1, 2, 0).cpu().numpy()
            # Of two classes, face is the second.
            likely = answers[:, :, 1] - answers[:, :, 0]
            rows, columns = np.nonzero(likely > math.log(_THRESHOLDS[0] / (1 - _THRESHOLDS[0])))
            chosen = answers[rows, columns]
            chosen = np.column_stack([_sigmoid(likely[rows, columns]), chosen[:, 2:]])
            found.append((rows + top // _STRIDE, columns, chosen))
        rows, columns, answers = zip(*found, strict=True)
        return np.concatenate(rows), np.concatenate(columns), np.concatenate(answers)

    def _first(self, x: Tensor) -> Tensor:
        w1, b1, p1, w2, b2, p2, w3, b3, p3, w4, b4 = self._layers
        x = F.prelu(F.conv2d(x, w1, b1), p1)
        # The maximum of 2×2; max_pool2d is several times slower on this memory format.
        x = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2), value=-math.inf)
        x = torch.maximum(x[:, :, ::2], x[:, :, 1::2])
        x = torch.maximum(x[:, :, :, ::2], x[:, :, :, 1::2])
        x = F.prelu(F.conv2d(x, w2, b2), p2)
        x = F.prelu(F.conv2d(x, w3, b3), p3)
        return F.conv2d(x, w4, b4)

    def _asked(
        self, net: _Network, copies: list[np.ndarray], boxes: np.ndarray, size: int
    ) -> tuple[np.ndarray, ...]:
        """Probabilities (n,), moves (n, 4) and, from the third network, points (n, 10)."""
        answers = []
        for start in range(0, len(boxes), _BOXES):
            crops = [_cut(copies, box, size) for box in boxes[start : start + _BOXES]]
            x = torch.from_numpy(np.stack(crops)).to(self._device).permute(0, 3, 1, 2).float()
            with torch.inference_mode():
                answers.append([a.cpu().numpy() for a in net((x - 127.5) / 128)])
        return tuple(np.concatenate(parts) for parts in zip(*answers, strict=True))


class _Network:
    """The second or third network, with its weights from ``<name>.pt``.

    ``pools`` has the side of the maximum pooling after each convolution, 0 for none. ``heads``
    linear layers end it: class scores, moves and, with 3, points.
    """

    def __init__(self, name: str, pools: tuple[int, ...], heads: int, device: torch.device) -> None:
        self._weights = {key: _placed(value, device) for key, value in _weights(name).items()}
        self._pools, self._heads = pools, heads

    def __call__(self, x: Tensor) -> list[Tensor]:
        """Crops N×3×S×S in −1..1 → probabilities (N,), moves (N, 4), points (N, 10)."""
        weights, n = self._weights, 0
        for n, pool in enumerate(self._pools, 1):
            x = F.conv2d(x, weights[f"conv{n}.weight"], weights[f"conv{n}.bias"])
            x = F.prelu(x, weights[f"prelu{n}.weight"])
            if pool:
                x = F.max_pool2d(x, pool, 2, ceil_mode=True)
        n += 1
        # The weights were trained elsewhere, on images whose columns come before their rows.
        x = self._linear(x.permute(0, 3, 2, 1).flatten(1), f"dense{n}")
        x = F.prelu(x, weights[f"prelu{n}.weight"])
        scores, *rest = (self._linear(x, f"dense{n + 1}_{i + 1}") for i in range(self._heads))
        return [scores.softmax(dim=1)[:, 1], *rest]

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])


def _weights(name: str) -> dict[str, Tensor]:
    """A network's weights. The package is located without importing it, which takes seconds."""
    package = find_spec("facenet_pytorch")
    if package is None or not package.submodule_search_locations:
        raise FaderError("no face detector here; install it with pip install facenet-pytorch")
    path = Path(package.submodule_search_locations[0]) / "data" / f"{name}.pt"
    weights = torch.load(path, map_location="cpu", weights_only=True)
    # They are stored transposed, and the last bits of a product depend on the layout in memory.
    return {key: value.contiguous() for key, value in weights.items()}


def _placed(weight: Tensor, device: torch.device) -> Tensor:
    layout = torch.channels_last if weight.ndim == 4 else torch.preserve_format
    return weight.to(device, memory_format=layout)


@contextmanager
def _one_thread() -> Iterator[None]:
    """With two threads PyTorch's convolutions here differ from those with one in the last bits.

    Then a face would be some thousandths of a pixel elsewhere, and an edit have other bytes,
    depending on how many processors a machine has or how many processes share the work.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _first_stage() -> list[Tensor]:
    """The first network's weights, biases and slopes, layer after layer, for pixels 0..255.

    Ten channels are padded to sixteen, which fills a vector register and is faster.
    """
    weights = _weights("pnet")

    def padded(weight: Tensor, *shape: int) -> Tensor:
        whole = torch.zeros(*shape, *weight.shape[2:])
        whole[tuple(slice(n) for n in weight.shape)] = weight
        return whole

    first, bias = weights["conv1.weight"], weights["conv1.bias"]
    others = ("conv2.bias", "prelu2.weight", "conv3.weight", "conv3.bias", "prelu3.weight")
    return [
        padded(first / 128, 16, 3),
        padded(bias - 127.5 / 128 * first.sum((1, 2, 3)), 16),
        padded(weights["prelu1.weight"], 16),
        padded(weights["conv2.weight"], 16, 16),
        *(weights[name] for name in others),
        torch.cat([weights["conv4_1.weight"], weights["conv4_2.weight"]]),
        torch.cat([weights["conv4_1.bias"], weights["conv4_2.bias"]]),
    ]


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
    width, side = copies[0].shape[1], box[2] - box[0]
    fine = [copy for copy in copies if copy.shape[1] * side >= size * width]
    image = fine[-1] if fine else copies[0]
    scale = np.array(image.shape[1::-1]) / copies[0].shape[1::-1]
    step = side / size * scale
    to_image = np.column_stack([np.diag(step), box[:2] * scale + step / 2 - 0.5])
    if step[0] > 2:
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
    """The squares with the boxes' centres and longer sides."""
    half = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True) / 2
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
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


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
