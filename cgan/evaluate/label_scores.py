"""Whether samples show the labels they were asked for."""

from __future__ import annotations

from typing import Any

import numpy as np

from cgan.evaluate.labels import LabelJudge
from cgan.evaluate.metrics import nearest, repeat_distance, spread
from cgan.evaluate.numbers import plain, plain_kid, rounded
from cgan.evaluate.reals import Reals, draw, features_of
from cgan.networks import Generator
from fader.evaluate.statistics import estimate

#: Combinations of attributes that are scored, the most frequent ones.
GROUPS = 16

# Real pictures a group needs to be compared with, and for the judge to be scored on it.
_ENOUGH_IN_GROUP, _ENOUGH_TO_JUDGE = 30, 5


def label_scores(
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

    groups = groups_of(images.labels[images.indices(0)] > 0.5, generator)
    asked = np.repeat(list(groups.values()), per_group, axis=0)
    samples = draw(generator, len(asked), seed + 1, asked, truncation, progress)
    told, features = judge.see(samples)[:, columns], features_of(reals.space, samples)
    training = images.labels[reals.training] > 0.5
    entries: dict[str, Any] = {}
    for number, (group, values) in enumerate(groups.items()):
        some = slice(number * per_group, (number + 1) * per_group)
        right = (told[some] == asked[some][:, known]).all(axis=1)
        of_group = (truth == values).all(axis=1)
        judged = (told_of_real[of_group] == truth[of_group][:, known]).all(axis=1)
        of_training = (training == values).all(axis=1)
        entries[group] = {
            "right": plain(estimate(right, np.arange(per_group), seed=seed)),
            "judge": rounded(judged.mean()) if len(judged) >= _ENOUGH_TO_JUDGE else None,
            "real": int(of_training.sum()),
            **_quality(features[some], reals.training_features[of_training][:2000], seed),
        }
        if judge.kind == "classes":
            shares = zip(known, told[some].mean(axis=0), strict=True)
            entries[group]["taken_for"] = {
                generator.label_names[i]: rounded(share) for i, share in shares if share > 0
            }

    document: dict[str, Any] = {
        "judge": _about(judge, len(rows)),
        "kind": judge.kind,
        "chance": rounded(1 / max(1, len(known))) if judge.kind == "classes" else 0.5,
        "per_group": per_group,
        "groups": entries,
    }
    if judge.kind == "attributes":
        document["attributes"] = {
            generator.label_names[i]: _sides(
                told[:, column], asked[:, i], told_of_real[:, column], truth[:, i], seed
            )
            for column, i in enumerate(known)
        }
    balanced = _balanced_over_classes if judge.kind == "classes" else _balanced_over_attributes
    document["accuracy"] = balanced(told, asked, known, seed)
    document["judge"]["accuracy"] = balanced(told_of_real, truth, known, seed)
    return document


def _about(judge: LabelJudge, scored_on: int) -> dict[str, Any]:
    return {
        "name": judge.judge.name,
        "architecture": judge.judge.architecture,
        "seed": judge.judge.notes.get("seed"),
        "scored_on": scored_on,
    }


def _quality(features: np.ndarray, real: np.ndarray, seed: int) -> dict[str, Any]:
    """Distance, variety and repeats of one group; nothing where too few real pictures have it."""
    if len(real) < _ENOUGH_IN_GROUP:
        return {}
    return {
        "kid": plain_kid(real, features, seed),
        "variety": rounded(spread(features) / max(spread(real), 1e-12)),
        "repeats": _repeated(features, real),
    }


def _sides(
    told: np.ndarray, asked: np.ndarray, told_of_real: np.ndarray, truth: np.ndarray, seed: int
) -> dict[str, Any]:
    """The hits on one attribute where it is asked to be 0 and 1; all (n,) bool."""
    sides: dict[str, Any] = {}
    for value in (False, True):
        hits, own = told[asked == value] == value, told_of_real[truth == value] == value
        score = plain(estimate(hits, np.arange(len(hits)), seed=seed))
        sides[str(int(value))] = {
            **(score or {"value": None}),
            "judge": rounded(own.mean()) if len(own) >= _ENOUGH_TO_JUDGE else None,
        }
    return sides


def _balanced_over_attributes(
    told: np.ndarray, right: np.ndarray, known: list[int], seed: int
) -> dict[str, Any] | None:
    """Accuracy in which attributes weigh alike, and so do the two sides of each."""
    right = right[:, known]
    sides = right + 2 * np.arange(len(known))
    people = np.repeat(np.arange(len(right)), len(known))
    return plain(estimate((told == right).ravel(), people, sides.ravel(), seed=seed))


def _balanced_over_classes(
    told: np.ndarray, right: np.ndarray, known: list[int], seed: int
) -> dict[str, Any] | None:
    """Accuracy in which classes weigh alike."""
    hits = (told == right).all(axis=1)
    return plain(estimate(hits, np.arange(len(hits)), right.argmax(axis=1), seed=seed))


def groups_of(labels: np.ndarray, generator: Generator) -> dict[str, np.ndarray]:
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


def _repeated(features: np.ndarray, real: np.ndarray) -> float:
    """The share of samples of one group with another one nearer than real ones come."""
    count = min(len(features), len(real))
    near = repeat_distance(real[:count])
    closest = nearest(features[:count], features[:count], among_themselves=True)[0][:, 0]
    return round(float((closest <= near).mean()), 4)
