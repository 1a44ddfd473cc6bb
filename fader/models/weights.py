"""Weights that may come from a stranger, checked before a network is made for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fader.documents import check_regular
from fader.errors import FaderError

T = TypeVar("T")

# Bytes beside the tensors that a safetensors file may have: names, shapes, places.
_HEADER = 16 << 20
# Numbers of a network's tensors: at most so many, however large the file; so many more than it
# holds, for what is made on the way.
_MOST_WEIGHTS, _SPARE = 1 << 28, 1 << 24
_FACTORIES = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn)


def make_network(make: Callable[[], T], *paths: Path) -> T:
    """What ``make`` makes, if the safetensors files at ``paths`` can hold its weights; else, before
    the memory is taken, :class:`FaderError` that names the first, or what is no regular file."""
    held = 0
    for path in paths:
        with _told(path):
            check_regular(path)
        held += path.stat().st_size
    try:
        with _Budget(min(held, _MOST_WEIGHTS) + _SPARE):
            return make()
    except (RuntimeError, ValueError, TypeError, MemoryError, OverflowError) as error:
        # The budget's own, or torch's for numbers beyond any memory.
        raise _unfit(paths[0], _first(error)) from None


class _Budget(TorchFunctionMode):
    """Raises :class:`RuntimeError` when the tensors made within have too many numbers in all."""

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.left = numbers

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func in _FACTORIES:
            size = args[0] if args and isinstance(args[0], (tuple, list)) else args
            self.left -= math.prod(n for n in size if isinstance(n, int))
            if self.left < 0:
                raise RuntimeError("that asks for more weights than the file can have")
        return func(*args, **(kwargs or {}))


def load_weights(module: nn.Module, path: Path) -> None:
    """Load a safetensors file into ``module``; :class:`FaderError` for a missing, damaged or other
    file, and for weights that are not finite: an edit made with them would be none."""
    wanted = module.state_dict()
    with _told(path):
        # The largest numbers of the format have 8 bytes.
        check_regular(path, _HEADER + 8 * sum(value.numel() for value in wanted.values()))
        weights = load_file(path)
    for name in sorted(wanted.keys() | weights.keys()):
        has, needs = (
            str(tuple(side[name].shape)) if name in side else "nothing"
            for side in (weights, wanted)
        )
        if has != needs:
            raise _unfit(path, f"{name[:80]}: {has} in place of {needs}")
    for name, value in weights.items():
        weights[name] = value.float() if value.is_floating_point() else value
        check_values(name, weights[name], path)
    module.load_state_dict(weights)


def check_values(name: str, value: Tensor, path: Path) -> None:
    """Raise :class:`FaderError` that names ``path`` where the weight ``name`` cannot be ``value``:
    it is not finite, or a variance below zero, which becomes NaN as soon as it is used."""
    bad = name.endswith("running_var") and bool((value < 0).any())
    if bad or not bool(torch.isfinite(value).all()):
        raise FaderError(
            f"{path}: damaged, {name} has values that are not possible; copy the model again"
        )


def _unfit(path: Path, reason: str) -> FaderError:
    return FaderError(f"{path}: does not fit the model's config.json ({reason})")


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What is wrong with a file of weights, told as a :class:`FaderError` that names it."""
    try:
        yield
    except FileNotFoundError:
        raise FaderError(f"{path}: missing; the model is incomplete, copy it again") from None
    except (SafetensorError, OSError) as error:
        raise FaderError(
            f"{path}: not a safetensors file, or cut short ({_first(error)})"
        ) from None


def _first(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
