"""What a linear map could read the attributes from, taken out of the latent in closed form."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

# Features that hardly vary are not blown up, and survive being stored in float16.
_SMALLEST_SCALE = 1e-3


class Erasure(nn.Module):
    """f ↦ f − S Cᵀ(C M Cᵀ)⁻¹C M S⁻¹(f − μ), with μ and S the means and standard deviations of f
    over the training images, C = cov(y, S⁻¹f), and M = (cov(S⁻¹f) + ρI)⁻¹.

    Afterwards every feature has covariance 0 with every attribute, and then no linear classifier
    of the features does better than a constant one (Belrose et al. 2023, arXiv 2306.03819). That
    holds for any M. Theirs has ρ = 0 and takes least from the features; without the covariance of
    the features, M = I (Shao et al. 2022, arXiv 2203.07893), what else varies along C goes with the
    attributes, which is several times as much. There are more features than faces, so
    their covariance is measured on some of the faces and held up by ρ, its noise (features per
    face). Erases nothing until :meth:`measure` is called.

    Faces and their mirror images count alike. ``shapes`` are the features' (C, H, W).
    """

    mean: Tensor
    read: Tensor
    written: Tensor

    def __init__(self, shapes: Sequence[tuple[int, int, int]], attributes: int) -> None:
        super().__init__()
        self.shapes = tuple(shapes)
        values = sum(math.prod(shape) for shape in shapes)
        self.register_buffer("mean", torch.zeros(values))
        # The two factors of what is taken away, balanced: (C M Cᵀ)^-½ C M S⁻¹ and (C M Cᵀ)^-½ C S.
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
    def measure(
        self, batches: Iterable[tuple[list[Tensor], list[Tensor], Tensor]], sample: int = 1
    ) -> None:
        """Learn what to erase from ``batches`` of features, the features of the mirrored images,
        and the images' values N×n; the features' covariance from every ``sample``-th image, whose
        features are held in memory."""
        n = 0
        sums: list[Tensor] = []
        kept: list[Tensor] = []
        for features, mirrored, y in batches:
            f, g, y = _flat(features), _flat(mirrored), y.float()
            # In half precision the difference of sums below would be noise.
            with torch.autocast(f.device.type, enabled=False):
                both = f + g
                batch = [both.sum(0), (f * f + g * g).sum(0), y.sum(0), y.T @ both]
            sums = [a + b for a, b in zip(sums, batch, strict=True)] if sums else batch
            some = slice(-n % sample, None, sample)
            kept += [f[some].cpu(), g[some].cpu()]
            n += len(f)
        both, squares, mean_y, product = (s / n for s in sums)
        mean = both / 2
        scale = (squares / 2 - mean.square()).clamp(min=0).sqrt().clamp(min=_SMALLEST_SCALE)
        covariance = ((product - torch.outer(mean_y, both)) / (2 * scale)).cpu()

        faces = torch.cat(kept).sub_(mean.cpu()).div_(scale.cpu())
        # C M by the Woodbury identity, up to the factor ρ, which cancels: as many equations as
        # faces, not as features.
        gram = (faces @ faces.T).double()
        gram.diagonal().add_(faces.shape[1])  # ρ times the number of faces
        shares = torch.linalg.solve(gram, (faces @ covariance.T).double())
        reading = covariance - shares.T.float() @ faces
        # C M Cᵀ is symmetric. Attributes that no face tells apart have nothing to be erased.
        values, vectors = torch.linalg.eigh((reading @ covariance.T).double())
        some = values > values[-1] * 1e-6
        root = torch.where(some, values.clamp(min=1e-30).rsqrt(), 0.0)[:, None] * vectors.T
        self.mean.copy_(mean)
        self.read.copy_((root.float() @ reading).to(scale) / scale)
        self.written.copy_((root.float() @ covariance).to(scale) * scale)


def _flat(features: list[Tensor]) -> Tensor:
    return torch.cat([f.flatten(1).float() for f in features], dim=1)
