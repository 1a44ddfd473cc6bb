"""Images to learn from, as a user has them: class folders, zips, anything, and what is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cgan.data import open_images
from fader.data.synthetic import write_dataset
from fader.errors import FaderError
from fader.photo import save_image


def draw(path: Path, colour: tuple[int, ...] | int, mode: str = "RGB", size=(40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


@pytest.fixture
def emotions(tmp_path: Path) -> Path:
    for split, n in (("train", 6), ("validation", 2)):
        for name, grey in (("happy", 200), ("sad", 50)):
            for i in range(n):
                draw(tmp_path / "faces" / split / name / f"{i}.png", grey + i, "L")
    return tmp_path / "faces"


def test_class_folders_with_a_split(emotions: Path) -> None:
    images = open_images(emotions, 32, 1, "folder", progress=False)
    assert images.label_names == ("happy", "sad") and images.label_kind == "classes"
    assert images.images.shape == (16, 32, 32, 1)
    assert np.bincount(images.split).tolist() == [12, 4]
    brightness = images.images.mean(axis=(1, 2, 3))
    assert (brightness[images.class_numbers == 0] >= 200).all()
    assert (brightness[images.class_numbers == 1] < 100).all()


def test_a_zip_is_read_in_place(emotions: Path, tmp_path: Path) -> None:
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in emotions.rglob("*.png"):
            file.write(path, path.relative_to(tmp_path))
        file.writestr("__MACOSX/faces/._0.png", b"")
    inside = open_images(archive, 32, 1, "folder", progress=False)
    outside = open_images(emotions, 32, 1, "folder", progress=False)
    assert (inside.images == outside.images).all() and (inside.labels == outside.labels).all()
    assert (inside.split == outside.split).all() and not inside.rejected


def test_one_class_alone(emotions: Path) -> None:
    images = open_images(emotions, 32, 1, "folder", progress=False)
    with pytest.raises(FaderError, match="only 8 images are happy; at least 10"):
        images.only("Happy")
    with pytest.raises(FaderError, match="there is no 'hapy' here; the labels are happy, sad"):
        images.only("hapy")
    for i in range(10):
        draw(emotions / "train" / "sad" / f"more-{i}.png", 90, "L")
    sad = open_images(emotions, 32, 1, "folder", progress=False).only("sad")
    assert len(sad) == 18 and sad.label_kind == "none" and sad.labels.shape == (18, 0)
    assert sad.images[np.arange(18)].max() <= 90


def test_any_mode_and_size_and_what_cannot_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "animals"
    for i in range(10):
        draw(folder / "deep" / f"{i}.jpg", (200, 10, 10), size=(100 + i, 70))
    draw(folder / "grey.png", 100, "L", (5, 9))
    draw(folder / "see-through.png", (0, 0, 0, 0), "RGBA")
    draw(folder / "palette.gif", 3, "P")
    draw(folder / "print.jpg", (0, 0, 0, 0), "CMYK")
    Image.fromarray(np.full((50, 50), 65535, np.uint16)).save(folder / "deep.png")
    (folder / "broken.jpg").write_bytes((folder / "deep" / "0.jpg").read_bytes()[:300])
    (folder / "empty.png").write_bytes(b"")
    (folder / "notes.txt").write_text("not an image")
    images = open_images(folder, 32, 3, progress=False)
    assert len(images) == 15 and images.images.shape == (15, 32, 32, 3)
    assert [name for name, _ in images.rejected] == ["broken.jpg", "empty.png"]
    assert "zero bytes" in dict(images.rejected)["empty.png"]
    by_name = dict(zip(images.names, images.images, strict=True))
    assert (by_name["see-through.png"] == 255).all()  # on white
    assert (by_name["deep.png"] == 255).all()
    assert (by_name["grey.png"] == 100).all()
    assert open_images(folder, 48, 1, progress=False).images.shape == (15, 48, 48, 1)


def test_a_heic_photo_is_read_where_its_library_is(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif", reason="needs the extra: pip install 'fader[heif]'")
    for i in range(10):
        save_image(Image.new("RGB", (64, 64), (200, 10, 10)), tmp_path / f"{i}.heic")
    code = (
        "from cgan.data import open_images; from fader.photo import open_photo; "
        f"print(len(open_images({str(tmp_path)!r}, 32, 3, progress=False)), "
        f"open_photo(open({str(tmp_path / '0.heic')!r}, 'rb').read()).pixels.shape)"
    )  # where nothing has read a HEIC before
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split("\n")[0] == "10 (64, 64, 3)", done.stderr


def test_the_middle_square_is_taken(tmp_path: Path) -> None:
    for i in range(10):
        picture = Image.new("RGB", (90, 30), (255, 0, 0))
        picture.paste((0, 0, 255), (30, 0, 60, 30))
        picture.save(tmp_path / f"{i}.png")
    images = open_images(tmp_path, 32, 3, progress=False).images
    assert (images[:, 4:-4, 4:-4] == (0, 0, 255)).all()


def test_too_few_images(tmp_path: Path) -> None:
    for i in range(3):
        draw(tmp_path / f"{i}.png", (1, 2, 3))
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(FaderError) as error:
        open_images(tmp_path, 32, progress=False)
    message = str(error.value)
    assert "3 usable images" in message and "bad.png" in message and "10 are needed" in message
    assert "\n" not in message


def test_faces_with_attributes(tmp_path: Path) -> None:
    write_dataset(tmp_path / "celeba", 40, seed=1, counterfactuals=False, progress=False)
    images = open_images(tmp_path / "celeba", 32, 3, ["smiling", "Male"], progress=False)
    assert images.label_names == ("Smiling", "Male") and images.label_kind == "attributes"
    assert images.labels.shape == (40, 2)
    grey = open_images(tmp_path / "celeba", 32, 1, progress=False)
    assert grey.images[np.array([3, 1])].shape == (2, 32, 32, 1) and grey.label_kind == "none"
    with pytest.raises(FaderError, match="no image has Big_Nose"):
        open_images(tmp_path / "celeba", 32, 3, ["Big_Nose"], progress=False)


def test_labels_that_are_not_there(tmp_path: Path) -> None:
    for i in range(10):
        draw(tmp_path / f"{i}.png", (1, 2, 3))
    with pytest.raises(FaderError, match="says nothing of Blond_Hair"):
        open_images(tmp_path, 32, 3, ["Blond_Hair"], progress=False)
    with pytest.raises(FaderError, match="no folders of images to name classes"):
        open_images(tmp_path, 32, 3, "folder", progress=False)
    with pytest.raises(FaderError, match="there is no such folder or zip"):
        open_images(tmp_path / "nowhere", 32, progress=False)
    for name, kind in (("0.png", "a single picture"), ("notes.txt", "neither a folder nor a zip")):
        (tmp_path / "notes.txt").write_text("mine")
        for labels in ("none", "folder", ["Male"]):
            with pytest.raises(FaderError, match=f"{name}: is {kind}.*; give a folder or a zip"):
                open_images(tmp_path / name, 32, 3, labels, progress=False)
    (tmp_path / "b.zip").write_bytes(b"no zip")
    with pytest.raises(FaderError, match="not a whole zip"):
        open_images(tmp_path / "b.zip", 32, progress=False)


def test_pictures_of_few_bits_are_not_black(tmp_path: Path) -> None:
    for i in range(12):
        values = np.linspace(0, 4095, 40 * 40).reshape(40, 40).astype(np.uint16)
        Image.fromarray(values).save(tmp_path / f"{i}.png")
    images = open_images(tmp_path, 32, 1, progress=False)
    assert images.images.max() > 240 and not images.notes


def test_more_images_than_there_is_memory_are_refused(tmp_path: Path) -> None:
    for i in range(10):
        draw(tmp_path / f"{i}.png", (200, 10, 10))
    with pytest.raises(FaderError, match=r"its 10 images need .* GB of memory"):
        open_images(tmp_path, 10_000_000, 3, progress=False)


def test_black_pictures_are_told_of(tmp_path: Path) -> None:
    for i in range(12):
        draw(tmp_path / f"{i}.png", (200, 200, 200) if i % 4 else (9, 9, 16))
    (note,) = open_images(tmp_path, 32, 3, progress=False).notes
    assert note.startswith("3 of 12 images are black or almost so")


def test_entries_of_one_name_count_once(tmp_path: Path) -> None:
    for i in range(10):
        draw(tmp_path / f"{i}.png", (200, 10 * i, 10))
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for i in range(10):
            archive.write(tmp_path / f"{i}.png", f"cat\\{i}.png")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.write(tmp_path / "0.png", "cat\\1.png")
    images = open_images(tmp_path / "all.zip", 32, 3, "folder", progress=False)
    assert len(images) == 10 and images.label_names == ("cat",)
    assert images.images[1, 0, 0].tolist() == [200, 0, 10]


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names there are text")
def test_names_that_are_no_text_are_written_down(tmp_path: Path) -> None:
    for i in range(10):
        draw(tmp_path / f"{i}.png", (200, 10 * i, 10))
    (tmp_path / os.fsdecode(b"\xff.png")).write_bytes(b"no image")
    ((name, reason),) = open_images(tmp_path, 32, 3, progress=False).rejected
    assert name == "\\xff.png" and "not an image" in reason
    name.encode("utf-8")


def test_images_are_found_by_their_content(tmp_path: Path) -> None:
    for i in range(6):
        draw(tmp_path / f"{i}.png", (200, 10, 10))
        (tmp_path / f"{i}.png").rename(tmp_path / f"{i}")
        draw(tmp_path / f"{i}.jpg", (200, 10, 10))
        (tmp_path / f"{i}.jpg").rename(tmp_path / f"{i}.jfif")
    (tmp_path / "notes").write_text("not an image")
    images = open_images(tmp_path, 32, 3, progress=False)
    assert len(images) == 12 and not images.rejected


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders on this system")
def test_a_pipe_among_the_images_is_left_out(tmp_path: Path) -> None:
    for i in range(10):
        draw(tmp_path / f"{i}.png", (200, 10, 10))
    os.mkfifo(tmp_path / "pipe.jpg")
    images = open_images(tmp_path, 32, 3, progress=False)
    assert len(images) == 10 and images.rejected[0][0] == "pipe.jpg"
    with pytest.raises(FaderError, match="no regular file"):
        open_images(tmp_path / "pipe.jpg", 32, 3, progress=False)
