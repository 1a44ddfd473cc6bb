"""The whole evaluation of one model on one split of one data set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from fader.data.store import PreparedStore
from fader.errors import FaderError
from fader.evaluate import leakage, realism
from fader.evaluate.identity import Embedder, Recogniser, find_recogniser, identity
from fader.evaluate.judge import Judge, cautions
from fader.evaluate.pictures import pictures
from fader.evaluate.reconstruction import reconstruction, scales
from fader.evaluate.scores import (
    continuity,
    judge_accuracy,
    kept,
    mean,
    outside_mask,
    plain,
    plain_tree,
    swap_accuracy,
)
from fader.evaluate.statistics import distinct_people
from fader.evaluate.swaps import Faces, score_swaps, slide, swap
from fader.models.model import FaderModel
from fader.progress import Progress

SPLITS = {"train": 0, "valid": 1, "test": 2}

#: Faces moved along the sliders, faces shown, training faces the leakage probe learns from, and
#: photos that say what is usual.
SLID, SHOWN, PROBED, USUAL = 64, 10, 5000, 2000


@dataclass(frozen=True)
class Evaluation:
    """``document`` is what ``fader evaluate --json`` prints (see docs/evaluation.md);
    ``pictures`` are the report's, by title."""

    document: dict[str, Any]
    pictures: dict[str, Image.Image]


def evaluate(
    model: FaderModel,
    judge: Judge,
    store: PreparedStore,
    *,
    name: str,
    split: str = "test",
    limit: int | None = None,
    seed: int = 0,
    embedder: Embedder | None = None,
    progress: bool = True,
) -> Evaluation:
    """Score ``model`` on a split of ``store``, or on ``limit`` random faces of it.

    ``name`` is what the report calls the model. ``embedder`` is for the identity score; without
    one, dlib's is taken where it is installed, and the packaged one where not.

    Raises :class:`FaderError` when the split is empty, or the store's size or labels do not fit
    the model.
    """
    labels = store.select_labels(model.attributes)
    rows, faces, warnings = _take(model, store, labels, split, limit, seed)
    slid, steps = _sample(faces, SLID, [seed, 2]), partial(_steps, shown=progress)
    photo_logits, photo_features = judge.see(faces.images)
    decoded_logits, decoded_features, swapped = swap(model, judge, faces, steps(faces, "swaps"))
    scores = {
        attribute: score_swaps(
            attribute, one, photo_logits, decoded_logits, model, judge, faces, seed
        )
        for attribute, one in swapped.items()
    }
    curves = slide(model, judge, slid, steps(slid, "sliders"), seed)
    quality = reconstruction(model, faces, steps(faces, "reconstruction"), seed)
    other_photos = _other_photos(judge, store, split, seed)
    document = {
        **_about(model, judge, store, faces, name, split, seed),
        "cautions": [*cautions(judge, model), *warnings],
        "swap_accuracy": swap_accuracy(model, judge, faces, swapped, scores, store, rows, seed),
        "other_attributes_kept": kept(scores, model.attributes),
        "outside_mask": outside_mask(scores),
        "continuity": {attribute: continuity(curve) for attribute, curve in curves.items()},
        "reconstruction": {
            **{metric: plain(value) for metric, value in quality.items()},
            "ms_ssim_scales": scales(model.size),
        },
        "leakage": {
            **_leakage(model, store, rows, labels, faces.people, seed),
            "shown": _shown(model, judge, store, faces, labels, seed),
        },
        "identity": _identity(model, embedder, faces, seed),
        "fid": realism.distances(
            judge, photo_features, other_photos, decoded_features, swapped, seed
        ),
        "realism": realism.against_real(judge, store, swapped, seed),
        "strangeness": realism.unlikeness(photo_features, other_photos, decoded_features, swapped),
    }
    document["judge"]["balanced_accuracy"] = judge_accuracy(judge, store, rows, photo_logits, model)
    return Evaluation(document, pictures(model, _sample(faces, SHOWN, [seed, 3])))


def _sample(faces: Faces, count: int, seed: list[int]) -> Faces:
    some = np.sort(np.random.default_rng(seed).permutation(len(faces))[:count])
    return Faces(faces.images[some], faces.labels[some], faces.people[some])


def _steps(faces: Faces, title: str, shown: bool) -> Iterator[slice]:
    """The faces' batches, with a progress."""
    with Progress(len(faces), unit=f"{title}: face", shown=shown) as bar:
        for batch in faces.batches():
            yield batch
            bar.update(batch.stop - batch.start)


def _take(
    model: FaderModel,
    store: PreparedStore,
    labels: np.ndarray,
    split: str,
    limit: int | None,
    seed: int,
) -> tuple[np.ndarray, Faces, list[str]]:
    """The store's rows that are evaluated, their faces, and what makes them worth less."""
    if store.size != model.size:
        raise FaderError(
            f"{store.path}: holds {store.size}-pixel faces, and the model works on {model.size}; "
            f"prepare the source again with --size {model.size}"
        )
    rows = store.indices(SPLITS[split])
    if not len(rows):
        raise FaderError(f"{store.path}: has no {split} images; its partition names none")
    shared = np.intersect1d(store.identity[rows], store.identity[store.indices(0)])
    shared = shared[shared >= 0] if split != "train" else shared[:0]
    if limit is not None and limit < len(rows):
        rows = np.sort(np.random.default_rng([seed, 1]).permutation(rows)[:limit])
    warnings = []
    if len(shared):
        warnings.append(f"{len(shared)} people of this split are also in the training split.")
    if split != "test":
        warnings.append(f"These are {split} faces, not test faces.")
    people = distinct_people(store.identity[rows])
    return rows, Faces(store.images[rows], labels[rows], people), warnings


def _other_photos(judge: Judge, store: PreparedStore, split: str, seed: int) -> np.ndarray:
    """The judge's features of photos that are neither evaluated nor known to it."""
    elsewhere = realism.unseen_rows(judge, store)
    elsewhere = elsewhere[store.split[elsewhere] != SPLITS[split]]
    elsewhere = np.random.default_rng([seed, 6]).permutation(elsewhere)[:USUAL]
    return judge.see(store.images[elsewhere])[1]


def _about(
    model: FaderModel,
    judge: Judge,
    store: PreparedStore,
    faces: Faces,
    name: str,
    split: str,
    seed: int,
) -> dict[str, Any]:
    """What is judged, on what, by whom."""
    return {
        "model": {"name": name, "attributes": list(model.attributes), "size": model.size},
        "data": {
            "path": str(store.path),
            "split": split,
            "faces": len(faces),
            "people": len(np.unique(faces.people)),
            "rejected": int(store.meta.get("rejected", 0)),
            "seed": seed,
        },
        "judge": {
            "name": judge.name,
            "architecture": judge.architecture,
            "seed": judge.notes.get("seed"),
            "identities": judge.notes.get("identities"),
        },
    }


def _leakage(
    model: FaderModel,
    store: PreparedStore,
    rows: np.ndarray,
    labels: np.ndarray,
    people: np.ndarray,
    seed: int,
) -> dict[str, Any]:
    train = np.setdiff1d(store.indices(0), rows)
    train = np.sort(np.random.default_rng([seed, 4]).permutation(train)[:PROBED])
    valid = np.setdiff1d(store.indices(1), rows)
    if len(train) < 2:
        return {"mean": None, "reason": "the data has no training faces to train a probe on"}

    def known(some: np.ndarray) -> tuple[Tensor, np.ndarray]:
        return leakage.latents(model, store.images, some), labels[some]

    held_out = known(valid) if len(valid) else None
    found = leakage.probe(known(train), held_out, known(rows), people, seed)
    return {
        "mean": mean(one.value for one in found),
        "probe": leakage.PROBE,
        "trained_on": len(train),
        "attributes": {name: plain(one) for name, one in zip(model.attributes, found, strict=True)},
    }


def _shown(
    model: FaderModel,
    judge: Judge,
    store: PreparedStore,
    faces: Faces,
    labels: np.ndarray,
    seed: int,
) -> dict[str, Any]:
    train = store.indices(0)
    neutral = labels[train if len(train) else slice(None)].mean(axis=0)
    found = leakage.shown(model, judge, faces, neutral, seed)
    return {
        "mean": mean(one.value for one in found.values()),
        "attributes": {name: plain(one) for name, one in found.items()},
    }


def _identity(
    model: FaderModel, embedder: Embedder | None, faces: Faces, seed: int
) -> dict[str, Any]:
    recogniser = Recogniser("given by the caller", embedder) if embedder else find_recogniser()
    found = identity(model, recogniser, faces, seed)
    entries = [entry["similarity"].value for entry in found["attributes"].values()]
    return {
        "mean": mean(entries),
        "embedder": recogniser.name,
        "verification": recogniser.verification,
        **{key: plain_tree(value) for key, value in found.items()},
    }
