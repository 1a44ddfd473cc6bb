"""Generators as they were on the way: a run's checkpoints, named by how long it had trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from cgan.config import GanConfig
from cgan.io import CONFIG, generator_config, load_generator
from cgan.networks import Generator, make_generator
from fader.documents import check_regular, read_json
from fader.errors import FaderError
from fader.models.schema import read_settings
from fader.train.ema import recalibrate
from fader.train.run import RunFolder

# Batches over which an averaged generator's normalisation is measured, and images in each.
_BATCHES, _BATCH = 4, 64


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
        generator = _from_checkpoint(self.folder, self.checkpoint).to(device)
        return generator.to(memory_format=torch.channels_last)

    def config(self) -> GanConfig:
        """Its settings; raises :class:`FaderError`."""
        if self.checkpoint is None:
            folder = self.folder / "model" if (self.folder / "model").is_dir() else self.folder
            return read_settings(GanConfig, generator_config(folder)["generator"], folder / CONFIG)
        path = self.folder / CONFIG
        return read_settings(GanConfig, read_json(path), path)


def stages(folder: Path) -> list[Stage]:
    """The generators of a run, or of all runs (and saved generators) in a folder, by name.

    What is none is passed over.
    """
    found = []
    for run in [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]:
        one = [Stage(run.name, run)]
        for path in RunFolder(run).list_checkpoints():
            step = int(path.stem.removeprefix("step-"))
            one.append(Stage(f"{run.name}, step {step}", run, path))
        for stage in one:
            try:
                stage.config()
            except (FaderError, OSError, KeyError, TypeError):
                continue
            found.append(stage)
    return found


def _from_checkpoint(run: Path, path: Path) -> Generator:
    settings = run / CONFIG
    config = read_settings(GanConfig, read_json(settings), settings)
    generator = make_generator(config)
    try:
        check_regular(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
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
    inputs = [
        (generator.latents(_BATCH, seed), generator.random_labels(_BATCH, seed))
        for seed in range(_BATCHES)
    ]
    recalibrate(generator, inputs)
    return generator.eval().requires_grad_(False)
