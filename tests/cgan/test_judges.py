"""Who judges a generator: judges of labels, and the features that distances are measured in."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from small_generators import drawn

from cgan.data import ImageSet
from cgan.evaluate import labels
from cgan.evaluate.features import SPACES, as_rgb, inception_features
from cgan.evaluate.labels import ClassTraining, find_label_judge
from fader.errors import FaderError
from fader.evaluate.judge import PACKAGED
from fader.models.pretrained import load_classifier


def test_a_judge_of_classes_is_trained_once(cache: Path, monkeypatch: pytest.MonkeyPatch):
    # Three levels of grey, which even a network of a few steps can tell.
    random = np.random.default_rng(0)
    kinds = np.arange(60) % 3
    grey = np.clip(random.normal(50 + 75 * kinds[:, None, None, None], 12, (60, 32, 32, 1)), 0, 255)
    images = ImageSet(
        grey.astype(np.uint8), np.eye(3, dtype=np.float32)[kinds], ("a", "b", "c"), "classes",
        np.repeat(np.array([0, 1], np.uint8), [45, 15]), [str(i) for i in range(60)],
    )  # fmt: skip
    monkeypatch.setattr(labels, "photographic", lambda x, random: x)
    training = ClassTraining(size=32, width=4, steps=60, batch_size=12, learning_rate=0.01)
    judge = find_label_judge(images, training=training, progress=False)
    assert judge.scored_on.tolist() == list(range(45, 60))
    told = judge.see(images.images[45:])
    assert told.sum(axis=1).tolist() == [1] * 15
    assert (told == (images.labels[45:] > 0.5)).all(axis=1).mean() > 0.6  # chance is 1/3
    monkeypatch.setattr(labels, "_train", None)  # it would be called, and fail
    again = find_label_judge(images, training=training, progress=False)
    assert (again.see(images.images[45:]) == told).all()
    assert len(list((cache / "fader").iterdir())) == 1


def test_a_judges_training_that_was_stopped_goes_on(
    cache: Path, monkeypatch: pytest.MonkeyPatch, interruptible: None
):
    images, training = drawn(), ClassTraining(size=32, width=4, steps=6, batch_size=8)
    whole = find_label_judge(images, training=training, progress=False)
    whole = whole.judge.classifier.state_dict()
    (folder,) = (cache / "fader").iterdir()
    assert not (folder / "training.pt").exists()
    shutil.rmtree(folder)

    steps: list[int] = []
    see = labels._seen

    def interrupt_the_third(x: torch.Tensor, seed: int) -> torch.Tensor:
        steps.append(seed)
        if len(steps) == 3:
            signal.raise_signal(signal.SIGINT)
        return see(x, seed)

    monkeypatch.setattr(labels, "_seen", interrupt_the_third)
    with pytest.raises(KeyboardInterrupt):
        find_label_judge(images, training=training, progress=False)
    assert [path.name for path in folder.iterdir()] == ["training.pt"]
    resumed = find_label_judge(images, training=training, progress=False)
    assert len(steps) == 6  # none of them twice
    resumed = resumed.judge.classifier.state_dict()
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())
    assert not (folder / "training.pt").exists()

    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "training.pt").write_bytes(b"cut short")
    with pytest.raises(FaderError, match=r"training\.pt: not a checkpoint .* remove it"):
        find_label_judge(images, training=training, progress=False)


def test_a_judge_given_for_classes_is_refused(cache: Path):
    with pytest.raises(FaderError, match="--judge is for attributes"):
        find_label_judge(drawn(), folder="somewhere")


@pytest.mark.parametrize(
    ("name", "source", "whose"),
    [("attributes", "default", "attribute classifier"), ("judge", PACKAGED, "packaged judge")],
)
def test_our_networks_features_take_grey_and_colour_of_any_size(
    name: str, source: str | Path, whose: str
):
    space = SPACES[name]()
    grey = np.full((2, 48, 48, 1), 90, np.uint8)
    assert space.name == name and space.see(grey).shape == (2, load_classifier(source).channels)
    assert np.allclose(space.see(grey), space.see(as_rgb(grey)))
    assert whose in space.description and "no FID" in space.distance


def test_inception_is_asked_for_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("cgan.evaluate.features.find_spec", lambda name: None)
    with pytest.raises(FaderError, match=r"pip install 'fader\[inception\]'"):
        inception_features()
    monkeypatch.setattr("cgan.evaluate.features.find_spec", lambda name: object())
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(FaderError, match="the Inception weights are not there"):
        inception_features()
    file = tmp_path / "hub" / "checkpoints" / "weights-inception-2015-12-05-6726825d.pth"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"no weights at all")
    with pytest.raises(FaderError, match="not the Inception weights"):
        inception_features()
