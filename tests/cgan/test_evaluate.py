"""Evaluation of generators: those whose quality is known by construction get what they deserve."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from cgan.commands import main
from cgan.config import GanConfig
from cgan.data import ImageSet
from cgan.evaluate import evaluation
from cgan.evaluate.evaluation import evaluate
from cgan.evaluate.features import FeatureSpace
from cgan.evaluate.label_scores import groups_of
from cgan.evaluate.labels import ClassTraining, LabelJudge, find_label_judge
from cgan.evaluate.metrics import pixels
from cgan.evaluate.reals import Reals
from cgan.evaluate.report import html, text
from cgan.io import save_generator
from cgan.networks import Generator
from fader.data.batches import to_tensor
from fader.errors import FaderError

SIZE, CLASSES, KIND = 32, ("disc", "bar", "ring"), "attributes"


def draw(kind: int, random: np.random.Generator) -> np.ndarray:
    """(32, 32, 1) uint8: a bright shape of one of the classes anywhere on a dark ground."""
    ground, colour = int(random.integers(20, 90)), int(random.integers(150, 250))
    image = np.full((SIZE, SIZE), ground, np.uint8)
    x, y = (int(v) for v in random.integers(10, 22, 2))
    size = int(random.integers(5, 9))
    if kind == 1:
        cv2.rectangle(image, (x - 2, y - size), (x + 2, y + size), colour, -1)
    else:
        cv2.circle(image, (x, y), size, colour, -1 if kind == 0 else 2, cv2.LINE_AA)
    return image[..., None]


def shapes(n: int, seed: int, held_out: int = 0) -> ImageSet:
    """n training images and some held-out ones, of three classes."""
    random = np.random.default_rng(seed)
    kinds = np.arange(n + held_out) % 3
    return ImageSet(
        images=np.stack([draw(kind, random) for kind in kinds]),
        labels=np.eye(3, dtype=np.float32)[kinds],
        label_names=CLASSES,
        label_kind="classes",
        split=np.repeat(np.array([0, 1], np.uint8), [n, held_out]),
        names=[f"{i}.png" for i in range(n + held_out)],
    )


class Artist(Generator):
    """Draws what it is asked for, as the data was drawn."""

    def __init__(self, **settings: object) -> None:
        settings = {"channels": 1, "label_names": CLASSES, "label_kind": "classes", **settings}
        super().__init__(GanConfig(size=SIZE, latent=4, width=2, max_width=4, **settings))
        self.eval()

    def render(self, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        streams = [np.random.default_rng(abs(int(row[0] * 1e6))) for row in z]
        kinds = y.argmax(dim=1).tolist() if y.shape[1] else [int(r.integers(3)) for r in streams]
        return to_tensor(np.stack([self.paint(k, r) for k, r in zip(kinds, streams, strict=True)]))

    def paint(self, kind: int, random: np.random.Generator) -> np.ndarray:
        return draw(kind, random)


class Confused(Artist):
    """Draws any of the three, whatever it is asked for."""

    def paint(self, kind: int, random: np.random.Generator) -> np.ndarray:
        return draw(int(random.integers(3)), random)


class Monotonous(Artist):
    """Draws one disc again and again."""

    def paint(self, kind: int, random: np.random.Generator) -> np.ndarray:
        return draw(0, np.random.default_rng(1))


class Copyist(Artist):
    """Hands out training images, half of them mirrored."""

    def __init__(self, images: np.ndarray) -> None:
        super().__init__()
        self.images = images

    def paint(self, kind: int, random: np.random.Generator) -> np.ndarray:
        image = self.images[random.integers(len(self.images))]
        return image[:, ::-1] if random.random() < 0.5 else image


SPACE = FeatureSpace("attributes", "pixel", "pixels, for a test", "distance of pixels", pixels)


class ShapeJudge:
    """Tells the classes by their areas, as a network would be too slow to learn here."""

    attributes, name, architecture, notes = CLASSES, "areas", "by hand", {"seed": 0}

    def see(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits = np.zeros((len(images), 3), np.float32)
        for row, image in enumerate(images[..., 0]):
            level = (int(image.min()) + int(image.max())) // 2
            filled = (image > level).astype(np.uint8)
            rows, columns = np.flatnonzero(filled.any(1)), np.flatnonzero(filled.any(0))
            height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
            hollow = filled[rows[0] + height // 2, columns[0] + width // 2] == 0
            logits[row, 1 if height > 1.4 * width else 2 if hollow else 0] = 1
        return logits, logits


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return shapes(240, seed=0, held_out=120)


@pytest.fixture(scope="module")
def reals(images: ImageSet) -> Reals:
    return Reals.seen(images, SPACE, progress=False)


@pytest.fixture(scope="module")
def judge(images: ImageSet) -> LabelJudge:
    return LabelJudge(ShapeJudge(), "classes", np.flatnonzero(images.split))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "PER_GROUP", 24)


def judged(generator: Generator, reals: Reals, judge: LabelJudge | None, n: int = 120) -> dict:
    found = evaluate(generator, reals, judge, name="it", data="shapes", n=n, progress=False)
    json.dumps(found.document)
    text(found.document)
    return found.document


def test_a_perfect_generator_scores_as_real_pictures_do(reals: Reals, judge: LabelJudge):
    document = judged(Artist(), reals, judge)
    generated, real = document["scores"]["generated"], document["scores"]["real"]
    assert generated["frechet"] == pytest.approx(real["frechet"], rel=0.3)
    assert generated["precision"]["value"] == pytest.approx(real["precision"]["value"], abs=0.15)
    assert generated["recall"]["value"] == pytest.approx(real["recall"]["value"], abs=0.15)
    assert generated["collapse"]["verdict"] == real["collapse"]["verdict"] == "none"
    assert document["memory"]["pixels"]["copies"]["value"] < 0.1
    assert document["labels"]["accuracy"]["value"] == 1
    assert document["labels"]["judge"]["accuracy"]["value"] == 1
    assert document["data"]["real"] == "held-out pictures"
    assert document["data"]["compared"] == 120


def test_a_generator_that_does_not_listen_is_right_by_chance(reals: Reals, judge: LabelJudge):
    document = judged(Confused(), reals, judge)
    accuracy = document["labels"]["accuracy"]
    assert accuracy["low"] < 1 / 3 < accuracy["high"]
    assert document["labels"]["chance"] == pytest.approx(1 / 3, abs=1e-3)
    taken = document["labels"]["groups"]["bar"]["taken_for"]
    assert sum(taken.values()) == pytest.approx(1, abs=1e-3) and len(taken) == 3
    # The set as a whole is as various as it should be: only the labels say so.
    assert document["scores"]["generated"]["collapse"]["verdict"] == "none"


def test_one_picture_repeated_is_called_collapsed(reals: Reals, judge: LabelJudge):
    document = judged(Monotonous(), reals, judge)
    generated, real = document["scores"]["generated"], document["scores"]["real"]
    assert generated["collapse"]["verdict"] == "collapsed"
    assert generated["collapse"]["score"] == pytest.approx(1, abs=1e-3)
    assert generated["recall"]["value"] < 0.05 < real["recall"]["value"]
    assert generated["frechet"] > 3 * real["frechet"]
    assert generated["ms_ssim"]["value"] > 0.99
    groups = document["labels"]["groups"]
    assert groups["disc"]["right"]["value"] == 1 and groups["bar"]["right"]["value"] == 0
    assert groups["disc"]["variety"] == pytest.approx(0, abs=1e-3)
    assert groups["disc"]["repeats"] == 1
    assert groups["bar"]["taken_for"] == {"disc": 1.0}


def test_copies_of_training_pictures_are_named(images: ImageSet, reals: Reals):
    copyist = Copyist(images.images[images.indices(0)])
    document = judged(copyist, reals, None)
    assert document["memory"]["pixels"]["copies"]["value"] == 1
    assert document["labels"] is None
    # As good a score as real pictures have, for all that.
    assert document["scores"]["generated"]["precision"]["value"] > 0.75


def test_a_generator_is_asked_about_the_pictures_it_learnt_from(images: ImageSet, reals: Reals):
    few = images.indices(0)[:40]
    copyist = Copyist(images.images[few])
    document = judged(copyist, reals.trained_on(few), None)
    assert document["data"]["training"] == 40
    assert document["memory"]["pixels"]["copies"]["value"] == 1
    others = Copyist(images.images[images.indices(0)[40:]])
    document = judged(others, reals.trained_on(few), None)
    assert document["memory"]["pixels"]["copies"]["value"] < 0.2


def test_without_held_out_pictures_the_training_ones_are_halved():
    half = Reals.seen(shapes(80, seed=2), SPACE, progress=False)
    assert not half.held_out and not np.intersect1d(half.reference, half.others).size
    document = judged(Artist(), half, None, n=50)
    assert document["data"]["compared"] == 40
    assert any("one half" in caution for caution in document["cautions"])
    assert any("Only 40 pictures" in caution for caution in document["cautions"])


def test_generators_without_labels(images: ImageSet):
    unlabelled = ImageSet(
        images.images,
        np.zeros((len(images), 0), np.float32),
        (),
        "none",
        images.split,
        images.names,
    )
    seen = Reals.seen(unlabelled, SPACE, progress=False)
    assert find_label_judge(unlabelled) is None
    document = judged(Artist(label_names=(), label_kind="none"), seen, None, n=60)
    assert document["labels"] is None and document["scores"]["generated"]["frechet"] > 0


class AttributeJudge(ShapeJudge):
    """Of the attributes Smiling and Male it tells one: Smiling is a bar."""

    attributes = ("Smiling",)

    def see(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits = super().see(images)[0]
        return logits[:, [1]] - 0.5, logits


def test_attributes_are_scored_by_value_and_combination(images: ImageSet):
    class Obedient(Artist):
        def render(self, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return super().render(z, torch.stack([y[:, 0] < 0.5, y[:, 0] > 0.5], dim=1).float())

    smiling = images.labels[:, 1]
    male = (np.arange(len(images)) % 2).astype(np.float32)
    faces = ImageSet(
        images.images,
        np.stack([smiling, male], axis=1),
        ("Smiling", "Male"),
        "attributes",
        images.split,
        images.names,
    )
    seen = Reals.seen(faces, SPACE, progress=False)
    judge = LabelJudge(AttributeJudge(), "attributes", np.flatnonzero(faces.split))
    generator = Obedient(label_names=("Smiling", "Male"), label_kind="attributes")
    document = judged(generator, seen, judge)
    scored = document["labels"]
    assert scored["attributes"]["Smiling"]["1"]["value"] == 1
    assert scored["attributes"]["Smiling"]["0"]["judge"] == 1
    assert set(scored["groups"]) == {
        f"Smiling={s},Male={m}" for s in (0, 1) for m in (0, 1)
    }  # fmt: skip
    assert "Male" not in scored["attributes"]
    assert any("does not know Male" in caution for caution in document["cautions"])
    assert "Smiling=1,Male=0" in text(document)


def test_rare_values_of_attributes_are_asked_for_too():
    """Of 32 combinations, 16 of them frequent, none with the fifth attribute."""
    names = ("Male", "Young", "Smiling", "Bangs", "Bald")
    every = np.array([[i >> k & 1 for k in range(5)] for i in range(32)], bool)
    often = np.where(every[:, 4], 1 + np.arange(32) % 3, 50)
    groups = groups_of(np.repeat(every, often, axis=0), Artist(label_names=names, label_kind=KIND))
    asked = np.stack(list(groups.values()))
    assert asked[:, 4].sum() == 1 and len(asked) == 17
    assert often[(every == asked[asked[:, 4]]).all(axis=1)] == 3
    nobody = groups_of(every[:16], Artist(label_names=names, label_kind=KIND))
    assert len(nobody) == 16  # a value that no picture has cannot be drawn


def test_what_does_not_fit_is_told(reals: Reals):
    with pytest.raises(FaderError, match="opened as 32 pixels with 1 channel,"):
        evaluate(Artist(channels=3), reals, name="it", data="shapes")
    with pytest.raises(FaderError, match="its labels are disc, bar, ring"):
        evaluate(Artist(label_names=("a", "b")), reals, name="it", data="shapes")
    with pytest.raises(FaderError, match="1 sample has no distribution"):
        evaluate(Artist(), reals, name="it", data="shapes", n=1)


def test_the_report_holds_everything_itself(reals: Reals, judge: LabelJudge):
    found = evaluate(Artist(), reals, judge, name="<it>", data="shapes", n=40, progress=False)
    document = html(found)
    assert "&lt;it&gt;" in document and "<it>" not in document
    assert not re.search(r"(src|href)=\"(?!data:)", document)
    assert document.count("data:image/jpeg;base64,") == len(found.pictures) == 5
    assert "disc" in document and "Fréchet" in document
    beside = next(v for k, v in found.pictures.items() if k.startswith("The samples nearest"))
    assert beside.width == 12 * SIZE and beside.height > 3 * SIZE


# ---------------------------------------------------------------- the command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Class folders with a split, 24 images to learn from and 12 held out."""
    for split, count, seed in (("train", 24, 5), ("validation", 12, 6)):
        drawn = shapes(count, seed)
        for i, image in enumerate(drawn.images):
            place = tmp_path / "shapes" / split / CLASSES[i % 3]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[..., 0]).save(place / f"{i}.png")
    return tmp_path / "shapes"


def saved(folder: Path, **settings: object) -> Path:
    settings = {"channels": 1, "width": 2, "max_width": 4, "latent": 4, **settings}
    torch.manual_seed(0)
    save_generator(Generator(GanConfig(size=32, **settings)), folder)
    return folder


def run(*arguments: object) -> object:
    return CliRunner().invoke(main, ["evaluate", *(str(one) for one in arguments)])


def test_command_prints_a_table_and_writes_a_report(
    tmp_path: Path, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ClassTraining, "__init__", _few_steps(ClassTraining.__init__))
    model = saved(tmp_path / "model", label_names=("bar", "disc", "ring"), label_kind="classes")
    result = run(
        "--model", model, "--data", folder, "-n", 20, "--html", tmp_path / "out.html"
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    for word in ("generated", "Fréchet distance", "KID", "precision", "bar", "CAUTION", "memory"):
        assert word in result.output
    assert "FID" not in result.output
    assert (tmp_path / "out.html").read_text().startswith("<!doctype html>")
    result = run("--model", model, "--data", folder, "--html", tmp_path / "out.html")
    assert result.exit_code == 1 and "--overwrite" in result.output


def _few_steps(original):
    def init(self, *args, **options):
        original(self, *args, **{**options, "width": 2, "steps": 4, "batch_size": 4})

    return init


def test_command_prints_json(tmp_path: Path, folder: Path):
    model = saved(tmp_path / "model")
    result = run("--model", model, "--data", folder, "-n", 20, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["features"]["name"] == "attributes" and document["labels"] is None
    assert document["data"]["training"] == 24 and document["data"]["held_out"] == 12
    assert document["data"]["rejected"] == 0


def test_command_compares_with_one_class_alone(tmp_path: Path, folder: Path):
    model = saved(tmp_path / "model")
    result = run("--model", model, "--data", folder, "--only", "bar", "-n", 20, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["data"]["training"] == 8 and document["data"]["held_out"] == 4
    labelled = saved(tmp_path / "labelled", label_names=CLASSES, label_kind="classes")
    result = run("--model", labelled, "--data", folder, "--only", "bar")
    assert result.exit_code == 2 and "--only bar" in result.output
