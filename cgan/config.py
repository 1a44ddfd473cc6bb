"""A generator's settings: presets as data, defaults in one place, every value open to override."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fader.errors import FaderError
from fader.models.schema import check_name, check_settings
from fader.train.settings import (
    check_names,
    parse_value,
    preset_names,
    read_preset,
    split_override,
)

SIZES = (28, 32, 48, 64, 96, 128)
#: Networks that grow begin at this side, or at the next larger one that doubles to their size.
GROWN_FROM = 32
DIFFAUGMENT = ("color", "translation", "cutout")
_CHOICES = {
    "model": ("cgan", "cvae"),
    "size": SIZES,
    "channels": (1, 3),
    "label_kind": ("none", "attributes", "classes"),
    "upsampling": ("nearest", "deconvolution"),
    "conditioning": ("cbn", "concat"),
    "critic": ("projection", "concat", "auxiliary", "both"),
    "critic_norm": ("spectral", "batch", "none"),
    "loss": ("hinge", "nonsaturating", "minimax"),
    "mixed_precision": ("auto", "no", "bf16", "fp16"),
}


@dataclass(frozen=True)
class GanConfig:
    """Everything that decides a generator and its training, but for the images.

    model: ``cgan`` is trained against a discriminator, ``cvae`` with an encoder: a conditional
    variational autoencoder (Sohn et al. 2015).
    size, channels: of the images. label_names, label_kind: what a face can be asked to be;
    ``attributes`` are values 0..1 each for itself, ``classes`` exclude each other.
    latent: length of the random vector. width: channels of the generator's largest maps; each
    halving of the side doubles them, up to max_width. critic_width: of the discriminator's, or of
    the encoder's.

    upsampling: ``nearest`` (with a convolution) or ``deconvolution``. residual: a second
    convolution and a shortcut in each of the generator's blocks. conditioning: labels enter the
    generator by conditional batch normalisation (``cbn``) or beside the latent (``concat``).
    self_modulation: the latent decides gains and shifts of all its layers as well (Chen et al.
    2019, arXiv 1810.01365).
    critic: labels enter the discriminator by ``projection`` (Miyato & Koyama 2018), as constant
    planes beside the image (``concat``), as something it has to tell (``auxiliary``, Odena et al.
    2017, weighed by auxiliary_weight), or by projection and told (``both``). critic_norm:
    ``spectral`` (Miyato et al. 2018), ``batch`` or ``none``. batch_deviation: the discriminator
    sees how much a batch varies (Karras et al. 2018, §3).

    growth: the side doubles after so many steps each, from 32 pixels (or the next that doubles to
    ``size``) up to ``size`` (Karras et al. 2018, arXiv 1710.10196); 0 begins with ``size``, and so
    does ``grown``, in networks as they are when they have grown.
    critic_warmup_steps: for so many steps the discriminator learns alone, to catch up with a
    generator that draws such images already.

    loss: see :mod:`cgan.losses`. r1_weight: γ of the penalty on real images' gradients (Mescheder
    et al. 2018), every r1_interval steps; 0 is off. diffaugment: of color, translation and cutout
    those wanted, separated by commas, ``none``, or ``auto``: all for sets of fewer than
    :data:`cgan.augment.SMALL_SET` images, none for larger ones. augment_target: above 0 only a
    share of the images is augmented, which rises while the mean sign of the discriminator's logits
    of training images is above it (ADA, Karras et al. 2020, arXiv 2006.06676: 0.6); ``auto`` is
    all then. kl_warmup_steps: over so many
    first steps the weight of a cVAE's KL divergence rises to 1. correlation_weight: against its
    latents' correlation with the labels. soften: so much of each attribute's label, below 0.5,
    is the probability that the packaged classifier gives (:mod:`cgan.soften`). flip: mirror half
    of the images.
    balance: see :class:`fader.data.batches.Batches`; it applies to the asked labels as well.

    ema_decay: of the averaged generator, which is what is shown and kept; 0 keeps the last.
    learning_rate is the generator's. decay_steps: how many of the last steps have a falling
    learning rate. snapshot_every: steps between snapshots, each with a backup. mixed_precision:
    ``auto`` is bf16 or fp16 where the device is fast at it.
    """

    model: str = "cgan"
    size: int = 64
    channels: int = 3
    label_names: tuple[str, ...] = ()
    label_kind: str = "none"
    latent: int = 128
    width: int = 32
    max_width: int = 256
    critic_width: int = 32
    critic_max_width: int = 256
    upsampling: str = "nearest"
    residual: bool = False
    conditioning: str = "cbn"
    self_modulation: bool = False
    critic: str = "projection"
    critic_norm: str = "spectral"
    batch_deviation: bool = True
    growth: int = 0
    grown: bool = False
    critic_warmup_steps: int = 0
    loss: str = "hinge"
    auxiliary_weight: float = 0.5
    r1_weight: float = 0.0
    r1_interval: int = 16
    diffaugment: str = "auto"
    augment_target: float = 0.0
    kl_warmup_steps: int = 1000
    correlation_weight: float = 0.0
    soften: float = 0.0
    flip: bool = True
    balance: float = 0.5
    ema_decay: float = 0.999
    batch_size: int = 64
    learning_rate: float = 2e-4
    critic_learning_rate: float = 4e-4
    adam_beta1: float = 0.0
    adam_beta2: float = 0.99
    steps: int = 10_000
    decay_steps: int = 0
    snapshot_every: int = 50
    log_every: int = 10
    keep_backups: int = 2
    seed: int = 0
    mixed_precision: str = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "label_names", tuple(self.label_names))
        for name in self.label_names:
            if wrong := check_name(name):
                raise FaderError(f"label {name!r}: must be {wrong}")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise FaderError(
                    f"{name}={getattr(self, name)}: must be one of {', '.join(map(str, choices))}"
                )
        if bool(self.label_names) != (self.label_kind != "none"):
            raise FaderError(f"label_kind={self.label_kind} does not fit {self.label_names!r}")
        self._check_numbers()
        self._check_growth()
        parts = self.diffaugment.split(",")
        if self.diffaugment not in ("auto", "none") and not set(parts) <= set(DIFFAUGMENT):
            raise FaderError(
                f"diffaugment={self.diffaugment}: must be auto, none, or of "
                f"{','.join(DIFFAUGMENT)} those wanted"
            )

    def _check_numbers(self) -> None:
        for name in ("latent", "width", "critic_width", "steps", "r1_interval", "snapshot_every",
                     "log_every", "keep_backups", "kl_warmup_steps"):  # fmt: skip
            if getattr(self, name) < 1:
                raise FaderError(f"{name}={getattr(self, name)}: must be at least 1")
        for name in ("growth", "critic_warmup_steps"):
            if getattr(self, name) < 0:
                raise FaderError(f"{name}={getattr(self, name)}: must be 0 or more steps")
        if self.critic_warmup_steps >= self.steps:
            raise FaderError(
                f"critic_warmup_steps={self.critic_warmup_steps}: leaves the generator none of "
                f"{self.steps} steps"
            )
        if self.batch_size < 2:
            raise FaderError("batch_size=1: batch normalisation needs at least 2 images")
        if not 0 <= self.augment_target < 1:
            raise FaderError(f"augment_target={self.augment_target}: must be in [0, 1)")
        if not 0 <= self.soften < 0.5:
            raise FaderError(f"soften={self.soften}: must be in [0, 0.5)")
        if not 0 <= self.ema_decay < 1:
            raise FaderError(f"ema_decay={self.ema_decay}: must be in [0, 1)")

    def _check_growth(self) -> None:
        if not self.growth:
            return
        if self.model != "cgan" or self.critic_norm == "batch":
            raise FaderError(
                f"growth={self.growth}: needs model=cgan and a critic_norm of none or spectral"
            )
        if not self.doublings:
            raise FaderError(f"growth={self.growth}: size={self.size} is too small to grow to")
        if self.level_at(self.steps) < self.doublings:
            needed = -(-self.growth * (2 * self.doublings + 1) // 2)
            raise FaderError(
                f"steps={self.steps}: too few, since growth={self.growth} reaches {self.size} "
                f"pixels after {needed}; give more steps or a smaller growth"
            )

    @property
    def base(self) -> int:
        """Side of the generator's first maps, 4 to 7."""
        side = self.size
        while side >= 8:
            side //= 2
        return side

    @property
    def blocks(self) -> int:
        """How often the generator doubles the side."""
        return (self.size // self.base).bit_length() - 1

    @property
    def doublings(self) -> int:
        """How often the side doubles while the networks grow."""
        return max(0, (self.size // GROWN_FROM).bit_length() - 1) if self.growth else 0

    def level_at(self, step: int) -> float:
        """How many of the doublings are done at a step: 1.5 is one, and half of the next.

        Half of the steps of a side bring its new layers in, the other half have them whole.
        """
        if not self.growth:
            return 0.0
        if self.grown:
            return float(self.doublings)
        done, rest = divmod(max(0, step - self.growth), self.growth)
        level = done + min(1.0, 2 * rest / self.growth)
        return min(level, float(self.doublings))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON and for :meth:`from_dict`."""
        return {**dataclasses.asdict(self), "label_names": list(self.label_names)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> GanConfig:
        """The inverse of :meth:`to_dict`; missing values take their defaults."""
        check_names(values, cls)
        check_settings(cls, values, "settings")
        return cls(**values)


def presets() -> tuple[str, ...]:
    """Names of the presets in the package."""
    return preset_names("cgan")


def load_preset(name: str) -> dict[str, Any]:
    """A preset's values, as :meth:`GanConfig.from_dict` takes them."""
    return read_preset("cgan", name)


def apply_overrides(values: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """``values`` with ``"loss=hinge"`` and the like put in, names and kinds checked."""
    values = dict(values)
    for override in overrides:
        name, text = split_override(override)
        check_names([name], GanConfig)
        if name in ("label_names", "label_kind"):
            raise FaderError(f"{name} cannot be set this way; use --labels")
        values[name] = parse_value(name, text, getattr(GanConfig(), name))
    return values
