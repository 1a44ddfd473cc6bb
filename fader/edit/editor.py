"""Editing one photo: find the faces, change their attributes, put the changes back."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from fader.attributes import Change, attribute_name, parse_changes
from fader.errors import FaderError, NoFaceError
from fader.faces.align import warp
from fader.faces.blend import composite
from fader.faces.detect import Detector, Face, select
from fader.images import ImageLike, open_image

if TYPE_CHECKING:
    import torch

    from fader.models.io import FaderModel

Which = Literal["largest", "all"] | int
Output = Literal["photo", "crop", "pair"]

#: An attribute whose estimate is this near to the value asked for is taken to be there already.
ALREADY_THERE = 0.05

# Images the networks see at once: bounds the memory for crowds and for long strips.
_BATCH = 32


@dataclass(frozen=True)
class Description:
    """A face and what the classifier makes of it: attribute name → probability, 0..1."""

    face: Face
    attributes: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """The same as plain lists, numbers and strings, for JSON."""
        return {
            "box": [round(float(v), 2) for v in self.face.box],
            "score": round(self.face.score, 4),
            "landmarks": [[round(float(v), 2) for v in point] for point in self.face.landmarks],
            "attributes": {name: round(value, 4) for name, value in self.attributes.items()},
        }


@dataclass(frozen=True)
class FaceEdit:
    """What was done to one face: the values its attributes were estimated at, and set to.

    ``before`` and ``after`` have all attributes the model edits; those not asked for, and those
    that were there already, are the same in both.
    """

    face: Face
    before: dict[str, float]
    after: dict[str, float]

    @property
    def changed(self) -> dict[str, float]:
        """The new values of the attributes that were changed."""
        return {name: v for name, v in self.after.items() if v != self.before[name]}

    def to_dict(self) -> dict[str, Any]:
        """The same as plain lists, numbers and strings, for JSON."""
        return {
            "box": [round(float(v), 2) for v in self.face.box],
            "before": {name: round(value, 4) for name, value in self.before.items()},
            "after": {name: round(value, 4) for name, value in self.after.items()},
        }


@dataclass(frozen=True)
class Edit:
    """An edited photo (or crop, or pair), how many faces the photo has, and the edits made."""

    image: Image.Image
    found: int
    faces: tuple[FaceEdit, ...]


class Editor:
    """Edits the attributes of faces in photos.

    >>> from fader import Editor
    >>> Editor().edit("photo.jpg", Male=0).save("out.png")      # doctest: +SKIP

    ``model`` is a model's name, its folder, a Hugging Face Hub id, or a loaded
    :class:`~fader.models.io.FaderModel`; ``device`` is ``"auto"`` or what :class:`torch.device`
    takes. The model and the detector are loaded when first needed, once.

    Photos are given as a path, a PIL image or an H×W×3 uint8 RGB array.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | FaderModel = "default",
        device: str | torch.device = "auto",
    ) -> None:
        self._source = model
        self._device = device

    @classmethod
    def from_pretrained(
        cls, model: str | os.PathLike[str], device: str | torch.device = "auto"
    ) -> Editor:
        """An editor whose model is loaded now, from a folder or the Hugging Face Hub.

        Raises :class:`~fader.errors.FaderError` when there is no such model.
        """
        editor = cls(model, device)
        _ = editor.model
        return editor

    @cached_property
    def device(self) -> torch.device:
        """Where it computes."""
        import torch

        if self._device != "auto":
            return torch.device(self._device)
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")

    @cached_property
    def model(self) -> FaderModel:
        """The model, in evaluation mode."""
        from fader.models.io import load_model

        if isinstance(self._source, (str, os.PathLike)):
            return load_model(self._source, self.device)
        return self._source.to(self.device).eval()

    @cached_property
    def detector(self) -> Detector:
        """The face detector."""
        return Detector(self.device)

    @property
    def attributes(self) -> tuple[str, ...]:
        """The attributes the model edits."""
        return self.model.attributes

    def faces(self, image: ImageLike) -> list[Face]:
        """The faces in a photo, largest first.

        Raises :class:`~fader.errors.UnreadableImageError` for what is not a photo.
        """
        return self.detector(np.asarray(open_image(image)))

    def describe(self, image: ImageLike) -> list[Description]:
        """The faces in a photo, largest first, each with all the attributes the model estimates.

        Raises :class:`~fader.errors.UnreadableImageError` for what is not a photo.
        """
        photo = np.asarray(open_image(image))
        faces = self.detector(photo)
        return [
            Description(face, estimates)
            for face, estimates in zip(faces, self.estimate(self.crop(photo, faces)), strict=True)
        ]

    def edit(
        self,
        image: ImageLike,
        changes: str | Iterable[Change] | None = None,
        *,
        face: Which = "largest",
        output: Output = "photo",
        **values: float | str,
    ) -> Image.Image:
        """The photo with its face changed: ``edit("photo.jpg", Male=0, Smiling=1)``.

        The same as :meth:`apply`, without the account of what was done.
        """
        return self.apply(image, changes, face=face, output=output, **values).image

    def apply(
        self,
        image: ImageLike,
        changes: str | Iterable[Change] | None = None,
        *,
        face: Which = "largest",
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

        ``face`` is the ``"largest"``, ``"all"``, or the n-th largest, from 1. ``output`` is the
        ``"photo"`` upright and at its own size; the decoder's own aligned image of the face, as
        a ``"crop"`` (several side by side); or photo and edited photo as a ``"pair"``.

        Raises :class:`~fader.errors.UnreadableImageError`, :class:`~fader.errors.NoFaceError`,
        :class:`~fader.errors.UnknownAttributeError`, or :class:`~fader.errors.FaderError` when
        no change is asked for.
        """
        if output not in ("photo", "crop", "pair"):
            raise FaderError(f"output={output!r}: must be 'photo', 'crop' or 'pair'")
        wanted = self._changes(changes, values)
        source = open_image(image)
        photo = np.asarray(source)
        found = self.detector(photo)
        chosen = choose(found, face, image)

        crops = self.crop(photo, chosen)
        edits = [
            FaceEdit(one, before, settle(before, wanted))
            for one, before in zip(chosen, self._present(crops), strict=True)
        ]
        if output == "crop":
            decoded = self.decode(crops, np.array([[_vector(e.after)] for e in edits]))
            result = np.rint(np.concatenate(decoded[:, 0], axis=1)).astype(np.uint8)
        else:
            result = self._put_back(photo, crops, edits)
            if output == "pair":
                result = np.concatenate([photo, result], axis=1)
        picture = Image.fromarray(result)
        picture.info.update(_colour_profile(source))
        return Edit(picture, len(found), tuple(edits))

    def _put_back(
        self, photo: np.ndarray, crops: np.ndarray, edits: Sequence[FaceEdit]
    ) -> np.ndarray:
        """The photo with every edit that changes something composited into it."""
        chosen = [i for i, edit in enumerate(edits) if edit.changed]
        codes = [[_vector(edits[i].before), _vector(edits[i].after)] for i in chosen]
        decoded = self.decode(crops[chosen], np.array(codes)) if chosen else ()
        for i, (before, after) in zip(chosen, decoded, strict=True):
            photo = composite(photo, edits[i].face, before, after)
        return photo

    # What the networks are asked, for edits of other shapes than a photo (strips, pages).

    def crop(self, photo: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
        """The faces' aligned crops, (N, S, S, 3) uint8, from an H×W×3 uint8 photo."""
        size = self.model.size
        crops = [warp(photo, face.transform(size), size) for face in faces]
        return np.stack(crops) if crops else np.zeros((0, size, size, 3), np.uint8)

    def estimate(self, crops: np.ndarray) -> list[dict[str, float]]:
        """Probability, 0..1, of every attribute the classifier knows, for (N, S, S, 3) crops."""
        import torch

        estimates: list[dict[str, float]] = []
        for start in range(0, len(crops), _BATCH):
            with torch.inference_mode():
                rows = self.model.estimate(self._tensor(crops[start : start + _BATCH]))
            names = self.model.classifier.config.attributes
            estimates += [dict(zip(names, row, strict=True)) for row in rows.float().cpu().tolist()]
        return estimates

    def decode(self, crops: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Each of N crops decoded with K rows of values: (N, K, S, S, 3) float32 in 0..255.

        ``crops`` is (N, S, S, 3) uint8, ``values`` (N, K, n) with n the model's attributes.
        Each crop is encoded once.
        """
        import torch

        size, count = self.model.size, values.shape[1]
        decoded = np.empty((len(crops), count, size, size, 3), np.float32)
        for first in range(0, len(crops), _BATCH):
            some = slice(first, first + _BATCH)
            step = max(1, _BATCH // len(crops[some]))
            with torch.inference_mode():
                features = self.model.encode(self._tensor(crops[some]))
                for start in range(0, count, step):
                    # Row m of the codes decodes image m mod N, so the images go round fastest.
                    codes = values[some, start : start + step].swapaxes(0, 1)
                    y = torch.from_numpy(codes.astype(np.float32)).flatten(0, 1).to(self.device)
                    x = self.model.decode(features, y).float().permute(0, 2, 3, 1)
                    pixels = ((x + 1) * 127.5).clamp(0, 255).cpu().numpy()
                    pixels = pixels.reshape(*codes.shape[:2], size, size, 3)
                    decoded[some, start : start + step] = pixels.swapaxes(0, 1)
        return decoded

    def _tensor(self, crops: np.ndarray) -> torch.Tensor:
        import torch

        x = torch.from_numpy(np.ascontiguousarray(crops)).to(self.device)
        return x.permute(0, 3, 1, 2).float() / 127.5 - 1

    def _present(self, crops: np.ndarray) -> list[dict[str, float]]:
        """The estimates of the attributes that the model edits, in its order."""
        estimates = self.estimate(crops)
        missing = [name for name in self.attributes if estimates and name not in estimates[0]]
        if missing:
            raise FaderError(f"the model's classifier cannot estimate {', '.join(missing)}")
        return [{name: one[name] for name in self.attributes} for one in estimates]

    def _changes(
        self, changes: str | Iterable[Change] | None, values: Mapping[str, float | str]
    ) -> list[Change]:
        """All asked changes in one list, their names those of the model."""
        if isinstance(changes, str):
            changes = parse_changes(changes, self.attributes)
        wanted = [
            Change(attribute_name(c.attribute, self.attributes), c.value, c.relative)
            for c in changes or ()
        ]
        for name, value in values.items():
            if isinstance(value, str):  # "+0.5", or the member of a group: Hair="Blond"
                wanted += parse_changes(f"{name}={value}", self.attributes)
                continue
            attribute = attribute_name(name, self.attributes)
            if not np.isfinite(value):
                raise FaderError(f"{attribute}={value}: the value must be a finite number")
            wanted.append(Change(attribute, float(value)))
        if not wanted:
            raise FaderError("nothing to change; give at least one attribute, such as Smiling=1")
        return wanted


def settle(before: Mapping[str, float], changes: Iterable[Change]) -> dict[str, float]:
    """The attribute values that ``changes``, in order, make of the estimates ``before``.

    A classifier hardly ever answers exactly 0 or 1. So that asking for what is there changes
    nothing, a value to set within 0..1 that is no further than :data:`ALREADY_THERE` from the
    estimate gives the estimate itself. Relative changes always move.
    """
    after = dict(before)
    for change in changes:
        estimate = before[change.attribute]
        value = change.apply(after[change.attribute])
        there = abs(value - estimate) <= ALREADY_THERE and 0 <= value <= 1
        after[change.attribute] = estimate if there and not change.relative else value
    return after


def choose(faces: Sequence[Face], which: Which, image: ImageLike) -> list[Face]:
    """:func:`~fader.faces.detect.select`, with the photo named when the face is not there."""
    try:
        return select(faces, which)
    except NoFaceError as error:
        name = os.fspath(image) if isinstance(image, (str, os.PathLike)) else "the image"
        raise NoFaceError(f"{name}: {error}") from None


def _vector(values: Mapping[str, float]) -> list[float]:
    return list(values.values())


def _colour_profile(source: Image.Image) -> dict[str, bytes]:
    """The photo's ICC profile, as an ``info`` entry, where it still applies.

    A profile for CMYK or grey values does not apply to the RGB ones they were converted to.
    """
    profile = source.info.get("icc_profile")
    return {"icc_profile": profile} if profile and profile[16:20] == b"RGB " else {}
