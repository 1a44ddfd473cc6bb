"""``cgan train``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fader.attributes import parse_attributes
from fader.commands.echo import say
from fader.commands.options import (
    DATA,
    PATH,
    device_option,
    folder_to_write,
    resolve_device,
    usage,
    user_parameter,
)
from fader.errors import FaderError
from fader.interrupts import stop_on_sigterm
from fader.processes import keep_memory
from fader.words import plural

if TYPE_CHECKING:
    from cgan.config import GanConfig
    from cgan.data import ImageSet
    from cgan.trainer import Trainer
    from fader.train.run import RunFolder


def _parse_labels(text: str) -> str | list[str]:
    return text if text in ("none", "folder") else list(parse_attributes(text))


@click.command(
    "train", epilog="Example: cgan train --data emotions.zip --labels folder --size 48 --channels 1"
)
@click.option(
    "--data",
    **DATA,
    help="A folder or zip of images; CelebA, a folder in its layout, or a prepared store; a URL of "
    "one in shards.",
)
@click.option(
    "--labels",
    callback=user_parameter(_parse_labels),
    metavar="NAME,…|folder|none",
    help="What can be asked for: attributes such as Male,Blond_Hair; the classes that the "
    "folders' names say; or nothing.  [default: none]",
)
@click.option(
    "--only", metavar="CLASS", help="Learn this one class, such as happy, with no labels."
)
@click.option(
    "--size",
    type=click.Choice(["28", "32", "48", "64", "96", "128"]),
    help="Pixels.  [default: 64]",
)
@click.option(
    "--channels", type=click.Choice(["1", "3"]), help="1 is grey, 3 is colour.  [default: 3]"
)
@click.option(
    "--model",
    type=click.Choice(["cgan", "cvae"]),
    help="A generator trained against a discriminator, or with an encoder, as a conditional "
    "variational autoencoder, which redraws photos, too.  [default: cgan]",
)
@click.option("--steps", type=click.IntRange(1), help="[default: the preset's]")
@click.option(
    "--snapshot-every",
    type=click.IntRange(1),
    metavar="STEPS",
    help="How often to keep a picture and a backup.  [default: 50]",
)
@click.option(
    "--preset",
    metavar="NAME",
    help="default, large (128 px), dcgan, cvae or tiny.  [default: by --model]",
)
@click.option(
    "-s",
    "--setting",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change one value of the preset, such as loss=nonsaturating or width=48. Repeatable.",
)
@click.option(
    "--out", type=PATH, callback=folder_to_write, help="The run's folder.  [default: runs/…]"
)
@click.option("--resume", is_flag=True, help="Go on with the run in --out.")
@click.option(
    "--init",
    metavar="MODEL",
    help="Start from this generator instead of from chance. Without --preset the settings are its "
    "own, too.",
)
@click.option(
    "--minutes", type=click.FloatRange(min=0), help="Stop, resumable, after about this long."
)
@device_option
def command(
    data: Path | str | None,
    labels: str | list[str] | None,
    only: str | None,
    preset: str | None,
    settings: tuple[str, ...],
    out: Path | None,
    resume: bool,
    init: str | None,
    minutes: float | None,
    device: str,
    **given: str | int | None,
) -> None:
    """Train a generator on the images in --data.

    OUT/model (or OUT itself) is what `cgan generate --model` takes; OUT/snapshots, progress.gif,
    losses.png and grid.png show how it went. A run that was stopped or killed goes on exactly
    where its last backup was with --resume --out OUT, from any folder; that needs no other option,
    and takes only the images that the run was started on.
    """
    if data is None and not resume:
        raise click.UsageError("Missing option '--data', a folder or zip of images")
    if resume and out is None:
        raise click.UsageError("--resume needs --out, the folder of the run to go on with")
    if only and labels not in (None, "folder"):
        raise click.UsageError("--only is for class folders, and learns without --labels")
    from fader.train.run import RunFolder

    run = RunFolder(out or _default_out(data, only or labels), samples="snapshots")
    resume = resume and run.config.exists()  # killed before it began: begin
    overrides = [*settings, *(f"{name}={value}" for name, value in given.items() if value)]
    asked = {"data": data, "labels": None if only else labels, "only": only, "init": init}
    trainer = _trainer(run, asked, preset, overrides, resume, device)
    _tell_about(trainer.images, run)
    stop_on_sigterm()
    keep_memory()
    try:
        trainer.train(minutes)
    except KeyboardInterrupt:
        again = f"cgan train --resume --out {run.path}"
        say(f"stopped at step {trainer.done}; go on with: {again}", err=True)
        raise SystemExit(130) from None
    say(f"step {trainer.done} of {trainer.config.steps}; the generator is {run.model}")


def _default_out(data: Path | str | None, labels: str | list[str] | None) -> Path:
    parts = [
        Path(data).stem if data else "",
        *([labels] if isinstance(labels, str) else labels or ()),
    ]
    return Path("runs", "-".join(["cgan", *(part for part in parts if part and part != "none")]))


def _trainer(
    run: RunFolder,
    asked: dict[str, Any],
    preset: str | None,
    overrides: list[str],
    resume: bool,
    device: str,
) -> Trainer:
    """The trainer of a new run, or of one to go on with, whose inputs are found and checked.

    ``asked`` are its data, labels, the only class, and the generator to start from.
    """
    from cgan.config import GanConfig
    from cgan.data import open_images
    from cgan.gan import GanTrainer
    from cgan.io import available_generators, load_generator
    from cgan.vae import VaeTrainer
    from fader.train.inputs import check_data, check_same, find_data, place

    began: dict[str, Any] = {}
    packaged = ("default", *available_generators())
    if resume:
        config, began = _resumed(run, overrides)
        own = {name: getattr(config, name) for name in ("label_names", "label_kind")}
        if preset and config != replace(_new(preset, overrides), **own):
            raise click.UsageError("--resume goes on with the run's own settings, not a --preset")
        _check_labels(run, began, asked)
        check_same(run, began, packaged, init=asked["init"])
    elif asked["data"] is None:
        raise FaderError(f"{run.path}: holds no run to resume")
    elif run.config.exists():
        run.start({})  # says so, before the images are read
    else:
        config = _new(preset, overrides, asked["init"])
    data = find_data(run, began, asked["data"])
    assert data is not None
    labels, only, init = (asked[name] or began.get(name) for name in ("labels", "only", "init"))
    images = open_images(data, config.size, config.channels, "folder" if only else labels or "none")
    images = images.only(only) if only else images
    if not resume:
        known = {"label_names": images.label_names, "label_kind": images.label_kind}
        with usage():
            config = GanConfig.from_dict(config.to_dict() | known)
    run.started_on = {
        "data": place(data),
        "data_checksum": check_data(run, began, data, images, given=asked["data"] is not None),
        "labels": None if only else labels or "none",
        "only": only,
        "init": place(init, packaged),
    }
    kind: type[Trainer] = VaeTrainer if config.model == "cvae" else GanTrainer
    return kind(
        config,
        images,
        run,
        device=resolve_device(device),
        initial=load_generator(init) if init and not run.list_checkpoints() else None,
        resume=resume,
        warn=_warn,
    )


def _new(preset: str | None, overrides: list[str], init: str | None = None) -> GanConfig:
    """The settings of a new run; without a preset those of the generator that it starts from."""
    from cgan.config import GanConfig, apply_overrides, load_preset
    from cgan.io import load_config
    from cgan.transfer import settings_from

    source = load_config(init) if init and not preset else None
    with usage():
        asked = apply_overrides({}, overrides)
        model = asked.get("model")
        if source and model in (None, source.model):
            return GanConfig.from_dict(settings_from(source, asked))
        values = load_preset(preset or ("cvae" if model == "cvae" else "default"))
        own = values.get("model", "cgan")
        # The settings of one kind say nothing of the other: learning rates, for one.
        if preset and model in ("cgan", "cvae") and model != own:
            raise FaderError(
                f"--preset {preset} is for --model {own}, not for {model}; leave one of them out"
            )
        return GanConfig.from_dict(values | asked)


def _resumed(run: RunFolder, overrides: list[str]) -> tuple[GanConfig, dict[str, Any]]:
    """The run's own settings (some changed, such as steps), and what it was started on."""
    from cgan.config import GanConfig, apply_overrides
    from fader.train.inputs import read_inputs

    saved = run.read_config()
    if isinstance(saved.get("model"), dict):
        raise FaderError(f"{run.path}: is a run of fader train; go on with fader train --resume")
    with usage():
        config = GanConfig.from_dict(apply_overrides(saved, overrides))
    for name in ("size", "channels", "model"):
        began = saved.get(name, "cgan" if name == "model" else None)  # the only one there was
        if getattr(config, name) != began:
            raise FaderError(
                f"{run.path}: was started with --{name} {began}, which cannot change; "
                "start another run"
            )
    inputs = read_inputs(run)
    if inputs is None or not inputs.get("data"):
        raise FaderError(f"{run.path}: was not started by cgan train, so --resume cannot know it")
    return config, inputs


def _check_labels(run: RunFolder, began: dict[str, Any], asked: dict[str, Any]) -> None:
    names = ("labels", "only")
    if any(asked[name] for name in names) and any(asked[n] != began.get(n) for n in names):
        words = " ".join(
            f"--{name} {value if isinstance(value, str) else ','.join(value)}"
            for name in names
            if (value := began.get(name))
        )
        raise FaderError(
            f"{run.path}: was started with {words or '--labels none'}; leave the labels out to go "
            "on, or start another run"
        )


def _tell_about(images: ImageSet, run: RunFolder) -> None:
    """How many images there are, and which files are not among them."""
    from fader.data.prepare import write_rejected

    if images.rejected:
        path = run.path / "rejected.csv"
        names, reasons = zip(*images.rejected, strict=True)
        write_rejected(path, list(names), dict(enumerate(reasons)))
        for name, reason in images.rejected[:3]:
            say(f"left out: {name}: {reason}", err=True)
        them = "it" if len(images.rejected) == 1 else "them"
        left_out = plural(len(images.rejected), "file")
        say(f"{left_out} left out; {path} lists {them}", err=True)
    say(f"{plural(len(images.indices(0)), 'image')} to learn from", err=True)
    for note in images.notes:
        say(f"warning: {note}", err=True)


def _warn(sentence: str) -> None:
    from tqdm import tqdm

    with tqdm.external_write_mode():
        say(f"warning: {sentence}", err=True)
