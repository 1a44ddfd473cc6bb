"""A training so small that a test can afford it."""

from __future__ import annotations

from fader.train.config import TrainConfig, apply_overrides, load_preset

ATTRIBUTES = ("Male", "Eyeglasses")
SMALL = [
    "steps=12",
    "pretrain_steps=4",
    "ramp_steps=4",
    "decay_steps=0",
    "batch_size=8",
    "log_every=1",
    "validate_every=6",
    "mixed_precision=no",
    "model.size=32",
    "model.layers=3",
    "model.width=8",
    "model.max_width=16",
]


def small_config(*overrides: str) -> TrainConfig:
    values = apply_overrides(load_preset("tiny"), [*SMALL, *overrides])
    values["model"]["attributes"] = ATTRIBUTES
    return TrainConfig.from_dict(values)
