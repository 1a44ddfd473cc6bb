"""Editing one photo: find the faces, change their attributes, put the changes back."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from fader.attributes import Change
from fader.edit.choice import Box, Which, choose, turns
from fader.edit.networks import Networks, OnnxBackend, TorchBackend
from fader.edit.results import Description, Edit, FaceEdit
from fader.edit.runtime import Runtime, onnx_to_run
from fader.edit.values import asked_changes, hardly_changed, settle
from fader.errors import FaderError
from fader.faces.blend import composite_into
from fader.faces.detect import Detector, Face
from fader.photo import ImageLike, Photo, open_photo

if TYPE_CHECKING:
    import torch

    from fader.models.model import FaderModel

Output = Literal["photo", "crop", "pair"]


class Editor:
    """Edits the attributes of faces in photos.

    >>> from fader import Editor
    >>> Editor().edit("photo.jpg", Male=0).save("out.png")      # doctest: +SKIP

    ``model`` is a model's name, its folder, a Hugging Face Hub id, or a loaded
    :class:`~fader.models.model.FaderModel`; ``device`` is ``"auto"`` or what :class:`torch.device`
    takes; ``runtime`` is what runs the networks, ``"torch"``, ``"onnx"`` or ``"auto"``
    (:data:`~fader.edit.runtime.Runtime`). The model and the detector are loaded when first needed,
    once.

    Photos are given as a path, a PIL image or an H×W×3 uint8 RGB array.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | FaderModel = "default",
        device: str | torch.device = "auto",
        runtime: Runtime = "auto",
    ) -> None:
        self._source = model
        self._device = str(device)
        self.asked_runtime: Runtime = runtime

    @classmethod
    def from_pretrained(
        cls,
        model: str | os.PathLike[str],
        device: str | torch.device = "auto",
        runtime: Runtime = "auto",
        *,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
    ) -> Editor:
        """An editor whose model is loaded now, from a folder or the Hugging Face Hub.

        The options are those of ``huggingface_hub.snapshot_download``. Raises
        :class:`~fader.errors.FaderError` when there is no such model.
        """
        from fader.models.folders import find_model

        options: dict[str, Any] = {
            "revision": revision,
            "cache_dir": cache_dir,
            "force_download": force_download or None,
            "local_files_only": local_files_only or None,
            "token": token,
        }
        options = {name: value for name, value in options.items() if value is not None}
        # What was found with options is not to be looked for again without.
        editor = cls(find_model(model, **options) if options else model, device, runtime)
        _ = editor.networks
        return editor

    @cached_property
    def device(self) -> str:
        """Where it computes: ``"cpu"``, ``"cuda"``, ``"cuda:1"`` and the like."""
        if self._onnx is not None:
            return "cpu"
        if self._device != "auto":
            return self._device
        import torch

        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"

    @property
    def runtime(self) -> Literal["torch", "onnx"]:
        """What runs the networks."""
        return "torch" if self._onnx is None else "onnx"

    @cached_property
    def _onnx(self) -> Path | None:
        return onnx_to_run(self.source, self._device, self.asked_runtime)

    @cached_property
    def model(self) -> FaderModel:
        """The model for PyTorch, in evaluation mode."""
        from fader.models.pretrained import load_model

        if isinstance(self._source, (str, os.PathLike)):
            return load_model(self._source, self.device)
        return self._source.to(self.device).eval()

    @cached_property
    def fingerprint(self) -> str:
        """Text that differs between models whose weights or edit strengths differ."""
        return self.networks.backend.fingerprint

    @property
    def source(self) -> str | None:
        """The name, folder or Hub id of the model; None for one that was given loaded."""
        return os.fspath(self._source) if isinstance(self._source, (str, os.PathLike)) else None

    @cached_property
    def detector(self) -> Detector:
        """The face detector."""
        if self._onnx is None:
            return Detector(self.device)
        from fader.runtime.onnx import OnnxMtcnn

        return Detector(networks=OnnxMtcnn(self._onnx))

    @cached_property
    def networks(self) -> Networks:
        """The model, asked with arrays."""
        if self._onnx is None:
            return Networks(TorchBackend(self.model, self.device))
        return Networks(OnnxBackend(self._onnx))

    @property
    def attributes(self) -> tuple[str, ...]:
        """The attributes the model edits."""
        return self.networks.backend.attributes

    def faces(self, image: ImageLike) -> list[Face]:
        """The faces in a photo, largest first.

        Raises :class:`~fader.errors.UnreadableImageError` for what is not a photo.
        """
        return self.detector(open_photo(image).pixels)

    def describe(self, image: ImageLike) -> list[Description]:
        """The faces in a photo, largest first, each with all the attributes the model estimates.

        Raises :class:`~fader.errors.UnreadableImageError` for what is not a photo.
        """
        photo = open_photo(image).pixels
        faces = self.detector(photo)
        estimates = self.networks.estimate(self.networks.crop(photo, faces))
        return [Description(*both) for both in zip(faces, estimates, strict=True)]

    def edit(
        self,
        image: ImageLike,
        changes: str | Iterable[Change] | None = None,
        *,
        face: Which = "largest",
        where: Box | None = None,
        output: Output = "photo",
        **values: float | str,
    ) -> Image.Image:
        """The photo with its face changed: ``edit("photo.jpg", Male=0, Smiling=1)``.

        The same as :meth:`apply`, without the account of what was done.
        """
        edit = self.apply(image, changes, face=face, where=where, output=output, **values)
        return edit.image

    def apply(
        self,
        image: ImageLike,
        changes: str | Iterable[Change] | None = None,
        *,
        face: Which = "largest",
        where: Box | None = None,
        output: Output = "photo",
        **values: float | str,
    ) -> Edit:
        """Edit a photo and tell what was done.

        ``changes`` is text such as ``"Male=0,Smiling=+0.5"`` or a sequence of
        :class:`~fader.attributes.Change`; ``values`` are attributes by name, in any case, with
        the value to set. 0..1 is the trained range and values beyond it exaggerate. An attribute
        whose estimate is within 0.05 of a value asked for inside 0..1 is left where it is (a
        relative change always moves it); a face none of whose attributes changes is left
        alone, byte for byte.

        ``face`` is the ``"largest"``, ``"all"``, or the n-th largest, from 1; with ``where``, a box
        (x0, y0, x1, y1) in pixels of the upright photo, only faces whose middle is in it count.
        Faces of less than 32 pixels are left alone. ``output`` is the ``"photo"`` upright and
        at its own size; the decoder's own aligned image of the face, as a ``"crop"`` (several
        side by side); or photo and edited photo as a ``"pair"``.

        Raises :class:`~fader.errors.UnreadableImageError`, :class:`~fader.errors.NoFaceError`,
        :class:`~fader.errors.UnknownAttributeError`, or :class:`~fader.errors.FaderError` when
        no change is asked for.
        """
        wanted = asked_changes(changes, values, self.attributes)
        (edit,) = self.variants(image, [wanted], face=face, where=where, output=output)
        return edit

    def variants(
        self,
        image: ImageLike | Photo,
        variants: Sequence[Sequence[Change]],
        *,
        face: Which = "largest",
        where: Box | None = None,
        output: Output = "photo",
        measure: bool = False,
        found: Sequence[Face] | None = None,
        networks: Networks | None = None,
    ) -> Iterator[Edit]:
        """One :class:`Edit` of the photo for each of several lists of changes.

        The photo is read and searched for faces once; an edit is made when it is asked for. With
        ``measure`` the classifier looks at each edited face again (``FaceEdit.achieved``). What the
        detector gave of the photo may be given as ``found``, and other ``networks`` than
        :attr:`networks`. Else as :meth:`apply`.
        """
        if output not in ("photo", "crop", "pair"):
            raise FaderError(f"output={output!r}: must be 'photo', 'crop' or 'pair'")
        networks = networks or self.networks
        photo = open_photo(image)
        found = self.detector(photo.pixels) if found is None else found
        named = sorted({change.face for wanted in variants for change in wanted if change.face})
        numbers, faces, notes = choose(photo, found, named or face, where, self.detector)
        for wanted in variants:
            asked = [[c for c in wanted if c.face in (None, number)] for number in numbers]
            if output == "crop":
                crops, edits = _edited_crops(networks, photo.pixels, faces, asked)
                result = photo.made_into(np.concatenate(crops, axis=1))
            else:
                result, edits = _edited(networks, photo, faces, asked)
                crops = [*networks.crop(result.pixels, faces)] if measure else []
            if measure:
                achieved = networks.before(np.stack(crops))
                edits = [replace(e, achieved=a) for e, a in zip(edits, achieved, strict=True)]
            # Of a counterfactual set's variants one is always what is there.
            there = () if measure else hardly_changed(edits, wanted)
            if output == "pair":
                both = np.concatenate([photo.pixels, result.pixels], axis=1)
                result = photo.made_into(both)
            told = (*photo.notes, *notes, *there)
            yield Edit(result, len(found), tuple(edits), told, tuple(wanted))


def _edited(
    networks: Networks, photo: Photo, faces: Sequence[Face], asked: Sequence[Sequence[Change]]
) -> tuple[Photo, list[FaceEdit]]:
    """The photo with every edit that changes something put into it, and the edits."""
    pixels = photo.pixels
    edits: dict[int, FaceEdit] = {}
    for turn in turns(faces, pixels.shape):
        crops = networks.crop(pixels, [faces[i] for i in turn])
        for i, before in zip(turn, networks.before(crops), strict=True):
            edits[i] = FaceEdit(faces[i], before, settle(before, asked[i]))
        changed = [k for k, i in enumerate(turn) if edits[i].changed]
        decoded = networks.decode_edits(crops[changed], [edits[turn[k]] for k in changed])
        if changed and pixels is photo.pixels:
            pixels = pixels.copy()
        for k, one in zip(changed, decoded, strict=True):
            composite_into(pixels, faces[turn[k]], one)
    return photo.edited(pixels), [edits[i] for i in range(len(faces))]


def _edited_crops(
    networks: Networks,
    photo: np.ndarray,
    faces: Sequence[Face],
    asked: Sequence[Sequence[Change]],
) -> tuple[list[np.ndarray], list[FaceEdit]]:
    """The decoder's own images of the faces, and the edits."""
    crops = networks.crop(photo, faces)
    edits = [
        FaceEdit(face, before, settle(before, changes))
        for face, before, changes in zip(faces, networks.before(crops), asked, strict=True)
    ]
    return [one.image for one in networks.decode_edits(crops, edits)], edits
