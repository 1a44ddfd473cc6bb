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
from fader.evaluate.editing import asked_of, device_of
from fader.evaluate.embedder import load_embedder
from fader.evaluate.statistics import estimate_some
from fader.evaluate.swaps import Faces, other_side
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

    config = network.config
    return Recogniser(
        f"packaged, {config.dimensions}-d",
        embed,
        config.same_person,
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
    random = np.random.default_rng([seed, 5])
    rows = np.sort(random.permutation(len(faces))[:limit])
    images, labels, people = faces.images[rows], faces.labels[rows], faces.people[rows]
    photos = recogniser.embed(images)

    def compare(some: np.ndarray, others: np.ndarray, whose: np.ndarray) -> dict[str, Any]:
        norms = np.linalg.norm(some, axis=1) * np.linalg.norm(others, axis=1)
        near = np.linalg.norm(some - others, axis=1) < recogniser.same_person
        return {
            "similarity": estimate_some((some * others).sum(axis=1) / norms, whose, seed=seed),
            "recognised": estimate_some(near, whose, seed=seed),
        }

    chosen, unedited, edited = _embedded(model, recogniser, Faces(images, labels, people))
    attributes = {
        name: compare(photos[some], edited[name], people[some])
        for name, some in chosen.items()
        if len(some)
    }
    result = {"attributes": attributes, "decoded": compare(photos, unedited, people)}
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


def _embedded(
    model: FaderModel, recogniser: Recogniser, faces: Faces
) -> tuple[dict[str, np.ndarray], np.ndarray, dict[str, np.ndarray]]:
    """By attribute, which faces have a clear label; the embeddings of all faces decoded as they
    are; and by attribute those of these faces at its other side."""
    sides = {name: other_side(faces.labels[:, i]) for i, name in enumerate(model.attributes)}
    unedited: list[np.ndarray] = []
    edited: dict[str, list[np.ndarray]] = {name: [] for name in sides}
    for batch in faces.batches():
        y = torch.from_numpy(faces.labels[batch]).to(device_of(model))
        features = model.encode(to_tensor(faces.images[batch]).to(y.device))
        unedited.append(recogniser.embed(to_images(model.decode(features, y, y))))
        for column, (name, (clear, other)) in enumerate(sides.items()):
            some = np.flatnonzero(clear[batch])
            if not len(some):
                continue
            asked = asked_of(model, y[some], column, other[batch][some])
            changed = model.decode([f[some] for f in features], asked, y[some])
            edited[name].append(recogniser.embed(to_images(changed)))
    return (
        {name: np.flatnonzero(clear) for name, (clear, _) in sides.items()},
        np.concatenate(unedited),
        {name: np.concatenate(some) for name, some in edited.items() if some},
    )
