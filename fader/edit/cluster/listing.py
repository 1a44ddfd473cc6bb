"""What is to be done, streamed: a folder's photos folder by folder, or a table's row by row."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from fader.edit.cluster.places import Place, place_of
from fader.edit.folder import sort_out
from fader.edit.outputs import inside, plan
from fader.errors import FaderError
from fader.urls import is_url, reason

# Photos of a batch: few at first, so that all are soon at work and small folders shared fairly;
# then more, so that the notes about a batch cost little.
_FEWEST, _MOST, _GROWTH = 8, 256, 64


@dataclass(frozen=True)
class Task:
    """One input: the path or URL of a ``photo``, its ``name`` in the tree, and those of its
    ``outputs``."""

    photo: str
    name: str
    outputs: list[str]


def is_table(source: str) -> bool:
    """Whether a source is a table of photos rather than a folder."""
    return source.lower().endswith((".csv", ".parquet")) and not os.path.isdir(source)


def root_of(source: str) -> str:
    """The folder that photos' names start from: the source, or that of a table."""
    if not is_table(source):
        return source
    return source.rpartition("/")[0] if is_url(source) else str(Path(source).absolute().parent)


def tasks_of(
    source: str, variants: Sequence[str], fold: Callable[[str], str], others: Counter[str]
) -> Iterator[Task]:
    """The inputs of a folder or a table, with outputs for ``variants``.

    Files of a folder that are no photos are counted in ``others``.

    Raises :class:`~fader.errors.FaderError` when ``source`` cannot be read.
    """
    if is_table(source):
        return table_tasks(source, variants)
    return folder_tasks(place_of(source), variants, fold, others)


def folder_tasks(
    place: Place, variants: Sequence[str], fold: Callable[[str], str], others: Counter[str]
) -> Iterator[Task]:
    """The photos of a folder and its subfolders; a subfolder is looked into when its turn comes.

    An output lies in the folder of the same name as its photo, so that names are given folder by
    folder, and are those of :func:`~fader.edit.outputs.plan` for all together.
    """
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            folders, files = place.listed(folder)
        except OSError as error:
            if not folder:
                why = error.strerror or "there is no such folder"
                raise FaderError(f"{place.address}: cannot be looked into ({why})") from None
            # It comes out as unreadable, so that it is not passed over in silence.
            yield Task(place.full(folder), folder, [folder])
            continue
        within = f"{folder}/" if folder else ""
        waiting += [within + name for name in sorted(folders, reverse=True)]
        photos, more = sort_out(files)
        others.update(more)
        places = plan(Path(), [Path(name) for name in photos], variants, fold)
        for name, outputs in zip(photos, places, strict=True):
            full = within + name
            yield Task(place.full(full), full, [within + output.name for output in outputs])


def table_tasks(table: str, variants: Sequence[str]) -> Iterator[Task]:
    """The photos of a table: its column ``path``, or its first.

    Relative paths start from the table's folder and keep their tree; of others it begins after
    ``s3://`` or ``/``. No other row is needed to name an output: where the format cannot be kept,
    a hash in it keeps it apart from a photo of that name.
    """
    folder = root_of(table)
    for path in table_paths(table):
        photo, name = path, path.partition("://")[2] if is_url(path) else path
        if not (is_url(path) or path.startswith("/")):
            photo = f"{folder}/{path}" if is_url(folder) else str(Path(folder, path))
        parts = [part for part in name.split("/") if part not in ("", ".")]
        name = "/".join("%2E%2E" if part == ".." else part for part in parts)
        if name:
            yield Task(photo, name, [_output(Path(name), one) for one in variants])


def _output(name: Path, variant: str) -> str:
    output = inside(Path(), name, variant)
    if output.suffix != name.suffix:
        known = name.as_posix().encode("utf-8", "surrogatepass")
        mark = hashlib.blake2b(known, digest_size=6).hexdigest()
        output = inside(Path(), name.with_name(f"{name.name}~{mark}"), variant)
    return output.as_posix()


def table_paths(table: str) -> Iterator[str]:
    """The paths of a CSV or Parquet table, a few at a time; cells that are empty are passed over.
    Raises :class:`~fader.errors.FaderError` when it cannot be read."""
    folder, name = place_of(root_of(table)), table.replace("\\", "/").rpartition("/")[2]
    try:
        with folder.opened(name) as file:
            paths = _csv_paths(file) if name.lower().endswith(".csv") else _parquet_paths(file)
            yield from filter(None, (str(path or "").strip() for path in paths))
    except FaderError:
        raise
    except Exception as error:  # those of the stores' libraries have no base in common
        why = reason(error)
        raise FaderError(f"{table}: cannot be read as a table of photos ({why})") from None


def _csv_paths(file: Any) -> Iterator[str | None]:
    reader = csv.reader(io.TextIOWrapper(file, encoding="utf-8-sig", newline=""))
    first = next(reader, [])
    column = first.index("path") if "path" in first else 0
    if first and "path" not in first and PurePosixPath(first[0]).suffix:
        yield first[0]  # it has no line of names
    yield from (row[column] for row in reader if len(row) > column)


def _parquet_paths(file: Any) -> Iterator[str | None]:
    try:
        from pyarrow import parquet
    except ImportError:
        raise FaderError(
            "Parquet needs pyarrow, which is not installed; pip install 'fader[cluster]'"
        ) from None
    table = parquet.ParquetFile(file)
    names = table.schema_arrow.names
    column = "path" if "path" in names else names[0]
    for batch in table.iter_batches(batch_size=4096, columns=[column]):
        yield from batch.column(0).to_pylist()


def batches(tasks: Iterable[Any]) -> Iterator[list[Any]]:
    """Tasks in lists that grow from 8 to 256."""
    some: list[Any] = []
    for seen, task in enumerate(tasks, start=1):
        some.append(task)
        if len(some) >= min(_MOST, max(_FEWEST, seen // _GROWTH)):
            yield some
            some = []
    if some:
        yield some
