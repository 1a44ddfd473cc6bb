"""The whole evaluation of one generator against one set of real pictures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from cgan.data import ImageSet
from cgan.evaluate.label_scores import groups_of, label_scores
from cgan.evaluate.labels import LabelJudge
from cgan.evaluate.memory import Memory
from cgan.evaluate.metrics import (
    Bins,
    Collapse,
    collapse,
    frechet,
    manifolds,
    psnr,
    repeat_distance,
    similarity,
    spread,
)
from cgan.evaluate.numbers import plain, plain_kid, rounded
from cgan.evaluate.reals import REAL, Reals, draw, features_of, memories, redraw
from cgan.networks import ConditionalVae, Generator
from cgan.pictures import grid
from fader.data.batches import to_tensor
from fader.errors import FaderError

#: Samples for each class or combination of attributes.
PER_GROUP = 100

#: Pictures on each side below which all distances are called rough.
ROUGH = 500

#: Collapse scores from which on one speaks of a partial, and of a full collapse.
PARTIAL, FULL = 0.25, 0.5

# What the report shows: a grid's side, samples beside their nearest, faces by label.
_GRID, _BESIDE, _BY_LABEL = 8, 12, 10


@dataclass(frozen=True)
class Evaluation:
    """``document`` is what ``cgan evaluate --json`` prints (see docs/cgan-evaluation.md);
    ``pictures`` are the report's, by title."""

    document: dict[str, Any]
    pictures: dict[str, Image.Image]


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
    images = reals.images
    _check_fit(images, generator, data)
    if n < 2:
        raise FaderError(f"{n} samples have no distribution; take 100 or more")

    random = np.random.default_rng([seed, 32])
    drawn = images.labels[random.choice(images.indices(0), n)]
    samples = draw(generator, n, seed, drawn, truncation, progress)
    features = features_of(reals.space, samples)
    count = min(n, len(reals.reference), len(reals.others))
    in_features, in_pixels = memories(reals, samples, features, seed)
    document = {
        "model": _model(name, generator, truncation),
        "data": {
            "path": data,
            "training": len(reals.training),
            "held_out": len(reals.others) if reals.held_out else 0,
            "rejected": len(images.rejected),
            "samples": n,
            "compared": count,
            "real": REAL[reals.held_out],
            "seed": seed,
        },
        "features": {
            key: getattr(reals.space, key) for key in ("name", "title", "description", "distance")
        },
        "cautions": _cautions(reals, count, judge, generator, truncation, learnt_from),
        "scores": _scores(generator, reals, samples[:count], features[:count], seed),
        "memory": {
            "features": _memory(in_features),
            "pixels": _memory(in_pixels),
            "usual": "held-out pictures" if reals.held_out else "training pictures, among the rest",
        },
        "labels": None
        if judge is None
        else label_scores(generator, reals, judge, min(n, PER_GROUP), seed, truncation, progress),
    }
    shown = _pictures(generator, reals, samples, in_features, in_pixels, seed, truncation)
    return Evaluation(document, shown)


def _model(name: str, generator: Generator, truncation: float) -> dict[str, Any]:
    return {
        "name": name,
        "labels": list(generator.label_names),
        "label_kind": generator.label_kind,
        "size": generator.config.size,
        "channels": generator.config.channels,
        "truncation": truncation,
    }


def _check_fit(images: ImageSet, generator: Generator, data: str) -> None:
    config = generator.config
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


def _scores(
    generator: Generator, reals: Reals, samples: np.ndarray, features: np.ndarray, seed: int
) -> dict[str, dict[str, Any]]:
    """The measures of the samples, and of as many other real pictures in their place."""
    count = len(samples)
    real = reals.reference_features[:count]
    others = reals.pictures(reals.others[:count])
    bins = Bins.of(reals.pictures(reals.reference[:count]), seed)
    real_spread, near, filled_by_real = spread(real), repeat_distance(real), bins.compare(others)

    def column(points: np.ndarray, pictures: np.ndarray) -> dict[str, Any]:
        filled = bins.compare(pictures)
        return {
            "frechet": rounded(frechet(real, points)),
            "kid": plain_kid(real, points, seed),
            **{key: plain(value) for key, value in vars(manifolds(real, points, seed)).items()},
            "spread": rounded(spread(points)),
            "ms_ssim": plain(similarity(pictures, seed)),
            "bins": {key: rounded(value) for key, value in asdict(filled).items()},
            "collapse": _collapse(collapse(points, real_spread, near, filled, filled_by_real)),
        }

    generated = column(features, samples)
    if isinstance(generator, ConditionalVae):
        redrawn = redraw(generator, reals, reals.others[:count])
        generated["psnr"] = plain(psnr(redrawn, others, seed))
    return {"generated": generated, "real": column(reals.others_features[:count], others)}


# ---------------------------------------------------------------- words and numbers


def _collapse(found: Collapse) -> dict[str, Any]:
    score = found.score
    verdict = "none" if score < PARTIAL else "partial" if score < FULL else "collapsed"
    numbers = {key: rounded(value) for key, value in asdict(found).items() if key != "sign"}
    return {**numbers, "sign": found.sign, "verdict": verdict}


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


def _memory(found: Memory) -> dict[str, Any]:
    return {
        "near": plain(found.near),
        "copies": plain(found.copies),
        "threshold": rounded(found.threshold),
        "median": rounded(found.median),
        "real_median": rounded(found.real_median),
    }


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
        f"Real pictures: {REAL[reals.held_out]}": grid(to_tensor(real), _GRID),
    }
    if isinstance(generator, ConditionalVae):
        some = reals.others[:_BESIDE]
        both = np.concatenate([reals.pictures(some), redraw(generator, reals, some)])
        pictures["Real pictures, redrawn"] = grid(to_tensor(both), len(some), ["real", "redrawn"])
    if generator.label_names:
        groups = groups_of(reals.images.labels[reals.images.indices(0)] > 0.5, generator)
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
