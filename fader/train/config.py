"""A run's settings: presets as data, defaults in one place, every value open to override."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, get_args, get_origin, get_type_hints

from fader.errors import FaderError
from fader.models.config import AutoencoderConfig
from fader.train.settings import check_names, parse_value, preset_names, read_preset, split_override


def _setting(subject: str, default: Any, help: str) -> Any:
    return field(default=default, metadata={"subject": subject, "help": help})


_data = partial(_setting, "data")
_schedule = partial(_setting, "schedule")
_objective = partial(_setting, "objective")
_optimisation = partial(_setting, "optimisation")
_bookkeeping = partial(_setting, "bookkeeping")


@dataclass(frozen=True)
class Stage:
    """What is otherwise before a run's last stage: settings that hold until ``steps`` are done."""

    steps: int
    decay_steps: int | None = None
    lambda_rec: float | None = None
    lambda_max: float | None = None
    lambda_adv: float | None = None
    lambda_cls: float | None = None
    lambda_keep: float | None = None
    lambda_mask: float | None = None
    mask_binary: float | None = None
    logit_adjustment: float | None = None
    r1_gamma: float | None = None
    learning_rate: float | None = None

    def changes(self) -> dict[str, Any]:
        """The settings that it has, by name."""
        return {k: v for k, v in dataclasses.asdict(self).items() if v is not None}


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run, but for the data; the defaults are the paper's.

    ``model`` is the network, and with its kind the objective. Stages: in the first
    ``pretrain_steps`` λ is 0 and the autoencoder only reconstructs; over the next ``ramp_steps`` λ
    (and the weight of the mask) rises to its maximum; over the last ``decay_steps`` the learning
    rate falls. ``stages`` have some settings otherwise until the step each ends at; with them,
    :meth:`at` says what holds at a step. ``fader train --dry-run`` prints all settings with their
    help.
    """

    model: AutoencoderConfig = field(default_factory=AutoencoderConfig)

    batch_size: int = _data(32, "images of a step, of all processes together")
    balance: float = _data(0.0, "0: every face alike; 1: those with rare values far more often")
    augmentation: float = _data(
        0.0, "how far images are turned, zoomed, shifted and relit; 1 is usual, 0 only flips"
    )

    steps: int = _schedule(1_000_000, "optimisation steps in all")
    pretrain_steps: int = _schedule(0, "steps in which only reconstruction is learnt")
    ramp_steps: int = _schedule(500_000, "steps over which lambda rises after that")
    decay_steps: int = _schedule(0, "steps at the end over which the rate falls to 0")
    stages: tuple[Stage, ...] = _schedule(
        (), "what is otherwise in the first steps, stage by stage"
    )

    lambda_rec: float = _objective(1.0, "weight of the reconstruction")
    lambda_max: float = _objective(1e-4, "weight of the latent term, the paper's λ_E")
    adversarial_target: Literal["opposite", "prior"] = _objective(
        "opposite",
        "what the latent discriminator is to guess: opposite values (eq. 2), or each one's share",
    )
    lambda_adv: float = _objective(0.5, "weight of realism (kind difference)")
    lambda_cls: float = _objective(2.0, "weight of the asked attributes (difference)")
    lambda_keep: float = _objective(
        0.5, "weight of all attributes that are to stay, in parts of lambda_cls"
    )
    lambda_mask: float = _objective(0.2, "weight of the mask's size (difference)")
    mask_binary: float = _objective(
        0.0, "of mask values between 0 and 1, in parts of lambda_mask (difference)"
    )
    logit_adjustment: float = _objective(
        0.0, "1: rare values are seen as readily as others, and edits have to convince either way"
    )
    r1_gamma: float = _objective(
        0.1, "weight of the image discriminator's gradient penalty (difference)"
    )

    learning_rate: float = _optimisation(2e-3, "Adam's")
    adam_beta2: float = _optimisation(0.999, "Adam's second moment; the first is 0.5")
    gradient_clip: float = _optimisation(
        0.0, "a gradient is at most so many times its usual norm; 0: never clipped"
    )
    ema_decay: float = _optimisation(0.999, "of the averaged weights, which are saved")
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = _optimisation(
        "auto", "auto is bf16 or fp16 where the device is fast at it"
    )

    seed: int = _bookkeeping(0, "of everything random")
    log_every: int = _bookkeeping(10, "steps between rows of metrics.jsonl")
    validate_every: int = _bookkeeping(500, "steps between validations, with samples")
    checkpoint_minutes: float = _bookkeeping(10.0, "minutes between checkpoints")

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            value, choices = getattr(self, name), get_args(kind)
            if get_origin(kind) is Literal and value not in choices:
                words = f"{', '.join(choices[:-1])} or {choices[-1]}"
                raise FaderError(f"{name}={value}: must be {words}")
        for name in ("batch_size", "steps", "log_every", "validate_every"):
            if getattr(self, name) < 1:
                raise FaderError(f"{name}={getattr(self, name)}: must be at least 1")
        if self.batch_size < 2:
            raise FaderError("batch_size=1: batch normalisation needs at least 2 images")
        ends = [0, *(stage.steps for stage in self.stages)]
        if sorted(set(ends)) != ends:
            raise FaderError("stages: each must end at a later step than the one before")

    def at(self, step: int) -> TrainConfig:
        """The settings that hold at a step (counted from 0): of its stage, whose last step is their
        ``steps``, or of the run."""
        for stage in self.stages:
            if step < stage.steps:
                return dataclasses.replace(self, stages=(), **stage.changes())
        return self

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON and for :meth:`from_dict`."""
        return {**dataclasses.asdict(self), "stages": [stage.changes() for stage in self.stages]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainConfig:
        """The inverse of :meth:`to_dict`; missing values take their defaults."""
        values = dict(values)
        check_names(values, cls)
        model = values.pop("model", {})
        check_names(model, AutoencoderConfig, "model.")
        stages = values.pop("stages", ())
        for stage in stages:
            check_names(stage, Stage, "stages.")
        return cls(
            model=AutoencoderConfig(**model), stages=tuple(Stage(**s) for s in stages), **values
        )

    def describe(self) -> str:
        """All settings as lines, grouped by subject, each with its help."""
        model = dataclasses.asdict(self.model).items()
        lines = ["model", *(f"  {name} = {_shown(value)}" for name, value in model)]
        subject = "model"
        for setting in dataclasses.fields(self)[1:]:
            if setting.metadata["subject"] != subject:
                subject = setting.metadata["subject"]
                lines.append(subject)
            value = len(self.stages) if setting.name == "stages" else getattr(self, setting.name)
            text = f"{setting.name} = {_shown(value)}"
            lines.append(f"  {text:<30} {setting.metadata['help']}")
        lines += ["stages"] if self.stages else []
        for stage in self.stages:
            changes = ", ".join(f"{name} = {value}" for name, value in stage.changes().items())
            lines.append(f"  until {changes}")
        return "\n".join(lines)


def _shown(value: Any) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def presets() -> tuple[str, ...]:
    """Names of the presets in the package."""
    return preset_names("fader.train")


def load_preset(name: str) -> dict[str, Any]:
    """A preset's values, as :meth:`TrainConfig.from_dict` takes them."""
    return read_preset("fader.train", name)


def apply_overrides(values: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """``values`` with ``"lambda_max=0.01"`` or ``"model.layers=6"`` put in, in every stage;
    ``steps`` are those of the whole run. Raises :class:`FaderError` for a name that is no setting
    (with the nearest one) or a value of the wrong kind."""
    values = {**values, "model": dict(values.get("model", {}))}
    for override in overrides:
        name, text = split_override(override)
        key, prefix = name.removeprefix("model."), "model." if name.startswith("model.") else ""
        owner, into = (AutoencoderConfig, values["model"]) if prefix else (TrainConfig, values)
        check_names([key], owner, prefix)
        if key in ("model", "attributes", "stages"):
            raise FaderError(f"{name} cannot be set this way; use --attrs or model.KEY=VALUE")
        into[key] = parse_value(name, text, getattr(owner(), key))
        if key != "steps":
            stages = values.get("stages", ())
            values["stages"] = [{k: v for k, v in stage.items() if k != key} for stage in stages]
    return values


# Settings that are constants since, by the name that older runs have them under.
_RETIRED = ("sample_every", "validation_images", "keep_checkpoints", "unchanged", "shuffled",
            "longest", "discriminator_rate", "adam_beta1", "flip", "rotation", "zoom", "shift",
            "colour")  # fmt: skip


def modernised(values: dict[str, Any]) -> dict[str, Any]:
    """The settings of an older run by today's names, so that ``--resume`` goes on with it."""
    if not isinstance(values.get("rotation"), int | float):
        return values
    values = {**values, "augmentation": values["rotation"] / 2}
    model = values.get("model")
    if isinstance(model, dict) and model.get("kind") == "paper":
        values["lambda_rec"] = 1.0  # had no say in this kind's objective
    return {name: value for name, value in values.items() if name not in _RETIRED}
