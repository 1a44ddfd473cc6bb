"""The whole evaluation of one generator against one set of real pictures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from cgan.data import ImageSet
from cgan.evaluate.features import FeatureSpace
from cgan.evaluate.labels import LabelJudge
from cgan.evaluate.metrics import (
    Bins,
    Collapse,
    Memory,
    collapse,
    frechet,
    kid,
    manifolds,
    memory,
    nearest,
    pixels,
    repeat_distance,
    similarity,
    spread,
)
from cgan.networks import Generator
from cgan.pictures import grid
from fader.data.batches import to_images, to_tensor
from fader.errors import FaderError
from fader.evaluate.statistics import Estimate, estimate

#: Samples for each class or combination of attributes, and of the latter so many at most.
PER_GROUP, GROUPS = 100, 16

#: Held-out pictures that make a second column; with fewer the training ones are halved.
ENOUGH = 100

#: Pictures on each side below which all distances are called rough.
ROUGH = 500

#: Collapse scores from which on one speaks of a partial, and of a full collapse.
PARTIAL, FULL = 0.25, 0.5

# Real pictures a group needs to be compared with, and for the judge to be scored on it; pictures
# looked at together for features; and what the report shows: a grid's side, samples beside their
# nearest, faces by label.
_ENOUGH_IN_GROUP, _ENOUGH_TO_JUDGE, _CHUNK, _GRID, _BESIDE, _BY_LABEL = 30, 5, 256, 8, 12, 10


@dataclass(frozen=True)
class Evaluation:
    """``document`` is what ``cgan evaluate --json`` prints (see docs/cgan-evaluation.md);
    ``pictures`` are the report's, by title."""

    document: dict[str, Any]
    pictures: dict[str, Image.Image]


@dataclass(frozen=True, eq=False)
class Reals:
    """The real pictures, seen once; any number of generators can be compared with them.

    All are rows of ``images`` with their features in ``space``. ``reference``: what samples are
    compared with. ``others``: as different from it as real pictures are, the scale to read a
    generator's scores by; ``held_out`` says whether they are outside the training ones, or the
    other half of these. ``training``: what the generator learnt from.
    """

    images: ImageSet
    space: FeatureSpace
    reference: np.ndarray
    others: np.ndarray
    held_out: bool
    training: np.ndarray
    reference_features: np.ndarray
    others_features: np.ndarray
    training_features: np.ndarray

    @classmethod
    def seen(
        cls,
        images: ImageSet,
        space: FeatureSpace,
        *,
        limit: int = 2000,
        seed: int = 0,
        progress: bool = True,
    ) -> Reals:
        """Look at the training and the held-out pictures of a set.

        ``limit``: so many of each are compared with at most; among the training ones a sample's
        nearest is looked for in all.
        """
        random = np.random.default_rng([seed, 31])
        training = images.indices(0)
        others = random.permutation(np.flatnonzero(images.split != 0))
        held_out = len(others) >= min(ENOUGH, len(training) // 2)
        shuffled = random.permutation(training)
        if not held_out:
            middle = len(shuffled) // 2
            shuffled, others = shuffled[:middle], shuffled[middle:]
        reference, others = shuffled[:limit], others[:limit]

        features = np.zeros((len(images), 0), np.float32)
        wanted = np.union1d(training, others)
        chunks = np.array_split(wanted, -(-len(wanted) // _CHUNK))
        for chunk in tqdm(chunks, desc="real pictures", disable=None if progress else True):
            found = space.see(images.images[chunk])
            if not features.size:
                features = np.zeros((len(images), found.shape[1]), np.float32)
            features[chunk] = found
        return cls(
            images=images,
            space=space,
            reference=reference,
            others=others,
            held_out=held_out,
            training=training,
            reference_features=features[reference],
            others_features=features[others],
            training_features=features[training],
        )

    def trained_on(self, rows: np.ndarray) -> Reals:
        """The same for a generator that learnt from these of the training rows alone."""
        chosen = np.isin(self.training, rows)
        return replace(
            self, training=self.training[chosen], training_features=self.training_features[chosen]
        )

    def pictures(self, rows: np.ndarray) -> np.ndarray:
        """The pictures of any rows, in their order."""
        # What is memory-mapped is read in rising order.
        order = np.argsort(rows)
        pictures = self.images.images[rows[order]]
        return pictures[np.argsort(order)]


def evaluate(
    generator: Generator,
    reals: Reals,
    judge: LabelJudge | None = None,
    *,
    name: str,
    data: str,
    n: int = 2000,
    seed: int = 0,
    truncation: float = 1.0,
    learnt_from: int | None = None,
    progress: bool = True,
) -> Evaluation:
    """Score ``n`` samples of ``generator``, with labels as frequent as in the training pictures.

    ``name`` and ``data`` are what the report calls them. Without ``judge`` labels are not scored.
    ``learnt_from`` is how many images the generator says it was trained on; another number than
    there are training pictures is remarked upon.

    Raises :class:`FaderError` when the pictures do not fit the generator, or ``n`` is below 2.
    """
    config = generator.config
    images = reals.images
    if (images.size, images.channels) != (config.size, config.channels):
        raise FaderError(
            f"{data}: opened as {images.size} pixels with {images.channels} channels, and the "
            f"generator draws {config.size} with {config.channels}"
        )
    if images.label_names != generator.label_names:
        raise FaderError(
            f"{data}: its labels are {_listed(images.label_names)}, and the generator's are "
            f"{_listed(generator.label_names)}"
        )
    if n < 2:
        raise FaderError(f"{n} samples have no distribution; take 100 or more")

    random = np.random.default_rng([seed, 32])
    drawn = images.labels[random.choice(images.indices(0), n)]
    samples = _sample(generator, n, seed, drawn, truncation, progress)
    features = _features(reals.space, samples)

    count = min(n, len(reals.reference), len(reals.others))
    reference = reals.pictures(reals.reference[:count])
    others = reals.pictures(reals.others[:count])
    bins = Bins.of(reference, seed)
    real_spread = spread(reals.reference_features[:count])
    near = repeat_distance(reals.reference_features[:count])
    filled_by_real = bins.compare(others)

    def column(points: np.ndarray, pictures: np.ndarray) -> dict[str, Any]:
        real = reals.reference_features[:count]
        filled = bins.compare(pictures)
        alike = similarity(pictures, seed)
        return {
            "frechet": _rounded(frechet(real, points)),
            "kid": _kid(real, points, seed),
            **{key: _plain(value) for key, value in vars(manifolds(real, points, seed)).items()},
            "spread": _rounded(spread(points)),
            "ms_ssim": _plain(alike),
            "bins": {key: _rounded(value) for key, value in asdict(filled).items()},
            "collapse": _collapse(collapse(points, real_spread, near, filled, filled_by_real)),
        }

    scores = {
        "generated": column(features[:count], samples[:count]),
        "real": column(reals.others_features[:count], others),
    }
    in_features, in_pixels = _memories(reals, samples, features, seed)
    labels = None
    if judge is not None:
        labels = _labels(generator, reals, judge, min(n, PER_GROUP), seed, truncation, progress)
    document = {
        "model": {
            "name": name,
            "labels": list(generator.label_names),
            "label_kind": generator.label_kind,
            "size": config.size,
            "channels": config.channels,
            "truncation": truncation,
        },
        "data": {
            "path": data,
            "training": len(reals.training),
            "held_out": len(reals.others) if reals.held_out else 0,
            "rejected": len(reals.images.rejected),
            "samples": n,
            "compared": count,
            "real": _REAL[reals.held_out],
            "seed": seed,
        },
        "features": {
            "name": reals.space.name,
            "title": reals.space.title,
            "description": reals.space.description,
            "distance": reals.space.distance,
        },
        "cautions": _cautions(reals, count, judge, generator, truncation, learnt_from),
        "scores": scores,
        "memory": {
            "features": _memory(in_features),
            "pixels": _memory(in_pixels),
            "usual": "held-out pictures" if reals.held_out else "training pictures, among the rest",
        },
        "labels": labels,
    }
    pictures = _pictures(generator, reals, samples, in_features, in_pixels, seed, truncation)
    return Evaluation(document, pictures)


_REAL = {True: "held-out pictures", False: "the other half of the training pictures"}


def _sample(
    generator: Generator,
    n: int,
    seed: int,
    labels: np.ndarray,
    truncation: float,
    progress: bool = False,
) -> np.ndarray:
    """n samples as pictures, n×S×S×C uint8; labels (n, k)."""
    latents = generator.latents(n, seed) * truncation
    labels = torch.from_numpy(np.ascontiguousarray(labels, np.float32))
    parts = []
    starts = range(0, n, _CHUNK)
    for start in tqdm(starts, desc="samples", disable=None if progress else True):
        some = slice(start, start + _CHUNK)
        parts.append(to_images(generator.render(latents[some], labels[some])))
    return np.concatenate(parts)


def _features(space: FeatureSpace, pictures: np.ndarray) -> np.ndarray:
    chunks = [pictures[i : i + _CHUNK] for i in range(0, len(pictures), _CHUNK)]
    return np.concatenate([space.see(chunk) for chunk in chunks])


def _memories(
    reals: Reals, samples: np.ndarray, features: np.ndarray, seed: int
) -> tuple[Memory, Memory]:
    """What samples share with training pictures: in features, and in pixels, also turned over."""
    in_features = memory(
        features,
        reals.training_features,
        reals.others_features if reals.held_out else None,
        seed=seed,
    )
    chunks = np.array_split(reals.training, -(-len(reals.training) // _CHUNK))
    training = np.concatenate([pixels(reals.images.images[chunk]) for chunk in chunks])
    held_out = reals.pictures(reals.others) if reals.held_out else None
    in_pixels = memory(
        pixels(samples),
        training,
        None if held_out is None else pixels(held_out),
        mirrored=pixels(samples[:, :, ::-1]),
        mirrored_held_out=None if held_out is None else pixels(held_out[:, :, ::-1]),
        seed=seed,
    )
    return in_features, in_pixels


# ---------------------------------------------------------------- labels


def _labels(
    generator: Generator,
    reals: Reals,
    judge: LabelJudge,
    per_group: int,
    seed: int,
    truncation: float,
    progress: bool,
) -> dict[str, Any]:
    """Whether samples show what they were asked for, beside the judge's own hits on real ones."""
    images = reals.images
    known = [i for i, label in enumerate(generator.label_names) if label in judge.names]
    columns = [judge.names.index(generator.label_names[i]) for i in known]
    rows = np.random.default_rng([seed, 33]).permutation(judge.scored_on)[:2000]
    truth = images.labels[rows] > 0.5
    told_of_real = judge.see(reals.pictures(rows))[:, columns]

    groups = _groups(images.labels[images.indices(0)] > 0.5, generator)
    asked = np.repeat(list(groups.values()), per_group, axis=0)
    samples = _sample(generator, len(asked), seed + 1, asked, truncation, progress)
    told = judge.see(samples)[:, columns]
    features = _features(reals.space, samples)

    entries = {}
    training_labels = images.labels[reals.training] > 0.5
    for number, (group, values) in enumerate(groups.items()):
        some = slice(number * per_group, (number + 1) * per_group)
        right = (told[some] == asked[some][:, known]).all(axis=1)
        of_group = (truth == values).all(axis=1)
        judged = (told_of_real[of_group] == truth[of_group][:, known]).all(axis=1)
        entry: dict[str, Any] = {
            "right": _plain(estimate(right, np.arange(per_group), seed=seed)),
            "judge": _rounded(judged.mean()) if len(judged) >= _ENOUGH_TO_JUDGE else None,
            "real": int((training_labels == values).all(axis=1).sum()),
        }
        real = reals.training_features[(training_labels == values).all(axis=1)][:2000]
        if len(real) >= _ENOUGH_IN_GROUP:
            entry |= {
                "kid": _kid(real, features[some], seed),
                "variety": _rounded(spread(features[some]) / max(spread(real), 1e-12)),
                "repeats": _repeated(features[some], real),
            }
        if judge.kind == "classes":
            shares = told[some].mean(axis=0)
            entry["taken_for"] = {
                generator.label_names[i]: _rounded(share)
                for i, share in zip(known, shares, strict=True)
                if share > 0
            }
        entries[group] = entry

    document: dict[str, Any] = {
        "judge": {
            "name": judge.judge.name,
            "architecture": judge.judge.architecture,
            "seed": judge.judge.notes.get("seed"),
            "scored_on": len(rows),
        },
        "kind": judge.kind,
        "chance": _rounded(1 / max(1, len(known))) if judge.kind == "classes" else 0.5,
        "per_group": per_group,
        "groups": entries,
    }
    if judge.kind == "classes":
        of_sample, of_real = (some.argmax(axis=1) for some in (asked, truth))
        hits, real_hits = (told == asked).all(axis=1), (told_of_real == truth).all(axis=1)
        document["accuracy"] = _plain(_balanced(hits, of_sample, seed))
        document["judge"]["accuracy"] = _plain(_balanced(real_hits, of_real, seed))
        return document
    document["attributes"] = {}
    for column, i in enumerate(known):
        sides = {}
        for value in (False, True):
            chosen, real = asked[:, i] == value, truth[:, i] == value
            hits = told[chosen, column] == value
            own = told_of_real[real, column] == value
            sides[str(int(value))] = {
                **(_plain(estimate(hits, np.arange(len(hits)), seed=seed)) or {"value": None}),
                "judge": _rounded(own.mean()) if len(own) >= _ENOUGH_TO_JUDGE else None,
            }
        document["attributes"][generator.label_names[i]] = sides
    # Attributes weigh alike, and so do the two sides of each.
    for place, (guesses, right) in {
        "generated": (told, asked[:, known]),
        "judge": (told_of_real, truth[:, known]),
    }.items():
        sides = right + 2 * np.arange(len(known))
        people = np.repeat(np.arange(len(right)), len(known))
        found = _plain(estimate((guesses == right).ravel(), people, sides.ravel(), seed=seed))
        if place == "generated":
            document["accuracy"] = found
        else:
            document["judge"]["accuracy"] = found
    return document


def _groups(labels: np.ndarray, generator: Generator) -> dict[str, np.ndarray]:
    """Name → label values (k,) bool: the classes, or the most frequent combinations."""
    names = generator.label_names
    if generator.label_kind == "classes":
        return dict(zip(names, np.eye(len(names), dtype=bool), strict=True))
    combinations, counts = np.unique(labels, axis=0, return_counts=True)
    order = np.sort(np.argsort(-counts, kind="stable")[:GROUPS])
    return {
        ",".join(f"{name}={int(v)}" for name, v in zip(names, values, strict=True)): values
        for values in combinations[order]
    }


def _balanced(hits: np.ndarray, classes: np.ndarray, seed: int) -> Estimate | None:
    return estimate(hits, np.arange(len(hits)), classes, seed=seed)


def _repeated(features: np.ndarray, real: np.ndarray) -> float:
    """The share of samples of one group with another one nearer than real ones come."""
    count = min(len(features), len(real))
    near = repeat_distance(real[:count])
    closest = nearest(features[:count], features[:count], among_themselves=True)[0][:, 0]
    return _rounded((closest <= near).mean())


# ---------------------------------------------------------------- words and numbers


def _cautions(
    reals: Reals,
    count: int,
    judge: LabelJudge | None,
    generator: Generator,
    truncation: float,
    learnt_from: int | None,
) -> list[str]:
    found = []
    if learnt_from is not None and learnt_from != len(reals.training):
        found.append(
            f"The generator was trained on {learnt_from} images and the data has "
            f"{len(reals.training)} training images: other data, so copies may go unnoticed."
        )
    if not reals.held_out:
        found.append(
            "The data has too few held-out pictures: the column of real pictures is one half of "
            "the training ones against the other, and the generator has seen both."
        )
    if count < ROUGH:
        found.append(f"Only {count} pictures on each side: the distances are rough.")
    if truncation != 1:
        found.append(f"Samples are truncated to {truncation:g}: cleaner and less various.")
    if judge is not None:
        unknown = [label for label in generator.label_names if label not in judge.names]
        if unknown:
            found.append(f"The judge does not know {', '.join(unknown)}; these are not scored.")
    return found


def _collapse(found: Collapse) -> dict[str, Any]:
    score = found.score
    verdict = "none" if score < PARTIAL else "partial" if score < FULL else "collapsed"
    numbers = {key: _rounded(value) for key, value in asdict(found).items() if key != "sign"}
    return {**numbers, "sign": found.sign, "verdict": verdict}


def _kid(real: np.ndarray, points: np.ndarray, seed: int) -> dict[str, float]:
    mean, deviation = kid(real, points, seed)
    return {"value": round(mean, 6), "std": round(deviation, 6)}


def _memory(found: Memory) -> dict[str, Any]:
    return {
        "near": _plain(found.near),
        "copies": _plain(found.copies),
        "threshold": _rounded(found.threshold),
        "median": _rounded(found.median),
        "real_median": _rounded(found.real_median),
    }


def _plain(found: Estimate | None) -> dict[str, float] | None:
    if found is None:
        return None
    return {key: _rounded(value) for key, value in vars(found).items()}


def _rounded(value: float | None, digits: int = 4) -> float | None:
    return None if value is None else round(float(value), digits)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


# ---------------------------------------------------------------- pictures for the report


def _pictures(
    generator: Generator,
    reals: Reals,
    samples: np.ndarray,
    in_features: Memory,
    in_pixels: Memory,
    seed: int,
    truncation: float,
) -> dict[str, Image.Image]:
    shown = _GRID * _GRID
    real = reals.pictures(reals.others[:shown])
    pictures = {
        "Samples, the first ones and not chosen": grid(to_tensor(samples[:shown]), _GRID),
        f"Real pictures: {_REAL[reals.held_out]}": grid(to_tensor(real), _GRID),
    }
    if generator.label_names:
        groups = _groups(reals.images.labels[reals.images.indices(0)] > 0.5, generator)
        asked = np.repeat(list(groups.values()), _BY_LABEL, axis=0)
        # The same latents in every row: what differs between rows is what was asked.
        latents = generator.latents(_BY_LABEL, seed).repeat(len(groups), 1) * truncation
        rows = generator.render(latents, torch.from_numpy(asked.astype(np.float32)))
        pictures["By label, every row from the same latents"] = grid(rows, _BY_LABEL, list(groups))
    first = np.arange(min(_BESIDE, len(samples)))
    closest = np.argsort(in_features.distances, kind="stable")[:_BESIDE]
    for title, some in {"The first samples": first, "The samples nearest of all": closest}.items():
        found = [reals.pictures(reals.training[one.rows[some]]) for one in (in_features, in_pixels)]
        pictures[f"{title}, and the training pictures nearest to each"] = grid(
            to_tensor(np.concatenate([samples[some], *found])),
            len(some),
            ["samples", f"nearest in {reals.space.title} features", "nearest in pixels"],
        )
    return pictures
