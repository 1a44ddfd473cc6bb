"""Photos per second of a folder's batch against the plain loop, in one run; and peak memory.

    python tools/bench_edit.py PHOTOS                  # the folder's photos as they are
    python tools/bench_edit.py PHOTOS --megapixels 12  # each enlarged (or reduced) to 12 MP JPEG
    python tools/bench_edit.py --memory                # peak of editing one photo of 50 MP
    python tools/bench_edit.py PHOTOS --peak 100,1000  # peak of batches of so many photos

The plain loop is ``for each photo: detect, edit, save`` through the same public API, in one
process with PyTorch's own number of threads. Both sides work through the same photos in blocks
that alternate, so that whatever else the machine does falls on both; the ratio is that of the
summed times. Every block of the batch starts its processes anew and that counts, so take enough
photos (``--count``) for it not to matter. The breakdown is of one photo in one thread, in seconds
of CPU time, which other programs on the machine do not lengthen.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import shutil
import tempfile
import time
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

CHANGES = "Smiling=+0.5"


def plain_loop(editor: Editor, photos: list[Path], out: Path) -> None:
    """What someone writes who has the API and no batch."""
    out.mkdir(parents=True)
    for photo in photos:
        editor.apply(photo, CHANGES).save(out / photo.name)


def batch(editor: Editor, folder: Path, photos: list[Path], out: Path, workers: int) -> None:
    """Edit all photos of a folder, shared by ``workers`` processes."""
    job = Job(parse_changes(CHANGES, editor.attributes))
    for _ in edit_folder(editor, folder, photos, out, job, workers):
        pass


def breakdown(editor: Editor, photo: Path, out: Path) -> dict[str, float]:
    """Seconds of CPU time per stage for one photo, each stage twice and the second one taken."""
    import cv2
    import torch

    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    changes = parse_changes(CHANGES, editor.attributes)
    for _ in range(2):
        times = [time.process_time()]
        opened = open_photo(photo)
        times.append(time.process_time())
        faces = editor.detector(opened.pixels)
        times.append(time.process_time())
        crops = editor.networks.crop(opened.pixels, faces[:1])
        (before,) = editor.networks.before(crops)
        edit = FaceEdit(faces[0], before, settle(before, changes))
        (decoded,) = editor.networks.decode_edits(crops, [edit])
        times.append(time.process_time())
        from fader.faces.blend import composite

        edited = opened.edited(composite(opened.pixels, edit.face, decoded))
        times.append(time.process_time())
        save_photo(edited, out / f"breakdown{photo.suffix}")
        times.append(time.process_time())
    torch.set_num_threads(threads[0])
    cv2.setNumThreads(threads[1])
    stages = ("decode", "detect", "network", "blend", "encode")
    return {n: round(b - a, 4) for n, a, b in zip(stages, times, times[1:], strict=False)}


def peak_of(target: object, *arguments: object) -> tuple[float, float]:
    """Peak resident memory, in MB, of a fresh process that runs ``target(*arguments)``, and of the
    largest of its own processes (0 for none)."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_measured, args=(queue, target, arguments))
    process.start()
    peak = queue.get()
    process.join()
    return peak


def _measured(queue: object, target: object, arguments: tuple) -> None:
    target(*arguments)
    whose = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    queue.put(tuple(resource.getrusage(who).ru_maxrss / 1024 for who in whose))


def _edit_one(model: str, photo: Path, out: Path) -> None:
    Editor(model, "cpu").apply(photo, CHANGES).save(out)


def _edit_many(model: str, folder: Path, out: Path, workers: int) -> None:
    batch(Editor(model, "cpu"), folder, find_photos(folder), out, workers)


def _enlarged(photos: list[Path], folder: Path, megapixels: float | None, count: int) -> None:
    folder.mkdir(parents=True)
    for i in range(count):
        photo = photos[i % len(photos)]
        if megapixels is None:
            shutil.copy(photo, folder / f"{i:05}{photo.suffix}")
            continue
        with Image.open(photo) as image:
            image = image.convert("RGB")
            scale = (megapixels * 1e6 / (image.width * image.height)) ** 0.5
            size = round(image.width * scale), round(image.height * scale)
            image.resize(size, Image.Resampling.BICUBIC).save(folder / f"{i:05}.jpg", quality=92)


@click.command()
@click.argument("photos", required=False, type=click.Path(path_type=Path, exists=True))
@click.option("--megapixels", type=float, help="Resize every photo to this and save it as JPEG.")
@click.option("--count", default=192, show_default=True, help="How many photos.")
@click.option("--rounds", default=2, show_default=True, help="Blocks on each side.")
@click.option("--workers", type=click.IntRange(1), help="Default: as fader edit chooses.")
@click.option("--memory", is_flag=True, help="Only the peak memory of one photo of 50 megapixels.")
@click.option("--peak", metavar="N,N", help="Only the peak memory of batches of so many photos.")
@model_option
def main(
    photos: Path | None,
    megapixels: float | None,
    count: int,
    rounds: int,
    workers: int | None,
    memory: bool,
    peak: str | None,
    model: str,
) -> None:
    """Measure how fast a folder is edited, and print the figures as JSON."""
    example = Path(__file__).parent.parent / "examples" / "astronaut.jpg"
    sources = find_photos(photos) if photos else [example]
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        if memory:
            _enlarged(sources[:1], place / "in", 50, 1)
            peak_mb, _ = peak_of(_edit_one, model, place / "in" / "00000.jpg", place / "out.jpg")
            click.echo(json.dumps({"megapixels": 50, "peak_mb": round(peak_mb)}))
            return
        if peak:
            for n in map(int, peak.split(",")):
                _enlarged(sources, place / f"in{n}", megapixels, n)
                folders = place / f"in{n}", place / f"out{n}"
                peak_mb, worker_mb = peak_of(_edit_many, model, *folders, workers or 2)
                found = {"photos": n, "peak_mb": round(peak_mb), "worker_peak_mb": round(worker_mb)}
                click.echo(json.dumps(found))
            return
        _enlarged(sources, place / "in", megapixels, count)
        files = find_photos(place / "in")
        editor = Editor(model, "cpu")
        workers = workers or sensible_workers(editor, 1000)
        stages = breakdown(editor, files[0], place)
        seconds = {"plain": 0.0, "batch": 0.0}
        blocks = [files[i::rounds] for i in range(rounds)]
        for i, block in enumerate(blocks):
            start = time.perf_counter()
            plain_loop(editor, block, place / f"plain{i}")
            seconds["plain"] += time.perf_counter() - start
            start = time.perf_counter()
            batch(editor, place / "in", block, place / f"batch{i}", workers)
            seconds["batch"] += time.perf_counter() - start
        click.echo(
            json.dumps(
                {
                    "photos": len(files),
                    "workers": workers,
                    "photos_per_second": {k: round(len(files) / v, 3) for k, v in seconds.items()},
                    "ratio": round(seconds["plain"] / seconds["batch"], 3),
                    "cpu_seconds_per_photo": stages,
                },
                indent=2,
            )
        )


if __name__ == "__main__":
    main()
