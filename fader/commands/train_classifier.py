"""``fader train-classifier``."""

from __future__ import annotations

import signal
from dataclasses import asdict
from pathlib import Path

import click

from fader.commands.echo import say, say_json
from fader.commands.options import device_option, json_option, open_store, resolve_device


@click.command(
    "train-classifier",
    epilog="Example: fader train-classifier --data data/celeba --out runs/classifier",
)
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Annotated faces.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The run's folder.")
@click.option(
    "--size",
    default=128,
    show_default=True,
    help="Side of the images it looks at, pixels; a prepared store of another size is resized.",
)
@click.option("--width", default=24, show_default=True, help="Channels of the first layer.")
@click.option(
    "--architecture",
    type=click.Choice(["resnet", "plain"]),
    default="resnet",
    show_default=True,
    help="resnet to guide training and to ship; plain for a judge (see fader evaluate).",
)
@click.option("--steps", default=2500, show_default=True, type=click.IntRange(1))
@click.option("--batch-size", default=64, show_default=True, type=click.IntRange(2))
@click.option("--learning-rate", default=2e-3, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--identities",
    type=click.Choice(["all", "even", "odd"]),
    default="all",
    show_default=True,
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
@device_option
@json_option
def command(
    data: Path, out: Path, init: str | None, device: str, as_json: bool, **settings: object
) -> None:
    """Train the classifier that estimates a face's attributes.

    Labels may be hard or soft. Prints, for each attribute, the accuracy on the test part (or the
    validation part, where there is no other) beside that of always guessing the more frequent
    value. OUT/model is what `fader train --classifier` takes.
    """
    from fader.data.store import PreparedStore, is_prepared
    from fader.models.io import load_classifier
    from fader.train.classifier import ClassifierTraining, train_classifier

    training = ClassifierTraining(**settings)
    store = PreparedStore(data) if is_prepared(data) else open_store(data, training.size)
    initial = None
    if init:
        inside = Path(init) / "model"
        initial = load_classifier(inside if inside.is_dir() else init)
    device = resolve_device(device)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's stop is a Ctrl-C
    try:
        scores = train_classifier(store, out, training, initial=initial, device=device)
    except KeyboardInterrupt:
        say("stopped; a classifier's training is not resumed, but begun again", err=True)
        raise SystemExit(130) from None
    if as_json:
        say_json({name: asdict(score) for name, score in scores.items()})
        return
    say(f"{'attribute':<22}{'accuracy':>9}{'balanced':>9}{'majority':>9}")
    for name, score in scores.items():
        say(f"{name:<22}{score.accuracy:9.3f}{score.balanced_accuracy:9.3f}{score.majority:9.3f}")
    say(f"saved {out / 'model'}")
