"""Image files as they come, from anybody: what cannot be used is refused alone, in words."""

from __future__ import annotations

import io
import os
import struct
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fader.data.images import FolderImages, ZipImages
from fader.errors import FaderError, UnreadableImageError
from fader.photo import open_photo


def picture(kind: str = "PNG", colour: tuple[int, int, int] = (200, 10, 10)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (20, 30), colour).save(file, kind)
    return file.getvalue()


def noise(kind: str = "BMP") -> bytes:
    file = io.BytesIO()
    values = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    Image.fromarray(values).save(file, kind)
    return file.getvalue()


def zipped(path: Path, entries: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def refused(images: FolderImages | ZipImages, name: str) -> str:
    with pytest.raises(UnreadableImageError) as caught:
        images.read(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- folders --------------------------------------------------------------------------------


def test_only_regular_files_inside_the_folder_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    (folder / "sub.jpg").mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(picture())
    (folder / "good.png").write_bytes(picture())
    images = FolderImages(folder)
    assert "lies outside" in refused(images, "../secret.png")
    assert "lies outside" in refused(images, "sub.jpg/../../secret.png")
    assert "lies outside" in refused(images, str(tmp_path / "secret.png"))
    assert "no regular file" in refused(images, "sub.jpg")
    assert refused(images, "nul\0l.png").startswith("unreadable")
    assert refused(images, "long" * 100 + ".png").startswith("unreadable")
    assert refused(images, "gone.png") == "missing"
    assert images.read("good.png").shape == (30, 20, 3)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders on this system")
def test_pipes_and_devices_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "endless.jpg").symlink_to("/dev/zero")
    images = FolderImages(tmp_path)
    assert "no regular file" in refused(images, "pipe.jpg")
    assert "no regular file" in refused(images, "endless.jpg")
    os.mkfifo(tmp_path / "nameless")
    assert images.names() == ["endless.jpg", "pipe.jpg"]


def test_a_file_too_large_for_an_image_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "huge.jpg", "wb") as file:
        file.truncate(3 << 30)
    assert "3221 MB large" in refused(FolderImages(tmp_path), "huge.jpg")


def test_content_decides_what_is_an_image_and_of_which_kind(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(picture("WEBP"))
    (tmp_path / "b.png").write_bytes(picture("JPEG"))
    (tmp_path / "c").write_bytes(picture("JPEG"))
    (tmp_path / "d.data").write_bytes(picture("GIF"))
    (tmp_path / "e.txt").write_text("BMW is no bitmap")
    (tmp_path / ".hidden.jpg").write_bytes(picture())
    images = FolderImages(tmp_path)
    assert images.names() == ["a.jpg", "b.png", "c", "d.data"]
    assert all(images.read(name).shape == (30, 20, 3) for name in images.names())


def test_a_list_may_name_images_of_another_suffix_or_none(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "1.png").write_bytes(picture())
    (tmp_path / "2.JPG").write_bytes(picture("JPEG"))
    (tmp_path / "3.png").write_bytes(picture())
    (tmp_path / "3.webp").write_bytes(picture())
    (tmp_path / "4.txt").write_text("no image")
    images = FolderImages(tmp_path)
    for name in ("in/1.jpg", "in/1", "2.jpg", "2"):
        assert images.read(name).shape == (30, 20, 3)
    assert refused(images, "3.jpg") == "missing; there are 3.png and 3.webp instead"
    assert refused(images, "4.jpg") == "missing"
    whole = ZipImages(zipped(tmp_path / "all.zip", {"deep/1.png": picture(), "2.a.png": noise()}))
    for name in ("1.jpg", "1", "deep/1.png", "2.a.jpg", "2.a"):
        assert whole.read(name).ndim == 3
    assert refused(whole, "2.jpg") == "missing"


def test_a_list_may_write_letters_in_another_way(tmp_path: Path) -> None:
    decomposed = "Rene\u0301.PNG"
    (tmp_path / decomposed).write_bytes(picture())
    (tmp_path / "ann.png").write_bytes(picture(colour=(0, 0, 255)))
    (tmp_path / "Ben.png").write_bytes(picture(colour=(0, 255, 0)))
    images = FolderImages(tmp_path)
    whole = ZipImages(
        zipped(tmp_path / "a.zip", {f"x/{n}": images.data(n) for n in images.names()})
    )
    for source in (images, whole):
        assert source.read("rené.png")[0, 0].tolist() == [200, 10, 10]
        assert source.read("ANN.jpg")[0, 0].tolist() == [0, 0, 255]
        assert source.read("ben.png")[0, 0].tolist() == [0, 255, 0]
    both = zipped(tmp_path / "b.zip", {"Ann.png": noise(), "ann.png": picture(), "x/1.txt": b""})
    assert ZipImages(both).read("ann.jpg").shape == (30, 20, 3)
    assert refused(ZipImages(both), "ANN.jpg") == "missing; there are Ann.png and ann.png instead"


def test_folders_may_be_nested_as_deep_as_they_like(tmp_path: Path) -> None:
    # Made from within: their whole path is longer than the system takes.
    here = os.getcwd()
    try:
        os.chdir(tmp_path)
        for depth in range(1200):
            os.mkdir("abc")
            os.chdir("abc")
            if depth == 900:
                Path("deep.png").write_bytes(picture())
    finally:
        os.chdir(here)
    try:
        images = FolderImages(tmp_path)
        found = images.names()
        assert found[0].endswith("/deep.png") and images.read(found[0]).shape == (30, 20, 3)
        assert "too long" in refused(images, found[1])
    finally:
        os.chdir(tmp_path)
        # By hand: rmtree goes as deep as Python calls itself.
        for _ in range(1200):
            os.chdir("abc")
        for depth in reversed(range(1200)):
            if depth == 900:
                os.unlink("deep.png")
            os.chdir("..")
            os.rmdir("abc")
        os.chdir(here)


# --- zips -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "size", "reason"),
    [
        (zipfile.ZIP_DEFLATED, 260 << 20, "273 MB large"),
        (zipfile.ZIP_DEFLATED, 17 << 20, "times its size"),
        (zipfile.ZIP_LZMA, 17 << 20, "times its size"),
        (zipfile.ZIP_BZIP2, 1 << 20, "packed in a way that is not read"),
    ],
)
def test_what_unpacks_to_a_flood_stays_packed(tmp_path, method, size, reason) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        with archive.open("bomb.png", "w") as file:
            for _ in range(size >> 20):
                file.write(bytes(1 << 20))
        archive.writestr("good.png", picture(), zipfile.ZIP_DEFLATED)
    images = ZipImages(path)
    assert reason in refused(images, "bomb.png")
    assert images.read("good.png").shape == (30, 20, 3)


def test_an_entry_that_lies_about_its_size_is_not_believed(tmp_path: Path) -> None:
    path = zipped(tmp_path / "lies.zip", {"a.bmp": bytes(32 << 20)})
    data = path.read_bytes()
    for size in (1000, 2000):
        path.write_bytes(data.replace(struct.pack("<L", 32 << 20), struct.pack("<L", size)))
        assert refused(ZipImages(path), "a.bmp").startswith("broken in the zip")


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2]
)
def test_a_damaged_entry_leaves_the_others(tmp_path: Path, method: int) -> None:
    path = zipped(tmp_path / "all.zip", {"bad.bmp": noise()}, method)
    start = 30 + len("bad.bmp")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("good.png", picture())
        packed = archive.getinfo("bad.bmp").compress_size
    whole = path.read_bytes()
    for damage in (b"\xff" * 40, bytes(40), b"\x5d" * 40):
        for at in (start, start + 9, start + packed // 2):
            path.write_bytes(whole[:at] + damage + whole[at + len(damage) :])
            images = ZipImages(path)
            refused(images, "bad.bmp")
            assert images.read("good.png").shape == (30, 20, 3)


def test_a_name_that_is_no_utf8_and_an_unknown_version_leave_the_others(tmp_path: Path) -> None:
    entries = {"f/ä.png": picture(), "f/good.png": picture("JPEG"), "f/new.png": picture()}
    path = zipped(tmp_path / "all.zip", entries)
    data = bytearray(path.read_bytes().replace("ä".encode(), b"\xff\xfe"))
    directory = data.index(b"PK\1\2")
    last = data.rindex(b"PK\1\2")
    struct.pack_into("<H", data, last + 6, 99)
    assert directory < last
    path.write_bytes(data)
    images = ZipImages(path)
    assert len(images.names()) == 3
    (nameless,) = set(images.names()) - {"f/good.png", "f/new.png"}
    assert "not the UTF-8" in refused(images, nameless)
    assert images.read("good.png").shape == images.read("new.png").shape == (30, 20, 3)


def test_entries_are_named_as_they_are_unpacked(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        path = tmp_path / "all.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("cat\\1.png", picture(colour=(255, 0, 0)))
            archive.writestr("dog/1.png", picture(colour=(0, 255, 0)))
            archive.writestr("dog/1.png", picture(colour=(0, 0, 255)))
            archive.writestr("../../out/2.png", picture())
            archive.writestr("/etc/3.png", picture())
            archive.writestr("dog/noname", picture("JPEG"))
            archive.writestr("dog/notes", "text")
            archive.writestr("__MACOSX/dog/._1.png", b"")
            archive.writestr("..", picture())
    images = ZipImages(path, preferred=("cat",))
    expected = ["cat/1.png", "dog/1.png", "dog/noname", "etc/3.png", "out/2.png"]
    assert images.names() == expected
    assert images.read("cat/1.png")[0, 0].tolist() == [255, 0, 0]
    assert images.read("dog/1.png")[0, 0].tolist() == [0, 0, 255]
    # Of two files of one name that of the folder that is meant.
    assert images.read("1.png")[0, 0].tolist() == [255, 0, 0]


def test_what_is_no_zip_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"no zip")
    with pytest.raises(FaderError, match=r"a\.zip: not a whole zip file"):
        ZipImages(tmp_path / "a.zip")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "b.zip")
        with pytest.raises(FaderError, match="no regular file"):
            ZipImages(tmp_path / "b.zip")


# --- pixels ---------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [8, 10, 12])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_few_bits_in_sixteen_are_as_bright_as_they_were(bits: int, kind: str) -> None:
    grey = np.linspace(0, 255, 64).astype(np.uint16)
    low = np.tile(grey << (bits - 8), (64, 1))
    file = io.BytesIO()
    Image.fromarray(low).save(file, kind)
    assert np.array_equal(open_photo(file.getvalue()).pixels[0, :, 1], grey)


def test_sixteen_bits_stay_as_dark_as_they_are() -> None:
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8), 20_000, np.uint16)).save(file, "PNG")
    assert (open_photo(file.getvalue()).pixels == 20_000 >> 8).all()


@pytest.mark.parametrize("kind", ["AVIF", "WEBP", "JPEG", "PNG", "GIF", "TIFF", "BMP"])
def test_a_damaged_image_is_one_refusal(tmp_path: Path, kind: str) -> None:
    data = noise(kind)
    (tmp_path / "cut.img").write_bytes(data[: len(data) // 3])
    refused(FolderImages(tmp_path), "cut.img")
    random = np.random.default_rng(1)
    for _ in range(20):
        broken = bytearray(data)
        for at in random.integers(0, len(data), 30):
            broken[at] = random.integers(256)
        (tmp_path / "broken.img").write_bytes(broken)
        try:
            assert FolderImages(tmp_path).read("broken.img").ndim == 3
        except UnreadableImageError as error:
            assert "\n" not in str(error)


def test_harmless_damage_is_none(tmp_path: Path) -> None:
    whole = picture()
    at = whole.index(b"IDAT") - 4
    text = b"\0\0\0\4tEXta\0bc" + b"\1\2\3\4"  # with a wrong checksum
    (tmp_path / "a.png").write_bytes(whole[:at] + text + whole[at:])
    (tmp_path / "b.jpg").write_bytes(picture("JPEG")[:-2])
    for name in ("a.png", "b.jpg"):
        assert FolderImages(tmp_path).read(name).shape == (30, 20, 3)


def test_names_as_deep_as_zips_allow_take_no_time(tmp_path: Path) -> None:
    from cgan.data import open_images

    entries = {f"{'a/' * 30_000}{index % 2}/{index}.png": picture() for index in range(20)}
    path = zipped(tmp_path / "deep.zip", entries)
    start = time.process_time()
    images = open_images(path, 32, 3, "folder", progress=False)
    assert images.label_names == ("0", "1") and time.process_time() - start < 5
