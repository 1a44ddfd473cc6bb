"""The model that comes in the package, on the photo that comes with it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from fader import Editor
from fader.attributes import ATTRIBUTES
from fader.commands import main
from fader.faces.blend import mask
from fader.models.pretrained import WEIGHTS_FOLDER

PHOTO = Path(__file__).parent.parent / "examples" / "astronaut.jpg"


@pytest.fixture(scope="module")
def editor() -> Editor:
    return Editor(device="cpu")


def test_it_is_small_and_knows_the_promised_attributes(editor: Editor) -> None:
    size = sum(path.stat().st_size for path in (WEIGHTS_FOLDER / "default").iterdir())
    assert size <= 25e6
    assert editor.model.size == 128
    promised = {"Male", "Young", "Smiling", "Eyeglasses", "Mouth_Slightly_Open", "No_Beard"}
    assert promised <= set(editor.attributes)
    assert set(editor.model.classifier.config.attributes) <= set(ATTRIBUTES)


def test_it_sees_what_the_astronaut_shows(editor: Editor) -> None:
    (face, *_) = editor.describe(PHOTO)
    assert face.attributes["Smiling"] > 0.8
    assert face.attributes["Male"] < 0.3
    assert face.attributes["Eyeglasses"] < 0.2


@pytest.mark.parametrize(
    "changes",
    [
        {"Smiling": 0},
        {"Male": 1},
        {"Eyeglasses": 1},
        {"Mouth_Slightly_Open": 0},
        {"Bald": 1},
        {"Male": 1, "No_Beard": 0},
        {"No_Beard": 0},
    ],
    ids=lambda changes: ",".join(f"{name}={value}" for name, value in changes.items()),
)
def test_an_edit_is_seen_in_the_edited_photo_and_nowhere_else(
    editor: Editor, changes: dict[str, int]
) -> None:
    before = editor.describe(PHOTO)[0]
    edited = editor.edit(PHOTO, **changes)
    after = editor.describe(edited)[0]
    for attribute, value in changes.items():
        moved = after.attributes[attribute] - before.attributes[attribute]
        assert moved * (1 if value else -1) > 0.3

    photo, result = np.asarray(Image.open(PHOTO)), np.asarray(edited)
    outside = mask(before.face, photo.shape) == 0
    assert np.array_equal(photo[outside], result[outside])
    assert not np.array_equal(photo, result)


def test_dyed_hair_keeps_its_strands(editor: Editor) -> None:
    """It came out as a blur with the decoder's own weave."""
    photo = np.asarray(Image.open(PHOTO).convert("L"), np.float32)
    edited = np.asarray(editor.edit(PHOTO, Gray_Hair=1).convert("L"), np.float32)
    hair = slice(20, 60), slice(190, 260)
    was, now = (image[hair] - cv2.GaussianBlur(image, (0, 0), 2)[hair] for image in (photo, edited))
    assert np.abs(edited - photo)[hair].mean() > 10
    assert np.corrcoef(was.ravel(), now.ravel())[0, 1] > 0.8


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
    assert result.output.startswith("default: 128 px") and "Smiling" in result.output
