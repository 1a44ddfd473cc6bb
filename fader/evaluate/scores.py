"""The scores of swaps and sliders as they stand in the JSON document."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import numpy as np

from fader.data.store import PreparedStore
from fader.evaluate.judge import Judge
from fader.evaluate.statistics import balanced_accuracy, estimate
from fader.evaluate.swaps import Continuity, Faces, Swapped, SwapScore, other_side
from fader.models.model import FaderModel

#: Attributes whose two sides are also scored apart.
GROUPS = ("Male", "Young")

#: Fewer faces of a group say nothing about it.
FEW = 20


def judge_accuracy(
    judge: Judge, store: PreparedStore, rows: np.ndarray, logits: np.ndarray, model: FaderModel
) -> dict[str, float]:
    """The judge's own balanced accuracy on the very faces evaluated."""
    known = [name for name in model.attributes if name in judge.attributes]
    truth = store.select_labels(known)[rows] > 0.5 if known else np.zeros((len(rows), 0), bool)
    return {
        name: round(balanced_accuracy(logits[:, judge.attributes.index(name)] > 0, true), 4)
        for name, true in zip(known, truth.T, strict=True)
    }


def swap_accuracy(
    model: FaderModel,
    judge: Judge,
    faces: Faces,
    swapped: dict[str, Swapped],
    scores: dict[str, dict[str, SwapScore]],
    store: PreparedStore,
    rows: np.ndarray,
    seed: int,
) -> dict[str, Any]:
    """Swap accuracy of every attribute and direction, also by group, after a blur and pasted."""
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
            return plain(found)

        views = {"accuracy": one.logits[:, seen], "blurred": one.blurred, "pasted": one.pasted}
        groups = {}
        for group, chosen in _groups(name, one, store, rows).items():
            if chosen.any():
                groups[group] = both(views["accuracy"], chosen)
        attributes[name] = {
            **{
                direction: {
                    "value": round(score.accuracy.value, 4),
                    "low": round(score.accuracy.low, 4),
                    "high": round(score.accuracy.high, 4),
                    "n": score.accuracy.n,
                    "blurred": plain(score.blurred),
                    "pasted": plain(score.pasted),
                    "before": round(score.before, 4),
                    "judge_accuracy": rounded(score.judge),
                    "outside": rounded(score.outside),
                }
                for direction, score in scores[name].items()
            },
            "mean": {view: both(logits) for view, logits in views.items()},
            "groups": groups,
        }
    scored = [entry for entry in attributes.values() if entry]
    return {
        "mean": mean(entry["mean"]["accuracy"]["value"] for entry in scored),
        "mean_blurred": mean(entry["mean"]["blurred"]["value"] for entry in scored),
        "mean_pasted": mean(entry["mean"]["pasted"]["value"] for entry in scored),
        "by_group": by_group(judge, swapped, scores, store, rows),
        "attributes": attributes,
    }


def _groups(
    name: str, one: Swapped, store: PreparedStore, rows: np.ndarray
) -> dict[str, np.ndarray]:
    """Which of the swapped faces show each side of :data:`GROUPS`, (M,) bool."""
    found: dict[str, np.ndarray] = {}
    for group in GROUPS:
        if group != name and group in store.attribute_names:
            clear, other = other_side(store.select_labels([group])[rows[one.rows], 0])
            found |= {f"{group}={value}": clear & (other != value) for value in (0, 1)}
    return found


def by_group(
    judge: Judge,
    swapped: dict[str, Swapped],
    scores: dict[str, dict[str, SwapScore]],
    store: PreparedStore,
    rows: np.ndarray,
) -> dict[str, Any]:
    """``mean``, the swap accuracy of each group over all attributes and directions that at least
    :data:`FEW` of its faces were swapped in (``edits``), and ``whole``, that of all faces in the
    same ones."""
    cells: dict[str, list[tuple[float, float]]] = {}
    for name, one in swapped.items():
        hits = (one.logits[:, judge.attributes.index(name)] > 0) == one.asked
        for group, chosen in _groups(name, one, store, rows).items():
            for value in (0, 1):
                some = hits[chosen & (one.asked == value)]
                if len(some) >= FEW:
                    whole = scores[name][f"to_{value}"].accuracy.value
                    cells.setdefault(group, []).append((float(some.mean()), whole))
    return {
        group: {
            "mean": mean(own for own, _ in found),
            "whole": mean(whole for _, whole in found),
            "edits": len(found),
        }
        for group, found in cells.items()
    }


def kept(scores: dict[str, dict[str, SwapScore]], attributes: tuple[str, ...]) -> dict[str, Any]:
    """How many of the judge's decisions on other attributes stay, by attribute and direction."""
    entries = {
        name: {
            direction: {
                **plain(score.kept),
                "floor": rounded(score.floor),
                "moved": rounded(score.moved),
                "side_effects": {k: round(v, 4) for k, v in score.side_effects.items()},
            }
            for direction, score in scores[name].items()
            if score.kept is not None
        }
        or None
        for name in attributes
        if name in scores
    }
    found = [d for entry in entries.values() if entry for d in entry.values()]
    return {
        "mean": mean(d["value"] for d in found),
        "floor": mean(d["floor"] for d in found if d["floor"] is not None),
        "attributes": entries,
    }


def outside_mask(scores: dict[str, dict[str, SwapScore]]) -> dict[str, Any]:
    """PSNR to the photo where the model's mask is nothing: mean and least over all edits."""
    every = [s.outside for entry in scores.values() for s in entry.values()]
    values = [value for value in every if value is not None]
    if not values:
        return {"mean": None, "reason": "the model has no mask, or none of its edits an outside"}
    return {"mean": mean(values), "least": rounded(min(values))}


def continuity(curve: Continuity) -> dict[str, Any]:
    """A slider's curve, rounded."""
    return {
        "positions": curve.positions,
        "probability": [round(v, 4) for v in curve.probability],
        "low": [round(v, 4) for v in curve.low],
        "high": [round(v, 4) for v in curve.high],
        "spearman": plain(curve.spearman),
        "monotone": plain(curve.monotone),
    }


def rounded(value: float | None) -> float | None:
    """Four digits after the point."""
    return None if value is None else round(value, 4)


def mean(values: Iterable[float]) -> float | None:
    """Their mean, rounded; None of nothing."""
    found = list(values)
    return round(float(np.mean(found)), 4) if found else None


def plain(value: Any) -> dict[str, Any]:
    """An :class:`Estimate` as JSON has it."""
    return {key: round(number, 4) for key, number in asdict(value).items()}


def plain_tree(value: Any) -> Any:
    """The same of all that are in nested dicts."""
    if isinstance(value, dict):
        return {key: plain_tree(inner) for key, inner in value.items()}
    return plain(value)
