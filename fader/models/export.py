"""A model as ONNX: encoder, decoder, classifier and the face detector's networks, a file each.

PyTorch's TorchScript exporter (``dynamo=False``) is used. The newer one gives the same answers and
takes ten times as long, and some pairs of its versions and onnxscript's give wrong ones. What comes
out is compared with PyTorch on real faces before it counts.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fader._version import __version__
from fader.errors import FaderError
from fader.faces.align import align
from fader.faces.detect import Detector
from fader.files import atomic_path, make_folder, write_text
from fader.models.autoencoder import DecoderLayer
from fader.models.classifier import resized
from fader.models.folders import CONFIG, FORMAT, KEY, OnnxSettings, content_of
from fader.models.model import FaderModel, fingerprint
from fader.photo import open_photo
from fader.runtime.onnx import Network
from fader.runtime.torch_mtcnn import TorchMtcnn

#: The version of the ONNX operators, and how far an answer may be from PyTorch's: values of
#: pictures in [-1, 1], of all else in 0..1.
OPSET, TOLERANCE = 17, 1e-3

#: The faces of examples/, aligned, side by side; where each is from says examples/README.md.
_FACES = Path(__file__).parent / "faces.png"

_AXES = ("batch", "height", "width")


def faces_to_compare(size: int, photos: Sequence[Path] = ()) -> np.ndarray:
    """Three or more aligned faces, N×S×S×3 uint8 with S = ``size``: those in ``photos``, or two in
    the package, and mirrored. Raises :class:`FaderError` for what is no photo or shows no face."""
    import cv2

    if photos:
        detector, read = Detector(), [open_photo(path).pixels for path in photos]
        crops = [align(p, face.landmarks, size) for p in read for face in detector(p)]
        if not crops:
            raise FaderError(f"{photos[0]}: no face found, to compare the networks on")
    else:
        both = open_photo(_FACES).pixels
        squares = np.split(both, both.shape[1] // both.shape[0], axis=1)
        crops = [cv2.resize(one, (size, size), interpolation=cv2.INTER_AREA) for one in squares]
    faces = [*crops, *(one[:, ::-1] for one in crops)]
    return np.stack((faces * 3)[: max(3, len(faces))])


class _Run(nn.Module):
    """Any function of tensors, as what the exporter takes."""

    def __init__(self, function: Callable[..., Any], module: nn.Module | None = None) -> None:
        super().__init__()
        self.module, self._function = module, function

    def forward(self, *inputs: Tensor) -> Any:
        return self._function(*inputs)


@dataclass
class _Part:
    """A network to export, with an example; its axes that are ``free`` may have any length."""

    name: str
    run: nn.Module
    example: tuple[Tensor, ...]
    inputs: list[str]
    outputs: list[str]
    free: tuple[int, ...] = (0,)


def export_onnx(model: FaderModel, folder: Path, source: Path, crops: np.ndarray) -> float:
    """Write ``model``, which is the one in ``source``, into ``folder`` as ONNX.

    ``crops`` are at least three aligned faces, N×S×S×3 uint8 with S the model's size. All networks
    are compared with PyTorch on 1, 2 and 3 of them. Returns the largest difference; above
    :data:`TOLERANCE`, or without a library, nothing is written and :class:`FaderError` raised.
    """
    if not (find_spec("onnx") and find_spec("onnxruntime")):
        raise FaderError("exporting needs more libraries: pip install 'fader[export]'")
    if model.classifier is None:
        raise FaderError("this model has no classifier, so it cannot be exported to edit photos")
    with torch.no_grad(), tempfile.TemporaryDirectory() as name:
        parts = [*_model_parts(model, crops), *_detector_parts(crops)]
        largest = 0.0
        made = {f"{part.name}.{KEY}": part for part in parts}
        for file, part in made.items():
            _write(part, Path(name) / file)
            largest = max(largest, _difference(part, Path(name) / file))
        make_folder(folder)
        # The old form's, so that what is half replaced is not taken for whole.
        (folder / CONFIG).unlink(missing_ok=True)
        for file in made:
            with atomic_path(folder / file) as temporary:
                shutil.copyfile(Path(name) / file, temporary)
    write_text(folder / CONFIG, json.dumps(_config(model, source, parts), indent=2) + "\n")
    return largest


def _config(model: FaderModel, source: Path, parts: Sequence[_Part]) -> dict[str, Any]:
    assert model.classifier is not None
    known = model.classifier.config.attributes
    networks = {}
    for part in parts:
        shapes = [
            [_AXES[axis] if axis in part.free else n for axis, n in enumerate(x.shape)]
            for x in part.example
        ]
        inputs = dict(zip(part.inputs, shapes, strict=True))
        networks[f"{part.name}.{KEY}"] = {"inputs": inputs, "outputs": part.outputs}
    return {
        "format": FORMAT,
        "fader": __version__,
        "autoencoder": asdict(model.autoencoder.config),
        "classifier": asdict(model.classifier.config),
        "training": model.training_notes,
        KEY: asdict(OnnxSettings(model.size, model.attributes, known, fingerprint(model))),
        "opset": OPSET,
        "batch": "any number of images",
        "networks": networks,
        "made_from": content_of(source),
    }


def _model_parts(model: FaderModel, crops: np.ndarray) -> Iterator[_Part]:
    model = copy.deepcopy(model).float().cpu().eval()
    for layer in model.modules():
        if isinstance(layer, DecoderLayer):
            # The exporter does not know the addition in place.
            layer._up_with_planes = partial(_up_with_planes, layer)  # type: ignore[method-assign]
    x = torch.from_numpy(crops[:3]).permute(0, 3, 1, 2).float() / 127.5 - 1
    features = list(model.autoencoder.encode(x))
    names = [f"features_{i}" for i in range(len(features))]
    own = torch.rand(len(x), len(model.attributes), generator=torch.Generator().manual_seed(0))
    own[:, 0], values = 0, 1 - own
    yield _Part("encoder", _Run(model.autoencoder.encode, model), (x,), ["image"], names)
    masked = model.autoencoder.config.kind == "difference"

    def changed(*inputs: Tensor) -> tuple[Tensor, ...]:
        *features, y, own = inputs
        made = model.change([x[:0], *features], y, own)
        # Of a network with mask, what is before is the image itself.
        return (made.after, made.mask) if masked else (made.before, made.after)

    outputs = ["after", "mask"] if masked else ["before", "after"]
    example = (*features, values, own)
    yield _Part("decoder", _Run(changed, model), example, [*names, "values", "own"], outputs)
    assert model.classifier is not None
    rows = _resizing(model.size, model.classifier.config.size)
    estimated = _Run(lambda x: model.estimate(rows @ x @ rows.T), model)
    yield _Part("classifier", estimated, (x,), ["image"], ["probabilities"])


def _resizing(size: int, other: int) -> Tensor:
    """The rows of weights, other×size, that :func:`resized` gives an image's rows and columns: the
    exporter does not know that operation."""
    # What it makes of a row of a single light pixel, alike in all columns.
    lit = torch.eye(size)[:, None, :, None].expand(-1, -1, -1, size)
    return resized(lit, other)[:, 0, :, 0].T.contiguous()


def _detector_parts(crops: np.ndarray) -> Iterator[_Part]:
    net = TorchMtcnn("cpu", _prelu)
    pool = partial(F.max_pool2d, kernel_size=2, stride=2, ceil_mode=True)
    whole = torch.from_numpy(crops[:3])
    first = _Run(partial(net.first_of, halved=pool))
    yield _Part("pnet", first, (whole,), ["image"], ["scores_and_moves"], free=(0, 1, 2))
    for name, run, size in (("rnet", net.second_of, 24), ("onet", net.third_of, 48)):
        outputs = ["probability", "moves", "points"][: 2 if name == "rnet" else 3]
        step = max(1, whole.shape[1] // size)
        small = whole[:, ::step, ::step][:, :size, :size]
        small = F.pad(small, (0, 0, 0, size - small.shape[2], 0, size - small.shape[1]))
        yield _Part(name, _Run(run), (small.contiguous(),), ["image"], outputs)


def _prelu(x: Tensor, slope: Tensor) -> Tensor:
    """The same as convolutions, a·x + (1 − a)·max(x, 0) for each channel: ONNX Runtime takes what
    it knows as PRelu out of its convolutions' layout, which takes longer than they do."""
    a = slope[:, None, None, None]
    return F.conv2d(x, a, groups=len(a)) + F.conv2d(F.relu(x), 1 - a, groups=len(a))


def _up_with_planes(layer: DecoderLayer, h: Tensor, code: Tensor) -> Tensor:
    planes = code[:, :, None, None].expand(-1, -1, h.shape[2], h.shape[3])
    return layer.up(torch.cat([h, planes], dim=1))


def _write(part: _Part, path: Path) -> None:
    import onnx

    free = {axis: _AXES[axis] for axis in part.free}
    dynamic = {name: dict(free) for name in (*part.inputs, *part.outputs)}
    with _quiet():
        torch.onnx.export(
            part.run.eval(),
            tuple(x[:2] for x in part.example),  # a batch of 1 would be frozen into it
            os.fspath(path),
            input_names=part.inputs,
            output_names=part.outputs,
            dynamic_axes=dynamic,
            opset_version=OPSET,
            # As they are, batch normalisation not folded in: they may then be exact in float16.
            training=torch.onnx.TrainingMode.PRESERVE,
            dynamo=False,
        )
    whole = onnx.load(path)
    _halve(whole)
    onnx.checker.check_model(whole)
    onnx.save(whole, path, save_as_external_data=False)


def _halve(whole: Any) -> None:
    """Store weights in float16 where that loses nothing, as of a model that was saved so."""
    from onnx import helper, numpy_helper

    casts = []
    for tensor in whole.graph.initializer:
        values = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16) if values.dtype == np.float32 else values
        if values.dtype != np.float32 or values.size < 256 or not np.array_equal(half, values):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}_half"))
        casts.append(helper.make_node("Cast", [f"{name}_half"], [name], to=1))
    for node in reversed(casts):
        whole.graph.node.insert(0, node)


def _difference(part: _Part, path: Path) -> float:
    """The largest difference of the file's answers from PyTorch's, for batches of 1, 2 and 3."""
    network, largest = Network(path), 0.0
    for n in (1, 2, 3):
        inputs = [x[:n] for x in part.example]
        wanted = part.run(*inputs)
        wanted = [wanted] if isinstance(wanted, Tensor) else wanted
        answers = network(*(x.numpy() for x in inputs))
        for name, want, got in zip(part.outputs, wanted, answers, strict=True):
            same = want.shape == got.shape and bool(np.isfinite(got).all())
            # Features and scores have no bounds: by what is usual among them.
            scale = max(1.0, float(want.abs().max()))
            off = float(np.abs(got - want.numpy()).max()) / scale if same else float("inf")
            if not off <= TOLERANCE:
                raise FaderError(
                    f"{part.name}: {name} in ONNX differs from PyTorch by {off:.2g} with a batch "
                    f"of {n}; nothing was written. Another version of torch or onnx may do better"
                )
            largest = max(largest, off)
    return largest


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of all that a trace cannot see; the comparison sees what matters."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
