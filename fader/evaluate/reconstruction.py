"""How faithfully a model redraws a face it does not change."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as ms_ssim
from torchmetrics.functional.image import peak_signal_noise_ratio as psnr
from torchmetrics.functional.image import structural_similarity_index_measure as ssim

from fader.evaluate.case import Case
from fader.evaluate.statistics import Estimate

# The weights of the scales in MS-SSIM (Wang et al. 2003).
_SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def scale_weights(size: int) -> tuple[float, ...]:
    """The weights of the scales of MS-SSIM, finest first, which add up to 1: five as published,
    fewer where the smallest would be below the window of 11 pixels (four at 128 pixels)."""
    weights = np.array(_SCALES[: max(1, int(np.log2(size / 11)) + 1)])
    return tuple((weights / weights.sum()).tolist())


@torch.inference_mode()
def reconstruction(case: Case) -> dict[str, Any]:
    """PSNR (dB), SSIM and MS-SSIM of the decoding with a face's own labels, mean over faces."""
    model, faces, betas = case.model, case.faces, scale_weights(case.model.size)
    rows: dict[str, list[Any]] = {"psnr": [], "ssim": [], "ms_ssim": []}
    like: dict[str, Any] = {"data_range": 2.0, "reduction": "none"}
    for batch in faces.batches("reconstruction", case.shown):
        features, y = faces.encoded(model, batch)
        decoded = model.decode(features, y, y).float().contiguous().clamp(-1, 1)
        pair = decoded, features[0].contiguous()
        rows["psnr"].append(psnr(*pair, dim=(1, 2, 3), **like))
        rows["ssim"].append(ssim(*pair, **like))
        rows["ms_ssim"].append(ms_ssim(*pair, betas=betas, **like))

    def over_faces(values: list[Any]) -> Estimate:
        every = torch.cat([value.reshape(-1) for value in values]).cpu().numpy()
        # A perfect copy has an infinite PSNR; 8-bit images are never known better than 60 dB.
        return case.estimate(every.clip(max=60), faces.people)

    return {name: over_faces(some) for name, some in rows.items()} | {"ms_ssim_scales": len(betas)}
