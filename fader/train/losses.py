"""The losses of training, each ``(loss, parts)``: a single number, and what is logged of it.

They are free functions of networks' outputs, and stay tensors on the device. Attribute values ``y``
are N×n in 0..1 and may be soft: a cross-entropy against a probability. Images are N×3×S×S in
[-1, 1]. Equations (1) and (2) are those of Lample et al. 2017 (arXiv 1706.00409). ``weight`` is
that of a mean over images, and is 1 but for several processes (:class:`fader.train.share.Share`).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

#: A loss and its parts by their names in ``metrics.jsonl``.
Loss = tuple[Tensor, dict[str, Tensor]]

#: What the attribute head is asked to see at most: past that, what convinces it more is caricature
#: and then patterns that only it can see.
CONVINCED = 0.95


# The discriminators'


def latent_discriminator_loss(logits: Tensor, y: Tensor, weight: float = 1) -> Loss:
    """L_dis = −log P_dis(y | E(x)) (eq. 1), of the logits N×n on the latent code."""
    loss = weight * attribute_nll(logits, y)
    # Per attribute, so that ln 2 = 0.693 always means "knows nothing".
    parts = {
        "discriminator_loss": loss / y.shape[1],
        "discriminator_accuracy": weight * accuracy(logits, y),
    }
    return loss, parts


def image_discriminator_loss(
    verdicts: list[Tensor],
    logits: Tensor,
    y: Tensor,
    offset: Tensor,
    weights: tuple[float, float] = (1, 1),
) -> Loss:
    """The attribute head's cross-entropy on the photos, which are the first N images, and the hinge
    loss of the verdicts where there are edited images besides (Lim & Ye 2017, arXiv 1705.02894,
    eq. 5). ``offset`` (n,) is that of :func:`prior_logits`, ``weights`` are those of photos and of
    edited images."""
    n, of_photos = len(y), logits[: len(y)]
    loss = weights[0] * attribute_nll(of_photos + offset, y) / y.shape[1]
    parts = {"recognition_loss": loss}
    if len(logits) > n:
        hinge = hinge_discriminator_loss(verdicts, n, weights)
        parts["image_discriminator_loss"] = hinge
        parts["image_discriminator_accuracy"] = separation(verdicts, n)
        loss = loss + hinge
    return loss, parts


# The autoencoder's


def square_reconstruction_loss(decoded: Tensor, x: Tensor, weight: float = 1) -> Loss:
    """‖D(E(x), y) − x‖² (eq. 2), averaged over images, channels and pixels."""
    loss = weight * reconstruction_mse(decoded, x)
    return loss, {"reconstruction_loss": loss}


def colour_reconstruction_loss(colour: Tensor, x: Tensor, weight: float = 1) -> Loss:
    """|c − x|, averaged over images, channels and pixels: what the decoder paints where nothing is
    to change. (The image x′ itself would be right there with any colour under an empty mask.)"""
    loss = weight * (colour - x).abs().mean()
    return loss, {"reconstruction_loss": loss}


def latent_adversarial_loss(logits: Tensor, wanted: Tensor, weight: float = 1) -> Loss:
    """−log P_dis(wanted | E(x)); with 1 − y wanted it is the second term of L_ae (eq. 2)."""
    loss = weight * attribute_nll(logits, wanted)
    return loss, {"adversarial_loss": loss}


def realism_loss(verdicts: list[Tensor], weight: float = 1) -> Loss:
    """−D(x′) (Lim & Ye 2017, arXiv 1705.02894, eq. 6)."""
    loss = -weight * whole_verdicts(verdicts).mean()
    return loss, {"realism_loss": loss}


def edit_loss(
    logits: Tensor,
    asked: Tensor,
    changed: Tensor,
    own: Tensor,
    weights: tuple[Tensor | float, Tensor | float] = (1, 1),
) -> Loss:
    """How far the attribute head is from seeing in edited images what was asked of them (AttGAN, He
    et al. 2019, arXiv 1711.10678, eq. 4).

    ``asked`` (N×n) are the values asked for where ``changed`` (N×n, bool). All others are to be
    seen as they are in the photo, whose logits are ``own`` (N×n): the label of an attribute that
    shows only a little would ask for more of it. ``weights`` are those of the means over the
    changed and over all other attributes.
    """
    as_it_was = own.detach().float().sigmoid()
    target = torch.where(changed, asked.clamp(1 - CONVINCED, CONVINCED), as_it_was)
    nll = F.binary_cross_entropy_with_logits(logits.float(), target, reduction="none")
    of_changed = (nll * changed).sum() / changed.sum().clamp(min=1)
    of_kept = (nll * ~changed).sum() / (~changed).sum().clamp(min=1)
    loss = weights[0] * of_changed + weights[1] * of_kept
    return loss, {"edit_loss": loss}


def mask_loss(
    mask: Tensor, edited: Tensor, x: Tensor, weight: float = 1, binary: float = 0
) -> Loss:
    """Mean of the mask (N×1×S×S), half its total variation, 1.5 times the mean size of the change
    x′ − x, and ``binary`` times how far the mask is from all or nothing (Bielski & Favaro 2019,
    arXiv 1905.12663).

    An edit should be no larger than the attribute needs, and in one piece; half a mask over what
    is behind a head is haze.
    """
    rough = mask.diff(dim=2).abs().mean() + mask.diff(dim=3).abs().mean()
    size = mask.mean() + 0.5 * rough + 1.5 * (edited - x).abs().mean()
    loss = weight * (size + binary * torch.minimum(mask, 1 - mask).mean())
    return loss, {"mask_loss": loss}


# What they are made of


def prior_logits(prior: Tensor, adjustment: float) -> Tensor:
    """``adjustment`` · log(p / (1 − p)) of each attribute's share p (n,) of ones: added to a head's
    logits while it learns, it leaves what the image says apart from how frequent a value is
    (logit adjustment, Menon et al. 2021, arXiv 2007.07314, eq. 10).

    A head without it sees glasses, or bald heads, only where it is sure of them, and an edit that
    is to take them off passes as done when it is half done.
    """
    return adjustment * prior.clamp(0.01, 0.99).logit()


def handicap_of(target: Tensor, offset: Tensor) -> Tensor:
    """What is added to the logits of edits with values ``target`` (k×n): half of ``offset`` (of
    :func:`prior_logits`) where it speaks against the target, else 0.

    A rare value has to show more than a frequent one to convince those who know how rare it is; the
    whole offset makes sunglasses of glasses.
    """
    return torch.where(target > 0.5, offset.clamp(max=0), offset.clamp(min=0)) / 2


def attribute_nll(logits: Tensor, y: Tensor) -> Tensor:
    """−log P(y), summed over attributes, averaged over the batch.

    With y it is L_dis of the paper (eq. 1), with 1 − y the adversarial term of L_ae (eq. 2).
    """
    nll = F.binary_cross_entropy_with_logits(logits.float(), y, reduction="none")
    return nll.sum(dim=1).mean()


def accuracy(logits: Tensor, y: Tensor) -> Tensor:
    """Share of attribute guesses on the right side of one half."""
    return ((logits > 0) == (y > 0.5)).float().mean()


def reconstruction_mse(decoded: Tensor, x: Tensor) -> Tensor:
    """‖D(E(x), y) − x‖², averaged over images, channels and pixels (eq. 2)."""
    return F.mse_loss(decoded.float(), x)


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


def hinge_discriminator_loss(
    verdicts: list[Tensor], photos: int, weights: tuple[float, float] = (1, 1)
) -> Tensor:
    """max(0, 1 − D(x)) + max(0, 1 + D(x′)) (Lim & Ye 2017, arXiv 1705.02894, eq. 5); the first
    ``photos`` images are photos, the others edited. ``weights`` are those of the two means."""
    whole = whole_verdicts(verdicts)
    of_photos, of_edited = F.relu(1 - whole[:, :photos]), F.relu(1 + whole[:, photos:])
    return weights[0] * of_photos.mean() + weights[1] * of_edited.mean()


def separation(verdicts: list[Tensor], photos: int) -> Tensor:
    """How often a photo's verdict is above an edited image's, over all pairs of the batch: the area
    under the curve; one half is chance."""
    whole = whole_verdicts(verdicts).mean(dim=0)
    return (whole[:photos, None] > whole[None, photos:]).float().mean()


def gradient_penalty(
    discriminator: Callable[[Tensor, Tensor], tuple[list[Tensor], Tensor]],
    x: Tensor,
    y: Tensor,
    signs: Tensor,
) -> Tensor:
    """R1: ‖∇ₓ of the image discriminator's logits‖² on photos ``x`` with values ``y`` (Mescheder et
    al. 2018, arXiv 1801.04406, eq. 9), summed over pixels, averaged over images.

    Without it the discriminator's slopes are noise, and edits follow them into grids and grain.
    The attributes' logits are taken with random ``signs`` (N×n, 0 or 1), which gives the expected
    square of their whole Jacobian for one pass.
    """
    x = x.detach().requires_grad_()
    verdicts, seen = discriminator(x, y)
    score = (seen.float() * (signs.to(x) * 2 - 1)).sum() + whole_verdicts(verdicts).sum()
    (slope,) = torch.autograd.grad(score, x, create_graph=True)
    return slope.square().sum(dim=(1, 2, 3)).mean()
