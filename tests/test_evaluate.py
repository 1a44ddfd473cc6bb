"""Evaluation: editors whose quality is known by construction get the scores they deserve."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import fader.evaluate.evaluation as evaluation
from fader.commands import main
from fader.data.batches import to_images, to_tensor
from fader.data.prepared import PreparedStore, prepare
from fader.data.synthetic import face_number, write_dataset
from fader.errors import FaderError
from fader.evaluate import leakage
from fader.evaluate.identity import identity
from fader.evaluate.judge import cautions, load_judge
from fader.evaluate.report import html
from fader.evaluate.statistics import (
    distinct_people,
    estimate,
    frechet,
    spearman,
    strangeness,
)
from fader.evaluate.swaps import Faces
from fader.evaluate.table import text
from fader.faces.align import align
from fader.models.autoencoder import AutoencoderConfig
from fader.models.classifier import AttributeClassifier, ClassifierConfig
from fader.models.io import FaderModel, load_classifier, save_classifier
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
        x = images.reshape(len(images), -1) / 127.5 - 1
        return np.concatenate([x, np.ones((len(x), 1))], axis=1)


class Editor(torch.nn.Module):
    """What all editors below share. This one gives back what it gets, whatever is asked."""

    attributes, size, classifier = EDITED, SIZE, None

    def encode(self, x: torch.Tensor, copies: int | None = None) -> list[torch.Tensor]:
        return [x]

    def decode(
        self, features: list[torch.Tensor], y: torch.Tensor, *known: torch.Tensor
    ) -> torch.Tensor:
        return features[0].repeat(len(y) // len(features[0]), 1, 1, 1)

    def tinted(self, y: torch.Tensor, own: torch.Tensor) -> None:
        return None


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
        if changed == face:
            return x[None]
        image = align(changed.draw(), np.rint(changed.landmarks), SIZE)
        return to_tensor(image[None])


@pytest.fixture(scope="module")
def judge(store: PreparedStore) -> LinearJudge:
    return LinearJudge(store)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "SLID", 6)
    monkeypatch.setattr(evaluation, "SHOWN", 3)
    monkeypatch.setattr(leakage, "_STEPS", 10)


def document(
    model: torch.nn.Module, judge: object, store: PreparedStore, **options: object
) -> dict:
    options = {"embedder": mean_colour, "split": "valid", "progress": False, **options}
    return evaluation.evaluate(model, judge, store, name="it", **options).document


def mean_colour(images: np.ndarray) -> np.ndarray:
    return images.mean(axis=(1, 2)) / 255


def test_what_comes_through_the_latent_is_shown(store: PreparedStore, judge: LinearJudge) -> None:
    for editor, low, high in ((Oracle(store), 0.4, 0.6), (Editor(), 0.8, 1.0)):
        found = document(editor, judge, store)["leakage"]["shown"]
        for name in ("Eyeglasses", "Wearing_Hat"):
            assert low <= found["attributes"][name]["value"] <= high


def test_a_perfect_editor_scores_near_one(store: PreparedStore, judge: LinearJudge) -> None:
    found = document(Oracle(store), judge, store)
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


def test_an_editor_that_does_nothing_scores_nothing(
    store: PreparedStore, judge: LinearJudge
) -> None:
    found = document(Editor(), judge, store)
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
    assert found["other_attributes_kept"] == {"mean": None, "attributes": {"Eyeglasses": None}}


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

    kept, lost = (identity(model, centred, faces, 0, limit=9) for model in (Editor(), Eraser()))
    assert kept["attributes"]["Male"]["similarity"].value == pytest.approx(1)
    assert lost["attributes"]["Male"]["similarity"].value == pytest.approx(-1, abs=0.02)
    assert lost["attributes"]["Male"]["recognised"].value == 0
    assert {"decoded", "same_person", "strangers"} <= set(kept)


def test_without_a_face_recogniser_identity_says_so(
    store: PreparedStore, judge: LinearJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fader.evaluate.identity.find_spec", lambda name: None)
    found = document(Editor(), judge, store, embedder=None, limit=4)
    assert found["identity"]["mean"] is None
    assert "pip install 'fader[identity]'" in found["identity"]["reason"]
    assert "no face recogniser" in text(found)


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
    return FaderModel(config, ClassifierConfig(size=32, width=4)).eval()


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
    assert "judge" in found["fid"]["features"] and "reason" in found["identity"]

    result = CliRunner().invoke(main, [*arguments, "--html", str(report)])
    assert result.exit_code == 1 and "--overwrite" in result.stderr and not result.stdout

    nowhere = report / "report.html"
    result = CliRunner().invoke(main, [*arguments, "--json", "--html", str(nowhere)])
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
