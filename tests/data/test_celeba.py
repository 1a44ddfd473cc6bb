"""Reading CelebA's files, as they are distributed and as they get damaged."""

from __future__ import annotations

import csv
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from paths import ROOT
from PIL import Image
from small_celeba import DRAWN_LANDMARKS

from fader.attributes import ATTRIBUTES
from fader.data.celeba import read_celeba
from fader.data.folder import read_folder, read_source
from fader.errors import FaderError, UnknownAttributeError, UnreadableImageError

SMILING = ATTRIBUTES.index("Smiling")


def rewrite(path, change):
    path.write_text(change(path.read_text()))


def to_csv(path, header):
    """Rewrite one of CelebA's text tables the way Kaggle distributes it."""
    lines = path.read_text().splitlines()
    if lines[0].isdigit():
        lines = lines[2:]
    rows = [",".join(line.split()) for line in lines]
    path.with_suffix(".csv").write_text("\n".join([header, *rows]) + "\n")
    path.unlink()


def test_everything_in_the_files_is_read(celeba):
    data = read_celeba(celeba(12))
    assert data.names[0] == "000001.jpg" and len(data) == 12
    assert data.attribute_names == ATTRIBUTES
    assert data.labels.shape == (12, 40) and set(np.unique(data.labels)) == {0.0, 1.0}
    assert data.label_kind == "hard"
    assert data.split.tolist() == [0] * 8 + [1] * 2 + [2] * 2
    assert data.identity.tolist() == [1 + row // 2 for row in range(12)]
    assert np.array_equal(data.landmarks[3], DRAWN_LANDMARKS)
    assert data.images.read("000001.jpg").shape == (218, 178, 3)


def test_a_zip_is_read_like_the_folder(celeba):
    folder, zipped = read_celeba(celeba(6)), read_celeba(celeba(6, name="zip", zipped=True))
    assert np.array_equal(folder.labels, zipped.labels)
    for name in folder.names:
        assert np.array_equal(folder.images.read(name), zipped.images.read(name))


READ_BY_TWO = """
import multiprocessing, sys
from fader.data.celeba import read_celeba

if __name__ == "__main__":
    data = read_celeba(sys.argv[1])
    expected = [data.images.read(name).sum() for name in data.names]
    with multiprocessing.get_context(sys.argv[2]).Pool(2) as pool:
        found = [image.sum() for image in pool.map(data.images.read, data.names, chunksize=1)]
    assert found == expected
"""


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_a_zip_is_read_from_several_processes(celeba, tmp_path, method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} on this system")
    (tmp_path / "script.py").write_text(READ_BY_TWO)
    # In a process of its own: a fork of one with threads may hang.
    command = [sys.executable, tmp_path / "script.py", celeba(12, zipped=True), method]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_images_of_a_zip_can_be_pickled(celeba):
    images = read_celeba(celeba(12, zipped=True)).images
    again = pickle.loads(pickle.dumps(images))
    assert np.array_equal(again.read("000001.jpg"), images.read("000001.jpg"))


def test_kaggles_copy_is_read_like_the_original(celeba):
    original, kaggle = celeba(12), celeba(12, name="kaggle")
    to_csv(kaggle / "list_attr_celeba.txt", "image_id," + ",".join(ATTRIBUTES))
    to_csv(kaggle / "list_eval_partition.txt", "image_id,partition")
    to_csv(
        kaggle / "list_landmarks_align_celeba.txt",
        "image_id,lefteye_x,lefteye_y,righteye_x,righteye_y,nose_x,nose_y,"
        "leftmouth_x,leftmouth_y,rightmouth_x,rightmouth_y",
    )
    images = kaggle / "img_align_celeba"
    images.rename(kaggle / "moving")
    images.mkdir()
    (kaggle / "moving").rename(images / "img_align_celeba")
    first, second = read_celeba(original), read_celeba(kaggle)
    assert first.names == second.names
    for field in ("labels", "split", "identity", "landmarks"):
        assert np.array_equal(getattr(first, field), getattr(second, field))
    assert second.images.read("000002.jpg").shape == (218, 178, 3)


def test_the_original_folders_are_searched(celeba):
    root = celeba(6, zipped=True)
    for folder, pattern in (("Anno", "*_[acC]*.txt"), ("Eval", "*.txt"), ("Img", "*.zip")):
        (root / folder).mkdir()
        for path in root.glob(pattern):
            shutil.move(path, root / folder / path.name)
    data = read_source(root)
    assert len(data) == 6
    assert data.split_from == "list_eval_partition.txt"
    assert data.images.read("000006.jpg").shape == (218, 178, 3)


def test_soft_labels_replace_the_hard_ones_unless_told_not_to(celeba):
    root = celeba(6, soft=("Smiling", "Male"))
    soft, hard = read_celeba(root), read_celeba(root, soft=False)
    assert soft.label_kind == "soft" and hard.label_kind == "hard"
    assert ((soft.labels[:, SMILING] > 0) & (soft.labels[:, SMILING] < 1)).all()
    others = [i for i, name in enumerate(ATTRIBUTES) if name not in ("Smiling", "Male")]
    assert np.array_equal(soft.labels[:, others], hard.labels[:, others])
    assert "soft_attributes.csv" not in [path.name for path in hard.files]


def test_without_a_partition_no_person_is_in_two_splits(celeba):
    data = read_celeba(celeba(80, partition=False))
    assert "identity" in data.split_from
    for person in np.unique(data.identity):
        assert len(set(data.split[data.identity == person])) == 1
    assert [int((data.split == part).sum()) for part in range(3)] == [72, 4, 4]


def test_without_partition_and_identity_the_split_is_the_same_each_time(celeba):
    root = celeba(40, partition=False, identity=False)
    first, second = read_celeba(root), read_celeba(root)
    assert "file name" in first.split_from
    assert (first.identity == -1).all()
    assert np.array_equal(first.split, second.split)
    assert [int((first.split == part).sum()) for part in range(3)] == [36, 2, 2]


def test_a_damaged_image_is_told_from_a_missing_one(celeba):
    root = celeba(6)
    whole = (root / "img_align_celeba" / "000001.jpg").read_bytes()
    (root / "img_align_celeba" / "000001.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "img_align_celeba" / "000002.jpg").write_text("not an image")
    (root / "img_align_celeba" / "000003.jpg").unlink()
    images = read_celeba(root).images
    for name, reason in (("000001", "broken"), ("000002", "broken"), ("000003", "missing")):
        with pytest.raises(UnreadableImageError, match=reason):
            images.read(f"{name}.jpg")


# --- one clear sentence for each way the files can be wrong ---------------------------------

ATTR = "list_attr_celeba.txt"


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (ATTR, lambda t: t.replace("12\n", "13\n", 1), r"line 1: promises 13 images but 12 rows"),
        (ATTR, lambda t: t.replace("Smiling", "Smilling"), r"did you mean Smiling"),
        (ATTR, lambda t: t.replace("Young", "Smiling"), r"Smiling comes twice"),
        (
            ATTR,
            lambda t: t.replace("000002.jpg -1", "000002.jpg"),
            r"line 4: expected .* 40 values",
        ),
        (
            ATTR,
            lambda t: t.replace("000002.jpg -1", "000002.jpg x"),
            r"line 4: 'x' is not a number",
        ),
        (ATTR, lambda t: t.replace("000002.jpg -1", "000002.jpg 7"), r"line 4: 7 for 5_o_Clock"),
        (ATTR, lambda t: t.replace("000003.jpg", "000002.jpg"), r"line 5: 000002.jpg is listed tw"),
        (ATTR, lambda t: "", r"lists no images"),
        (ATTR, lambda t: t.replace("12\n", "9" * 5000 + "\n", 1), r"promises 9{60}… images but 12"),
        (ATTR, lambda t: t.replace("12\n", "¹²\n", 1), r"line 2: expected|line 1: expected"),
        ("identity_CelebA.txt", lambda t: t.replace(".jpg 3", ".jpg 1e300"), r"1e\+300 is not"),
        ("identity_CelebA.txt", lambda t: t.replace(".jpg 3", ".jpg 3.5"), r"3.5 is not the whole"),
        ("list_eval_partition.txt", lambda t: t.replace("12.jpg 2", "12.jpg 5"), r"line 12: 5 is "),
        (
            "list_eval_partition.txt",
            lambda t: t.replace("000007.jpg 0\n", ""),
            r"no row for 000007",
        ),
        ("identity_CelebA.txt", lambda t: t.replace("000002.jpg 1", "000002.jpg"), r"line 2: exp"),
        ("list_landmarks_align_celeba.txt", lambda t: t.replace(" 153\n", "\n"), r"line 3: expect"),
        (
            "soft_attributes.csv",
            lambda t: t.replace("000001.jpg,0.", "000001.jpg,1."),
            r"line 2: 1",
        ),
        ("soft_attributes.csv", lambda t: t.replace("000004.jpg", "4.jpg"), r"no row for 000004"),
        ("soft_attributes.csv", lambda t: t.replace("Smiling", "Grinning"), r"'Grinning'"),
    ],
)
def test_a_wrong_file_is_named_with_the_line(celeba, file, change, message):
    root = celeba(12, soft=("Smiling",))
    rewrite(root / file, change)
    with pytest.raises(FaderError, match=message) as caught:
        read_celeba(root)
    assert str(root / file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_attribute_list_is_named(celeba):
    root = celeba(6)
    (root / ATTR).unlink()
    with pytest.raises(FaderError, match=r"not list_attr_celeba\.txt"):
        read_source(root)


def test_missing_images_are_named(celeba):
    root = celeba(6)
    shutil.rmtree(root / "img_align_celeba")
    with pytest.raises(FaderError, match=r"no img_align_celeba\.zip and no folder"):
        read_source(root)


def test_a_half_downloaded_zip_is_named(celeba):
    root = celeba(6, zipped=True)
    data = (root / "img_align_celeba.zip").read_bytes()
    (root / "img_align_celeba.zip").write_bytes(data[:-100])
    with pytest.raises(FaderError, match=r"img_align_celeba\.zip: not a whole zip"):
        read_source(root)


def test_a_folder_that_holds_nothing_known_says_what_is_looked_for(tmp_path):
    with pytest.raises(FaderError, match=r"neither CelebA .* nor photos with a labels\.csv"):
        read_source(tmp_path)
    with pytest.raises(FaderError, match="no such folder"):
        read_source(tmp_path / "nowhere")


# --- a folder of photos with a CSV ----------------------------------------------------------


def write_labels(folder, text):
    folder.mkdir(exist_ok=True)
    (folder / "labels.csv").write_text(text)
    return folder


def test_a_labels_csv_may_write_names_in_any_case_and_any_order(tmp_path):
    root = write_labels(
        tmp_path / "photos",
        "photo,SMILING,split,eyeglasses,Identity\n"
        "a/1.jpg,1,train,0.25,ann\nb.png,0,Valid,1,ben\nc.png,0.5,2,0,\nd.png,1,0,0,ann\n",
    )
    data = read_source(root)
    assert data.names == ["a/1.jpg", "b.png", "c.png", "d.png"]
    assert data.attribute_names == ("Smiling", "Eyeglasses")
    assert data.labels.tolist() == [[1, 0.25], [0, 1], [0.5, 0], [1, 0]]
    assert data.split.tolist() == [0, 1, 2, 0]
    assert data.identity.tolist() == [0, 1, -1, 0]
    assert data.label_kind == "soft"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_a_labels_csv_may_be_as_spreadsheets_save_it(tmp_path, mark, encoding):
    root = tmp_path / "photos"
    root.mkdir()
    rows = ["photo,Male,Young", '"Ann, Bea.jpg",0,1', "Zoë.png,1,0.25"]
    cells = [next(csv.reader([row])) for row in rows]
    lines = [mark.join(f'"{cell}"' for cell in row) for row in cells]
    (root / "labels.csv").write_bytes("\r\n".join(lines).encode(encoding))
    data = read_source(root)
    assert data.names == ["Ann, Bea.jpg", "Zoë.png"]
    assert data.attribute_names == ("Male", "Young")
    assert data.labels.tolist() == [[0, 1], [1, 0.25]]


def test_hard_labels_of_either_kind_are_read_alike(tmp_path):
    minus = write_labels(tmp_path / "minus", "file,Male\n1.jpg,-1\n2.jpg,1\n3.jpg,-1\n")
    zero = write_labels(tmp_path / "zero", "file,Male\n1.jpg,0\n2.jpg,1\n3.jpg,0\n")
    assert read_source(minus).labels.tolist() == read_source(zero).labels.tolist()
    assert read_source(minus).label_kind == read_source(zero).label_kind == "hard"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,Male\n1.jpg,-1\n2.jpg,0\n", r"line 3: 0 for Male is not -1 or 1"),
        ("file,Male\n1.jpg,yes\n", r"line 2: 'yes' for Male is not a number"),
        ("file,Male\n1.jpg,\n", r"line 2: '' for Male"),
        ("file,Male\n1.jpg,nan\n", r"line 2: nan for Male"),
        ("file,Male,split\n1.jpg,1,later\n", r"line 2: split 'later'"),
        ("file,Male,Male\n1.jpg,1,1\n", r"line 1: a column name comes twice"),
        ("file,Male\n1.jpg,1,1\n", r"line 2: expected an image name and 1 value, found 3"),
        ("file,Male\n", r"lists no photos"),
        ("file Male\n1.jpg 1\n", r"line 1: needs .* separated by commas"),
        ("file;Male\n1.jpg;0,5\n", r"line 2: '0,5' for Male is not a number"),
        ("file,split\n1.jpg,train\n", r"names no attributes"),
        ("file,Male,age\n1.jpg,1,30\n", r"column 'age' is none of .*; remove that column$"),
        ("file,Smile\n1.jpg,1\n", r"did you mean Smiling\? If not, remove that column$"),
        ("file,Male,\n1.jpg,1,\n", r"one of its columns has no name; remove it"),
        (",file,Male\n0,1.jpg,1\n", r"as pandas' index does.*index=False"),
        ("Unnamed: 0,photo,Male\n0,1,1\n1,b,1\n", r"not a number|none of CelebA's"),
        ("Unnamed: 0,photo,Male\n0,a,1\n1,b,1\n", r"pandas"),
        ("index,file,Male\n0,1.jpg,1\n", r"pandas"),
        ("file," + "x" * 200_000 + "\n1.jpg,1\n", r"not a proper CSV file \(field larger"),
        ("file,Male\n1.jpg," + "x" * 200_000 + "\n", r"not a proper CSV file \(field larger"),
        ("file,Male\n1.jpg," + "x" * 100_000 + "\n", r"'x{60}…' for Male is not a number"),
        ("file," + "x" * 100_000 + "\n1.jpg,1\n", r"'x{60}…' is none of CelebA's"),
        ("", r"line 1"),
    ],
)
def test_a_wrong_labels_csv_is_named_with_the_line(tmp_path, text, message):
    root = write_labels(tmp_path / "photos", text)
    with pytest.raises(FaderError, match=message) as caught:
        read_source(root)
    assert str(root / "labels.csv") in str(caught.value)


def test_an_unknown_attribute_in_a_labels_csv_is_unknown(tmp_path):
    root = write_labels(tmp_path / "photos", "file,Smile\n1.jpg,1\n")
    with pytest.raises(UnknownAttributeError, match="did you mean Smiling"):
        read_folder(root, root / "labels.csv")


def test_several_csv_files_without_a_labels_csv_ask_which(tmp_path):
    (tmp_path / "one.csv").write_text("file,Male\n1.jpg,1\n")
    assert read_source(tmp_path).names == ["1.jpg"]
    (tmp_path / "two.csv").write_text("file,Male\n2.jpg,1\n")
    with pytest.raises(FaderError, match="--labels"):
        read_source(tmp_path)
    assert read_source(tmp_path, labels=tmp_path / "two.csv").names == ["2.jpg"]


def test_a_table_is_read_by_what_it_holds(celeba):
    original, renamed = celeba(12), celeba(12, name="renamed")
    (renamed / ATTR).rename(renamed / "list_attr_celeba.csv")
    to_csv(renamed / "list_eval_partition.txt", "image_id,partition")
    (renamed / "list_eval_partition.csv").rename(renamed / "list_eval_partition.txt")
    first, second = read_celeba(original), read_celeba(renamed)
    assert np.array_equal(first.labels, second.labels) and first.names == second.names
    assert np.array_equal(first.split, second.split)


def test_a_label_csv_whose_names_are_numbers_has_no_index_column(tmp_path):
    root = write_labels(tmp_path / "a", "id,identity,Male\n1,ann,1\n2,ben,0\n")
    assert read_source(root).names == ["1", "2"]
    root = write_labels(tmp_path / "b", ",Male\n1.jpg,1\n2.jpg,0\n")
    assert read_source(root).names == ["1.jpg", "2.jpg"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders on this system")
def test_a_table_that_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "labels.csv")
    for path in (tmp_path / "labels.csv", "/dev/zero"):
        with pytest.raises(FaderError, match="no regular file"):
            read_source(tmp_path, labels=path)


@pytest.mark.parametrize("zipped", [False, True])
def test_celeba_without_loss_is_read_under_lists_that_say_jpg(celeba, zipped):
    root = celeba(6)
    images, place = root / "img_align_celeba", root / "img_align_celeba_png"
    expected = read_celeba(root).images.read("000003.jpg")
    for path in images.iterdir():
        Image.open(path).save(path.with_suffix(".png"))
        path.unlink()
    images.rename(place)
    if zipped:
        with zipfile.ZipFile(root / "img_align_celeba_png.zip", "w") as archive:
            for path in place.iterdir():
                archive.write(path, f"img_align_celeba_png\\{path.name}")
        shutil.rmtree(place)
    assert np.array_equal(read_source(root).images.read("000003.jpg"), expected)
