"""Swaps and sliders: what the judge sees when one attribute is set and all others are kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch

from fader.data.batches import to_images
from fader.evaluate.case import Case
from fader.evaluate.editing import asked_of, outside, paste, swaps
from fader.evaluate.statistics import spearman

#: Slider positions for continuity.
SLIDER = np.linspace(-1, 2, 13)

# What "a light blur and JPEG" is: σ in pixels of a 128-pixel face (and no fewer pixels in a
# smaller one, or a pixel-sized pattern would pass), and the quality.
_BLUR, _QUALITY = 1.0, 75


@dataclass(frozen=True)
class Swapped:
    """The judge's view of the faces ``rows`` (M,) with one attribute set to its other side,
    ``asked`` (M,), 0 or 1. ``logits`` (M, k) and ``features`` (M, C) are of the decoder's image;
    ``blurred`` (M,) and ``pasted`` (M,) are the attribute's own logit after blur and JPEG, and of
    the crop as the editor composes it. ``outside`` (M,) is the PSNR in dB to the photo where the
    model's mask is nothing, or NaN."""

    rows: np.ndarray
    asked: np.ndarray
    logits: np.ndarray
    features: np.ndarray
    blurred: np.ndarray
    pasted: np.ndarray
    outside: np.ndarray

    def sides(self) -> Iterator[tuple[int, Swapped]]:
        """The values asked for, 0 and 1 where there are such, and the part that asks for each."""
        for value in (0, 1):
            mine = self.asked == value
            if mine.any():
                yield value, Swapped(*(part[mine] for part in vars(self).values()))

    @property
    def spill(self) -> float | None:
        """The mean of ``outside``; None where no mask has an outside."""
        return None if np.isnan(self.outside).all() else float(np.nanmean(self.outside))


def blur_and_jpeg(images: np.ndarray) -> np.ndarray:
    """uint8 N×S×S×3 after a light Gaussian blur and JPEG: what a drawn attribute survives, and a
    pattern that only pleases classifiers does not."""
    sigma = _BLUR * max(1, images.shape[1] / 128)
    results = np.empty_like(images)
    for image, result in zip(images, results, strict=True):
        blurred = cv2.GaussianBlur(image, (0, 0), sigmaX=sigma)
        _, data = cv2.imencode(".jpg", blurred[:, :, ::-1], (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))
        result[:] = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[:, :, ::-1]
    return results


@torch.inference_mode()
def swap(case: Case) -> tuple[np.ndarray, np.ndarray, dict[str, Swapped]]:
    """Swap every attribute that the judge knows, on the faces whose label is clear: the judge's
    logits (N, k) and features (N, C) of the unedited decodings, and a :class:`Swapped` for each
    attribute."""
    model, see = case.model, case.judge.see
    decoded = []
    parts: dict[str, list[Swapped]] = {name: [] for name in case.judged}
    for batch in case.faces.batches("swaps", case.shown):
        features, y = case.faces.encoded(model, batch)
        decoded.append(see(to_images(model.decode(features, y, y))))
        for name, rows, asked, edited in swaps(model, features, y, parts):
            photos, changed = case.faces.images[batch][rows], to_images(edited.image)
            blurred, pasted = (
                see(images)[0][:, case.seen(name)]
                for images in (blur_and_jpeg(changed), paste(photos, edited))
            )
            spilt = outside(photos, changed, edited.mask)
            parts[name].append(
                Swapped(rows + batch.start, asked, *see(changed), blurred, pasted, spilt)
            )
    swapped = {name: _joined(some) for name, some in parts.items() if some}
    logits, features_of_decoded = zip(*decoded, strict=True)
    return np.concatenate(logits), np.concatenate(features_of_decoded), swapped


def _joined(parts: list[Swapped]) -> Swapped:
    fields = zip(*(vars(part).values() for part in parts), strict=True)
    return Swapped(*(np.concatenate(field) for field in fields))


@torch.inference_mode()
def slide(case: Case) -> dict[str, Any]:
    """Every attribute that the judge knows, moved along :data:`SLIDER` on all faces: the judge's
    mean probability (and 10 % and 90 % quantiles) at each position; ``spearman``, the rank
    correlation of position and its logit, and ``monotone``, the share of steps on which it rises,
    per face."""
    model, faces, names = case.model, case.faces, case.judged
    logits = np.zeros((len(names), len(SLIDER), len(faces)), np.float32)
    for batch in faces.batches("sliders", case.shown):
        features, y = faces.encoded(model, batch)
        for row, name in enumerate(names):
            for step, position in enumerate(SLIDER):
                asked = asked_of(model, y, case.column(name), position)
                images = to_images(model.decode(features, asked, y))
                logits[row, step, batch] = case.judge.see(images)[0][:, case.seen(name)]
    curves = {}
    for name, curve in zip(names, logits, strict=True):
        probabilities = probability(curve)
        low, high = np.quantile(probabilities, [0.1, 0.9], axis=1)
        correlation = np.array([spearman(SLIDER, face) for face in curve.T])
        rising = (np.diff(curve, axis=0) > 0).mean(axis=0)
        curves[name] = {
            "positions": SLIDER.tolist(),
            "probability": probabilities.mean(axis=1).tolist(),
            "low": low.tolist(),
            "high": high.tolist(),
            "spearman": case.estimate(correlation, faces.people),
            "monotone": case.estimate(rising, faces.people),
        }
    return curves


def probability(logits: np.ndarray) -> np.ndarray:
    """The logistic function, of float32 in float32."""
    return 1 / (1 + np.exp(-np.clip(logits, -50, 50)))
