"""What the latent still says about the attributes: to a fresh probe, and in decodings."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fader.data.batches import to_images, to_tensor
from fader.data.shards import ShardedImages
from fader.evaluate.editing import code, device_of
from fader.evaluate.judge import Judge
from fader.evaluate.statistics import Estimate, balanced_accuracy, estimate_some
from fader.evaluate.swaps import Faces
from fader.models.model import FaderModel

#: What the probe is, for the report.
PROBE = "a perceptron with 256 hidden units on the flattened latent, classes weighted alike"

# About 15 epochs of 5,000 faces; as many steps for fewer, or the probe would be left ignorant.
_STEPS, _CHECK_EVERY, _BATCH = 600, 40, 128


@torch.inference_mode()
def latents(model: FaderModel, images: np.ndarray | ShardedImages, rows: np.ndarray) -> Tensor:
    """The latents of these rows of ``images`` (see :func:`code`), flat, float32 on the CPU."""
    device = device_of(model)
    parts = [
        code(model, to_tensor(images[rows[start : start + 32]]).to(device))
        for start in range(0, len(rows), 32)
    ]
    return torch.cat(parts)


def probe(
    train: tuple[Tensor, np.ndarray],
    valid: tuple[Tensor, np.ndarray] | None,
    test: tuple[Tensor, np.ndarray],
    people: np.ndarray,
    seed: int,
) -> list[Estimate]:
    """Train a probe; the balanced accuracy of each attribute on the test latents, 0.5 at best.

    Each pair is latents (N, D) and labels (N, n) in 0..1. The latents are standardised by the
    training ones; when to stop is chosen, for each attribute, on ``valid`` (None: at the end).
    ``people`` (N,) are those of ``test``.
    """
    x, y = train[0], torch.from_numpy(train[1])
    mean, spread = x.mean(dim=0), x.std(dim=0).clamp(min=1e-6)
    share = y.mean(dim=0).clamp(1e-3, 1 - 1e-3)
    weights = 0.5 / share, 0.5 / (1 - share)
    random = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Linear(x.shape[1], 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, y.shape[1])
        )
        optimizer = torch.optim.AdamW(net.parameters(), 1e-3, weight_decay=0.05)
        best, guesses = np.full(y.shape[1], -1.0), np.zeros(test[1].shape, bool)
        for step in range(1, _STEPS + 1):
            rows = torch.randint(len(x), (_BATCH,), generator=random)
            loss = F.binary_cross_entropy_with_logits(
                net((x[rows] - mean) / spread),
                y[rows],
                weight=torch.where(y[rows] > 0.5, *weights),
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            if step % _CHECK_EVERY and step != _STEPS:
                continue
            net.eval()
            with torch.no_grad():
                guessed = (net((test[0] - mean) / spread) > 0).numpy()
                if valid is not None:
                    held_out = (net((valid[0] - mean) / spread) > 0).numpy()
            net.train()
            if valid is None:
                guesses = guessed
                continue
            for i, truth in enumerate((valid[1] > 0.5).T):
                score = balanced_accuracy(held_out[:, i], truth)
                if score > best[i]:
                    best[i], guesses[:, i] = score, guessed[:, i]
    truth = test[1] > 0.5
    return [
        estimate_some(guesses[:, i] == truth[:, i], people, truth[:, i], seed=seed)
        for i in range(truth.shape[1])
    ]


@torch.inference_mode()
def shown(
    model: FaderModel, judge: Judge, faces: Faces, neutral: np.ndarray, seed: int
) -> dict[str, Estimate]:
    """What the judge reads of the attributes in decodings that were told nothing of them.

    Every face is decoded with the same values, ``neutral`` (n,). An attribute that the judge still
    recognises came through the latent: the balanced accuracy of each that it knows, 0.5 at best. A
    probe may miss what a decoder finds; this is what the decoder finds.
    """
    y = torch.from_numpy(neutral.astype(np.float32)).to(device_of(model))
    seen = []
    for batch in faces.batches():
        features = model.encode(to_tensor(faces.images[batch]).to(y.device))
        own = torch.from_numpy(faces.labels[batch]).to(y.device)
        seen.append(judge.see(to_images(model.decode(features, y.expand_as(own), own)))[0])
    guesses, truth = np.concatenate(seen) > 0, faces.labels > 0.5
    found = {}
    for i, name in enumerate(model.attributes):
        if name in judge.attributes and 0 < truth[:, i].mean() < 1:
            right = guesses[:, judge.attributes.index(name)] == truth[:, i]
            found[name] = estimate_some(right, faces.people, truth[:, i], seed=seed)
    return found
