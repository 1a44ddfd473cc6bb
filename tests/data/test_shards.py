"""A prepared store in shards, on a disk and in object stores: the batches of the store itself."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from stores import like_a_cloud, s3_server

from fader.commands import main
from fader.data.batches import Augmentation, Batches
from fader.data.prepare import prepare
from fader.data.sharding import shard
from fader.data.shards import Folder
from fader.data.store import PreparedStore, checksum
from fader.data.synthetic import write_dataset
from fader.errors import FaderError
from fader.train.run import read_rows

fsspec = pytest.importorskip("fsspec", reason="URLs need fsspec")

#: Seven faces of 32 px to a shard.
SMALL_SHARDS = 7 * 32 * 32 * 3
SETTINGS = [
    *("pretrain_steps=1", "ramp_steps=1", "decay_steps=0", "log_every=1", "validate_every=100"),
    *("batch_size=8", "mixed_precision=no", "augmentation=1"),
    *("model.size=32", "model.layers=3", "model.width=8", "model.max_width=16"),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    write_dataset(folder / "celeba", 60, seed=1, counterfactuals=False, progress=False)
    (folder / "celeba" / "img_align_celeba" / "000003.jpg").write_bytes(b"no photo")
    prepare(folder / "celeba", folder / "store", size=32, workers=1, progress=False)
    return folder / "store"


@pytest.fixture(scope="module")
def server():
    with s3_server() as server:
        fsspec.filesystem("s3").mkdir("faces")
        yield server


@pytest.fixture(params=["folder", "memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Somewhere new."""
    if request.param == "s3":
        request.getfixturevalue("server")
        return f"s3://faces/{uuid4()}"
    return str(tmp_path / "shards") if request.param == "folder" else f"memory://faces/{uuid4()}"


@pytest.fixture
def url() -> str:
    return f"memory://faces/{uuid4()}"


def put(store: Path, place: str) -> PreparedStore:
    faces, finished = shard(store, place, SMALL_SHARDS, progress=False)
    assert not finished
    return faces


def fader(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def train(data: object, out: Path, steps: int, *more: str) -> tuple[int, str]:
    settings = [word for setting in (*SETTINGS, f"steps={steps}") for word in ("-s", setting)]
    attributes = ["--attrs", "Male,Eyeglasses", "--preset", "tiny", "--device", "cpu"]
    return fader("train", *attributes, "--data", data, "--out", out, *settings, *more)


def batches(faces: PreparedStore) -> Batches:
    rows = faces.indices(0)
    labels = faces.select_labels(["Male", "Eyeglasses"])[rows]
    return Batches(faces, rows, labels, 16, Augmentation(colour=0.1), seed=3, balance=0.5)


def test_the_batches_are_those_of_the_store(store: Path, place: str) -> None:
    local, faces = PreparedStore(store), put(store, place)
    assert len(faces) == len(local) == 59 and faces.meta["shards"]["rows"] == 7
    for name in ("labels", "split", "identity", "names", "rejected", "size", "attribute_names"):
        np.testing.assert_array_equal(getattr(faces, name), getattr(local, name))
    assert checksum(faces) == checksum(local)
    for rows in (slice(None), slice(3, 20, 2), 5, -1, [6, 7, 6], [], local.split == 1):
        np.testing.assert_array_equal(faces.images[rows], local.images[rows])
    ours, theirs = batches(faces).from_step(5), batches(local).from_step(5)
    for _ in range(6):
        for one, other in zip(next(ours), next(theirs), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("protocol", ["gs", "az"])
def test_other_clouds_than_s3(store: Path, protocol: str) -> None:
    with like_a_cloud(protocol) as cloud:
        faces = put(store, f"{protocol}://faces/a")
        np.testing.assert_array_equal(faces.images[::3], PreparedStore(store).images[::3])
        cloud.fails = True
        named = f"^{protocol}://faces/a/images-00001.npy: cannot be read .503 try later.$"
        with pytest.raises(FaderError, match=named):
            faces.images[9:12]
        named = f"^{protocol}://faces/a/meta.json: cannot be read .503 try later.$"
        with pytest.raises(FaderError, match=named):
            PreparedStore(f"{protocol}://faces/a")
        with pytest.raises(FaderError, match=f"^{protocol}://faces/b: cannot be looked into"):
            put(store, f"{protocol}://faces/b")


def test_the_losses_are_those_of_the_store(store: Path, place: str, tmp_path: Path) -> None:
    put(store, place)
    for data, run in ((store, tmp_path / "one"), (place, tmp_path / "two")):
        code, said = train(data, run, 3)
        assert code == 0, said
        assert "1 image left out, such as 000003.jpg" in said
    rows, others = (read_rows(tmp_path / run / "metrics.jsonl") for run in ("one", "two"))
    assert len(rows) == 3
    for row, other in zip(rows, others, strict=True):
        del row["images_per_second"], other["images_per_second"]
        assert row == other
    # Each goes on with the other's place, and with no place at all.
    assert train(store, tmp_path / "two", 4, "--resume")[0] == 0
    assert train(place, tmp_path / "one", 4, "--resume")[0] == 0
    assert fader("train", "--resume", "--out", tmp_path / "one", "-s", "steps=5")[0] == 0


def test_other_data_than_a_run_began_with_is_refused(store: Path, url: str, tmp_path: Path) -> None:
    put(store, url)
    assert train(url, tmp_path / "run", 1)[0] == 0
    write_dataset(tmp_path / "celeba", 60, seed=2, counterfactuals=False, progress=False)
    prepare(tmp_path / "celeba", tmp_path / "store", size=32, workers=1, progress=False)
    other = put(tmp_path / "store", f"{url}-other")
    code, said = train(other.path, tmp_path / "run", 2, "--resume")
    assert code == 1 and f"was started on other data ({url}) than --data {other.path}" in said


def test_all_that_reads_a_store_reads_shards(store: Path, url: str, tmp_path: Path) -> None:
    from cgan.commands import main as cgan

    put(store, url)
    few = ["--size", 32, "--width", 4, "--batch-size", 4, "--steps", 2]
    code, said = fader("train-classifier", "--data", url, "--out", tmp_path / "judge", *few)
    assert code == 0, said
    assert train(url, tmp_path / "run", 1)[0] == 0
    model = ["--model", tmp_path / "run", "--judge", tmp_path / "judge"]
    code, said = fader("evaluate", *model, "--data", url, "--split", "train", "--limit", 8)
    assert code == 0, said
    for more in (["--labels", "Male"], ["--channels", "1"]):
        arguments = ["train", "--data", url, "--size", "32", "--preset", "tiny", "--steps", "1"]
        out = tmp_path / more[0]
        result = CliRunner().invoke(cgan, [*arguments, *more, "--out", str(out)])
        assert result.exit_code == 0, result.output
    assert train(url, tmp_path / "dry", 1, "--dry-run")[0] == 0


def test_a_process_reads_only_its_rows(store: Path, url: str, monkeypatch) -> None:
    faces = put(store, url)
    read: list[int] = []
    parts = Folder.parts

    def counted(self, names, starts, ends):
        read.append(sum(ends) - sum(starts))
        return parts(self, names, starts, ends)

    monkeypatch.setattr(Folder, "parts", counted)
    local, mine = batches(PreparedStore(store)), slice(1, None, 4)
    assert torch.equal(batches(faces).batch(2, mine)[0], local.batch(2, mine)[0])
    assert len(read) == 1 and 0 < read[0] <= 4 * 32 * 32 * 3


def test_what_comes_from_far_is_read_several_batches_ahead() -> None:
    class Far:
        """Answers once four are waiting."""

        ahead, shape = 4, (64, 8, 8, 3)

        def __init__(self) -> None:
            self.images, self.barrier = self, threading.Barrier(4)

        def __getitem__(self, rows):
            self.barrier.wait(60)
            return np.zeros((len(rows), 8, 8, 3), np.uint8) + rows[:, None, None, None]

    far = Batches(Far(), np.arange(64), np.zeros((64, 0)), 4, Augmentation(flip=False))
    endless, seen = far.from_step(3), []
    for _ in range(4):
        seen.append(next(endless)[0])
    far.store.barrier.abort()
    for step, x in enumerate(seen, start=3):
        rows = far._draw(step)[1]
        assert torch.equal(x[:, 0, 0, 0], torch.from_numpy(rows).float() / 127.5 - 1)


def test_sharding_that_was_killed_goes_on(store: Path, place: str, monkeypatch) -> None:
    written: list[str] = []
    write = Folder.write

    def killed(self, name, data):
        if name == "images-00003.npy":
            raise KeyboardInterrupt
        write(self, name, data)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Folder, "write", killed)
        put(store, place)
    with pytest.raises(FaderError, match="is unfinished; run the same fader shard STORE"):
        PreparedStore(place)
    code, said = fader("train-classifier", "--data", place, "--out", "nowhere")
    assert code == 1 and f"{place}: is unfinished" in said
    if place.startswith("/"):  # where a file can be left half written
        part = Path(place) / "images-00001.npy"
        part.write_bytes(part.read_bytes()[:999])

    def noted(self, name, data):
        written.append(name)
        write(self, name, data)

    monkeypatch.setattr(Folder, "write", noted)
    faces = put(store, place)
    np.testing.assert_array_equal(faces.images[:], PreparedStore(store).images)
    kept = {"images-00000.npy", "images-00001.npy", "images-00002.npy"}
    kept -= {"images-00001.npy"} if place.startswith("/") else set()
    assert not kept & set(written) and "images-00008.npy" in written
    assert "unfinished.json" not in Folder(place).sizes()
    assert shard(store, place, SMALL_SHARDS, progress=False)[1]


def test_the_command_says_what_it_did(store: Path, place: str) -> None:
    assert fader("shard", store, place) == (0, f"{place}: 59 faces of 32x32 in 1 shard\n")
    again = f"{place}: already done, 59 faces of 32x32 in 1 shard\n"
    assert fader("shard", store, f"{place}/") == (0, again)


def test_a_place_of_something_else_is_left_alone(store: Path, url: str, tmp_path: Path) -> None:
    folder = Folder(url)
    folder.write("notes.txt", b"mine")
    code, said = fader("shard", store, url)
    assert code == 1 and f"{url}: holds other files (notes.txt); give a new" in said
    assert set(folder.sizes()) == {"notes.txt"}
    code, said = fader("shard", store, store)
    assert code == 1 and f"{store}: its meta.json is not of these faces" in said
    assert len(PreparedStore(store)) == 59
    for name in ("meta.json", "unfinished.json"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text('{"format": 1, "size": 32}')
        code, said = fader("shard", store, tmp_path / name)
        assert code == 1 and f"its {name} is not of these faces" in said
    code, said = fader("prepare", store, "s3://faces/store")
    assert code == 2 and "fader shard" in said


def damage(folder: Folder, name: str, change: str) -> None:
    data = bytearray(folder.read(name))
    folder.remove(name)
    if change == "cut":
        folder.write(name, bytes(data[:-2000]))
    elif change == "flipped":
        data[-1500] ^= 1
        folder.write(name, bytes(data))


@pytest.mark.parametrize("change", ["missing", "cut", "flipped"])
def test_damage_is_found_and_named(store: Path, place: str, change: str, tmp_path: Path) -> None:
    faces, folder = put(store, place), Folder(place)
    damage(folder, "images-00001.npy", change)
    np.testing.assert_array_equal(faces.images[14:], PreparedStore(store).images[14:])
    named = "images-00001.npy: (missing, cut short or damaged|cannot be read)"
    with pytest.raises(FaderError, match=named):
        faces.images[:]
    code, said = train(place, tmp_path / "run", 9)
    assert code == 1 and f"Error: {place}/images-00001.npy: " in said and said.count("\n") < 5
    damage(folder, "labels.npy", change)
    with pytest.raises(FaderError, match=r"labels.npy: missing, cut short or damaged; make the"):
        PreparedStore(place)


def test_places_without_a_store_are_named(store: Path, url: str, monkeypatch, tmp_path) -> None:
    with pytest.raises(FaderError, match=f"^{url}: is not a prepared store .*fader shard STORE"):
        PreparedStore(url)
    for file in store.iterdir():
        Folder(url).write(file.name, file.read_bytes())
    with pytest.raises(FaderError, match=f"^{url}: has its pixels in one file"):
        PreparedStore(url)
    Folder(url).write("meta.json", b'{"format": 1, "size": []}')
    with pytest.raises(FaderError, match=f"^{url}/meta.json: missing, cut short or damaged"):
        PreparedStore(url)
    Folder(url).write("meta.json", b'{"name": "somebody\'s"}')
    with pytest.raises(FaderError, match=f"^{url}: is not a prepared store; its meta.json"):
        PreparedStore(url)
    for protocol, package, extra in (
        ("s3", "s3fs", "'fader[cluster]'"),
        ("gs", "gcsfs", "gcsfs"),
        ("az", "adlfs", "adlfs"),
    ):
        monkeypatch.setitem(sys.modules, package, None)
        known = sys.modules["fsspec.registry"]._registry
        monkeypatch.delitem(known, protocol, raising=False)
        said = f"{protocol}://faces/a: needs {package}, which is not installed; pip install {extra}"
        code, output = train(f"{protocol}://faces/a", tmp_path / "run", 1)
        assert code == 1 and said in output


def test_a_bucket_that_is_not_there_or_out_of_reach(
    store: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # for the test's time
    with s3_server() as server:
        s3 = fsspec.filesystem("s3")
        code, said = fader("shard", store, "s3://none/a")
        assert code == 1 and "s3://none/a/unfinished.json: cannot be written (The spec" in said
        code, said = train("s3://none/a", tmp_path / "run", 1)
        assert code == 1 and "s3://none/a: is not a prepared store (meta.json: The spec" in said
        url = f"s3://{uuid4()}/a"
        s3.mkdir(url.removesuffix("/a"))
        faces = put(store, url)
        server.stop()
        with pytest.raises(FaderError, match=rf"^{url}/images-\d+.npy: cannot be read \(.+\)$"):
            faces.images[:9]
        code, said = train(url, tmp_path / "run", 1)
        assert code == 1 and f"Error: {url}/meta.json: cannot be read (" in said
        server.start()
