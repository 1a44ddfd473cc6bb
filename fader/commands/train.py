"""``fader train``."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fader.attributes import parse_attributes
from fader.commands.echo import say
from fader.commands.options import device_option, open_store, resolve_device, user_parameter
from fader.errors import FaderError

if TYPE_CHECKING:
    from fader.train.config import TrainConfig
    from fader.train.run import RunFolder


@click.command(
    "train", epilog="Example: fader train --attrs Male,Young --data data/celeba --preset tiny"
)
@click.option(
    "--attrs",
    callback=user_parameter(parse_attributes),
    metavar="NAME,…",
    help="The attributes to learn, such as Male,Young; Hair stands for all hair colours.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="CelebA, or a folder in its layout, or a prepared one.  [default: $FADER_DATA, or "
    "data/celeba]",
)
@click.option("--preset", metavar="NAME", help="default, paper-256 or tiny.  [default: default]")
@click.option(
    "-s",
    "--setting",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change one value of the preset, such as lambda_max=0.01 or model.layers=6. Repeatable.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The run's folder.  [default: runs/ATTRS]",
)
@click.option("--resume", is_flag=True, help="Go on with the run in --out.")
@click.option(
    "--classifier",
    metavar="MODEL",
    help="Scores the held-out edits and is saved with the model: a model with a classifier, or a "
    "run of train-classifier.  [default: the packaged one]",
)
@click.option(
    "--init", metavar="MODEL", help="Start from this model's weights instead of from chance."
)
@click.option("--minutes", type=float, help="Stop, resumable, after about this long.")
@device_option
def command(
    attrs: tuple[str, ...] | None,
    data: Path | None,
    preset: str | None,
    settings: tuple[str, ...],
    out: Path | None,
    resume: bool,
    classifier: str | None,
    init: str | None,
    minutes: float | None,
    device: str,
) -> None:
    """Train a Fader Network to edit the given attributes.

    OUT/model is what `fader edit --model` takes. A run that was stopped or killed goes on exactly
    where its last checkpoint was with --resume --out OUT, from any folder; that needs no other
    option, and takes only the data that the run was started on.
    """
    if not attrs and not resume:
        raise click.UsageError("Missing option '--attrs', such as --attrs Male,Young")
    if resume and out is None and not attrs:
        raise click.UsageError("--resume needs --out, the folder of the run to go on with")
    out = out or Path("runs") / "-".join(attrs or ())

    from fader.models.io import available_models, load_classifier, load_model
    from fader.train.inputs import check_data, check_same, find_data, place, read_inputs
    from fader.train.run import RunFolder
    from fader.train.trainer import Trainer

    run = RunFolder(out)
    resume = resume and run.config.exists()  # killed before it began: begin
    inputs: dict[str, Any] = {}
    if resume:
        if preset:
            raise click.UsageError("--resume goes on with the run's own settings, not a --preset")
        config, inputs = _resumed(run, attrs, settings), read_inputs(run) or {}
        if not (data or inputs.get("data")):
            raise FaderError(f"{out}: does not say what it was started on; name that with --data")
        began = inputs.get("classifier") or ""
        moved = os.path.isabs(began) and not os.path.exists(began)
        models = {"classifier": None if moved else classifier, "init": init}
        check_same(run, inputs, available_models(), **models)
    else:
        if not attrs:
            raise FaderError(f"{out}: holds no run to resume")
        config = _new(attrs, preset or "default", settings)
    where = find_data(run, inputs, data) or Path(os.environ.get("FADER_DATA") or "data/celeba")
    classifier = classifier or inputs.get("classifier")
    init = init or inputs.get("init")
    begins = not (resume and run.list_checkpoints())
    classifier = classifier or "default"

    store = open_store(where, config.model.size)
    run.started_on = {
        "data": place(where),
        "data_checksum": check_data(run, inputs, where, store, given=data is not None),
        "classifier": place(classifier, available_models()),
        "init": place(init, available_models()),
    }
    trainer = Trainer(
        config,
        store,
        run,
        device=resolve_device(device),
        classifier=load_classifier(classifier),
        initial=load_model(init) if init and begins else None,
        resume=resume,
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's stop is a Ctrl-C
    try:
        trainer.train(minutes)
    except KeyboardInterrupt:
        say(
            f"stopped at step {trainer.done}; go on with: fader train --resume --out {out}",
            err=True,
        )
        raise SystemExit(130) from None
    if trainer.main:
        say(f"step {trainer.done} of {config.steps}; the model is {out / 'model'}")


def _new(attrs: tuple[str, ...], preset: str, settings: tuple[str, ...]) -> TrainConfig:
    from fader.models.schema import check_settings
    from fader.train.config import TrainConfig, apply_overrides, load_preset

    values = apply_overrides(load_preset(preset), settings)
    values["model"]["attributes"] = attrs
    check_settings(TrainConfig, values, "settings")
    return TrainConfig.from_dict(values)


def _resumed(
    run: RunFolder, attrs: tuple[str, ...] | None, settings: tuple[str, ...]
) -> TrainConfig:
    """The run's own settings, some of them changed, such as steps."""
    from fader.models.schema import check_settings
    from fader.train.config import TrainConfig, apply_overrides, modernised

    values = modernised(run.read_config())
    check_settings(TrainConfig, values, run.config)
    saved = TrainConfig.from_dict(values)
    if attrs and attrs != saved.model.attributes:
        raise FaderError(
            f"{run.path}: was started with --attrs {','.join(saved.model.attributes)}; resume it "
            "with those (or none), or start another run"
        )
    values = apply_overrides(saved.to_dict(), settings)
    check_settings(TrainConfig, values, "settings")
    config = TrainConfig.from_dict(values)
    if config.model != saved.model:
        raise FaderError(f"{run.path}: a resumed run cannot change its model; start another run")
    return config
