"""A run's settings: presets as data, defaults in one place, every value open to override."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from fader.errors import FaderError
from fader.models.config import AutoencoderConfig
from fader.train.settings import (
    check_names,
    parse_value,
    preset_names,
    read_preset,
    split_override,
)


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run, but for the data.

    model: the network, and with its kind the objective. batch_size, seed, mixed_precision (``auto``
    is bf16 or fp16 where the device is fast at it).

    Stages: steps is all optimisation steps; in the first ``pretrain_steps`` λ is 0 and the
    autoencoder only reconstructs, over the next ``ramp_steps`` λ (and, with a mask, its weight)
    rises to its maximum, and over the last ``decay_steps`` the learning rate falls.

    Objective of both kinds: lambda_max is the weight λ_E of the latent term, and adversarial_target
    what the encoder wants the latent discriminator to guess: the ``opposite`` of the truth (the
    paper's eq. 2) or the ``prior``, each attribute's share among the images drawn, whatever the
    face (domain confusion, Tzeng et al. 2015, arXiv 1510.02192).

    Objective of the kind ``difference``: lambda_rec, lambda_adv, lambda_cls and lambda_mask weigh
    the reconstruction where nothing is to change, the image discriminator's verdict, its attribute
    head's, and the mask's size. unchanged is the share of each batch with nothing to change,
    shuffled that of the edits which ask for all values of another face, longest how many times as
    far as to the other side edits go. r1_gamma weighs the discriminator's gradient penalty.

    Optimiser: Adam with learning_rate and adam_beta1, adam_beta2; the image discriminator's rate is
    discriminator_rate times that (two time scales, Heusel et al. 2017, arXiv 1706.08500).
    gradient_clip: a network's gradient is scaled down to at most this many times its usual norm (0:
    never), so that no single batch throws a discriminator off. ema_decay: of the averaged weights,
    which are what is validated and saved.

    Data: balance, see :class:`fader.data.batches.Batches`; flip, rotation, zoom, shift and colour,
    see :class:`fader.data.batches.Augmentation`.
    """

    model: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    batch_size: int = 32
    seed: int = 0
    mixed_precision: str = "auto"
    steps: int = 1_000_000
    pretrain_steps: int = 0
    ramp_steps: int = 500_000
    decay_steps: int = 0
    lambda_max: float = 1e-4
    adversarial_target: str = "opposite"
    lambda_rec: float = 10.0
    lambda_adv: float = 0.5
    lambda_cls: float = 2.0
    lambda_mask: float = 0.2
    unchanged: float = 0.2
    shuffled: float = 0.3
    longest: float = 1.5
    r1_gamma: float = 0.1
    learning_rate: float = 2e-3
    discriminator_rate: float = 3.0
    adam_beta1: float = 0.5
    adam_beta2: float = 0.999
    gradient_clip: float = 0.0
    ema_decay: float = 0.999
    balance: float = 0.0
    flip: bool = True
    rotation: float = 0.0
    zoom: float = 0.0
    shift: float = 0.0
    colour: float = 0.0
    log_every: int = 10
    sample_every: int = 500
    validate_every: int = 500
    validation_images: int = 256
    checkpoint_minutes: float = 10.0
    keep_checkpoints: int = 2

    def __post_init__(self) -> None:
        if self.mixed_precision not in ("auto", "no", "bf16", "fp16"):
            raise FaderError(
                f"mixed_precision={self.mixed_precision}: must be auto, no, bf16 or fp16"
            )
        if self.adversarial_target not in ("opposite", "prior"):
            raise FaderError(
                f"adversarial_target={self.adversarial_target}: must be opposite or prior"
            )
        for name in ("batch_size", "steps", "log_every", "sample_every",
                     "validate_every", "validation_images", "keep_checkpoints"):  # fmt: skip
            if getattr(self, name) < 1:
                raise FaderError(f"{name}={getattr(self, name)}: must be at least 1")
        if self.batch_size < 2:
            raise FaderError("batch_size=1: batch normalisation needs at least 2 images")
        if self.longest < 1:
            raise FaderError(f"longest={self.longest}: must be at least 1")
        for name in ("unchanged", "shuffled"):
            if not 0 <= getattr(self, name) < 1:
                raise FaderError(f"{name}={getattr(self, name)}: must be at least 0 and below 1")

    @property
    def edited_images(self) -> int:
        """How many of a batch are edited; the others are asked to stay as they are."""
        return self.batch_size - max(1, round(self.unchanged * self.batch_size))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON and for :meth:`from_dict`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainConfig:
        """The inverse of :meth:`to_dict`; missing values take their defaults."""
        values = dict(values)
        check_names(values, cls)
        model = values.pop("model", {})
        check_names(model, AutoencoderConfig, "model.")
        return cls(model=AutoencoderConfig(**model), **values)


def presets() -> tuple[str, ...]:
    """Names of the presets in the package."""
    return preset_names("fader.train")


def load_preset(name: str) -> dict[str, Any]:
    """A preset's values, as :meth:`TrainConfig.from_dict` takes them."""
    return read_preset("fader.train", name)


def apply_overrides(values: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """``values`` with ``"lambda_max=0.01"`` or ``"model.layers=6"`` put in, types checked.

    Raises :class:`FaderError` for a name that is no setting (with the nearest one) or a value of
    the wrong kind.
    """
    values = {**values, "model": dict(values.get("model", {}))}
    for override in overrides:
        name, text = split_override(override)
        in_model = name.startswith("model.")
        owner = AutoencoderConfig if in_model else TrainConfig
        key = name.removeprefix("model.")
        check_names([key], owner, "model." if in_model else "")
        if key in ("model", "attributes"):
            raise FaderError(f"{name} cannot be set this way; use --attrs or model.KEY=VALUE")
        (values["model"] if in_model else values)[key] = parse_value(
            name, text, getattr(owner(), key)
        )
    return values
