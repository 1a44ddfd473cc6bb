"""The whole evaluation of one model on one split of one data set."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from fader.data.batches import to_images, to_tensor
from fader.data.prepared import PreparedStore
from fader.errors import FaderError
from fader.evaluate import leakage
from fader.evaluate.identity import Embedder, find_embedder, identity
from fader.evaluate.judge import Judge, cautions
from fader.evaluate.reconstruction import reconstruction, scales
from fader.evaluate.statistics import (
    balanced_accuracy,
    distinct_people,
    estimate,
    frechet,
    strangeness,
)
from fader.evaluate.swaps import (
    Continuity,
    Faces,
    Swapped,
    SwapScore,
    device_of,
    other_side,
    paste,
    score_swaps,
    slide,
    swap,
)
from fader.models.io import FaderModel
from fader.train.samples import sample_grid, with_titles

SPLITS = {"train": 0, "valid": 1, "test": 2}

#: Faces moved along the sliders, faces shown, training faces the leakage probe learns from, and
#: photos that say what is usual.
SLID, SHOWN, PROBED, USUAL = 64, 10, 5000, 2000

#: Attributes whose two sides are also scored apart.
GROUPS = ("Male", "Young")

# What a pixel grid shows of a slider.
_SHOWN_POSITIONS = (-1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0)


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
    one, dlib's is taken where it is installed.

    Raises :class:`FaderError` when the split is empty, or the store's size or labels do not fit
    the model.
    """
    if store.size != model.size:
        raise FaderError(
            f"{store.path}: holds {store.size}-pixel faces, and the model works on {model.size}; "
            f"prepare the source again with --size {model.size}"
        )
    rows = store.indices(SPLITS[split])
    if not len(rows):
        raise FaderError(f"{store.path}: has no {split} images; its partition names none")
    labels = store.select_labels(model.attributes)
    shared = np.intersect1d(store.identity[rows], store.identity[store.indices(0)])
    shared = shared[shared >= 0] if split != "train" else shared[:0]
    if limit is not None and limit < len(rows):
        rows = np.sort(np.random.default_rng([seed, 1]).permutation(rows)[:limit])
    people = distinct_people(store.identity[rows])
    faces = Faces(store.images[rows], labels[rows], people)

    def sample(count: int, stream: int) -> Faces:
        some = np.sort(np.random.default_rng([seed, stream]).permutation(len(faces))[:count])
        return Faces(faces.images[some], faces.labels[some], faces.people[some])

    def steps(of: Faces, title: str) -> Any:
        return tqdm(list(of.batches()), desc=title, disable=None if progress else True)

    photo_logits, photo_features = judge.see(faces.images)
    decoded_logits, decoded_features, swapped = swap(model, judge, faces, steps(faces, "swaps"))
    scores = {
        attribute: score_swaps(
            attribute, one, photo_logits, decoded_logits, model, judge, faces, seed
        )
        for attribute, one in swapped.items()
    }
    slid = sample(SLID, 2)
    curves = slide(model, judge, slid, steps(slid, "sliders"), seed)
    quality = reconstruction(model, faces, steps(faces, "reconstruction"), seed)

    elsewhere = np.flatnonzero(store.split != SPLITS[split])
    elsewhere = np.random.default_rng([seed, 6]).permutation(elsewhere)[:USUAL]
    _, other_photos = judge.see(store.images[elsewhere])

    warnings = cautions(judge, model)
    if len(shared):
        warnings.append(f"{len(shared)} people of this split are also in the training split.")
    if split != "test":
        warnings.append(f"These are {split} faces, not test faces.")
    document = {
        "model": {"name": name, "attributes": list(model.attributes), "size": model.size},
        "data": {
            "path": str(store.path),
            "split": split,
            "faces": len(faces),
            "people": len(np.unique(people)),
            "seed": seed,
        },
        "judge": {
            "name": judge.name,
            "architecture": judge.architecture,
            "seed": judge.notes.get("seed"),
            "identities": judge.notes.get("identities"),
            "balanced_accuracy": _judge_accuracy(judge, store, rows, photo_logits, model),
        },
        "cautions": warnings,
        "swap_accuracy": _swap_accuracy(model, judge, faces, swapped, scores, store, rows, seed),
        "other_attributes_kept": _kept(scores, model.attributes),
        "continuity": {attribute: _continuity(curve) for attribute, curve in curves.items()},
        "reconstruction": {
            **{metric: _plain(value) for metric, value in quality.items()},
            "ms_ssim_scales": scales(model.size),
        },
        "leakage": {
            **_leakage(model, store, rows, labels, people, seed),
            "shown": _shown(model, judge, store, faces, labels, seed),
        },
        "identity": _identity(model, embedder, faces, seed),
        "fid": _distances(judge, photo_features, other_photos, decoded_features, swapped),
        "strangeness": _strangeness(photo_features, other_photos, decoded_features, swapped),
    }
    return Evaluation(document, _pictures(model, sample(SHOWN, 3)))


def _judge_accuracy(
    judge: Judge, store: PreparedStore, rows: np.ndarray, logits: np.ndarray, model: FaderModel
) -> dict[str, float]:
    """The judge's own balanced accuracy on the very faces evaluated."""
    known = [name for name in model.attributes if name in judge.attributes]
    truth = store.select_labels(known)[rows] > 0.5 if known else np.zeros((len(rows), 0), bool)
    return {
        name: round(balanced_accuracy(logits[:, judge.attributes.index(name)] > 0, true), 4)
        for name, true in zip(known, truth.T, strict=True)
    }


def _swap_accuracy(
    model: FaderModel,
    judge: Judge,
    faces: Faces,
    swapped: dict[str, Swapped],
    scores: dict[str, dict[str, SwapScore]],
    store: PreparedStore,
    rows: np.ndarray,
    seed: int,
) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    for name in model.attributes:
        if name not in scores:
            attributes[name] = None
            continue
        one, seen = swapped[name], judge.attributes.index(name)

        def both(logits: np.ndarray, chosen: Any = slice(None), one: Swapped = one) -> Any:
            hits = (logits > 0) == one.asked
            people = faces.people[one.rows]
            found = estimate(hits[chosen], people[chosen], one.asked[chosen], seed=seed)
            return _plain(found)

        views = {"accuracy": one.logits[:, seen], "blurred": one.blurred, "pasted": one.pasted}
        groups = {}
        for group in GROUPS:
            if group == name or group not in store.attribute_names:
                continue
            label = store.select_labels([group])[rows[one.rows], 0]
            clear, other = other_side(label)
            for value in (0, 1):
                chosen = clear & (other != value)
                if chosen.any():
                    groups[f"{group}={value}"] = both(views["accuracy"], chosen)
        attributes[name] = {
            **{
                direction: {
                    "value": round(score.accuracy.value, 4),
                    "low": round(score.accuracy.low, 4),
                    "high": round(score.accuracy.high, 4),
                    "n": score.accuracy.n,
                    "blurred": _plain(score.blurred),
                    "pasted": _plain(score.pasted),
                    "before": round(score.before, 4),
                    "judge_accuracy": _rounded(score.judge),
                }
                for direction, score in scores[name].items()
            },
            "mean": {view: both(logits) for view, logits in views.items()},
            "groups": groups,
        }
    found = [entry["mean"] for entry in attributes.values() if entry]
    return {
        "mean": _mean(entry["accuracy"]["value"] for entry in found),
        "mean_blurred": _mean(entry["blurred"]["value"] for entry in found),
        "mean_pasted": _mean(entry["pasted"]["value"] for entry in found),
        "attributes": attributes,
    }


def _kept(scores: dict[str, dict[str, SwapScore]], attributes: tuple[str, ...]) -> dict[str, Any]:
    entries = {
        name: {
            direction: {
                **_plain(score.kept),
                "moved": _rounded(score.moved),
                "side_effects": {k: round(v, 4) for k, v in score.side_effects.items()},
            }
            for direction, score in scores[name].items()
            if score.kept is not None
        }
        or None
        for name in attributes
        if name in scores
    }
    values = [d["value"] for entry in entries.values() if entry for d in entry.values()]
    return {"mean": _mean(values), "attributes": entries}


def _continuity(curve: Continuity) -> dict[str, Any]:
    return {
        "positions": curve.positions,
        "probability": [round(v, 4) for v in curve.probability],
        "low": [round(v, 4) for v in curve.low],
        "high": [round(v, 4) for v in curve.high],
        "spearman": _plain(curve.spearman),
        "monotone": _plain(curve.monotone),
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
    pairs = [
        (leakage.latents(model, store.images, some), labels[some]) if len(some) else None
        for some in (train, valid, rows)
    ]
    found = leakage.probe(*pairs, people, seed)
    return {
        "mean": _mean(one.value for one in found),
        "probe": leakage.PROBE,
        "trained_on": len(train),
        "attributes": {
            name: _plain(one) for name, one in zip(model.attributes, found, strict=True)
        },
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
        "mean": _mean(one.value for one in found.values()),
        "attributes": {name: _plain(one) for name, one in found.items()},
    }


def _identity(
    model: FaderModel, embedder: Embedder | None, faces: Faces, seed: int
) -> dict[str, Any]:
    description = "given by the caller"
    if embedder is None:
        embedder, description = find_embedder()
    if embedder is None:
        return {"mean": None, "reason": description}
    found = identity(model, embedder, faces, seed)
    entries = [entry["similarity"].value for entry in found["attributes"].values()]
    document = {key: _plain_tree(value) for key, value in found.items()}
    return {"mean": _mean(entries), "embedder": description, **document}


def _distances(
    judge: Judge,
    photos: np.ndarray,
    other_photos: np.ndarray,
    decoded: np.ndarray,
    swapped: dict[str, Swapped],
) -> dict[str, Any]:
    """Fréchet distances to the photos, in the judge's features; the floor is what as many other
    photos have."""
    count, width = photos.shape
    features = f"pooled features of the judge ({judge.architecture}), {width}-d"
    if count < 2:
        return {"features": features, "reason": "one face has no distribution"}
    edited = np.concatenate([np.zeros((0, width)), *(one.features for one in swapped.values())])
    edited = edited[np.random.default_rng(7).permutation(len(edited))[:count]]
    sets = {"edited": edited, "decoded": decoded, "other_photos": other_photos[:count]}
    return {
        "features": features,
        "distance": "Frechet; not comparable with FID on Inception features",
        "n": count,
        **{
            name: round(frechet(photos, some), 4) if len(some) > 1 else None
            for name, some in sets.items()
        },
    }


def _strangeness(
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
    return {
        "mean": _mean(v for entry in attributes.values() for v in entry.values()),
        "decoded": of(decoded),
        "attributes": attributes,
    }


# Pictures for the report


@torch.inference_mode()
def _pictures(model: FaderModel, faces: Faces) -> dict[str, Image.Image]:
    device = device_of(model)
    x, y = to_tensor(faces.images).to(device), torch.from_numpy(faces.labels).to(device)
    features = model.encode(x)
    unedited = model.decode(features, y)
    before = to_images(unedited)
    columns = [faces.images]
    for i in range(len(model.attributes)):
        asked = y.clone()
        asked[:, i] = (y[:, i] <= 0.5).to(y.dtype)
        edited = to_images(model.decode(features, asked, y, unedited))
        columns.append(paste(faces.images, before, edited, model.tinted(asked, y)))
    pictures = {
        "Decoded, as scored: photo, decoding, and each attribute at its other side": sample_grid(
            model, x, y
        ),
        "Pasted, as the editor composes it: photo, and each attribute at its other side": (
            with_titles(_sheet(columns), ["photo", *model.attributes], model.size)
        ),
    }
    for row in range(min(2, len(faces))):
        sheet, code = [], [f[row : row + 1] for f in features]
        for position in _SHOWN_POSITIONS:
            values = y[row].repeat(len(model.attributes), 1)
            values.fill_diagonal_(position)
            sheet.append(to_images(model.decode(code, values, y[row : row + 1])))
        titles = [f"{position:g}" for position in _SHOWN_POSITIONS]
        names = ", ".join(model.attributes)
        pictures[f"Sliders of face {row + 1}; from above: {names}"] = with_titles(
            _sheet(sheet), titles, model.size
        )
    return pictures


def _sheet(columns: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.concatenate(list(column), axis=0) for column in columns], axis=1)


# Numbers for JSON


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _mean(values: Any) -> float | None:
    values = list(values)
    return round(float(np.mean(values)), 4) if values else None


def _plain(value: Any) -> dict[str, Any]:
    return {key: round(number, 4) for key, number in asdict(value).items()}


def _plain_tree(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain_tree(inner) for key, inner in value.items()}
    return _plain(value)
