"""Ray shares the work on a folder, a bucket or a table of photos among machines."""

from __future__ import annotations

import json
import logging
import os
import time
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import fader.edit.cluster.work as work
from fader.edit.cluster.listing import is_table, root_of
from fader.edit.cluster.places import NOTES, DiskPlace, Place, place_of
from fader.edit.cluster.rows import PHOTO, TOLD
from fader.edit.editor import Editor
from fader.edit.folder import folds_case, no_photos
from fader.edit.job import Job, Result
from fader.edit.report import header, result_of, source_mark
from fader.errors import FaderError
from fader.files import file_lock, sweep_temporaries
from fader.urls import is_url


@dataclass(frozen=True)
class Cluster:
    """Where the work is done: at a Ray cluster's ``address``, or one started here for the run.

    ``actors`` are the fewest and the most processes with an editor, None for as many as there is
    room for; each takes ``cpus`` processors and ``gpus`` GPUs.
    """

    address: str | None = None
    actors: tuple[int, int] | None = None
    cpus: float = 1
    gpus: float = 0


def load_ray() -> Any:
    """Ray with its data library. Raises :class:`~fader.errors.FaderError` where it is missing."""
    # It would tell its makers of its use, and users of its own workings.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import pyarrow  # noqa: F401
        import ray
        import ray.data
    except ImportError:
        raise FaderError(
            "--engine ray: Ray is not installed; pip install 'fader[cluster]', on every machine"
        ) from None
    return ray


def edit_on_cluster(
    editor: Editor,
    source: str,
    destination: str,
    job: Job,
    device: str,
    cluster: Cluster,
    others: Counter[str],
) -> Generator[list[Result]]:
    """Edit the photos of a folder or table, a path or URL each, into the tree at ``destination``.

    As :func:`~fader.edit.folder.edit_folder`, with the same outputs and ``report.csv``. Results
    have no ``edits``. Files that are no photos are counted in ``others``. The machines make editors
    as ``editor`` is, by the name of its model, but for the ``device``.

    Raises :class:`~fader.errors.FaderError` when there are no photos, Ray is not there, or
    ``destination`` cannot be written.
    """
    ray = load_ray()
    source, destination = (
        place if is_url(place) else os.path.abspath(place) for place in (source, destination)
    )
    if not is_table(source):
        _refuse_nested(source, destination)
    target = place_of(destination)
    seen = False
    with _locked(target):
        run = _run(editor, source, target, job, device, cluster)
        complete = False
        try:
            with _connected(ray, cluster), closing(_answers(ray, run, cluster)) as answers:
                for answer in answers:
                    others.update(answer["others"])
                    for photo, rows in groupby(answer.get("rows", ()), lambda row: row[PHOTO]):
                        seen = True
                        yield [_result(row, photo, target) for row in rows]
                if not seen:
                    raise no_photos(source, others)
                complete = True
        finally:
            if seen:
                work.write_report(run, target, complete)


def _result(row: dict[str, str], photo: str, target: Place) -> Result:
    output = target.full(row["output"]) if row["output"] else None
    return result_of(row | {"detail": row[TOLD]}, photo, output)


def _refuse_nested(source: str, destination: str) -> None:
    whole = [place_of(place).full("") for place in (source, destination)]
    real = [place if is_url(place) else os.path.realpath(place) for place in whole]
    one, other = (f"{place.rstrip('/')}/" for place in real)
    if one.startswith(other) or other.startswith(one):
        raise FaderError(
            f"-o {destination}: and the folder to edit, {source}, lie in one another; choose a "
            "place outside"
        )


@contextmanager
def _locked(target: Place) -> Iterator[None]:
    """Keep other runs out, where a disk can; and remove what killed ones left half written."""
    if not isinstance(target, DiskPlace):
        yield
        return
    held = f"{target.address}: another run is writing into this folder"
    with file_lock(target.full(".fader-lock"), held):
        sweep_temporaries(target.full(NOTES))
        yield
        target.remove(())


def _run(
    editor: Editor, source: str, target: Place, job: Job, device: str, cluster: Cluster
) -> work.Run:
    model = editor.source
    if model is None:
        raise FaderError("--engine ray: the model must have a name or a folder")
    if os.path.isdir(model):
        model = os.path.abspath(model)
    # A URL as a path that is the same wherever this runs: /s3/bucket/photos.
    both = (place.full("").replace("://", "/") for place in (place_of(root_of(source)), target))
    mark = source_mark(*(Path("/", place) for place in both))
    return work.Run(
        source,
        target.address,
        job,
        job.settings(editor),
        mark,
        f"{time.time_ns():020d}",
        tuple(header(editor, job)),
        isinstance(target, DiskPlace) and folds_case(Path(target.full(""))),
        model,
        device,
        editor.asked_runtime,
        max(1, int(cluster.cpus)),
    )


@contextmanager
def _connected(ray: Any, cluster: Cluster) -> Iterator[None]:
    """A cluster to work on; one that was started for it is stopped in the end."""
    if ray.is_initialized():
        yield
        return
    here = {} if cluster.address or "RAY_ADDRESS" in os.environ else {"include_dashboard": False}
    try:
        ray.init(cluster.address, log_to_driver=False, logging_level="ERROR", **here)
    except Exception as error:  # a slow start is answered with no other class
        reason = str(error).strip().split("\n")[0]
        where = f"--address {cluster.address}" if cluster.address else "--engine ray"
        raise FaderError(f"{where}: no Ray cluster can be used there ({reason})") from None
    try:
        yield
    finally:
        ray.shutdown()


class _Actor:
    """A process of the cluster that edits; its batches come as tables with one row each."""

    def __init__(self, run: work.Run) -> None:
        self._work = work.Worker(run)

    def __call__(self, table: Any) -> dict[str, list[str]]:
        return {"answer": [self._work(batch) for batch in table.column("batch").to_pylist()]}


def _answers(ray: Any, run: work.Run, cluster: Cluster) -> Generator[dict[str, Any]]:
    """What the workers say of each batch, as they come."""
    data = ray.data

    def batches(_: Any) -> Iterator[dict[str, list[str]]]:
        for batch in work.batches(run):
            yield {"batch": [batch]}

    context = data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    # What was listed, and what was done, is passed on at once, batch by batch.
    context.target_max_block_size = 1
    fewest, most = cluster.actors or _room(ray, cluster)
    with data.DataContext.current(context):
        # It takes no processor, as it mostly waits; and so Ray keeps it apart from the actors.
        listed = data.from_items([0]).map_batches(batches, batch_size=1, num_cpus=0)
        pool = data.ActorPoolStrategy(
            min_size=fewest, max_size=most, max_tasks_in_flight_per_actor=2
        )
        done = listed.map_batches(
            _Actor,
            batch_size=1,
            batch_format="pyarrow",
            compute=pool,
            fn_constructor_args=(run,),
            num_cpus=cluster.cpus,
            num_gpus=cluster.gpus or None,
        )
        try:
            # With any read ahead an answer would wait for the next one.
            answers = done.iter_batches(prefetch_batches=0, batch_size=None, batch_format="pyarrow")
            for table in answers:
                yield from map(json.loads, table.column("answer").to_pylist())
        except ray.exceptions.RayError as error:
            raise _cause(error) from None


def _room(ray: Any, cluster: Cluster) -> tuple[int, int]:
    """As many actors as there is room for now."""
    there = ray.cluster_resources()
    asked = {"CPU": cluster.cpus, "GPU": cluster.gpus}
    most = max(1, int(min(there.get(kind, 0) / each for kind, each in asked.items() if each)))
    return most, most


def _cause(error: BaseException) -> FaderError:
    """What a machine told of, in one sentence."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, FaderError):
            return FaderError(str(found))
        found = getattr(found, "cause", None) or found.__cause__
    lines = [line for line in str(error).splitlines() if line.strip()]
    return FaderError(f"--engine ray: the work failed ({lines[-1].strip()})")
