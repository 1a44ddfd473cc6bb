"""``fader evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fader.commands.echo import say, say_json
from fader.commands.options import (
    DATA,
    device_option,
    json_option,
    model_option,
    open_store,
    overwrite_option,
    refuse_replacing,
    resolve_device,
)


@click.command(epilog="Example: fader evaluate --model default --data data/celeba --html out.html")
@model_option
@click.option("--data", required=True, **DATA, help="Annotated faces.")
@click.option(
    "--judge",
    metavar="FOLDER",
    help="A run of fader train-classifier, or a model, whose classifier scores the edits; "
    "the default is the judge that comes in the package.",
)
@click.option("--split", type=click.Choice(["test", "valid", "train"]), default="test")
@click.option("--limit", type=click.IntRange(1), help="Only so many faces, drawn at random.")
@click.option(
    "--html",
    "report",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write a report with pictures: one HTML file.",
)
@overwrite_option
@click.option("--seed", default=0, type=click.IntRange(0))
@device_option
@json_option
def command(
    model: str,
    data: Path | str,
    judge: str | None,
    report: Path | None,
    overwrite: bool,
    device: str,
    as_json: bool,
    **drawn: Any,
) -> None:
    """Measure how well a model edits, on faces of people it never saw.

    For each attribute and direction: how often a judge that had no part in the training sees the
    new value, also after a light blur and JPEG, and whether it sees all other attributes
    unchanged. Beside it the sliders' continuity, reconstruction, leakage of the latent, identity,
    and the distance from photos.
    """
    from fader.evaluate.evaluation import evaluate
    from fader.evaluate.judge import load_judge
    from fader.evaluate.report import write_report
    from fader.evaluate.table import text
    from fader.models.pretrained import load_model

    refuse_replacing(report, overwrite)
    where = resolve_device(device)
    loaded = load_model(model, where)
    arbiter = load_judge(judge, loaded, where)
    store = open_store(data, loaded.size)
    evaluation = evaluate(loaded, arbiter, store, name=model, **drawn)
    # First what took long; the report may fail for want of a place.
    if as_json:
        say_json(evaluation.document)
    else:
        say(*text(evaluation.document).split("\n"))
    if report is not None:
        write_report(evaluation, report)
        say(f"report: {report}", err=True)
