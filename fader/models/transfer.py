"""Starting a network from the weights of another, attribute by attribute."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fader.errors import FaderError


@torch.no_grad()
def copy_weights(source: Any, target: Any) -> None:
    """Start ``target`` from the weights of ``source``, which may know other attributes.

    What a layer learned of an attribute goes to the attribute of the same name; attributes that
    are new to ``target`` start without influence. Both are autoencoders with a ``config``. Raises
    :class:`FaderError` when the two differ in more than their attributes.
    """
    old, new = source.config, target.config
    if replace(old, attributes=new.attributes) != new:
        raise FaderError(
            "the model to start from has another architecture; leave it out, or use the preset "
            "and model settings it was trained with"
        )
    taken, start = source.state_dict(), target.state_dict()
    # Values that a network is told of each attribute: both sides of it, or its difference.
    each = 1 if new.kind == "difference" else 2
    for key, value in start.items():
        if key.endswith(("modulation.weight", "scale.weight")):
            value.zero_()
            _copy_code(taken[key], value, old.attributes, new.attributes, each, dim=1)
        elif key.endswith("up.weight") and new.conditioning == "planes":
            inputs = len(taken[key]) - each * len(old.attributes)
            value[:inputs] = taken[key][:inputs]
            value[inputs:] = 0
            rest = taken[key][inputs:], value[inputs:]
            _copy_code(*rest, old.attributes, new.attributes, each, dim=0)
        else:
            value.copy_(taken[key])
    target.load_state_dict(start)


def _copy_code(
    source: Tensor,
    target: Tensor,
    old: tuple[str, ...],
    new: tuple[str, ...],
    each: int,
    dim: int,
) -> None:
    """Copy the ``each`` slices of every attribute that both know along ``dim``."""
    for i, name in enumerate(new):
        if name in old:
            j = old.index(name)
            target.narrow(dim, each * i, each).copy_(source.narrow(dim, each * j, each))
