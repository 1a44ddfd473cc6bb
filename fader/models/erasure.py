"""What a linear map could read the attributes from, taken out of the latent in closed form."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

# Features that hardly vary are not blown up, and survive being stored in float16.
_SMALLEST_SCALE = 1e-3


class Erasure(nn.Module):
    """f ↦ f − S C⁺C S⁻¹(f − μ), with μ and S the features' means and standard deviations over the
    training images and C = cov(y, S⁻¹f).

    Afterwards every feature has covariance 0 with every attribute, and then no linear classifier
    of the features does better than a constant one (Belrose et al. 2023, arXiv 2306.03819; this is
    the projection of Shao et al. 2022, arXiv 2203.07893, on standardised features, since whitening
    tens of thousands of them is out of reach). Erases nothing until :meth:`measure` is called.

    The code of a mirrored face is not the mirrored code, so C has rows for faces and for their
    mirror images. ``shapes`` are the features' (C, H, W).
    """

    mean: Tensor
    read: Tensor
    written: Tensor

    def __init__(self, shapes: Sequence[tuple[int, int, int]], attributes: int) -> None:
        super().__init__()
        self.shapes = tuple(shapes)
        attributes *= 2  # of faces and of their mirror images
        values = sum(math.prod(shape) for shape in shapes)
        self.register_buffer("mean", torch.zeros(values))
        # Q S⁻¹ and Q S, with Q an orthonormal basis of C's rows.
        self.register_buffer("read", torch.zeros(attributes, values))
        self.register_buffer("written", torch.zeros(attributes, values))

    @property
    def measured(self) -> bool:
        """Whether it knows what to erase."""
        return bool(self.read.any())

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Features, each N×C×H×W, without what a linear map could tell the attributes from."""
        n = len(features[0])
        with torch.autocast(features[0].device.type, enabled=False):
            # One product for each image: what is taken from it must not depend on its neighbours.
            centred = (_flat(features) - self.mean)[:, None]
            shares = torch.bmm(centred, self.read.T.expand(n, -1, -1))
            erased = torch.bmm(shares, self.written.expand(n, -1, -1))[:, 0]
        parts = erased.split([math.prod(shape) for shape in self.shapes], dim=1)
        return [
            feature - part.view(-1, *shape).to(feature.dtype)
            for feature, part, shape in zip(features, parts, self.shapes, strict=True)
        ]

    @torch.no_grad()
    def measure(self, batches: Iterable[tuple[list[Tensor], list[Tensor], Tensor]]) -> None:
        """Learn what to erase from ``batches`` of features, the features of the mirrored images,
        and the images' values N×n."""
        n = 0
        sums: list[Tensor] = []
        for features, mirrored, y in batches:
            f, g, y = _flat(features), _flat(mirrored), y.float()
            # In half precision the difference of sums below would be noise.
            with torch.autocast(f.device.type, enabled=False):
                batch = [f.sum(0), g.sum(0), (f * f + g * g).sum(0), y.sum(0), y.T @ f, y.T @ g]
            sums = [a + b for a, b in zip(sums, batch, strict=True)] if sums else batch
            n += len(f)
        mean_f, mean_g, squares, mean_y, product_f, product_g = (s / n for s in sums)
        mean = (mean_f + mean_g) / 2
        variance = (squares / 2 - mean.square()).clamp(min=0)
        scale = variance.sqrt().clamp(min=_SMALLEST_SCALE)
        covariance = torch.cat(
            [product_f - torch.outer(mean_y, mean_f), product_g - torch.outer(mean_y, mean_g)]
        )
        covariance = covariance / scale
        # An orthonormal basis of C's rows: C⁺C = QᵀQ, without an inverse for float16 to spoil.
        basis = torch.linalg.qr(covariance.T.cpu().double())[0].T.to(mean)
        self.mean.copy_(mean)
        self.read.copy_(basis / scale)
        self.written.copy_(basis * scale)


def _flat(features: list[Tensor]) -> Tensor:
    return torch.cat([f.flatten(1).float() for f in features], dim=1)
