"""Starting from another generator, whatever labels it has (Wang et al. 2018, arXiv 1805.01677)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn

from cgan.config import GanConfig
from cgan.layers import Norm
from cgan.networks import Generator
from fader.errors import FaderError

#: Steps of a run that starts from a generator, if no others are asked for; in the last quarter the
#: learning rates fall.
FINE_TUNING_STEPS = 2000
# Of a set of images, or of a machine.
_NOT_TAKEN = {"label_names", "label_kind", "seed", "mixed_precision"}


def settings_from(source: GanConfig, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The settings ``asked`` for, and the others such that a run can start from a generator of
    ``source``: its networks, all of their sides there from the first step, and its losses."""
    own = {f.name: getattr(source, f.name) for f in fields(source) if f.name not in _NOT_TAKEN}
    own["steps"] = steps = asked.get("steps", FINE_TUNING_STEPS)
    own["decay_steps"] = steps // 4
    own["critic_warmup_steps"] = 0
    own |= asked
    # At another size, or not grown at all, there is nothing of it that has grown.
    own["grown"] = own["growth"] > 0 and own["size"] == source.size and asked.get("grown", True)
    return own


@torch.no_grad()
def copy_weights(source: Generator, target: Generator) -> None:
    """Take over every layer that fits.

    What reads labels is taken for the labels of the same name. The mean effect of the others
    stays, as if it were part of the layer; labels that ``source`` does not know begin with none.

    Raises :class:`FaderError` when no layer fits.
    """
    labels = _Labels(source, target)
    theirs, ours = dict(source.named_modules()), dict(target.named_modules())
    norms = tuple(f"{name}." for name, module in theirs.items() if isinstance(module, Norm))
    taken = 0
    for name, layer in theirs.items():
        own = ours.get(name)
        if own is None or name.startswith(norms):
            continue
        if isinstance(layer, Norm) and isinstance(own, Norm):
            labels.copy_norm(layer, own)
        elif isinstance(layer, nn.Linear) and isinstance(own, nn.Linear) and name == "first":
            taken += labels.copy_first(layer, own)
        elif not list(layer.children()) and (name != "label_code" or labels.same):
            taken += _copy_layer(layer, own)
    if not taken:
        raise FaderError(
            "no layer of the generator to start from fits these settings; leave --preset, --size "
            "and the widths out, and they are its own"
        )


class _Labels:
    """Which labels two generators have in common; copies the layers that read labels."""

    def __init__(self, source: Generator, target: Generator) -> None:
        known = source.label_names if source.label_kind == target.label_kind else ()
        self.ours = [i for i, name in enumerate(target.label_names) if name in known]
        self.theirs = [known.index(target.label_names[i]) for i in self.ours]
        self.same = source.label_names == target.label_names
        self.mean = source.label_rows.mean(dim=0)
        self.source, self.target = source, target

    def copy_norm(self, theirs: Norm, ours: Norm) -> None:
        """Gains and shifts, which may depend on a condition, labels first, or not."""
        if theirs.norm.num_features != ours.norm.num_features:
            return
        both = (self.source, self.target)
        counts = [len(g.label_names) if g.config.conditioning == "cbn" else 0 for g in both]
        for kind, plain, neutral in (("gain", "weight", 1.0), ("shift", "bias", 0.0)):
            weight, bias = _reader(theirs, kind, plain, neutral)
            own, own_bias = _reader(ours, kind, plain, neutral)
            taken = self._take((weight, bias), own, counts, 2 * self.mean - 1)
            if taken is None:
                continue
            if getattr(ours, f"label_{kind}") is None:
                getattr(ours.norm, plain).copy_(taken + neutral)
            else:
                own_bias.copy_(taken)

    def copy_first(self, theirs: nn.Linear, ours: nn.Linear) -> bool:
        """The layer that reads latents and, where they stand beside those, labels."""
        if theirs.out_features != ours.out_features:
            return False
        k, own_k = self.source.concat, self.target.concat
        # Labels are its last inputs; brought to the front, and back.
        weight, own = theirs.weight.roll(k, dims=1), ours.weight.roll(own_k, dims=1)
        bias = self._take((weight, theirs.bias), own, [k, own_k], self.mean)
        if bias is None:
            return False
        ours.weight.copy_(own.roll(-own_k, dims=1))
        ours.bias.copy_(bias)
        return True

    def _take(
        self, layer: tuple[Tensor, Tensor], own: Tensor, counts: list[int], mean: Tensor
    ) -> Tensor | None:
        """Fill the weights ``own``, whose first inputs are labels (``counts`` of them in the
        layer and in it), and return their bias; None when the rest does not fit."""
        (weight, bias), (k, own_k) = layer, counts
        if weight[:, k:].shape != own[:, own_k:].shape:
            return None
        own[:, own_k:].copy_(weight[:, k:])
        own[:, :own_k].zero_()
        kept = self.theirs if own_k else []
        if k and kept:
            own[:, self.ours] = weight[:, kept]
        gone = [i for i in range(k) if i not in kept]
        return bias + weight[:, gone] @ mean[gone]


def _reader(norm: Norm, kind: str, plain: str, neutral: float) -> tuple[Tensor, Tensor]:
    """Weights and bias of what gives a normalisation's gain or shift, with no inputs if fixed."""
    reader = getattr(norm, f"label_{kind}")
    if reader is not None:
        return reader.weight, reader.bias
    bias = getattr(norm.norm, plain) - neutral
    return bias.new_zeros(len(bias), 0), bias


def _copy_layer(theirs: nn.Module, ours: nn.Module) -> bool:
    """All of a layer's weights, when they are of the same shapes; whether there were any."""
    found, own = theirs.state_dict(), ours.state_dict()
    if {k: v.shape for k, v in found.items()} != {k: v.shape for k, v in own.items()}:
        return False
    for name, value in found.items():
        own[name].copy_(value)
    return bool(found)
