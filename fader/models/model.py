"""A model as users hold it: autoencoder and classifier together, saved as JSON and safetensors."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from fader._version import __version__
from fader.attributes import ATTRIBUTES
from fader.errors import FaderError, NotFiniteError
from fader.faces.blend import DecodedFace
from fader.files import atomic_path, write_text
from fader.models.autoencoder import Autoencoder
from fader.models.classifier import AttributeClassifier, ClassifierConfig
from fader.models.config import AutoencoderConfig
from fader.models.difference import DifferenceAutoencoder
from fader.models.folders import (
    CLASSIFIER_WEIGHTS,
    CONFIG,
    FORMAT,
    WEIGHTS,
    find_model,
    read_config,
)
from fader.models.schema import read_settings
from fader.models.weights import load_weights, make_network

MODEL_CARD = "---\nlibrary_name: fader\nlicense: mit\n---\nA Fader Network, to edit faces with.\n"


@dataclass(frozen=True)
class Decoding:
    """How faces change: from the picture ``before`` to the colour ``after``, M×3×S×S in [-1, 1],
    where the ``mask`` M×1×S×S in 0..1 says. Without a mask ``before`` is decoded as well."""

    before: Tensor
    after: Tensor
    mask: Tensor

    @property
    def image(self) -> Tensor:
        """x′ = x + m · (c − x), M×3×S×S in [-1, 1]."""
        return self.before + self.mask * (self.after - self.before)

    def faces(self) -> list[DecodedFace]:
        """The same as M values for :func:`fader.faces.blend.composite`."""
        before, after = (
            ((x.float().permute(0, 2, 3, 1) + 1) * 127.5).clamp(0, 255).cpu().numpy()
            for x in (self.before, self.after)
        )
        masks = self.mask[:, 0].float().cpu().numpy()
        return [*map(DecodedFace, before, after, masks)]


def build_autoencoder(config: AutoencoderConfig) -> nn.Module:
    """The network that ``config.kind`` names, with new weights."""
    return DifferenceAutoencoder(config) if config.kind == "difference" else Autoencoder(config)


class FaderModel(nn.Module):
    """A Fader Network and the classifier, if it has one, that tells it what a face shows now; on
    disk a folder of ``config.json``, ``model.safetensors`` and ``classifier.safetensors``."""

    #: An :class:`Autoencoder` or a :class:`DifferenceAutoencoder`.
    autoencoder: Any

    def __init__(
        self, autoencoder: AutoencoderConfig, classifier: ClassifierConfig | None = None
    ) -> None:
        super().__init__()
        self.autoencoder = build_autoencoder(autoencoder)
        self.classifier = AttributeClassifier(classifier) if classifier else None
        #: Free text about the training, kept in config.json: attributes of the run, data, steps.
        self.training_notes: dict[str, Any] = {}
        #: By attribute, how many times as far as asked the decoder is told to go down and up from
        #: what a face shows (1 each where it has none).
        self.strength: dict[str, tuple[float, float]] = {}

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
        """Where its weights are."""
        return next(self.parameters()).device

    def encode(self, x: Tensor) -> list[Tensor]:
        """Images N×3×S×S in [-1, 1] → what :meth:`change` and :meth:`decode` need of them: first
        ``x`` itself, last the latent code."""
        return [x, *self.autoencoder.encode(x)]

    def change(self, features: list[Tensor], y: Tensor, own: Tensor) -> Decoding:
        """What :meth:`encode` gave for N images, their own values N×n and values M×n to show.

        Row m of ``y`` changes image m mod N. Differences are lengthened by :attr:`strength`.
        Raises :class:`NotFiniteError` when no pictures come of it: there would be no edit.
        """
        if len(y) != len(own):
            rows = torch.arange(len(y), device=y.device) % len(own)
            features, own = [f[rows] for f in features], own[rows]
        x, *features = features
        difference = y - own
        if self.strength:
            pairs = [self.strength.get(name, (1.0, 1.0)) for name in self.attributes]
            down, up = y.new_tensor(pairs).unbind(1)
            difference = down * difference.clamp(max=0) + up * difference.clamp(min=0)
        if self.autoencoder.config.kind == "difference":
            before, (after, mask) = x, self.autoencoder.decode(features, difference)
        else:
            before = self.autoencoder.decode(features, own)
            after = self.autoencoder.decode(features, own + difference)
            mask = torch.ones_like(after[:, :1])
        if not (torch.isfinite(after).all() and torch.isfinite(mask).all()):
            raise NotFiniteError("this model decodes no pictures; its weights are damaged")
        return Decoding(before, after, mask)

    def decode(self, features: list[Tensor], y: Tensor, own: Tensor) -> Tensor:
        """The images of :meth:`change`, M×3×S×S in [-1, 1]."""
        return self.change(features, y, own).image

    def estimate(self, x: Tensor) -> Tensor:
        """Images N×3×S×S in [-1, 1] → probability of each ``classifier`` attribute, N×k in 0..1;
        :class:`FaderError` for a model without classifier."""
        if self.classifier is None:
            raise FaderError("this model has no classifier, so it cannot estimate attributes")
        logits = self.classifier(x)
        if not torch.isfinite(logits).all():
            raise NotFiniteError("the classifier gives no numbers; its weights are damaged")
        return torch.sigmoid(logits)

    def save(self, folder: str | os.PathLike[str], dtype: torch.dtype = torch.float32) -> None:
        """Write the model into ``folder``, each file atomically, with weights of ``dtype``;
        ``config.json`` comes last, so a folder with one is a whole model."""
        notes: dict[str, Any] = {"training": self.training_notes}
        if self.strength:
            notes["strength"] = self.strength
        if self.classifier is not None:
            notes["classifier_training"] = self.classifier.notes
        _save(folder, self.autoencoder, self.classifier, notes, dtype)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> FaderModel:
        """Read a model folder, on the CPU, in float32 and evaluation mode; :class:`FaderError` for
        what is no Fader model, or files that do not fit."""
        folder = Path(folder)
        config = read_config(folder, "autoencoder", "Fader model")
        if config["autoencoder"] is None:
            raise FaderError(f"{folder}: holds a classifier alone, which cannot edit")
        if config.get("format", 0) < FORMAT:
            raise FaderError(
                f"{folder}: a model of an older fader, whose edits this one cannot make; train it "
                "again with fader train"
            )
        path, weights, classifier = folder / CONFIG, [folder / WEIGHTS], None
        if config.get("classifier") is not None:
            classifier = read_settings(ClassifierConfig, config["classifier"], path)
            weights.append(folder / CLASSIFIER_WEIGHTS)
        autoencoder = read_settings(AutoencoderConfig, config["autoencoder"], path)
        if unknown := [name for name in autoencoder.attributes if name not in ATTRIBUTES]:
            what = "is none of the attributes that faces are edited by"
            raise FaderError(f"{path}: {unknown[0]} {what}")
        model = make_network(lambda: cls(autoencoder, classifier), *weights)
        model.training_notes = config.get("training") or {}
        model.strength = _strength(config.get("strength") or {}, path)
        load_weights(model.autoencoder, folder / WEIGHTS)
        if model.classifier is not None:
            load_weights(model.classifier, folder / CLASSIFIER_WEIGHTS)
            model.classifier.notes = config.get("classifier_training") or {}
        return model.eval()

    # The methods of huggingface_hub's ModelHubMixin. To inherit them would import that library,
    # at twice the time an edit's other imports take, for models that are folders here.

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str],
        *,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
    ) -> FaderModel:
        """A model by name, folder, run or ``user/name`` on the Hugging Face Hub; see :meth:`load`.

        The options are those of ``huggingface_hub.snapshot_download``. Raises :class:`FaderError`
        when there is no such model.
        """
        options: dict[str, Any] = {"revision": revision, "cache_dir": cache_dir, "token": token}
        options |= {"force_download": force_download, "local_files_only": local_files_only}
        return cls.load(find_model(name, **options))

    def save_pretrained(
        self,
        folder: str | os.PathLike[str],
        *,
        push_to_hub: bool = False,
        repo_id: str | None = None,
        **options: Any,
    ) -> str | None:
        """:meth:`save` with a model card, ``README.md``, unless the folder has one; with
        ``push_to_hub`` also :meth:`push_to_hub`, as ``repo_id`` or else by the folder's name."""
        self.save(folder)
        card = Path(folder) / "README.md"
        if not card.exists():
            write_text(card, MODEL_CARD)
        return self.push_to_hub(repo_id or Path(folder).name, **options) if push_to_hub else None

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        branch: str | None = None,
        **options: Any,
    ) -> str:
        """Upload the model to ``user/name`` on the Hugging Face Hub; the commit's address.

        The repository is made if there is none, ``private`` or not. Other options, such as
        ``commit_message``, are those of ``HfApi.upload_folder``. Errors are huggingface_hub's.
        """
        from fader.models.hub import upload

        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return upload(folder, repo_id, private=private, token=token, branch=branch, **options)


def _strength(given: Any, path: Path) -> dict[str, tuple[float, float]]:
    try:
        pairs = {str(name): (float(one), float(other)) for name, (one, other) in given.items()}
        if not all(abs(number) <= 100 for pair in pairs.values() for number in pair):
            raise ValueError("one is not finite, or beyond 100")
        return pairs
    except (AttributeError, TypeError, ValueError) as error:
        message = f"{path}: strength is not two numbers for each attribute ({error})"
        raise FaderError(message) from None


def fingerprint(model: FaderModel) -> str:
    """Text that differs between models whose weights or edit strengths differ."""
    digest = hashlib.blake2b(repr(sorted(model.strength.items())).encode(), digest_size=16)
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def save_classifier(
    classifier: AttributeClassifier,
    folder: str | os.PathLike[str],
    notes: dict[str, Any],
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a classifier alone, as a model folder without autoencoder."""
    _save(folder, None, classifier, {"training": notes}, dtype)


def _save(
    folder: str | os.PathLike[str],
    autoencoder: Any,
    classifier: AttributeClassifier | None,
    notes: dict[str, Any],
    dtype: torch.dtype,
) -> None:
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config: dict[str, Any] = {"format": FORMAT, "fader": __version__}
    parts = (("autoencoder", autoencoder, WEIGHTS), ("classifier", classifier, CLASSIFIER_WEIGHTS))
    for key, network, name in parts:
        config[key] = None if network is None else asdict(network.config)
        if network is not None:
            save_weights(network, folder / name, dtype)
    write_text(folder / CONFIG, json.dumps(config | notes, indent=2) + "\n")


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
