"""Swaps and sliders: what the judge sees when one attribute is set and all others are kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from fader.attributes import rivals
from fader.data.batches import to_images, to_tensor
from fader.evaluate.editing import asked_of, device_of, outside, paste
from fader.evaluate.judge import Judge
from fader.evaluate.statistics import Estimate, estimate_some, spearman
from fader.models.model import FaderModel

#: A label at least this far from one half is clear; only such faces are swapped.
CLEAR = 0.2

#: Slider positions for continuity.
SLIDER = np.linspace(-1, 2, 13)

# What "a light blur and JPEG" is: σ in pixels of a 128-pixel face (and no fewer pixels in a
# smaller one, or a pixel-sized pattern would pass), and the quality.
_BLUR, _QUALITY = 1.0, 75


@dataclass(frozen=True)
class Faces:
    """The faces that are evaluated: (N, S, S, 3) uint8, labels (N, n) of the model's attributes
    in 0..1, and whose face each is (N,)."""

    images: np.ndarray
    labels: np.ndarray
    people: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, size: int = 32) -> Iterator[slice]:
        """Slices of ``size`` faces at most that cover all."""
        for start in range(0, len(self), size):
            yield slice(start, min(start + size, len(self)))


@dataclass(frozen=True)
class Swapped:
    """The judge's view of the faces with one attribute set to its other side.

    ``rows`` (M,) are the faces, ``asked`` (M,) the value asked for, 0 or 1. ``logits`` (M, k) and
    ``features`` (M, C) are of the decoder's image; ``blurred`` (M,) and ``pasted`` (M,) are the
    attribute's own logit after blur and JPEG, and of the crop as the editor composes it.
    ``outside`` (M,) is the PSNR in dB to the photo where the model's mask is nothing, or NaN.
    """

    rows: np.ndarray
    asked: np.ndarray
    logits: np.ndarray
    features: np.ndarray
    blurred: np.ndarray
    pasted: np.ndarray
    outside: np.ndarray


@dataclass(frozen=True)
class SwapScore:
    """One attribute in one direction; all values 0..1.

    accuracy: share of faces in which the judge sees the value asked for. blurred, pasted: the
    same after blur and JPEG, and for the crop as the editor composes it. before: the same for the
    decoding without the edit, which is what doing nothing scores. judge: share of real faces with
    this value that the judge recognises. kept: share of the judge's decisions on the model's other
    attributes that are those on the photo. floor: the same for photos of random other people who
    have the value asked for, which is what drawing somebody else scores. moved: how far the
    judge's probabilities of them moved from the photo's. side_effects: the mean signed move of
    each. outside: PSNR in dB to the photo where the model's mask is nothing.
    """

    accuracy: Estimate
    blurred: Estimate
    pasted: Estimate
    before: float
    judge: float | None
    kept: Estimate | None
    floor: float | None
    moved: float | None
    side_effects: dict[str, float]
    outside: float | None


@dataclass(frozen=True)
class Continuity:
    """The judge along a slider: mean probability (and 10 % and 90 % quantiles) at each position.

    spearman: rank correlation of position and the judge's logit, per face. monotone: share of
    steps on which the logit rises, per face.
    """

    positions: list[float]
    probability: list[float]
    low: list[float]
    high: list[float]
    spearman: Estimate
    monotone: Estimate


def other_side(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which faces have a clear label (bool), and the other side of each label (0.0 or 1.0)."""
    return np.abs(labels - 0.5) >= CLEAR, (labels < 0.5).astype(np.float32)


def blur_and_jpeg(images: np.ndarray) -> np.ndarray:
    """uint8 N×S×S×3 after a light Gaussian blur and JPEG: what a drawn attribute survives, and a
    pattern that only pleases classifiers does not."""
    import cv2

    sigma = _BLUR * max(1, images.shape[1] / 128)
    results = np.empty_like(images)
    for image, result in zip(images, results, strict=True):
        blurred = cv2.GaussianBlur(image, (0, 0), sigmaX=sigma)
        _, data = cv2.imencode(".jpg", blurred[:, :, ::-1], (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))
        result[:] = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[:, :, ::-1]
    return results


@torch.inference_mode()
def swap(
    model: FaderModel, judge: Judge, faces: Faces, batches: Iterable[slice]
) -> tuple[np.ndarray, np.ndarray, dict[str, Swapped]]:
    """Swap every attribute that the judge knows, on the faces whose label is clear.

    Returns the judge's logits (N, k) and features (N, C) of the unedited decodings, and a
    :class:`Swapped` for each attribute. Each face is encoded once.
    """
    device = device_of(model)
    decoded_logits, decoded_features = [], []
    parts: dict[str, list[Swapped]] = {name: [] for name in _judged(model, judge)}
    for batch in batches:
        images, labels = faces.images[batch], faces.labels[batch]
        y = torch.from_numpy(labels).to(device)
        features = model.encode(to_tensor(images).to(device))
        logits, pooled = judge.see(to_images(model.decode(features, y, y)))
        decoded_logits.append(logits)
        decoded_features.append(pooled)
        for name in parts:
            column, seen = model.attributes.index(name), judge.attributes.index(name)
            clear, other = other_side(labels[:, column])
            rows = np.flatnonzero(clear)
            if not len(rows):
                continue
            asked = asked_of(model, y[rows], column, other[rows])
            edited = model.change([f[rows] for f in features], asked, y[rows])
            changed = to_images(edited.image)
            logits, pooled = judge.see(changed)
            blurred, _ = judge.see(blur_and_jpeg(changed))
            pasted, _ = judge.see(paste(images[rows], edited))
            parts[name].append(
                Swapped(
                    rows + batch.start,
                    other[rows],
                    logits,
                    pooled,
                    blurred[:, seen],
                    pasted[:, seen],
                    outside(images[rows], changed, edited.mask),
                )
            )
    swapped = {
        name: Swapped(*(np.concatenate([getattr(p, f) for p in some]) for f in _FIELDS))
        for name, some in parts.items()
        if some
    }
    return np.concatenate(decoded_logits), np.concatenate(decoded_features), swapped


_FIELDS = ("rows", "asked", "logits", "features", "blurred", "pasted", "outside")


def score_swaps(
    name: str,
    swapped: Swapped,
    photo_logits: np.ndarray,
    decoded_logits: np.ndarray,
    model: FaderModel,
    judge: Judge,
    faces: Faces,
    seed: int,
) -> dict[str, SwapScore]:
    """``to_0`` and ``to_1``, where there are faces to try it on, scored (see :func:`swap`)."""
    seen = judge.attributes.index(name)
    excluded = {name, *rivals(name, model.attributes)}  # black hair cannot stay when it turns blond
    others = [other for other in _judged(model, judge) if other not in excluded]
    columns = [judge.attributes.index(other) for other in others]
    clear, other = other_side(faces.labels[:, model.attributes.index(name)])
    scores = {}
    for value in (0, 1):
        mine = swapped.asked == value
        if not mine.any():
            continue
        rows = swapped.rows[mine]
        people, photos = faces.people[rows], photo_logits[rows]
        after, unedited = swapped.logits[mine], decoded_logits[rows]
        kept = ((after > 0) == (photos > 0))[:, columns]
        moves = (_probability(after) - _probability(photos))[:, columns]
        having = np.flatnonzero(clear & (other != value))
        real = photo_logits[having, seen]
        untouched = swapped.outside[mine]

        def right(logits: np.ndarray, people=people, value=value) -> Estimate:
            return estimate_some((logits > 0) == value, people, seed=seed)

        scores[f"to_{value}"] = SwapScore(
            accuracy=right(after[:, seen]),
            blurred=right(swapped.blurred[mine]),
            pasted=right(swapped.pasted[mine]),
            before=float(((unedited[:, seen] > 0) == value).mean()),
            judge=float(((real > 0) == value).mean()) if len(real) else None,
            kept=estimate_some(kept.mean(axis=1), people, seed=seed) if others else None,
            floor=_floor(photo_logits[:, columns] > 0, rows, having, faces.people, seed),
            moved=float(np.abs(moves).mean()) if others else None,
            side_effects=dict(zip(others, moves.mean(axis=0).tolist(), strict=True)),
            outside=None if np.isnan(untouched).all() else float(np.nanmean(untouched)),
        )
    return scores


def _floor(
    decisions: np.ndarray, rows: np.ndarray, having: np.ndarray, people: np.ndarray, seed: int
) -> float | None:
    """How many of the ``decisions`` (N, k) on faces ``rows`` are those on random others among
    ``having``, who are other people."""
    if not len(having) or not decisions.shape[1]:
        return None
    drawn = np.random.default_rng([seed, 8]).choice(having, (20, len(rows)))
    apart = people[drawn] != people[rows]
    return float((decisions[drawn] == decisions[rows])[apart].mean()) if apart.any() else None


@torch.inference_mode()
def slide(
    model: FaderModel, judge: Judge, faces: Faces, batches: Iterable[slice], seed: int
) -> dict[str, Continuity]:
    """Every attribute that the judge knows, moved along :data:`SLIDER` on all ``faces``."""
    device = device_of(model)
    names = _judged(model, judge)
    logits = np.zeros((len(names), len(SLIDER), len(faces)), np.float32)
    for batch in batches:
        y = torch.from_numpy(faces.labels[batch]).to(device)
        features = model.encode(to_tensor(faces.images[batch]).to(device))
        for row, name in enumerate(names):
            column, seen = model.attributes.index(name), judge.attributes.index(name)
            for step, position in enumerate(SLIDER):
                asked = asked_of(model, y, column, position)
                images = to_images(model.decode(features, asked, y))
                logits[row, step, batch] = judge.see(images)[0][:, seen]
    curves = {}
    for name, curve in zip(names, logits, strict=True):
        probability = _probability(curve)
        correlation = [spearman(SLIDER, face) for face in curve.T]
        rising = (np.diff(curve, axis=0) > 0).mean(axis=0)
        low, high = np.quantile(probability, [0.1, 0.9], axis=1)
        curves[name] = Continuity(
            SLIDER.tolist(),
            probability.mean(axis=1).tolist(),
            low.tolist(),
            high.tolist(),
            estimate_some(np.array(correlation), faces.people, seed=seed),
            estimate_some(rising, faces.people, seed=seed),
        )
    return curves


def _judged(model: FaderModel, judge: Judge) -> list[str]:
    return [name for name in model.attributes if name in judge.attributes]


def _probability(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(logits, -50, 50)))
