"""Trained models, found again: by name, folder, run, or on the Hugging Face Hub."""

from __future__ import annotations

import difflib
import os
from functools import cache
from pathlib import Path
from typing import Any

import torch

from fader.errors import FaderError
from fader.models.classifier import AttributeClassifier, ClassifierConfig
from fader.models.model import CLASSIFIER_WEIGHTS, CONFIG, FaderModel, read_config
from fader.models.schema import load_weights, make_network, read_settings

#: Models that come in the package, by name.
WEIGHTS_FOLDER = Path(__file__).parent.parent / "weights"


def load_model(
    name: str | os.PathLike[str] = "default", device: str | torch.device = "cpu"
) -> FaderModel:
    """A model by name (:func:`available_models`), folder, or ``user/name`` on the Hugging Face Hub.

    ``user/name@revision`` is a branch, tag or commit of it. A run's folder stands for the model in
    it. A model without classifier is given the default model's, which knows all 40 attributes. The
    result is in evaluation mode on ``device``.

    Raises :class:`FaderError` when there is no such model or its files do not fit.
    """
    model = FaderModel.load(find_model(name))
    if model.classifier is None:
        model.classifier = FaderModel.load(find_model("default")).classifier
    # Inference needs no gradients, and is ~1.5 times as fast in channels_last on a CPU.
    model.requires_grad_(False)
    return model.to(memory_format=torch.channels_last).to(device)


def load_classifier(name: str | os.PathLike[str]) -> AttributeClassifier:
    """The classifier of a model, or one that :func:`save_classifier` wrote; evaluation mode."""
    folder = find_model(name)
    config = read_config(folder, "autoencoder", "Fader model")
    if config.get("classifier") is None:
        raise FaderError(f"{folder}: this model has no classifier")
    settings = read_settings(ClassifierConfig, config["classifier"], folder / CONFIG)
    path = folder / CLASSIFIER_WEIGHTS
    classifier = make_network(lambda: AttributeClassifier(settings), path)
    load_weights(classifier, path)
    # In a folder that holds a classifier alone, what was trained is the classifier.
    own = "classifier_training" if config["autoencoder"] else "training"
    classifier.notes = config.get(own) or {}
    return classifier.eval()


@cache
def available_models() -> tuple[str, ...]:
    """Names of the models that come in the package."""
    return tuple(sorted(path.parent.name for path in WEIGHTS_FOLDER.glob(f"*/{CONFIG}")))


def model_info(name: str | os.PathLike[str]) -> dict[str, Any]:
    """The configuration of a model (see :func:`load_model`), without loading its weights."""
    return read_config(find_model(name), "autoencoder", "Fader model")


def model_folder(folder: Path) -> Path:
    """The folder of a model that ``folder`` stands for: a run's is its ``model/``.

    Raises :class:`FaderError` for a run that has none.
    """
    if any(folder.glob("*.safetensors")):
        return folder
    inside = folder / "model"
    if (inside / CONFIG).is_file():
        return inside
    if (folder / "metrics.jsonl").exists() or (folder / "checkpoints").is_dir():
        raise FaderError(f"{folder}: this run has written no model yet; train it for longer")
    return folder


def find_model(name: str | os.PathLike[str], **hub_options: Any) -> Path:
    """The folder of a model by name, folder or Hub id: see :func:`load_model`.

    ``hub_options`` are those of ``huggingface_hub.snapshot_download``, such as ``revision``.
    """
    text = os.fspath(name)
    if text in available_models():
        return WEIGHTS_FOLDER / text
    path = Path(text)
    if path.is_dir():
        return model_folder(path)
    names = ", ".join(available_models())
    # What begins like a folder that is here, or like those that training makes, is a folder's name
    # mistyped, which is nobody else's business.
    first = text.split("/")[0]
    local = text.startswith((".", "/", "~")) or first == "runs" or os.path.lexists(first)
    if text.partition("@")[0].count("/") != 1 or local or os.path.lexists(text):
        beside = [place.name for place in path.parent.iterdir()] if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, beside, n=1)
        hint = f"; did you mean {path.parent / close[0]}?" if close else ""
        raise FaderError(
            f"{text}: no such model{hint}; give a name ({names}), a run or a folder with "
            f"{CONFIG}, or a Hub id such as user/name"
        )
    from fader.models.hub import download

    return download(text, **hub_options)
