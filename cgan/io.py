"""Generators as folders (``config.json`` and ``model.safetensors``; never a pickle), and as they
were on the way: a run's checkpoints."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cgan import DEFAULT_MODEL
from cgan.config import GanConfig
from cgan.networks import Generator, make_generator
from fader._version import __version__
from fader.documents import read_json
from fader.errors import FaderError
from fader.files import write_text
from fader.models.folders import CONFIG, WEIGHTS, model_folder, read_config
from fader.models.model import save_weights
from fader.models.schema import read_settings
from fader.models.weights import load_weights, make_network
from fader.train.ema import recalibrate
from fader.train.run import RunFolder, read_checkpoint

FORMAT = 1
#: Generators that come in the package, by name.
WEIGHTS_FOLDER = Path(__file__).parent / "weights"
# Batches over which an averaged generator's normalisation is measured, and images in each.
_BATCHES, _BATCH = 4, 64


def save_generator(
    generator: Generator,
    folder: str | os.PathLike[str],
    notes: dict[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write ``generator`` into ``folder``, each file atomically; ``dtype`` is of the weights,
    ``notes`` say how it was trained. ``config.json`` comes last: a folder with one is whole."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(generator, folder / WEIGHTS, dtype)
    config = {"format": FORMAT, "fader": __version__, "generator": generator.config.to_dict()}
    config["training"] = notes or {}
    write_text(folder / CONFIG, json.dumps(config, indent=2) + "\n")


def load_generator(
    name: str | os.PathLike[str] = DEFAULT_MODEL, device: str | torch.device = "cpu"
) -> Generator:
    """A generator by name (:func:`available_generators`) or folder, in evaluation mode; a run's
    folder stands for its ``model``.

    Raises :class:`FaderError` when there is no such generator or its files do not fit.
    """
    folder, config = find_generator(name), load_config(name)
    generator = make_network(lambda: make_generator(config), folder / WEIGHTS)
    load_weights(generator, folder / WEIGHTS)
    generator.eval().requires_grad_(False)
    return generator.to(device).to(memory_format=torch.channels_last)


def load_config(name: str | os.PathLike[str] = DEFAULT_MODEL) -> GanConfig:
    """A generator's settings; see :func:`load_generator`."""
    folder = find_generator(name)
    return read_settings(GanConfig, generator_config(folder)["generator"], folder / CONFIG)


def available_generators() -> tuple[str, ...]:
    """Names of the generators that come in the package."""
    return tuple(sorted(path.parent.name for path in WEIGHTS_FOLDER.glob(f"*/{CONFIG}")))


def generator_config(folder: Path) -> dict[str, Any]:
    """The content of a generator's ``config.json``: ``generator``, ``training``."""
    return read_config(folder, "generator", "generator of cgan train")


def training_notes(name: str | os.PathLike[str]) -> dict[str, Any]:
    """How a generator was trained; see :func:`load_generator`."""
    return generator_config(find_generator(name)).get("training") or {}


def find_generator(name: str | os.PathLike[str] = DEFAULT_MODEL) -> Path:
    """The folder of a generator; see :func:`load_generator`."""
    text, names = os.fspath(name), available_generators()
    wanted = DEFAULT_MODEL if text == "default" else text
    if wanted in names:
        return WEIGHTS_FOLDER / wanted
    if wanted == DEFAULT_MODEL:
        raise FaderError(
            "this installation has no packaged generator; train one with cgan train --data FOLDER "
            "and name it with --model RUN"
        )
    if Path(text).is_dir():
        return model_folder(Path(text))
    known = f"a name ({', '.join(names)}) or " if names else ""
    raise FaderError(f"{text}: no such generator; give {known}the folder of a run of cgan train")


@dataclass(frozen=True)
class Stage:
    """A generator of a run: after ``step`` steps, from its checkpoint, or what it has as its
    ``model`` (``checkpoint`` is None)."""

    name: str
    folder: Path
    checkpoint: Path | None = None

    def load(self, device: str | torch.device = "cpu") -> Generator:
        """The generator in evaluation mode; raises :class:`FaderError`."""
        if self.checkpoint is None:
            return load_generator(self.folder, device)
        generator = _from_checkpoint(self.checkpoint, self.config()).to(device)
        return generator.to(memory_format=torch.channels_last)

    def config(self) -> GanConfig:
        """Its settings; raises :class:`FaderError`."""
        if self.checkpoint is None:
            return load_config(self.folder)
        path = self.folder / CONFIG
        return read_settings(GanConfig, read_json(path), path)


def stages(folder: Path) -> list[Stage]:
    """The generators of a run, or of all runs (and saved generators) in a folder, by name; what is
    none is passed over."""
    found = []
    for run in [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]:
        paths = RunFolder(run).list_checkpoints()
        steps = [
            (f"{run.name}, step {int(path.stem.removeprefix('step-'))}", path) for path in paths
        ]
        for name, path in [(run.name, None), *steps]:
            stage = Stage(name, run, path)
            try:
                stage.config()
            except (FaderError, OSError, KeyError, TypeError):
                continue
            found.append(stage)
    return found


def _from_checkpoint(path: Path, config: GanConfig) -> Generator:
    generator = make_generator(config)
    try:
        state = read_checkpoint(path, torch.device("cpu"))
        own = state["nets"]["generator"]
        if config.ema_decay:
            inside = "module."
            own = {k.removeprefix(inside): v for k, v in state["ema"].items() if inside in k}
        generator.load_state_dict(own)
        generator.grow_to(state["step"])
    except FaderError:
        raise
    except Exception as error:  # damaged pickles are answered with any exception there is
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FaderError(f"{path}: not a checkpoint of this run ({reason})") from None
    seeds = range(_BATCHES)
    recalibrate(
        generator,
        [(generator.latents(_BATCH, s), generator.random_labels(_BATCH, s)) for s in seeds],
    )
    return generator.eval().requires_grad_(False)
