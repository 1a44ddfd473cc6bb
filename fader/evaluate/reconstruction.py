"""How faithfully a model redraws a face it does not change."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure as ms_ssim,
)
from torchmetrics.functional.image import peak_signal_noise_ratio as psnr
from torchmetrics.functional.image import structural_similarity_index_measure as ssim

from fader.data.batches import to_tensor
from fader.evaluate.editing import device_of
from fader.evaluate.statistics import Estimate, estimate_some
from fader.evaluate.swaps import Faces
from fader.models.model import FaderModel

# The weights of the scales in MS-SSIM (Wang et al. 2003).
_SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def scales(size: int) -> int:
    """Scales of MS-SSIM: five as published, fewer where the smallest would be below the window.

    The window is 11 pixels wide; a 128-pixel face has room for four scales.
    """
    return max(1, min(len(_SCALES), int(np.log2(size / 11)) + 1))


def scale_weights(size: int) -> tuple[float, ...]:
    """The weight of each of these scales, finest first; they add up to 1."""
    weights = np.array(_SCALES[: scales(size)])
    return tuple((weights / weights.sum()).tolist())


@torch.inference_mode()
def reconstruction(
    model: FaderModel, faces: Faces, batches: Iterable[slice], seed: int
) -> dict[str, Estimate]:
    """PSNR (dB), SSIM and MS-SSIM of the decoding with a face's own labels, mean over faces."""
    betas = scale_weights(model.size)
    rows: dict[str, list[np.ndarray]] = {"psnr": [], "ssim": [], "ms_ssim": []}
    device = device_of(model)
    for batch in batches:
        x = to_tensor(faces.images[batch]).to(device)
        labels = torch.from_numpy(faces.labels[batch]).to(device)
        decoded = model.decode(model.encode(x), labels, labels)
        decoded, x = decoded.float().contiguous().clamp(-1, 1), x.contiguous()
        pair = decoded, x
        values: dict[str, Any] = {
            "psnr": psnr(*pair, data_range=2.0, reduction="none", dim=(1, 2, 3)),
            "ssim": ssim(*pair, data_range=2.0, reduction="none"),
            "ms_ssim": ms_ssim(*pair, data_range=2.0, reduction="none", betas=betas),
        }
        for name, value in values.items():
            rows[name].append(value.cpu().numpy().reshape(-1))
    return {
        # A perfect copy has an infinite PSNR; 8-bit images are never known better than 60 dB.
        name: estimate_some(np.concatenate(some).clip(max=60), faces.people, seed=seed)
        for name, some in rows.items()
    }
