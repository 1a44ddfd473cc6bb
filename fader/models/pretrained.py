"""Trained models, loaded: by name, folder, run, or from the Hugging Face Hub."""

from __future__ import annotations

import os

import torch

from fader.errors import FaderError
from fader.models.classifier import AttributeClassifier, ClassifierConfig
from fader.models.folders import CLASSIFIER_WEIGHTS, CONFIG, find_model, read_config
from fader.models.model import FaderModel
from fader.models.schema import read_settings
from fader.models.weights import load_weights, make_network


def load_model(
    name: str | os.PathLike[str] = "default", device: str | torch.device = "cpu"
) -> FaderModel:
    """A model as :func:`~fader.models.folders.find_model` finds it, in evaluation mode.

    One without classifier is given the default model's, which knows all 40 attributes.
    Raises :class:`FaderError` when there is no such model or its files do not fit.
    """
    model = FaderModel.load(find_model(name))
    if model.classifier is None:
        model.classifier = FaderModel.load(find_model("default")).classifier
    # Inference needs no gradients, and is ~1.5 times as fast in channels_last on a CPU.
    model.requires_grad_(False)
    return model.to(memory_format=torch.channels_last).to(device)


def load_classifier(name: str | os.PathLike[str]) -> AttributeClassifier:
    """The classifier of a model, or one saved alone, in evaluation mode."""
    folder = find_model(name)
    config, path = read_config(folder, "autoencoder", "Fader model"), folder / CLASSIFIER_WEIGHTS
    if config.get("classifier") is None:
        raise FaderError(f"{folder}: this model has no classifier")
    settings = read_settings(ClassifierConfig, config["classifier"], folder / CONFIG)
    classifier = make_network(lambda: AttributeClassifier(settings), path)
    load_weights(classifier, path)
    # In a folder that holds a classifier alone, what was trained is the classifier.
    own = "classifier_training" if config["autoencoder"] else "training"
    classifier.notes = config.get(own) or {}
    return classifier.eval()
