"""What the two players of a GAN want, from the discriminator's logits (N,), positive for real;
and what a variational autoencoder does.

- ``minimax``: min_G max_D E[log D(x)] + E[log(1 − D(G(z)))], D the sigmoid of the logit
  (Goodfellow et al. 2014, arXiv 1406.2661, eq. 1).
- ``nonsaturating``: the same for D; G maximises E[log D(G(z))] (ibid., end of §3).
- ``hinge``: Lim & Ye 2017 (arXiv 1705.02894), as in spectrally normalised GANs.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

# The variance of rounding to 8 bits, in units of [-1, 1]: no image is known better.
_ROUNDING = (1 / 127.5) ** 2 / 12


def discriminator_loss(kind: str, real: Tensor, fake: Tensor) -> Tensor:
    """What D minimises; ln 4 = 1.39 (2 for ``hinge``) where it cannot tell, 0 where it is sure."""
    if kind == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def generator_loss(kind: str, fake: Tensor) -> Tensor:
    """What G minimises, given D's logits of its images."""
    if kind == "hinge":
        return -fake.mean()
    if kind == "minimax":
        return -F.softplus(fake).mean()
    return F.softplus(-fake).mean()


def gradient_penalty(
    discriminator: Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]], x: Tensor, y: Tensor
) -> Tensor:
    """E‖∇_x D(x)‖² on real images: R1 without its γ/2 (Mescheder et al. 2018, arXiv 1801.04406)."""
    x = x.detach().requires_grad_(True)
    logits, _ = discriminator(x, y)
    (gradient,) = torch.autograd.grad(logits.float().sum(), x, create_graph=True)
    return gradient.float().square().sum(dim=(1, 2, 3)).mean()


def told_labels_loss(kind: str, told: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of the labels an ``auxiliary`` discriminator tells (logits N×k) with y."""
    if kind == "classes":
        return F.cross_entropy(told, y)
    return F.binary_cross_entropy_with_logits(told, y)


def reconstruction_loss(decoded: Tensor, x: Tensor) -> Tensor:
    """−log p(x|z,y) of images N×C×S×S in [-1, 1], in nats per value.

    Gaussian, its one variance the most likely: the batch's mean square error. So the KL divergence
    needs no weight to tune (σ-VAE, Rybkin et al. 2021, arXiv 2006.13202).
    """
    variance = F.mse_loss(decoded.float(), x) + _ROUNDING
    return 0.5 * torch.log(2 * math.pi * math.e * variance)


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(q(z|x,y) ‖ N(0, 1)) of posteriors N×latent, in nats per image (Kingma & Welling 2014)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1).mean()


def label_correlation(mean: Tensor, y: Tensor) -> Tensor:
    """Σ squared correlations of posterior means N×latent with labels N×k: what the latents say of
    the labels, as far as it is linear (after Cheung et al. 2014, arXiv 1412.6583, whose covariances
    also fall when the latents shrink). What does not vary in the batch counts as 0."""
    a, b = (v - v.mean(dim=0) for v in (mean, y))
    a, b = (v / v.square().mean(dim=0).sqrt().clamp_min(1e-3) for v in (a, b))
    return (b.T @ a / len(y)).square().sum()
