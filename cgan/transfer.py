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
# What a generator is built by, and what its encoder is if both have one.
_BUILT_BY = ("size", "channels", "latent", "width", "max_width", "upsampling", "residual",
             "conditioning", "self_modulation")  # fmt: skip
_ENCODER_BUILT_BY = ("critic_width", "critic_max_width")


def settings_from(source: GanConfig, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The settings ``asked`` for, and the others such that a run can start from a generator of
    ``source``: its networks, all of their sides there from the first step, and its losses."""
    own = {f.name: getattr(source, f.name) for f in fields(source) if f.name not in _NOT_TAKEN}
    steps = asked.get("steps", FINE_TUNING_STEPS)
    own |= {"steps": steps, "decay_steps": steps // 4, "critic_warmup_steps": 0}
    return {**own, "grown": source.growth > 0, **asked}


@torch.no_grad()
def copy_weights(source: Generator, target: Generator) -> None:
    """Start ``target`` from ``source``, which may have other labels.

    What reads labels is taken for the labels of the same name. The mean effect of the others
    stays, as if it were part of the layer; labels that ``source`` does not know begin with none.
    An encoder is taken when both have one.

    Raises :class:`FaderError` when the two differ in more than labels.
    """
    _check_same(source.config, target.config)
    labels = _Labels(source, target)
    theirs = dict(source.named_modules())
    norms = tuple(f"{name}." for name, module in theirs.items() if isinstance(module, Norm))
    for name, ours in target.named_modules():
        layer: Any = theirs.get(name)
        if layer is None or name.startswith(norms):
            continue
        if isinstance(ours, Norm):
            labels.copy_norm(layer, ours)
        elif name == "first":
            labels.copy_first(layer, ours)
        elif not list(ours.children()) and (name != "label_code" or labels.same):
            ours.load_state_dict(layer.state_dict())


def _check_same(theirs: GanConfig, ours: GanConfig) -> None:
    names = _BUILT_BY + (_ENCODER_BUILT_BY if theirs.model == ours.model == "cvae" else ())
    differ = [name for name in names if getattr(theirs, name) != getattr(ours, name)]
    if bool(theirs.growth) != bool(ours.growth):
        differ.append("growth")
    if differ:
        has = ", ".join(f"{name}={getattr(theirs, name)}" for name in differ)
        raise FaderError(
            f"the generator to start from has {has}; leave --preset and these out, and the "
            "settings are its own"
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
        """Gains and shifts, which may depend on a condition, labels first, or not; and the
        statistics of what is normalised."""
        for name, value in theirs.norm.named_buffers():
            ours.norm.get_buffer(name).copy_(value)
        both = (self.source, self.target)
        counts = [len(g.label_names) if g.config.conditioning == "cbn" else 0 for g in both]
        for kind, plain, neutral in (("gain", "weight", 1.0), ("shift", "bias", 0.0)):
            weight, bias = _reader(theirs, kind, plain, neutral)
            own, own_bias = _reader(ours, kind, plain, neutral)
            taken = self._take(weight, bias, own, counts, 2 * self.mean - 1)
            if getattr(ours, f"label_{kind}") is None:
                getattr(ours.norm, plain).copy_(taken + neutral)
            else:
                own_bias.copy_(taken)

    def copy_first(self, theirs: nn.Linear, ours: nn.Linear) -> None:
        """The layer that reads latents and, where they stand beside those, labels."""
        k, own_k = self.source.concat, self.target.concat
        # Labels are its last inputs; brought to the front, and back.
        weight, own = theirs.weight.roll(k, dims=1), ours.weight.roll(own_k, dims=1)
        ours.bias.copy_(self._take(weight, theirs.bias, own, [k, own_k], self.mean))
        ours.weight.copy_(own.roll(-own_k, dims=1))

    def _take(
        self, weight: Tensor, bias: Tensor, own: Tensor, counts: list[int], mean: Tensor
    ) -> Tensor:
        """Fill the weights ``own`` from a layer's, and return their bias. The first inputs are
        labels, ``counts`` of them in the layer and in ``own``, which it sees as ``mean``."""
        k, own_k = counts
        own[:, own_k:].copy_(weight[:, k:])
        own[:, :own_k].zero_()
        kept = self.theirs if own_k else []
        if kept:
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
