"""Whether samples show the labels they were asked for."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from cgan.evaluate.labels import LabelJudge
from cgan.evaluate.metrics import nearest, plain, plain_kid, repeat_distance, spread
from cgan.evaluate.reals import Reals, draw, features_of
from cgan.networks import Generator
from fader.evaluate.statistics import estimate

#: Combinations of attributes that are scored, the most frequent ones; and for each side of an
#: attribute that none of them has, the most frequent that does.
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
    images, names = reals.images, generator.label_names
    known = [i for i, label in enumerate(names) if label in judge.names]
    columns = [judge.names.index(names[i]) for i in known]
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
        alike = reals.training[(training == values).all(axis=1)]
        entries[group] = {
            "right": plain(estimate(right, np.arange(per_group), seed=seed)),
            "judge": _share(judged),
            "real": len(alike),
            **_quality(features[some], reals.features(alike[:2000]), seed),
        }
        if judge.kind == "classes":
            shares = zip(known, told[some].mean(axis=0), strict=True)
            entries[group]["taken_for"] = {names[i]: plain(s) for i, s in shares if s > 0}

    of_classes = judge.kind == "classes"
    document: dict[str, Any] = {
        "judge": {
            "name": judge.judge.name,
            "architecture": judge.judge.architecture,
            "seed": judge.judge.notes.get("seed"),
            "scored_on": len(rows),
            "accuracy": _balanced(told_of_real, truth, known, seed, of_classes),
        },
        "kind": judge.kind,
        "chance": plain(1 / max(1, len(known))) if of_classes else 0.5,
        "per_group": per_group,
        "groups": entries,
    }
    if not of_classes:
        document["attributes"] = {
            names[i]: _sides(told[:, k], asked[:, i], told_of_real[:, k], truth[:, i], seed)
            for k, i in enumerate(known)
        }
    document["accuracy"] = _balanced(told, asked, known, seed, of_classes)
    return document


def _share(hits: np.ndarray) -> float | None:
    """The share of the judge's hits; None where there are too few real pictures."""
    return plain(hits.mean()) if len(hits) >= _ENOUGH_TO_JUDGE else None


def _quality(features: np.ndarray, real: np.ndarray, seed: int) -> dict[str, Any]:
    """Distance, variety and repeats (the share of samples with another one nearer than real ones
    come) of one group; nothing where too few real pictures have it."""
    if len(real) < _ENOUGH_IN_GROUP:
        return {}
    count = min(len(features), len(real))
    near = repeat_distance(real[:count])
    closest = nearest(features[:count], features[:count], among_themselves=True)[0][:, 0]
    return {
        "kid": plain_kid(real, features, seed),
        "variety": plain(spread(features) / max(spread(real), 1e-12)),
        "repeats": plain((closest <= near).mean()),
    }


def _sides(
    told: np.ndarray, asked: np.ndarray, told_of_real: np.ndarray, truth: np.ndarray, seed: int
) -> dict[str, Any]:
    """The hits on one attribute where it is asked to be 0 and 1; all (n,) bool."""
    sides: dict[str, Any] = {}
    for value in (False, True):
        hits, own = told[asked == value] == value, told_of_real[truth == value] == value
        score = plain(estimate(hits, np.arange(len(hits)), seed=seed))
        sides[str(int(value))] = {**(score or {"value": None}), "judge": _share(own)}
    return sides


def _balanced(
    told: np.ndarray, right: np.ndarray, known: list[int], seed: int, of_classes: bool
) -> dict[str, Any] | None:
    """Accuracy in which classes weigh alike; or attributes, and the two sides of each."""
    if of_classes:
        hits, sides = (told == right).all(axis=1), right.argmax(axis=1)
        return plain(estimate(hits, np.arange(len(hits)), sides, seed=seed))
    right = right[:, known]
    sides = right + 2 * np.arange(len(known))
    people = np.repeat(np.arange(len(right)), len(known))
    return plain(estimate((told == right).ravel(), people, sides.ravel(), seed=seed))


def groups_of(labels: np.ndarray, generator: Generator) -> dict[str, np.ndarray]:
    """Name → label values (k,) bool: the classes, or the most frequent combinations, among which
    each side of each attribute is asked for that the labels (N, k) have."""
    names = generator.label_names
    if generator.label_kind == "classes":
        return dict(zip(names, np.eye(len(names), dtype=bool), strict=True))
    combinations, counts = np.unique(labels, axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    chosen = set(order[:GROUPS])
    for column, value in product(range(len(names)), (False, True)):
        of_side = order[combinations[order, column] == value]
        if len(of_side) and not chosen.intersection(of_side):
            chosen.add(of_side[0])
    return {
        ",".join(f"{name}={int(v)}" for name, v in zip(names, values, strict=True)): values
        for values in combinations[sorted(chosen)]
    }
