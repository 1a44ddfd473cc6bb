"""What a device is fast at, probed rather than assumed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedDataParallelKwargs


def best_precision(device: torch.device) -> str:
    """``"bf16"``, ``"fp16"`` or ``"no"``: the mixed precision that pays on this device. On a CPU
    bfloat16 is only worth it with the instructions for it (AVX512-BF16 or AMX)."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device.type == "cpu":
        # Private names of torch: where a release lacks them, float32 is the safe answer.
        probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        if any(getattr(torch.cpu, probe, lambda: False)() for probe in probes):
            return "bf16"
    return "no"


def can_compile() -> bool:
    """Whether ``torch.compile`` has what it needs here: a C++ compiler."""
    return any(map(shutil.which, (os.environ.get("CXX", ""), "g++", "clang++")))


def make_accelerator(device: torch.device, precision: str = "auto") -> Accelerator:
    """An accelerator for one training; ``precision`` is ``auto``, ``no``, ``bf16`` or ``fp16``."""
    # Accelerate keeps its settings for the life of the process and refuses others. A process
    # that trains twice (a classifier, then a model) may well want others.
    if AcceleratorState._shared_state and PartialState().num_processes == 1:
        AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(
        cpu=device.type == "cpu",
        mixed_precision=best_precision(device) if precision == "auto" else precision,
        # While nothing is edited, the image discriminator gives no verdicts.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )


def any_process(accelerator: Accelerator) -> Callable[[bool], bool] | None:
    """What :func:`fader.train.loop.training_loop` takes as ``agree``; None for one process. The
    clocks of several differ, but they must act together."""

    def agree(flag: bool) -> bool:
        if flag:
            accelerator.set_trigger()
        return accelerator.check_trigger()

    return agree if accelerator.num_processes > 1 else None
