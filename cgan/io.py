"""Generators as folders: ``config.json`` and ``model.safetensors``; never a pickle."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch

from cgan import DEFAULT_MODEL
from cgan.config import GanConfig
from cgan.networks import Generator, make_generator
from fader._version import __version__
from fader.errors import FaderError
from fader.files import write_text
from fader.models.folders import model_folder, read_config
from fader.models.model import save_weights
from fader.models.schema import read_settings
from fader.models.weights import load_weights, make_network

FORMAT = 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"
#: Generators that come in the package, by name.
WEIGHTS_FOLDER = Path(__file__).parent / "weights"


def save_generator(
    generator: Generator,
    folder: str | os.PathLike[str],
    notes: dict[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write ``generator`` into ``folder``, each file atomically; ``dtype`` is of the weights.

    ``notes`` say how it was trained. ``config.json`` comes last: a folder with one is whole.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(generator, folder / WEIGHTS, dtype)
    config = {
        "format": FORMAT,
        "fader": __version__,
        "generator": generator.config.to_dict(),
        "training": notes or {},
    }
    write_text(folder / CONFIG, json.dumps(config, indent=2) + "\n")


def load_generator(
    name: str | os.PathLike[str] = DEFAULT_MODEL, device: str | torch.device = "cpu"
) -> Generator:
    """A generator by name (:func:`available_generators`) or folder, in evaluation mode; a run's
    folder stands for its ``model``.

    Raises :class:`FaderError` when there is no such generator or its files do not fit.
    """
    folder = find_generator(name)
    values = generator_config(folder)["generator"]
    config = read_settings(GanConfig, values, folder / CONFIG)
    generator = make_network(lambda: make_generator(config), folder / WEIGHTS)
    load_weights(generator, folder / WEIGHTS)
    generator.eval().requires_grad_(False)
    return generator.to(device).to(memory_format=torch.channels_last)


def available_generators() -> tuple[str, ...]:
    """Names of the generators that come in the package."""
    return tuple(sorted(path.parent.name for path in WEIGHTS_FOLDER.glob(f"*/{CONFIG}")))


def generator_config(folder: Path) -> dict[str, Any]:
    """The content of a generator's ``config.json``: ``generator``, ``training``."""
    return read_config(folder, "generator", "generator of cgan train")


def find_generator(name: str | os.PathLike[str] = DEFAULT_MODEL) -> Path:
    """The folder of a generator; see :func:`load_generator`."""
    text = os.fspath(name)
    names = available_generators()
    wanted = DEFAULT_MODEL if text == "default" else text
    if wanted in names:
        return WEIGHTS_FOLDER / wanted
    if wanted == DEFAULT_MODEL:
        raise FaderError(
            "this installation has no packaged generator; train one with cgan train --data FOLDER "
            "and name it with --model RUN"
        )
    path = Path(text)
    if path.is_dir():
        return model_folder(path)
    known = f"a name ({', '.join(names)}) or " if names else ""
    raise FaderError(f"{text}: no such generator; give {known}the folder of a run of cgan train")
