"""``cgan train``."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fader.attributes import parse_attributes
from fader.commands.echo import say
from fader.commands.options import DATA, device_option, resolve_device, usage, user_parameter
from fader.errors import FaderError
from fader.files import atomic_path, harmless_cell
from fader.interrupts import stop_on_sigterm
from fader.processes import keep_memory

if TYPE_CHECKING:
    from cgan.config import GanConfig
    from cgan.data import ImageSet
    from cgan.trainer import Trainer
    from fader.train.run import RunFolder


def _parse_labels(text: str) -> str | tuple[str, ...]:
    return text if text in ("none", "folder") else parse_attributes(text)


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
    "--preset", metavar="NAME", help="default, dcgan, cvae or tiny.  [default: by --model]"
)
@click.option(
    "-s",
    "--setting",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change one value of the preset, such as loss=nonsaturating or width=48. Repeatable.",
)
@click.option("--out", type=click.Path(path_type=Path), help="The run's folder.  [default: runs/…]")
@click.option("--resume", is_flag=True, help="Go on with the run in --out.")
@click.option(
    "--init",
    metavar="MODEL",
    help="Start from this generator's weights instead of from chance: for few images.",
)
@click.option("--minutes", type=float, help="Stop, resumable, after about this long.")
@device_option
def command(
    data: Path | str | None,
    labels: str | tuple[str, ...] | None,
    only: str | None,
    size: str | None,
    channels: str | None,
    model: str | None,
    steps: int | None,
    snapshot_every: int | None,
    preset: str | None,
    settings: tuple[str, ...],
    out: Path | None,
    resume: bool,
    init: str | None,
    minutes: float | None,
    device: str,
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
    out = out or _default_out(data, labels, only)

    given = {"size": size, "channels": channels, "model": model, "steps": steps}
    given["snapshot_every"] = snapshot_every
    overrides = [*settings, *(f"{name}={value}" for name, value in given.items() if value)]
    trainer = _trainer(out, data, labels, only, preset, overrides, resume, init, device)
    _tell_about(trainer.images, trainer.run)
    stop_on_sigterm()
    keep_memory()
    try:
        trainer.train(minutes)
    except KeyboardInterrupt:
        say(
            f"stopped at step {trainer.done}; go on with: cgan train --resume --out {out}", err=True
        )
        raise SystemExit(130) from None
    say(f"step {trainer.done} of {trainer.config.steps}; the generator is {trainer.run.model}")


def _trainer(
    out: Path,
    data: Path | str | None,
    labels: str | tuple[str, ...] | None,
    only: str | None,
    preset: str | None,
    overrides: list[str],
    resume: bool,
    init: str | None,
    device: str,
) -> Trainer:
    """The trainer of a new run, or of one to go on with, whose inputs are found and checked."""
    from cgan.data import open_images
    from cgan.io import available_generators, load_generator
    from fader.train.inputs import check_data, check_same, find_data, place
    from fader.train.run import RunFolder

    run = RunFolder(out, samples="snapshots")
    resume = resume and run.config.exists()  # killed before it began: begin
    inputs: dict[str, Any] = {}
    named, packaged = data is not None, ("default", *available_generators())
    if resume:
        config, inputs = _resumed(run, overrides)
        own = {"label_names": config.label_names, "label_kind": config.label_kind}
        if preset and config != _new(preset, overrides, own):
            raise click.UsageError("--resume goes on with the run's own settings, not a --preset")
        if labels or only:
            _check_labels(run, inputs, None if only else labels, only)
        check_same(run, inputs, packaged, init=init)
        data, labels, only = find_data(run, inputs, data), inputs.get("labels"), inputs.get("only")
        init = init or inputs.get("init")
    elif data is None:
        raise FaderError(f"{out}: holds no run to resume")
    elif run.config.exists():
        run.start({})  # says so, before the images are read
    else:
        config = _new(preset, overrides, {})
    assert data is not None
    labels = "folder" if only else labels or "none"
    images = open_images(data, config.size, config.channels, labels)
    images = images.only(only) if only else images
    if not resume:
        known = {"label_names": images.label_names, "label_kind": images.label_kind}
        config = _new(preset, overrides, known)
    run.started_on = {
        "data": place(data),
        "data_checksum": check_data(run, inputs, data, images, given=named),
        "labels": None if only else _plain(labels),
        "only": only,
        "init": place(init, packaged),
    }
    return _kind(config)(
        config,
        images,
        run,
        device=resolve_device(device),
        initial=load_generator(init) if init and not run.list_checkpoints() else None,
        resume=resume,
        warn=_warn,
    )


def _kind(config: GanConfig) -> type[Trainer]:
    from cgan.gan import GanTrainer
    from cgan.vae import VaeTrainer

    return VaeTrainer if config.model == "cvae" else GanTrainer


def _default_out(
    data: Path | str | None, labels: str | tuple[str, ...] | None, only: str | None
) -> Path:
    parts = [Path(data).stem if data else "", only or (labels if isinstance(labels, str) else None)]
    parts += labels if isinstance(labels, tuple) else ()
    return Path("runs") / "-".join(["cgan", *(part for part in parts if part and part != "none")])


def _plain(labels: str | tuple[str, ...] | None) -> str | list[str] | None:
    return list(labels) if isinstance(labels, tuple) else labels


def _new(preset: str | None, overrides: list[str], named: dict[str, Any]) -> GanConfig:
    from cgan.config import GanConfig, apply_overrides, load_preset

    with usage():
        if preset is None:
            model = apply_overrides(load_preset("default"), overrides).get("model")
            preset = "cvae" if model == "cvae" else "default"
        return GanConfig.from_dict(apply_overrides(load_preset(preset), overrides) | named)


def _resumed(run: RunFolder, overrides: list[str]) -> tuple[GanConfig, dict[str, Any]]:
    """The run's own settings (some changed, such as steps), and what it was started on."""
    from cgan.config import GanConfig, apply_overrides
    from fader.train.inputs import read_inputs

    saved = run.read_config()
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


def _check_labels(
    run: RunFolder,
    inputs: dict[str, Any],
    labels: str | tuple[str, ...] | None,
    only: str | None,
) -> None:
    began = {"labels": inputs.get("labels"), "only": inputs.get("only")}
    if began != {"labels": _plain(labels), "only": only}:
        words = [
            f"--{name} {value if isinstance(value, str) else ','.join(value)}"
            for name, value in began.items()
            if value
        ]
        raise FaderError(
            f"{run.path}: was started with {' '.join(words) or '--labels none'}; leave the labels "
            "out to go on, or start another run"
        )


def _tell_about(images: ImageSet, run: RunFolder) -> None:
    """How many images there are, and which files are not among them."""
    if images.rejected:
        path = run.path / "rejected.csv"
        with (
            atomic_path(path) as temporary,
            open(temporary, "w", newline="", encoding="utf-8", errors="backslashreplace") as file,
        ):
            rows = [("image", "reason"), *images.rejected]
            csv.writer(file).writerows(map(harmless_cell, row) for row in rows)
        for name, reason in images.rejected[:3]:
            say(f"left out: {name}: {reason}", err=True)
        say(f"{len(images.rejected)} files left out; {path} lists them", err=True)
    say(f"{len(images.indices(0))} images to learn from", err=True)
    for note in images.notes:
        say(f"warning: {note}", err=True)


def _warn(sentence: str) -> None:
    from tqdm import tqdm

    with tqdm.external_write_mode():
        say(f"warning: {sentence}", err=True)
