"""Convolutions of small maps as matrix products, for training on a CPU.

On a map of few places and many channels the weights are all the work. There oneDNN's convolution
reorders them at every call, and takes up to twice the time of the products themselves. Weights in
channels-last memory are already the matrix that such a product needs. So parameters, their names
and their layout stay torch's own. So does what is computed without gradients.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Places of the smaller map, up to which a product was the faster way.
PLACES = 16


class Conv2d(nn.Conv2d):
    """torch's convolution of square kernels; in training on a CPU, small maps as one product."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        side: int,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
    ) -> None:
        super().__init__(inputs, outputs, side, stride, padding, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps N×C×H×W → N×C′×H′×W′."""
        side, stride, padding = self.kernel_size[0], self.stride[0], int(self.padding[0])
        height, width = ((s + 2 * padding - side) // stride + 1 for s in x.shape[2:])
        if not _pays(x, height * width):
            return super().forward(x)
        columns = _Columns.apply(_in_autocast(x), side, stride, padding)
        h = F.linear(columns, self.weight.permute(0, 2, 3, 1).flatten(1), self.bias)
        return h.view(len(x), height, width, -1).permute(0, 3, 1, 2)


def conv_transpose2d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: int = 1, padding: int = 0
) -> Tensor:
    """Torch's function of the name for square kernels, as :class:`Conv2d` is its convolution."""
    n, channels, height, width = x.shape
    if not _pays(x, height * width):
        return F.conv_transpose2d(x, weight, bias, stride, padding)
    side = weight.shape[-1]
    columns = x.permute(0, 2, 3, 1).reshape(-1, channels) @ weight.permute(0, 2, 3, 1).flatten(1)
    size = [(s - 1) * stride - 2 * padding + side for s in (height, width)]
    h = _Fold.apply(columns, (n, weight.shape[1], *size), side, stride, padding)
    return h if bias is None else h + bias[:, None, None]


class _Columns(torch.autograd.Function):
    """N×C×H×W → N·H′·W′×side²·C: what each place of a convolution sees, a row for each.

    Its gradient is :class:`_Fold`, and the reverse, so that gradients have gradients (R1).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, side: int, stride: int, padding: int) -> Tensor:
        ctx.shape, ctx.window = x.shape, (side, stride, padding)
        x = F.pad(x.permute(0, 2, 3, 1), (0, 0, padding, padding, padding, padding))
        windows = x.unfold(1, side, stride).unfold(2, side, stride)  # N×H′×W′×C×side×side
        return windows.permute(0, 1, 2, 4, 5, 3).reshape(-1, side * side * x.shape[-1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        return _Fold.apply(grad, ctx.shape, *ctx.window), None, None, None


class _Fold(torch.autograd.Function):
    """The reverse: each row is added to the places it was seen from, on maps of ``shape``."""

    @staticmethod
    def forward(
        ctx: Any, columns: Tensor, shape: tuple[int, ...], side: int, stride: int, padding: int
    ) -> Tensor:
        ctx.window = side, stride, padding
        n, channels, *size = shape
        counts = [(s + 2 * padding - side) // stride + 1 for s in size]
        columns = columns.reshape(n, *counts, side, side, channels)
        maps = torch.empty(shape, dtype=columns.dtype, memory_format=torch.channels_last).zero_()
        by_place = maps.permute(0, 2, 3, 1)
        taps = [_tap(i, size, counts, stride, padding) for i in range(side)]
        for i, (rows, from_rows) in enumerate(row for row, _ in taps):
            for j, (places, from_places) in enumerate(column for _, column in taps):
                by_place[:, rows, places] += columns[:, from_rows, from_places, i, j]
        return maps

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:  # type: ignore[override]
        return _Columns.apply(grad, *ctx.window), None, None, None, None


def _tap(
    tap: int, size: list[int], counts: list[int], stride: int, padding: int
) -> list[tuple[slice, slice]]:
    """Where a kernel's ``tap`` lies within the map, and at which of the outputs, in both axes."""
    pairs = []
    for length, count in zip(size, counts, strict=True):
        first = max(0, -(-(padding - tap) // stride))
        last = min(count - 1, (length - 1 + padding - tap) // stride)
        start = first * stride + tap - padding
        pairs.append(
            (slice(start, start + (last - first) * stride + 1, stride), slice(first, last + 1))
        )
    return pairs


def _pays(x: Tensor, places: int) -> bool:
    return x.device.type == "cpu" and places <= PLACES and torch.is_grad_enabled()


def _in_autocast(x: Tensor) -> Tensor:
    """``x`` in the precision in which its product will be made: half the columns' memory."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x
