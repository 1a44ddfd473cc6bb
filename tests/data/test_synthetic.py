from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from click.testing import CliRunner

import fader.progress
from fader.attributes import ATTRIBUTES
from fader.commands import main
from fader.data import synthetic
from fader.data.prepare import prepare
from fader.data.synthetic import DRAWN, face_number, sample_face, write_dataset
from fader.errors import FaderError, UnknownAttributeError
from fader.files import file_lock
from fader.photo import open_image

CELEBA_MEAN = np.array(
    [(69.7, 112.1), (109.3, 112.3), (88.8, 136.8), (72.5, 153.2), (106.2, 152.9)]
)
HAIR = ("Bald", "Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair")


def faces(count, where=lambda face: True):
    found = (face for number in range(1, 2000) if where(face := face_number(number, seed=3)))
    return [next(found) for _ in range(count)]


def changed_rows(face, name):
    """The picture rows that differ when attribute ``name`` is flipped."""
    other = face.with_attribute(name, not face.attributes[name])
    return np.flatnonzero((face.draw() != other.draw()).any(axis=(1, 2)))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    dest = tmp_path_factory.mktemp("drawn") / "set"
    write_dataset(dest, 40, seed=7, progress=False)
    return dest


# ---------------------------------------------------------------- faces


def test_a_picture_has_celebas_size_and_depends_on_the_seed_alone():
    first = sample_face(np.random.default_rng(5))
    again = sample_face(np.random.default_rng(5))
    other = sample_face(np.random.default_rng(6))
    picture = first.draw()
    assert picture.shape == (218, 178, 3) and picture.dtype == np.uint8
    assert first == again and np.array_equal(picture, again.draw())
    assert not np.array_equal(picture, other.draw())


def test_landmarks_scatter_a_little_around_celebas_template():
    points = np.stack([face_number(i, 0).landmarks for i in range(1, 400)])
    assert np.abs(points.mean(axis=0) - CELEBA_MEAN).max() < 1
    spread = points.std(axis=0)
    assert spread.min() > 0.5 and spread.max() < 4


def test_landmarks_follow_the_drawn_face():
    for face in faces(12, lambda f: not f.traits.eyeglasses):
        picture = face.draw().astype(int).sum(axis=2)
        for x, y in np.rint(face.landmarks[:2]).astype(int):
            around = picture[y - 12 : y + 13, x - 12 : x + 13]
            assert picture[y - 1 : y + 2, x - 1 : x + 2].mean() < around.mean()  # the pupil


def test_every_drawn_attribute_is_common_enough_both_ways():
    values = np.array([[f.attributes[n] for n in DRAWN] for f in faces(600)])
    share = dict(zip(DRAWN, values.mean(axis=0), strict=True))
    assert all(0.05 < value < 0.95 for value in share.values()), share
    for name in ("Male", "Smiling", "Young", "Mouth_Slightly_Open"):
        assert 0.35 < share[name] < 0.7


def test_attributes_not_drawn_are_never_claimed():
    for face in faces(50):
        assert tuple(face.attributes) == ATTRIBUTES
        assert not any(face.attributes[name] for name in ATTRIBUTES if name not in DRAWN)


def test_each_head_has_one_hair_colour_or_none():
    for face in faces(100):
        assert sum(face.attributes[name] for name in HAIR) == 1


def test_women_have_no_beard_and_hats_no_bangs():
    for face in faces(200):
        truth = face.attributes
        assert truth["Male"] or (truth["No_Beard"] and not truth["Mustache"])
        assert not (truth["Goatee"] and truth["No_Beard"])
        assert not (truth["Wearing_Hat"] and (truth["Bangs"] or truth["Bald"]))


# ---------------------------------------------------------------- counterfactuals


@pytest.mark.parametrize("name", DRAWN)
def test_a_changed_attribute_shows_and_is_labelled(name):
    for value in (False,) if name in HAIR else (False, True):
        for face in faces(4, lambda f, v=value: f.attributes[name] == v and name in f.editable):
            changed = face.with_attribute(name, not value)
            assert changed.attributes[name] is not value
            difference = np.abs(face.draw().astype(int) - changed.draw()).max(axis=2)
            assert (difference > 24).sum() >= 25


def test_the_rest_of_the_labels_stays_but_for_what_must_follow():
    follows = {
        "Male": {"No_Beard", "Mustache", "Goatee"},
        "Goatee": {"No_Beard"},
        "No_Beard": {"Goatee"},
        "Wearing_Hat": {"Bangs"},
        "Bald": {"Bangs", *HAIR},
        **{name: set(HAIR) for name in HAIR if name != "Bald"},
    }
    for face in faces(40):
        for name in face.editable:
            before = face.attributes
            after = face.with_attribute(name, not before[name]).attributes
            moved = {other for other in ATTRIBUTES if before[other] != after[other]}
            assert moved - {name} <= follows.get(name, set())


@pytest.mark.parametrize(
    ("name", "top", "bottom"),
    [
        ("Eyeglasses", 92, 136),
        ("Smiling", 98, 178),
        ("Mouth_Slightly_Open", 136, 178),
        ("Bangs", 52, 106),
        ("Wearing_Lipstick", 138, 176),
        ("Mustache", 136, 164),
    ],
)
def test_a_change_stays_where_it_belongs(name, top, bottom):
    for face in faces(6, lambda f: name in f.editable):
        rows = changed_rows(face, name)
        assert top <= rows.min() and rows.max() <= bottom


def test_a_change_and_its_undoing_give_the_same_picture():
    for face in faces(5, lambda f: f.traits.beard == "none"):
        for name in ("Male", "Eyeglasses", "No_Beard", "Young"):
            if name in face.editable:
                there = face.with_attribute(name, not face.attributes[name])
                back = there.with_attribute(name, face.attributes[name])
                assert np.array_equal(back.draw(), face.draw())


def test_setting_what_is_already_so_changes_nothing():
    face = face_number(1, 0)
    assert face.with_attribute("smiling", face.attributes["Smiling"]) == face


def test_impossible_and_unknown_changes_are_refused():
    woman = faces(1, lambda f: not f.traits.male)[0]
    with pytest.raises(FaderError, match="Mustache=1"):
        woman.with_attribute("Mustache", True)
    with pytest.raises(UnknownAttributeError, match="Smiling"):
        woman.with_attribute("Smilling", True)


# ---------------------------------------------------------------- the folder


def test_the_folder_is_in_celebas_layout(dataset):
    names = [f"{i:06d}.jpg" for i in range(1, 41)]
    assert sorted(p.name for p in (dataset / "img_align_celeba").iterdir()) == names
    assert open_image(dataset / "img_align_celeba" / names[0]).size == (178, 218)

    lines = (dataset / "list_attr_celeba.txt").read_text().splitlines()
    assert lines[0] == "40" and tuple(lines[1].split()) == ATTRIBUTES
    rows = [line.split() for line in lines[2:]]
    assert [row[0] for row in rows] == names
    assert all(len(row) == 41 and set(row[1:]) <= {"-1", "1"} for row in rows)
    truth = face_number(40, seed=7).attributes
    assert [value == "1" for value in rows[-1][1:]] == list(truth.values())

    split = [
        line.split() for line in (dataset / "list_eval_partition.txt").read_text().splitlines()
    ]
    assert [row[0] for row in split] == names
    assert [row[1] for row in split] == ["0"] * 32 + ["1"] * 4 + ["2"] * 4

    people = [line.split() for line in (dataset / "identity_CelebA.txt").read_text().splitlines()]
    assert [row[0] for row in people] == names and len({row[1] for row in people}) == 40

    lines = (dataset / "list_landmarks_align_celeba.txt").read_text().splitlines()
    assert lines[0] == "40" and len(lines[1].split()) == 10
    points = np.array([line.split()[1:] for line in lines[2:]], int).reshape(40, 5, 2)
    assert np.abs(points[11] - face_number(12, seed=7).landmarks).max() <= 0.5


def test_test_faces_have_their_counterfactuals(dataset):
    with open(dataset / "counterfactuals.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["image"] for row in rows} == {f"{i:06d}.jpg" for i in range(37, 41)}
    on_disk = {p.relative_to(dataset).as_posix() for p in dataset.glob("counterfactuals/*/*")}
    assert on_disk == {row["file"] for row in rows}
    for number in range(37, 41):
        face = face_number(number, seed=7)
        own = [row for row in rows if row["image"] == f"{number:06d}.jpg"]
        assert [row["attribute"] for row in own] == list(face.editable)
        for row in own:
            assert row["from"] != row["to"]
            assert (row["from"] == "1") == face.attributes[row["attribute"]]
            changed = face.with_attribute(row["attribute"], row["to"] == "1")
            for other in filter(None, row["also"].split(";")):
                name, _, value = other.partition("=")
                assert changed.attributes[name] == (value == "1") != face.attributes[name]
            picture = np.asarray(open_image(dataset / row["file"])).astype(int)
            assert np.abs(picture - changed.draw()).mean() < 3  # JPEG


def test_the_folder_says_what_is_drawn(dataset):
    assert json.loads((dataset / "synth.json").read_text())["drawn_attributes"] == list(DRAWN)


def test_the_same_seed_gives_the_same_bytes(tmp_path, dataset):
    write_dataset(tmp_path / "again", 40, seed=7, progress=False)
    files = sorted(p.relative_to(dataset) for p in dataset.rglob("*") if p.is_file())
    again = tmp_path / "again"
    assert files == sorted(p.relative_to(again) for p in again.rglob("*") if p.is_file())
    for file in files:
        assert (dataset / file).read_bytes() == (again / file).read_bytes()


def test_a_stopped_run_is_finished_by_repeating_it(tmp_path, monkeypatch):
    dest, drawn = tmp_path / "set", []

    def draw_until_stopped(self, original=synthetic.SyntheticFace.draw):
        drawn.append(self)
        if len(drawn) == 6:
            raise KeyboardInterrupt
        return original(self)

    with monkeypatch.context() as patch:
        patch.setattr(synthetic.SyntheticFace, "draw", draw_until_stopped)
        with pytest.raises(KeyboardInterrupt):
            write_dataset(dest, 10, seed=1, progress=False)
    assert not (dest / "list_attr_celeba.txt").exists()
    finished = dest / "img_align_celeba" / "000001.jpg"
    broken = dest / "img_align_celeba" / "000002.jpg"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:1000])
    before = finished.stat().st_mtime_ns

    write_dataset(dest, 10, seed=1, progress=False)
    assert finished.stat().st_mtime_ns == before
    assert broken.read_bytes() == whole
    assert len(list((dest / "img_align_celeba").iterdir())) == 10
    assert (dest / "list_attr_celeba.txt").exists()


def test_a_folder_with_something_else_in_it_is_refused(tmp_path, dataset):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FaderError, match="not empty"):
        write_dataset(tmp_path, 10, progress=False)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(FaderError, match="is a file"):
        write_dataset(tmp_path / "notes.txt", 10, progress=False)
    with pytest.raises(FaderError, match="other settings"):
        write_dataset(dataset, 40, seed=8, progress=False)


def test_two_do_not_draw_into_one_folder(tmp_path):
    dest = tmp_path / "faces"
    with file_lock(dest / ".lock"):
        for number in (5, 9):
            with pytest.raises(FaderError, match="another process is drawing into it"):
                write_dataset(dest, number, counterfactuals=False, progress=False)
    (dest / ".tmp-abcd1234.json").touch()  # of one killed before it had begun
    write_dataset(dest, 5, counterfactuals=False, progress=False)
    assert not [path for path in dest.iterdir() if path.name.startswith(".")]
    with file_lock(dest / ".lock"), pytest.raises(FaderError, match="other settings"):
        write_dataset(dest, 9, counterfactuals=False, progress=False)


# ---------------------------------------------------------------- the command


def test_command_draws_and_says_where(tmp_path):
    dest = tmp_path / "faces"
    result = CliRunner().invoke(
        main, ["synth", str(dest), "-n", "5", "--seed", "2", "--no-counterfactuals"]
    )
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(dest)
    assert len(list((dest / "img_align_celeba").glob("*.jpg"))) == 5
    assert not (dest / "counterfactuals").exists()


def test_command_refuses_a_full_folder_with_one_sentence(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    result = CliRunner().invoke(main, ["synth", str(tmp_path), "-n", "5"])
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ") and "give a new or empty folder" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("arguments", [[], ["somewhere", "-n", "0"], ["somewhere", "-n", "many"]])
def test_bad_usage_exits_with_2(arguments):
    assert CliRunner().invoke(main, ["synth", *arguments]).exit_code == 2


def test_drawing_and_preparing_into_a_log_say_how_far_they_are(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(fader.progress, "EVERY", 0.0)
    write_dataset(tmp_path / "drawn", 4, counterfactuals=False)
    prepare(tmp_path / "drawn", tmp_path / "store", size=16, workers=1)
    lines = capfd.readouterr().err.splitlines()
    assert any(line.startswith("face 2 of 4, ") for line in lines)
    assert lines[-1].startswith("image 4 of 4, ")
    write_dataset(tmp_path / "quiet", 4, counterfactuals=False, progress=False)
    assert not capfd.readouterr().err
