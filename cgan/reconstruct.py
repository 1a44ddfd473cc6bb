"""Photos through a conditional VAE: redrawn, with other labels, one turning into another."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cgan.data import Grey, label_name, middle_square
from cgan.generate import set_attributes
from cgan.io import load_generator, training_notes
from cgan.networks import ConditionalVae
from fader.data.batches import to_tensor
from fader.errors import FaderError, NoFaceError
from fader.faces.align import align, warp
from fader.faces.detect import Detector, Face, select
from fader.models.classifier import AttributeClassifier
from fader.models.pretrained import load_classifier
from fader.photo import open_photo


class Redrawer:
    """A cVAE, by name or folder, that takes photos as its training images were taken. Raises
    :class:`FaderError` when there is no such model, or it cannot encode."""

    def __init__(self, model: str | os.PathLike[str], device: str | torch.device = "cpu") -> None:
        vae = load_generator(model, device)
        if not isinstance(vae, ConditionalVae):
            raise FaderError(
                f"{os.fspath(model)}: draws faces and cannot take up a photo; train one that can "
                "with cgan train --model cvae"
            )
        self.vae, self.device = vae, device
        self._aligned = training_notes(model).get("aligned") is True

    def take(self, photo: Path, face: int | None = None) -> tuple[Tensor, Tensor]:
        """A photo as the model's training images were, 1×C×S×S in [-1, 1], and the attributes that
        it shows, 1×k: as estimated, 0 or 1; classes and what is not to be known are 0.

        A model of aligned faces takes the ``face``-th largest one; another the middle square, or,
        with ``face``, the square around it. Raises :class:`FaderError` where there
        is none, or the photo cannot be read.
        """
        config = self.vae.config
        y = torch.zeros(1, len(config.label_names))
        if not self._aligned and face is None:
            return to_tensor(middle_square(photo, config.size, config.channels)[None]), y
        pixels = open_photo(photo).pixels
        try:
            (found,) = select(self._detector(pixels), face or 1)
        except NoFaceError as error:
            raise NoFaceError(f"{photo}: {error}") from None
        if config.label_kind == "attributes":
            y = self._estimate(pixels, found)
        matrix = found.transform(config.size) if self._aligned else _around(found, config.size)
        crop = warp(pixels, matrix, config.size)[None]
        return to_tensor(crop if config.channels == 3 else Grey(crop)[:]), y

    def labelled(self, y: Tensor, label: str | None) -> Tensor:
        """``y`` n×k with what a user says that the photos show: attributes, or the class. Raises
        :class:`FaderError` for what the model does not know, or needs to be told."""
        names = ", ".join(self.vae.label_names)
        if self.vae.label_kind == "classes" and not label:
            raise FaderError(f"say what the photo shows with --label; the model knows {names}")
        return self.asked(y, label) if label else y

    def asked(self, y: Tensor, text: str) -> Tensor:
        """``y`` n×k changed as ``text`` asks, ``Smiling=1,Male=0`` or a class. Raises
        :class:`FaderError` for what the model cannot be asked."""
        names = self.vae.label_names
        if not names:
            raise FaderError(f"{text}: this model has no labels, so there is nothing to set")
        if self.vae.label_kind == "classes":
            return torch.eye(len(names))[[names.index(label_name(text, names))]].expand(len(y), -1)
        return set_attributes(y, names, text, moving=True)

    def redraw(self, x: Tensor, y: Tensor, sets: Sequence[str] = ()) -> list[Tensor]:
        """Images n×C×S×S that show y n×k: as decoded, and again with each of ``sets`` asked."""
        z = self.vae.codes(x, y)
        return [self.vae.render(z, one) for one in self._each(y, sets)]

    def between(self, x: Tensor, y: Tensor, steps: int, sets: Sequence[str] = ()) -> list[Tensor]:
        """The first of two images turning into the second, steps×C×S×S: as they are, and with each
        of ``sets`` asked. Latents and labels go straight from the one's to the other's."""
        z, t = self.vae.codes(x, y), torch.linspace(0, 1, steps)[:, None]

        def way(ends: Tensor) -> Tensor:
            return (1 - t) * ends[:1] + t * ends[1:]

        return [self.vae.render(way(z), way(one)) for one in self._each(y, sets)]

    def _each(self, y: Tensor, sets: Sequence[str]) -> list[Tensor]:
        return [y, *(self.asked(y, text) for text in sets)]

    @cached_property
    def _detector(self) -> Detector:
        return Detector(str(self.device))

    @cached_property
    def _classifier(self) -> AttributeClassifier:
        return load_classifier("default")

    @torch.no_grad()
    def _estimate(self, pixels: np.ndarray, face: Face) -> Tensor:
        known = self._classifier.config
        crop = align(pixels, face.landmarks, known.size)
        seen = dict(zip(known.attributes, self._classifier(to_tensor(crop[None]))[0], strict=True))
        return torch.tensor([[float(seen.get(name, 0) > 0) for name in self.vae.label_names]])


def _around(face: Face, size: int) -> np.ndarray:
    """The 2×3 transform of the square around a face's box to one of ``size`` pixels."""
    scale = size / face.side
    corner = (face.box[:2] + face.box[2:] - face.side) / 2
    # A box has its corners between pixels, a transform whole numbers in their middles.
    return np.column_stack([scale * np.eye(2), (0.5 - corner) * scale - 0.5])
