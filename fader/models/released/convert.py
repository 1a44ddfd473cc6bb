"""From an autoencoder of the authors of Fader Networks, as they pickled it in 2017, to a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fader.attributes import attribute_name
from fader.errors import FaderError
from fader.models.config import AutoencoderConfig
from fader.models.model import FaderModel
from fader.models.released.containers import Checkpoint
from fader.models.released.inert import Record
from fader.models.schema import read_settings
from fader.models.weights import check_values, make_network

_AUTOENCODER = "src.model.AutoEncoder"
_LAYERS = {
    "Sequential": "container",
    "ModuleList": "container",
    "Conv2d": "conv",
    "ConvTranspose2d": "conv",
    "BatchNorm2d": "batchnorm",
    "InstanceNorm2d": "instancenorm",
    "LeakyReLU": "activation",
    "ReLU": "activation",
    "Tanh": "activation",
    "Dropout": "dropout",
    "UpsamplingNearest2d": "upsampling",
    "PixelShuffle": "pixelshuffle",
}
# All that such a file may name: its class, torch's layers, and what these keep beside numbers.
_NAMES = {
    _AUTOENCODER,
    *(f"torch.nn.modules.{module}.{name}" for name, module in _LAYERS.items()),
    "torch.nn.backends.thnn._get_thnn_function_backend",
    "builtins.set",
    "__builtin__.set",
}

# What a layer must be like, for ours to do the same; a tuple's sides are alike.
_CONV = {"kernel_size": 4, "stride": 2, "padding": 1, "dilation": 1, "groups": 1}
_AFTER_UPSAMPLING = {**_CONV, "kernel_size": 3, "stride": 1}
_NEEDED: dict[str, dict[str, Any]] = {
    "Conv2d": _CONV,
    "ConvTranspose2d": {**_CONV, "output_padding": 0},
    "BatchNorm2d": {"eps": 1e-5, "affine": True},
    "InstanceNorm2d": {"eps": 1e-5, "affine": True},
    "LeakyReLU": {"negative_slope": 0.2},
    "UpsamplingNearest2d": {"scale_factor": 2},
}
# What newer layers have beside it; where it is missing, it is like this.
_USUAL: dict[str, dict[str, Any]] = {
    "Conv2d": {"padding_mode": "zeros"},
    "ConvTranspose2d": {"padding_mode": "zeros"},
    "BatchNorm2d": {"track_running_stats": True},
    "InstanceNorm2d": {"track_running_stats": False, "use_running_stats": False},
}


def import_checkpoint(path: Path, attributes: Sequence[str] = ()) -> FaderModel:
    """The model in a released checkpoint, a whole ``AutoEncoder`` pickled by torch, of the same
    decodings. ``attributes`` are for one that does not name its own. Nothing in it is run.

    Raises :class:`FaderError` that names the file for any other or a damaged file, or a network
    that ours cannot be.
    """
    with Checkpoint(path, _NAMES) as checkpoint:
        try:
            return _converted(checkpoint, attributes)
        except FaderError as error:
            text = str(error)
            raise FaderError(text if text.startswith(f"{path}") else f"{path}: {text}") from None


def _converted(checkpoint: Checkpoint, attributes: Sequence[str]) -> FaderModel:
    root, path = checkpoint.root, checkpoint.path
    if not (isinstance(root, Record) and root.name == _AUTOENCODER):
        kind = root.name if isinstance(root, Record) else f"a {type(root).__name__}"
        raise FaderError(
            f"holds {kind}, and what can be imported is a whole AutoEncoder of the released code, "
            "as its train.py saved it"
        )
    state, parts = _state(root), _children(root)
    encoder, decoder = (
        [_Layer(one) for one in _children(parts.get(name)).values()]
        for name in ("enc_layers", "dec_layers")
    )
    channels: list[Any] = [
        layer.states[0].get("out_channels") if layer.states else None for layer in encoder
    ]
    if not channels or not all(type(count) is int for count in channels):
        raise FaderError("has no encoder that is known")
    settings = {
        "size": state.get("img_sz"),
        "layers": len(encoder),
        "attributes": _attributes(state.get("attr"), attributes),
        "width": channels[0],
        "max_width": max(channels),
        "skip": state.get("n_skip", 0),
        "instance_norm": any("InstanceNorm2d" in layer.kinds for layer in encoder),
    }
    config = read_settings(AutoencoderConfig, settings, path)
    if len(decoder) != len(encoder):
        raise FaderError("has a decoder that is not its encoder's mirror")
    model = make_network(lambda: FaderModel(config), path)
    weights = _Weights(checkpoint, config)
    for i, layer in enumerate(encoder):
        weights.encoder(i, layer)
    for i, layer in enumerate(decoder):
        weights.decoder(i, layer)
    for name, value in weights.found.items():
        check_values(name, value, path)
    model.autoencoder.load_state_dict({**model.autoencoder.state_dict(), **weights.found})
    model.training_notes = {"imported": f"{_AUTOENCODER} of {path.name}"}
    return model.eval()


class _Layer:
    """A level of the network: the modules of a ``Sequential``, without those that do nothing."""

    def __init__(self, sequential: Any) -> None:
        self.kinds: list[str] = []
        self.states: list[dict[str, Any]] = []
        for module in _children(sequential).values():
            kind = module.name.rpartition(".")[2] if isinstance(module, Record) else "nothing"
            if kind != "Dropout":  # it is for training
                self.kinds.append(kind)
                self.states.append(_state(module))

    def check(self, kinds: Sequence[str], where: str) -> None:
        """Raise :class:`FaderError` unless it is made of ``kinds``, and each is as ours is."""
        if self.kinds != list(kinds):
            raise FaderError(
                f"{where} is {', '.join(self.kinds) or 'empty'}, and can only be imported as "
                f"{', '.join(kinds)}"
            )
        for i, (kind, state) in enumerate(zip(kinds, self.states, strict=True)):
            after = i > 0 and kind == "Conv2d"
            needed, usual = _NEEDED.get(kind, {}), _USUAL.get(kind, {})
            for name, value in {**(_AFTER_UPSAMPLING if after else needed), **usual}.items():
                _same(f"{where}: {kind}", name, state.get(name, usual.get(name)), value)


class _Weights:
    """The weights of our network, taken from a checkpoint's layers one by one."""

    def __init__(self, checkpoint: Checkpoint, config: AutoencoderConfig) -> None:
        self.checkpoint, self.config = checkpoint, config
        self.channels = config.channels
        self.norm = "InstanceNorm2d" if config.instance_norm else "BatchNorm2d"
        self.found: dict[str, Tensor] = {}

    def encoder(self, i: int, layer: _Layer) -> None:
        """Level ``i`` from the image."""
        layer.check(["Conv2d", *([self.norm] if i else []), "LeakyReLU"], f"encoder layer {i + 1}")
        outer, inner = self.channels[i - 1] if i else 3, self.channels[i]
        self._put(f"encoder.{i}.0.weight", layer.states[0], (inner, outer, 4, 4))
        self._put(f"encoder.{i}.0.bias", layer.states[0], (inner,))
        if i:
            self._put_norm(f"encoder.{i}.1", layer.states[1], inner)

    def decoder(self, i: int, layer: _Layer) -> None:
        """Level ``i`` from the latent code."""
        where, level = f"decoder layer {i + 1}", self.config.layers - 1 - i
        if "PixelShuffle" in layer.kinds:
            raise FaderError(
                f"{where} enlarges by pixel shuffle, which cannot be imported; convtranspose and "
                "upsampling can"
            )
        repeated = "UpsamplingNearest2d" in layer.kinds
        enlarge = ["UpsamplingNearest2d", "Conv2d"] if repeated else ["ConvTranspose2d"]
        layer.check([*enlarge, *([self.norm, "ReLU"] if level else ["Tanh"])], where)
        inner, outer = self.channels[level], self.channels[level - 1] if level else 3
        code, skipped = 2 * len(self.config.attributes), inner if 0 < i <= self.config.skip else 0
        inputs, state = inner + code + skipped, layer.states[len(enlarge) - 1]
        place = f"decoder.{i}"
        if repeated:
            weight = _transposed(self._tensor(state, "weight", (outer, inputs, 3, 3)))
        else:
            weight = self._tensor(state, "weight", (inputs, outer, 4, 4))
        # Theirs is given features, the code and the skip; ours features, the skip and the code.
        own, told, joined = weight.split([inner, code, skipped])
        self.found[f"{place}.up.weight"] = torch.cat([own, joined, told])
        self.found[f"{place}.up.bias"] = torch.zeros(outer)
        if _parameters(state).get("bias") is not None:
            self._put(f"{place}.up.bias", state, (outer,))
        if level:
            self._put_norm(f"{place}.norm", layer.states[len(enlarge)], outer)

    def _put_norm(self, place: str, state: dict[str, Any], channels: int) -> None:
        moving = () if self.config.instance_norm else ("running_mean", "running_var")
        for name in ("weight", "bias", *moving):
            self._put(f"{place}.{name}", state, (channels,))

    def _put(self, name: str, state: dict[str, Any], shape: tuple[int, ...]) -> None:
        self.found[name] = self._tensor(state, name.rpartition(".")[2], shape)

    def _tensor(self, state: dict[str, Any], name: str, shape: tuple[int, ...]) -> Tensor:
        return self.checkpoint.tensor(_parameters(state).get(name), shape)


def _transposed(weight: Tensor) -> Tensor:
    """The weights C′×C×3×3 of a convolution of maps doubled by repetition, as those C×C′×4×4 of a
    transposed one that gives the same: sums of rows and columns, since pixels are seen twice."""
    sums = weight.new_tensor([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]])
    return torch.einsum("iy,ocyx,jx->coij", sums, weight, sums).contiguous()


def _attributes(named: Any, given: Sequence[str]) -> tuple[str, ...]:
    """The attributes that the checkpoint names as ``[(name, 2), …]``, else those ``given``."""
    if named is None:
        if not given:
            raise FaderError("does not name its attributes; name them with --attrs, such as Male")
        return tuple(given)
    known = isinstance(named, list) and all(_is_pair(one) and len(one[0]) < 100 for one in named)
    if not known:
        raise FaderError("names its attributes in a way that is not known")
    for name, count in named:
        if count != 2:
            raise FaderError(f"edits {name!r}, which has not two values; only such can be imported")
    names = tuple(attribute_name(name) for name, _ in named)
    if given and tuple(given) != names:
        raise FaderError(f"edits {', '.join(names)} by what it says; leave out --attrs")
    return names


def _same(where: str, name: str, value: Any, needed: Any) -> None:
    """Raise :class:`FaderError` unless ``value``, or each of its sides, is ``needed``."""
    sides = value if isinstance(value, tuple) else (value,)
    if not sides or not all(isinstance(v, (int, float, str)) and v == needed for v in sides):
        shown = value if isinstance(value, (int, float)) else "something else"
        raise FaderError(f"{where} has {name} {shown}, and can only be imported with {needed}")


def _state(module: Any) -> dict[str, Any]:
    state = module.state if isinstance(module, Record) else None
    return state if isinstance(state, dict) else {}


def _children(module: Any) -> dict[str, Any]:
    return _entries(_state(module).get("_modules"))


def _parameters(state: dict[str, Any]) -> dict[str, Any]:
    return {**_entries(state.get("_buffers")), **_entries(state.get("_parameters"))}


def _entries(value: Any) -> dict[str, Any]:
    """What is in a dict; Python 2 pickled an ordered one as a call with a list of pairs."""
    if isinstance(value, Record) and value.name == "collections.OrderedDict":
        pairs = value.args[0] if len(value.args) == 1 else None
        if isinstance(pairs, list) and all(_is_pair(pair) for pair in pairs):
            return dict(pairs)
    return value if isinstance(value, dict) else {}


def _is_pair(value: Any) -> bool:
    """Whether it is a text and something."""
    return isinstance(value, (list, tuple)) and len(value) == 2 and type(value[0]) is str
