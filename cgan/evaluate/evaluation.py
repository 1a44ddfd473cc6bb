"""The whole evaluation of one generator against one set of real pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from cgan.data import ImageSet
from cgan.evaluate.label_scores import groups_of, label_scores
from cgan.evaluate.labels import LabelJudge
from cgan.evaluate.metrics import (
    Bins,
    Memory,
    collapse,
    frechet,
    manifolds,
    plain,
    plain_kid,
    psnr,
    repeat_distance,
    similarity,
    spread,
)
from cgan.evaluate.reals import REAL, Reals, draw, features_of, memories, redraw
from cgan.networks import ConditionalVae, Generator
from cgan.pictures import grid
from cgan.soften import softened
from fader.data.batches import to_tensor
from fader.errors import FaderError
from fader.words import plural

#: Samples for each class or combination of attributes.
PER_GROUP = 100
#: Pictures on each side below which all distances are called rough.
ROUGH = 500
#: Collapse scores from which on one speaks of a partial, and of a full collapse.
PARTIAL, FULL = 0.25, 0.5
# What the report shows: a grid's side, samples beside their nearest, faces by label.
_GRID, _BESIDE, _BY_LABEL = 8, 12, 10
# What the document has of a memory and of a space of features.
_MEMORY = ("near", "copies", "threshold", "median", "real_median")
_SPACE = ("name", "title", "description", "distance")


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
    ``learnt_from`` is how many images the generator says it was trained on; the report
    remarks on another number.

    Raises :class:`FaderError` when the pictures do not fit the generator, or ``n`` is below 2.
    """
    images, config = reals.images, generator.config
    _check_fit(images, generator, data)
    if n < 2:
        few = plural(n, "sample has", "samples have")
        raise FaderError(f"{few} no distribution; take 100 or more")

    drawn = _labels(images, n, seed, config.soften)
    samples = draw(generator, n, seed, drawn, truncation, progress)
    features = features_of(reals.space, samples)
    count = min(n, len(reals.reference), len(reals.others))
    both = memories(reals, samples, features, seed)
    model = {"name": name, "labels": list(generator.label_names)}
    model |= {key: getattr(config, key) for key in ("label_kind", "size", "channels")}
    document: dict[str, Any] = {
        "model": {**model, "truncation": truncation},
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
        "features": {key: getattr(reals.space, key) for key in _SPACE},
        "cautions": _cautions(reals, count, judge, generator, truncation, learnt_from),
        "scores": _scores(generator, reals, samples[:count], features[:count], seed),
        "memory": {
            space: {key: plain(getattr(found, key)) for key in _MEMORY}
            for space, found in zip(("features", "pixels"), both, strict=True)
        },
    }
    others = "held-out pictures" if reals.held_out else "training pictures, among the rest"
    document["memory"]["usual"] = others
    document["labels"] = judge and label_scores(
        generator, reals, judge, min(n, PER_GROUP), seed, truncation, progress
    )
    return Evaluation(document, _pictures(generator, reals, samples, both, seed, truncation))


def _labels(images: ImageSet, n: int, seed: int, soften: float) -> np.ndarray:
    """Labels (n, k) as frequent as in the training pictures, softened as in training."""
    rows = np.random.default_rng([seed, 32]).choice(images.indices(0), n)
    return softened(images, rows, soften)


def _check_fit(images: ImageSet, generator: Generator, data: str) -> None:
    config = generator.config
    if (images.size, images.channels) != (config.size, config.channels):
        raise FaderError(
            f"{data}: opened as {images.size} pixels with {plural(images.channels, 'channel')}, "
            f"and the generator draws {config.size} with {config.channels}"
        )
    if images.label_names != generator.label_names:
        has, draws = (", ".join(n) or "none" for n in (images.label_names, generator.label_names))
        raise FaderError(f"{data}: its labels are {has}, and the generator's are {draws}")


def _scores(
    generator: Generator, reals: Reals, samples: np.ndarray, features: np.ndarray, seed: int
) -> dict[str, dict[str, Any]]:
    """The measures of the samples, and of as many other real pictures in their place."""
    count = len(samples)
    real = reals.features(reals.reference[:count])
    others = reals.pictures(reals.others[:count])
    bins = Bins.of(reals.pictures(reals.reference[:count]), seed)
    real_spread, near, filled_by_real = spread(real), repeat_distance(real), bins.compare(others)

    def column(points: np.ndarray, pictures: np.ndarray) -> dict[str, Any]:
        filled = bins.compare(pictures)
        found = collapse(points, real_spread, near, filled, filled_by_real)
        degree = (found.score >= PARTIAL) + (found.score >= FULL)
        return {
            "frechet": plain(frechet(real, points)),
            "kid": plain_kid(real, points, seed),
            **plain(manifolds(real, points, seed)),
            "spread": plain(spread(points)),
            "ms_ssim": plain(similarity(pictures, seed)),
            "bins": plain(filled),
            "collapse": {**plain(found), "verdict": ("none", "partial", "collapsed")[degree]},
        }

    generated = column(features, samples)
    if isinstance(generator, ConditionalVae):
        redrawn = redraw(generator, reals, reals.others[:count])
        generated["psnr"] = plain(psnr(redrawn, others, seed))
    real_column = column(reals.features(reals.others[:count]), others)
    return {"generated": generated, "real": real_column}


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
            f"The generator was trained on {plural(learnt_from, 'image')} and the data has "
            f"{plural(len(reals.training), 'training image')}: other data, so copies may go "
            "unnoticed."
        )
    if generator.config.soften and reals.space.name == "attributes":
        found.append(
            "The network whose features these are softened the labels that the generator learnt "
            "from; --features judge has no part in either."
        )
    if not reals.held_out:
        found.append(
            "The data has too few held-out pictures: the column of real pictures is one half of "
            "the training ones against the other, and the generator has seen both."
        )
    if count < ROUGH:
        found.append(f"Only {plural(count, 'picture')} on each side: the distances are rough.")
    if truncation != 1:
        found.append(f"Samples are truncated to {truncation:g}: cleaner and less various.")
    unknown = [n for n in generator.label_names if judge is not None and n not in judge.names]
    if unknown:
        found.append(f"The judge does not know {', '.join(unknown)}; these are not scored.")
    return found


def _pictures(
    generator: Generator,
    reals: Reals,
    samples: np.ndarray,
    memories: tuple[Memory, Memory],
    seed: int,
    truncation: float,
) -> dict[str, Image.Image]:
    """The report's, by title; ``memories`` are in features and in pixels."""
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
        latents = generator.latents(_BY_LABEL, seed, truncation).repeat(len(groups), 1)
        rows = generator.render(latents, torch.from_numpy(asked.astype(np.float32)))
        pictures["By label, every row from the same latents"] = grid(rows, _BY_LABEL, list(groups))
    first = np.arange(min(_BESIDE, len(samples)))
    closest = np.argsort(memories[0].distances, kind="stable")[:_BESIDE]
    titles = ["samples", f"nearest in {reals.space.title} features", "nearest in pixels"]
    for title, some in {"The first samples": first, "The samples nearest of all": closest}.items():
        found = [reals.pictures(reals.training[one.rows[some]]) for one in memories]
        beside = to_tensor(np.concatenate([samples[some], *found]))
        title = f"{title}, and the training pictures nearest to each"
        pictures[title] = grid(beside, len(some), titles)
    return pictures
