"""The scores of swaps as they stand in the JSON document."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from fader.attributes import rivals
from fader.evaluate.case import Case
from fader.evaluate.editing import other_side
from fader.evaluate.statistics import Estimate, balanced_accuracy
from fader.evaluate.swaps import Swapped, probability

#: Attributes whose two sides are also scored apart.
GROUPS = ("Male", "Young")

#: Fewer faces of a group say nothing about it.
FEW = 20


def judge_accuracy(case: Case, logits: np.ndarray) -> dict[str, float]:
    """The judge's own balanced accuracy on the very faces evaluated, whose logits are given."""
    truth = case.store.select_labels(case.judged)[case.rows] > 0.5
    return {
        name: balanced_accuracy(logits[:, case.seen(name)] > 0, true)
        for name, true in zip(case.judged, truth.T, strict=True)
    }


def score_swaps(
    case: Case, swapped: dict[str, Swapped], photos: np.ndarray, decoded: np.ndarray
) -> dict[str, Any]:
    """Swap accuracy of every attribute and direction, also by group, after a blur and pasted; the
    other attributes kept; the PSNR outside the mask. ``photos`` and ``decoded`` (N, k) are the
    judge's logits of the photos and of the unedited decodings."""
    accuracy: dict[str, Any] = dict.fromkeys(case.model.attributes)
    keeping: dict[str, Any] = {}
    for name, one in swapped.items():
        found = {f"to_{v}": _score(case, name, v, part, photos, decoded) for v, part in one.sides()}
        kept = {direction: of_others for direction, (_, of_others) in found.items() if of_others}
        accuracy[name] = {
            **{direction: score for direction, (score, _) in found.items()},
            **_both_directions(case, name, one),
        }
        keeping[name] = plain(kept) or None
    accuracy = plain(accuracy)
    means = [entry["mean"] for entry in accuracy.values() if entry]
    kept_all = [d for entry in keeping.values() if entry for d in entry.values()]
    spills = [part.spill for one in swapped.values() for _, part in one.sides()]
    return {
        "swap_accuracy": {
            "mean": mean(views["accuracy"]["value"] for views in means),
            "mean_blurred": mean(views["blurred"]["value"] for views in means),
            "mean_pasted": mean(views["pasted"]["value"] for views in means),
            "by_group": _by_group(case, swapped),
            "attributes": accuracy,
        },
        "other_attributes_kept": {
            "mean": mean(d["value"] for d in kept_all),
            "floor": mean(d["floor"] for d in kept_all if d["floor"] is not None),
            "attributes": keeping,
        },
        "outside_mask": _outside_mask([spill for spill in spills if spill is not None]),
    }


def _score(
    case: Case, name: str, value: int, one: Swapped, photos: np.ndarray, decoded: np.ndarray
) -> tuple[dict[str, Any], dict[str, Any]]:
    """One attribute set to one value: how many edits show it, and what they do to the others
    (nothing where the judge knows none)."""
    rows, seen = one.rows, case.seen(name)
    people = case.faces.people[rows]
    excluded = {name, *rivals(name, case.model.attributes)}  # black hair cannot stay, turned blond
    others = [other for other in case.judged if other not in excluded]
    columns = [case.seen(other) for other in others]
    clear, other = other_side(case.faces.labels[:, case.column(name)])
    having = np.flatnonzero(clear & (other != value))  # real faces with this value

    def right(logits: np.ndarray) -> Estimate:
        return case.estimate((logits > 0) == value, people)

    def share(logits: np.ndarray) -> float | None:
        return float(((logits > 0) == value).mean()) if len(logits) else None

    score = {
        **vars(right(one.logits[:, seen])),
        "blurred": right(one.blurred),
        "pasted": right(one.pasted),
        "before": share(decoded[rows, seen]),
        "judge_accuracy": share(photos[having, seen]),
        "outside": one.spill,
    }
    if not others:
        return score, {}
    same = ((one.logits > 0) == (photos[rows] > 0))[:, columns].mean(axis=1)
    moves = (probability(one.logits) - probability(photos[rows]))[:, columns]
    return score, {
        **vars(case.estimate(same, people)),
        "floor": _floor(case, photos[:, columns] > 0, rows, having),
        "moved": float(np.abs(moves).mean()),
        "side_effects": dict(zip(others, moves.mean(axis=0).tolist(), strict=True)),
    }


def _floor(case: Case, decisions: np.ndarray, rows: np.ndarray, having: np.ndarray) -> float | None:
    """How many of the ``decisions`` (N, k) on faces ``rows`` are those on random others among
    ``having``, who are other people: what drawing somebody else scores."""
    if not len(having):
        return None
    people = case.faces.people
    drawn = np.random.default_rng([case.seed, 8]).choice(having, (20, len(rows)))
    apart = people[drawn] != people[rows]
    return float((decisions[drawn] == decisions[rows])[apart].mean()) if apart.any() else None


def _both_directions(case: Case, name: str, one: Swapped) -> dict[str, Any]:
    """``mean`` of both, of each view, and that of ``groups`` of faces."""
    people = case.faces.people[one.rows]

    def both(logits: np.ndarray, chosen: Any = slice(None)) -> Estimate:
        hits = (logits > 0) == one.asked
        return case.estimate(hits[chosen], people[chosen], one.asked[chosen])

    logits = one.logits[:, case.seen(name)]
    views = {"accuracy": logits, "blurred": one.blurred, "pasted": one.pasted}
    groups = _groups(case, name, one).items()
    return {
        "mean": {view: both(seen) for view, seen in views.items()},
        "groups": {group: both(logits, chosen) for group, chosen in groups if chosen.any()},
    }


def _groups(case: Case, name: str, one: Swapped) -> dict[str, np.ndarray]:
    """Which of the swapped faces show each side of :data:`GROUPS`, (M,) bool."""
    found: dict[str, np.ndarray] = {}
    for group in GROUPS:
        if group != name and group in case.store.attribute_names:
            labels = case.store.select_labels([group])[case.rows[one.rows], 0]
            clear, other = other_side(labels)
            found |= {f"{group}={value}": clear & (other != value) for value in (0, 1)}
    return found


def _by_group(case: Case, swapped: dict[str, Swapped]) -> dict[str, Any]:
    """``mean``, the swap accuracy of each group over all attributes and directions that at least
    :data:`FEW` of its faces were swapped in (``edits``), and ``whole``, that of all faces in the
    same ones."""
    cells: dict[str, list[tuple[float, float]]] = {}
    for name, one in swapped.items():
        hits = (one.logits[:, case.seen(name)] > 0) == one.asked
        for group, chosen in _groups(case, name, one).items():
            for value in (0, 1):
                side = one.asked == value
                if (chosen & side).sum() >= FEW:
                    both = hits[chosen & side].mean(), hits[side].mean()
                    cells.setdefault(group, []).append(both)
    return {
        group: {
            "mean": mean(own for own, _ in found),
            "whole": mean(whole for _, whole in found),
            "edits": len(found),
        }
        for group, found in cells.items()
    }


def _outside_mask(spills: list[float]) -> dict[str, Any]:
    if not spills:
        return {"mean": None, "reason": "the model has no mask, or none of its edits an outside"}
    return {"mean": mean(spills), "least": min(spills)}


def mean(values: Iterable[float]) -> float | None:
    """Their mean, rounded; None of nothing."""
    found = list(values)
    return round(float(np.mean(found)), 4) if found else None


def plain(value: Any) -> Any:
    """Nested dicts and lists of numbers as JSON has them: four digits after the point, and
    estimates as dicts."""
    if isinstance(value, Estimate):
        value = vars(value)
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return round(value, 4) if isinstance(value, float) else value
