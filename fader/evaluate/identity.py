"""Whether an edited face is still the same person, to a network that tells people apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fader.data.batches import to_images, to_tensor
from fader.evaluate.case import Faces, draw
from fader.evaluate.editing import swaps
from fader.evaluate.embedder import load_embedder
from fader.evaluate.statistics import estimate_some
from fader.faces.align import similarity, template, warp
from fader.models.model import FaderModel

#: The face embedder that comes in the package.
PACKAGED = Path(__file__).parent / "weights" / "identity"

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


_WEIGHTS = "dlib_face_recognition_resnet_model_v1.dat"
_SIDE = 150  # pixels of dlib's face chips
# Where dlib's chips have the eyes' centres: the means of the eye corners of its 5-point layout,
# with its padding of a quarter.
_EYES = (np.array([[0.2273, 0.2214], [0.7528, 0.2212]]) + 0.25) / 1.5 * _SIDE


def find_recogniser() -> Recogniser:
    """Dlib's face recognition network where it is installed, else the small one in the package."""
    models = find_spec("face_recognition_models")
    if models is not None and models.origin is not None and find_spec("dlib") is not None:
        path = Path(models.origin).parent / "models" / _WEIGHTS
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
    """Cosine similarity of the embeddings of photo and edit, and the share still recognised.

    On ``limit`` random faces. ``decoded`` is the decoding without an edit; ``same_person`` and
    ``strangers`` are pairs of different photos, the scale to read the rest by.
    """
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
