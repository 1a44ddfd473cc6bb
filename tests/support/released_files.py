"""Checkpoints as the released code of Fader Networks saved them, written by the tests themselves.

The class has that code's names and ways; ``pickled_as_in_2017`` has torch pickle parameters as it
did then, and ``save_tar`` writes the oldest of torch's containers.
"""

from __future__ import annotations

import copyreg
import io
import pickle
import struct
import sys
import tarfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import nn

DEFAULTS = {
    "img_sz": 32,
    "img_fm": 3,
    "instance_norm": False,
    "init_fm": 4,
    "max_fm": 16,
    "n_layers": 4,
    "n_skip": 0,
    "deconv_method": "convtranspose",
    "dec_dropout": 0.0,
    "attr": [("Male", 2)],
}


class AutoEncoder(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        params = {**DEFAULTS, **options}
        self.n_attr = 2 * len(params["attr"] or "?")
        self.dropout = params.pop("dec_dropout")
        self.__dict__.update(params)
        self.enc_layers, self.dec_layers = nn.ModuleList(), nn.ModuleList()
        widths = [3, *(min(self.init_fm * 2**i, self.max_fm) for i in range(self.n_layers))]
        for i in range(self.n_layers):
            self.enc_layers.append(nn.Sequential(*self.down(i, widths[i], widths[i + 1])))
            self.dec_layers.insert(0, nn.Sequential(*self.up(i, widths[i + 1], widths[i])))

    def norm(self, channels: int) -> nn.Module:
        kind = nn.InstanceNorm2d if self.instance_norm else nn.BatchNorm2d
        return kind(channels, affine=True)

    def down(self, i: int, inputs: int, outputs: int) -> Iterator[nn.Module]:
        yield nn.Conv2d(inputs, outputs, 4, 2, 1)
        if i:
            yield self.norm(outputs)
        yield nn.LeakyReLU(0.2, inplace=True)

    def up(self, i: int, inputs: int, outputs: int) -> Iterator[nn.Module]:
        joined = self.n_layers - 1 - self.n_skip <= i < self.n_layers - 1
        inputs = inputs * (1 + joined) + self.n_attr
        if self.deconv_method == "upsampling":
            yield nn.UpsamplingNearest2d(scale_factor=2)
            yield nn.Conv2d(inputs, outputs, 3, 1, 1)
        elif self.deconv_method == "pixelshuffle":
            yield nn.Conv2d(inputs, 4 * outputs, 3, 1, 1)
            yield nn.PixelShuffle(2)
        else:
            yield nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False)
        if not i:
            yield nn.Tanh()
            return
        yield self.norm(outputs)
        if self.dropout and i >= self.n_layers - 3:
            yield nn.Dropout(self.dropout)
        yield nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Images and values 0..1 of each attribute → the decoded images."""
        features = [x]
        for layer in self.enc_layers:
            features.append(layer(features[-1]))
        h = features[-1]
        code = torch.stack([1 - y, y], 2).flatten(1)[:, :, None, None]
        for i, layer in enumerate(self.dec_layers):
            parts = [h, code.expand(-1, -1, *h.shape[2:])]
            if 0 < i <= self.n_skip:
                parts.append(features[-1 - i])
            h = layer(torch.cat(parts, 1))
        return h


AutoEncoder.__module__ = "src.model"


def random_autoencoder(**options: Any) -> AutoEncoder:
    """One whose every weight counts, in evaluation mode."""
    torch.manual_seed(0)
    network = AutoEncoder(**options)
    with torch.no_grad():
        for name, value in [*network.named_parameters(), *network.named_buffers()]:
            if value.is_floating_point():
                if name.endswith("running_var"):
                    value.uniform_(0.5, 2)
                elif value.ndim == 1:
                    value.normal_(0.1, 0.3)
    return network.eval()


@contextmanager
def importable(**modules: dict[str, Any]) -> Iterator[None]:
    """Modules that pickling finds by name; ``src_model`` is ``src.model``."""
    names = []
    for name, content in modules.items():
        dotted = name.replace("_", ".")
        for one in (dotted.split(".")[0], dotted):
            names.append(one)
            sys.modules[one] = ModuleType(one)
        sys.modules[dotted].__dict__.update(content)
    try:
        yield
    finally:
        for name in names:
            sys.modules.pop(name, None)


def save(network: Any, path: Path, kind: str = "stream") -> Path:
    """Write it as ``kind``: ``zip``, ``stream``, ``2017`` (a stream as of torch 0.3), ``python 2``
    (the same as that pickles it), ``tar``."""
    with importable(src_model={"AutoEncoder": AutoEncoder}):
        if kind == "tar":
            save_tar(network, path)
        else:
            old = kind in ("2017", "python 2")
            module = pickled_as_in_2017(kind == "python 2") if old else pickle
            torch.save(
                network, path, pickle_module=module, _use_new_zipfile_serialization=kind == "zip"
            )
    return path


def pickled_as_in_2017(python_2: bool) -> Any:
    """``pickle``, with torch's things as torch 0.3 gave them: a parameter is ``Parameter(data)``
    and a state, a tensor has no version; modules name the backend of their functions."""

    class Pickler(pickle._Pickler):
        def reducer_override(self, value: Any) -> Any:
            if python_2 and isinstance(value, OrderedDict):
                return OrderedDict, ([[name, one] for name, one in value.items()],)
            if isinstance(value, nn.Parameter):
                return nn.Parameter, (value.data,), (True, False, OrderedDict())
            if isinstance(value, torch.Tensor):
                storage = value.untyped_storage()
                typed = torch.storage.TypedStorage(
                    wrap_storage=storage, dtype=value.dtype, _internal=True
                )
                args = (typed, value.storage_offset(), tuple(value.shape), value.stride())
                return torch._utils._rebuild_tensor, args
            if isinstance(value, nn.Module):
                state = {
                    name: OrderedDict(one) if isinstance(one, dict) else one
                    for name, one in value.__dict__.items()
                    if name not in ("_non_persistent_buffers_set", "padding_mode")
                }
                return copyreg.__newobj__, (type(value),), {**state, "_backend": backend}
            return NotImplemented

        def save(self, value: Any, save_persistent_id: bool = True) -> Any:
            if value is not backend:
                return super().save(value, save_persistent_id)
            self.write(b"ctorch.nn.backends.thnn\n_get_thnn_function_backend\n)R")

    backend = object()
    return SimpleNamespace(__name__="pickle", Pickler=Pickler, dump=pickle.dump)


def save_tar(network: nn.Module, path: Path) -> None:
    """As torch did before 0.1.10: pickle, storages and tensors as members of a tar file."""
    tensors: dict[int, torch.Tensor] = {}
    classes: set[type] = set()

    class Pickler(pickle._Pickler):
        def persistent_id(self, value: Any) -> Any:
            if isinstance(value, torch.Tensor):
                tensors[id(value)] = value.detach()
                return id(value)
            if isinstance(value, type) and issubclass(value, nn.Module) and value not in classes:
                classes.add(value)
                return value, "model.py", "class AutoEncoder: ..."
            return None

    members = {name: io.BytesIO() for name in ("sys_info", "pickle", "storages", "tensors")}
    Pickler(members["pickle"], 2).dump(network)
    pickle.dump({"little_endian": True}, members["sys_info"], 2)
    for name in ("storages", "tensors"):
        pickle.dump(len(tensors), members[name], 2)
    for key, value in tensors.items():
        kind = torch.LongStorage if value.dtype == torch.int64 else torch.FloatStorage
        pickle.dump((key + 1, "cpu", kind), members["storages"], 2)
        members["storages"].write(struct.pack("<q", value.numel()) + value.numpy().tobytes())
        pickle.dump((key, key + 1, torch.FloatTensor), members["tensors"], 2)
        sides = value.ndim, 0, *value.shape, *value.stride(), 0
        members["tensors"].write(struct.pack(f"<ii{2 * value.ndim + 1}q", *sides))
    pickle.dump([], members["storages"], 2)
    with tarfile.open(path, "w:") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = content.tell()
            content.seek(0)
            archive.addfile(info, content)
