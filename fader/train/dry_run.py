"""What a run would be: its settings, data, networks and cost, before it is begun."""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict
from typing import Any

import torch
from tqdm import tqdm

from fader.data.annotations import SPLIT_NAMES, TRAIN
from fader.data.store import PreparedStore
from fader.train.config import TrainConfig
from fader.train.trainer import R1_EVERY, Trainer
from fader.words import plural

#: Steps that are timed, after as many that are not; the dear ones in between count by their share.
TIMED = 4


def describe_run(
    config: TrainConfig, store: PreparedStore, device: torch.device, compiled: bool = False
) -> dict[str, Any]:
    """``settings``, ``data`` (images of each split, and the share of each attribute among the
    training images), ``parameters`` of each network, and a ``cost`` from a few timed steps with
    every term. Leaves nothing behind."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(config, store, folder, device=device, progress=False, compiled=compiled)
        rate = _images_per_second(trainer)
        trainer.run.release()
    attributes, nets = config.model.attributes, trainer.nets.items()
    shares = store.select_labels(attributes)[store.indices(TRAIN)].T
    return {
        "settings": asdict(config),
        "data": {
            "images": {name: len(store.indices(i)) for i, name in enumerate(SPLIT_NAMES)},
            "share": {
                name: round(float(column.mean()), 3)
                for name, column in zip(attributes, shares, strict=True)
            },
        },
        "parameters": {name: sum(p.numel() for p in net.parameters()) for name, net in nets},
        "cost": {
            "device": str(device),
            "precision": trainer.accelerator.mixed_precision,
            "images_per_second": round(rate, 1),
            "hours": round(config.steps * config.batch_size / rate / 3600, 2),
        },
    }


def as_text(found: dict[str, Any], config: TrainConfig) -> str:
    """The same, for people."""
    data, cost = found["data"], found["cost"]
    images = ", ".join(f"{n} {name}" for name, n in data["images"].items())
    shares = ", ".join(f"{name} {share:.1%}" for name, share in data["share"].items())
    counts = found["parameters"].items()
    sizes = "\n".join(f"  {name}: {n / 1e6:.2f} million" for name, n in counts)
    hours = tqdm.format_interval(round(cost["hours"] * 3600))
    steps = plural(config.steps, "step")
    return f"""{config.describe()}
data
  images: {images}
  share of the training images: {shares}
parameters
{sizes}
cost
  {cost["images_per_second"]} images/s ({cost["device"]}, {cost["precision"]} mixed precision), so \
about {hours} hours:minutes:seconds for {steps} of {config.batch_size} images"""


def _images_per_second(trainer: Trainer) -> float:
    """Of steps with every term; those with a gradient penalty come in their proportion."""
    trainer.done = trainer.config.pretrain_steps + 1
    batch = trainer.faces.batches.batch(0, trainer.share.rows)
    x, y = (part.to(trainer.accelerator.device) for part in batch)
    first = -(-trainer.done // R1_EVERY) * R1_EVERY  # the next step with a penalty

    def seconds(step: int) -> float:
        trainer.done, began = step, time.perf_counter()
        # Looking at a loss waits for the device.
        float(trainer.step(x, y)["reconstruction_loss"])
        return time.perf_counter() - began

    for step in (first, first + 1):  # to warm up
        seconds(step)
    dear = seconds(first)
    plain = sum(seconds(first + 1 + i) for i in range(TIMED)) / TIMED
    return len(y) / (plain + max(0.0, dear - plain) / R1_EVERY)
