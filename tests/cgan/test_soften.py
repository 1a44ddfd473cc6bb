"""Labels that say how plainly an attribute is seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_generators import drawn, small_config

from cgan.config import GanConfig
from cgan.data import ImageSet
from cgan.evaluate.evaluation import evaluate
from cgan.evaluate.features import FeatureSpace
from cgan.evaluate.metrics import pixels
from cgan.evaluate.reals import Reals
from cgan.gan import GanTrainer
from cgan.io import load_generator
from cgan.networks import Generator
from cgan.soften import softened
from fader.data.batches import to_tensor
from fader.errors import FaderError
from fader.models.pretrained import load_classifier

NAMES = ("Smiling", "Shiny", "Male")


@pytest.fixture(params=[1, 3], ids=["grey", "colour"])
def images(request: pytest.FixtureRequest) -> ImageSet:
    """Pictures with random labels, of which the second is nothing that a classifier knows."""
    some = drawn(channels=request.param)
    labels = np.random.default_rng(1).integers(0, 2, (len(some), 3)).astype(np.float32)
    return replace(some, labels=labels, label_names=NAMES, label_kind="attributes")


def test_a_share_of_each_label_is_the_classifiers(images: ImageSet) -> None:
    rows = np.array([7, 2, 20])
    found = softened(images, rows, 0.4)
    classifier = load_classifier("default")
    columns = [classifier.config.attributes.index(name) for name in ("Smiling", "Male")]
    x = to_tensor(images.images[rows]).expand(-1, 3, -1, -1)
    with torch.inference_mode():
        logits = classifier(x)[:, columns].numpy()
    frequency = images.labels.mean(axis=0)[[0, 2]]
    told = 1 / (1 + np.exp(-logits) * frequency / (1 - frequency))
    given = images.labels[rows]
    assert np.allclose(found[:, [0, 2]], 0.6 * given[:, [0, 2]] + 0.4 * told, atol=1e-5)
    assert (found[:, 1] == given[:, 1]).all()
    assert ((found > 0.5) == (given > 0.5)).all()


def test_hard_labels_and_classes_stay_as_they_are(images: ImageSet) -> None:
    rows = np.arange(9)
    assert (softened(images, rows, 0) == images.labels[rows]).all()
    classes = drawn(classes=2)
    assert (softened(classes, rows, 0.4) == classes.labels[rows]).all()


def test_half_of_a_label_would_be_too_much() -> None:
    with pytest.raises(FaderError, match=r"soften=0\.5: must be in \[0, 0\.5\)"):
        GanConfig(soften=0.5)


def test_a_generator_learns_from_softened_labels_and_is_scored_with_them(
    images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(images, "steps=2", "soften=0.4")
    trainer = GanTrainer(config, images, tmp_path / "run", progress=False)
    expected = softened(images, trainer.batches.rows, 0.4)
    assert np.allclose(trainer.batches.labels, expected, atol=1e-5)
    trainer.train()

    generator = load_generator(tmp_path / "run")
    rows = generator.label_rows
    assert ((rows[:, 1] == 0) | (rows[:, 1] == 1)).all() and ((rows > 0) & (rows < 1))[:, 0].any()
    asked: list[torch.Tensor] = []
    blank = torch.zeros(1, images.channels, images.size, images.size)

    def render(self: Generator, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        asked.append(y)
        return blank.expand(len(z), -1, -1, -1)

    monkeypatch.setattr(Generator, "render", render)
    space = FeatureSpace("attributes", "pixel", "pixels", "distance of pixels", pixels)
    reals = Reals.seen(images, space, progress=False)
    evaluate(generator, reals, name="run", data="drawn", n=10, progress=False)
    assert ((asked[0] > 0) & (asked[0] < 1))[:, [0, 2]].all()
