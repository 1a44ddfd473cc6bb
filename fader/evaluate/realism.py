"""How far edited faces are from photos, in the judge's features."""

from __future__ import annotations

from typing import Any

import numpy as np

from fader.data.annotations import TRAIN
from fader.data.store import PreparedStore
from fader.evaluate.judge import Judge
from fader.evaluate.statistics import frechet, strangeness
from fader.evaluate.swaps import CLEAR, Swapped

#: Real faces of one value that edits are compared with, at most; half of them are the edits' equal.
REAL = 1000


def features_name(judge: Judge, width: int) -> str:
    """What distances are measured on, in words; they are never given without it."""
    return f"pooled features of the judge ({judge.architecture}), {width}-d"


def distances(
    judge: Judge,
    photos: np.ndarray,
    other_photos: np.ndarray,
    decoded: np.ndarray,
    swapped: dict[str, Swapped],
    seed: int,
) -> dict[str, Any]:
    """Fréchet distances to the photos (N, C), all of equally many images: of edited faces, of
    decodings, and of other photos, which is as low as it gets."""
    width = photos.shape[1]
    edited = np.concatenate([np.zeros((0, width)), *(one.features for one in swapped.values())])
    count = min(len(some) for some in (photos, edited, other_photos) if len(some))
    document: dict[str, Any] = {"features": features_name(judge, width)}
    if count < 2:
        return {**document, "reason": "one face has no distribution"}
    random = np.random.default_rng([seed, 7])
    chosen = random.permutation(len(photos))[:count]
    sets = {
        "edited": edited[random.permutation(len(edited))[:count]],
        "decoded": decoded[chosen],
        "other_photos": other_photos[:count],
    }
    photos = photos[chosen]
    return {
        **document,
        "distance": "Frechet; not comparable with FID on Inception features",
        "n": count,
        **{
            name: round(frechet(photos, some), 4) if len(some) > 1 else None
            for name, some in sets.items()
        },
    }


def against_real(
    judge: Judge, store: PreparedStore, swapped: dict[str, Swapped], seed: int
) -> dict[str, Any]:
    """Edited faces beside real faces that have the asked value, by attribute and direction.

    ``distance`` is the Fréchet distance of edits to such faces (mean of both halves), ``halves``
    that of two halves of these faces with no person in common, all of ``n`` images, and ``ratio``
    the first over the second: 1 is what real faces score. The faces are of all parts of the store,
    less those the judge learnt from.
    """
    unseen = unseen_rows(judge, store)
    random = np.random.default_rng([seed, 9])
    halves: dict[tuple[str, int], tuple[np.ndarray, np.ndarray]] = {}
    for name in swapped:
        label = store.select_labels([name])[unseen, 0]
        for value in (0, 1):
            rows = unseen[np.abs(label - value) <= 0.5 - CLEAR]
            halves[name, value] = _halved(rows, store.identity[rows], random)
    wanted = np.unique(np.concatenate([np.zeros(0, int), *(h for p in halves.values() for h in p)]))
    _, features = judge.see(store.images[wanted])
    attributes: dict[str, Any] = {}
    for name, one in swapped.items():
        attributes[name] = {}
        for value in (0, 1):
            edits = one.features[one.asked == value]
            first, second = (
                features[np.searchsorted(wanted, rows)] for rows in halves[name, value]
            )
            n = min(len(edits), len(first), len(second))
            if n < 2:
                continue
            edits = edits[random.permutation(len(edits))[:n]]
            first, second = first[:n], second[:n]
            distance = (frechet(edits, first) + frechet(edits, second)) / 2
            apart = frechet(first, second)
            attributes[name][f"to_{value}"] = {
                "ratio": round(distance / max(apart, 1e-9), 4),
                "distance": round(distance, 4),
                "halves": round(apart, 4),
                "n": n,
            }
    ratios = [d["ratio"] for entry in attributes.values() for d in entry.values()]
    document: dict[str, Any] = {"features": features_name(judge, features.shape[1])}
    if not ratios:
        return {
            **document,
            "mean": None,
            "reason": "there are no real faces to compare with",
            "attributes": attributes,
        }
    return {
        **document,
        "mean": round(float(np.mean(ratios)), 4),
        "worst": max(ratios),
        "attributes": attributes,
    }


def unseen_rows(judge: Judge, store: PreparedStore) -> np.ndarray:
    """Rows of the store that the judge cannot have learnt from: not of the training part, or of the
    other half of its people."""
    half = {"even": 0, "odd": 1}.get(judge.notes.get("identities") or "")
    other = np.zeros(len(store), bool)
    if half is not None:
        other = (store.identity >= 0) & (store.identity % 2 != half)
    return np.flatnonzero((store.split != TRAIN) | other)


def _halved(
    rows: np.ndarray, people: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Two equally large sets of ``rows``, at most :data:`REAL` in all, that share no person."""
    people = np.where(people < 0, -1 - np.arange(len(rows)), people)
    names, who = np.unique(people, return_inverse=True)
    side = random.random(len(names)) < 0.5
    one, two = (random.permutation(rows[side[who] == half]) for half in (False, True))
    count = min(len(one), len(two), REAL // 2)
    return one[:count], two[:count]


def unlikeness(
    photos: np.ndarray,
    other_photos: np.ndarray,
    decoded: np.ndarray,
    swapped: dict[str, Swapped],
) -> dict[str, Any]:
    """How unlike photos the images are, in the judge's features, in multiples of a photo's own."""
    if len(other_photos) < 2:
        return {"mean": None, "reason": "there are no other photos to compare with"}
    unit = np.median(strangeness(photos, other_photos))

    def of(features: np.ndarray) -> float:
        return round(float(np.median(strangeness(features, other_photos)) / unit), 4)

    attributes = {
        name: {
            f"to_{value}": of(one.features[one.asked == value])
            for value in (0, 1)
            if (one.asked == value).any()
        }
        for name, one in swapped.items()
    }
    values = [v for entry in attributes.values() for v in entry.values()]
    return {
        "mean": round(float(np.mean(values)), 4) if values else None,
        "decoded": of(decoded),
        "attributes": attributes,
    }
