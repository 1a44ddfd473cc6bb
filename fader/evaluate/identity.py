"""Whether an edited face is still the same person, to a network that tells people apart."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fader.data.batches import to_images, to_tensor
from fader.evaluate.case import Faces, draw
from fader.evaluate.editing import swaps
from fader.evaluate.statistics import estimate_some
from fader.faces.align import similarity, template, warp
from fader.files import write_text
from fader.models.classifier import resized, resnet
from fader.models.folders import read_config
from fader.models.model import FaderModel, save_weights
from fader.models.weights import load_weights

#: The face embedder that comes in the package.
PACKAGED = Path(__file__).parent / "weights" / "identity"
WEIGHTS, CONFIG = "embedder.safetensors", "config.json"

# The part of an aligned face that the embedder looks at, from the left and from above, and its
# side, as fractions of the image: brows to chin. Hair and background are not who somebody is.
_LEFT, _TOP, _INNER = 0.15, 0.195, 0.7

_DLIB = "dlib_face_recognition_resnet_model_v1.dat"
_SIDE = 150  # pixels of dlib's face chips
# Where dlib's chips have the eyes' centres: the means of the eye corners of its 5-point layout,
# with its padding of a quarter.
_EYES = (np.array([[0.2273, 0.2214], [0.7528, 0.2212]]) + 0.25) / 1.5 * _SIDE


@dataclass(frozen=True)
class EmbedderConfig:
    """``size``: side of the part of a face it looks at, pixels, a multiple of 32; ``width``: first
    channels; ``dimensions`` of an embedding. ``same_person``: two embeddings nearer than this are
    one person's, chosen on validation people."""

    size: int = 64
    width: int = 16
    dimensions: int = 64
    same_person: float = 1.0


class FaceEmbedder(nn.Module):
    """The packaged network, small and trained on people's true identities, for measuring only:
    embeddings N×d of length 1, near where faces are alike."""

    def __init__(self, config: EmbedderConfig) -> None:
        super().__init__()
        self.config = config
        self.features, channels = resnet(config.width)
        self.project = nn.Linear(channels * (config.size // 32) ** 2, config.dimensions)

    def forward(self, x: Tensor) -> Tensor:
        """Aligned faces N×3×S×S in [-1, 1] → their embeddings N×d."""
        return self.placed(self.seen(x))

    def placed(self, seen: Tensor) -> Tensor:
        """The embeddings of what was :meth:`seen`."""
        return F.normalize(self.project(seen))

    def seen(self, x: Tensor) -> Tensor:
        """What the convolutions make of the part between brows and chin, flat, N×D."""
        size = x.shape[-1]
        left, top, side = (round(part * size) for part in (_LEFT, _TOP, _INNER))
        inner = x[..., top : top + side, left : left + side]
        return self.features(resized(inner, self.config.size)).flatten(1)


def save_embedder(
    embedder: FaceEmbedder, folder: str | os.PathLike[str], notes: dict[str, Any]
) -> None:
    """Write the embedder in half precision, with ``notes`` on its training and its accuracy."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(embedder, folder / WEIGHTS, torch.float16)
    config = {"embedder": asdict(embedder.config), "training": notes}
    write_text(folder / CONFIG, json.dumps(config, indent=2) + "\n")


def load_embedder(folder: str | os.PathLike[str]) -> tuple[FaceEmbedder, dict[str, Any]]:
    """An embedder that :func:`save_embedder` wrote, in evaluation mode, and its notes. Raises
    :class:`FaderError` when the folder holds none or its files do not fit."""
    config = read_config(Path(folder), "embedder", "face embedder")
    embedder = FaceEmbedder(EmbedderConfig(**config["embedder"]))
    load_weights(embedder, Path(folder) / WEIGHTS)
    return embedder.eval().requires_grad_(False), config["training"]


#: (N, S, S, 3) uint8 → (N, d) embeddings whose Euclidean distance tells people apart.
Embedder = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Recogniser:
    """An embedder, and from what distance on two embeddings are two people's. ``verification`` is
    how well it tells people apart, as a sentence, where that is known."""

    name: str
    embed: Embedder
    same_person: float = 0.6
    verification: str | None = None


def find_recogniser() -> Recogniser:
    """Dlib's face recognition network where it is installed, else the small one in the package."""
    models = find_spec("face_recognition_models")
    if models is not None and models.origin is not None and find_spec("dlib") is not None:
        path = Path(models.origin).parent / "models" / _DLIB
        if path.is_file():
            return _dlib(path)
    return packaged_recogniser()


def packaged_recogniser() -> Recogniser:
    """The small embedder that comes in the package."""
    network, notes = load_embedder(PACKAGED)

    @torch.inference_mode()
    def embed(images: np.ndarray) -> np.ndarray:
        return network(to_tensor(images)).numpy()

    return Recogniser(
        f"packaged, {network.config.dimensions}-d",
        embed,
        network.config.same_person,
        f"{notes['verification_accuracy']:.3f} of {notes['pairs']} pairs of test photos told apart "
        f"rightly, area under the curve {notes['verification_area']:.3f}",
    )


def _dlib(path: Path) -> Recogniser:
    import dlib

    network = dlib.face_recognition_model_v1(str(path))

    def embed(images: np.ndarray) -> np.ndarray:
        matrix = similarity(template(images.shape[1])[:2], _EYES)
        chips = [np.ascontiguousarray(warp(image, matrix, _SIDE)) for image in images]
        return np.array([network.compute_face_descriptor(chip) for chip in chips])

    # Two faces nearer than 0.6 are the same person (its own documentation).
    return Recogniser("dlib face_recognition_resnet_model_v1, 128-d", embed, 0.6)


@torch.inference_mode()
def identity(
    model: FaderModel, recogniser: Recogniser, faces: Faces, seed: int, limit: int = 128
) -> dict[str, Any]:
    """Cosine similarity of the embeddings of photo and edit, and the share still recognised, on
    ``limit`` random faces; of the decoding without an edit (``decoded``); and of pairs of different
    photos (``same_person``, ``strangers``), the scale to read the rest by."""
    rows = draw(len(faces), limit, seed, 5)
    some = faces.take(rows)
    people, photos = some.people, recogniser.embed(some.images)

    def compare(ones: np.ndarray, others: np.ndarray, whose: np.ndarray) -> dict[str, Any]:
        norms = np.linalg.norm(ones, axis=1) * np.linalg.norm(others, axis=1)
        near = np.linalg.norm(ones - others, axis=1) < recogniser.same_person
        return {
            "similarity": estimate_some((ones * others).sum(axis=1) / norms, whose, seed=seed),
            "recognised": estimate_some(near, whose, seed=seed),
        }

    unedited: list[np.ndarray] = []
    edited: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {n: [] for n in model.attributes}
    for batch in some.batches():
        features, y = some.encoded(model, batch)
        unedited.append(recogniser.embed(to_images(model.decode(features, y, y))))
        for name, chosen, _, made in swaps(model, features, y, model.attributes):
            edited[name].append((chosen + batch.start, recogniser.embed(to_images(made.image))))
    attributes = {}
    for name, parts in edited.items():
        if parts:
            chosen, embedded = (np.concatenate(part) for part in zip(*parts, strict=True))
            attributes[name] = compare(photos[chosen], embedded, people[chosen])
    result = {
        "attributes": attributes,
        "decoded": compare(photos, np.concatenate(unedited), people),
    }
    partners = [np.setdiff1d(np.flatnonzero(faces.people == who), rows) for who in people]
    paired = np.flatnonzero([len(found) > 0 for found in partners])
    if len(paired):
        second = recogniser.embed(faces.images[[int(partners[i][0]) for i in paired]])
        result["same_person"] = compare(photos[paired], second, people[paired])
    stranger = np.roll(np.arange(len(rows)), 1)
    apart = np.flatnonzero(people != people[stranger])
    if len(apart):
        result["strangers"] = compare(photos[apart], photos[stranger[apart]], people[apart])
    return result
