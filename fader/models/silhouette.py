"""Where in an aligned face the person is, and where the background.

What is behind a head is no part of an attribute, yet decoders paint it: dark where hair gets
darker, yellow where it turns blond. A small U-Net (Ronneberger et al. 2015, arXiv 1505.04597) tells
the two apart. It learned from GrabCut (Rother et al. 2004) on training faces, which takes the
template for its first guess and each picture's own colours from there
(``tools/train_silhouette.py``): GrabCut errs now and then, each time otherwise, and the network
learns what most faces have in common.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

#: The weights that come in the package.
WEIGHTS = Path(__file__).parent / "weights" / "silhouette.safetensors"

#: Pixels of the images that the network looks at.
SIZE = 64

_WIDTHS = (16, 32, 64, 64)


class SilhouetteNet(nn.Module):
    """RGB images N×3×64×64 in [-1, 1] → logits N×1×64×64, positive for the person."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            _convolutions(before, after, 2 if i else 1)
            for i, (before, after) in enumerate(zip((5, *_WIDTHS[:-1]), _WIDTHS, strict=True))
        )
        self.up = nn.ModuleList(
            _convolutions(_WIDTHS[i + 1] + _WIDTHS[i], _WIDTHS[i], 2 if i else 1)
            for i in reversed(range(len(_WIDTHS) - 1))
        )
        self.out = nn.Conv2d(_WIDTHS[0], 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        # Aligned faces are all at one place, so places tell, too.
        at = torch.linspace(-1, 1, x.shape[-1], device=x.device, dtype=x.dtype)
        places = torch.stack(torch.meshgrid(at, at, indexing="ij"))
        x = torch.cat([x, places.expand(len(x), -1, -1, -1)], dim=1)
        beside = []
        for i, layer in enumerate(self.down):
            x = layer(F.max_pool2d(x, 2) if i else x)
            beside.append(x)
        beside.pop()
        for layer in self.up:
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = layer(torch.cat([x, beside.pop()], dim=1))
        return self.out(x)


def silhouette(images: Tensor) -> Tensor:
    """How much each pixel of aligned faces N×3×S×S in [-1, 1] is of the person: N×1×S×S in 0..1."""
    with torch.no_grad():
        size = images.shape[-2:]
        x = F.interpolate(images.float(), (SIZE, SIZE), mode="area").clamp(-1, 1)
        # Where it doubts it is mostly a rim of background.
        inside = ((_network(images.device)(x).float().sigmoid() - 0.35) / 0.4).clamp(0, 1)
        return F.interpolate(inside, size, mode="bilinear", align_corners=False)


@functools.cache
def fingerprint() -> str:
    """What the packaged weights are, short."""
    return hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()[:16]


@functools.cache
def _network(device: torch.device) -> SilhouetteNet:
    network = SilhouetteNet()
    network.load_state_dict({k: v.float() for k, v in load_file(WEIGHTS).items()})
    return network.eval().requires_grad_(False).to(device)


def _convolutions(before: int, after: int, count: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (before, after)[:count]:
        layers += [
            nn.Conv2d(channels, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)
