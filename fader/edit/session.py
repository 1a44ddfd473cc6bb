"""A photo that stays open: read, searched and encoded once, then edited as often as one likes.

A move of a slider runs the decoder alone and draws one face at the size it is seen; a whole photo
is composed by the very steps of ``fader edit``, with the answers of the networks remembered, so
that both give the same bytes.
"""

from __future__ import annotations

import hashlib
import shlex
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fader.attributes import Change, attribute_name, parse_changes
from fader.edit.choice import SMALLEST_FACE, Which
from fader.edit.editor import Editor
from fader.edit.networks import Networks
from fader.edit.outputs import beside, edit_bytes
from fader.edit.results import Edit, FaceEdit
from fader.edit.values import settle
from fader.errors import FaderError, NoFaceError
from fader.faces.blend import DecodedFace, composite_into, region
from fader.faces.detect import Face
from fader.photo import kind_of, read_photo

Values = Mapping[str, float | str]
#: What is asked of a photo: by the face's number, the values asked for.
Edits = Mapping[int, Values]

_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "BMP": ".bmp", "TIFF": ".tif"}
_SUFFIXES |= {"AVIF": ".avif", "HEIF": ".heic"}

# Answers of the networks that are remembered of a photo, and pictures of faces to draw on.
_ANSWERS, _STAGES = 16, 8


class Superseded(Exception):
    """Work that nobody waits for any more was left off."""


@dataclass(frozen=True)
class OpenFace:
    """A face of an open photo: its ``number`` from the largest, 1, and what it shows: all that
    the classifier estimates.

    ``region`` is the part of the photo that its edits can touch, x0, y0, x1, y1 in pixels.
    """

    number: int
    face: Face
    estimates: dict[str, float]
    region: tuple[int, int, int, int]

    @property
    def editable(self) -> bool:
        """Whether it is large enough to be edited."""
        x0, y0, x1, y1 = self.region
        return self.face.side >= SMALLEST_FACE and x0 < x1 and y0 < y1


@dataclass(frozen=True)
class _Stage:
    """A face's region as it is shown: pixels (h, w, 3) uint8, their size by that of the photo."""

    pixels: np.ndarray
    scale: tuple[float, float]
    corner: tuple[int, int]

    def placed(self, face: Face) -> Face:
        """``face`` of the photo, in the stage's pixels."""
        scale = np.array(self.scale)
        points = (face.landmarks - self.corner + 0.5) * scale - 0.5
        return Face(face.box, face.score, points)


class _Kept:
    """The last ``most`` things made, by what they were made of. To be asked by several threads."""

    def __init__(self, most: int) -> None:
        self._most, self._lock = most, threading.Lock()
        self._things: OrderedDict[Any, Any] = OrderedDict()

    def __call__(self, key: Any, make: Callable[..., Any], *given: Any) -> Any:
        with self._lock:
            if key in self._things:
                self._things.move_to_end(key)
                return self._things[key]
        made = make(*given)
        with self._lock:
            self._things[key] = made
            while len(self._things) > self._most:
                self._things.popitem(last=False)
        return made


class _Remembering(Networks):
    """Networks that remember their last answers."""

    def __init__(self, networks: Networks) -> None:
        super().__init__(networks.backend)
        self._kept = _Kept(_ANSWERS)

    def estimate(self, crops: np.ndarray) -> list[dict[str, float]]:
        return self._kept(("estimate", _digest(crops)), super().estimate, crops)

    def encode(self, crops: np.ndarray) -> list[Any]:
        return self._kept(("encode", _digest(crops)), super().encode, crops)


@dataclass
class OpenPhoto:
    """A photo, given as its file's content, that is edited again and again.

    ``name`` is what the file is called; only its last part counts. All is kept in memory, about
    :attr:`nbytes` of it, and nothing is written. Its methods may be called by several threads.

    Raises :class:`~fader.errors.UnreadableImageError` for what is not a photo.
    """

    editor: Editor
    data: bytes
    name: str
    current: dict[int, dict[str, float | str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.photo = read_photo(self.data, self.name)
        self.height, self.width = self.photo.pixels.shape[:2]
        pixels = self.photo.pixels
        self.found = self.editor.detector(pixels)
        self.networks = _Remembering(self.editor.networks)
        self._stages = _Kept(_STAGES)
        self._crops = [self.networks.crop(pixels, [face]) for face in self.found]
        self.faces = tuple(
            OpenFace(n, face, self.networks.estimate(crop)[0], region(face, pixels.shape))
            for n, (face, crop) in enumerate(zip(self.found, self._crops, strict=True), 1)
        )

    @property
    def nbytes(self) -> int:
        """Memory it takes, roughly, with what its edits will be remembered by."""
        arrays = (self.photo.pixels, self.photo.alpha, self.photo.deep)
        pixels = sum(array.nbytes for array in arrays if array is not None)
        return pixels + len(self.data) + (_STAGES + _ANSWERS << 20)

    @property
    def source(self) -> Path:
        """Its file's name, without any folder."""
        name = self.name.replace("\\", "/").split("/")[-1]
        name = "".join(c for c in name if c.isprintable()).strip(". ")[-200:]
        return Path(name or "photo")

    @property
    def output(self) -> Path:
        """What its edit is called: in the photo's own format, where that can be written."""
        suffix = _SUFFIXES.get(self.photo.kind or "", ".png")
        known = kind_of(self.source.suffix) == self.photo.kind
        return beside(self.source if known else self.source.with_suffix(suffix))

    def face(self, number: int) -> OpenFace:
        """The face with this number, if it can be edited; else :class:`NoFaceError`."""
        if not 1 <= number <= len(self.faces):
            there = f"faces 1 to {len(self.faces)}" if self.faces else "no face"
            raise NoFaceError(f"{self.name}: there is no face {number}; the photo has {there}")
        if not self.faces[number - 1].editable:
            raise NoFaceError(
                f"{self.name}: face {number} is too small; those under {SMALLEST_FACE} pixels are "
                "left alone"
            )
        return self.faces[number - 1]

    def before(self, number: int) -> dict[str, float]:
        """What a face shows of the attributes that the model edits."""
        return {name: self.face(number).estimates[name] for name in self.editor.attributes}

    def changes(self, number: int, values: Values) -> list[Change]:
        """The changes that set a face's attributes to ``values``.

        Numbers are values to set; text is what ``--set`` takes. On the command line a sign means
        "from what is there", so a value below zero becomes such a move.
        """
        before = self.before(number)
        changes: list[Change] = []
        for name, value in values.items():
            if isinstance(value, str):
                changes += parse_changes(f"{name}={value}", self.editor.attributes)
                continue
            known = attribute_name(name, self.editor.attributes)
            if not np.isfinite(value) or abs(value) > 100:
                raise FaderError(f"{known}={value}: the value must be a number, such as 0.5")
            text = f"{value - before[known]:+.4f}" if value < 0 else f"{value:g}"
            changes += parse_changes(f"{known}={text}", self.editor.attributes)
        return changes

    def values(self, number: int, values: Values) -> dict[str, float]:
        """All attributes of a face as an edit to ``values`` leaves them."""
        return settle(self.before(number), self.changes(number, values))

    def command(self, edits: Edits) -> str:
        """The ``fader edit`` line that makes the same file as :meth:`edited`; "" without edits."""
        asked, one = self._asked(edits)
        if not asked:
            return ""
        parts = ["fader", "edit", _shell_name(self.source)]
        parts += ["--face", str(one)] if one and len(self.faces) > 1 else []
        parts += ["--set", ",".join(map(str, asked)), "-o", _shell_name(self.output)]
        if self.editor.source not in (None, "default"):
            parts += ["--model", self.editor.source]
        return shlex.join(parts)

    def preview(
        self,
        number: int,
        values: Values,
        side: int = 512,
        wanted: Callable[[], bool] = lambda: True,
    ) -> Image.Image:
        """A face's :attr:`OpenFace.region` with ``values``, at most ``side`` pixels large.

        Other faces that reach into it are as :attr:`current` has them. The encoder and the detector
        are not run. Raises :class:`Superseded` when ``wanted`` says that nobody waits any more.
        """
        after = self.values(number, values)
        stage = self._stage(number, side)
        pixels = stage.pixels.copy()
        if after != self.before(number):
            decoded = self._decoded(number, after)
            if not wanted():
                raise Superseded
            composite_into(pixels, stage.placed(self.faces[number - 1].face), decoded)
        return Image.fromarray(pixels)

    def edited(self, edits: Edits) -> Edit:
        """The whole photo with the faces edited: what ``fader edit`` makes of :meth:`command`."""
        changes, one = self._asked(edits)
        if not changes:
            return Edit(self.photo, len(self.faces), (), self.photo.notes)
        return self.apply(changes, one or "all")

    def apply(self, changes: list[Change], which: Which) -> Edit:
        """:meth:`~fader.edit.editor.Editor.apply` on this photo, the networks' answers kept."""
        (edit,) = self.editor.variants(
            self.photo, [changes], face=which, found=self.found, networks=self.networks
        )
        return edit

    def file(self, edit: Edit, quality: int | None = None, provenance: bool = True) -> bytes:
        """The file of an edit of this photo, in its format, with its metadata."""
        source = (self.source, self.data)
        return edit_bytes(edit, source, self.output, quality=quality, provenance=provenance)[0]

    def _asked(self, edits: Edits) -> tuple[list[Change], int | None]:
        """All changes, and the number of the one face they are for, if it is one. A command for one
        face names it by --face, so that no face but that one is looked at."""
        asked = {number: self.changes(number, values) for number, values in sorted(edits.items())}
        asked = {number: changes for number, changes in asked.items() if changes}
        one = next(iter(asked)) if len(asked) == 1 else None
        return [
            replace(change, face=None if one else number)
            for number, changes in asked.items()
            for change in changes
        ], one

    def _decoded(self, number: int, after: dict[str, float]) -> DecodedFace:
        edit = FaceEdit(self.faces[number - 1].face, self.before(number), after)
        return self.networks.decode_edits(self._crops[number - 1], [edit])[0]

    def _stage(self, number: int, side: int) -> _Stage:
        """What a face is drawn on."""
        region = self.face(number).region
        others = [
            (other, values)
            for other, values in sorted(self.current.items())
            if other != number and values and _meet(self.face(other).region, region)
        ]
        return self._stages((number, side, repr(others)), self._drawn, number, side, others)

    def _drawn(self, number: int, side: int, others: list[tuple[int, Values]]) -> _Stage:
        x0, y0, x1, y1 = self.faces[number - 1].region
        pixels = self.photo.pixels[y0:y1, x0:x1]
        shrink = min(1.0, side / max(pixels.shape[:2]))
        size = tuple(max(1, round(n * shrink)) for n in (x1 - x0, y1 - y0))
        scale = size[0] / (x1 - x0), size[1] / (y1 - y0)
        stage = _Stage(np.array(reduced(pixels, size)), scale, (x0, y0))
        for other, values in others:
            decoded = self._decoded(other, self.values(other, values))
            composite_into(stage.pixels, stage.placed(self.faces[other - 1].face), decoded)
        return stage


def reduced(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8 at a ``size`` (width, height) no larger than it is."""
    import cv2

    if size == pixels.shape[1::-1]:
        return pixels
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


def _digest(array: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=16).digest()


def _meet(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _shell_name(path: Path) -> str:
    """A file's name that no command takes for an option."""
    return f"./{path}" if str(path).startswith("-") else str(path)
