"""How fast photos are edited, and in how much memory; every figure is printed as JSON.

    python tools/bench_edit.py PHOTOS                  # a folder's batch against the plain loop
    python tools/bench_edit.py PHOTOS --megapixels 12  # the same of 12-megapixel JPEGs
    python tools/bench_edit.py --stages --megapixels 12  # one warm edit, stage by stage
    python tools/bench_edit.py --cold ../other         # `fader edit` from the shell, here and there
    python tools/bench_edit.py PHOTOS --links 10000    # peak memory at quarters of a long batch
    python tools/bench_edit.py --memory                # peak memory of one photo of 50 megapixels

The plain loop is ``for each photo: detect, edit, save`` through the same public API, in one
process with PyTorch's own number of threads. Both sides work through the same photos in blocks
that alternate, so that whatever else the machine does falls on both; the ratio is that of the
summed times. Every block of the batch starts its processes anew and that counts, so take enough
photos (``--count``) for it not to matter. Stages are of one photo in one thread, and cold edits of
one process, both in seconds of CPU time, which other programs on the machine lengthen little.
``--links`` needs Linux.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import click
from PIL import Image

from fader import Editor
from fader.attributes import parse_changes
from fader.commands.options import model_option
from fader.edit.folder import edit_folder, find_photos
from fader.edit.job import Job
from fader.edit.results import FaceEdit
from fader.edit.values import settle
from fader.edit.workers import sensible_workers
from fader.photo import open_photo, save_photo

ROOT = Path(__file__).resolve().parent.parent
CHANGES = "Smiling=+0.5"
STAGES = ("read", "detect", "estimate", "decode", "compose", "write")


def stages(editor: Editor, photo: Path, out: Path) -> dict[str, float]:
    """Seconds of CPU time by stage for one photo in one thread; the second of two edits counts."""
    import cv2
    import torch

    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    for _ in range(2):
        times = [time.process_time()]
        times += (time.process_time() for _ in _edit_by_stages(editor, photo, out))
    torch.set_num_threads(threads[0])
    cv2.setNumThreads(threads[1])
    return {n: round(b - a, 4) for n, a, b in zip(STAGES, times, times[1:], strict=False)}


def _edit_by_stages(editor: Editor, photo: Path, out: Path) -> Iterator[None]:
    """An edit, with a pause after each stage."""
    from fader.faces.blend import composite

    opened = open_photo(photo)
    yield
    faces = editor.detector(opened.pixels)
    yield
    crops = editor.networks.crop(opened.pixels, faces[:1])
    (before,) = editor.networks.before(crops)
    yield
    edit = FaceEdit(faces[0], before, settle(before, parse_changes(CHANGES, editor.attributes)))
    (decoded,) = editor.networks.decode_edits(crops, [edit])
    yield
    edited = opened.edited(composite(opened.pixels, edit.face, decoded))
    yield
    save_photo(edited, out / f"stages{photo.suffix}")
    yield


def cold(other: Path, rounds: int, out: Path) -> dict[str, object]:
    """CPU seconds of ``fader edit`` from the shell in this checkout and ``other``, alternating."""
    edit = ["-m", "fader", "edit", str(ROOT / "examples" / "astronaut.jpg"), "--to", "serious"]
    seconds: dict[str, list[float]] = {"here": [], "there": [], "import torch": []}
    for i in range(rounds):
        for name, checkout in (("here", ROOT), ("there", other.resolve())):
            command = [*edit, "-o", str(out / f"{name}{i}.png")]
            seconds[name].append(_cpu_seconds(command, checkout))
        seconds["import torch"].append(_cpu_seconds(["-c", "import torch"], ROOT))
    ratio = round(sum(seconds["here"]) / sum(seconds["there"]), 3)
    return {"cpu_seconds": seconds, "here_to_there": ratio}


def _cpu_seconds(arguments: list[str], checkout: Path) -> float:
    """User and system seconds of a Python process that imports from ``checkout``."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    command = [sys.executable, *arguments]
    subprocess.run(command, cwd=checkout, env=environment, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2)


def _edit_links(model: str, folder: Path, out: Path, workers: int) -> None:
    """A batch that prints the peak memory so far at each quarter of the way."""
    editor, photos = Editor(model, "cpu"), find_photos(folder)
    job = Job(parse_changes(CHANGES, editor.attributes))
    quarters = {-(-len(photos) * k // 4) for k in (1, 2, 3, 4)}
    worker_mb = 0
    for done, _ in enumerate(edit_folder(editor, folder, photos, out, job, workers), 1):
        # The last workers may have ended when the last photo is told of.
        if done in quarters or len(photos) - done < 32:
            worker_mb = max(worker_mb, *_worker_peaks(), 0)
        if done in quarters:
            peaks = {"peak_mb": _peak("self"), "worker_peak_mb": worker_mb}
            click.echo(json.dumps({"photos": done, **peaks}))


def _worker_peaks() -> list[int]:
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [_peak(child) for child in children]


def _peak(process: str) -> int:
    """Peak resident memory of a process so far in MB; 0 of one that has ended."""
    with suppress(OSError, IndexError):
        status = Path(f"/proc/{process}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) // 1024
    return 0


def _in_fresh_process(target: Callable[..., None], *arguments: object) -> None:
    """Run ``target(*arguments)`` in a process whose peak memory is its own."""
    process = multiprocessing.get_context("spawn").Process(target=target, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(process.exitcode)


def _edit_one(model: str, photo: Path, out: Path) -> None:
    Editor(model, "cpu").apply(photo, CHANGES).save(out)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    click.echo(json.dumps({"megapixels": 50, "peak_mb": round(peak_mb)}, indent=2))


def _compare(
    editor: Editor, files: list[Path], place: Path, rounds: int, workers: int
) -> dict[str, object]:
    """Photos per second of the plain loop, which someone writes who has the API and no batch, and
    of the batch, in ``rounds`` blocks each."""
    seconds = {"plain": 0.0, "batch": 0.0}
    job = Job(parse_changes(CHANGES, editor.attributes))
    for i in range(rounds):
        block, plain, out = files[i::rounds], place / f"plain{i}", place / f"batch{i}"
        start = time.perf_counter()
        plain.mkdir()
        for photo in block:
            editor.apply(photo, CHANGES).save(plain / photo.name)
        seconds["plain"] += time.perf_counter() - start
        start = time.perf_counter()
        for _ in edit_folder(editor, place / "in", block, out, job, workers):
            pass
        seconds["batch"] += time.perf_counter() - start
    return {
        "photos": len(files),
        "workers": workers,
        "photos_per_second": {k: round(len(files) / v, 3) for k, v in seconds.items()},
        "ratio": round(seconds["plain"] / seconds["batch"], 3),
        "cpu_seconds_per_photo": stages(editor, files[0], place),
    }


def _enlarged(photos: list[Path], folder: Path, megapixels: float | None, count: int) -> None:
    folder.mkdir(parents=True)
    for i in range(count):
        photo = photos[i % len(photos)]
        if megapixels is None:
            shutil.copy(photo, folder / f"{i:05}{photo.suffix}")
            continue
        with Image.open(photo) as opened:
            image = opened.convert("RGB")
            scale = (megapixels * 1e6 / (image.width * image.height)) ** 0.5
            size = round(image.width * scale), round(image.height * scale)
            image.resize(size, Image.Resampling.BICUBIC).save(folder / f"{i:05}.jpg", quality=92)


@click.command()
@click.argument("photos", required=False, type=click.Path(path_type=Path, exists=True))
@click.option("--megapixels", type=float, help="Resize every photo to this and save it as JPEG.")
@click.option("--count", default=192, show_default=True, help="How many photos.")
@click.option("--rounds", default=2, show_default=True, help="Blocks, or cold edits, per side.")
@click.option("--workers", type=click.IntRange(1), help="Default: as fader edit chooses.")
@click.option("--stages", "by_stage", is_flag=True, help="Only the stages of one warm edit.")
@click.option(
    "--cold",
    "other",
    metavar="CHECKOUT",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Only edits from the shell, of this checkout against another.",
)
@click.option("--links", type=click.IntRange(4), help="Only a batch of so many links to PHOTOS.")
@click.option("--memory", is_flag=True, help="Only the peak memory of one photo of 50 megapixels.")
@model_option
def main(
    photos: Path | None,
    megapixels: float | None,
    count: int,
    rounds: int,
    workers: int | None,
    by_stage: bool,
    other: Path | None,
    links: int | None,
    memory: bool,
    model: str,
) -> None:
    """Measure how fast photos are edited, and print the figures as JSON."""
    sources = find_photos(photos) if photos else [ROOT / "examples" / "astronaut.jpg"]
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        if other:
            found = cold(other, rounds, place)
        elif by_stage:
            _enlarged(sources[:1], place / "in", megapixels or 12, 1)
            seconds = stages(Editor(model, "cpu"), place / "in" / "00000.jpg", place)
            total = sum(seconds.values())
            share = {stage: round(value / total, 3) for stage, value in seconds.items()}
            found = {"cpu_seconds": seconds, "total": round(total, 3), "share": share}
        elif links:
            _enlarged(sources[:8], place / "few", megapixels or 1, min(len(sources), 8))
            few = find_photos(place / "few")
            (place / "in").mkdir()
            for i, photo in zip(range(links), itertools.cycle(few), strict=False):
                (place / "in" / f"{i:06}{photo.suffix}").symlink_to(photo.resolve())
            _in_fresh_process(_edit_links, model, place / "in", place / "out", workers or 2)
            return
        elif memory:
            _enlarged(sources[:1], place / "in", 50, 1)
            _in_fresh_process(_edit_one, model, place / "in" / "00000.jpg", place / "out.jpg")
            return
        else:
            _enlarged(sources, place / "in", megapixels, count)
            editor = Editor(model, "cpu")
            files = find_photos(place / "in")
            workers = workers or sensible_workers(editor, 1000)
            found = _compare(editor, files, place, rounds, workers)
        click.echo(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
