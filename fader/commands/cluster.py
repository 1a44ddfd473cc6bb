"""``fader edit --engine ray``: its options and its checks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from fader.commands.options import usage, user_parameter, with_options
from fader.errors import FaderError
from fader.files import check_folder
from fader.urls import is_url

if TYPE_CHECKING:
    from fader.edit.cluster.engine import Cluster


def _actors(text: str) -> tuple[int, int]:
    parts = text.split(",")
    numbers = [int(part) for part in parts if part.isdecimal()]
    if len(numbers) != len(parts) or len(parts) > 2 or not 0 < numbers[0] <= numbers[-1]:
        raise FaderError(f"{text!r} is not a number of processes or MIN,MAX, such as 2 or 2,64")
    return numbers[0], numbers[-1]


#: The options that say where a folder's photos are edited.
cluster_options = with_options(
    click.option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        help="Where a folder's photos are edited; with ray, PHOTO and OUT may be URLs such as "
        "s3://bucket/photos, and PHOTO a table of paths, .csv or .parquet.",
    ),
    click.option(
        "--address",
        metavar="HOST:PORT|auto",
        help="The Ray cluster of --engine ray; default: one that is started here for the run.",
    ),
    click.option(
        "--actors",
        metavar="MIN[,MAX]",
        callback=user_parameter(_actors),
        help="Processes of --engine ray that edit; default: as many as the cluster has room for.",
    ),
    click.option(
        "--cpus-per-actor",
        type=click.FloatRange(0, min_open=True),
        metavar="N",
        help="Processors for each; default: 1.",
    ),
    click.option(
        "--gpus-per-actor",
        type=click.FloatRange(0),
        metavar="N",
        help="GPUs, or parts of one, for each; default: 0.",
    ),
)


def cluster_of(engine: str, options: dict[str, Any]) -> Cluster | None:
    """The cluster that a command's options ask for, which are taken out of them; None for this
    machine alone."""
    names = "address", "actors", "cpus_per_actor", "gpus_per_actor"
    address, actors, cpus, gpus = asked = [options.pop(name) for name in names]
    if engine == "ray":
        from fader.edit.cluster.engine import Cluster

        return Cluster(address, actors, cpus or 1, gpus or 0)
    for name, value in zip(names, asked, strict=True):
        if value is not None:
            raise click.UsageError(f"--{name.replace('_', '-')}: is for --engine ray")
    return None


def check_cluster_use(
    photos: tuple[str, ...], out: str | None, workers: int | None, overwrite: bool, as_json: bool
) -> tuple[str, str]:
    """The source and the destination of an edit on a cluster; what makes no sense is refused."""
    from fader.edit.cluster.listing import is_table

    if len(photos) > 1:
        raise click.UsageError("--engine ray edits one folder, URL or table; give it alone")
    (source,) = photos
    if out is None:
        raise click.UsageError(f"{source}: name the folder or URL for the edits with -o")
    if workers is not None:
        raise click.UsageError("--workers: with --engine ray use --actors")
    if as_json:
        raise click.UsageError("--json: not with --engine ray; report.csv has all of it")
    if overwrite and is_table(source):
        raise click.UsageError(
            "--overwrite: not with a table, whose photos may lie where edits go; choose a new -o"
        )
    if not is_url(source) and not os.path.isdir(source) and not is_table(source):
        raise click.UsageError(f"{source}: is no folder, URL or table for --engine ray")
    if not is_url(out):
        with usage():
            check_folder(out)
    return source, out
