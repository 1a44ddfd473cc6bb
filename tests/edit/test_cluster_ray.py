"""``fader edit --engine ray`` with Ray, and with an object store on this machine."""

import os
import signal
import threading
from collections import Counter
from contextlib import closing

import pytest
from click.testing import CliRunner
from paths import ASTRONAUT
from PIL import Image
from serving import random_model
from stores import s3_server

from fader import Editor
from fader.attributes import parse_changes
from fader.commands import main
from fader.edit.folder import edit_folder, find_photos
from fader.edit.job import Job

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'fader[cluster]'")
pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'fader[cluster]'")

from fader.edit.cluster.engine import Cluster, edit_on_cluster  # noqa: E402

JOB = Job(parse_changes("Smiling=0"))
SMALL = {"include_dashboard": False, "object_store_memory": 100_000_000, "log_to_driver": False}


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # Else its processes give way to all others of a busy machine.
    monkeypatch.setenv("RAY_worker_niceness", "0")


@pytest.fixture
def on_ray(quiet):
    ray.init(num_cpus=1, **SMALL)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(random_model(tmp_path_factory.mktemp("model")))


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    head = Image.open(ASTRONAUT).convert("RGB").crop((140, 0, 320, 180))
    for n in range(8):
        head.rotate(n - 4).save(folder / "deep" / f"{n:02d}.jpg")
        head.rotate(4 - n).save(folder / f"{n:02d}.png")
    (folder / "bad.jpg").write_bytes(b"no photo")
    (folder / "notes.txt").write_text("no photo")
    return folder


@pytest.fixture
def expected(model, source, tmp_path):
    """The output tree of the batch on one machine."""
    out = tmp_path / "here"
    list(edit_folder(Editor(model, "cpu"), source, find_photos(source), out, JOB))
    return tree(out)


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def edit(model, *arguments):
    texts = [str(argument) for argument in arguments]
    options = ["--engine", "ray", "--set", "Smiling=0", "--model", model, "--device", "cpu"]
    return CliRunner().invoke(main, ["edit", *texts, *options])


def started(model, source, out):
    editor, others = Editor(model, "cpu"), Counter()
    return edit_on_cluster(editor, str(source), str(out), JOB, "cpu", Cluster(), others)


def test_the_output_tree_is_that_of_one_machine_and_is_not_done_twice(
    on_ray, model, source, expected, tmp_path
):
    out = tmp_path / "out"
    result = edit(model, source, "-o", out)
    assert result.exit_code == 1  # one cannot be read
    assert tree(out) == expected
    assert "17 photos: 16 edited, 1 unreadable; 16 faces" in result.stderr
    assert f"passed over: 1 .txt; report: {out / 'report.csv'}" in result.stderr
    assert f"Error: {source / 'bad.jpg'}: not an image" in result.stderr
    assert sorted(result.stdout.split()) == sorted(
        str(out / name) for name in expected if name != "report.csv"
    )
    result = edit(model, source, "-o", out)
    assert "17 photos: 16 skipped, 1 unreadable" in result.stderr and not result.stdout
    inside = edit(model, source, "-o", source / "out")
    assert inside.exit_code == 1 and "lie in one another" in inside.stderr


def test_the_first_edit_is_made_before_the_listing_is_complete(on_ray, model, source, tmp_path):
    table, out = tmp_path / "photos.csv", tmp_path / "out"
    os.mkfifo(table)
    first, waited, seen = threading.Event(), [], []

    def write():
        with open(table, "w") as file:
            file.write("path\n" + "".join(f"in/{n:02d}.png\n" for n in range(8)))
            file.flush()
            waited.append(first.wait(400))
            file.write("in/deep/00.jpg\n")

    writer = threading.Thread(target=write)
    writer.start()
    with closing(started(model, table, out)) as results:
        for (result,) in results:
            seen.append(result.output)
            first.set()
    writer.join()
    assert waited == [True]
    assert seen[:8] == [str(out / "in" / f"{n:02d}.png") for n in range(8)]
    assert seen[8:] == [str(out / "in" / "deep" / "00.jpg")]


def test_a_killed_worker_loses_nothing(on_ray, model, source, expected, tmp_path):
    psutil = pytest.importorskip("psutil", reason="needs psutil to find the worker")
    out = tmp_path / "out"
    statuses = Counter()
    with closing(started(model, source, out)) as results:
        for (result,) in results:
            if not statuses:
                workers = [
                    process
                    for process in psutil.Process().children(recursive=True)
                    if process.cmdline() and "MapWorker" in process.cmdline()[0]
                ]
                os.kill(workers[0].pid, signal.SIGKILL)
            statuses[result.status] += 1
    assert statuses == {"edited": 16, "unreadable": 1}
    assert tree(out) == expected


def test_a_lost_machine_loses_nothing(model, source, expected, tmp_path):
    from ray.cluster_utils import Cluster as Machines

    memory = {"object_store_memory": SMALL["object_store_memory"]}
    machines = Machines(initialize_head=True, head_node_args={"num_cpus": 0, **memory})
    lost = machines.add_node(num_cpus=1, **memory)
    ray.init(address=machines.address, log_to_driver=False)
    out = tmp_path / "out"
    statuses = Counter()
    try:
        with closing(started(model, source, out)) as results:
            for (result,) in results:
                if not statuses:
                    machines.add_node(num_cpus=1, **memory)
                    machines.remove_node(lost, allow_graceful=False)
                statuses[result.status] += 1
    finally:
        ray.shutdown()
        machines.shutdown()
    assert statuses == {"edited": 16, "unreadable": 1}
    assert tree(out) == expected


@pytest.fixture
def server():
    with s3_server():
        yield


def test_from_bucket_to_bucket(server, model, source, expected, tmp_path):
    import s3fs

    # Only now, since Ray's processes have the environment in which it was started.
    ray.init(num_cpus=1, **SMALL)
    try:
        store = s3fs.S3FileSystem(use_listings_cache=False)
        store.mkdir("photos-in")
        store.mkdir("photos-out")
        store.put(f"{source}/", "photos-in/photos/", recursive=True)
        result = edit(model, "s3://photos-in/photos", "-o", "s3://photos-out/edited")
        assert "17 photos: 16 edited, 1 unreadable; 16 faces" in result.stderr
        assert "Error: s3://photos-in/photos/bad.jpg: not an image" in result.stderr
        assert "report: s3://photos-out/edited/report.csv" in result.stderr
        assert "s3://photos-out/edited/deep/00.jpg" in result.stdout.split()
        found = {
            name.removeprefix("photos-out/edited/"): store.cat_file(name)
            for name in store.find("photos-out/edited")
        }
        report = found.pop("report.csv").decode().splitlines()
        rows = expected.pop("report.csv").decode().splitlines()
        assert found == expected
        names = [[row.split(",")[:4] for row in lines] for lines in (report, rows)]
        assert names[0] == names[1]
        again = edit(model, "s3://photos-in/photos", "-o", "s3://photos-out/edited")
        assert "17 photos: 16 skipped, 1 unreadable" in again.stderr
        nowhere = edit(model, "s3://photos-in/nothing", "-o", "s3://photos-out/edited")
        assert nowhere.exit_code == 1
        assert "s3://photos-in/nothing: cannot be looked into" in nowhere.stderr
    finally:
        ray.shutdown()
