"""Evaluation: editors whose quality is known by construction get the scores they deserve."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from paths import ROOT
from PIL import Image

import fader.evaluate.evaluation as evaluation
from fader.commands import main
from fader.data.batches import to_images, to_tensor
from fader.data.prepare import prepare
from fader.data.store import PreparedStore
from fader.data.synthetic import SyntheticFace, face_number, write_dataset
from fader.errors import FaderError
from fader.evaluate import leakage
from fader.evaluate.card import model_card
from fader.evaluate.case import Faces
from fader.evaluate.editing import outside
from fader.evaluate.identity import (
    EmbedderConfig,
    FaceEmbedder,
    Recogniser,
    identity,
    load_embedder,
    packaged_recogniser,
    save_embedder,
)
from fader.evaluate.judge import cautions, load_judge
from fader.evaluate.report import html
from fader.evaluate.statistics import (
    distinct_people,
    estimate,
    frechet,
    spearman,
    strangeness,
    wilson,
)
from fader.evaluate.table import text
from fader.faces.align import align
from fader.models.autoencoder import AutoencoderConfig
from fader.models.classifier import AttributeClassifier, ClassifierConfig
from fader.models.model import Decoding, FaderModel, save_classifier
from fader.models.pretrained import load_classifier
from fader.train.classifier import make_even_handed, score_classifier

EDITED = ("Male", "Eyeglasses", "Wearing_Hat")
SIZE, SEED = 32, 3


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> PreparedStore:
    folder = tmp_path_factory.mktemp("drawn")
    write_dataset(folder / "celeba", 240, seed=SEED, counterfactuals=False, progress=False)
    prepare(folder / "celeba", folder / "store", size=SIZE, workers=1, progress=False)
    return PreparedStore(folder / "store")


class LinearJudge:
    """Ridge regression on pixels, learnt from drawn training faces; a judge good enough here."""

    attributes, name, architecture = EDITED, "linear", "ridge regression"
    notes = {"identities": "odd", "seed": 0}  # noqa: RUF012
    classifier = SimpleNamespace(config=SimpleNamespace(architecture="linear"))

    def __init__(self, store: PreparedStore) -> None:
        rows = store.indices(0)
        x = self._pixels(store.images[rows])
        y = 2 * store.select_labels(self.attributes)[rows] - 1
        self.weights = x.T @ np.linalg.solve(x @ x.T + 30 * np.eye(len(x)), y)

    def see(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x = self._pixels(images)
        return (x @ self.weights * 5).astype(np.float32), x[:, ::97]

    def _pixels(self, images: np.ndarray) -> np.ndarray:
        x = images.reshape(len(images), np.prod(images.shape[1:])) / 127.5 - 1
        return np.concatenate([x, np.ones((len(x), 1))], axis=1)


class Editor(torch.nn.Module):
    """What all editors below share. This one gives back what it gets, whatever is asked."""

    attributes, size, classifier = EDITED, SIZE, None
    autoencoder = SimpleNamespace(config=SimpleNamespace(kind="paper"))

    def encode(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [x, x]

    def change(self, features: list[torch.Tensor], y: torch.Tensor, own: torch.Tensor) -> Decoding:
        before, after = (self.decode(features, values, own) for values in (own, y))
        return Decoding(before, after, torch.ones_like(after[:, :1]))

    def decode(
        self, features: list[torch.Tensor], y: torch.Tensor, *known: torch.Tensor
    ) -> torch.Tensor:
        return features[0].repeat(len(y) // len(features[0]), 1, 1, 1)


@cache
def drawn(face: SyntheticFace) -> torch.Tensor:
    """The picture of a face as a store has it, 1×3×S×S."""
    return to_tensor(align(face.draw(), np.rint(face.landmarks), SIZE)[None])


class Oracle(Editor):
    """Knows how every face was drawn, and draws it anew with what is asked."""

    def __init__(self, store: PreparedStore) -> None:
        super().__init__()
        self.known = {image.tobytes(): row for row, image in enumerate(store.images)}
        self.names = store.names

    def decode(
        self, features: list[torch.Tensor], y: torch.Tensor, *known: torch.Tensor
    ) -> torch.Tensor:
        return torch.cat([self.draw(x, v) for x, v in zip(super().decode(features, y), y)])  # noqa: B905

    def draw(self, x: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        row = self.known[to_images(x[None])[0].tobytes()]
        face = face_number(int(Path(self.names[row]).stem), SEED)
        changed = face
        for name, value in zip(self.attributes, (values > 0.5).tolist(), strict=True):
            # What follows from a change (a beard goes with Male) is not changed back.
            if face.attributes[name] != value and name in face.editable:
                changed = changed.with_attribute(name, value)
        return x[None] if changed == face else drawn(changed)


@pytest.fixture(scope="module")
def judge(store: PreparedStore) -> LinearJudge:
    return LinearJudge(store)


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "SLID", 6)
        patch.setattr(evaluation, "SHOWN", 2)
        patch.setattr(leakage, "_STEPS", 10)
        yield


@pytest.fixture(scope="module")
def honest(store: PreparedStore, judge: LinearJudge) -> dict:
    """The document of the editor that draws every face anew as asked."""
    return document(Oracle(store), judge, store)


@pytest.fixture(scope="module")
def idle(store: PreparedStore, judge: LinearJudge) -> dict:
    """The document of the editor that gives back what it gets."""
    return document(Editor(), judge, store)


def document(
    model: torch.nn.Module, judge: object, store: PreparedStore, **options: object
) -> dict:
    options = {"embedder": mean_colour, "split": "valid", "progress": False, **options}
    return evaluation.evaluate(model, judge, store, name="it", **options).document


def mean_colour(images: np.ndarray) -> np.ndarray:
    return images.mean(axis=(1, 2)) / 255


def test_what_comes_through_the_latent_is_shown(honest: dict, idle: dict) -> None:
    for editor, low, high in ((honest, 0.4, 0.6), (idle, 0.8, 1.0)):
        found = editor["leakage"]["shown"]
        for name in ("Eyeglasses", "Wearing_Hat"):
            assert low <= found["attributes"][name]["value"] <= high


def test_a_perfect_editor_scores_near_one(honest: dict) -> None:
    found = honest
    swaps = found["swap_accuracy"]
    for name in ("Eyeglasses", "Wearing_Hat"):
        own = found["judge"]["balanced_accuracy"][name]
        assert own > 0.85
        assert swaps["attributes"][name]["mean"]["accuracy"]["value"] >= own - 0.1
        assert swaps["attributes"][name]["mean"]["blurred"]["value"] >= own - 0.2
        curve = found["continuity"][name]
        assert curve["spearman"]["value"] > 0.5  # it moves once, at 0.5
        assert curve["probability"][-1] > curve["probability"][0] + 0.3
    assert found["other_attributes_kept"]["mean"] > 0.85
    assert found["reconstruction"]["psnr"]["value"] == 60


def test_an_editor_that_does_nothing_scores_nothing(idle: dict) -> None:
    found = idle
    for name in ("Eyeglasses", "Wearing_Hat"):
        entry = found["swap_accuracy"]["attributes"][name]
        assert entry["mean"]["accuracy"]["value"] < 0.15
        for direction in ("to_0", "to_1"):
            # What is there without an edit is told beside the score.
            assert entry[direction]["before"] == entry[direction]["value"]
        assert found["continuity"][name]["spearman"]["value"] == 0
        assert found["continuity"][name]["monotone"]["value"] == 0
    assert found["other_attributes_kept"]["mean"] == 1
    assert found["reconstruction"]["ssim"]["value"] == pytest.approx(1, abs=1e-4)
    assert found["fid"]["decoded"] == pytest.approx(0, abs=1e-3)
    assert found["identity"]["mean"] == pytest.approx(1)
    assert found["strangeness"]["decoded"] == pytest.approx(1)


def test_a_texture_trick_is_caught_by_blur_and_jpeg(store: PreparedStore) -> None:
    """The editor adds a faint checkerboard, which this judge takes for the attribute."""
    board = (np.indices((SIZE, SIZE)).sum(axis=0) % 2 * 2 - 1)[..., None]

    class Gullible(LinearJudge):
        attributes = ("Eyeglasses",)

        def see(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            logits = (images * board).mean(axis=(1, 2, 3)) - 2
            return logits[:, None].astype(np.float32), super().see(images)[1]

    class Trickster(Editor):
        attributes = ("Eyeglasses",)

        def decode(
            self, features: list[torch.Tensor], y: torch.Tensor, *known: torch.Tensor
        ) -> torch.Tensor:
            pattern = torch.from_numpy(board[..., 0]).float()
            return (0.8 * super().decode(features, y) + 0.05 * pattern * y[:, :, None, None]).clamp(
                -1, 1
            )

    found = document(Trickster(), Gullible(store), store)
    score = found["swap_accuracy"]["attributes"]["Eyeglasses"]["to_1"]
    assert score["value"] > 0.95
    assert score["blurred"]["value"] < 0.1
    # Nothing else can be judged, so nothing is claimed about it.
    assert found["other_attributes_kept"] == {
        "mean": None,
        "floor": None,
        "attributes": {"Eyeglasses": None},
    }


def test_the_probe_finds_what_a_latent_holds_and_nothing_in_noise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leakage, "_STEPS", 400)
    random = torch.Generator().manual_seed(0)
    z = torch.randn(900, 24, generator=random)
    labels = torch.rand(900, 3, generator=random)
    labels[:, 2] = (labels[:, 2] > 0.9).float()  # rare, and in the latent
    z[:, 0] += 4 * (labels[:, 0] > 0.5)
    z[:, 1] += 6 * labels[:, 2]
    labels = labels.numpy()
    pairs = [(z[a:b], labels[a:b]) for a, b in ((0, 500), (500, 600), (600, 900))]
    found = leakage.probe(*pairs, np.arange(300), seed=0)
    assert found[0].value > 0.93
    assert found[1].low - 0.03 <= 0.5 <= found[1].high + 0.03
    assert found[2].value > 0.9


def test_bootstrap_draws_people_not_faces() -> None:
    values = np.repeat(np.random.default_rng(0).integers(0, 2, 30), 10)
    alone = estimate(values, np.arange(300))
    together = estimate(values, np.repeat(np.arange(30), 10))
    assert alone.value == together.value == values.mean()
    assert together.high - together.low > 2 * (alone.high - alone.low)
    assert alone.low < alone.value < alone.high
    assert estimate(np.array([]), np.array([])) is None
    # Right on all of the common side and on half of the rare one.
    assert estimate([1, 1, 1, 1, 1, 0], np.arange(6), [0, 0, 0, 0, 1, 1]).value == 0.75
    assert len(set(distinct_people(np.array([-1, -1, 4, 4])))) == 3


def test_spearman_and_frechet_by_hand() -> None:
    assert spearman(np.arange(5), np.array([1, 2, 4, 8, 16])) == pytest.approx(1)
    assert spearman(np.arange(4), np.array([1, 0, 3, 2])) == pytest.approx(0.6)
    assert spearman(np.array([0, 1, 2, 3]), np.array([0, 1, 1, 2])) == pytest.approx(0.948683298)
    assert spearman(np.arange(3), np.zeros(3)) == 0
    # (μ − μ')² + σ² + σ'² − 2σσ' in each of two independent directions.
    corners = np.array([[-1.0, -1], [-1, 1], [1, -1], [1, 1]])
    assert frechet(corners, 3 * corners + 5) == pytest.approx(50 + 2 * 4 * 4 / 3)


def test_what_is_unusual_is_strange() -> None:
    random = np.random.default_rng(0)
    reference, others = random.normal(3, 2, (2, 500, 6))
    assert np.mean(strangeness(others, reference)) == pytest.approx(1, abs=0.15)
    assert np.min(strangeness(others + 20, reference)) > 10


def test_identity_is_near_one_only_for_who_is_still_the_same(store: PreparedStore) -> None:
    class Eraser(Editor):
        def decode(
            self, features: list[torch.Tensor], y: torch.Tensor, *known: torch.Tensor
        ) -> torch.Tensor:
            return -super().decode(features, y)

    rows = store.indices(2)
    labels = store.select_labels(EDITED)[rows]
    people = np.arange(len(rows)) // 2
    faces = Faces(store.images[rows], labels, people)

    def centred(images: np.ndarray) -> np.ndarray:
        return images[:, ::8, ::8].reshape(len(images), -1) / 127.5 - 1

    recogniser = Recogniser("centred", centred)
    kept, lost = (identity(model, recogniser, faces, 0, limit=9) for model in (Editor(), Eraser()))
    assert kept["attributes"]["Male"]["similarity"].value == pytest.approx(1)
    assert lost["attributes"]["Male"]["similarity"].value == pytest.approx(-1, abs=0.02)
    assert lost["attributes"]["Male"]["recognised"].value == 0
    assert {"decoded", "same_person", "strangers"} <= set(kept)


def test_without_an_installed_face_recogniser_the_packaged_one_measures_identity(
    store: PreparedStore, judge: LinearJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fader.evaluate.identity.find_spec", lambda name: None)
    found = document(Editor(), judge, store, embedder=None, limit=4)["identity"]
    assert found["mean"] == pytest.approx(1, abs=1e-3)
    assert found["embedder"].startswith("packaged")
    assert "pairs" in found["verification"]


def test_the_packaged_embedder_is_small_and_says_how_well_it_tells_people_apart() -> None:
    recogniser = packaged_recogniser()
    folder = Path(evaluation.__file__).parent / "weights" / "identity"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 3e6
    assert 0.75 < float(recogniser.verification.split()[0]) < 1
    random = np.random.default_rng(0)
    found = recogniser.embed(random.integers(0, 255, (3, 128, 128, 3), np.uint8))
    assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-4)


def test_a_discriminant_analysis_finds_what_tells_people_apart() -> None:
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("tool", ROOT / "tools/train_embedder.py")
    tool = module_from_spec(spec)
    spec.loader.exec_module(tool)
    random = np.random.default_rng(0)
    people = np.repeat(np.arange(200), 4)
    photos = random.normal(0, 1, (800, 12))
    photos[:, :2] += 6 * random.normal(0, 1, (200, 2))[people]  # who they are
    photos[:, 2:6] *= 20  # light, say
    matrix, centre = tool.discriminant(photos, people, 2)
    placed = (photos - centre) @ matrix.T
    same, other = tool.distances(placed / np.linalg.norm(placed, axis=1, keepdims=True), people)
    blind = tool.distances(photos / np.linalg.norm(photos, axis=1, keepdims=True), people)
    assert tool.area(same, other) > 0.85 > 0.6 > tool.area(*blind)
    assert 0 < tool.best_threshold(same, other) < 2


def test_an_embedder_is_saved_and_loaded(tmp_path: Path) -> None:
    made = FaceEmbedder(EmbedderConfig(size=32, width=4, dimensions=8, same_person=0.7)).eval()
    save_embedder(made, tmp_path, {"people": 3})
    loaded, notes = load_embedder(tmp_path)
    assert loaded.config == made.config and notes == {"people": 3}
    x = torch.rand(2, 3, 64, 64)
    assert loaded(x).numpy() == pytest.approx(made(x).detach().numpy(), abs=0.01)


class Stranger(Editor):
    """Draws one and the same person for everyone: one photo for each value of an attribute."""

    def __init__(self, store: PreparedStore) -> None:
        super().__init__()
        rows = store.indices(0)
        labels = store.select_labels(self.attributes)[rows] > 0.5
        self.photos = to_tensor(store.images[rows])
        self.labels = torch.from_numpy(labels)

    def decode(
        self, features: list[torch.Tensor], y: torch.Tensor, *known: torch.Tensor
    ) -> torch.Tensor:
        alike = ((y > 0.5)[:, None] == self.labels[None]).float().mean(dim=2)
        return self.photos[alike.argmax(dim=1)]


def test_one_stranger_for_everyone_is_found_out(store: PreparedStore, judge: LinearJudge) -> None:
    """It shows what is asked, reads alike before and after, and leaks nothing."""
    rows = store.indices(0)
    pixels = store.images[rows].reshape(len(rows), -1).astype(np.float32)
    axes = np.linalg.svd(pixels - pixels.mean(axis=0), full_matrices=False)[2][:20].T

    def looks(images: np.ndarray) -> np.ndarray:
        return (images.reshape(len(images), -1) - pixels.mean(axis=0)) @ axes

    found = document(Stranger(store), judge, store, embedder=looks)
    for name in ("Eyeglasses", "Wearing_Hat"):
        assert found["swap_accuracy"]["attributes"][name]["mean"]["accuracy"]["value"] > 0.9
    # Nobody is who they were.
    assert found["identity"]["mean"] < found["identity"]["strangers"]["similarity"]["value"] + 0.3
    # What random people score stands beside the score, in the document and in the table.
    assert 0.4 < found["other_attributes_kept"]["floor"] < 0.8
    assert "random other people" in text(found)


def test_what_the_edit_moves_is_measured_from_the_photo(
    store: PreparedStore, judge: LinearJudge, honest: dict
) -> None:
    """Whose decodings all have a hat kept no bare head, however alike they are to one another."""

    class Hatter(Oracle):
        def decode(
            self, features: list[torch.Tensor], y: torch.Tensor, *known: torch.Tensor
        ) -> torch.Tensor:
            y = y.clone()
            y[:, EDITED.index("Wearing_Hat")] = 1
            return super().decode(features, y)

    kept = [
        found["other_attributes_kept"]["attributes"]["Eyeglasses"]["to_1"]
        for found in (document(Hatter(store), judge, store), honest)
    ]
    assert kept[0]["side_effects"]["Wearing_Hat"] > kept[1]["side_effects"]["Wearing_Hat"] + 0.2
    assert kept[0]["value"] < kept[1]["value"] - 0.2


def test_edits_are_compared_with_real_faces_that_have_the_value(
    store: PreparedStore, judge: LinearJudge, honest: dict
) -> None:
    found = honest["realism"]
    grey = document(Grey(), judge, store)["realism"]
    assert "ridge regression" in found["features"]
    for name in ("Eyeglasses", "Wearing_Hat"):
        for direction, one in found["attributes"][name].items():
            assert one["ratio"] == pytest.approx(one["distance"] / one["halves"], rel=1e-2)
            assert one["ratio"] < grey["attributes"][name][direction]["ratio"]
    assert found["worst"] >= found["mean"]


class Grey(Editor):
    def decode(
        self, features: list[torch.Tensor], y: torch.Tensor, *known: torch.Tensor
    ) -> torch.Tensor:
        return 0.1 * super().decode(features, y)


def test_all_sets_of_the_distance_have_as_many_images(
    store: PreparedStore, judge: LinearJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    monkeypatch.setattr("fader.evaluate.realism.frechet", lambda a, b: sizes.append((a, b)) or 1.0)
    monkeypatch.setattr("fader.evaluate.realism.USUAL", 7)
    assert document(Editor(), judge, store)["fid"]["n"] == 7
    assert all(len(a) == len(b) for a, b in sizes)


def test_each_sex_and_age_is_scored_beside_the_whole(
    store: PreparedStore, judge: LinearJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    class ForMenOnly(Oracle):
        def decode(
            self, features: list[torch.Tensor], y: torch.Tensor, *known: torch.Tensor
        ) -> torch.Tensor:
            edited = Editor.decode(self, features, y)
            men = (y[:, 0] > 0.5).nonzero()[:, 0]
            if len(men):
                edited[men] = super().decode([edited[men]], y[men])
            return edited

    monkeypatch.setattr("fader.evaluate.scores.FEW", 2)
    groups = document(ForMenOnly(store), judge, store)["swap_accuracy"]["by_group"]
    assert groups["Male=0"]["mean"] < groups["Male=0"]["whole"] - 0.2
    assert groups["Male=1"]["mean"] > groups["Male=1"]["whole"] + 0.2


def test_what_changes_outside_the_mask_is_measured(
    store: PreparedStore, judge: LinearJudge, idle: dict
) -> None:
    class Masked(Editor):
        """Brightens the left half, which it says; and the rest by ``spill``, which it does not."""

        spill = 0.0

        def change(
            self, features: list[torch.Tensor], y: torch.Tensor, own: torch.Tensor
        ) -> Decoding:
            x = features[0]
            mask = torch.zeros_like(x[:, :1])
            mask[..., : SIZE // 2] = 1
            return Decoding((x + self.spill).clamp(-1, 1), (x + 0.3).clamp(-1, 1), mask)

    class Spilling(Masked):
        spill = 0.04

    clean, spilt = (
        document(e, judge, store, limit=12)["outside_mask"] for e in (Masked(), Spilling())
    )
    assert clean["mean"] == 60
    assert 30 < spilt["least"] <= spilt["mean"] < 36  # 0.04 of 2 is 34 dB
    assert "no mask" in idle["outside_mask"]["reason"]
    pictures = np.zeros((1, SIZE, SIZE, 3), np.uint8)
    assert np.isnan(outside(pictures, pictures, torch.ones(1, 1, SIZE, SIZE))).all()


def test_a_share_of_all_or_none_is_not_certain() -> None:
    assert wilson(1.0, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert wilson(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(0.3, 50) == pytest.approx((0.1910, 0.4375), abs=1e-4)
    few, many = (estimate(np.ones(n), np.arange(n)) for n in (4, 400))
    assert few.high == pytest.approx(1) and many.high == pytest.approx(1)
    assert few.low < 0.6 < 0.98 < many.low
    # Forty faces of four people are four people.
    assert estimate(np.ones(40), np.repeat(np.arange(4), 10)).low == few.low


def test_rejected_images_are_told(idle: dict) -> None:
    assert idle["data"]["rejected"] == 0
    found = {**idle, "data": {**idle["data"], "rejected": 17}}
    assert "17 images of the data were rejected" in text(found)
    assert "17 images" in html(evaluation.Evaluation(found, {}))
    alone = {**idle, "data": {**idle["data"], "rejected": 1, "faces": 1, "people": 1}}
    for said in (text(alone), html(evaluation.Evaluation(alone, {}))):
        assert "1 valid face of 1 person" in said and "1 image of the data was rejected" in said


def test_what_few_faces_do_not_show_is_not_left_blank(
    store: PreparedStore, judge: LinearJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(found: dict) -> str:
        lines = text(found).splitlines()
        summed = lines[lines.index("") + 1 :]
        assert not [one for one in summed if re.search(r"(: ?|, ?| )$|: ?[,;(]|, ,|people ?$", one)]
        return "\n".join(summed)

    alone = document(Editor(), judge, store, limit=1)
    assert "random other people none, too few faces" in told(alone)
    assert "told nothing: none, no label differs" in told(alone)
    assert "real faces with the value, over that of two halves of these, mean: none, too few" in (
        told(alone)
    )
    known = document(Editor(), judge, store, limit=4)
    only = {**known, "other_attributes_kept": {"mean": None, "floor": None, "attributes": {}}}
    assert "other attributes kept: none, the judge knows no others" in told(only)
    assert "<h2>Sliders" in (page := html(evaluation.Evaluation(only, {})))
    assert "<h2>Side effects" not in page
    # As with soft labels, all near to one half.
    monkeypatch.setattr("fader.evaluate.editing.CLEAR", 0.6)
    unclear = document(Editor(), judge, store, limit=6)
    assert "swap accuracy: none, no face has a clear label" in told(unclear)
    assert "other attributes kept" not in told(unclear)
    assert "<h2>For whom" not in html(evaluation.Evaluation(unclear, {}))


def test_the_same_seed_gives_the_same_document(store: PreparedStore, judge: LinearJudge) -> None:
    first, second = (document(Editor(), judge, store, limit=9, seed=4) for _ in range(2))
    assert first == second
    assert first["data"]["faces"] == 9


# The judge


def classifier(architecture: str = "plain", seed: int = 0) -> AttributeClassifier:
    torch.manual_seed(seed)
    config = ClassifierConfig(size=32, width=4, architecture=architecture)
    return AttributeClassifier(config).eval()


@pytest.fixture
def model() -> FaderModel:
    torch.manual_seed(1)
    config = AutoencoderConfig(
        size=SIZE, layers=3, attributes=("Male", "Smiling"), width=8, max_width=16
    )
    model = FaderModel(config, ClassifierConfig(size=32, width=4)).eval()
    model.classifier.notes = {"identities": "even"}
    return model


def test_the_model_s_own_classifier_is_refused_as_judge(model: FaderModel, tmp_path: Path) -> None:
    model.save(tmp_path / "model", torch.float16)  # what ships is rounded; it is still its own
    with pytest.raises(FaderError, match="own classifier"):
        load_judge(tmp_path / "model", model)


def test_a_run_or_a_model_folder_is_taken_and_a_doubtful_judge_is_marked(
    model: FaderModel, tmp_path: Path
) -> None:
    save_classifier(classifier(), tmp_path / "run" / "model", {"identities": "odd", "seed": 7})
    from_run, from_model = (load_judge(tmp_path / p, model) for p in ("run", "run/model"))
    images = np.zeros((1, 32, 32, 3), np.uint8)
    assert np.array_equal(from_run.see(images)[0], from_model.see(images)[0])
    assert cautions(from_run, model) == []

    save_classifier(classifier("resnet"), tmp_path / "like", {"identities": "all"})
    marks = " ".join(cautions(load_judge(tmp_path / "like", model), model))
    assert "architecture" in marks and "odd" in marks


def test_a_judge_that_learnt_from_the_guide_s_people_says_so(
    model: FaderModel, tmp_path: Path
) -> None:
    """Which half a classifier learnt from goes with it into the models it guides."""
    save_classifier(classifier("resnet", 1), tmp_path / "guide", {"identities": "odd"})
    model.classifier = load_classifier(tmp_path / "guide")
    model.save(tmp_path / "model")
    pupil = FaderModel.load(tmp_path / "model")
    assert load_classifier(tmp_path / "model").notes["identities"] == "odd"

    for half, words in (("even", None), ("odd", "in common"), ("all", "in common"), (None, "says")):
        save_classifier(classifier(), tmp_path / str(half), {"identities": half})
        found = cautions(load_judge(tmp_path / str(half), pupil), pupil)
        assert (words in found[0]) if words else found == []
    pupil.classifier.notes = {}
    assert "Nothing says" in cautions(load_judge(tmp_path / "even", pupil), pupil)[0]


def test_the_packaged_judge_is_of_another_kind_than_the_guide(model: FaderModel) -> None:
    packaged = load_judge(None, model)
    assert cautions(packaged, model) == []
    assert packaged.classifier.config.architecture == "plain"


def test_classifiers_saved_before_there_was_a_choice_still_load(tmp_path: Path) -> None:
    made = classifier("resnet")
    save_classifier(made, tmp_path, {})
    config = json.loads((tmp_path / "config.json").read_text())
    del config["classifier"]["architecture"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(load_classifier(tmp_path)(x), made(x))
    with pytest.raises(FaderError, match="architecture"):
        ClassifierConfig(architecture="round")


def test_an_even_handed_classifier_recognises_both_values_alike(store: PreparedStore) -> None:
    made = classifier()
    rows = np.flatnonzero(store.split == 0)
    make_even_handed(made, store, rows)
    scores = score_classifier(made, store, rows)
    # Whatever it has learnt (here nothing), always guessing the common value is no way out.
    truth = store.select_labels(["Eyeglasses"])[rows, 0] > 0.5
    with torch.no_grad():
        seen = made(to_tensor(store.images[rows]))
    seen = seen[:, made.config.attributes.index("Eyeglasses")].numpy() > 0
    assert seen[truth].mean() == pytest.approx((~seen[~truth]).mean(), abs=0.05)
    assert scores["Eyeglasses"].balanced_accuracy == pytest.approx(seen[truth].mean(), abs=0.05)


# The command and the report


def test_command_prints_the_contract_and_writes_a_self_contained_report(
    model: FaderModel, store: PreparedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fader.evaluate.identity.find_spec", lambda name: None)
    model.save(tmp_path / "model")
    save_classifier(classifier(), tmp_path / "judge", {"identities": "odd"})
    report = tmp_path / "report.html"
    arguments = ["evaluate", "--model", str(tmp_path / "model"), "--data", str(store.path)]
    arguments += ["--judge", str(tmp_path / "judge"), "--limit", "12"]
    result = CliRunner().invoke(main, [*arguments, "--json", "--html", str(report)])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert "swaps: face 12 of 12" in result.stderr  # a log file is told how far it is
    assert found["data"]["split"] == "test" and found["data"]["faces"] == 12
    for name in ("Male", "Smiling"):
        assert name in found["judge"]["balanced_accuracy"]
        for direction in ("to_0", "to_1"):
            score = found["swap_accuracy"]["attributes"][name][direction]
            assert score["low"] <= score["value"] <= score["high"]
            assert 0 <= score["blurred"]["value"] <= 1 and 0 <= score["pasted"]["value"] <= 1
            assert "value" in found["other_attributes_kept"]["attributes"][name][direction]
        assert 0 <= found["leakage"]["attributes"][name]["value"] <= 1
        assert len(found["continuity"][name]["probability"]) == 13
    assert {"psnr", "ssim", "ms_ssim"} <= set(found["reconstruction"])
    assert "judge" in found["fid"]["features"] and "packaged" in found["identity"]["embedder"]

    result = CliRunner().invoke(main, [*arguments, "--html", str(report)])
    assert result.exit_code == 1 and "--overwrite" in result.stderr and not result.stdout

    nowhere = report / "report.html"
    result = CliRunner().invoke(main, [*arguments, "--json", "--html", str(nowhere)])
    assert result.exit_code == 1 and not result.stdout  # before the work for it
    assert f"{report}: is a file, and a folder is wanted" in result.stderr

    def refused(path: Path, text: str) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(nowhere))

    with monkeypatch.context() as patch:
        patch.setattr("fader.evaluate.report.write_text", refused)
        elsewhere = tmp_path / "elsewhere.html"
        result = CliRunner().invoke(main, [*arguments, "--json", "--html", str(elsewhere)])
    assert result.exit_code == 1 and json.loads(result.stdout) == found
    assert str(report) in result.stderr and not isinstance(result.exception, OSError)

    page = report.read_text(encoding="utf-8")
    assert "http" not in page and "<script" not in page and "url(" not in page
    assert page.count("<svg") == 2 and page.count("data:image/jpeg;base64,") == 4

    table = text(found)
    assert "Smiling" in table and "leakage" in table and "judge's own accuracy" in table


def test_names_are_text_in_the_report(store: PreparedStore, judge: LinearJudge) -> None:
    found = document(Editor(), judge, store, limit=4)
    found["model"]["name"] = "<b>&"
    page = html(evaluation.Evaluation(found, {"<i>": Image.new("RGB", (4, 4))}))
    assert "&lt;b&gt;&amp;" in page and "<b>" not in page and "<i>" not in page


def test_data_that_does_not_fit_is_refused_in_a_sentence(
    store: PreparedStore, judge: LinearJudge, tmp_path: Path
) -> None:
    class Larger(Editor):
        size = 64

    with pytest.raises(FaderError, match="prepare the source again with --size 64"):
        document(Larger(), judge, store)

    empty = PreparedStore(store.path)
    empty.split = np.zeros_like(store.split)
    with pytest.raises(FaderError, match="no test images"):
        document(Editor(), judge, empty, split="test")


def test_a_model_s_card_tells_what_was_measured(honest: dict) -> None:
    network = FaderModel(AutoencoderConfig(size=SIZE, layers=3, attributes=EDITED, width=4))
    evaluated = json.loads(json.dumps(honest))
    card = model_card(network, "me/hats", "mit", evaluated)
    assert "license: mit" in card and "fader edit photo.jpg --set Male=1 --model me/hats" in card
    assert card.count("| Male | ") == 3 and "- reconstruction: PSNR" in card
    assert honest["data"]["path"] not in card
    with pytest.raises(FaderError, match="other attributes"):
        evaluated["model"]["attributes"] = ["Young"]
        model_card(network, "me/hats", "mit", evaluated)
