"""What pictures are compared in: the features of a named network, never of an unnamed one."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from fader.errors import FaderError
from fader.evaluate.judge import PACKAGED, Judge
from fader.models.pretrained import load_classifier

# What torch-fidelity calls the file it would download, the network of the original FID, and where.
_INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
_INCEPTION_URL = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
# Pictures at once; Inception enlarges each to 299 pixels.
_BATCH = 32


@dataclass(frozen=True)
class FeatureSpace:
    """``see`` turns N×S×S×C uint8 (C is 3 or 1) into (N, width) float32.

    ``title`` comes before the word features; ``distance`` is what a Fréchet distance in this
    space may be called.
    """

    name: str
    title: str
    description: str
    distance: str
    see: Callable[[np.ndarray], np.ndarray]


def attribute_features(device: str | torch.device = "cpu") -> FeatureSpace:
    """The pooled features of the packaged model's attribute classifier, which resizes pictures."""
    whose = "the default model's face attribute classifier"
    return _pooled("default", device, "attributes", "attribute", whose)


def judge_features(device: str | torch.device = "cpu") -> FeatureSpace:
    """The pooled features of the packaged judge, which is trained apart from all generators, and
    says nothing to any of them (:mod:`cgan.soften`)."""
    return _pooled(PACKAGED, device, "judge", "judge", "the packaged judge of face attributes")


def _pooled(
    source: str | Path, device: str | torch.device, name: str, title: str, whose: str
) -> FeatureSpace:
    classifier = load_classifier(source).requires_grad_(False).to(device)
    viewer = Judge(classifier, name)
    return FeatureSpace(
        name,
        title,
        f"pooled features of {whose} ({viewer.architecture}), {classifier.channels}-d",
        f"Fréchet distance on {title} features (no FID)",
        lambda images: viewer.see(as_rgb(images))[1],
    )


def inception_features(device: str | torch.device = "cpu") -> FeatureSpace:
    """The 2048 pooled features of the Inception network that FID is defined on, by torch-fidelity.

    Raises :class:`FaderError` when torch-fidelity or its weights are not on this machine; nothing
    is downloaded.
    """
    if find_spec("torch_fidelity") is None:
        raise FaderError(
            "--features inception needs torch-fidelity, which is not installed; "
            "pip install 'fader[inception]', or use --features attributes"
        )
    path = Path(torch.hub.get_dir()) / "checkpoints" / _INCEPTION_FILE
    if not path.is_file():
        raise FaderError(
            f"{path}: the Inception weights are not there; fetch them from "
            f"{_INCEPTION_URL}{_INCEPTION_FILE}, or use --features attributes"
        )
    try:
        # torch-fidelity unpickles the file; only what passes for plain weights gets that far.
        torch.load(path, map_location="cpu", weights_only=True)
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        network = FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(path)
        )
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError) as error:
        why = str(error).strip().splitlines()[0]
        raise FaderError(f"{path}: not the Inception weights; fetch them again ({why})") from None
    network.eval().to(device)

    @torch.inference_mode()
    def see(images: np.ndarray) -> np.ndarray:
        features = [np.zeros((0, 2048), np.float32)]
        for start in range(0, len(images), _BATCH):
            rgb = np.ascontiguousarray(as_rgb(images[start : start + _BATCH]))
            x = torch.from_numpy(rgb).permute(0, 3, 1, 2).to(device)
            features.append(network(x)[0].float().cpu().numpy())
        return np.concatenate(features)

    description = "pool3 features of Inception v3 (2015-12-05, torch-fidelity), 2048-d"
    return FeatureSpace("inception", "Inception", description, "FID", see)


#: Feature space by name, as ``--features`` takes it.
SPACES = {
    "attributes": attribute_features,
    "judge": judge_features,
    "inception": inception_features,
}


def as_rgb(images: np.ndarray) -> np.ndarray:
    """N×S×S×C uint8 with C of 3 or 1 → N×S×S×3; grey is repeated."""
    return images if images.shape[-1] == 3 else images.repeat(3, axis=-1)
