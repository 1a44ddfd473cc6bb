"""The judge: a classifier that scores edits and had no part in training the model it scores."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fader.data.batches import to_tensor
from fader.errors import FaderError
from fader.models.classifier import AttributeClassifier
from fader.models.folders import CONFIG, model_info
from fader.models.model import FaderModel
from fader.models.pretrained import load_classifier

#: The judge that comes in the package.
PACKAGED = Path(__file__).parent / "weights"

# What --identities of fader train-classifier says, in words.
_HALVES = {
    "all": "all people",
    "even": "the people with even identity numbers",
    "odd": "the people with odd identity numbers",
}


class Judge:
    """A classifier that looks at images as a viewer would: as 8-bit pictures."""

    def __init__(
        self, classifier: AttributeClassifier, name: str, notes: dict[str, Any] | None = None
    ) -> None:
        self.classifier, self.name, self.notes = classifier, name, notes or {}

    @property
    def attributes(self) -> tuple[str, ...]:
        """What it knows, in the order of its logits."""
        return self.classifier.config.attributes

    @property
    def architecture(self) -> str:
        """What kind of network it is, in words."""
        config = self.classifier.config
        return f"{config.architecture}, {config.size} px, width {config.width}"

    @torch.inference_mode()
    def see(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 N×S×S×3 → logits (N, k) of the attributes, positive for yes, and the pooled
        features (N, C) they come from; float32."""
        device = next(self.classifier.parameters()).device
        logits = [np.zeros((0, len(self.attributes)), np.float32)]
        features = [np.zeros((0, self.classifier.channels), np.float32)]
        for start in range(0, len(images), 64):
            pooled = self.classifier.embed(to_tensor(images[start : start + 64]).to(device))
            features.append(pooled.cpu().numpy())
            logits.append(self.classifier.head(pooled).cpu().numpy())
        return np.concatenate(logits), np.concatenate(features)


def load_judge(
    path: str | os.PathLike[str] | None, model: FaderModel, device: str | torch.device = "cpu"
) -> Judge:
    """The judge at ``path``: a run of ``fader train-classifier`` or a model; None is the packaged.
    Raises :class:`FaderError` when there is none, or when it is the model's own classifier, whose
    verdict would say nothing: the model may have been trained to please it."""
    folder = PACKAGED if path is None else path
    inside = Path(folder) / "model"
    if (inside / CONFIG).is_file():
        folder = inside
    classifier = load_classifier(folder).requires_grad_(False).to(device)
    if model.classifier is not None and _same_weights(classifier, model.classifier):
        raise FaderError(
            f"{path or 'the packaged judge'}: is the model's own classifier, which cannot judge "
            "it; train another with 'fader train-classifier --architecture plain --identities odd'"
        )
    name = "packaged" if path is None else os.fspath(path)
    return Judge(classifier, name, model_info(folder).get("training"))


def cautions(judge: Judge, model: FaderModel) -> list[str]:
    """What makes this judge's verdict on this model worth less, as sentences."""
    found = []
    if guide := model.classifier:
        if guide.config.architecture == judge.classifier.config.architecture:
            found.append(
                "The judge has the architecture of the model's classifier and may share its blind "
                "spots."
            )
        found += _shared_people(judge.notes.get("identities"), guide.notes.get("identities"))
    unknown = [name for name in model.attributes if name not in judge.attributes]
    if unknown:
        found.append(f"The judge does not know {', '.join(unknown)}; these have no swap scores.")
    return found


def _shared_people(judges: str | None, guides: str | None) -> list[str]:
    """A caution when the judge may have learnt from the people whom the model's classifier learnt
    from, of the ``identities`` of both."""
    if {judges, guides} == {"odd", "even"}:
        return []
    if judges not in _HALVES or guides not in _HALVES:
        whom = "judge" if judges not in _HALVES else "model's classifier"
        return [f"Nothing says which people the {whom} learnt from: it may be the other's."]
    return [
        f"The judge learnt from {_HALVES[judges]}, the model's classifier from {_HALVES[guides]}: "
        "they have people in common and may share their mistakes. One trained with --identities "
        "even and one with --identities odd have none."
    ]


def _same_weights(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    """Whether two networks are one, also when one was stored in half precision."""
    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(
        first[key].shape == second[key].shape
        and torch.allclose(first[key].cpu().float(), second[key].cpu().float(), 1e-2, 1e-4)
        for key in first
        if first[key].is_floating_point()
    )
