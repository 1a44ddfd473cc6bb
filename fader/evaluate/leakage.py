"""What the latent still says about the attributes: to a fresh probe, and in decodings."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fader.data.annotations import TRAIN, VALID
from fader.data.batches import to_images, to_tensor
from fader.evaluate.case import Case, device_of, draw
from fader.evaluate.scores import mean
from fader.evaluate.statistics import Estimate, balanced_accuracy, estimate_some

#: Training faces that the probe learns from, at most.
PROBED = 5000

# About 15 epochs of 5,000 faces; as many steps for fewer, or the probe would be left ignorant.
_STEPS, _CHECK_EVERY, _BATCH = 600, 40, 128


def leakage(case: Case) -> dict[str, Any]:
    """The balanced accuracy of each attribute, 0.5 at best: of a fresh probe, which may miss what a
    decoder finds, and ``shown``, what the decoder finds."""
    return {**_to_a_probe(case), "shown": _shown(case)}


def _to_a_probe(case: Case) -> dict[str, Any]:
    train = np.setdiff1d(case.store.indices(TRAIN), case.rows)
    train = draw(train, PROBED, case.seed, 4)
    valid = np.setdiff1d(case.store.indices(VALID), case.rows)
    if len(train) < 2:
        return {"mean": None, "reason": "the data has no training faces to train a probe on"}

    def known(rows: np.ndarray) -> tuple[Tensor, np.ndarray]:
        return _latents(case, rows), case.labels[rows]

    held_out = known(valid) if len(valid) else None
    found = probe(known(train), held_out, known(case.rows), case.faces.people, case.seed)
    return {
        "mean": mean(one.value for one in found),
        "probe": "a perceptron with 256 hidden units on the flattened latent, classes weighted "
        "alike",
        "trained_on": len(train),
        "attributes": dict(zip(case.model.attributes, found, strict=True)),
    }


@torch.inference_mode()
def _latents(case: Case, rows: np.ndarray) -> Tensor:
    """What the attributes are to be gone from, flat, N×D float32 on the CPU: all that the decoder
    gets. Of a model with a mask the latent code alone: its skips bring the photo itself, as they
    are meant to."""
    model, parts = case.model, []
    for start in range(0, len(rows), 32):
        x = to_tensor(case.store.images[rows[start : start + 32]]).to(device_of(model))
        _, *features = model.encode(x)
        if model.autoencoder.config.kind == "difference":
            features = features[-1:]
        parts.append(torch.cat([f.flatten(1) for f in features], dim=1).float().cpu())
    return torch.cat(parts)


def probe(
    train: tuple[Tensor, np.ndarray],
    valid: tuple[Tensor, np.ndarray] | None,
    test: tuple[Tensor, np.ndarray],
    people: np.ndarray,
    seed: int,
) -> list[Estimate]:
    """The balanced accuracy, 0.5 at best, of a probe of each attribute on the latents of ``test``,
    faces of ``people`` (N,). Each pair is latents (N, D), standardised by the training ones, and
    labels (N, n) in 0..1. When to stop is chosen, for each attribute, on ``valid`` (None: at the
    end)."""
    x, y = train[0], torch.from_numpy(train[1])
    centre, spread = x.mean(dim=0), x.std(dim=0).clamp(min=1e-6)
    share = y.mean(dim=0).clamp(1e-3, 1 - 1e-3)
    weights = 0.5 / share, 0.5 / (1 - share)
    random = torch.Generator().manual_seed(seed)
    truth, n = test[1] > 0.5, y.shape[1]
    best, guesses = np.full(n, -1.0), np.zeros(truth.shape, bool)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Linear(x.shape[1], 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, n)
        )

        @torch.no_grad()
        def guessed(pair: tuple[Tensor, np.ndarray]) -> np.ndarray:
            net.eval()
            answer = (net((pair[0] - centre) / spread) > 0).numpy()
            net.train()
            return answer

        optimizer = torch.optim.AdamW(net.parameters(), 1e-3, weight_decay=0.05)
        for step in range(1, _STEPS + 1):
            rows = torch.randint(len(x), (_BATCH,), generator=random)
            loss = F.binary_cross_entropy_with_logits(
                net((x[rows] - centre) / spread),
                y[rows],
                weight=torch.where(y[rows] > 0.5, *weights),
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            if valid is None or (step % _CHECK_EVERY and step != _STEPS):
                continue
            held_out, of_test = guessed(valid), guessed(test)
            for i, true in enumerate((valid[1] > 0.5).T):
                score = balanced_accuracy(held_out[:, i], true)
                if score > best[i]:
                    best[i], guesses[:, i] = score, of_test[:, i]
        if valid is None:
            guesses = guessed(test)
    right = guesses == truth
    return [estimate_some(right[:, i], people, truth[:, i], seed) for i in range(n)]


@torch.inference_mode()
def _shown(case: Case) -> dict[str, Any]:
    """What the judge recognises in decodings that are all told the same, the training faces' means:
    it came through the latent."""
    train = case.store.indices(TRAIN)
    neutral = case.labels[train if len(train) else slice(None)].mean(axis=0)
    told = torch.from_numpy(neutral.astype(np.float32)).to(device_of(case.model))
    seen = []
    for batch in case.faces.batches():
        features, own = case.faces.encoded(case.model, batch)
        decoded = case.model.decode(features, told.expand_as(own), own)
        seen.append(case.judge.see(to_images(decoded))[0])
    guesses, truth = np.concatenate(seen) > 0, case.faces.labels > 0.5
    found = {}
    for name in case.judged:
        true = truth[:, case.column(name)]
        if 0 < true.mean() < 1:
            right = guesses[:, case.seen(name)] == true
            found[name] = case.estimate(right, case.faces.people, true)
    return {"mean": mean(one.value for one in found.values()), "attributes": found}
