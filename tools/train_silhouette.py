"""Train the network that tells a person from the background in aligned faces, from GrabCut.

    python tools/train_silhouette.py --store STORE [--out FILE]

STORE is what ``fader prepare`` wrote; without --out it is the packaged network that is trained.
GrabCut (OpenCV) divides training faces, beginning from the template's head; the network learns its
divisions. Prints how far the two agree on validation faces.
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
from tqdm import tqdm

from fader.data.prepared import PreparedStore
from fader.files import atomic_path
from fader.models.silhouette import SIZE, WEIGHTS, SilhouetteNet
from fader.train.device import best_precision

# Pixels at which GrabCut looks at faces: in fewer, hair has no colour of its own.
TEACHER_SIZE = 96
TRAIN, VALID = 0, 1
BATCH = 48
HAIR_LEFT_OUT = 2
CPU = torch.device("cpu")


def superellipse(x: float, y: float, across: float, down: float, power: float) -> np.ndarray:
    """1 on the border, less inside; in widths of the crop."""
    at = (np.arange(TEACHER_SIZE) + 0.5) / TEACHER_SIZE
    u, v = np.abs((at - x) / across)[None], np.abs((at - y) / down)[:, None]
    return (u**power + v**power) ** (1 / power)


def first_guess() -> np.ndarray:
    """GrabCut's labels before it looks: face and skull are the person, the upper corners are not,
    more hair and shoulders probably are."""
    labels = np.full((TEACHER_SIZE, TEACHER_SIZE), cv2.GC_PR_BGD, np.uint8)
    labels[superellipse(0.503, 0.52, 0.35, 0.44, 2) < 1] = cv2.GC_PR_FGD
    labels[int(0.9 * TEACHER_SIZE) :] = cv2.GC_PR_FGD
    for part in ((0.503, 0.50, 0.235, 0.29, 2.3), (0.503, 0.72, 0.24, 0.22, 2.5)):
        labels[superellipse(*part) < 1] = cv2.GC_FGD
    far = superellipse(0.503, 0.56, 0.46, 0.60, 3) > 1
    far[int(0.6 * TEACHER_SIZE) :] = False
    labels[far] = cv2.GC_BGD
    return labels


def divide(image: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """uint8 S×S×3 → 1 where the person is, uint8 at :data:`TEACHER_SIZE`."""
    small = cv2.resize(image, (TEACHER_SIZE, TEACHER_SIZE), interpolation=cv2.INTER_AREA)
    labels = guess.copy()
    cv2.setRNGSeed(0)
    model = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(small, labels, None, *model, 4, cv2.GC_INIT_WITH_MASK)
    return labels & 1


def examples(store: PreparedStore, partition: int, most: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images N×3×64×64 in [-1, 1] and GrabCut's shares of the person N×1×64×64."""
    rows = store.indices(partition)
    rows = np.sort(np.random.default_rng(0).permutation(rows)[:most])
    guess = first_guess()

    def example(row: int) -> tuple[np.ndarray, np.ndarray]:
        image = np.asarray(store.images[row])
        mask = divide(image, guess).astype(np.float32)
        both = image, mask
        return tuple(cv2.resize(a, (SIZE, SIZE), interpolation=cv2.INTER_AREA) for a in both)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(tqdm(pool.map(example, rows), "GrabCut", total=len(rows), unit="face"))
    images, masks = zip(*found, strict=True)
    x = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return x, torch.from_numpy(np.stack(masks))[:, None]


@click.command()
@click.option("--store", "path", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), default=WEIGHTS, show_default=True)
@click.option("--faces", default=4000, show_default=True)
@click.option("--steps", default=700, show_default=True)
def main(path: Path, out: Path, faces: int, steps: int) -> None:
    torch.manual_seed(0)
    store = PreparedStore(path)
    x, masks = examples(store, TRAIN, faces)
    network = SilhouetteNet()
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in (bar := tqdm(range(steps), desc="network")):
        rows = torch.randint(len(x), (BATCH,))
        seen, wanted = x[rows], masks[rows]
        if step % 2:
            seen, wanted = seen.flip(-1), wanted.flip(-1)
        # Other light; decodings are softer than photos.
        seen = seen * (1 + 0.2 * torch.randn(BATCH, 3, 1, 1)) + 0.15 * torch.randn(BATCH, 3, 1, 1)
        if step % 3 == 0:
            seen = F.avg_pool2d(F.pad(seen, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        seen = seen.clamp(-1, 1)
        with torch.autocast("cpu", torch.bfloat16, enabled=best_precision(CPU) == "bf16"):
            logits = network(seen)
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
    x, masks = examples(store, VALID, 500)
    with torch.inference_mode():
        found = torch.cat([network(part) for part in x.split(BATCH)]) > 0
    masks = masks > 0.5
    overlap = (found & masks).sum((1, 2, 3)) / (found | masks).sum((1, 2, 3))
    print(f"intersection over union with GrabCut, {len(x)} validation faces: "
          f"{overlap.mean():.3f}, the lowest tenth below {overlap.quantile(0.1):.3f}")  # fmt: skip
    weights = {k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(out) as part:
        save_file({k: v.contiguous() for k, v in weights.items()}, part)


if __name__ == "__main__":
    main()
