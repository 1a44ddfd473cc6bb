"""Each process's share of a batch that several work on together.

What is drawn is drawn for the whole batch, a function of (seed, step), and every process takes its
rows of it. So a run takes the same steps, but for rounding, on any number of processes.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from fader.errors import FaderError
from fader.train.config import TrainConfig
from fader.train.edits import edited_images


@dataclass(frozen=True)
class Share:
    """Every ``of``-th image of a batch from number ``rank`` on: what one of ``of`` processes works
    on."""

    rank: int = 0
    of: int = 1

    @property
    def rows(self) -> slice:
        """Its images, in the whole batch or the first so many of it."""
        return slice(self.rank, None, self.of)

    def weight(self, end: int, start: int = 0) -> float:
        """What a mean over its part of the images ``start`` to ``end`` of a batch is to be
        multiplied by, so that the mean over the processes is that over all these; 1 for one."""
        mine = len(range(end)[self.rows]) - len(range(start)[self.rows])
        return self.of * mine / (end - start) if end > start else 1.0

    def weights(self, mine: Tensor, whole: Tensor, false: float) -> tuple[Tensor, Tensor]:
        """The same for means over the true and over the false values of ``mine``, its part of
        ``whole``; the latter times ``false``."""
        of_true, of_false = (
            self.of * part.sum() / all_of.sum().clamp(min=1)
            for part, all_of in ((mine, whole), (~mine, ~whole))
        )
        return of_true, false * of_false

    def means(self, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        """The means over all processes of single numbers."""
        if self.of == 1 or not parts:
            return parts
        values = torch.stack([value.float() for value in parts.values()])
        dist.all_reduce(values)
        return dict(zip(parts, (values / self.of).unbind(), strict=True))

    def joined(self, net: nn.Module, batch_size: int) -> nn.Module:
        """``net`` with its normalisation and dropout over the whole batch, changed in place."""
        for name, child in net.named_children() if self.of > 1 else ():
            if isinstance(child, nn.BatchNorm2d):
                child.__class__ = _JoinedBatchNorm2d
            elif isinstance(child, nn.Dropout):
                setattr(net, name, _SharedDropout(child.p, self.rows, batch_size))
            else:
                self.joined(child, batch_size)
        return net


def check_batch_size(config: TrainConfig, processes: int) -> None:
    """Refuse a batch that leaves a process nothing to reconstruct, by :class:`FaderError`."""

    def reconstructed(n: int) -> int:
        return n if config.model.kind == "paper" else n - edited_images(n)

    if reconstructed(config.batch_size) < processes:
        least = next(n for n in itertools.count(2) if reconstructed(n) >= processes)
        raise FaderError(
            f"batch_size={config.batch_size}: too small to share among {processes} processes; set "
            f"it to {least} or more with -s batch_size={least}"
        )


class _JoinedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation by the statistics of all processes; torch's own knows no CPU."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        h = x.float()
        count = h.new_tensor([h.numel() / h.shape[1]])
        *_, total = sums = _Sum.apply(torch.cat([h.sum(dim=(0, 2, 3)), count]))
        mean = sums[:-1] / total
        h = h - mean[:, None, None]  # squares of what is centred round less
        variance = _Sum.apply(h.square().sum(dim=(0, 2, 3))) / total
        assert self.momentum and self.running_mean is not None and self.running_var is not None
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * total / (total - 1), self.momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        h = h * (variance + self.eps).rsqrt()[:, None, None]
        if self.affine:
            h = torch.addcmul(self.bias[:, None, None], h, self.weight[:, None, None])
        return h.to(x.dtype)


class _Sum(torch.autograd.Function):
    """The sum over all processes; torch's own with a gradient is deprecated or private."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> Tensor:
        total = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


class _SharedDropout(nn.Module):
    """Dropout whose mask is drawn for the whole batch, as one process would on a CPU."""

    def __init__(self, p: float, rows: slice, batch_size: int) -> None:
        super().__init__()
        self.p, self.rows, self.batch_size = p, rows, batch_size

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        shape = (self.batch_size, *x.shape[1:])
        ones = torch.empty_strided(shape, x.stride(), dtype=x.dtype, device=x.device).fill_(1)
        return x * F.dropout(ones, self.p)[self.rows]
