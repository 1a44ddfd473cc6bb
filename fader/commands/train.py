"""``fader train``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fader.attributes import parse_attributes
from fader.commands.echo import say, say_json
from fader.commands.options import (
    DATA,
    PATH,
    device_option,
    folder_to_write,
    json_option,
    open_store,
    resolve_device,
    usage,
    user_parameter,
)
from fader.errors import FaderError
from fader.interrupts import stop_on_sigterm
from fader.processes import keep_memory
from fader.urls import path_or_url

if TYPE_CHECKING:
    from fader.train.config import TrainConfig
    from fader.train.run import RunFolder
    from fader.train.trainer import Trainer


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
    **DATA,
    help="CelebA, or a folder in its layout, or a prepared one; a URL of one in shards.  [default: "
    "$FADER_DATA, or data/celeba]",
)
@click.option("--steps", type=click.IntRange(1), help="In all.  [default: the preset's]")
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
    type=PATH,
    callback=folder_to_write,
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
@click.option(
    "--minutes", type=click.FloatRange(min=0), help="Stop, resumable, after about this long."
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Print the settings, the data and what the run would cost, and train nothing.",
)
@click.option(
    "--compile",
    "compiled",
    type=click.Choice(["off", "auto"]),
    default="off",
    help="auto: torch.compile, where a C++ compiler is found (docs/configs.md: what it pays).",
)
@device_option
@json_option
def command(
    attrs: tuple[str, ...] | None,
    data: Path | str | None,
    steps: int | None,
    preset: str | None,
    settings: tuple[str, ...],
    out: Path | None,
    resume: bool,
    minutes: float | None,
    dry_run: bool,
    compiled: str,
    device: str,
    as_json: bool,
    **models: str | None,
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
    if as_json and not dry_run:
        raise click.UsageError("--json needs --dry-run")
    out = out or Path("runs") / "-".join(attrs or ())
    settings += (f"steps={steps}",) if steps else ()

    from fader.train.device import can_compile
    from fader.train.inputs import read_inputs
    from fader.train.run import RunFolder

    run = RunFolder(out)
    resume = resume and run.config.exists()  # killed before it began: begin
    if not resume and not attrs:
        raise FaderError(f"{out}: holds no run to resume")
    config = _resumed(run, attrs, settings) if resume else _new(attrs or (), preset, settings)
    # The same command begins a run and goes on with it, so that a launcher can repeat it.
    if resume and preset and config != _new(config.model.attributes, preset, settings):
        raise click.UsageError("--resume goes on with the run's own settings, not a --preset")
    compiles = compiled == "auto" and can_compile()
    if dry_run:
        inputs = (read_inputs(run) or {}) if resume else {}
        _show(config, _data(run, inputs, data), device, compiles, as_json)
        return
    trainer = _trainer(run, config, resume, data, models, device, compiles)
    stop_on_sigterm()
    keep_memory()
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


def _show(
    config: TrainConfig, data: Path | str, device: str, compiles: bool, as_json: bool
) -> None:
    from fader.train.dry_run import as_text, describe_run

    store = open_store(data, config.model.size)
    found = describe_run(config, store, resolve_device(device), compiles)
    if as_json:
        say_json(found)
    else:
        say(*as_text(found, config).split("\n"))


def _trainer(
    run: RunFolder,
    config: TrainConfig,
    resume: bool,
    data: Path | str | None,
    models: dict[str, str | None],
    device: str,
    compiles: bool,
) -> Trainer:
    """The trainer of a new run, or of one that goes on with what it was started on."""
    from fader.models.folders import available_models
    from fader.models.pretrained import load_classifier, load_model
    from fader.train.inputs import check_data, check_same, place, read_inputs
    from fader.train.trainer import Trainer

    inputs: dict[str, Any] = {}
    if resume:
        inputs = read_inputs(run) or {}
        if not (data or inputs.get("data")):
            raise FaderError(
                f"{run.path}: does not say what it was started on; name that with --data"
            )
        began = inputs.get("classifier") or ""
        moved = os.path.isabs(began) and not os.path.exists(began)
        given = {**models, "classifier": None if moved else models["classifier"]}
        check_same(run, inputs, available_models(), **given)
    where = _data(run, inputs, data)
    classifier = models["classifier"] or inputs.get("classifier") or "default"
    init = models["init"] or inputs.get("init")
    begins = not (resume and run.list_checkpoints())
    store = open_store(where, config.model.size)
    run.started_on = {
        "data": place(where),
        "data_checksum": check_data(run, inputs, where, store, given=data is not None),
        "classifier": place(classifier, available_models()),
        "init": place(init, available_models()),
    }
    return Trainer(
        config,
        store,
        run,
        device=resolve_device(device),
        classifier=load_classifier(classifier),
        initial=load_model(init) if init and begins else None,
        resume=resume,
        compiled=compiles,
    )


def _data(run: RunFolder, inputs: dict[str, Any], given: Path | str | None) -> Path | str:
    from fader.train.inputs import find_data

    found = find_data(run, inputs, given)
    return found or path_or_url(os.environ.get("FADER_DATA") or "data/celeba")


def _new(attrs: tuple[str, ...], preset: str | None, settings: tuple[str, ...]) -> TrainConfig:
    from fader.models.schema import check_settings
    from fader.train.config import TrainConfig, apply_overrides, load_preset

    with usage():
        values = apply_overrides(load_preset(preset or "default"), settings)
        values["model"]["attributes"] = attrs
        check_settings(TrainConfig, values, "settings")
        return TrainConfig.from_dict(values)


def _resumed(
    run: RunFolder, attrs: tuple[str, ...] | None, settings: tuple[str, ...]
) -> TrainConfig:
    """The run's own settings, some of them changed, such as steps."""
    from fader.models.schema import check_settings
    from fader.train.config import TrainConfig, apply_overrides, modernised

    began = run.read_config()
    if isinstance(began.get("model"), str):
        raise FaderError(f"{run.path}: is a run of cgan train; go on with cgan train --resume")
    values = modernised(began)
    check_settings(TrainConfig, values, run.config)
    saved = TrainConfig.from_dict(values)
    if attrs and attrs != saved.model.attributes:
        raise FaderError(
            f"{run.path}: was started with --attrs {','.join(saved.model.attributes)}; resume it "
            "with those (or none), or start another run"
        )
    with usage():
        values = apply_overrides(saved.to_dict(), settings)
        check_settings(TrainConfig, values, "settings")
        config = TrainConfig.from_dict(values)
    if config.model != saved.model:
        raise FaderError(f"{run.path}: a resumed run cannot change its model; start another run")
    return config
