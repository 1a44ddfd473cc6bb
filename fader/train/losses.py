"""The loss terms, as free functions of networks' outputs (Lample et al. 2017, arXiv 1706.00409).

Attribute values ``y`` are N×n in 0..1 and may be soft: a cross-entropy against a probability.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Size of a change that is small: of a mouth that opens, measured as :func:`change_size` does.
SMALL_CHANGE = 0.03


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
    """‖D(E(x), y) − x‖², averaged over images, channels and pixels (range [-1, 1])."""
    return F.mse_loss(decoded.float(), x)


def structural_dissimilarity(decoded: Tensor, x: Tensor) -> Tensor:
    """1 − SSIM (Wang et al. 2004, eq. 13), over every other 7×7 window; images in [-1, 1].

    The square error of a fine texture is least when it is blurred away; this asks for its contrast.
    All pixels of a window weigh alike, which a CPU does in a fraction of the time.
    """
    # Pooling is several times as fast on contiguous maps as on channels_last ones.
    a, b = (decoded.float().contiguous() + 1) / 2, (x.contiguous() + 1) / 2
    maps = torch.cat([a, b, a * a + b * b, a * b])
    mean_a, mean_b, squares, product = F.avg_pool2d(maps, 7, stride=2).chunk(4)
    both, each = mean_a * mean_b, mean_a.square() + mean_b.square()
    c1, c2 = 0.01**2, 0.03**2
    similarity = ((2 * both + c1) * (2 * (product - both) + c2)) / (
        (each + c1) * (squares - each + c2)
    )
    return 1 - similarity.mean()


def asked_attributes_loss(logits: Tensor, asked: Tensor, changed: Tensor) -> Tensor:
    """How far a classifier is from seeing in a decoding what was asked of it.

    ``asked`` are the values given to the decoder and ``changed`` (N×n, bool) marks those that
    differ from the face's own. The kept ones weigh half as much as the changed: attributes go
    together (a young face has no grey hair), and an edit may well take some of that along.
    The classifier is asked for no more than nine parts in ten: past that, what convinces it more
    is caricature and then patterns that only it can see.
    """
    target = asked.clamp(0.1, 0.9)
    nll = F.binary_cross_entropy_with_logits(logits.float(), target, reduction="none")
    of_changed = (nll * changed).sum() / changed.sum().clamp(min=1)
    of_kept = (nll * ~changed).sum() / (~changed).sum().clamp(min=1)
    return of_changed + 0.5 * of_kept


def unconvinced_loss(logits: Tensor, y: Tensor, changed: Tensor) -> Tensor:
    """How far the image discriminator is from seeing in decodings the faces' own values ``y`` of
    the attributes that were ``changed`` (N×n, bool), averaged over all N×n.

    A classifier that only ever sees photos is as pleased by a stain where old eyes are dark as by
    an old eye. One that learns what decoders paint, and that it is not the attribute, has to be
    shown more than that; photos that have the attribute hold it to believing in it at all.
    """
    nll = F.binary_cross_entropy_with_logits(logits.float(), y, reduction="none")
    return (nll * changed).mean()


def change_size(changed: Tensor, decoded: Tensor) -> Tensor:
    """τ log(1 + m / τ), averaged over images, with m the mean |c| + |∂c/∂x| + |∂c/∂y| of the
    change c = D(E(x), y′) − D(E(x), y) and of its colour, which is c less its mean over channels.

    An edit should be no larger than the attribute needs, and not be grain: one thin frame of
    glasses has little variation over the whole picture, a texture has a lot. Nothing else holds a
    decoding of attribute values that no training image has together (a blond beard); without this
    the optional terms paint it with patterns. Colour costs twice, since it is what is painted
    where a shape was not found: orange cheeks for a smile. The logarithm lets hair change as
    willingly as a mouth, of a several times smaller area (τ is :data:`SMALL_CHANGE`). The
    unchanged decoding is taken as given.
    """
    change = changed.float() - decoded.detach().float()
    change = torch.cat([change, change - change.mean(dim=1, keepdim=True)], dim=1)
    maps = change, change.diff(dim=2), change.diff(dim=3)
    size = 2 * sum(part.abs().mean(dim=(1, 2, 3)) for part in maps)
    return SMALL_CHANGE * (size / SMALL_CHANGE).log1p().mean()


def whole_verdict(verdicts: list[Tensor]) -> Tensor:
    """One logit per image, N, of maps of logits N×H×W: of each −log mean exp(−v), a soft minimum,
    averaged over the maps.

    A picture is as real as its least real place. Most places of most edits have not changed, and
    to tell there what is an edit is to tell equals apart: with a verdict asked of each place, a
    discriminator stays near chance for the thousands of steps it has.
    """
    return sum(
        math.log(scale[0].numel()) - (-scale.float()).flatten(1).logsumexp(dim=1)
        for scale in verdicts
    ) / len(verdicts)


def patch_discriminator_loss(verdicts: list[Tensor], changed: int) -> Tensor:
    """Cross-entropy of telling decodings with changed attributes from photos and unchanged
    decodings, by their :func:`whole_verdict`.

    ``verdicts`` are each scale's logits N×H×W, of which the last ``changed`` images are the changed
    ones. Against photos alone the discriminator would mostly see that decodings are soft, and the
    decoder would paint grain to look sharp; against unchanged decodings alone nothing would keep
    both from drifting into one pattern. Real labels are smoothed to 0.9 (Salimans et al. 2016).
    """
    whole = whole_verdict(verdicts)
    real, fake = whole[:-changed], whole[-changed:]
    real = F.binary_cross_entropy_with_logits(real, torch.full_like(real, 0.9))
    # −log(1 − σ(v)) is softplus(v).
    return 0.5 * (real + F.softplus(fake).mean())


def patch_generator_loss(verdicts: list[Tensor]) -> Tensor:
    """Non-saturating: the decoder wants the :func:`whole_verdict` on its changes to be "real"
    (Goodfellow et al. 2014)."""
    # −log σ(v) is softplus(−v).
    return F.softplus(-whole_verdict(verdicts)).mean()


def gradient_penalty(
    discriminator: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator
) -> Tensor:
    """R1: ‖∇ₓ of the image discriminator's logits‖² on real images ``x`` with values ``y``
    (Mescheder et al. 2018, arXiv 1801.04406), summed over pixels, averaged over images.

    Without it the discriminator's slopes are noise, and decodings follow them into grids and
    grain. The attributes' logits are taken with random signs, which gives the expected square of
    their whole Jacobian for one pass.
    """
    x = x.detach().requires_grad_()
    verdicts, seen = discriminator(x, y)
    signs = torch.randint(0, 2, seen.shape, generator=generator).to(x) * 2 - 1
    scores = (seen.float() * signs).sum()
    for scale in verdicts:
        scores = scores + scale.float().sum() / scale[0].numel() ** 0.5
    (slope,) = torch.autograd.grad(scores, x, create_graph=True)
    return slope.square().sum(dim=(1, 2, 3)).mean()


def weathered(x: Tensor, generator: torch.Generator) -> Tensor:
    """Images after a random shift, blur and noise, for a classifier that guides training.

    A pattern that pleases the classifier through one exact alignment of pixels does not survive
    this, nor does a stain of colour, since every other time the images are grey; a drawn attribute
    does. One shift and one blur per batch keep it cheap.
    """
    dx, dy = torch.randint(-4, 5, (2,), generator=generator).tolist()
    x = torch.roll(x, (dy, dx), dims=(2, 3))
    sigma = 0.3 + 1.2 * torch.rand((), generator=generator)
    taps = torch.exp(-0.5 * (torch.arange(-3.0, 4.0) / sigma) ** 2)
    kernel = torch.outer(taps, taps) / taps.sum() ** 2
    kernel = kernel.to(x).expand(3, 1, 7, 7)
    x = F.conv2d(x, kernel, padding=3, groups=3)
    if torch.rand((), generator=generator) < 0.5:
        x = x.mean(dim=1, keepdim=True).expand_as(x)
    noise = torch.randn(x.shape, generator=generator).to(x)
    return x + 0.06 * float(torch.rand((), generator=generator)) * noise


def flip_one(y: Tensor, prior: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """``y`` with one attribute per row set to its other side (hard 0 or 1).

    ``prior`` (n,) is each attribute's share of ones. The rarer a face's value, the likelier (by the
    root of it) it is the one flipped: both directions of an attribute get their turns, also where
    few faces have it. By the share itself, faces with one rare value hardly got a turn with the
    others.
    Returns the new values and which of them changed (N×n, bool).
    """
    share = torch.where(y > 0.5, prior, 1 - prior).clamp(min=0.02)
    column = torch.multinomial(share.rsqrt().cpu(), 1, generator=generator)[:, 0]
    changed = F.one_hot(column, y.shape[1]).bool().to(y.device)
    return torch.where(changed, (y <= 0.5).to(y.dtype), y), changed


def asked_values(
    y: Tensor, prior: Tensor, shuffled: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Values to decode a batch with: :func:`flip_one` of the first rows of ``y`` and, for the share
    ``shuffled`` of them, all the values of the next row.

    Another face's values are ones that go together, which a single flip's need not be. Returns the
    values and which of them are on another side than the face's own (N×n, bool).
    """
    asked, changed = flip_one(y, prior, generator)
    first = len(y) - round(shuffled * len(y))
    others = y.roll(-1, dims=0)[first:]
    asked = torch.cat([asked[:first], others])
    return asked, torch.cat([changed[:first], (others > 0.5) != (y[first:] > 0.5)])


def lengthened(y: Tensor, asked: Tensor, longest: float, generator: torch.Generator) -> Tensor:
    """Values N×n to decode, for ``asked`` to be seen in faces of values ``y``: moves 1 to
    ``longest`` times as long, by chance, face by face.

    Finished sliders lengthen moves (see :mod:`fader.models.sliders`), and what a decoder makes of
    values that it never met has been judged by nothing.
    """
    if longest == 1:
        return asked
    lengths = 1 + (longest - 1) * torch.rand((len(y), 1), generator=generator).to(y)
    return y + lengths * (asked - y)
