"""Where in an aligned face the person is, where their hair, and where the background.

What is behind a head is no part of an attribute, yet decoders paint it: dark where hair gets
darker, yellow where it turns blond; and they dye bare foreheads and collars with the hair. A small
U-Net (Ronneberger et al. 2015, arXiv 1505.04597) tells them apart. It learned persons from
MediaPipe's Selfie Segmentation, and hair from GrabCut (Rother et al. 2004) within them, which
begins from MediaPipe's Face Mesh (``tools/train_silhouette.py``); GrabCut errs now and then, each
time otherwise, and the network learns what most faces have in common. Heads put before other
backgrounds teach it to tell hair from flags. A hat is hair here.
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
SIZE = 128

_WIDTHS = (24, 48, 96, 96)

# At full resolution convolutions would cost more than all others: each block of this many pixels
# across is one place with as many times the channels.
_BLOCK = 2


# Pixels across what is too small to be a person.
_SPECK = 7


class SilhouetteNet(nn.Module):
    """RGB images N×3×128×128 in [-1, 1] → logits N×2×128×128, positive for the person and for hair
    of theirs."""

    def __init__(self) -> None:
        super().__init__()
        before = (5 * _BLOCK**2, *_WIDTHS[:-1])
        self.down = nn.ModuleList(
            _convolutions(before[i], _WIDTHS[i], 2 if i else 1) for i in range(len(_WIDTHS))
        )
        self.up = nn.ModuleList(
            _convolutions(_WIDTHS[i + 1] + _WIDTHS[i], _WIDTHS[i], 2 if i else 1)
            for i in reversed(range(len(_WIDTHS) - 1))
        )
        self.out = nn.Conv2d(_WIDTHS[0], 2 * _BLOCK**2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        # Aligned faces are all at one place, so places tell, too.
        at = torch.linspace(-1, 1, x.shape[-1], device=x.device, dtype=x.dtype)
        places = torch.stack(torch.meshgrid(at, at, indexing="ij"))
        x = torch.cat([x, places.expand(len(x), -1, -1, -1)], dim=1)
        x = F.pixel_unshuffle(x, _BLOCK)
        beside = []
        for i, layer in enumerate(self.down):
            x = layer(F.max_pool2d(x, 2) if i else x)
            beside.append(x)
        beside.pop()
        for layer in self.up:
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = layer(torch.cat([x, beside.pop()], dim=1))
        return F.pixel_shuffle(self.out(x), _BLOCK)


def silhouette(images: Tensor) -> Tensor:
    """How much each pixel of aligned faces N×3×S×S in [-1, 1] is of the person, and of their hair:
    N×2×S×S in 0..1."""
    with torch.no_grad():
        size = images.shape[-2:]
        x = F.interpolate(
            images.float(), (SIZE, SIZE), mode="bilinear", align_corners=False, antialias=True
        ).clamp(-1, 1)
        # Where it doubts it is mostly a rim of background.
        inside = ((_network(images.device)(x).float().sigmoid() - 0.35) / 0.4).clamp(0, 1)
        # Specks are no person, such as a flag's stars: where no square fits and none is near.
        inside = torch.minimum(inside, _grown(_grown(-_grown(-inside))))
        # Enlarged to a photo, an edge from one pixel to the next is a staircase.
        inside = F.avg_pool2d(inside, 3, stride=1, padding=1, count_include_pad=False)
        return F.interpolate(inside, size, mode="bilinear", align_corners=False, antialias=True)


def _grown(x: Tensor) -> Tensor:
    return F.max_pool2d(x, _SPECK, stride=1, padding=_SPECK // 2)


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
