"""A run's settings: presets as data, defaults in one place, every value open to override."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from fader.errors import FaderError
from fader.models.autoencoder import AutoencoderConfig
from fader.models.copies import MOST_COPIES
from fader.models.discriminators import LATENT_DISCRIMINATORS
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

    model: the network. steps: all optimisation steps; the first ``pretrain_steps`` of them with
    λ = 0, the next ``ramp_steps`` with λ rising to ``lambda_max``, the last ``decay_steps`` with
    a falling learning rate. The last ``erase_steps`` (but none before λ is at its maximum) have the
    encoder frozen, what is linear of the attributes erased from its code in closed form
    (``model.erase``, see :class:`fader.models.erasure.Erasure`), and the decoder trained on.
    structure_weight scales 1 − SSIM of the reconstruction, from the first step. classifier_weight,
    patch_weight, recognition_weight and change_weight scale the optional terms (asked attributes
    seen by a fixed classifier, patches real, asked attributes seen by the image discriminator,
    change small), computed on the decodings of ``changed_fraction`` of each batch with other
    attributes, and rise together with λ: one flipped or, for ``shuffled_fraction`` of them, all
    those of another face; moved by chance up to ``longest_move`` times as far as that.
    copies: in how many of the copies of :mod:`fader.models.copies`, drawn by chance, images are
    decoded; what is looked at is their mean, as in a finished model that decodes in copies.
    unconvinced_weight: how much the image discriminator learns that a changed decoding still has
    the face's own attributes, so that painting what only goes with one does not pay.
    gradient_penalty: weight of the image discriminator's R1 term. image_learning_rate: its learning
    rate, in parts of ``learning_rate`` (two time scales, Heusel et al. 2017, arXiv 1706.08500).
    image_discriminator: ``fresh``, or the ``classifier``'s copy, which learns on (see
    :class:`fader.models.discriminators.PretrainedDiscriminator`).
    discriminator: what reads the latent: ``convolutions`` (the paper's) or ``perceptron`` (learns
    in fewer steps what is in it, see :mod:`fader.models.discriminators`).
    adversarial_target: what the encoder wants it to guess: the ``opposite`` of the truth (the
    paper's eq. 2) or the ``prior``, each attribute's share among the images drawn, whatever the
    face (domain confusion, Tzeng et al. 2015, arXiv 1510.02192): an encoder that is done hiding
    is then left in peace.
    gradient_clip: a network's gradient is scaled down to at most this many times its usual norm (0:
    never), so that no single batch throws a discriminator off.
    balance: see :class:`fader.data.batches.Batches`.
    rotation, zoom, shift, colour: see :class:`fader.data.batches.Augmentation`. mixed_precision:
    ``auto`` is bf16 or fp16 where the device is fast at it.
    """

    model: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    batch_size: int = 32
    steps: int = 1_000_000
    pretrain_steps: int = 0
    ramp_steps: int = 500_000
    decay_steps: int = 0
    erase_steps: int = 0
    lambda_max: float = 1e-4
    structure_weight: float = 0.0
    classifier_weight: float = 0.0
    patch_weight: float = 0.0
    recognition_weight: float = 0.0
    unconvinced_weight: float = 0.0
    change_weight: float = 0.0
    gradient_penalty: float = 0.0
    changed_fraction: float = 0.5
    shuffled_fraction: float = 0.0
    longest_move: float = 1.0
    copies: int = 1
    discriminator: str = "convolutions"
    adversarial_target: str = "opposite"
    learning_rate: float = 2e-3
    image_discriminator: str = "fresh"
    image_learning_rate: float = 1.0
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
    seed: int = 0
    mixed_precision: str = "auto"
    log_every: int = 10
    sample_every: int = 500
    validate_every: int = 500
    validation_images: int = 256
    checkpoint_minutes: float = 10.0
    keep_checkpoints: int = 2

    def changed_images(self, n: int) -> int:
        """How many of a batch of n are also decoded with an attribute flipped."""
        return max(1, round(self.changed_fraction * n))

    def __post_init__(self) -> None:
        if self.mixed_precision not in ("auto", "no", "bf16", "fp16"):
            raise FaderError(
                f"mixed_precision={self.mixed_precision}: must be auto, no, bf16 or fp16"
            )
        if self.discriminator not in LATENT_DISCRIMINATORS:
            raise FaderError(
                f"discriminator={self.discriminator}: must be {' or '.join(LATENT_DISCRIMINATORS)}"
            )
        if self.image_discriminator not in ("fresh", "classifier"):
            raise FaderError(
                f"image_discriminator={self.image_discriminator}: must be fresh or classifier"
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
        if bool(self.erase_steps) != self.model.erase:
            object.__setattr__(
                self, "model", dataclasses.replace(self.model, erase=bool(self.erase_steps))
            )
        if self.longest_move < 1:
            raise FaderError(f"longest_move={self.longest_move}: must be at least 1")
        if not 1 <= self.copies <= MOST_COPIES:
            raise FaderError(f"copies={self.copies}: must be from 1 to {MOST_COPIES}")
        if not 0 < self.changed_fraction <= 1:
            raise FaderError(f"changed_fraction={self.changed_fraction}: must be in (0, 1]")

    @property
    def erase_from(self) -> int | None:
        """The step at which the last stage begins; never before λ is at its maximum."""
        if not self.erase_steps:
            return None
        return max(self.steps - self.erase_steps, self.pretrain_steps + self.ramp_steps)

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
