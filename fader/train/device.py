"""What a device is fast at, probed rather than assumed."""

from __future__ import annotations

import torch


def best_precision(device: torch.device) -> str:
    """``"bf16"``, ``"fp16"`` or ``"no"``: the mixed precision that pays on this device.

    On a CPU bfloat16 is only worth it with the instructions for it (AVX512-BF16 or AMX).
    """
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device.type == "cpu":
        # Private names of torch: where a release lacks them, float32 is the safe answer.
        probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        if any(getattr(torch.cpu, probe, lambda: False)() for probe in probes):
            return "bf16"
    return "no"
