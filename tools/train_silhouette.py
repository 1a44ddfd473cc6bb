"""Train the network that tells a person from the background in aligned faces, from GrabCut.

    python tools/train_silhouette.py --store STORE [--out FILE]

STORE is what ``fader prepare`` wrote; without --out it is the packaged network that is trained.
GrabCut (OpenCV) divides training faces, beginning from the template's head; the network learns its
divisions. Then GrabCut divides them again, beginning from what the network found, and the network
goes on with those before plain backgrounds, where GrabCut does not err: most of what it sees are
their heads, cut out, before backgrounds they never had. Prints how far it agrees with GrabCut on
validation faces, as they are and before such backgrounds.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import cv2
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from fader.data.prepared import PreparedStore
from fader.files import atomic_path
from fader.models.silhouette import SIZE, WEIGHTS, SilhouetteNet
from fader.train.device import best_precision

TRAIN, VALID = 0, 1
BATCH = 48
HAIR_LEFT_OUT = 1.5
CPU = torch.device("cpu")

# Of all steps the share that sees photos as they are; later that of the faces, those before the
# plainest backgrounds, and how many of the images are as they are even then.
FIRST, PLAIN, PHOTOS = 0.3, 0.2, 0.2

# Shares of other backgrounds: parts of other photos, and stripes; the rest is plain.
OTHERS, STRIPES = 0.4, 0.4

# Rows below this, in heights of the crop, may be shoulders.
SHOULDERS = 0.6


def superellipse(x: float, y: float, across: float, down: float, power: float) -> np.ndarray:
    """1 on the border, less inside; in widths of the crop."""
    at = (np.arange(SIZE) + 0.5) / SIZE
    u, v = np.abs((at - x) / across)[None], np.abs((at - y) / down)[:, None]
    return (u**power + v**power) ** (1 / power)


def first_guess() -> np.ndarray:
    """GrabCut's labels before it looks: face and skull are the person, the upper corners are not,
    more hair and shoulders probably are."""
    labels = np.full((SIZE, SIZE), cv2.GC_PR_BGD, np.uint8)
    labels[superellipse(0.503, 0.52, 0.35, 0.44, 2) < 1] = cv2.GC_PR_FGD
    labels[int(0.9 * SIZE) :] = cv2.GC_PR_FGD
    for part in ((0.503, 0.50, 0.235, 0.29, 2.3), (0.503, 0.72, 0.24, 0.22, 2.5)):
        labels[superellipse(*part) < 1] = cv2.GC_FGD
    far = superellipse(0.503, 0.56, 0.46, 0.60, 3) > 1
    far[int(SHOULDERS * SIZE) :] = False
    labels[far] = cv2.GC_BGD
    return labels


def guesses(network: SilhouetteNet, images: np.ndarray) -> list[np.ndarray]:
    """The same of what a network found: its outline is likely, and what lies well inside of it, far
    outside, or in the template's face, is sure."""
    face = first_guess() == cv2.GC_FGD
    labels = []
    for p in found_by(network, images)[:, 0].numpy():
        person = (p > 0.5).astype(np.uint8)
        inside, near = cv2.erode(person, np.ones((13, 13))), cv2.dilate(person, np.ones((9, 9)))
        likely = np.where(person, cv2.GC_PR_FGD, cv2.GC_PR_BGD)
        likely[near == 0] = cv2.GC_BGD
        likely[face | (inside > 0)] = cv2.GC_FGD
        labels.append(likely.astype(np.uint8))
    return labels


def divide(image: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """uint8 S×S×3 → 1 where the person is, uint8 S×S."""
    labels = guess.copy()
    cv2.setRNGSeed(0)
    model = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(image, labels, None, *model, 4, cv2.GC_INIT_WITH_MASK)
    return labels & 1


def divisions(images: np.ndarray, guesses: list[np.ndarray]) -> Tensor:
    """GrabCut's of uint8 images N×S×S×3: N×1×S×S, 1 where the person is."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(tqdm(pool.map(divide, images, guesses), "GrabCut", len(images), unit="face"))
    return torch.from_numpy(np.stack(found))[:, None]


def as_input(images: np.ndarray) -> Tensor:
    """uint8 N×S×S×3 → N×3×S×S in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.inference_mode()
def found_by(network: SilhouetteNet, images: np.ndarray) -> Tensor:
    """How sure a network is of the person, N×1×S×S in 0..1."""
    return torch.cat(
        [network(as_input(images[i : i + BATCH])) for i in range(0, len(images), BATCH)]
    ).sigmoid()


def plainness(image: np.ndarray, mask: np.ndarray) -> float:
    """How far a head stands out from the background of a uint8 image S×S×3, by its mask S×S: the
    smallest difference in colour within the outline, by the largest in the background."""
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float32)

    def grown(pixels: int) -> np.ndarray:
        change = cv2.dilate if pixels > 0 else cv2.erode
        found = change(mask, np.ones((2 * abs(pixels) + 1,) * 2)) > 0
        found[int(SHOULDERS * SIZE) :] = False
        return found

    upper = np.arange(SIZE)[:, None] < int(SHOULDERS * SIZE)
    background, rim = upper & ~grown(2), grown(-1) & ~grown(-5)
    if background.mean() < 0.1 or not rim.any():
        return 0.0
    difference = np.linalg.norm(lab - lab[background].mean(axis=0), axis=2)
    up_to_it = background | (grown(4) & ~grown(1))
    return float(np.percentile(difference[rim], 10) / (np.percentile(difference[up_to_it], 95) + 3))


def overlap(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of N×1×S×S masks, N."""
    return (a & b).sum((1, 2, 3)) / (a | b).sum((1, 2, 3))


def stripes(colours: Tensor) -> Tensor:
    """Bent stripes in two or three of the colours N×3×3 (which, RGB): N×3×S×S."""
    n = len(colours)
    at = torch.linspace(-1, 1, SIZE)
    v, u = torch.meshgrid(at, at, indexing="ij")
    angle, width, bend, shift = torch.rand(4, n, 1, 1)
    angle, width = angle * torch.pi, 0.08 + 0.5 * width
    across = u * angle.cos() + v * angle.sin() + 0.3 * bend * (3 * v + 6 * shift).sin()
    which = (across / width + 5 * shift).floor().long() % torch.randint(2, 4, (n, 1, 1))
    return (
        colours.transpose(1, 2)
        .gather(2, which.flatten(1)[:, None].expand(-1, 3, -1))
        .view(n, 3, SIZE, SIZE)
    )


def backgrounds(heads: Tensor, others: Tensor) -> Tensor:
    """Something else for N heads N×3×S×S: parts of the ``others``, stripes, or plain."""
    n = len(heads)
    # Their own colours, too: a wall may be as bright as the hair before it.
    places = torch.randint(SIZE, (2, n, 3))
    own = heads.permute(0, 2, 3, 1)[torch.arange(n)[:, None], places[0], places[1]]
    colours = torch.where(torch.rand(n, 3, 1) < 0.6, own, torch.rand(n, 3, 3) * 2 - 1)
    kind = torch.rand(n, 1, 1, 1)
    size = 0.25 + 0.5 * torch.rand(n)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = size
    theta[:, :, 2] = (torch.rand(n, 2) * 2 - 1) * (1 - size[:, None])
    grid = F.affine_grid(theta, list(others.shape), align_corners=False)
    part = F.grid_sample(others, grid, align_corners=False)
    fade = torch.linspace(0, 1, SIZE)[:, None] ** (3 * torch.rand(n, 1, 1, 1)).exp()
    plain = colours[:, 0, :, None, None].lerp(colours[:, 1, :, None, None], fade)
    striped = stripes(colours) + 0.2 * (plain - plain.mean((2, 3), keepdim=True))
    found = torch.where(kind < OTHERS, part, torch.where(kind < OTHERS + STRIPES, striped, plain))
    soft = F.interpolate(F.avg_pool2d(found, 4), scale_factor=4.0, mode="bilinear")
    return found.lerp(soft, torch.rand(n, 1, 1, 1))


def before_others(seen: Tensor, wanted: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Heads N×3×S×S cut out by N×1×S×S masks, before other backgrounds: images, masks."""
    # A pixel less all round, so that no rim of the old background tells.
    inside = F.avg_pool2d(-F.max_pool2d(-wanted, 3, 1, 1), 3, 1, 1)
    return torch.lerp(backgrounds(seen, others), seen, inside), (inside > 0.5).float()


def train(
    network: SilhouetteNet, images: np.ndarray, masks: Tensor, photos: float, steps: int
) -> None:
    """Teach the network N×1×S×S ``masks`` of uint8 images; all but a share of ``photos`` are heads
    before other backgrounds."""
    network.train()
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    some = int(BATCH * (1 - photos))
    for step in (bar := tqdm(range(steps), desc="network")):
        rows = torch.randint(len(images), (BATCH,))
        seen, wanted = as_input(images[rows.numpy()]), masks[rows].float()
        if some:
            others = as_input(images[torch.randint(len(images), (some,)).numpy()])
            seen[:some], wanted[:some] = before_others(seen[:some], wanted[:some], others)
        if step % 2:
            seen, wanted = seen.flip(-1), wanted.flip(-1)
        # Other light; decodings are softer than photos, those of small models more so.
        seen = seen * (1 + 0.2 * torch.randn(BATCH, 3, 1, 1)) + 0.15 * torch.randn(BATCH, 3, 1, 1)
        if step % 3 == 0:
            seen = F.avg_pool2d(F.pad(seen, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        elif step % 3 == 1:
            seen = F.interpolate(F.avg_pool2d(seen, 2), scale_factor=2.0, mode="bilinear")
        seen = seen.clamp(-1, 1)
        with torch.autocast("cpu", torch.bfloat16, enabled=best_precision(CPU) == "bf16"):
            logits = network(seen.contiguous(memory_format=torch.channels_last))
        # Absolute differences: a minority of wrong divisions of like faces does not count. Hair
        # that is left out is seen more than background that is let in.
        wrong = logits.float().sigmoid() - wanted
        loss = torch.maximum(wrong, -HAIR_LEFT_OUT * wrong).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        bar.set_postfix(loss=f"{float(loss.detach()):.4f}")
    network.eval()


def sample(store: PreparedStore, partition: int, most: int) -> np.ndarray:
    """Images N×S×S×3 uint8 of a partition."""
    rows = store.indices(partition)
    rows = np.sort(np.random.default_rng(0).permutation(rows)[:most])
    return np.stack([np.asarray(store.images[row]) for row in rows])


@click.command()
@click.option("--store", "path", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), default=WEIGHTS, show_default=True)
@click.option("--faces", default=6000, show_default=True)
@click.option("--steps", default=2000, show_default=True)
def main(path: Path, out: Path, faces: int, steps: int) -> None:
    torch.manual_seed(0)
    images = sample(store := PreparedStore(path), TRAIN, faces)
    network, first = SilhouetteNet(), round(FIRST * steps)
    train(network, images, divisions(images, [first_guess()] * len(images)), 1, first)
    masks = divisions(images, guesses(network, images))
    plain = [plainness(image, mask[0].numpy()) for image, mask in zip(images, masks, strict=True)]
    some = np.sort(np.argsort(plain)[-max(1, round(PLAIN * len(images))) :])
    train(network, images[some], masks[some], PHOTOS, steps - first)
    measure(network, sample(store, VALID, 500))
    weights = {k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(out) as part:
        save_file({k: v.contiguous() for k, v in weights.items()}, part)


def measure(network: SilhouetteNet, images: np.ndarray) -> None:
    """Print how far the network agrees with GrabCut."""
    found = found_by(network, images) > 0.5
    masks = divisions(images, guesses(network, images)) > 0
    shares = overlap(found, masks)
    print(f"intersection over union with GrabCut, {len(images)} validation faces: "
          f"{shares.mean():.3f}, the lowest tenth below {shares.quantile(0.1):.3f}")  # fmt: skip
    seen = as_input(images)
    moved, inside = before_others(seen, masks.float(), seen.roll(1, 0))
    moved = ((moved.permute(0, 2, 3, 1) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()
    shares = overlap(found_by(network, moved) > 0.5, inside > 0)
    print(f"the same heads before other backgrounds: "
          f"{shares.mean():.3f}, the lowest tenth below {shares.quantile(0.1):.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
