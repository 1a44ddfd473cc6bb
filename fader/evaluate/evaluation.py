"""The whole evaluation of one model on one split of one data set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from fader.data.annotations import SPLIT_NAMES, TRAIN
from fader.data.store import PreparedStore
from fader.errors import FaderError
from fader.evaluate.case import Case, Faces, draw
from fader.evaluate.editing import pictures
from fader.evaluate.identity import Embedder, Recogniser, find_recogniser, identity
from fader.evaluate.judge import Judge, cautions
from fader.evaluate.leakage import leakage
from fader.evaluate.realism import unfamiliarity
from fader.evaluate.reconstruction import reconstruction
from fader.evaluate.scores import judge_accuracy, mean, plain, score_swaps
from fader.evaluate.statistics import distinct_people
from fader.evaluate.swaps import slide, swap
from fader.models.model import FaderModel
from fader.words import plural

#: Faces moved along the sliders, and faces shown.
SLID, SHOWN = 64, 10


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
    """Score ``model`` on a split of ``store``, or on ``limit`` random faces of it. ``name`` is what
    the report calls the model. ``embedder`` is for the identity score; without one, dlib's is taken
    where it is installed, else the packaged one. Raises :class:`FaderError` when the split is
    empty, or the store's size or labels do not fit the model."""
    case, warnings = _take(model, judge, store, split, limit, seed, progress)
    faces = case.faces
    slid, shown = (faces.take(draw(len(faces), n, seed, k)) for n, k in ((SLID, 2), (SHOWN, 3)))
    photo_logits, photo_features = judge.see(faces.images)
    decoded_logits, decoded_features, swapped = swap(case)
    document = {
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
            "balanced_accuracy": judge_accuracy(case, photo_logits),
        },
        "cautions": [*cautions(judge, model), *warnings],
        **score_swaps(case, swapped, photo_logits, decoded_logits),
        "continuity": slide(replace(case, faces=slid)),
        "reconstruction": reconstruction(case),
        "leakage": leakage(case),
        "identity": _identity(model, embedder, faces, seed),
        **unfamiliarity(case, photo_features, decoded_features, swapped),
    }
    return Evaluation(plain(document), pictures(model, shown))


def _take(
    model: FaderModel,
    judge: Judge,
    store: PreparedStore,
    split: str,
    limit: int | None,
    seed: int,
    shown: bool,
) -> tuple[Case, list[str]]:
    """What is evaluated, and what makes it worth less."""
    labels = store.select_labels(model.attributes)
    if store.size != model.size:
        raise FaderError(
            f"{store.path}: holds {store.size}-pixel faces, and the model works on {model.size}; "
            f"prepare the source again with --size {model.size}"
        )
    rows = store.indices(SPLIT_NAMES.index(split))
    if not len(rows):
        raise FaderError(f"{store.path}: has no {split} images; its partition names none")
    shared = np.intersect1d(store.identity[rows], store.identity[store.indices(TRAIN)])
    shared = shared[shared >= 0] if split != "train" else shared[:0]
    warnings = []
    if len(shared):
        who = plural(len(shared), "person of this split is", "people of this split are")
        warnings.append(f"{who} also in the training split.")
    if split != "test":
        warnings.append(f"These are {split} faces, not test faces.")
    rows = draw(rows, limit, seed, 1)
    faces = Faces(store.images[rows], labels[rows], distinct_people(store.identity[rows]))
    return Case(model, judge, store, split, rows, labels, faces, seed, shown), warnings


def _identity(
    model: FaderModel, embedder: Embedder | None, faces: Faces, seed: int
) -> dict[str, Any]:
    recogniser = Recogniser("given by the caller", embedder) if embedder else find_recogniser()
    found = identity(model, recogniser, faces, seed)
    return {
        "mean": mean(entry["similarity"].value for entry in found["attributes"].values()),
        "embedder": recogniser.name,
        "verification": recogniser.verification,
        **found,
    }
