"""The loss terms, as free functions of networks' outputs (Lample et al. 2017, arXiv 1706.00409).

Attribute values ``y`` are N×n in 0..1 and may be soft: a cross-entropy against a probability.
Images are N×3×S×S in [-1, 1].
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: What the attribute head is asked to see at most: past that, what convinces it more is caricature
#: and then patterns that only it can see.
CONVINCED = 0.95


def attribute_nll(logits: Tensor, y: Tensor) -> Tensor:
    """−log P(y), summed over attributes, averaged over the batch.

    With y this is L_dis of the paper (eq. 1) and with 1 − y the adversarial term of L_ae (eq. 2).
    """
    nll = F.binary_cross_entropy_with_logits(logits.float(), y, reduction="none")
    return nll.sum(dim=1).mean()


def accuracy(logits: Tensor, y: Tensor) -> Tensor:
    """Share of attribute guesses on the right side of one half."""
    return ((logits > 0) == (y > 0.5)).float().mean()


def reconstruction_mse(decoded: Tensor, x: Tensor) -> Tensor:
    """‖D(E(x), y) − x‖², averaged over images, channels and pixels (eq. 2)."""
    return F.mse_loss(decoded.float(), x)


def asked_attributes_loss(logits: Tensor, asked: Tensor, changed: Tensor, own: Tensor) -> Tensor:
    """How far the attribute head is from seeing in edited images what was asked of them.

    ``asked`` (N×n) are the values asked for where ``changed`` (N×n, bool). All others are to be
    seen as they are in the photo, whose logits are ``own`` (N×n): the label of an attribute that
    shows only a little would ask for more of it. They weigh half as much, since attributes go
    together, and an edit may well take some of that along.
    """
    target = torch.where(changed, asked.clamp(1 - CONVINCED, CONVINCED), own.float().sigmoid())
    nll = F.binary_cross_entropy_with_logits(logits.float(), target, reduction="none")
    of_changed = (nll * changed).sum() / changed.sum().clamp(min=1)
    of_kept = (nll * ~changed).sum() / (~changed).sum().clamp(min=1)
    return of_changed + 0.5 * of_kept


def whole_verdicts(verdicts: list[Tensor]) -> Tensor:
    """One logit for each map and image, K×N, of K maps of logits N×H×W: −log mean exp(−v), a soft
    minimum.

    A picture is as real as its least real place. Most places of most edits have not changed, and
    a discriminator that is asked of each of them stays near chance.
    """
    return torch.stack(
        [
            math.log(scale[0].numel()) - (-scale.float()).flatten(1).logsumexp(dim=1)
            for scale in verdicts
        ]
    )


def hinge_discriminator_loss(verdicts: list[Tensor], photos: int) -> Tensor:
    """max(0, 1 − D(x)) + max(0, 1 + D(x′)) (Lim & Ye 2017, arXiv 1705.02894, eq. 5); the first
    ``photos`` images are photos, the others edited."""
    whole = whole_verdicts(verdicts)
    return F.relu(1 - whole[:, :photos]).mean() + F.relu(1 + whole[:, photos:]).mean()


def separation(verdicts: list[Tensor], photos: int) -> Tensor:
    """How often a photo's verdict is above an edited image's, over all pairs of the batch: the area
    under the curve; one half is chance."""
    whole = whole_verdicts(verdicts).mean(dim=0)
    return (whole[:photos, None] > whole[None, photos:]).float().mean()


def hinge_generator_loss(verdicts: list[Tensor]) -> Tensor:
    """−D(x′) (eq. 6)."""
    return -whole_verdicts(verdicts).mean()


def gradient_penalty(
    discriminator: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator
) -> Tensor:
    """R1: ‖∇ₓ of the image discriminator's logits‖² on photos ``x`` with values ``y`` (Mescheder et
    al. 2018, arXiv 1801.04406, eq. 9), summed over pixels, averaged over images.

    Without it the discriminator's slopes are noise, and edits follow them into grids and grain.
    The attributes' logits are taken with random signs, which gives the expected square of their
    whole Jacobian for one pass.
    """
    x = x.detach().requires_grad_()
    verdicts, seen = discriminator(x, y)
    signs = torch.randint(0, 2, seen.shape, generator=generator).to(x) * 2 - 1
    score = (seen.float() * signs).sum() + whole_verdicts(verdicts).sum()
    (slope,) = torch.autograd.grad(score, x, create_graph=True)
    return slope.square().sum(dim=(1, 2, 3)).mean()


def mask_size(mask: Tensor, edited: Tensor, x: Tensor) -> Tensor:
    """Mean of the mask (N×1×S×S), half its total variation, and 1.5 times the mean size of the
    change x′ − x.

    An edit should be no larger than the attribute needs, and in one piece.
    """
    rough = mask.diff(dim=2).abs().mean() + mask.diff(dim=3).abs().mean()
    return mask.mean() + 0.5 * rough + 1.5 * (edited - x).abs().mean()
