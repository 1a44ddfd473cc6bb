"""A cGAN, a conditional VAE and the Fader Network, asked for the same labels: one table.

    python tools/compare_kinds.py --data STORE64 --faces STORE128 faces runs/vae/model

Every row has pictures of as many people, with labels drawn from the held-out pictures'. Generators
draw theirs; the Fader Network edits held-out faces of ``--faces`` until they have the labels, and
its crops are shrunk to the generators' size. The last row is real pictures with these labels.
Columns: how often the packaged judge sees each label as asked; precision and recall in the features
of ``cgan evaluate``; sharpness, the mean absolute Laplacian in parts of real pictures'; and
milliseconds a picture, of one run in which nothing else should compute.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import torch
from PIL import Image

from cgan.data import open_images
from cgan.evaluate.features import SPACES
from cgan.evaluate.labels import find_label_judge
from cgan.evaluate.metrics import frechet, manifolds
from cgan.evaluate.reals import Reals, draw, features_of
from cgan.io import load_generator
from cgan.networks import Generator
from cgan.pictures import grid
from fader.attributes import rivals
from fader.data.annotations import TEST
from fader.data.batches import to_images, to_tensor
from fader.data.store import PreparedStore
from fader.errors import FaderError
from fader.models.model import FaderModel
from fader.models.pretrained import load_model

#: Faces edited together, and pictures of each row that are shown.
BATCH, SHOWN = 16, 10


def sharpness(pictures: np.ndarray) -> float:
    """Mean absolute Laplacian of the grey values of N×S×S×3 uint8."""
    greys = (cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures)
    return float(np.mean([np.abs(cv2.Laplacian(grey, cv2.CV_64F)).mean() for grey in greys]))


def edited(
    model: FaderModel,
    names: tuple[str, ...],
    labels: np.ndarray,
    faces: np.ndarray,
    own: np.ndarray,
) -> np.ndarray:
    """``faces`` N×S×S×3 uint8 with values ``own`` (N×n) until they have ``labels`` (N×k) of
    ``names``; what excludes one that is put on is taken off."""
    y, column = torch.from_numpy(own.astype(np.float32)), model.attributes.index
    asked = y.clone()
    asked[:, list(map(column, names))] = torch.from_numpy(labels.astype(np.float32))
    for k, name in enumerate(names):
        for other in set(rivals(name, model.attributes)) - set(names):
            asked[labels[:, k], column(other)] = 0
    parts = []
    with torch.inference_mode():
        for start in range(0, len(faces), BATCH):
            some = slice(start, start + BATCH)
            features = model.encode(to_tensor(faces[some]))
            parts.append(to_images(model.decode(features, asked[some], y[some])))
    return np.concatenate(parts)


def timed(make: Callable[[], np.ndarray]) -> tuple[np.ndarray, float]:
    """What ``make`` returns, N pictures, and the milliseconds for one."""
    start = time.perf_counter()
    pictures = make()
    return pictures, (time.perf_counter() - start) * 1000 / len(pictures)


def makers(
    models: tuple[str, ...], fader_model: str, faces: Path, labels: np.ndarray, seed: int
) -> tuple[tuple[str, ...], int, dict[str, Callable[[], np.ndarray]]]:
    """The labels' names, the size of pictures, and who makes those of each row."""
    generators: list[Generator] = [load_generator(model) for model in models]
    names, size = generators[0].label_names, generators[0].config.size
    rows: dict[str, Callable[[], np.ndarray]] = {}
    for model, generator in zip(models, generators, strict=True):
        config = generator.config
        if (config.label_names, config.size, config.channels) != (names, size, 3):
            raise FaderError(f"{model}: other labels, size or colours than {models[0]}")
        rows[f"{config.model}: {model}"] = partial(draw, generator, len(labels), seed, labels, 1.0)
    network = load_model(fader_model, "cpu")
    if missing := [name for name in names if name not in network.attributes]:
        raise FaderError(f"{fader_model}: does not edit {', '.join(missing)}")
    store = PreparedStore(faces)
    if store.size != network.size:
        raise FaderError(
            f"{faces}: has faces of {store.size} pixels, and {fader_model} edits those of "
            f"{network.size}; prepare some with --size {network.size}"
        )
    if not len(store.indices(TEST)):
        raise FaderError(f"{faces}: has no faces of the test part, which alone are edited")
    held_out = np.random.default_rng([seed, 7]).permutation(store.indices(TEST))
    chosen = np.sort(held_out[: len(labels)])
    own = store.select_labels(network.attributes)[chosen]

    def fader() -> np.ndarray:
        images = edited(network, names, labels[: len(chosen)], store.images[chosen], own)
        return np.stack([cv2.resize(i, (size, size), interpolation=cv2.INTER_AREA) for i in images])

    rows[f"Fader Network: {fader_model}"] = fader
    return names, size, rows


@click.command()
@click.argument("models", nargs=-1, required=True)
@click.option("--data", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--faces", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--model", "fader_model", default="default", show_default=True)
@click.option("-n", type=click.IntRange(2), default=1500, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--picture", type=click.Path(path_type=Path), help="Write the first of every row.")
def main(**options: Any) -> None:
    """Measure every row and print the table."""
    try:
        compare(**options)
    except FaderError as error:
        raise click.ClickException(str(error)) from None


def compare(
    models: tuple[str, ...],
    data: Path,
    faces: Path,
    fader_model: str,
    n: int,
    seed: int,
    picture: Path | None,
) -> None:
    """Print the table of :func:`main`, and write the picture."""
    first = load_generator(models[0])
    if (first.config.label_kind, first.config.channels) != ("attributes", 3):
        raise FaderError(
            f"{models[0]}: does not draw in colour by attributes, which is what is compared"
        )
    if picture is not None and not picture.parent.is_dir():
        raise FaderError(f"{picture}: there is no folder {picture.parent}")
    images = open_images(data, first.config.size, 3, first.label_names)
    judge = find_label_judge(images)
    assert judge is not None  # as there are attributes
    reals = Reals.seen(images, SPACES["attributes"]("cpu"), limit=n, seed=seed)
    n = min(n, len(reals.others))
    labels = images.labels[reals.others[:n]] > 0.5
    names, _, rows = makers(models, fader_model, faces, labels, seed)
    real = reals.pictures(reals.others[:n])
    rows["real pictures"] = lambda: real
    columns = [judge.names.index(name) for name in names]
    click.echo(f"| | {' | '.join(names)} | Fréchet | precision | recall | sharpness | ms |")
    click.echo("| --- |" + " --- |" * (len(names) + 5))
    shown = []
    for row, make in rows.items():
        pictures, took = timed(make)
        shown.append(pictures[:SHOWN])
        right = (judge.see(pictures)[:, columns] == labels[: len(pictures)]).mean(axis=0)
        features = features_of(reals.space, pictures)
        reference = reals.features(reals.reference[: len(features)])
        near = manifolds(reference, features, seed)
        numbers = [f"{x:.2f}" for x in right]
        numbers += [f"{frechet(reference, features):.2f}"]
        numbers += [f"{x.value:.2f}" for x in (near.precision, near.recall) if x]
        numbers += [f"{sharpness(pictures) / sharpness(real):.2f}", f"{took:.1f}"]
        click.echo(f"| {row} | {' | '.join(numbers)} |")
    if picture is not None:
        Image.fromarray(np.asarray(grid(to_tensor(np.concatenate(shown)), SHOWN))).save(picture)


if __name__ == "__main__":
    main()
