"""Editing on a cluster, as far as it goes without one: see test_cluster_ray.py for the rest."""

import json
import os
import subprocess
import sys
from collections import Counter
from contextlib import closing
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner
from clusters import made_editor, made_run, work_through
from paths import ASTRONAUT
from PIL import Image
from stores import like_a_cloud

from fader.attributes import parse_changes
from fader.commands import main
from fader.edit.cluster.listing import batches as in_batches
from fader.edit.cluster.listing import folder_tasks, table_paths, table_tasks
from fader.edit.cluster.places import DiskPlace, photo_content, place_of
from fader.edit.cluster.rows import DoneRows
from fader.edit.cluster.work import Worker, batches
from fader.edit.folder import edit_folder, find_photos
from fader.edit.job import Job
from fader.edit.outputs import plan
from fader.errors import FaderError, UnreadableImageError

JOB = Job(parse_changes("Smiling=0"))


@pytest.fixture
def editor():
    return made_editor()


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    head = Image.open(ASTRONAUT).convert("RGB").crop((160, 20, 300, 160))
    head.save(folder / "a.png", dpi=(300, 300))
    head.rotate(5).save(folder / "deep" / "b.jpg")
    head.save(folder / "deep" / "c.gif")
    head.rotate(9).save(folder / "deep" / "c.gif.png")
    head.save(folder / "=1.png")
    Image.new("RGB", (60, 60)).save(folder / "small.png")
    (folder / "bad.jpg").write_bytes(b"no photo")
    (folder / "notes.txt").write_text("no photo")
    return folder


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def edited_here(editor, source, out, job=JOB):
    list(edit_folder(editor, source, find_photos(source), out, job))
    return tree(out)


# Listing


def test_a_folder_is_looked_into_when_its_turn_comes(source):
    looked = []

    class Place(DiskPlace):
        def listed(self, folder):
            looked.append(folder)
            return super().listed(folder)

    others = Counter()
    tasks = folder_tasks(Place(source), [""], str, others)
    assert next(tasks).name == "=1.png" and looked == [""]
    assert [task.name for task in tasks][-3:] == ["deep/b.jpg", "deep/c.gif", "deep/c.gif.png"]
    assert looked == ["", "deep"] and others == {".txt": 1}


@pytest.mark.parametrize("variants", [[""], ["Male=0", "Male=1"]])
def test_outputs_are_named_as_in_a_batch_on_one_machine(source, variants):
    names = [path.relative_to(source) for path in find_photos(source)]
    planned = plan(Path(), names, variants)
    expected = {
        name.as_posix(): [one.as_posix() for one in some]
        for name, some in zip(names, planned, strict=True)
    }
    tasks = folder_tasks(place_of(str(source)), variants, str, Counter())
    assert {task.name: task.outputs for task in tasks} == expected


def test_names_that_are_no_text_and_unreadable_folders_are_not_passed_over(tmp_path, monkeypatch):
    (tmp_path / "locked").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jpg")).write_bytes(b"")
    scandir = os.scandir

    def scan(path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr("os.scandir", scan)
    tasks = list(folder_tasks(place_of(str(tmp_path)), [""], str, Counter()))
    assert [task.name for task in tasks] == ["\udcff.jpg", "locked"]
    with pytest.raises(FaderError, match=r"nowhere: cannot be looked into \(No such file"):
        list(folder_tasks(place_of(str(tmp_path / "nowhere")), [""], str, Counter()))


def test_a_table_names_photos_anywhere(tmp_path):
    table = tmp_path / "photos.csv"
    rows = ["a/b.jpg", "", "/data/c.jpg", "s3://bucket/d.gif", "../e.jpg"]
    table.write_text("label,path\n" + "".join(f"1,{row}\n" for row in rows))
    tasks = list(table_tasks(str(table), [""]))
    assert [(task.photo, task.name) for task in tasks] == [
        (str(tmp_path / "a/b.jpg"), "a/b.jpg"),
        ("/data/c.jpg", "data/c.jpg"),
        ("s3://bucket/d.gif", "bucket/d.gif"),
        (str(tmp_path / "../e.jpg"), "%2E%2E/e.jpg"),
    ]
    outputs = [task.outputs for task in tasks]
    assert [outputs[0], outputs[1], outputs[3]] == [["a/b.jpg"], ["data/c.jpg"], ["%2E%2E/e.jpg"]]
    # Whatever else the table has: no PNG of that name is in the way.
    assert outputs[2][0].startswith("bucket/d.gif~") and outputs[2][0].endswith(".png")


def test_a_table_may_lack_names_of_columns_or_be_parquet(tmp_path):
    (tmp_path / "plain.csv").write_text("a.jpg\nb.jpg\n")
    assert list(table_paths(str(tmp_path / "plain.csv"))) == ["a.jpg", "b.jpg"]
    with pytest.raises(FaderError, match=r"none.csv: cannot be read as a table of photos \(No"):
        list(table_paths(str(tmp_path / "none.csv")))
    pyarrow = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    from pyarrow import parquet

    paths = [f"{n}.jpg" for n in range(5000)]
    table = pyarrow.table({"n": range(5000), "path": paths})
    parquet.write_table(table, tmp_path / "photos.parquet")
    assert list(table_paths(str(tmp_path / "photos.parquet"))) == paths
    (tmp_path / "broken.parquet").write_bytes(b"no table")
    with pytest.raises(FaderError, match=r"broken.parquet: cannot be read as a table"):
        list(table_paths(str(tmp_path / "broken.parquet")))


def test_batches_are_small_at_first():
    some = list(in_batches(range(30_000)))
    assert [one for each in some for one in each] == list(range(30_000))
    assert len(some[0]) == 8 and max(map(len, some)) == 256


# Places


def test_urls_are_read_and_written_and_named_in_messages():
    fsspec = pytest.importorskip("fsspec", reason="URLs need fsspec")
    fsspec.filesystem("memory").pipe_file("/photos/deep/a.jpg", b"content")
    place = place_of("memory://photos")
    assert place.listed("") == (["deep"], []) and place.listed("deep") == ([], ["a.jpg"])
    assert photo_content("memory://photos/deep/a.jpg") == (b"content", None)
    with pytest.raises(UnreadableImageError, match=r"^memory://photos/b.jpg: there is no such"):
        photo_content("memory://photos/b.jpg")
    place.write("new/b.jpg", b"more")
    assert place.exists("new/b.jpg") and not place.exists("new/c.jpg")
    assert place.read("new/b.jpg") == b"more"
    with pytest.raises(FaderError, match=r"^nothing://a: is no URL that can be read"):
        place_of("nothing://a")


def test_a_file_url_is_a_path(tmp_path):
    pytest.importorskip("fsspec", reason="URLs need fsspec")
    assert place_of(f"file://{tmp_path}").address == str(tmp_path)


def test_edits_do_not_leave_the_output_folder(tmp_path):
    place = place_of(str(tmp_path / "out"))
    with pytest.raises(FaderError, match="leads out of the output folder"):
        place.write("../a.jpg", b"")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "link").symlink_to(tmp_path)
    with pytest.raises(FaderError, match="link: is a link, and edits are not written to where"):
        place.write("link/a.jpg", b"")


# The work


@pytest.fixture(autouse=True)
def parquet(monkeypatch):
    """Where pyarrow is missing, notes are JSON; all else is as it is."""
    if find_spec("pyarrow") is None:
        for module in ("rows", "work"):
            monkeypatch.setattr(f"fader.edit.cluster.{module}.note_rows", json.loads)
        monkeypatch.setattr(
            "fader.edit.cluster.work.note_bytes", lambda rows: json.dumps(rows).encode()
        )


@pytest.mark.parametrize("job", [JOB, replace(JOB, output="pair", quality=70)])
def test_the_output_tree_is_that_of_one_machine_byte_for_byte(editor, source, tmp_path, job):
    here, there = tmp_path / "here", tmp_path / "there"
    expected = edited_here(editor, source, here, job)
    statuses, others = work_through(editor, made_run(editor, source, there, job))
    assert Counter(statuses.values()) == {"edited": 5, "no-face": 1, "unreadable": 1}
    assert others == {".txt": 1} and tree(there) == expected
    # Run again, what is done is not done twice; what is gone is.
    for folder in (here, there):
        (folder / "deep" / "b.jpg").unlink()
    expected = edited_here(editor, source, here, job)
    decodings = editor.model.decodings
    again, _ = work_through(editor, made_run(editor, source, there, job, "2"))
    assert [name for name, status in again.items() if status == "edited"] == ["deep/b.jpg"]
    assert editor.model.decodings == decodings + 1 and tree(there) == expected


def test_variants_and_other_settings_give_what_one_machine_gives(editor, source, tmp_path):
    pairs = [(f"Male={v}", tuple(parse_changes(f"Male={v}"))) for v in (0, 1)]
    jobs = [JOB, Job((), variants=pairs), replace(JOB, changes=parse_changes("Smiling=0.5"))]
    for number, job in enumerate(jobs, start=1):
        expected = edited_here(editor, source, tmp_path / "here", job)
        run = made_run(editor, source, tmp_path / "there", job, str(number))
        work_through(editor, run)
        assert tree(tmp_path / "there") == expected


def test_a_batch_whose_answer_was_lost_is_not_done_again(editor, source, tmp_path):
    run = made_run(editor, source, tmp_path / "out", JOB)
    batch = next(batches(run))

    def rows():
        answer = json.loads(Worker(run, editor)(batch))
        return [{name: cell for name, cell in row.items() if cell} for row in answer["rows"]]

    first, decodings = rows(), editor.model.decodings
    assert rows() == first
    assert editor.model.decodings == decodings > 0


def test_a_batch_that_was_begun_on_a_lost_machine_is_done_again(
    editor, source, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    run = made_run(editor, source, out, JOB)
    batch = next(batches(run))
    write = DiskPlace.write

    def lose(place, name, data, mode=None):
        if name == "a.png":  # half done: it was written, with other pixels than here
            write(place, name, data + b"\0", mode)
            raise KeyboardInterrupt
        write(place, name, data, mode)

    with monkeypatch.context() as patch:
        patch.setattr(DiskPlace, "write", lose)
        with pytest.raises(KeyboardInterrupt):
            Worker(run, editor)(batch)
    statuses, _ = work_through(editor, run)
    assert statuses["a.png"] == "edited"
    assert tree(out) == edited_here(editor, source, tmp_path / "here")


def test_a_photo_that_brings_down_a_worker_twice_is_given_up(editor, source, tmp_path, monkeypatch):
    run = made_run(editor, source, tmp_path / "out", JOB)
    variants = type(editor).variants

    def deadly(self, photo, *arguments, **options):
        if photo.name.endswith("a.png"):
            raise SystemExit
        return variants(self, photo, *arguments, **options)

    monkeypatch.setattr(type(editor), "variants", deadly)
    for _ in range(2):
        with pytest.raises(SystemExit):
            work_through(editor, run)
    statuses, _ = work_through(editor, run)
    assert statuses.pop("a.png") == "failed" and statuses["deep/b.jpg"] == "edited"
    report = (tmp_path / "out" / "report.csv").read_text()
    assert "a.png: the process that worked on it died" in report
    assert not (tmp_path / "out" / ".fader-cluster").exists()


def test_what_a_killed_run_did_is_not_done_again(editor, source, tmp_path, monkeypatch):
    monkeypatch.setattr("fader.edit.cluster.listing._FEWEST", 4)
    out = tmp_path / "out"
    run = made_run(editor, source, out, JOB)
    Worker(run, editor)(next(batches(run)))
    assert not (out / "report.csv").exists()
    statuses, _ = work_through(editor, made_run(editor, source, out, JOB, "2"))
    assert statuses["a.png"] == "skipped" and statuses["deep/b.jpg"] == "edited"
    # A run that was interrupted keeps the rows of what it did not come to.
    (out / "deep" / "b.jpg").unlink()
    run = made_run(editor, source, out, JOB, "3")
    Worker(run, editor)(next(batches(run)))
    from fader.edit.cluster.work import write_report

    write_report(run, place_of(str(out)), complete=False)
    assert "deep/b.jpg" in (out / "report.csv").read_text()


def test_files_of_other_origin_are_left_alone(editor, source, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.png").write_bytes(b"precious")
    statuses, _ = work_through(editor, made_run(editor, source, out, JOB))
    assert statuses["a.png"] == "skipped" and (out / "a.png").read_bytes() == b"precious"
    again = made_run(editor, source, out, replace(JOB, overwrite=True), "2")
    assert work_through(editor, again)[0]["a.png"] == "edited"


def test_two_folders_may_go_into_one(editor, source, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    Image.open(source / "a.png").rotate(20).save(other / "a.png")
    jobs = [(source, JOB), (other, JOB), (other, replace(JOB, overwrite=True)), (source, JOB)]
    for number, (folder, job) in enumerate(jobs, start=1):
        expected = edited_here(editor, folder, tmp_path / "here", job)
        work_through(editor, made_run(editor, folder, tmp_path / "there", job, str(number)))
        assert tree(tmp_path / "there") == expected


def test_a_table_may_name_a_photo_twice_and_a_missing_one(editor, source, tmp_path):
    table = source / "photos.csv"
    table.write_text("path\na.png\ndeep/c.gif\nnone.jpg\na.png\n")
    run = made_run(editor, str(table), tmp_path / "out", JOB)
    statuses, _ = work_through(editor, run)
    assert statuses == {"a.png": "edited", "deep/c.gif": "edited", "none.jpg": "unreadable"}
    lines = (tmp_path / "out" / "report.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["input", "a.png", "deep/c.gif", "none.jpg"]


def test_from_url_to_url(editor, source, tmp_path):
    fsspec = pytest.importorskip("fsspec", reason="URLs need fsspec")
    store = fsspec.filesystem("memory")
    for name, data in tree(source).items():
        store.pipe_file(f"/from/{name}", data)
    run = made_run(editor, "memory://from", "memory://to", JOB)
    statuses, _ = work_through(editor, run)
    assert Counter(statuses.values()) == {"edited": 5, "no-face": 1, "unreadable": 1}
    expected = edited_here(editor, source, tmp_path / "here")
    found = {name.removeprefix("/to/"): store.cat_file(name) for name in store.find("/to")}
    report, there = expected.pop("report.csv").decode(), found.pop("report.csv").decode()
    assert found == expected
    columns = [[row.split(",")[:5] for row in text.splitlines()] for text in (report, there)]
    assert columns[0] == columns[1]  # but for the mark of the source
    again, _ = work_through(editor, replace(run, name="2".zfill(20)))
    assert Counter(again.values()) == {"skipped": 5, "no-face": 1, "unreadable": 1}


@pytest.mark.parametrize("protocol", ["gs", "az"])
def test_other_clouds_than_s3(editor, source, tmp_path, protocol):
    with like_a_cloud(protocol) as cloud:
        store = cloud()
        for name, data in tree(source).items():
            store.pipe_file(f"/photos/in/{name}", data)
        run = made_run(editor, f"{protocol}://photos/in", f"{protocol}://photos/out", JOB)
        statuses, _ = work_through(editor, run)
        assert Counter(statuses.values()) == {"edited": 5, "no-face": 1, "unreadable": 1}
        expected = edited_here(editor, source, tmp_path / "here")
        names = store.find("/photos/out")
        found = {name.removeprefix("/photos/out/"): store.cat_file(name) for name in names}
        del expected["report.csv"], found["report.csv"]
        assert found == expected
        store.pipe_file("/photos/list.csv", b"path\nin/a.png\n")
        table = f"{protocol}://photos/list.csv"
        assert list(table_paths(table)) == ["in/a.png"]
        # Out of reach is not the same as not there.
        cloud.fails = True
        place = place_of(run.destination)
        for ask in (place.exists, place.read, place.listed, place.opened):
            with pytest.raises(OSError, match="503 try later") as told:
                ask("report.csv")
            assert told.value.filename == f"{protocol}://photos/out/report.csv"
        with pytest.raises(FaderError, match=f"^{table}: cannot be read .*503 try later"):
            list(table_paths(table))
        with pytest.raises(OSError), closing(DoneRows("mark", ("input",), str)) as rows:
            rows.read_all(place, "2")


def test_a_report_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "report.csv").write_text("name,price\nbread,3\n")
    with pytest.raises(FaderError, match=r"report.csv: is no report of an earlier run"):
        DoneRows("", [], str).read_all(place_of(str(tmp_path)), "1")


# The command line


def edit(*arguments):
    texts = [str(argument) for argument in arguments]
    return CliRunner().invoke(main, ["edit", "--to", "serious", *texts])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["s3://bucket/a", "-o", "out"], "s3://bucket/a: is a URL; add --engine ray"),
        (["in", "-o", "s3://bucket"], "s3://bucket: is a URL; add --engine ray"),
        (["in", "-o", "out", "--actors", "2"], "--actors: is for --engine ray"),
        (["in", "--engine", "ray"], "in: name the folder or URL for the edits with -o"),
        (["in", "b", "-o", "c", "--engine", "ray"], "edits one folder, URL or table"),
        (["in", "-o", "out", "--engine", "ray", "--workers", "2"], "use --actors"),
        (["in", "-o", "out", "--engine", "ray", "--json"], "--json: not with --engine ray"),
        (["a.csv", "-o", "o", "--engine", "ray", "--overwrite"], "not with a table"),
        (["nowhere", "-o", "out", "--engine", "ray"], "nowhere: is no folder, URL or table"),
        (["in", "-o", "out", "--engine", "ray", "--actors", "3,2"], "is not a number of"),
    ],
)
def test_what_makes_no_sense_is_bad_usage(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "b").mkdir()
    result = edit(*arguments)
    assert result.exit_code == 2 and said in result.stderr


def test_without_ray_one_sentence_says_how_to_get_it(source, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    result = edit(source, "-o", tmp_path / "out", "--engine", "ray")
    assert result.exit_code == 1
    message = "Error: --engine ray: Ray is not installed; pip install 'fader[cluster]', on every"
    assert message in result.stderr and not (tmp_path / "out").exists()


def test_ray_is_not_imported_unless_asked_for(source, tmp_path):
    code = (
        "import sys\nfrom fader.commands import main\n"
        f"main(['edit', {str(source)!r}, '-o', {str(tmp_path / 'o')!r}, '--to', 'serious'], "
        "standalone_mode=False)\n"
    )
    code = code.replace("main([", "try:\n    main([") + "except SystemExit:\n    pass\n"
    code += "counted = {'sqlite3'} if 'coverage' in sys.modules else set()\n"
    code += "assert not {'ray', 'fsspec', 'pyarrow', 'sqlite3'} & set(sys.modules) - counted\n"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
