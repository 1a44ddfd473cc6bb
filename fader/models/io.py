"""A model as users hold it: autoencoder and classifier together, saved as JSON and safetensors."""

from __future__ import annotations

import difflib
import json
import os
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelHubMixin, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from fader._version import __version__
from fader.attributes import ATTRIBUTES
from fader.documents import read_json
from fader.errors import FaderError
from fader.files import atomic_path, write_text
from fader.models import silhouette as silhouettes
from fader.models.autoencoder import Autoencoder, AutoencoderConfig
from fader.models.classifier import AttributeClassifier, ClassifierConfig
from fader.models.copies import MOST_COPIES
from fader.models.schema import load_weights, make_network, read_settings

FORMAT = 1
CONFIG, WEIGHTS, CLASSIFIER_WEIGHTS = "config.json", "model.safetensors", "classifier.safetensors"
#: Models that come in the package, by name.
WEIGHTS_FOLDER = Path(__file__).parent.parent / "weights"


class FaderModel(nn.Module, ModelHubMixin, library_name="fader", license="mit"):
    """A Fader Network and the classifier that tells it what a face shows now.

    On disk it is a folder: ``config.json``, ``model.safetensors`` (the autoencoder) and
    ``classifier.safetensors`` (absent for a model without one). ``push_to_hub`` and
    ``from_pretrained`` are huggingface_hub's.
    """

    def __init__(
        self, autoencoder: AutoencoderConfig, classifier: ClassifierConfig | None = None
    ) -> None:
        super().__init__()
        self.autoencoder = Autoencoder(autoencoder)
        self.classifier = AttributeClassifier(classifier) if classifier else None
        #: Free text about the training, kept in config.json: attributes of the run, data, steps.
        self.training_notes: dict[str, Any] = {}
        #: By attribute, how fast values below 0 and above 1 go on (1 each where it has none).
        self.beyond: dict[str, tuple[float, float]] = {}
        #: By attribute, how many times as far as asked the decoder is told to go down and up from
        #: what a face shows (1 each where it has none).
        self.reach: dict[str, tuple[float, float]] = {}
        #: In how many moved copies faces are decoded (:mod:`fader.models.copies`).
        self.copies = 1

    @property
    def attributes(self) -> tuple[str, ...]:
        """The attributes this model edits, in the order of ``y``."""
        return self.autoencoder.config.attributes

    @property
    def size(self) -> int:
        """Side of the square images it works on, in pixels."""
        return self.autoencoder.config.size

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def encode(self, x: Tensor, copies: int | None = None) -> list[Tensor]:
        """See :meth:`Autoencoder.encode`; in as many copies as :attr:`copies` says, or as given."""
        return self.autoencoder.encode(x, self.copies if copies is None else copies)

    def decode(
        self,
        features: list[Tensor],
        y: Tensor,
        own: Tensor | None = None,
        unedited: Tensor | None = None,
        held: Tensor | None = None,
    ) -> Tensor:
        """See :meth:`Autoencoder.decode`; values beyond 0..1 are scaled by :attr:`beyond`.

        With ``own``, the N images' own values N×n, ``y`` is what they are to show, and moves away
        from their own are as long as :attr:`reach` says, and confined to the attributes' regions
        (see :meth:`Autoencoder.decode`), those of the face apart from the others; some go along
        with others (:meth:`Regions.eased`), and beyond 0..1 the picture goes on as it did from one
        end to the other (:meth:`Regions.exaggerated`). ``held`` (N×n) is true for values that were
        asked for, so that they stay even where they are the images' own. Without ``own``, ``y`` is
        what is decoded.
        """
        if self.beyond:
            below, above = self._pairs(self.beyond, y)
            y = y.clamp(0, 1) + below * y.clamp(max=0) + above * (y - 1).clamp(min=0)
        regions = self.autoencoder.regions
        if own is None or regions is None:
            y = y if own is None else self._reached(y, own)
            return self.autoencoder.decode(features, y)
        near, past = regions.within(y, own)
        near = regions.eased(near, own, held)
        beyond = past.any(dim=1).nonzero()[:, 0]
        if len(beyond) and unedited is None and not torch.equal(y[: len(own)], own):
            unedited = self.autoencoder.decode(features, own)
        decoded = self._decode_apart(features, self._reached(near, own), own, unedited)
        if not len(beyond):
            return decoded
        if unedited is None:  # the first rows are it
            unedited = decoded[: len(own)]
        faces, past, end = beyond % len(own), past[beyond], near[beyond]
        own, before = own[faces], unedited[faces]
        opposite = self._reached(torch.where(past != 0, 1 - end, end), own)
        other = self._decode_apart([f[faces] for f in features], opposite, own, before)
        more = regions.exaggerated(decoded[beyond], other, before, past)
        return decoded.index_copy(0, beyond, more.to(decoded.dtype))

    def _reached(self, y: Tensor, own: Tensor) -> Tensor:
        """What to tell the decoder, M×n, for faces with values ``own`` (N×n) to show ``y``."""
        if not self.reach:
            return y
        down, up = self._pairs(self.reach, y)
        start = own[torch.arange(len(y), device=y.device) % len(own)]
        return start + down * (y - start).clamp(max=0) + up * (y - start).clamp(min=0)

    def _decode_apart(
        self, features: list[Tensor], y: Tensor, own: Tensor, unedited: Tensor | None
    ) -> Tensor:
        """Decodings in which parts of the face, the colour of hair, and the rest change apart, each
        as if alone.

        Confined together, all that gray hair does to a face would be let through where a smile is;
        told to make a man a gray woman, decoders go twice as far as they ever did. Hair that is
        dyed is not otherwise changed.
        """
        groups, ending = self.autoencoder.regions.groups, self.autoencoder.regions.ending[:, 1]
        rows = torch.arange(len(y), device=y.device) % len(own)
        start = own[rows]
        # What is to go is not dyed.
        goes = ((y > start) & ending).any(dim=1)
        parts = groups[:, None].repeat(1, len(y), 1)
        parts[2, goes], parts[1, goes] = groups[1:].any(dim=0), False
        moves = ((y != start) & parts).any(dim=2)
        several, first = moves.sum(dim=0) > 1, moves.int().argmax(dim=0)
        if not several.any():
            return self.autoencoder.decode(features, y, own, unedited)
        if unedited is None and not torch.equal(y[: len(own)], own):
            unedited = self.autoencoder.decode(features, own)
        other = ~parts[first, torch.arange(len(y), device=y.device)]
        alone = torch.where(several[:, None] & other, start, y)
        decoded = self.autoencoder.decode(features, alone, own, unedited)
        if unedited is None:  # the first rows are it
            unedited = decoded[: len(own)]
        for index, part in enumerate(parts):
            again = (several & moves[index] & (first != index)).nonzero()[:, 0]
            if len(again):
                faces = rows[again]
                of_these, before = [f[faces] for f in features], unedited[faces].to(decoded.dtype)
                codes = torch.where(part, y, start)[again]
                change = self.autoencoder.decode(of_these, codes, own[faces], before) - before
                dyed = moves[1, again] & (index > 1)
                if dyed.any():  # dark hair of youth would show through blond
                    hair = silhouettes.silhouette(before)[:, 1:] * dyed[:, None, None, None]
                    change = change * (1 - hair)
                decoded = decoded.index_add(0, again, change.to(decoded.dtype))
        return torch.where(several[:, None, None, None], decoded.clamp(-1, 1), decoded)

    def tinted(self, y: Tensor, own: Tensor) -> Tensor | None:
        """Where nothing but the colour of hair differs between values M×n: M×1×S×S in 0..1, or
        None where that is nowhere. A photo's own detail is as good there as it was."""
        regions = self.autoencoder.regions
        return None if regions is None else regions.tinted(y, own)

    def _pairs(self, numbers: dict[str, tuple[float, float]], like: Tensor) -> tuple[Tensor, ...]:
        pairs = [numbers.get(name, (1.0, 1.0)) for name in self.attributes]
        return like.new_tensor(pairs).unbind(1)

    def estimate(self, x: Tensor) -> Tensor:
        """Images N×3×S×S in [-1, 1] → probability of each ``classifier`` attribute, N×k in 0..1.

        Raises :class:`FaderError` for a model without classifier.
        """
        if self.classifier is None:
            raise FaderError("this model has no classifier, so it cannot estimate attributes")
        logits = self.classifier(x)
        if not torch.isfinite(logits).all():
            raise FaderError("this model's classifier gives no numbers; its weights are damaged")
        return torch.sigmoid(logits)

    def save(self, folder: str | os.PathLike[str], dtype: torch.dtype = torch.float32) -> None:
        """Write the model into ``folder``, each file atomically; ``dtype`` is that of the weights.

        ``config.json`` comes last, so a folder with one is a whole model.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_weights(self.autoencoder, folder / WEIGHTS, dtype)
        if self.classifier is not None:
            save_weights(self.classifier, folder / CLASSIFIER_WEIGHTS, dtype)
        config = {
            "format": FORMAT,
            "fader": __version__,
            "autoencoder": asdict(self.autoencoder.config),
            "classifier": asdict(self.classifier.config) if self.classifier else None,
            "training": self.training_notes,
        }
        for name in ("beyond", "reach"):
            if getattr(self, name):
                config[name] = getattr(self, name)
        if self.copies > 1:
            config["copies"] = self.copies
        write_text(folder / CONFIG, json.dumps(config, indent=2) + "\n")

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> FaderModel:
        """Read a model folder, on the CPU, in float32 and evaluation mode.

        Raises :class:`FaderError` when the folder is not a Fader model or its files do not fit.
        """
        folder = Path(folder)
        config = read_config(folder, "autoencoder", "Fader model")
        if config["autoencoder"] is None:
            raise FaderError(f"{folder}: holds a classifier alone, which cannot edit")
        path = folder / CONFIG
        autoencoder = _autoencoder_settings(config["autoencoder"], path)
        classifier = _classifier_settings(config.get("classifier"), path)
        weights = [folder / WEIGHTS, *([folder / CLASSIFIER_WEIGHTS] if classifier else ())]
        model = make_network(lambda: cls(autoencoder, classifier), *weights)
        model.training_notes = config.get("training") or {}
        model.beyond, model.reach = (
            _pairs(name, config.get(name) or {}, folder / CONFIG) for name in ("beyond", "reach")
        )
        model.copies = config.get("copies", 1)
        if not isinstance(model.copies, int) or not 1 <= model.copies <= MOST_COPIES:
            raise FaderError(f"{folder / CONFIG}: copies must be a number from 1 to {MOST_COPIES}")
        load_weights(model.autoencoder, folder / WEIGHTS)
        if model.classifier is not None:
            load_weights(model.classifier, folder / CLASSIFIER_WEIGHTS)
        return model.eval()

    # The two hooks of huggingface_hub's mixin.

    def _save_pretrained(self, save_directory: Path) -> None:
        self.save(save_directory)

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **options: Any) -> FaderModel:
        known = ("revision", "cache_dir", "force_download", "local_files_only", "token")
        return cls.load(_find(model_id, **{k: options[k] for k in known if k in options}))


def _pairs(key: str, given: Any, path: Path) -> dict[str, tuple[float, float]]:
    try:
        pairs = {str(name): (float(one), float(other)) for name, (one, other) in given.items()}
        if not all(0 <= abs(number) <= 100 for pair in pairs.values() for number in pair):
            raise ValueError("one is not finite, or beyond 100")
        return pairs
    except (AttributeError, TypeError, ValueError) as error:
        message = f"{path}: {key} is not two numbers for each attribute ({error})"
        raise FaderError(message) from None


def _autoencoder_settings(values: Any, path: Path) -> AutoencoderConfig:
    settings = read_settings(AutoencoderConfig, values, path)
    for name in settings.attributes:
        if name not in ATTRIBUTES:
            raise FaderError(f"{path}: {name} is none of the attributes that faces are edited by")
    return settings


def _classifier_settings(values: Any, path: Path) -> ClassifierConfig | None:
    return None if values is None else read_settings(ClassifierConfig, values, path)


def load_model(
    name: str | os.PathLike[str] = "default", device: str | torch.device = "cpu"
) -> FaderModel:
    """A model by name (:func:`available_models`), folder, or ``user/name`` on the Hugging Face Hub.

    A run's folder stands for the model in it. A model without classifier is given the default
    model's, which knows all 40 attributes. The result is in evaluation mode on ``device``.

    Raises :class:`FaderError` when there is no such model or its files do not fit.
    """
    model = FaderModel.load(_find(name))
    if model.classifier is None:
        model.classifier = FaderModel.load(_find("default")).classifier
    # Inference needs no gradients, and is ~1.5 times as fast in channels_last on a CPU.
    model.requires_grad_(False)
    return model.to(device, memory_format=torch.channels_last)


def save_classifier(
    classifier: AttributeClassifier,
    folder: str | os.PathLike[str],
    notes: dict[str, Any],
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a classifier alone, as a model folder without autoencoder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(classifier, folder / CLASSIFIER_WEIGHTS, dtype)
    config = {
        "format": FORMAT,
        "fader": __version__,
        "autoencoder": None,
        "classifier": asdict(classifier.config),
        "training": notes,
    }
    write_text(folder / CONFIG, json.dumps(config, indent=2) + "\n")


def load_classifier(name: str | os.PathLike[str]) -> AttributeClassifier:
    """The classifier of a model, or one that :func:`save_classifier` wrote; evaluation mode."""
    folder = _find(name)
    config = read_config(folder, "autoencoder", "Fader model")
    if config.get("classifier") is None:
        raise FaderError(f"{folder}: this model has no classifier")
    settings = _classifier_settings(config["classifier"], folder / CONFIG)
    path = folder / CLASSIFIER_WEIGHTS
    classifier = make_network(lambda: AttributeClassifier(settings), path)
    load_weights(classifier, path)
    return classifier.eval()


@cache
def available_models() -> tuple[str, ...]:
    """Names of the models that come in the package."""
    return tuple(sorted(path.parent.name for path in WEIGHTS_FOLDER.glob(f"*/{CONFIG}")))


def model_info(name: str | os.PathLike[str]) -> dict[str, Any]:
    """The configuration of a model (see :func:`load_model`), without loading its weights."""
    return read_config(_find(name), "autoencoder", "Fader model")


def save_weights(module: nn.Module, path: Path, dtype: torch.dtype) -> None:
    """Write the module's state as safetensors, atomically, its floating numbers as ``dtype``."""
    weights = {
        key: (value.to(dtype) if value.is_floating_point() else value).cpu().contiguous()
        for key, value in module.state_dict().items()
    }
    try:
        with atomic_path(path) as temporary:
            save_file(weights, temporary, metadata={"format": "pt"})
    except SafetensorError as error:  # its answer to a full disk, among others
        raise FaderError(f"{path}: could not be written ({error})") from None


def read_config(folder: Path, key: str, what: str) -> dict[str, Any]:
    """A model folder's ``config.json``, which must have ``key``; ``what`` is what messages call
    such a model. Raises :class:`FaderError`."""
    path = folder / CONFIG
    try:
        config = read_json(path)
    except FileNotFoundError:
        if (folder / "checkpoints").is_dir():
            raise FaderError(f"{folder}: is a run that has saved no model yet") from None
        raise FaderError(f"{folder}: not a {what}, it has no {CONFIG}") from None
    version = config.get("format", 0)
    if key not in config:
        if (folder / "checkpoints").is_dir():
            raise FaderError(f"{folder}: is a run that has saved no model yet")
        raise FaderError(f"{path}: not the configuration of a {what}")
    if type(version) is not int or not isinstance(config.get("training") or {}, dict):
        raise FaderError(f"{path}: not the configuration of a {what}, or damaged")
    if version > FORMAT:
        raise FaderError(f"{path}: made by a newer fader; upgrade with pip install -U fader")
    return config


def model_folder(folder: Path) -> Path:
    """The folder of a model that ``folder`` stands for: a run's is its ``model/``.

    Raises :class:`FaderError` for a run that has none yet.
    """
    inside = folder / "model"
    if any(folder.glob("*.safetensors")):
        return folder
    if (inside / CONFIG).is_file():
        return inside
    if (folder / "checkpoints").is_dir():
        raise FaderError(f"{folder}: this run has written no model yet; train it for longer")
    return folder


def _find(name: str | os.PathLike[str], **hub_options: Any) -> Path:
    text = os.fspath(name)
    if text in available_models():
        return WEIGHTS_FOLDER / text
    if os.path.isdir(text):
        return model_folder(Path(text))
    names = ", ".join(available_models())
    # What begins like a folder that is here, or like those that training makes, is a folder's name
    # mistyped, which is nobody else's business.
    first = text.split("/")[0]
    local = text.startswith((".", "/", "~")) or first == "runs" or os.path.lexists(first)
    if text.count("/") != 1 or local or os.path.lexists(text):
        path = Path(text)
        beside = [place.name for place in path.parent.iterdir()] if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, beside, n=1)
        hint = f"; did you mean {path.parent / close[0]}?" if close else ""
        raise FaderError(
            f"{text}: no such model{hint}; give a name ({names}), a run or a folder with "
            f"{CONFIG}, or a Hub id such as user/name"
        )
    try:
        return Path(
            snapshot_download(text, allow_patterns=["*.json", "*.safetensors"], **hub_options)
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise FaderError(
            f"{text}: neither a folder here nor to be had from the Hugging Face Hub ({reason})"
        ) from None
