"""How far edited faces are from photos, in the judge's features."""

from __future__ import annotations

from typing import Any

import numpy as np

from fader.data.annotations import SPLIT_NAMES, TRAIN
from fader.evaluate.case import Case
from fader.evaluate.editing import CLEAR
from fader.evaluate.scores import mean, plain
from fader.evaluate.statistics import distinct_people, frechet, strangeness
from fader.evaluate.swaps import Swapped

#: Photos that say what is usual, at most.
USUAL = 2000
#: Real faces of one value that edits are compared with, at most; half of them are the edits' equal.
REAL = 1000


def unfamiliarity(
    case: Case, photos: np.ndarray, decoded: np.ndarray, swapped: dict[str, Swapped]
) -> dict[str, Any]:
    """``fid``, ``realism`` and ``strangeness`` of the document: of the edits and, for comparison,
    of decodings and of photos that are neither evaluated nor known to the judge; ``photos`` and
    ``decoded`` are features (N, C)."""
    elsewhere = _unseen_rows(case)
    elsewhere = elsewhere[case.store.split[elsewhere] != SPLIT_NAMES.index(case.split)]
    elsewhere = np.random.default_rng([case.seed, 6]).permutation(elsewhere)[:USUAL]
    _, others = case.judge.see(case.store.images[elsewhere])
    # Distances are never given without what they are measured on.
    on = f"pooled features of the judge ({case.judge.architecture}), {photos.shape[1]}-d"
    return {
        "fid": {"features": on, **_distances(case.seed, photos, others, decoded, swapped)},
        "realism": {"features": on, **_against_real(case, swapped)},
        "strangeness": _strangeness(photos, others, decoded, swapped),
    }


def _distances(
    seed: int,
    photos: np.ndarray,
    others: np.ndarray,
    decoded: np.ndarray,
    swapped: dict[str, Swapped],
) -> dict[str, Any]:
    """Fréchet distances to the photos (N, C), all of equally many images: of edited faces, of
    decodings, and of other photos, which is as low as it gets."""
    edited = np.concatenate([photos[:0], *(one.features for one in swapped.values())])
    count = min(len(some) for some in (photos, edited, others) if len(some))
    if count < 2:
        return {"reason": "one face has no distribution"}
    random = np.random.default_rng([seed, 7])
    chosen = random.permutation(len(photos))[:count]
    sets = {
        "edited": edited[random.permutation(len(edited))[:count]],
        "decoded": decoded[chosen],
        "other_photos": others[:count],
    }
    return {
        "distance": "Frechet; not comparable with FID on Inception features",
        "n": count,
        **{k: frechet(photos[chosen], v) if len(v) > 1 else None for k, v in sets.items()},
    }


def _against_real(case: Case, swapped: dict[str, Swapped]) -> dict[str, Any]:
    """Edited faces beside real faces that have the asked value, which the judge has not learnt
    from: ``distance`` is their Fréchet distance (mean of both halves), ``halves`` that of two
    halves of the real ones with no person in common, all of ``n`` images."""
    unseen = _unseen_rows(case)
    random = np.random.default_rng([case.seed, 9])
    halves: dict[tuple[str, int], tuple[np.ndarray, np.ndarray]] = {}
    for name in swapped:
        label = case.store.select_labels([name])[unseen, 0]
        for value in (0, 1):
            rows = unseen[np.abs(label - value) <= 0.5 - CLEAR]
            halves[name, value] = _halved(rows, case.store.identity[rows], random)
    wanted = np.unique(np.concatenate([unseen[:0], *(h for pair in halves.values() for h in pair)]))
    _, features = case.judge.see(case.store.images[wanted])
    attributes: dict[str, Any] = {name: {} for name in swapped}
    for name, one in swapped.items():
        for value, part in one.sides():
            first, second = (features[np.searchsorted(wanted, h)] for h in halves[name, value])
            n = min(len(part.rows), len(first), len(second))
            if n < 2:
                continue
            edits = part.features[random.permutation(len(part.rows))[:n]]
            first, second = first[:n], second[:n]
            distance = (frechet(edits, first) + frechet(edits, second)) / 2
            apart = frechet(first, second)
            ratio = distance / max(apart, 1e-9)
            entry = {"ratio": ratio, "distance": distance, "halves": apart, "n": n}
            attributes[name][f"to_{value}"] = plain(entry)
    ratios = [d["ratio"] for entry in attributes.values() for d in entry.values()]
    more: dict[str, Any] = {"reason": "too few faces, edited or real, to compare"}
    if ratios:
        more = {"worst": max(ratios)}
    return {"mean": mean(ratios), **more, "attributes": attributes}


def _unseen_rows(case: Case) -> np.ndarray:
    """Rows of the store that the judge cannot have learnt from: not of the training part, or of the
    other half of its people."""
    identity, unseen = case.store.identity, case.store.split != TRAIN
    half = {"even": 0, "odd": 1}.get(case.judge.notes.get("identities") or "")
    if half is not None:
        unseen |= (identity >= 0) & (identity % 2 != half)
    return np.flatnonzero(unseen)


def _halved(
    rows: np.ndarray, identity: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Two equally large sets of ``rows``, at most :data:`REAL` in all, that share no person."""
    names, who = np.unique(distinct_people(identity), return_inverse=True)
    side = random.random(len(names)) < 0.5
    one, two = (random.permutation(rows[side[who] == half]) for half in (False, True))
    count = min(len(one), len(two), REAL // 2)
    return one[:count], two[:count]


def _strangeness(
    photos: np.ndarray, others: np.ndarray, decoded: np.ndarray, swapped: dict[str, Swapped]
) -> dict[str, Any]:
    """How unlike photos the images are, in the judge's features, in multiples of a photo's own."""
    if len(others) < 2:
        return {"mean": None, "reason": "there are no other photos to compare with"}
    unit = np.median(strangeness(photos, others))

    def of(features: np.ndarray) -> float:
        return round(float(np.median(strangeness(features, others)) / unit), 4)

    attributes = {
        name: {f"to_{value}": of(part.features) for value, part in one.sides()}
        for name, one in swapped.items()
    }
    every = (value for entry in attributes.values() for value in entry.values())
    return {"mean": mean(every), "decoded": of(decoded), "attributes": attributes}
