import csv
import errno
import io
import json
import os
import signal
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from corpus import write_corpus
from fakes import FakeModel, made_face
from paths import ASTRONAUT, ROOT
from PIL import Image

from fader import Editor
from fader.attributes import parse_changes
from fader.commands import main
from fader.edit.folder import edit_folder, find_photos, look_through
from fader.edit.job import Job, combinations
from fader.edit.outputs import beside, inside, plan
from fader.errors import FaderError
from fader.files import make_folder
from fader.photo import IMAGE_SUFFIXES, open_photo

JOB = Job(parse_changes("Smiling=0"))


@pytest.fixture(scope="module")
def astronaut():
    return Image.open(ASTRONAUT).convert("RGB")


@pytest.fixture
def editor():
    """A model and a detector whose answers are known: a face in the middle of what is large."""
    made = Editor(FakeModel(), device="cpu")

    def detect(image):
        height, width = image.shape[:2]
        if min(height, width) < 100:
            return []
        face = made_face(center=(width / 2, height / 2))
        x, y = width / 2, height / 2
        return [replace(face, box=np.array([x - 30, y - 40, x + 30, y + 40]))]

    made.__dict__["detector"] = detect
    return made


@pytest.fixture
def source(tmp_path, astronaut):
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    head = astronaut.crop((160, 20, 300, 160))
    head.save(folder / "a.png")
    head.rotate(5).save(folder / "deep" / "b.jpg")
    Image.new("RGB", (60, 60)).save(folder / "small.png")
    return folder


def run(editor, source, out, job=JOB):
    photos = find_photos(source)
    results = [result for some in edit_folder(editor, source, photos, out, job) for result in some]
    return sorted(results, key=lambda result: result.input)


def report(out):
    with open(out / "report.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def statuses(out):
    return {row["input"]: row["status"] for row in report(out)}


def tree(folder):
    """Every file below a folder with its content."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# Resuming


def test_what_is_finished_is_not_done_again_and_keeps_its_row(editor, source, tmp_path):
    out = tmp_path / "out"
    run(editor, source, out)
    before, first = tree(out), report(out)
    assert [row["status"] for row in first] == ["edited", "edited", "no-face"]
    decodings = editor.model.decodings
    run(editor, source, out)
    assert editor.model.decodings == decodings
    again = report(out)
    assert [row["status"] for row in again] == ["skipped", "skipped", "no-face"]
    for column in ("input", "output", "faces", "estimated_Smiling", "set_Smiling", "key"):
        assert [row[column] for row in again] == [row[column] for row in first]
    after = tree(out)
    del before["report.csv"], after["report.csv"]
    assert after == before


def test_changed_inputs_and_changed_settings_are_done_again(editor, source, tmp_path, astronaut):
    out = tmp_path / "out"
    run(editor, source, out)
    stamp = (source / "a.png").stat()
    astronaut.crop((150, 20, 290, 160)).save(source / "a.png")
    os.utime(source / "a.png", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    run(editor, source, out)
    assert statuses(out) == {"a.png": "edited", "deep/b.jpg": "skipped", "small.png": "no-face"}
    before = tree(out)
    run(editor, source, out, replace(JOB, changes=parse_changes("Smiling=0.5")))
    assert set(statuses(out).values()) == {"edited", "no-face"}
    assert tree(out)["a.png"] != before["a.png"]
    (out / "a.png").unlink()
    run(editor, source, out, replace(JOB, changes=parse_changes("Smiling=0.5")))
    assert statuses(out) == {"a.png": "edited", "deep/b.jpg": "skipped", "small.png": "no-face"}


def test_files_of_other_origin_are_left_alone(editor, source, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.png").write_bytes(b"precious")
    results = run(editor, source, out)
    assert (out / "a.png").read_bytes() == b"precious"
    assert results[0].status == "skipped" and "--overwrite" in results[0].detail
    assert results[0].output is None  # nothing of this run's is there
    run(editor, source, out)
    assert (out / "a.png").read_bytes() == b"precious"
    run(editor, source, out, replace(JOB, overwrite=True))
    assert statuses(out)["a.png"] == "edited" and (out / "a.png").read_bytes() != b"precious"


def test_a_report_cut_anywhere_loses_nothing(editor, source, tmp_path):
    """Without its row an output is made anew, and found to be the same."""
    out = tmp_path / "out"
    run(editor, source, out)
    whole, before = (out / "report.csv").read_bytes(), tree(out)
    for length in range(0, len(whole), 97):
        (out / "report.csv").write_bytes(whole[:length])
        run(editor, source, out)
        after = tree(out)
        rows = report(out)
        assert [row["input"] for row in rows] == ["a.png", "deep/b.jpg", "small.png"]
        assert {row["status"] for row in rows} <= {"edited", "skipped", "no-face"}
        del after["report.csv"]
        assert after == {name: data for name, data in before.items() if name != "report.csv"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_kill_while_the_report_is_written_leaves_nothing_beside_it(editor, source, tmp_path):
    out = tmp_path / "out"
    pid = os.fork()
    if not pid:
        # The report is written before anything else is done.
        os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        try:
            run(editor, source, out)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    assert any("tmp" in name for name in tree(out))
    run(editor, source, out)
    assert set(tree(out)) == {*(row["output"] for row in report(out)), "report.csv"} - {""}


DRIVER = """
import os, random, signal, sys, time
import torch
torch.set_num_threads(1)
import facenet_pytorch, cv2, tqdm
import fader.edit.folder, fader.edit.workers, fader.models.pretrained
from fader.commands import main

source, model, whole, killed = sys.argv[1:]

def start(out):
    pid = os.fork()
    if pid:
        return pid
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1), os.dup2(sink, 2)
    arguments = ["edit", source, "-o", out, "--set", "Smiling=+3", "--model", model]
    try:
        main([*arguments, "--device", "cpu", "--workers", "1"])
    except SystemExit as end:
        os._exit(end.code or 0)
    os._exit(99)

begin = time.monotonic()
assert os.waitpid(start(whole), 0)[1] == 0
seconds = time.monotonic() - begin
random.seed(int(seconds * 1e6))
cut = 0
for _ in range(20):
    pid = start(killed)
    time.sleep(random.uniform(0, seconds / 6))
    os.kill(pid, signal.SIGKILL)
    cut += os.waitpid(pid, 0)[1] == signal.SIGKILL
assert os.waitpid(start(killed), 0)[1] == 0
print(cut)
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small untrained model on disk."""
    from fader.models.autoencoder import AutoencoderConfig
    from fader.models.classifier import ClassifierConfig
    from fader.models.model import FaderModel

    torch.manual_seed(0)
    attributes = ("Male", "Smiling", "Blond_Hair")
    made = FaderModel(
        AutoencoderConfig(size=32, layers=3, attributes=attributes, width=8, max_width=32),
        ClassifierConfig(size=32, width=4),
    )
    folder = tmp_path_factory.mktemp("model")
    made.save(folder)
    return str(folder)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_twenty_times_and_resumed_it_is_as_if_never_killed(tmp_path, model, astronaut):
    source, whole, killed = (tmp_path / name for name in ("in", "whole", "killed"))
    for i in range(24):
        path = source / f"{i % 4}" / f"{i:02}.{('jpg', 'png')[i % 2]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        astronaut.crop((150 + i // 2, 20 + i % 5, 290 + i // 2, 160 + i % 5)).save(path)
    arguments = [str(path) for path in (source, model, whole, killed)]
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0
    expected, found = tree(whole), tree(killed)
    rows = report(killed)
    assert [row["input"] for row in rows] == [row["input"] for row in report(whole)]
    assert len({row["input"] for row in rows}) == 24
    assert {row["status"] for row in rows} <= {"edited", "skipped"}
    del expected["report.csv"], found["report.csv"]
    assert found == expected and len(found) == 24


def test_the_keyboards_interrupt_ends_cleanly(source, tmp_path, model, monkeypatch):
    class Interrupted(Editor):
        def variants(self, photo, *arguments, **options):
            if photo.name == "b.jpg":
                raise KeyboardInterrupt
            return super().variants(photo, *arguments, **options)

    monkeypatch.setattr("fader.edit.editor.Editor", Interrupted)
    out = tmp_path / "out"
    arguments = ["edit", str(source), "-o", str(out), "--set", "Smiling=2", "--model", model]
    result = CliRunner().invoke(main, [*arguments, "--workers", "1"])
    assert result.exit_code == 130
    assert "Run the same again" in result.stderr
    assert statuses(out) == {"a.png": "edited"}
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "report.csv"]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("when", ["before its row", "while waiting"])
def test_ctrl_c_between_an_output_and_its_row(tmp_path, model, astronaut, workers, when):
    """Of what is there the report has every row, whenever the keyboard interrupts."""
    from fader import processes
    from fader.edit import report as reports

    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for i in range(30):
        astronaut.crop((150 + i, 20, 290 + i, 160)).save(source / f"{i:02}.png")
    job = Job(parse_changes("Smiling=+3"))
    pressed = []

    def then(function):
        def pressing(*arguments):
            if not pressed:
                pressed.append(True)
                os.kill(os.getpid(), signal.SIGINT)
            return function(*arguments)

        return pressing

    here = (reports.Report, "add") if when == "before its row" else (processes.WorkerPool, "_feed")
    if workers == 1 and when == "while waiting":
        here = (processes.WorkerPool, "_next")
    # A shell ignores the keyboard for what it runs in the background, tests included.
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(*here, then(getattr(*here)))
            list(edit_folder(Editor(model, "cpu"), source, find_photos(source), out, job, workers))
        assert pressed and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, usual)
    rows = report(out)
    assert len(rows) < 30 and {row["status"] for row in rows} <= {"edited"}
    assert sorted(tree(out)) == sorted([*(row["output"] for row in rows), "report.csv"])


@pytest.mark.skipif(sys.platform != "linux", reason="needs processes that are forked")
def test_ctrl_c_with_several_processes(tmp_path, model, astronaut):
    """What the report says is what is there, and the next run does the rest."""
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for i in range(36):
        astronaut.crop((150 + i // 2, 20, 290 + i // 2, 160)).save(source / f"{i:02}.png")
    arguments = ["edit", str(source), "-o", str(out), "--set", "Smiling=+3", "--model", model]
    arguments = [sys.executable, "-m", "fader", *arguments, "--device", "cpu", "--workers", "3"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = subprocess.Popen(
        arguments,
        cwd=ROOT,
        start_new_session=True,
        # A shell ignores the keyboard for what it runs in the background, tests included.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **pipes,
    )
    for _ in range(3):  # by then all processes are at work
        started.stdout.readline()
    os.killpg(started.pid, signal.SIGINT)  # as the terminal does: to all processes
    _, messages = started.communicate()
    assert started.returncode == 130, messages
    assert "Run the same again" in messages and "Traceback" not in messages
    rows = report(out)
    assert 3 <= len(rows) < 36 and {row["status"] for row in rows} == {"edited"}
    assert sorted(tree(out)) == sorted([*(row["output"] for row in rows), "report.csv"])
    again = subprocess.run(arguments, cwd=ROOT, **pipes)
    assert again.returncode == 0, again.stderr
    found = [row["status"] for row in report(out)]
    assert len(found) == 36 and found.count("skipped") == len(rows)
    assert found.count("edited") == 36 - len(rows)
    assert len(tree(out)) == 37


def test_two_runs_do_not_mix(editor, source, tmp_path):
    pytest.importorskip("fcntl")
    out = tmp_path / "out"
    photos = find_photos(source)
    first = edit_folder(editor, source, photos, out, JOB)
    next(first)
    with pytest.raises(FaderError, match="another run"):
        next(edit_folder(editor, source, photos, out, JOB))
    assert len(list(first)) == len(photos) - 1
    assert len(report(out)) == len(photos)


# Processes


def test_processes_give_what_one_gives(source, tmp_path, model):
    arguments = ["edit", str(source), "--set", "Smiling=2", "--model", model, "--device", "cpu"]
    threads = torch.get_num_threads()
    for workers in ("1", "2"):
        out = tmp_path / workers
        # Each of several processes computes with one thread.
        torch.set_num_threads(2)
        result = CliRunner().invoke(main, [*arguments, "-o", str(out), "--workers", workers])
        torch.set_num_threads(threads)
        assert result.exit_code == 0, result.output
    assert [row["status"] for row in report(tmp_path / "2")] == ["edited", "edited", "no-face"]
    first, second = tree(tmp_path / "1"), tree(tmp_path / "2")
    assert first == second and len(first) == 3


def test_a_process_that_dies_takes_only_its_own_task_along(model):
    from crashing import worker

    from fader.edit.workers import editing_pool

    tasks = ["a", "deadly", "b"]
    with closing(editing_pool(worker, Editor(model, "cpu"), tasks, 2, lambda _: "lost")) as pool:
        answers = dict(pool)
    assert answers == {
        task: "lost" if task.startswith("deadly") else f"{task} done" for task in tasks
    }


# Any folder


def test_every_kind_of_name(editor, tmp_path, astronaut):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    names = [
        "with space",
        "new\nline",
        "фото",
        "写真",
        "صورة",
        "e\u0301",
        "📷",
        "=1+1",
        "-o",
        "a,b",
    ]
    names += ["quote'\"", "x" * 251]
    head = astronaut.crop((160, 20, 300, 160))
    for name in names:
        head.save(source / f"{name}.png")
    head.save(source / ("y" * 251 + ".gif"))  # to become longer than a name may be
    raw = os.fsencode(source) + b"/\xff\xfe.png"
    with open(raw, "wb") as file:
        head.save(file, "PNG")
    run(editor, source, out)
    rows = report(out)
    assert len(rows) == 14 and {row["status"] for row in rows} == {"edited"}
    assert {Path(row["input"]) for row in rows} >= {Path(f"{name}.png") for name in names}
    assert len(tree(out)) == 15
    assert os.path.exists(os.fsencode(out) + b"/\xff\xfe.png")
    run(editor, source, out)
    assert {row["status"] for row in report(out)} == {"skipped"}


def test_names_that_fall_together(tmp_path):
    out = Path("out")
    relatives = [Path(name) for name in ("a.gif", "a.gif.png", "b/c.gif")]
    assert plan(out, relatives) == [
        [out / "a.gif-2.png"],
        [out / "a.gif.png"],
        [out / "b/c.gif.png"],
    ]
    relatives = [Path("a.Male=0.png"), Path("a.png")]
    (first,), (second,) = plan(out, relatives, ["Male=0"])
    assert first != second
    assert inside(out, Path("a/b.jpg"), "Male=0") == out / "a/b.Male=0.jpg"
    assert beside(Path("a/b.jpg"), "Male=0") == Path("a/b.Male=0.jpg")


def test_links_pipes_and_closed_folders(editor, source, tmp_path):
    (source / "circle").symlink_to(source, target_is_directory=True)
    (source / "loop.jpg").symlink_to(source / "loop.jpg")
    (source / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (source / "link.png").symlink_to(source / "a.png")
    os.mkfifo(source / "pipe.png")
    out = tmp_path / "out"
    run(editor, source, out)
    assert statuses(out) == {
        "a.png": "edited",
        "deep/b.jpg": "edited",
        "gone.jpg": "unreadable",
        "link.png": "edited",
        "loop.jpg": "unreadable",
        "pipe.png": "unreadable",
        "small.png": "no-face",
    }


def test_an_output_folder_that_leads_back_to_the_inputs(editor, source, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "deep").symlink_to(source / "deep", target_is_directory=True)
    before = tree(source)
    run(editor, source, out, replace(JOB, overwrite=True))
    assert tree(source) == before
    assert statuses(out)["deep/b.jpg"] == "failed" and statuses(out)["a.png"] == "edited"
    # A link in the way is replaced, never what it leads to.
    (out / "a.png").unlink()
    (out / "a.png").symlink_to(source / "a.png")
    run(editor, source, out, replace(JOB, overwrite=True))
    assert tree(source) == before and not (out / "a.png").is_symlink()


def test_an_input_that_is_a_link_into_the_output_folder_is_not_overwritten(
    editor, source, tmp_path
):
    out = tmp_path / "out"
    out.mkdir()
    (source / "a.png").rename(out / "a.png")
    (source / "a.png").symlink_to(out / "a.png")
    before = (out / "a.png").read_bytes()
    run(editor, source, out, replace(JOB, overwrite=True))
    assert (out / "a.png").read_bytes() == before
    rows = {row["input"]: row for row in report(out)}
    assert rows["a.png"]["status"] == "failed" and "input photo" in rows["a.png"]["detail"]
    assert rows["deep/b.jpg"]["status"] == "edited"


def test_a_table_of_someone_elses_is_not_taken_for_the_report(editor, source, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "report.csv").write_text("name,grade\nAda,1\n")
    with pytest.raises(FaderError, match="no report of an earlier run"):
        run(editor, source, out, replace(JOB, overwrite=True))
    assert (out / "report.csv").read_text() == "name,grade\nAda,1\n"


def test_a_destination_that_cannot_be_written(editor, source, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FaderError, match="cannot be written to"):
        run(editor, source, tmp_path / "file" / "out")


def test_a_full_disk_ends_the_run_and_a_later_one_goes_on(editor, source, tmp_path, monkeypatch):
    out, real = tmp_path / "out", os.fsync
    room = [2]

    def fsync(handle):
        room[0] -= 1
        if room[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(FaderError, match="disk is full"):
        run(editor, source, out)
    monkeypatch.setattr(os, "fsync", real)
    assert {**statuses(out), "small.png": "no-face"} == {"a.png": "edited", "small.png": "no-face"}
    run(editor, source, out)
    assert statuses(out) == {"a.png": "skipped", "deep/b.jpg": "edited", "small.png": "no-face"}
    assert sorted(tree(out)) == ["a.png", "deep/b.jpg", "report.csv"]


def test_bad_files_get_a_row_and_a_sentence_each(source, tmp_path, model):
    folder, out = tmp_path / "corpus", tmp_path / "out"
    names = write_corpus(folder)
    arguments = ["edit", str(folder), "-o", str(out), "--set", "Smiling=2", "--model", model]
    result = CliRunner().invoke(main, [*arguments, "--workers", "1"])
    assert result.exit_code == 1 and "Traceback" not in result.output
    found = statuses(out)
    assert found.keys() == names.keys()
    unreadable = {"text.jpg", "empty.png", "bomb.png", "random.jpg", "floats.tif"}
    unreadable |= {f"cut{i}.jpg" for i in range(1, 10)}
    assert {name for name, status in found.items() if status == "unreadable"} == unreadable
    edited = {"really-a-jpeg.png", "cmyk.jpg", "animated.gif", "broken-exif.jpg"}
    assert {name for name, status in found.items() if status == "edited"} == edited
    for row in report(out):
        assert row["status"] == "edited" or row["detail"].count("\n") == 0 < len(row["detail"])
    assert f"{len(unreadable)} unreadable" in result.stderr.splitlines()[-1]
    again = CliRunner().invoke(main, [*arguments, "--workers", "1"])
    told = [[line for line in r.stderr.splitlines() if "no face" in line] for r in (result, again)]
    assert sorted(told[0]) == sorted(told[1]) and str(folder) in told[0][0]


# Variants


def test_combinations():
    sides = combinations(["Male=0,1", "Young=0,0.5"], ("Male", "Young"))
    assert [name for name, _ in sides] == [
        "Male=0,Young=0",
        "Male=0,Young=0.5",
        "Male=1,Young=0",
        "Male=1,Young=0.5",
    ]
    assert [[c.value for c in changes] for _, changes in sides][1] == [0, 0.5]
    for text in ("Male", "Male=0", "Male=0,0", "Male="):
        with pytest.raises(FaderError, match="NAME=V,V"):
            combinations([text], ("Male",))


def test_variants_of_a_folder(source, tmp_path, model):
    out = tmp_path / "out"
    arguments = ["edit", str(source), "-o", str(out), "--model", model, "--workers", "1"]
    arguments += ["--variants", "Male=0,1", "Smiling=0,2"]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    names = {f"a.Male={m},Smiling={s}.png" for m in (0, 1) for s in (0, 2)}
    assert names <= set(tree(out))
    rows = [row for row in report(out) if row["input"] == "a.png"]
    assert {row["output"] for row in rows} == names
    assert {row["variant"] for row in rows} == {name[2:-4] for name in names}
    for row in rows:
        assert row["set_Male"] == row["variant"][5]
        assert 0 <= float(row["achieved_Male"]) <= 1
    assert len({row["estimated_Male"] for row in rows}) == 1
    assert [row["status"] for row in report(out) if row["input"] == "small.png"] == ["no-face"]
    before = tree(out)
    assert CliRunner().invoke(main, arguments).exit_code == 0
    assert {row["status"] for row in report(out)} == {"skipped", "no-face"}
    after = tree(out)
    del before["report.csv"], after["report.csv"]
    assert before == after


def test_variants_of_one_photo(source, model):
    photo = str(source / "a.png")
    arguments = ["edit", photo, "--variants", "Male=0,1", "--model", model, "--json"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    first, second = json.loads(result.stdout)
    assert (first["variant"], second["variant"]) == ("Male=0", "Male=1")
    assert Path(first["output"]).name == "a.Male=0.png" and Path(second["output"]).is_file()
    assert set(first["edits"][0]["achieved"]) == {"Male", "Smiling", "Blond_Hair"}
    result = CliRunner().invoke(main, ["edit", photo, "--variants", "Male=0", "--model", model])
    assert result.exit_code == 2 and "NAME=V,V" in result.stderr


# What the outputs say


def test_provenance_in_outputs_and_in_describe(source, tmp_path, model):
    def fader(*arguments):
        return CliRunner().invoke(main, [*map(str, arguments), "--model", model])

    out = tmp_path / "out.png"
    assert fader("edit", source / "a.png", "--set", "Smiling=2", "-o", out).exit_code == 0
    assert open_photo(out).provenance.edits == "Smiling=2"
    result = fader("describe", out)
    assert "edited by a trained model: Fader" in result.stdout and "Smiling=2" in result.stdout
    (document,) = json.loads(fader("describe", out, "--json").stdout)
    assert document["provenance"]["edits"] == "Smiling=2"
    (document,) = json.loads(fader("describe", source / "a.png", "--json").stdout)
    assert document["provenance"] is None
    plain = tmp_path / "plain.png"
    fader("edit", source / "a.png", "--set", "Smiling=2", "-o", plain, "--no-provenance")
    assert open_photo(plain).provenance is None
    assert np.array_equal(open_photo(plain).pixels, open_photo(out).pixels)


def test_what_was_not_changed_is_copied_byte_for_byte(editor, source, tmp_path):
    out = tmp_path / "out"
    run(editor, source, out, Job(parse_changes("Smiling=+0")))
    assert (out / "deep" / "b.jpg").read_bytes() == (source / "deep" / "b.jpg").read_bytes()
    assert open_photo(out / "a.png").provenance is None


# What is not ours


@pytest.fixture
def precious(tmp_path):
    """A folder of someone's, with a file that looks like one of ours."""
    folder = tmp_path / "precious"
    folder.mkdir()
    for name in ("thesis.txt", "12345.png", ".tmp-abcd1234.png", "b.jpg"):
        (folder / name).write_text("mine")
    return folder


@pytest.mark.parametrize("name", [".fader-work", ".fader-work-abcd1234", ".fader-lock"])
def test_links_where_a_batch_keeps_its_own_files(editor, source, tmp_path, precious, name):
    out, before = tmp_path / "out", tree(precious)
    out.mkdir()
    (out / name).symlink_to(precious)
    if name == ".fader-lock":
        with pytest.raises(FaderError, match="cannot be written to"):
            run(editor, source, out)
    else:
        run(editor, source, out)
        assert statuses(out)["a.png"] == "edited"
    assert tree(precious) == before and (out / name).is_symlink()


def test_a_folder_named_as_ours_keeps_what_is_not_ours(editor, source, tmp_path):
    out = tmp_path / "out"
    left = out / ".fader-work-abcd1234"
    left.mkdir(parents=True)
    for name in ("thesis.txt", "12345.png", ".tmp-abcd1234.png"):
        (left / name).write_text("left by a kill, or not")
    run(editor, source, out)
    assert [path.name for path in left.iterdir()] == ["thesis.txt"]
    (left / "thesis.txt").unlink()
    run(editor, source, out)
    assert not left.exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_links_in_the_output_tree_are_not_followed(editor, source, tmp_path, precious, overwrite):
    out, before = tmp_path / "out", tree(precious)
    out.mkdir()
    (out / "deep").symlink_to(precious, target_is_directory=True)
    (out / "a.png").symlink_to(precious / "thesis.txt")
    (out / "report.csv").symlink_to(precious / "nothing.csv")
    run(editor, source, out, replace(JOB, overwrite=overwrite))
    assert tree(precious) == before
    rows = {row["input"]: row for row in report(out)}
    assert rows["deep/b.jpg"]["status"] == "failed" and "is a link" in rows["deep/b.jpg"]["detail"]
    assert rows["a.png"]["status"] == ("edited" if overwrite else "skipped")
    assert not (out / "report.csv").is_symlink()


def test_an_output_folder_that_is_a_link_itself_is_written_to(editor, source, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk", target_is_directory=True)
    run(editor, source, tmp_path / "out")
    assert statuses(tmp_path / "disk")["deep/b.jpg"] == "edited"


@pytest.fixture
def second(tmp_path, astronaut):
    """Another folder, of a camera that began its numbers anew."""
    folder = tmp_path / "second"
    folder.mkdir()
    astronaut.crop((150, 30, 290, 170)).save(folder / "a.png")
    astronaut.crop((155, 30, 295, 170)).save(folder / "new.png")
    return folder


def test_an_output_belongs_to_the_folder_its_photo_came_from(editor, source, second, tmp_path):
    out = tmp_path / "out"
    run(editor, source, out)
    before, rows = tree(out), report(out)
    results = run(editor, second, out, replace(JOB, changes=parse_changes("Male=1")))
    assert [result.status for result in results] == ["skipped", "edited"]
    assert "the edit of another photo is there" in results[0].detail
    after = tree(out)
    assert {name: after[name] for name in before if name != "report.csv"} == {
        name: data for name, data in before.items() if name != "report.csv"
    }
    both = report(out)
    assert len(both) == 5
    for row, old in zip(both, rows, strict=False):
        assert {name: row[name] for name in old} == old  # also columns of the first run alone
    # Each goes on with its own.
    run(editor, source, out)
    by_source = {}
    for row in report(out):
        by_source.setdefault(row["source"], {})[row["input"]] = row["status"]
    first, other = (by_source[row["source"]] for row in (rows[0], both[-1]))
    assert first == {"a.png": "skipped", "deep/b.jpg": "skipped", "small.png": "no-face"}
    assert other == {"a.png": "skipped", "new.png": "edited"}


def test_an_output_that_was_taken_over_is_done_again(editor, source, second, tmp_path):
    out = tmp_path / "out"
    run(editor, source, out)
    first = (out / "a.png").read_bytes()
    run(editor, second, out, replace(JOB, overwrite=True))
    assert (out / "a.png").read_bytes() != first
    (row,) = [row for row in report(out) if "replaced by" in row["detail"]]
    assert (row["input"], row["output"], row["status"]) == ("a.png", "", "skipped")
    results = run(editor, source, out)
    assert results[0].status == "skipped" and results[0].output is None
    run(editor, source, out, replace(JOB, overwrite=True))
    assert (out / "a.png").read_bytes() == first


def test_the_same_photo_in_two_folders_gives_one_output_that_both_name(editor, source, tmp_path):
    other, out = tmp_path / "other", tmp_path / "out"
    other.mkdir()
    (other / "a.png").write_bytes((source / "a.png").read_bytes())
    run(editor, source, out)
    assert [result.status for result in run(editor, other, out)] == ["edited"]
    assert [row["output"] for row in report(out)].count("a.png") == 2


@pytest.mark.parametrize(
    "table", ["\nprecious,1\n", "input\n1\n", "input,output\n1,2\n", "input,output,status\n", " \n"]
)
def test_a_table_that_only_begins_like_a_report(editor, source, tmp_path, table):
    out = tmp_path / "out"
    out.mkdir()
    (out / "report.csv").write_text(table)
    with pytest.raises(FaderError, match="no report of an earlier run"):
        run(editor, source, out, replace(JOB, overwrite=True))
    assert tree(out) == {"report.csv": table.encode()}


def test_what_is_no_file_is_no_report(editor, source, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    os.mkfifo(out / "report.csv")
    with pytest.raises(FaderError, match="no report"):
        run(editor, source, out)


# What spreadsheets make of the report


def spreadsheets(data):
    text = data.decode()
    yield "BOM", b"\xef\xbb\xbf" + data
    yield "LF", data.replace(b"\r\n", b"\n")
    table = list(csv.reader(text.splitlines()))
    semicolons = [";".join(f'"{cell}"' for cell in row) for row in table]
    yield "semicolons", "\r\n".join(semicolons).encode()
    yield "sep=", ("sep=;\r\n" + "\r\n".join(semicolons)).encode()
    tabs = "\r\n".join("\t".join(row) for row in table) + "\r\n"
    yield "UTF-16", tabs.encode("utf-16")
    commas = [";".join(cell.replace("0.", "0,") for cell in row) for row in table]
    yield "decimal commas, Latin letters", "\r\n".join(commas).encode("cp1252")
    moved = io.StringIO(newline="")
    csv.writer(moved).writerows([*row[3:], *row[:3]] for row in table)
    yield "columns moved about", moved.getvalue().encode()


def test_a_report_that_a_spreadsheet_saved_goes_on(editor, source, tmp_path):
    out = tmp_path / "out"
    (source / "a.png").rename(source / "ä.png")
    run(editor, source, out)
    run(editor, source, out)
    whole = (out / "report.csv").read_bytes()
    for how, data in spreadsheets(whole):
        (out / "report.csv").write_bytes(data)
        decodings = editor.model.decodings
        run(editor, source, out)
        assert editor.model.decodings == decodings, how
        assert (out / "report.csv").read_bytes() == whole, how


def test_a_column_that_someone_added_stays(editor, source, tmp_path):
    limit = csv.field_size_limit()
    out = tmp_path / "out"
    run(editor, source, out)
    rows = report(out)
    with open(out / "report.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*rows[0], "my remark"])
        writer.writeheader()
        writer.writerows({**row, "my remark": "x" * 200_000} for row in rows)
    run(editor, source, out)
    assert csv.field_size_limit(300_000) == limit
    try:
        rows = report(out)
    finally:
        csv.field_size_limit(limit)
    assert [len(row["my remark"]) for row in rows] == [200_000] * 3
    assert list(rows[0])[-2:] == ["source", "key"]


def test_no_cell_of_the_report_is_a_formula(editor, source, tmp_path):
    head, out = Image.open(source / "a.png"), tmp_path / "out"
    names = ["=cmd|' C'!A0.png", "+1.png", "-1+1.png", "@SUM(1).png", "\tx.png"]
    for name in names:
        head.save(source / name)
    (source / "=broken.png").write_text("no picture")
    run(editor, source, out)
    for status in ("edited", "skipped"):
        rows = report(out)
        assert not [cell for row in rows for cell in row.values() if cell[:1] in tuple("=+-@\t")]
        assert {Path(row["input"]) for row in rows} >= {Path(name) for name in names}
        assert [row["status"] for row in rows].count(status) == 7
        run(editor, source, out)


def test_the_report_names_no_folders_that_lead_to_it(editor, source, tmp_path):
    (source / "broken.png").write_text("no picture")
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.png").write_bytes(b"precious")
    run(editor, source, out)
    assert str(tmp_path) not in (out / "report.csv").read_text()
    details = {row["input"]: row["detail"] for row in report(out)}
    assert details["broken.png"].startswith("broken.png: ")
    assert details["a.png"].startswith("a.png: a file of other origin")


# Disks


def test_a_disk_that_folds_case_keeps_both(editor, tmp_path, monkeypatch, astronaut):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    astronaut.crop((160, 20, 300, 160)).save(source / "A.png")
    astronaut.crop((150, 20, 290, 160)).save(source / "a.png")
    run(editor, source, out)
    assert set(tree(out)) == {"A.png", "a.png", "report.csv"}
    folded = tmp_path / "folded"
    monkeypatch.setattr("fader.edit.folder.folds_case", lambda folder: True)
    run(editor, source, folded)
    assert set(tree(folded)) == {"A.png", "a-2.png", "report.csv"}
    assert tree(folded)["a-2.png"] == tree(out)["a.png"]
    run(editor, source, folded)
    assert set(statuses(folded).values()) == {"skipped"}


def test_a_photo_that_cannot_be_written_is_named_by_its_output(editor, source, tmp_path):
    out = tmp_path / "out"
    (out / "deep" / "b.jpg").mkdir(parents=True)
    run(editor, source, out, replace(JOB, overwrite=True))
    rows = {row["input"]: row for row in report(out)}
    assert rows["deep/b.jpg"]["detail"].startswith("deep/b.jpg: could not be written")
    source, out = tmp_path / "in", tmp_path / "other"

    def full(handle):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("PIL.Image.Image.save", lambda *_, **__: full(0))
        run(editor, source, out)
    rows = {row["input"]: row for row in report(out)}
    assert rows["a.png"]["detail"].startswith("a.png: could not be written")


def test_folders_in_folders_without_end(editor, tmp_path, astronaut):
    source, out = tmp_path / "in", tmp_path / "out"
    deep = Path(*"d" * 1500)
    make_folder(source / deep)
    astronaut.crop((160, 20, 300, 160)).save(source / deep / "a.png")
    try:
        assert [result.status for result in run(editor, source, out)] == ["edited"]
        assert (out / deep / "a.png").is_file()
        assert [result.status for result in run(editor, source, out)] == ["skipped"]
    finally:  # pytest's own way to remove it calls itself
        for folder in (source, out):
            place = folder / deep
            (place / "a.png").unlink(missing_ok=True)
            while place != folder and place.exists():
                place.rmdir()
                place = place.parent


# What is in a folder


def test_every_suffix_of_a_photo_counts_and_the_rest_is_counted(editor, source, tmp_path):
    data = (source / "deep" / "b.jpg").read_bytes()
    for suffix in IMAGE_SUFFIXES:
        (source / f"x{suffix}").write_bytes(data)
        (source / f"X{suffix.upper()}").write_bytes(data)
    for name in ("notes.txt", "more.TXT", "film.mov", "README", ".hidden"):
        (source / name).write_text("")
    photos, others = look_through(source)
    assert len(photos) == 3 + 2 * len(IMAGE_SUFFIXES)
    assert others == {".txt": 2, ".mov": 1, "without suffix": 1}
    assert {".jfif", ".jpe", ".mpo", ".hif", ".jp2", ".tga", ".ppm"} <= IMAGE_SUFFIXES


def test_edits_beside_their_photos_are_no_inputs(source, tmp_path, model):
    arguments = ["--set", "Smiling=2", "--model", model, "--workers", "1"]
    for more in ([], ["--variants", "Male=0,1"]):
        photo = [str(source / "a.png"), str(source / "deep" / "b.jpg")]
        assert CliRunner().invoke(main, ["edit", *photo, *arguments, *more]).exit_code == 0
    Image.open(source / "a.png").save(source / "someone.edited.png")  # beside nothing
    out = tmp_path / "out"
    result = CliRunner().invoke(main, ["edit", str(source), "-o", str(out), *arguments])
    assert result.exit_code == 0, result.output
    assert statuses(out).keys() == {"a.png", "deep/b.jpg", "small.png", "someone.edited.png"}
    assert "passed over: 6 edits beside their photos" in result.stderr


# What the outputs say


def test_outputs_say_what_was_asked_and_not_what_was_guessed(editor, source):
    def mark(changes):
        return editor.apply(source / "a.png", changes).provenance

    assert mark("Smiling=+0.5").edits == "Smiling=+0.5"
    assert mark("Smiling=0,Male=-0.2").edits == "Smiling=0, Male=-0.2"
    assert mark("Smiling=1,Male=1").edits == "Male=1"  # it smiles already
    assert mark("Smiling=1") is None
