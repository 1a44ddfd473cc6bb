"""Drawn faces with known attributes, and for each the true picture with one attribute changed.

On photos nobody knows what the right answer of an edit is; here it is drawn. A
:class:`SyntheticFace` is a value: its :class:`Traits` are what the labels speak of, its
:class:`Look` is everything else, and the counterfactual of a face has the same look and one
other trait.

>>> face = sample_face(np.random.default_rng(0))
>>> before, after = face.draw(), face.with_attribute("Eyeglasses", True).draw()
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fader.attributes import ATTRIBUTES, GROUPS, attribute_name
from fader.data import drawing
from fader.data.annotations import TEST, TRAIN, VALID
from fader.errors import FaderError
from fader.files import file_lock, sweep_temporaries, write_text
from fader.progress import Progress

#: The attributes that are drawn and labelled truly. All others are -1 in every annotation.
DRAWN: tuple[str, ...] = (
    "Bald",
    "Bangs",
    "Black_Hair",
    "Blond_Hair",
    "Brown_Hair",
    "Eyeglasses",
    "Goatee",
    "Gray_Hair",
    "Male",
    "Mouth_Slightly_Open",
    "Mustache",
    "No_Beard",
    "Pale_Skin",
    "Rosy_Cheeks",
    "Smiling",
    "Wearing_Earrings",
    "Wearing_Hat",
    "Wearing_Lipstick",
    "Young",
)

_HAIR_BY_ATTRIBUTE = {attribute: name for name, attribute in GROUPS["Hair"].items()}
_BEARD_ATTRIBUTES = ("Goatee", "Mustache", "No_Beard")
_FIELD_BY_ATTRIBUTE = {
    "Bangs": "bangs",
    "Eyeglasses": "eyeglasses",
    "Male": "male",
    "Mouth_Slightly_Open": "mouth_open",
    "Mustache": "mustache",
    "Pale_Skin": "pale",
    "Rosy_Cheeks": "rosy",
    "Smiling": "smiling",
    "Wearing_Earrings": "earrings",
    "Wearing_Hat": "hat",
    "Wearing_Lipstick": "lipstick",
    "Young": "young",
}


@dataclass(frozen=True)
class Traits:
    """What the labels speak of.

    ``hair`` is a member of the Hair group (``"Black"`` … ``"Bald"``), ``beard`` one of ``"none"``,
    ``"goatee"``, ``"full"``. Beard and mustache grow on men only and bangs do not show under a
    hat; the labels say what shows.
    """

    male: bool
    young: bool
    smiling: bool
    mouth_open: bool
    eyeglasses: bool
    hat: bool
    hair: str
    bangs: bool
    mustache: bool
    beard: str
    pale: bool
    rosy: bool
    lipstick: bool
    earrings: bool


@dataclass(frozen=True)
class Look:
    """Everything about a face that no label speaks of.

    Plain numbers are -1..1 around the mean (``hair_length``, ``hair_volume``, ``skin`` and the
    ``*_shade`` of lips and jewels 0..1), angles are radians except ``roll`` (degrees), shifts
    are pixels, colours RGB 0..255.
    """

    skin: float
    face_width: float
    jaw: float
    chin: float
    roll: float
    scale: float
    shift_x: float
    shift_y: float
    turn: float
    eye_size: float
    iris: drawing.Colour
    brow_height: float
    brow_angle: float
    brow_weight: float
    nose_width: float
    nose_length: float
    mouth_width: float
    lip_fullness: float
    lipstick_shade: float
    hair_shade: float
    hair_volume: float
    hair_length: float
    hair_wave: float
    hair_part: float
    jewel_shade: float
    clothes: drawing.Colour
    clothes_style: int
    hat_style: str
    hat_colour: drawing.Colour
    glasses_style: str
    glasses_colour: drawing.Colour
    background: drawing.Colour
    background_second: drawing.Colour
    background_angle: float
    light_angle: float
    light_strength: float
    brightness: float
    noise: float
    noise_seed: int


@dataclass(frozen=True)
class SyntheticFace:
    """One drawn face. Equal faces give equal pictures."""

    traits: Traits
    look: Look

    @property
    def beard(self) -> str:
        """The beard that shows: ``"none"``, ``"goatee"`` or ``"full"``."""
        return self.traits.beard if self.traits.male else "none"

    @property
    def mustache(self) -> bool:
        """Whether a mustache shows."""
        return self.traits.mustache and self.traits.male

    @property
    def bangs(self) -> bool:
        """Whether bangs show."""
        return self.traits.bangs and not self.traits.hat and self.traits.hair != "Bald"

    @property
    def attributes(self) -> dict[str, bool]:
        """All forty attributes in CelebA's order; those not in :data:`DRAWN` are False."""
        values = {name: getattr(self.traits, field) for name, field in _FIELD_BY_ATTRIBUTE.items()}
        values |= {name: self.traits.hair == hair for name, hair in _HAIR_BY_ATTRIBUTE.items()}
        values |= {"Bangs": self.bangs, "Mustache": self.mustache}
        values |= {"Goatee": self.beard == "goatee", "No_Beard": self.beard == "none"}
        return {name: values.get(name, False) for name in ATTRIBUTES}

    @property
    def editable(self) -> tuple[str, ...]:
        """The attributes whose opposite can be drawn for this face.

        A hair colour can be given but not merely taken away (which one would follow?), only men
        grow beards, nobody is bald under a hat, and bangs need hair in sight.
        """
        traits = self.traits
        left_out = {name for name, hair in _HAIR_BY_ATTRIBUTE.items() if hair == traits.hair}
        if not traits.male:
            left_out.update(_BEARD_ATTRIBUTES)
        if traits.hat:
            left_out.update(("Bald", "Bangs"))
        if traits.hair == "Bald":
            left_out.update(("Wearing_Hat", "Bangs"))
        return tuple(name for name in DRAWN if name not in left_out)

    def with_attribute(self, name: str, value: bool) -> SyntheticFace:
        """The same face with ``name`` (any case) set to ``value``: the true counterfactual.

        Labels that cannot stay follow: a new hair colour replaces the old one, a bearded man's
        beard goes with ``Male``, ``Goatee`` and ``No_Beard`` exclude each other, a hat hides
        bangs. :attr:`attributes` of the result tells.

        Raises :class:`~fader.errors.FaderError` when this face cannot have that value (see
        :attr:`editable`), :class:`~fader.errors.UnknownAttributeError` for a name not drawn.
        """
        name = attribute_name(name, DRAWN)
        if self.attributes[name] == value:
            return self
        if name not in self.editable:
            raise FaderError(f"this drawn face cannot have {name}={int(value)}")
        if name in _HAIR_BY_ATTRIBUTE:
            change = {"hair": _HAIR_BY_ATTRIBUTE[name]}
        elif name == "Goatee":
            change = {"beard": "goatee" if value else "none"}
        elif name == "No_Beard":
            change = {"beard": "none" if value else "full"}
        else:
            change = {_FIELD_BY_ATTRIBUTE[name]: value}
        return replace(self, traits=replace(self.traits, **change))

    @property
    def landmarks(self) -> np.ndarray:
        """(5, 2) float64 pixels: left eye, right eye, nose, left and right mouth corner."""
        return drawing.landmarks(self)

    def draw(self) -> np.ndarray:
        """The picture: (218, 178, 3) uint8 RGB."""
        return drawing.draw(self)


# ---------------------------------------------------------------- sampling

_IRIS_COLOURS = ((92, 56, 30), (60, 38, 24), (70, 118, 168), (88, 132, 84), (118, 128, 136))
_GLASSES_COLOURS = ((24, 22, 24), (86, 44, 24), (140, 24, 32), (30, 48, 110))


def sample_traits(rng: np.random.Generator) -> Traits:
    """Random traits, independent of each other with these exceptions: only men have beards or
    bald heads, only women wear lipstick and more of them earrings, no bald head wears a hat."""

    def chance(probability: float) -> bool:
        return bool(rng.random() < probability)

    male = chance(0.5)
    shares = (0.24, 0.22, 0.22, 0.16, 0.16) if male else (0.3, 0.27, 0.27, 0.16, 0.0)
    hair = str(rng.choice(["Black", "Brown", "Blond", "Gray", "Bald"], p=shares))
    hat = chance(0.2) and hair != "Bald"
    return Traits(
        male=male,
        young=chance(0.6),
        smiling=chance(0.5),
        mouth_open=chance(0.45),
        eyeglasses=chance(0.35),
        hat=hat,
        hair=hair,
        bangs=chance(0.35) and not hat and hair != "Bald",
        mustache=chance(0.3) and male,
        beard=str(rng.choice(["none", "goatee", "full"], p=(0.6, 0.2, 0.2))) if male else "none",
        pale=chance(0.25),
        rosy=chance(0.25),
        lipstick=chance(0.5) and not male,
        earrings=chance(0.1 if male else 0.4),
    )


def sample_look(rng: np.random.Generator) -> Look:
    """A random look. The pose scatters the landmarks a few pixels around CelebA's template."""

    def even(low: float = -1.0, high: float = 1.0) -> float:
        return float(rng.uniform(low, high))

    def colour(low: int = 30, high: int = 225) -> drawing.Colour:
        return tuple(float(value) for value in rng.integers(low, high, 3))

    def muted() -> drawing.Colour:
        grey = even(50, 205)
        return tuple(0.5 * (grey + value) for value in colour())

    def one_of(choices: tuple) -> object:
        return choices[int(rng.integers(len(choices)))]

    return Look(
        skin=even(0, 1),
        face_width=even(),
        jaw=even(),
        chin=even(),
        roll=float(rng.normal(0, 1.8)),
        scale=float(np.clip(rng.normal(1, 0.02), 0.94, 1.06)),
        shift_x=float(rng.normal(0, 0.9)),
        shift_y=float(rng.normal(0, 0.9)),
        turn=even(-2, 2),
        eye_size=even(),
        iris=one_of(_IRIS_COLOURS),
        brow_height=even(),
        brow_angle=even(),
        brow_weight=even(),
        nose_width=even(),
        nose_length=even(),
        mouth_width=even(),
        lip_fullness=even(),
        lipstick_shade=even(0, 1),
        hair_shade=even(),
        hair_volume=even(0, 1),
        hair_length=even(0, 1),
        hair_wave=even(),
        hair_part=even(),
        jewel_shade=even(0, 1),
        clothes=colour(),
        clothes_style=int(rng.integers(3)),
        hat_style=one_of(("beanie", "cap", "brim")),
        hat_colour=colour(40, 200),
        glasses_style=one_of(("round", "square", "aviator")),
        glasses_colour=one_of(_GLASSES_COLOURS),
        background=muted(),
        background_second=muted(),
        background_angle=even(0, 2 * np.pi),
        light_angle=even(0, 2 * np.pi),
        light_strength=even(0, 0.16),
        brightness=even(0.88, 1.08),
        noise=even(0.5, 3),
        noise_seed=int(rng.integers(2**31)),
    )


def sample_face(rng: np.random.Generator) -> SyntheticFace:
    """A random face; the same generator state gives the same face."""
    return SyntheticFace(sample_traits(rng), sample_look(rng))


def face_number(number: int, seed: int) -> SyntheticFace:
    """Face ``number`` (from 1) of the data set with that seed, whatever the set's size."""
    return sample_face(np.random.default_rng((seed, number)))


# ---------------------------------------------------------------- the data set on disk

_IMAGES = "img_align_celeba"
_COUNTERFACTUALS = "counterfactuals"
_SETTINGS_FILE = "synth.json"
_LOCK = ".lock"
_DRAWING_VERSION = 1  # raise when pictures change, so that no folder mixes two styles
_JPEG = (
    cv2.IMWRITE_JPEG_QUALITY,
    95,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
)
_LANDMARK_NAMES = " ".join(
    f"{point}_{axis}"
    for point in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
    for axis in "xy"
)


def image_name(number: int) -> str:
    """``1`` → ``"000001.jpg"``, as in CelebA."""
    return f"{number:06d}.jpg"


def splits(n: int) -> list[int]:
    """The partition of ``n`` faces in order: 80 % train (0), 10 % valid (1), 10 % test (2)."""
    tenth = max(1, round(n / 10))
    return [TRAIN] * (n - 2 * tenth) + [VALID] * tenth + [TEST] * tenth


def write_dataset(
    dest: str | os.PathLike[str],
    n: int,
    seed: int = 0,
    counterfactuals: bool = True,
    progress: bool = True,
) -> None:
    """Draw ``n`` faces (3 … 999,999) into the folder ``dest``, in CelebA's layout.

    There are ``img_align_celeba/000001.jpg`` … (178x218, JPEG at quality 95), ``list_attr_celeba``,
    ``list_eval_partition``, ``identity_CelebA`` (each face is its own person) and
    ``list_landmarks_align_celeba`` (the true landmarks, rounded to pixels as CelebA's are). With
    ``counterfactuals`` every test face is drawn again for each of its editable attributes, as
    ``counterfactuals/Smiling/000123.jpg``; ``counterfactuals.csv`` lists them with the label
    before and after (-1 or 1) and, under ``also``, the labels that had to follow.
    ``synth.json`` holds the settings and the drawn attributes.

    The same seed gives the same bytes. A run that was stopped is finished by the same call; the
    annotation files come last, so a folder that has them is complete.

    Raises :class:`~fader.errors.FaderError` when ``dest`` holds anything else or another process
    is drawing into it, ``n`` is out of range, or the disk refuses.
    """
    if not 3 <= n <= 999_999:
        raise FaderError(f"cannot draw {n} faces; the number must be 3 to 999999")
    dest = Path(dest)
    settings = {
        "generator": "fader synth",
        "drawing_version": _DRAWING_VERSION,
        "n": n,
        "seed": seed,
        "counterfactuals": counterfactuals,
        "drawn_attributes": list(DRAWN),
    }
    try:
        _refuse_others(dest, settings)
        held = f"{dest}: another process is drawing into it; wait for it, or give a new folder"
        with file_lock(dest / _LOCK, held):
            sweep_temporaries(dest)
            _refuse_others(dest, settings)
            _write_dataset(dest, settings, progress)
    except OSError as error:
        raise FaderError(f"{dest}: could not be written ({error.strerror or error})") from None


def _write_dataset(dest: Path, settings: dict[str, Any], progress: bool) -> None:
    n, seed = settings["n"], settings["seed"]
    if not (dest / _SETTINGS_FILE).exists():
        write_text(dest / _SETTINGS_FILE, json.dumps(settings, indent=2) + "\n")
    faces = [face_number(number, seed) for number in range(1, n + 1)]
    pictures = [(dest / _IMAGES / image_name(i), face) for i, face in enumerate(faces, 1)]
    changed = _counterfactuals(faces) if settings["counterfactuals"] else []
    pictures += [(dest / file, face) for _, _, file, face in changed]
    _draw_missing(pictures, progress)
    if settings["counterfactuals"]:
        write_text(dest / "counterfactuals.csv", _counterfactual_table(faces, changed))
    _write_annotations(dest, faces)


def _refuse_others(dest: Path, settings: dict[str, Any]) -> None:
    """Raise :class:`FaderError` unless ``dest`` is absent, empty, or ours with these settings."""
    if dest.exists() and not dest.is_dir():
        raise FaderError(f"{dest}: is a file; give the name of a new folder")
    path = dest / _SETTINGS_FILE
    if path.exists():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            found = None
        if found != settings:
            raise FaderError(
                f"{dest}: holds faces drawn with other settings (see {path.name} in it); "
                "repeat with those, or give a new folder"
            )
    # Only the lock and a temporary file come before the settings.
    elif dest.exists() and any(
        path.name != _LOCK and not path.name.startswith(".tmp-") for path in dest.iterdir()
    ):
        raise FaderError(f"{dest}: is not empty; give a new or empty folder")


def _counterfactuals(
    faces: Sequence[SyntheticFace],
) -> list[tuple[int, str, str, SyntheticFace]]:
    """Number of the test face, attribute, file and changed face, for every editable attribute."""
    return [
        (
            number,
            name,
            f"{_COUNTERFACTUALS}/{name}/{image_name(number)}",
            face.with_attribute(name, not face.attributes[name]),
        )
        for number, (face, split) in enumerate(zip(faces, splits(len(faces)), strict=True), 1)
        if split == TEST
        for name in face.editable
    ]


def _draw_missing(pictures: Sequence[tuple[Path, SyntheticFace]], progress: bool) -> None:
    for folder in {path.parent for path, _ in pictures}:
        folder.mkdir(parents=True, exist_ok=True)
    with Progress(len(pictures), unit="face", shown=progress) as bar:
        for path, face in pictures:
            if not _is_whole_jpeg(path):
                _, data = cv2.imencode(".jpg", face.draw()[..., ::-1], _JPEG)
                # Renamed when complete, but not flushed to disk one by one as files.atomic_path
                # would: that costs more than the drawing, and a picture lost to a power cut is
                # drawn again.
                partial = path.with_suffix(".part")
                partial.write_bytes(data)
                os.replace(partial, path)
            bar.update()


def _is_whole_jpeg(path: Path) -> bool:
    """Whether the file is there and ends with JPEG's end marker."""
    try:
        with open(path, "rb") as file:
            file.seek(-2, os.SEEK_END)
            return file.read() == b"\xff\xd9"
    except OSError:  # not there, or shorter than the marker
        return False


def _label(value: bool) -> int:
    return 1 if value else -1


def _counterfactual_table(
    faces: Sequence[SyntheticFace], changed: Sequence[tuple[int, str, str, SyntheticFace]]
) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["image", "attribute", "from", "to", "also", "file"])
    for number, name, file, face in changed:
        before, after = faces[number - 1].attributes, face.attributes
        also = [
            f"{other}={_label(after[other])}"
            for other in DRAWN
            if other != name and after[other] != before[other]
        ]
        labels = (_label(before[name]), _label(after[name]))
        table.writerow([image_name(number), name, *labels, ";".join(also), file])
    return text.getvalue()


def _write_annotations(dest: Path, faces: Sequence[SyntheticFace]) -> None:
    """CelebA's four text files, spaced as CelebA spaces them."""
    names = [image_name(number) for number in range(1, len(faces) + 1)]

    def write(file: str, header: Sequence[str], rows: Sequence[str]) -> None:
        lines = [*header, *(f"{name} {row}" for name, row in zip(names, rows, strict=True))]
        write_text(dest / file, "\n".join(lines) + "\n")

    count = str(len(faces))
    points = [np.rint(face.landmarks).astype(int).ravel() for face in faces]
    labels = [[_label(value) for value in face.attributes.values()] for face in faces]
    write("identity_CelebA.txt", [], [str(number) for number in range(1, len(faces) + 1)])
    write("list_eval_partition.txt", [], [str(split) for split in splits(len(faces))])
    write(
        "list_landmarks_align_celeba.txt",
        [count, _LANDMARK_NAMES],
        [" ".join(f"{value:3d}" for value in row) for row in points],
    )
    write(
        "list_attr_celeba.txt",
        [count, " ".join(ATTRIBUTES)],
        [" ".join(f"{value:2d}" for value in row) for row in labels],
    )
