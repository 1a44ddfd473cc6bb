"""Whether an edited face is still the same person, where a face recogniser is installed."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fader.data.batches import to_images, to_tensor
from fader.evaluate.statistics import estimate
from fader.evaluate.swaps import Faces, device_of, other_side
from fader.faces.align import similarity, template, warp
from fader.models.io import FaderModel

#: Two faces nearer than this are the same person to dlib's network (its own documentation).
SAME_PERSON = 0.6

#: (N, S, S, 3) uint8 → (N, d) embeddings whose Euclidean distance tells people apart.
Embedder = Callable[[np.ndarray], np.ndarray]

_WEIGHTS = "dlib_face_recognition_resnet_model_v1.dat"
_MISSING = (
    "no face recogniser is installed; pip install 'fader[identity]' brings dlib's, with its weights"
)
_SIDE = 150  # pixels of dlib's face chips
# Where dlib's chips have the eyes' centres: the means of the eye corners of its 5-point layout,
# with its padding of a quarter.
_EYES = (np.array([[0.2273, 0.2214], [0.7528, 0.2212]]) + 0.25) / 1.5 * _SIDE


def find_embedder() -> tuple[Embedder | None, str]:
    """dlib's face recognition network and its name, or None and the reason. Nothing is fetched."""
    models = find_spec("face_recognition_models")
    if models is None or models.origin is None or find_spec("dlib") is None:
        return None, _MISSING
    path = Path(models.origin).parent / "models" / _WEIGHTS
    if not path.is_file():
        return None, f"{path}: missing; install face_recognition_models again"
    import dlib

    network = dlib.face_recognition_model_v1(str(path))

    def embed(images: np.ndarray) -> np.ndarray:
        matrix = similarity(template(images.shape[1])[:2], _EYES)
        chips = [np.ascontiguousarray(warp(image, matrix, _SIDE)) for image in images]
        return np.array([network.compute_face_descriptor(chip) for chip in chips])

    return embed, "dlib face_recognition_resnet_model_v1, 128-d"


@torch.inference_mode()
def identity(
    model: FaderModel, embedder: Embedder, faces: Faces, seed: int, limit: int = 32
) -> dict[str, Any]:
    """Cosine similarity of the embeddings of photo and edit, and the share still recognised.

    On ``limit`` random faces. ``decoded`` is the decoding without an edit; ``same_person`` and
    ``strangers`` are pairs of different photos, the scale to read the rest by.
    """
    random = np.random.default_rng([seed, 5])
    rows = np.sort(random.permutation(len(faces))[:limit])
    device = device_of(model)
    images, labels, people = faces.images[rows], faces.labels[rows], faces.people[rows]
    y = torch.from_numpy(labels).to(device)
    features = model.encode(to_tensor(images).to(device))
    photos = embedder(images)

    def compare(some: np.ndarray, others: np.ndarray, whose: np.ndarray) -> dict[str, Any]:
        norms = np.linalg.norm(some, axis=1) * np.linalg.norm(others, axis=1)
        near = np.linalg.norm(some - others, axis=1) < SAME_PERSON
        return {
            "similarity": estimate((some * others).sum(axis=1) / norms, whose, seed=seed),
            "recognised": estimate(near, whose, seed=seed),
        }

    unedited = model.decode(features, y)
    attributes = {}
    for column, name in enumerate(model.attributes):
        clear, other = other_side(labels[:, column])
        chosen = np.flatnonzero(clear)
        if not len(chosen):
            continue
        asked = y[chosen].clone()
        asked[:, column] = torch.from_numpy(other[chosen]).to(device)
        edited = to_images(
            model.decode([f[chosen] for f in features], asked, y[chosen], unedited[chosen])
        )
        attributes[name] = compare(photos[chosen], embedder(edited), people[chosen])

    decoded = embedder(to_images(unedited))
    result = {"attributes": attributes, "decoded": compare(photos, decoded, people)}
    partners = [np.setdiff1d(np.flatnonzero(faces.people == who), rows) for who in people]
    paired = np.flatnonzero([len(found) > 0 for found in partners])
    if len(paired):
        second = embedder(faces.images[[int(partners[i][0]) for i in paired]])
        result["same_person"] = compare(photos[paired], second, people[paired])
    stranger = np.roll(np.arange(len(rows)), 1)
    apart = np.flatnonzero(people != people[stranger])
    if len(apart):
        result["strangers"] = compare(photos[apart], photos[stranger[apart]], people[apart])
    return result
