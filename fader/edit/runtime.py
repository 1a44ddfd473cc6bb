"""Which library runs a model's networks: PyTorch, or ONNX Runtime from the model's ONNX form."""

from __future__ import annotations

import os
import platform
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from fader.errors import FaderError
from fader.models.folders import find_model, is_onnx_form, onnx_form
from fader.runtime.onnx import installed

#: ``auto`` takes ONNX Runtime where it is installed, the model has its ONNX form, and no GPU is
#: there to compute on.
Runtime = Literal["auto", "torch", "onnx"]
RUNTIMES: tuple[Runtime, ...] = ("auto", "torch", "onnx")

# One of these is there where a GPU may be; to ask PyTorch takes longer than an edit.
_GPU_FILES = ("/dev/nvidia0", "/dev/nvidiactl", "/dev/dxg", "/dev/kfd")


def onnx_to_run(source: str | None, device: str, runtime: Runtime) -> Path | None:
    """The folder of the ONNX form that a model is to run from; None for PyTorch.

    ``source`` is the model's name, folder or Hub id, None for one that is loaded already.

    Raises :class:`FaderError` when there is no such model, or what ``runtime`` needs is not there.
    """
    if runtime not in RUNTIMES:
        raise FaderError(f"runtime={runtime!r}: must be 'auto', 'torch' or 'onnx'")
    if runtime == "onnx" and (source is None or device not in ("auto", "cpu")):
        what = "a model that is loaded already" if source is None else f"on {device}"
        raise FaderError(f"runtime 'onnx' does not compute {what}; leave the runtime at 'auto'")
    form = None if source is None or runtime == "torch" else _form(source, device, runtime)
    if form is None and find_spec("torch") is None:
        raise FaderError(
            f"{source}: this model runs in PyTorch, which is not installed: pip install torch; or "
            "where it is, make the model's ONNX form with fader export"
        )
    return form


def _form(source: str, device: str, runtime: Runtime) -> Path | None:
    if runtime == "auto" and device not in ("auto", "cpu"):
        return None
    folder = find_model(source)
    if runtime == "auto" and device == "auto" and not is_onnx_form(folder) and _has_gpu():
        return None
    if not installed():
        if runtime == "onnx" or is_onnx_form(folder):
            raise FaderError("ONNX Runtime is not installed: pip install onnxruntime")
        return None
    try:
        form = onnx_form(folder)
    except FaderError:
        if runtime == "onnx" or find_spec("torch") is None:
            raise
        return None  # PyTorch has the weights that are there now
    if form is None and runtime == "onnx":
        raise FaderError(f"{folder}: has no ONNX form; make it with fader export {source}")
    return form


def _has_gpu() -> bool:
    """Whether PyTorch has a GPU; it is only imported where that may be."""
    apple = (platform.system(), platform.machine()) == ("Darwin", "arm64")
    there = apple or any(map(os.path.exists, _GPU_FILES)) or shutil.which("nvidia-smi")
    if not there or find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available() or torch.backends.mps.is_available()
