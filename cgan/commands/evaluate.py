"""``cgan evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cgan.commands import model_option
from fader.commands import options
from fader.commands.echo import say, say_json
from fader.words import plural

if TYPE_CHECKING:
    from cgan.data import ImageSet
    from cgan.networks import Generator


@click.command(
    epilog="Example: cgan evaluate --model runs/emotions --data emotions48.zip --html report.html"
)
@model_option
@click.option(
    "--data",
    required=True,
    **options.DATA,
    help="What it was trained on, with held-out images where there are any.",
)
@click.option(
    "--only",
    metavar="CLASS",
    help="Compare with the images of this one class: for a generator that was trained with --only.",
)
@click.option("-n", "n", default=2000, show_default=True, type=click.IntRange(2), help="Samples.")
@click.option(
    "--features",
    type=click.Choice(["attributes", "judge", "inception"]),
    default="attributes",
    show_default=True,
    help="What distances are measured in: the features of our attribute classifier, those of the "
    "packaged judge, or those of Inception, which FID is defined on; they need torch-fidelity and "
    "its weights.",
)
@click.option(
    "--judge",
    metavar="FOLDER",
    help="A run of fader train-classifier that scores attributes; the default is the judge in "
    "the package. Of classes a judge is trained on the data, once.",
)
@click.option(
    "--truncation",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0, 2),
    help="As in cgan generate.",
)
@click.option(
    "--html",
    "report",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write a report with pictures: one HTML file.",
)
@options.overwrite_option
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@options.device_option
@options.json_option
def command(
    model: str,
    data: Path | str,
    only: str | None,
    n: int,
    features: str,
    judge: str | None,
    truncation: float,
    report: Path | None,
    overwrite: bool,
    seed: int,
    device: str,
    as_json: bool,
) -> None:
    """Measure how good a generator is: quality, variety, collapse, labels, memory.

    Every score of the samples stands beside what real images score in their place. Distances are
    on named features; labels are judged by a classifier that had no part in the training; and the
    training image nearest to each sample says whether it is one over again.
    """
    from cgan.evaluate.evaluation import evaluate
    from cgan.evaluate.features import SPACES
    from cgan.evaluate.labels import find_label_judge
    from cgan.evaluate.reals import Reals
    from cgan.evaluate.report import text, write_report
    from cgan.io import load_generator, training_notes

    options.refuse_replacing(report, overwrite)
    where = options.resolve_device(device)
    generator = load_generator(model, where)
    if only is not None and generator.label_kind != "none":
        raise click.UsageError(
            f"--only {only}: this generator has labels and is scored on all of them; leave it out"
        )
    space = SPACES[features](where)
    images = _open(data, generator, only)
    label_judge = find_label_judge(images, judge, where)
    reals = Reals.seen(images, space, limit=n, seed=seed)
    asked: dict[str, Any] = {"n": n, "seed": seed, "truncation": truncation}
    asked |= {"name": model, "data": str(data)}
    learnt_from = training_notes(model).get("training_images")
    found = evaluate(generator, reals, label_judge, learnt_from=learnt_from, **asked)
    # First what took long; the report may fail for want of a place.
    if as_json:
        say_json(found.document)
    else:
        say(*text(found.document).split("\n"))
    if report is not None:
        write_report(found, report)
        say(f"report: {report}", err=True)


def _open(data: Path | str, generator: Generator, only: str | None) -> ImageSet:
    """The data with the generator's labels; says which files are not in it."""
    from cgan.data import open_images

    labels: str | tuple[str, ...] = generator.label_names
    if generator.label_kind != "attributes":
        labels = "folder" if only or generator.label_kind == "classes" else "none"
    images = open_images(data, generator.config.size, generator.config.channels, labels)
    if only is not None:
        images = images.only(only)
    if images.rejected:
        name, reason = images.rejected[0]
        left_out = plural(len(images.rejected), "file")
        say(f"{left_out} left out, such as {name}: {reason}", err=True)
    return images
