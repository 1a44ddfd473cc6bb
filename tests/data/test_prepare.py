"""Preparing a store, opening it, and what happens when something goes wrong in between."""

from __future__ import annotations

import csv
import errno
import itertools
import json
import mmap
import os
import pickle
import signal
import stat
import sys
import traceback
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from small_celeba import DRAWN_LANDMARKS

import fader.faces.align
import fader.faces.detect
from fader.attributes import ATTRIBUTES
from fader.commands import main
from fader.data import unfinished
from fader.data.folder import read_source
from fader.data.prepare import prepare
from fader.data.source import open_data
from fader.data.store import PreparedStore, is_prepared
from fader.errors import FaderError, UnknownAttributeError
from fader.faces.align import TEMPLATE, align
from fader.faces.detect import Face
from fader.files import file_lock

FILES = ("images.npy", "labels.npy", "split.npy", "identity.npy", "names.json", "rejected.csv")


def same_stores(first: Path, second: Path) -> bool:
    return all((first / name).read_bytes() == (second / name).read_bytes() for name in FILES)


def rejected(dest: Path) -> dict[str, str]:
    with open(dest / "rejected.csv", newline="", encoding="utf-8") as file:
        return {row["image"]: row["reason"] for row in csv.DictReader(file)}


def damage(root: Path, *numbers: int) -> None:
    for number in numbers:
        (root / "img_align_celeba" / f"{number:06d}.jpg").write_bytes(b"\xff\xd8 cut short")


# --- what is in a store ---------------------------------------------------------------------


def test_a_store_holds_the_aligned_faces_and_their_annotations(celeba, tmp_path):
    root = celeba(12)
    store = prepare(root, tmp_path / "store", size=64, workers=1)
    assert store.images.shape == (12, 64, 64, 3) and store.images.dtype == np.uint8
    source = cv2.imread(str(root / "img_align_celeba" / "000005.jpg"))[:, :, ::-1]
    expected = align(source, DRAWN_LANDMARKS, 64).astype(int)
    assert np.abs(store.images[4] - expected).mean() < 2  # two JPEG decoders
    assert store.attribute_names == ATTRIBUTES and store.labels.dtype == np.float32
    assert store.names[4] == "000005.jpg"
    assert store.indices(1).tolist() == [8, 9]
    assert store.identity[4] == 3
    assert np.array_equal(
        store.select_labels(["young", "Smiling"]),
        store.labels[:, [39, ATTRIBUTES.index("Smiling")]],
    )
    assert store.meta["splits"] == {"train": 8, "valid": 2, "test": 2}
    assert store.meta["labels"] == "hard" and store.meta["landmarks"]["given"] == 12
    assert len(store.meta["template"]) == 5
    assert rejected(tmp_path / "store") == {}
    assert is_prepared(tmp_path / "store") and not is_prepared(root)


def test_several_processes_and_a_zip_give_the_same_store(celeba, tmp_path):
    prepare(celeba(150), tmp_path / "one", size=32, workers=1)
    prepare(celeba(150, name="zip", zipped=True), tmp_path / "two", size=32, workers=2)
    assert same_stores(tmp_path / "one", tmp_path / "two")


def test_images_that_cannot_be_used_are_listed_and_leave_no_hole(celeba, tmp_path):
    root = celeba(12)
    whole = prepare(root, tmp_path / "whole", size=32)
    damage(root, 2, 11)
    (root / "img_align_celeba" / "000005.jpg").unlink()
    cv2.imwrite(str(root / "img_align_celeba" / "000007.jpg"), np.full((218, 178, 3), 99, np.uint8))
    landmarks = root / "list_landmarks_align_celeba.txt"
    lines = [line for line in landmarks.read_text().splitlines() if "000007" not in line]
    landmarks.write_text("\n".join(["11", *lines[1:]]) + "\n")

    store = prepare(root, tmp_path / "store", size=32)
    assert len(store) == 8 and store.meta["rejected"] == 4
    reasons = rejected(tmp_path / "store")
    assert sorted(reasons) == ["000002.jpg", "000005.jpg", "000007.jpg", "000011.jpg"]
    assert reasons["000005.jpg"] == "missing"
    assert reasons["000007.jpg"] == "no face found"
    assert reasons["000002.jpg"].startswith("broken")
    assert dict(store.rejected) == reasons
    assert sorted(store.names) == sorted(set(whole.names) - set(reasons))
    for row, name in enumerate(store.names):
        before = whole.names.index(name)
        assert np.array_equal(store.images[row], whole.images[before])
        assert np.array_equal(store.labels[row], whole.labels[before])
        assert store.split[row] == whole.split[before]
        assert store.identity[row] == whole.identity[before]


def test_celebas_own_images_without_landmarks_have_them_at_the_template(
    celeba, tmp_path, monkeypatch
):
    def refuse(self):
        raise AssertionError("a detector was made")

    monkeypatch.setattr(fader.faces.detect.Detector, "__init__", refuse)
    root = celeba(6, landmarks=False, zipped=True)
    data = read_source(root)
    expected = [align(data.images.read(name), TEMPLATE, 32) for name in data.names]
    store = prepare(root, tmp_path / "store", size=32, workers=1)
    assert store.meta["alignment"] == "template"
    assert store.meta["landmarks"] == {"given": 6, "detected": 0}
    assert np.array_equal(store.images, expected)
    # Asked for, it overrules landmarks that are there.
    forced = prepare(celeba(6, name="own"), tmp_path / "forced", size=32, workers=1, aligned=True)
    assert np.array_equal(forced.images, expected)
    assert len(prepare(root, tmp_path / "store", size=32, aligned=True)) == 6
    with pytest.raises(FaderError, match="alignment template instead of detected"):
        prepare(root, tmp_path / "store", size=32, aligned=False)


def test_images_of_another_size_are_not_taken_for_celebas_own(celeba, tmp_path, monkeypatch):
    monkeypatch.setattr(fader.faces.detect.Detector, "__init__", lambda self: None)
    monkeypatch.setattr(
        fader.faces.detect.Detector,
        "__call__",
        lambda self, image: [Face(np.array([0.0, 0, 178, 218]), 1.0, DRAWN_LANDMARKS * 1.0)],
    )
    root = celeba(6, landmarks=False)
    odd = root / "img_align_celeba" / "000004.jpg"
    cv2.imwrite(str(odd), cv2.imread(str(odd))[:200])
    store = prepare(root, tmp_path / "auto", size=32, workers=1)
    assert store.meta["alignment"] == "detected" and len(store) == 6
    store = prepare(root, tmp_path / "aligned", size=32, workers=1, aligned=True)
    assert "178x200 pixels" in rejected(tmp_path / "aligned")["000004.jpg"]
    assert "--detect" in rejected(tmp_path / "aligned")["000004.jpg"] and len(store) == 5


def test_of_several_faces_the_largest_or_the_middle_one_is_taken(celeba, tmp_path, monkeypatch):
    def face(x, y, size):
        points = DRAWN_LANDMARKS / 218 * size + (x, y)
        return Face(np.array([x, y, x + size, y + size], float), 1.0, points.astype(float))

    found = []
    monkeypatch.setattr(fader.faces.detect.Detector, "__init__", lambda self: None)
    monkeypatch.setattr(fader.faces.detect.Detector, "__call__", lambda self, image: found)
    root = celeba(6, landmarks=False)
    source = cv2.imread(str(root / "img_align_celeba" / "000001.jpg"))[:, :, ::-1]

    def taken(name, *faces):
        found[:] = faces
        store = prepare(root, tmp_path / name, size=32, workers=1, aligned=False)
        image = store.images[0].astype(int)
        errors = [np.abs(image - align(source, f.landmarks, 32)).mean() for f in faces]
        return int(np.argmin(errors))

    assert taken("largest", face(120, 0, 120), face(70, 90, 40)) == 0
    assert taken("middle", face(0, 0, 60), face(60, 80, 57)) == 1


def test_a_store_goes_to_another_process_by_its_path(celeba, tmp_path):
    store = prepare(celeba(12), tmp_path / "store", size=64)
    data = pickle.dumps(store)
    assert len(data) < 1000
    assert np.array_equal(pickle.loads(data).images, store.images)


def test_a_folder_of_photos_with_a_csv_is_prepared_alike(celeba, tmp_path, monkeypatch):
    class WholePicture:
        def __call__(self, image):
            return [Face(np.array([0.0, 0, 178, 218]), 1.0, DRAWN_LANDMARKS.astype(float))]

    monkeypatch.setattr(fader.faces.detect, "Detector", WholePicture)
    photos = celeba(6) / "img_align_celeba"
    (photos / "people.csv").write_text("photo,male\n000002.jpg,0.25\n000004.jpg,1\ngone.jpg,0\n")
    store = prepare(photos, tmp_path / "store", size=32, workers=1)
    assert store.names == ["000002.jpg", "000004.jpg"]
    assert store.labels.tolist() == [[0.25], [1.0]]
    assert rejected(tmp_path / "store") == {"gone.jpg": "missing"}
    with pytest.raises(UnknownAttributeError, match="has no labels of Young; it has Male"):
        store.select_labels(["Young"])
    with pytest.raises(UnknownAttributeError, match="did you mean Male"):
        store.select_labels(["Mal"])


def test_whatever_is_wrong_with_one_image_or_row_the_others_are_prepared(celeba, tmp_path):
    root = celeba(8)
    images = root / "img_align_celeba"
    face = Image.open(images / "000001.jpg")
    face.save(images / "000002.jpg", "AVIF")
    data = (images / "000002.jpg").read_bytes()
    (images / "000002.jpg").write_bytes(data[: len(data) // 2])
    landmarks = root / "list_landmarks_align_celeba.txt"
    lines = landmarks.read_text().splitlines()
    lines[4] = "000003.jpg " + " ".join(["1e30"] * 10)
    lines[5] = "000004.jpg 1e30 " + " ".join(map(str, DRAWN_LANDMARKS.ravel()[1:]))
    lines[6] = "000005.jpg " + " ".join(["50"] * 10)
    lines[7] = "000006.jpg " + " ".join(["-1e300"] * 10)
    landmarks.write_text("\n".join(lines) + "\n")
    (images / "000007.jpg").unlink()
    (images / "000007.jpg").mkdir()
    store = prepare(root, tmp_path / "store", size=32)
    reasons = rejected(tmp_path / "store")
    assert sorted(reasons) == [f"{number:06d}.jpg" for number in range(2, 8)]
    assert "(1e+30, 1e+30) is far outside its 178x218 pixels" in reasons["000003.jpg"]
    assert "far outside" in reasons["000004.jpg"] and "one place" in reasons["000005.jpg"]
    assert "no regular file" in reasons["000007.jpg"] and len(store) == 2


def test_what_one_image_brings_about_is_its_own_reason(celeba, tmp_path, monkeypatch):
    def fail(image, landmarks, size, align=align):
        fail.calls += 1
        if fail.calls == 2:
            raise MemoryError
        return align(image, landmarks, size)

    fail.calls = 0
    monkeypatch.setattr(fader.faces.align, "align", fail)
    store = prepare(celeba(6), tmp_path / "store", size=32, workers=1)
    assert len(store) == 5
    assert rejected(tmp_path / "store") == {"000002.jpg": "could not be aligned (MemoryError)"}


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names there are text")
def test_a_source_whose_name_is_no_text_is_prepared(celeba, tmp_path):
    root = celeba(6).rename(tmp_path / os.fsdecode(b"\xff\xfe"))
    for name in ("000002.jpg", "000003.jpg"):
        (root / "img_align_celeba" / name).unlink()
    (root / "img_align_celeba" / "000003.jpg").symlink_to("/dev/zero")
    store = prepare(root, tmp_path / os.fsdecode(b"store-\xff"), size=32, workers=1)
    assert [name for name, _ in store.rejected] == ["000002.jpg", "000003.jpg"]
    assert len(open_data(root, 32)) == 4


def test_a_store_tells_no_places_of_this_machine(celeba, tmp_path):
    root = celeba(6, zipped=True)
    outside = tmp_path / "secret-folder" / "labels.csv"
    outside.parent.mkdir()
    outside.write_text("file,Male\n1.jpg,1\n")
    (root / "1.jpg").write_bytes((celeba(1, name="b") / "img_align_celeba/000001.jpg").read_bytes())
    prepare(root, tmp_path / "store", size=32, labels=outside, aligned=True)
    prepare(root, tmp_path / "second", size=32)
    for store in ("store", "second"):
        for path in (tmp_path / store).iterdir():
            assert str(tmp_path).encode() not in path.read_bytes()
            assert b"secret-folder" not in path.read_bytes()


# --- interruptions --------------------------------------------------------------------------


def prepared_unless_killed(root: Path, dest: Path, flush: int, workers: int) -> bool:
    """Prepare in a process with a SIGKILL in place of its flush number ``flush`` of a file, with
    which each step ends; whether it came to the end before."""
    pid = os.fork()
    if not pid:
        calls, fsync = itertools.count(1), os.fsync

        def dying(file: int) -> None:
            if not stat.S_ISDIR(os.fstat(file).st_mode) and next(calls) == flush:
                os.kill(os.getpid(), signal.SIGKILL)
            fsync(file)

        os.fsync = dying
        try:
            prepare(root, dest, size=32, workers=workers)
            os._exit(0)
        finally:
            traceback.print_exc()
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert status in (0, signal.SIGKILL), f"it failed, status {status}"
    return status == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_kill_at_any_step_is_mended_by_running_again(celeba, tmp_path):
    root = celeba(150)
    damage(root, 1, 70, 71, 149)
    prepare(root, tmp_path / "whole", size=32, workers=1)
    for step in range(1, 100):
        dest = tmp_path / f"killed-{step}"
        if prepared_unless_killed(root, dest, step, workers=1):
            break
        assert not is_prepared(dest)
        prepare(root, dest, size=32, workers=1)
        assert same_stores(dest, tmp_path / "whole"), f"differs after a kill at step {step}"
        assert not list(dest.glob(".tmp-*"))
    assert step > 10

    dest = tmp_path / "several-processes"
    assert not prepared_unless_killed(root, dest, 3, workers=2)
    with pytest.raises(FaderError, match="unfinished; run the same fader prepare again"):
        PreparedStore(dest)
    prepare(root, dest, size=32, workers=2)
    assert same_stores(dest, tmp_path / "whole")


def interrupt(monkeypatch, root, dest, **settings):
    """Begin a preparation and break it off after its first block."""
    finish = unfinished.Progress.finish_block

    def stop(self, start, rows):
        finish(self, start, rows)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(unfinished.Progress, "finish_block", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(root, dest, workers=1, **settings)


def test_finished_blocks_are_not_done_again(celeba, tmp_path, monkeypatch):
    root, dest = celeba(100), tmp_path / "store"
    interrupt(monkeypatch, root, dest, size=32)
    with open(dest / "progress.jsonl", "a") as file:
        file.write('{"block": 64, "rej')  # torn by a kill
    damage(root, 1)  # among those already done
    store = prepare(root, dest, size=32, workers=1)
    assert len(store) == 100


def test_an_unfinished_store_is_not_finished_with_other_settings(celeba, tmp_path, monkeypatch):
    root, dest = celeba(100), tmp_path / "store"
    interrupt(monkeypatch, root, dest, size=32)
    with pytest.raises(FaderError, match="size 32 instead of 64"):
        prepare(root, dest, size=64)
    text = (root / "list_attr_celeba.txt").read_text()
    (root / "list_attr_celeba.txt").write_text(text.replace("-1", " 1", 1))
    with pytest.raises(FaderError, match=r"from another list_attr_celeba\.txt"):
        prepare(root, dest, size=32)


def test_a_finished_store_is_kept_and_guarded(celeba, tmp_path):
    root, dest = celeba(12, soft=("Male",)), tmp_path / "store"
    prepare(root, dest, size=32)
    before = (dest / "images.npy").stat().st_mtime_ns
    assert len(prepare(root, dest, size=32)) == 12
    assert (dest / "images.npy").stat().st_mtime_ns == before
    for settings, message in (
        ({"size": 64}, "size 32 instead of 64"),
        ({"size": 32, "soft": False}, "with soft_attributes.csv"),
        ({"size": 32, "limit": 3}, "limit none instead of 3"),
    ):
        with pytest.raises(FaderError, match=message):
            prepare(root, dest, **settings)
    with pytest.raises(FaderError, match="source"):
        prepare(celeba(12, name="other"), dest, size=32)
    assert (dest / "images.npy").stat().st_mtime_ns == before


def test_when_nothing_can_be_used_a_mended_source_is_tried_anew(celeba, tmp_path):
    root, dest = celeba(6), tmp_path / "store"
    (root / "img_align_celeba").rename(root / "elsewhere")
    (root / "img_align_celeba").mkdir()
    with pytest.raises(FaderError, match=r"none of the 6 images .*rejected\.csv lists them"):
        prepare(root, dest, size=32)
    assert len(rejected(dest)) == 6
    (root / "img_align_celeba").rmdir()
    (root / "elsewhere").rename(root / "img_align_celeba")
    assert len(prepare(root, dest, size=32)) == 6


def test_a_folder_with_other_files_is_left_alone(celeba, tmp_path):
    root = celeba(6)
    before = sorted(root.iterdir())
    with pytest.raises(FaderError, match="holds other files"):
        prepare(root, root, size=32)
    assert sorted(root.iterdir()) == before
    with pytest.raises(FaderError, match="is a file"):
        prepare(root, root / "list_attr_celeba.txt", size=32)


@pytest.mark.parametrize(
    "name",
    [
        "images.npy",
        "rejected.csv",
        "meta.json",
        "progress.jsonl",
        "names.json",
        ".lock",
        "labels.npy",
    ],
)
@pytest.mark.parametrize(
    "content", ["", "image,reason\n", '{"format": 1}', '{"a": {}}', "[" * 9999]
)
def test_files_that_are_not_ours_are_never_touched(celeba, tmp_path, name, content):
    root, dest = celeba(3), tmp_path / "mine"
    dest.mkdir()
    (dest / name).write_text(content)
    (dest / "images.npy").touch()  # enough to be looked at as a store
    before = {path.name: path.read_bytes() for path in dest.iterdir()}
    with pytest.raises(FaderError, match=r"holds other files \(.*give a new or an empty") as caught:
        prepare(root, dest, size=32)
    assert "delete" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in dest.iterdir()} == before
    with pytest.raises(FaderError, match="is not a prepared store") as caught:
        PreparedStore(dest)
    assert "delete" not in str(caught.value)
    # Nor where prepared faces are kept beside their source.
    dest.rename(root / ".fader-32")
    with pytest.raises(FaderError, match=r"holds other files .* move them away"):
        open_data(root, 32)
    assert {path.name: path.read_bytes() for path in (root / ".fader-32").iterdir()} == before


def test_other_files_in_a_store_stay_when_it_is_made_anew(celeba):
    root = celeba(12)
    kept = open_data(root, 32).path / "notes.txt"
    kept.write_text("mine")
    (kept.parent / ".tmp-mine").write_text("mine, too")
    (root / "list_eval_partition.txt").unlink()
    assert "hash" in open_data(root, 32).meta["split_from"]
    assert kept.read_text() == "mine" and (kept.parent / ".tmp-mine").exists()


def test_no_message_advises_to_delete_a_folder(celeba, tmp_path):
    root, dest = celeba(6), tmp_path / "store"
    prepare(root, dest, size=32)
    meta = (dest / "meta.json").read_text()
    for damage in (meta[:60], meta.replace('"files": {', '"files": 3, "x": {'), "[" * 100_000):
        (dest / "meta.json").write_text(meta[:40] + damage if damage[0] == "[" else damage)
        with pytest.raises(FaderError) as caught:
            prepare(root, dest, size=32)
        assert "delete" not in str(caught.value) and str(dest) in str(caught.value)


def test_two_processes_do_not_write_one_store(celeba, tmp_path):
    root, dest = celeba(6), tmp_path / "store"
    with file_lock(dest / ".lock"), pytest.raises(FaderError, match="another process"):
        prepare(root, dest, size=32)
    assert len(prepare(root, dest, size=32)) == 6


def test_a_full_disk_is_seen_before_the_work(celeba, tmp_path, monkeypatch):
    usage = unfinished.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(unfinished.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(FaderError, match="GB needed"):
        prepare(celeba(6), tmp_path / "store", size=32)


# --- opening a store ------------------------------------------------------------------------


def test_a_damaged_store_is_not_opened(celeba, tmp_path):
    dest = tmp_path / "store"
    prepare(celeba(6), dest, size=32)
    images = (dest / "images.npy").read_bytes()
    (dest / "images.npy").write_bytes(images[:-1])
    with pytest.raises(FaderError, match=r"images\.npy: missing, cut short or damaged"):
        PreparedStore(dest)
    (dest / "images.npy").write_bytes(images)
    labels = (dest / "labels.npy").read_bytes()
    (dest / "labels.npy").unlink()
    with pytest.raises(FaderError, match=r"labels\.npy: missing"):
        PreparedStore(dest)
    (dest / "labels.npy").write_bytes(labels)
    meta = (dest / "meta.json").read_text()
    (dest / "meta.json").write_text(meta[:20])
    with pytest.raises(FaderError, match=r"meta\.json: missing, cut short or damaged"):
        PreparedStore(dest)
    (dest / "meta.json").write_text(json.dumps({**json.loads(meta), "format": 99}))
    with pytest.raises(FaderError, match=r"newer Fader \(format 99"):
        PreparedStore(dest)


def test_a_disk_whose_files_cannot_be_mapped_is_named(celeba, tmp_path, monkeypatch):
    prepare(celeba(6), tmp_path / "store", size=32)

    def unmapped(*args, **options):
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    monkeypatch.setattr(mmap, "mmap", unmapped)
    for act in (
        lambda: PreparedStore(tmp_path / "store"),
        lambda: prepare(celeba(6, name="other"), tmp_path / "new", size=32, workers=1),
    ):
        with pytest.raises(
            FaderError, match=r"images\.npy: this disk does not let files be mapped"
        ):
            act()


def test_a_folder_that_is_no_store_says_how_to_make_one(tmp_path):
    with pytest.raises(FaderError, match=r"is not a prepared store .* fader prepare SOURCE"):
        PreparedStore(tmp_path)


def test_a_pickle_in_place_of_an_array_is_refused(celeba, tmp_path):
    dest = tmp_path / "store"
    prepare(celeba(6), dest, size=32)
    np.save(dest / "split.npy", np.array([{}] * 6, dtype=object), allow_pickle=True)
    with pytest.raises(FaderError, match=r"split\.npy"):
        PreparedStore(dest)


# --- open_data ------------------------------------------------------------------------------


def test_open_data_opens_a_store_of_the_right_size(celeba, tmp_path):
    dest = tmp_path / "store"
    prepare(celeba(6), dest, size=32)
    assert len(open_data(dest, 32)) == 6
    with pytest.raises(FaderError, match="holds 32-pixel faces, and 64 are asked for"):
        open_data(dest, 64)


def test_open_data_prepares_a_raw_folder_once(celeba):
    root = celeba(6)
    first = open_data(root, 32)
    assert first.path == root / ".fader-32"
    before = (first.path / "images.npy").stat().st_mtime_ns
    assert (open_data(root, 32).path / "images.npy").stat().st_mtime_ns == before
    assert open_data(root, 16).size == 16


def test_open_data_notices_changed_annotations(celeba):
    root = celeba(12)
    assert open_data(root, 32).meta["splits"]["test"] == 2
    partition = root / "list_eval_partition.txt"
    partition.write_text(partition.read_text().replace(" 1\n", " 2\n"))
    assert open_data(root, 32).meta["splits"]["test"] == 4
    partition.unlink()
    assert "hash" in open_data(root, 32).meta["split_from"]
    (root / "soft_attributes.csv").write_text(
        "image,Male\n" + "".join(f"{i:06d}.jpg,0.25\n" for i in range(1, 13))
    )
    assert (open_data(root, 32).select_labels(["Male"]) == 0.25).all()


def test_open_data_keeps_the_cache_of_a_folder_that_was_moved_or_touched(celeba, tmp_path):
    root = celeba(12, zipped=True)
    open_data(root, 32)
    root = root.rename(tmp_path / "moved")
    before = (root / ".fader-32" / "images.npy").stat().st_mtime_ns
    os.utime(root / "img_align_celeba.zip")
    store = open_data(root, 32)
    assert (store.path / "images.npy").stat().st_mtime_ns == before


def test_open_data_caches_a_read_only_folder_elsewhere(celeba, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = celeba(6)
    root.chmod(0o555)
    try:
        store = open_data(root, 32)
        assert tmp_path / "cache" / "fader" in store.path.parents
        assert not (root / ".fader-32").exists()
        assert len(open_data(root, 32)) == 6
    finally:
        root.chmod(0o755)


@pytest.mark.parametrize("exists", [False, True])
def test_open_data_without_data_says_how_to_get_some(tmp_path, exists):
    path = tmp_path / "celeba"
    if exists:
        path.mkdir()
    with pytest.raises(FaderError) as caught:
        open_data(path, 128)
    message = str(caught.value)
    assert message.startswith(f"no data at {path}")
    for part in ("CelebA.html", "Kaggle", "img_align_celeba.zip", "$FADER_DATA", "fader synth"):
        assert part in message


# --- the command ----------------------------------------------------------------------------


def fader_prepare(*arguments):
    return CliRunner().invoke(main, ["prepare", *map(str, arguments)])


def test_the_command_prepares_and_says_what_it_did(celeba, tmp_path):
    root, dest = celeba(12), tmp_path / "store"
    damage(root, 3)
    result = fader_prepare(root, dest, "--size", 32, "--workers", 1)
    assert result.exit_code == 0, result.output
    assert "11 faces of 32x32, 40 attributes" in result.stdout
    one = fader_prepare(root, tmp_path / "one", "--size", 32, "--workers", 1, "--limit", 1)
    assert "one: 1 face of 32x32, " in one.stdout
    assert "train 7, valid 2, test 2" in result.stdout
    assert f"rejected: 1, listed in {dest / 'rejected.csv'}" in result.stdout
    again = fader_prepare(root, dest, "--size", 32)
    assert again.exit_code == 0 and "already done" in again.stdout


def test_the_command_takes_a_part_and_the_hard_labels(celeba, tmp_path):
    root, dest = celeba(12, soft=("Male",)), tmp_path / "store"
    result = fader_prepare(root, dest, "--size", 32, "--limit", 5, "--hard")
    assert result.exit_code == 0, result.output
    assert "5 faces" in result.stdout and "hard labels" in result.stdout


def test_the_command_fails_in_one_sentence(celeba, tmp_path):
    result = fader_prepare(tmp_path / "nowhere", tmp_path / "store")
    assert result.exit_code == 1
    assert result.stdout == "" and "there is no such folder" in result.stderr
    assert not (tmp_path / "store").exists()
    for arguments in (["--size", 0], ["--limit", 0], ["--labels", tmp_path / "none.csv"]):
        assert fader_prepare(celeba(6), tmp_path / "store", *arguments).exit_code == 2


def test_the_commands_help_ends_with_an_example():
    result = fader_prepare("-h")
    assert result.exit_code == 0
    assert result.stdout.strip().splitlines()[-1].lstrip().startswith("Example: fader prepare")


# --- real faces -----------------------------------------------------------------------------


def test_real_faces_come_out_with_eyes_and_mouth_in_place(shared_data, tmp_path):
    store = prepare(shared_data / "lfw-celeba", tmp_path / "store", size=64, limit=300)
    assert len(store) == 300 and store.meta["labels"] == "soft"
    mean = store.images[:].mean(axis=(0, 3))
    points = np.array(store.meta["template"]).round().astype(int)
    for x, y in points[:2]:  # eyes are darker than the cheeks below them
        assert mean[y - 1 : y + 2, x - 1 : x + 2].mean() < mean[y + 6 : y + 9, x - 1 : x + 2].mean()
