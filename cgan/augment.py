"""Differentiable augmentation (Zhao et al. 2020, arXiv 2006.10738).

The discriminator sees real and generated images only after the same kind of random changes, so
that it cannot learn a small set by heart, and the generator does not learn the changes. How many
are changed can follow from how much it has learnt by heart (ADA, Karras et al. 2020, arXiv
2006.06676, §3).
"""

from __future__ import annotations

import torch
from torch import Tensor

#: Sets of fewer images are augmented when ``diffaugment`` is ``auto``.
SMALL_SET = 5000
#: Where the share of changed images adapts, so many images take it from 0 to 1.
ADAPTATION = 100_000


def policy_for(diffaugment: str, images: int) -> tuple[str, ...]:
    """The augmentations that this setting means for a set of so many images."""
    if diffaugment == "auto":
        diffaugment = "color,translation,cutout" if images < SMALL_SET else "none"
    return () if diffaugment == "none" else tuple(diffaugment.split(","))


def augment(
    x: Tensor, policy: tuple[str, ...], random: torch.Generator, share: float = 1.0
) -> Tensor:
    """Images N×C×S×S in [-1, 1] → the same, each changed in its own way, differentiably.

    Each kind of change befalls about ``share`` of the images.
    """
    for name in policy if share else ():
        changed = _KINDS[name](x, random)
        if share < 1:
            chosen = torch.rand(len(x), 1, 1, 1, generator=random) < share
            changed = torch.where(chosen.to(x.device), changed, x)
        x = changed
    return x


def adapted(share: Tensor, real: Tensor, target: float) -> Tensor:
    """The share of images to change from now on, given the discriminator's N logits of training
    images: more while the mean of their signs is above ``target`` (ibid., r_t), else fewer."""
    excess = real.detach().float().sign().mean() - target
    return (share + excess.sign() * len(real) / ADAPTATION).clamp(0, 1)


def _color(x: Tensor, random: torch.Generator) -> Tensor:
    """Brightness ±0.5 (of a range of 2), saturation ×0…2, contrast ×0.5…1.5."""
    changes = torch.rand(3, len(x), 1, 1, 1, generator=random)
    shift, saturation, contrast = changes.to(x.device, x.dtype)
    x = x + (shift - 0.5)
    if x.shape[1] > 1:
        x = torch.lerp(x.mean(dim=1, keepdim=True), x, 2 * saturation)
    return torch.lerp(x.mean(dim=(1, 2, 3), keepdim=True), x, contrast + 0.5)


def _translation(x: Tensor, random: torch.Generator) -> Tensor:
    """Shifts by up to an eighth of the side, what comes in is 0 (grey)."""
    side = x.shape[-1]
    reach = side // 8
    offsets = torch.randint(0, 2 * reach + 1, (len(x), 2), generator=random).tolist()
    padded = torch.nn.functional.pad(x, (reach,) * 4)
    # Unbound first: the gradient of a slice of one image is as small as that image.
    moved = [
        image[:, top : top + side, left : left + side]
        for image, (top, left) in zip(padded.unbind(), offsets, strict=True)
    ]
    return torch.stack(moved).contiguous(memory_format=torch.channels_last)


def _cutout(x: Tensor, random: torch.Generator) -> Tensor:
    """A square of half the side, anywhere, also in part outside, is 0."""
    side = x.shape[-1]
    hole = side // 2
    centres = torch.randint(0, side + 1 - hole % 2, (2, len(x), 1), generator=random)
    starts, places = centres - hole // 2, torch.arange(side)
    rows, columns = (places >= starts) & (places < starts + hole)
    mask = rows[:, :, None] & columns[:, None, :]
    return x * (~mask)[:, None].to(x.device, x.dtype)


_KINDS = {"color": _color, "translation": _translation, "cutout": _cutout}
