"""Starting a network from the weights of another, attribute by attribute."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fader.errors import FaderError


@torch.no_grad()
def copy_weights(source: Any, target: Any) -> None:
    """Start the autoencoder ``target`` from ``source``, which may know other attributes.

    What a layer learned of an attribute goes to the attribute of the same name; new ones start
    without influence. Raises :class:`FaderError` when the two differ in more than attributes.
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

    def copy_code(theirs: Tensor, ours: Tensor, dim: int) -> None:
        """The slices along ``dim`` of every attribute that both know, zeros for others."""
        ours.zero_()
        for i, name in enumerate(new.attributes):
            if name in old.attributes:
                place = each * old.attributes.index(name)
                ours.narrow(dim, each * i, each).copy_(theirs.narrow(dim, place, each))

    for key, value in start.items():
        if key.endswith(("modulation.weight", "scale.weight")):
            copy_code(taken[key], value, dim=1)
        elif key.endswith("up.weight") and new.conditioning == "planes":
            inputs = len(value) - each * len(new.attributes)
            value[:inputs] = taken[key][:inputs]
            copy_code(taken[key][inputs:], value[inputs:], dim=0)
        else:
            value.copy_(taken[key])
    target.load_state_dict(start)
