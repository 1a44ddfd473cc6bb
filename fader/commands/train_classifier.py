"""``fader train-classifier``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from fader.commands.echo import say, say_json
from fader.commands.options import (
    DATA,
    PATH,
    device_option,
    folder_to_write,
    json_option,
    open_store,
    resolve_device,
)
from fader.errors import FaderError
from fader.interrupts import stop_on_sigterm
from fader.processes import keep_memory
from fader.urls import is_url

if TYPE_CHECKING:
    from fader.data.store import PreparedStore
    from fader.models.classifier import AttributeClassifier
    from fader.train.classifier import ClassifierTraining
    from fader.train.run import RunFolder


@click.command(
    "train-classifier",
    epilog="Example: fader train-classifier --data data/celeba --out runs/classifier",
)
@click.option("--data", **DATA, help="Annotated faces; a resumed run knows its own.")
@click.option("--out", required=True, type=PATH, callback=folder_to_write, help="The run's folder.")
@click.option(
    "--size",
    default=128,
    help="Side of the images it looks at, pixels; a prepared store of another size is resized.",
)
@click.option("--width", default=24, help="Channels of the first layer.")
@click.option(
    "--architecture",
    type=click.Choice(["resnet", "plain"]),
    default="resnet",
    help="resnet to go into a model; plain for a judge (see fader evaluate).",
)
@click.option("--steps", default=2500, type=click.IntRange(1))
@click.option("--batch-size", default=64, type=click.IntRange(2))
@click.option("--learning-rate", default=2e-3)
@click.option("--seed", default=0)
@click.option(
    "--identities",
    type=click.Choice(["all", "even", "odd"]),
    default="all",
    help="Train on all people, or on the half with even or odd identity numbers.",
)
@click.option(
    "--even-handed",
    is_flag=True,
    help="Decide for rare values as readily as for common ones, as a judge should.",
)
@click.option(
    "--init", metavar="RUN", help="Start from this run's classifier instead of from chance."
)
@click.option(
    "--resume", is_flag=True, help="Go on with the run in --out, if there is one; else begin it."
)
@device_option
@json_option
@click.pass_context
def command(
    context: click.Context,
    data: Path | str | None,
    out: Path,
    init: str | None,
    resume: bool,
    device: str,
    as_json: bool,
    **settings: Any,
) -> None:
    """Train the classifier that estimates a face's attributes.

    Labels may be hard or soft. Prints, for each attribute, the accuracy on the test part (or the
    validation part, where there is no other) beside that of always guessing the more frequent
    value. OUT/model is what `fader train --classifier` takes. A run that was stopped or killed goes
    on exactly where its last checkpoint was with --resume --out OUT.
    """
    from fader.train.classifier import ClassifierTraining, train_classifier
    from fader.train.inputs import check_data, check_same, find_data, place, read_inputs
    from fader.train.run import RunFolder

    run = RunFolder(out)
    resume = resume and run.config.exists()  # killed before it began: begin
    inputs: dict[str, Any] = {}
    training = ClassifierTraining(**settings)
    if resume:
        given = [n for n in settings if context.get_parameter_source(n) != ParameterSource.DEFAULT]
        training = _resumed(run, {name: settings[name] for name in given})
        inputs = read_inputs(run) or {}
        check_same(run, inputs, (), init=init)
    where = find_data(run, inputs, data)
    if where is None:
        raise click.UsageError("Missing option '--data'.")
    store = _open(where, training.size)
    init = init or inputs.get("init")
    run.started_on = {
        "data": place(where),
        "data_checksum": check_data(run, inputs, where, store, given=data is not None),
        "init": place(init),
    }
    initial = _initial(init) if init and not run.list_checkpoints() else None
    on = resolve_device(device)
    stop_on_sigterm()
    keep_memory()
    try:
        scores = train_classifier(store, run, training, initial=initial, device=on, resume=resume)
    except KeyboardInterrupt:
        say(f"stopped; go on with: fader train-classifier --resume --out {out}", err=True)
        raise SystemExit(130) from None
    if as_json:
        say_json({name: asdict(score) for name, score in scores.items()})
        return
    say(f"{'attribute':<22}{'accuracy':>9}{'balanced':>9}{'majority':>9}")
    for name, score in scores.items():
        say(f"{name:<22}{score.accuracy:9.3f}{score.balanced_accuracy:9.3f}{score.majority:9.3f}")
    say(f"saved {out / 'model'}")


def _open(data: Path | str, size: int) -> PreparedStore:
    from fader.data.store import PreparedStore, is_prepared

    return PreparedStore(data) if is_url(data) or is_prepared(data) else open_store(data, size)


def _initial(run: str) -> AttributeClassifier:
    from fader.models.pretrained import load_classifier

    inside = Path(run) / "model"
    return load_classifier(inside if inside.is_dir() else run)


def _resumed(run: RunFolder, given: dict[str, Any]) -> ClassifierTraining:
    """The run's own settings, which those ``given`` must be."""
    from fader.models.schema import read_settings
    from fader.train.classifier import ClassifierTraining

    saved = read_settings(ClassifierTraining, run.read_config(), run.config)
    for name, value in given.items():
        if value != getattr(saved, name):
            option = "--" + name.replace("_", "-")
            raise FaderError(
                f"{run.path}: was started with {option} {getattr(saved, name)}, so {option} "
                f"{value} cannot be used now; leave it out to go on, or start another run"
            )
    return saved
