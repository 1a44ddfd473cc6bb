"""The model that comes in the package, on the photos that come with it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from paths import ROOT
from PIL import Image

from fader import Editor
from fader.attributes import ATTRIBUTES, WORDS, parse_words
from fader.commands import main
from fader.faces.blend import mask
from fader.faces.detect import Face
from fader.models.folders import WEIGHTS_FOLDER, model_info

EXAMPLES = ROOT / "examples"
PHOTO = EXAMPLES / "astronaut.jpg"
EDITED = (
    *("Male", "Young", "Smiling", "Eyeglasses", "Mouth_Slightly_Open", "No_Beard"),
    *("Bangs", "Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair", "Bald"),
)


@pytest.fixture(scope="module")
def editor() -> Editor:
    return Editor(device="cpu")


def test_it_is_small_and_knows_the_promised_attributes(editor: Editor) -> None:
    size = sum(path.stat().st_size for path in (WEIGHTS_FOLDER / "default").iterdir())
    assert size <= 25e6
    assert editor.model.size == 128
    assert editor.attributes == EDITED
    assert editor.model.classifier.config.attributes == ATTRIBUTES


def test_it_comes_with_its_onnx_form() -> None:
    light = Editor(device="cpu", runtime="onnx")
    assert light.attributes == EDITED
    assert light.edit(PHOTO, Smiling=0).size == Image.open(PHOTO).size
    size = sum(path.stat().st_size for path in (WEIGHTS_FOLDER / "default").rglob("*.*"))
    assert size <= 30e6  # the wheel is to stay under 40 MB


def test_it_says_how_it_was_made(editor: Editor) -> None:
    info = model_info("default")
    assert info["autoencoder"]["kind"] == "difference"
    assert "CelebA" in info["training"]["data"] and info["training"]["images"] > 100_000
    assert info["classifier_training"]["identities"] == "even"
    assert set(editor.model.strength) == set(EDITED)
    assert all(1 <= length <= 1.5 for pair in editor.model.strength.values() for length in pair)
    card = (WEIGHTS_FOLDER / "default" / "README.md").read_text(encoding="utf-8")
    assert all(name in card for name in EDITED)


def test_it_knows_every_word_but_those_of_hats(editor: Editor) -> None:
    for word in set(WORDS) - {"hat", "no-hat"}:
        assert parse_words(word, editor.attributes)


def test_it_sees_what_the_astronaut_shows(editor: Editor) -> None:
    (face, *_) = editor.describe(PHOTO)
    assert face.attributes["Smiling"] > 0.8
    assert face.attributes["Male"] < 0.5
    assert face.attributes["Bangs"] > 0.5
    assert face.attributes["Eyeglasses"] < 0.2


@pytest.mark.parametrize("name", EDITED)
def test_an_edit_is_seen_in_the_photo_and_nowhere_outside_the_face(
    editor: Editor, name: str
) -> None:
    """By the classifier, which finds what is asked for likelier: by half at least, in odds."""
    photo = np.asarray(Image.open(PHOTO))
    face = editor.describe(photo)[0]
    value = int(face.attributes[name] < 0.5)
    edited = np.asarray(editor.edit(photo, **{name: value}))
    outside = mask(face.face, photo.shape) == 0
    assert np.array_equal(photo[outside], edited[outside])
    assert not np.array_equal(photo, edited)
    moved = seen(editor, edited, face.face, name) - seen(editor, photo, face.face, name)
    assert moved * (1 if value else -1) > np.log(1.5)


def seen(editor: Editor, photo: np.ndarray, face: Face, name: str) -> float:
    """The logarithm of the odds that the classifier gives ``name``, of a face found before."""
    (estimates,) = editor.networks.estimate(editor.networks.crop(photo, [face]))
    return float(np.log(estimates[name] / (1 - estimates[name])))


@pytest.mark.parametrize("name", ["Smiling", "Male", "Gray_Hair"])
def test_sliders_go_both_ways(editor: Editor, name: str) -> None:
    (found, *_) = editor.describe(PHOTO)
    less, more = (
        np.asarray(editor.edit(PHOTO, **{name: f"{end - found.attributes[name]:+}"}))
        for end in (-0.4, 1.4)
    )
    photo = np.asarray(Image.open(PHOTO))
    below, own, above = (seen(editor, p, found.face, name) for p in (less, photo, more))
    assert below < own + 0.2 and above > own - 0.2
    assert above - below > 2


def test_what_is_there_already_leaves_the_photo_as_it_is(editor: Editor) -> None:
    face = editor.describe(PHOTO)[0]
    asked = {name: round(value) for name, value in face.attributes.items() if name in EDITED}
    sure = {n: v for n, v in asked.items() if abs(face.attributes[n] - v) < 0.05}
    assert len(sure) >= 4
    assert np.array_equal(np.asarray(editor.edit(PHOTO, **sure)), np.asarray(Image.open(PHOTO)))


@pytest.mark.parametrize(("name", "alike"), [("Brown_Hair", 0.8), ("Gray_Hair", 0.7)])
def test_dyed_hair_keeps_its_strands(editor: Editor, name: str, alike: float) -> None:
    """It came out as a blur with the decoder's own weave."""
    photo = np.asarray(Image.open(PHOTO).convert("L"), np.float32)
    edited = np.asarray(editor.edit(PHOTO, **{name: 1}).convert("L"), np.float32)
    hair = slice(20, 60), slice(190, 260)
    was, now = (image[hair] - cv2.GaussianBlur(image, (0, 0), 2)[hair] for image in (photo, edited))
    assert np.abs(edited - photo)[hair].mean() > 10
    assert np.corrcoef(was.ravel(), now.ravel())[0, 1] > alike


def test_the_readme_s_edit_writes_its_file_and_leaves_the_photo(tmp_path: Path) -> None:
    photo = tmp_path / "astronaut.jpg"
    photo.write_bytes(PHOTO.read_bytes())
    result = CliRunner().invoke(main, ["edit", str(photo), "--to", "serious"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "astronaut.edited.jpg").stat().st_size > 10_000
    assert photo.read_bytes() == PHOTO.read_bytes()


def test_models_lists_it() -> None:
    result = CliRunner().invoke(main, ["models"])
    assert result.exit_code == 0
    assert result.output == f"default: 128 px, {', '.join(EDITED)}\n"
