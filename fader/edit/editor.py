"""Editing one photo: find the faces, change their attributes, put the changes back."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from fader.attributes import Change, attribute_name, parse_changes, rivals
from fader.errors import FaderError, NoFaceError
from fader.faces.align import warp
from fader.faces.blend import DecodedFace, composite_into, region
from fader.faces.detect import Detector, Face, select
from fader.photo import ImageLike, Photo, Provenance, open_photo, save_photo

if TYPE_CHECKING:
    import torch

    from fader.models.model import FaderModel

Which = Literal["largest", "all"] | int
Output = Literal["photo", "crop", "pair"]
Box = Sequence[float]

#: An attribute whose estimate is this near to the value asked for is taken to be there already.
ALREADY_THERE = 0.05

# An edit to 0 or 1 that moves no attribute further than this is hardly seen, and a note says so.
_HARDLY = 0.25

#: Faces smaller than this, in pixels of the photo, are left alone: there is too little to go by.
SMALLEST_FACE = 32

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
    that were there already, are the same in both. ``achieved`` has what the classifier makes of
    the edited face, where that was asked for, else it is empty.
    """

    face: Face
    before: dict[str, float]
    after: dict[str, float]
    achieved: dict[str, float] = field(default_factory=dict)

    @property
    def changed(self) -> dict[str, float]:
        """The new values of the attributes that were changed."""
        return {name: v for name, v in self.after.items() if v != self.before[name]}

    def to_dict(self) -> dict[str, Any]:
        """The same as plain lists, numbers and strings, for JSON."""
        document = {
            "box": [round(float(v), 2) for v in self.face.box],
            "before": {name: round(value, 4) for name, value in self.before.items()},
            "after": {name: round(value, 4) for name, value in self.after.items()},
        }
        if self.achieved:
            document["achieved"] = {n: round(value, 4) for n, value in self.achieved.items()}
        return document


@dataclass(frozen=True)
class Edit:
    """An edited photo (or crop, or pair), how many faces the photo has, and the edits made.

    ``notes`` are short phrases on what was left alone or could not be kept, ``asked`` the changes
    asked for.
    """

    photo: Photo
    found: int
    faces: tuple[FaceEdit, ...]
    notes: tuple[str, ...] = ()
    asked: tuple[Change, ...] = ()

    @cached_property
    def image(self) -> Image.Image:
        """The result for Pillow: RGB, or RGBA where the photo has alpha."""
        return self.photo.image()

    @property
    def provenance(self) -> Provenance | None:
        """The mark for the result's file: what was asked for and done. None for no change.

        Estimates stay out of it: what a classifier made of a face is nobody else's to read.
        """
        if any(change.face for change in self.asked):
            done = {name for edit in self.faces for name in edit.changed}
            asked = [str(change) for change in self.asked if change.attribute in done]
            return Provenance(", ".join(asked)) if asked else None
        values = [
            ", ".join(str(change) for change in self.asked if change.attribute in edit.changed)
            for edit in self.faces
            if edit.changed
        ]
        return Provenance(" / ".join(dict.fromkeys(values))) if values else None

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        quality: int | None = None,
        provenance: bool = True,
    ) -> tuple[str, ...]:
        """Write the result with all that the photo's file had: see :func:`fader.photo.save_photo`.

        ``provenance=False`` leaves out the mark that says the photo was edited.
        """
        mark = self.provenance if provenance else None
        return save_photo(self.photo, path, quality=quality, provenance=mark)


@dataclass(frozen=True)
class Ask:
    """What an edit under way asks the networks: see :meth:`Editor.answer`.

    Without ``values`` the estimates of ``crops`` (N, S, S, 3) are asked for, with ``values``
    (N, K, n) and the crops' own ones (N, n) their decodings. ``pixels`` is how many the photo has,
    which it holds in memory.
    """

    crops: np.ndarray
    values: np.ndarray | None
    pixels: int
    own: np.ndarray | None = None


class Editor:
    """Edits the attributes of faces in photos.

    >>> from fader import Editor
    >>> Editor().edit("photo.jpg", Male=0).save("out.png")      # doctest: +SKIP

    ``model`` is a model's name, its folder, a Hugging Face Hub id, or a loaded
    :class:`~fader.models.model.FaderModel`; ``device`` is ``"auto"`` or what :class:`torch.device`
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
        from fader.models.pretrained import load_model

        if isinstance(self._source, (str, os.PathLike)):
            return load_model(self._source, self.device)
        return self._source.to(self.device).eval()

    @cached_property
    def fingerprint(self) -> str:
        """Text that differs between models whose weights or edit strengths differ."""
        import hashlib

        digest = hashlib.blake2b(self.model.settings.encode(), digest_size=16)
        for name, value in sorted(self.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @property
    def source(self) -> str | None:
        """The name, folder or Hub id of the model; None for one that was given loaded."""
        return os.fspath(self._source) if isinstance(self._source, (str, os.PathLike)) else None

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
        return self.detector(open_photo(image).pixels)

    def describe(self, image: ImageLike) -> list[Description]:
        """The faces in a photo, largest first, each with all the attributes the model estimates.

        Raises :class:`~fader.errors.UnreadableImageError` for what is not a photo.
        """
        photo = open_photo(image).pixels
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
        where: Box | None = None,
        output: Output = "photo",
        **values: float | str,
    ) -> Image.Image:
        """The photo with its face changed: ``edit("photo.jpg", Male=0, Smiling=1)``.

        The same as :meth:`apply`, without the account of what was done.
        """
        options = {"face": face, "where": where, "output": output}
        return self.apply(image, changes, **options, **values).image

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
        wanted = self._changes(changes, values)
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
    ) -> Iterator[Edit]:
        """One :class:`Edit` of the photo for each of several lists of changes.

        The photo is read and searched for faces once; an edit is made when it is asked for. With
        ``measure`` the classifier looks at each edited face again (``FaceEdit.achieved``). Else as
        :meth:`apply`.
        """
        options = {"face": face, "where": where, "output": output, "measure": measure}
        steps = self.steps(image, variants, **options)
        answer = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration:
                return
            if isinstance(step, Edit):
                answer = None
                yield step
            else:
                (answer,) = self.answer([step])

    def steps(
        self,
        image: ImageLike | Photo,
        variants: Sequence[Sequence[Change]],
        *,
        face: Which = "largest",
        where: Box | None = None,
        output: Output = "photo",
        measure: bool = False,
        found: Sequence[Face] | None = None,
    ) -> Generator[Ask | Edit, Any, None]:
        """:meth:`variants` for many photos at once: yields what it asks the networks, too.

        Each :class:`Ask` is to be sent its answer; whoever does that for several photos asks for
        all of them together. With ``found``, what the detector gives of the photo, it is not
        searched again.
        """
        if output not in ("photo", "crop", "pair"):
            raise FaderError(f"output={output!r}: must be 'photo', 'crop' or 'pair'")
        photo = open_photo(image)
        faces = self.detector(photo.pixels) if found is None else found
        named = {change.face for wanted in variants for change in wanted if change.face}
        numbers, chosen, notes = self._choose(photo, faces, sorted(named) or face, where)
        for wanted in variants:
            own = [[c for c in wanted if c.face in (None, number)] for number in numbers]
            if output == "crop":
                pixels, edits = yield from self._decoded(photo.pixels, chosen, own)
                result = photo.made_into(pixels)
            else:
                pixels, edits = yield from self._edited(photo.pixels, chosen, own)
                result = photo.edited(pixels)
            if measure:
                # A crop is aligned already: all of it is the face.
                crops = (
                    np.stack(np.split(pixels, len(chosen), axis=1))
                    if output == "crop"
                    else self.crop(result.pixels, chosen)
                )
                achieved = self._present((yield Ask(crops, None, pixels.size // 3)))
                edits = [
                    replace(edit, achieved=values)
                    for edit, values in zip(edits, achieved, strict=True)
                ]
            # Of a counterfactual set's variants one is always what is there.
            there = () if measure else _there_already(edits, wanted)
            if output == "pair":
                both = np.concatenate([photo.pixels, result.pixels], axis=1)
                result = photo.made_into(both)
            told = (*photo.notes, *notes, *there)
            yield Edit(result, len(faces), tuple(edits), told, tuple(wanted))

    def _choose(
        self,
        photo: Photo,
        found: Sequence[Face],
        which: Which | Sequence[int],
        where: Box | None,
    ) -> tuple[list[int], list[Face], list[str]]:
        """Numbers and faces of those to edit, and notes on those left alone."""
        try:
            faces = found if where is None else self._within(photo, found, where)
            if isinstance(which, list):
                chosen = [face for number in which for face in select(faces, number)]
            else:
                chosen = select(faces, which)
            large = [face for face in chosen if face.side >= SMALLEST_FACE]
            if not large:
                raise NoFaceError(
                    f"the face is only {max(face.side for face in chosen):.0f} pixels large; those "
                    f"under {SMALLEST_FACE} are left alone, give a larger photo"
                )
        except NoFaceError as error:
            named = NoFaceError(f"{photo.name}: {error}")
            named.found = len(found)
            raise named from None
        notes = []
        if small := len(chosen) - len(large):
            notes.append(f"{small} of its faces left alone, under {SMALLEST_FACE} pixels")
        numbers = {id(face): number for number, face in enumerate(faces, 1)}
        return [numbers[id(face)] for face in large], large, notes

    def _within(self, photo: Photo, faces: Sequence[Face], box: Box) -> list[Face]:
        """The faces whose middle is in ``box``; when none is known, it is searched closely."""
        height, width = photo.pixels.shape[:2]
        x0, y0, x1, y1 = (float(v) for v in box)
        if not (max(x0, 0) < min(x1, width) and max(y0, 0) < min(y1, height)):
            raise NoFaceError(
                f"the box {x0:g},{y0:g},{x1:g},{y1:g} covers nothing of the photo, which is "
                f"{width}x{height} pixels"
            )

        def inside(face: Face) -> bool:
            x, y = (face.box[:2] + face.box[2:]) / 2
            return x0 <= x <= x1 and y0 <= y <= y1

        if there := [face for face in faces if inside(face)]:
            return there
        margin = max(x1 - x0, y1 - y0) / 2
        left, top = max(0, int(x0 - margin)), max(0, int(y0 - margin))
        right, bottom = min(width, int(x1 + margin) + 1), min(height, int(y1 + margin) + 1)
        near = self.detector(np.ascontiguousarray(photo.pixels[top:bottom, left:right]))
        there = [face for one in near if inside(face := one.moved(left, top))]
        if not there:
            raise NoFaceError(
                f"no face found in the box {x0:g},{y0:g},{x1:g},{y1:g}; elsewhere in the photo "
                f"there are {len(faces)}"
            )
        return there

    def _decoded(
        self, photo: np.ndarray, faces: Sequence[Face], changes: Sequence[Sequence[Change]]
    ) -> Generator[Ask, Any, tuple[np.ndarray, list[FaceEdit]]]:
        """The decoder's images of the changed faces, side by side, and the edits."""
        crops = self.crop(photo, faces)
        edits = self._settled(faces, (yield Ask(crops, None, photo.size // 3)), changes)
        own = np.array([_vector(edit.before) for edit in edits])
        values = np.array([[_vector(edit.after)] for edit in edits])
        decoded = yield Ask(crops, values, photo.size // 3, own)
        return np.concatenate([one.image for (one,) in decoded], axis=1), edits

    def _edited(
        self, photo: np.ndarray, faces: Sequence[Face], changes: Sequence[Sequence[Change]]
    ) -> Generator[Ask, Any, tuple[np.ndarray, list[FaceEdit]]]:
        """A copy of the photo with every edit that changes something composited into it."""
        original = photo
        edits: dict[int, FaceEdit] = {}
        for turn in _turns(faces, photo.shape):
            crops = self.crop(photo, [faces[i] for i in turn])
            estimates = yield Ask(crops, None, photo.size // 3)
            some_changes = [changes[i] for i in turn]
            settled = self._settled([faces[i] for i in turn], estimates, some_changes)
            edits.update(zip(turn, settled, strict=True))
            some = [i for i, edit in enumerate(settled) if edit.changed]
            if not some:
                continue
            own = np.array([_vector(settled[i].before) for i in some])
            values = np.array([[_vector(settled[i].after)] for i in some])
            decoded = yield Ask(crops[some], values, photo.size // 3, own)
            photo = photo.copy() if photo is original else photo
            for i, (one,) in zip(some, decoded, strict=True):
                composite_into(photo, settled[i].face, one)
        return photo, [edits[i] for i in range(len(faces))]

    def _settled(
        self,
        faces: Sequence[Face],
        estimates: Sequence[dict[str, float]],
        changes: Sequence[Sequence[Change]],
    ) -> list[FaceEdit]:
        """Each face's edit by its own list of changes."""
        present = self._present(estimates)
        return [
            FaceEdit(face, before, settle(before, own))
            for face, before, own in zip(faces, present, changes, strict=True)
        ]

    # What the networks are asked, for edits of other shapes than a photo (strips, pages).

    def answer(self, asks: Sequence[Ask], together: int = 1) -> list[Any]:
        """The answers to what several edits ask, each what :meth:`estimate` or :meth:`decode` give.

        What is alike is made of all together. The last bits of an estimate depend on how many
        faces go together, and an edit should not: there are always ``together`` of them (or, with
        1, those of one photo).
        """
        answers: list[Any] = [None] * len(asks)
        alike: dict[int, list[int]] = {}
        for i, ask in enumerate(asks):
            alike.setdefault(0 if ask.values is None else ask.values.shape[1], []).append(i)
        for count, some in alike.items():
            if not count and together == 1:
                for i in some:
                    answers[i] = self.estimate(asks[i].crops)
                continue
            crops = np.concatenate([asks[i].crops for i in some])
            if count:
                values, own = (
                    np.concatenate([getattr(asks[i], name) for i in some])
                    for name in ("values", "own")
                )
                made = self.decode(crops, values, own)
            else:
                made = []
                for start in range(0, len(crops), together):
                    part = crops[start : start + together]
                    filled = np.concatenate([part, np.repeat(part[:1], together - len(part), 0)])
                    made += self.estimate(filled)[: len(part)]
            for i, end in zip(some, np.cumsum([len(asks[i].crops) for i in some]), strict=True):
                answers[i] = made[end - len(asks[i].crops) : end]
        return answers

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

    def encode(self, crops: np.ndarray) -> list[torch.Tensor]:
        """What :meth:`decode` can be given of (N, S, S, 3) crops, N ≤ 32."""
        import torch

        with torch.inference_mode():
            return self.model.encode(self._tensor(crops))

    def decode(
        self,
        crops: np.ndarray,
        values: np.ndarray,
        own: np.ndarray,
        encoded: list[torch.Tensor] | None = None,
    ) -> list[list[DecodedFace]]:
        """Each of N crops decoded to show K rows of values: N lists of K.

        ``crops`` is (N, S, S, 3) uint8, ``values`` (N, K, n) with n the model's attributes, and
        ``own`` (N, n) what the crops show now. Each crop is encoded once; or not at all, where
        :meth:`encode` has done it for all of at most 32.
        """
        import torch

        count = values.shape[1]
        decoded: list[list[DecodedFace]] = [[] for _ in crops]
        for first in range(0, len(crops), _BATCH):
            some = range(first, min(first + _BATCH, len(crops)))
            step = max(1, _BATCH // len(some))
            with torch.inference_mode():
                features = encoded or self.encode(crops[first : first + _BATCH])
                present = torch.from_numpy(own[some].astype(np.float32)).to(self.device)
                for start in range(0, count, step):
                    # Row m of the values decodes image m mod N, so the images go round fastest.
                    codes = values[some, start : start + step].swapaxes(0, 1)
                    y = torch.from_numpy(codes.astype(np.float32)).flatten(0, 1).to(self.device)
                    for row, face in enumerate(self.model.change(features, y, present).faces()):
                        decoded[first + row % len(some)].append(face)
        return decoded

    def _tensor(self, crops: np.ndarray) -> torch.Tensor:
        import torch

        x = torch.from_numpy(np.ascontiguousarray(crops)).to(self.device)
        return x.permute(0, 3, 1, 2).float() / 127.5 - 1

    def _present(self, estimates: Sequence[dict[str, float]]) -> list[dict[str, float]]:
        """Of estimates, the attributes that the model edits, in its order."""
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
            replace(c, attribute=attribute_name(c.attribute, self.attributes))
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
    estimate gives the estimate itself. Relative changes always move. An attribute that rises takes
    those it excludes down with it (:func:`fader.attributes.rivals`), unless they are asked for,
    too: black hair that is to be blond is no longer black.
    """
    after = dict(before)
    changes = list(changes)
    asked = {change.attribute for change in changes}
    for change in changes:
        estimate = before[change.attribute]
        value = change.apply(after[change.attribute])
        there = abs(value - estimate) <= ALREADY_THERE and 0 <= value <= 1
        after[change.attribute] = estimate if there and not change.relative else value
        if after[change.attribute] > estimate:
            for rival in set(rivals(change.attribute, list(before))) - asked:
                after[rival] = min(after[rival], max(0.0, 1 - after[change.attribute]))
    return after


def _there_already(edits: Sequence[FaceEdit], changes: Sequence[Change]) -> tuple[str, ...]:
    """A note, if all that ``changes`` ask for was nearly there before, in every face."""
    if any(change.relative or change.value not in (0, 1) for change in changes):
        return ()
    asked = list(dict.fromkeys(change.attribute for change in changes))
    moves = [abs(edit.after[name] - edit.before[name]) for edit in edits for name in asked]
    if not moves or max(moves) > _HARDLY:
        return ()
    values = ", ".join(f"{name} was {edits[0].before[name]:.2f}" for name in asked)
    beyond = -1 if edits[0].after[asked[0]] < 0.5 else 2
    return (f"hardly anything to change, {values} ({asked[0]}={beyond} exaggerates)",)


def choose(faces: Sequence[Face], which: Which, image: ImageLike) -> list[Face]:
    """:func:`~fader.faces.detect.select`, with the photo named when the face is not there."""
    try:
        return select(faces, which)
    except NoFaceError as error:
        name = os.fspath(image) if isinstance(image, (str, os.PathLike)) else "the image"
        raise NoFaceError(f"{name}: {error}") from None


def _turns(faces: Sequence[Face], shape: tuple[int, ...]) -> list[list[int]]:
    """Indices of ``faces`` in lists, so that faces in one list can be edited at once.

    Faces that overlap come one after the other, the earlier (larger) one first: the later one's
    edit then begins with what the earlier one's left.
    """
    places = np.array([region(face, shape) for face in faces])
    turn = np.zeros(len(faces), int)
    for i, (x0, y0, x1, y1) in enumerate(places):
        left, top, right, bottom = places[:i].T
        meets = (left < x1) & (right > x0) & (top < y1) & (bottom > y0)
        turn[i] = 1 + turn[:i][meets].max(initial=-1)
    return [np.flatnonzero(turn == n).tolist() for n in np.unique(turn)]


def _vector(values: Mapping[str, float]) -> list[float]:
    return list(values.values())
