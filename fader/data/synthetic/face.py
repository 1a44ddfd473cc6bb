"""Drawn faces with known attributes, and for each the true picture with one attribute changed.

On photos nobody knows what the right answer of an edit is; here it is drawn. A
:class:`SyntheticFace` is a value: its :class:`Traits` are what the labels speak of, its
:class:`Look` is everything else, and the counterfactual of a face has the same look and one
other trait.

>>> face = sample_face(np.random.default_rng(0))
>>> before, after = face.draw(), face.with_attribute("Eyeglasses", True).draw()
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fader.attributes import ATTRIBUTES, GROUPS, attribute_name
from fader.data.synthetic import drawing
from fader.data.synthetic.canvas import Colour
from fader.data.synthetic.shape import landmarks
from fader.errors import FaderError

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
    iris: Colour
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
    clothes: Colour
    clothes_style: int
    hat_style: str
    hat_colour: Colour
    glasses_style: str
    glasses_colour: Colour
    background: Colour
    background_second: Colour
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
            change: dict[str, Any] = {"hair": _HAIR_BY_ATTRIBUTE[name]}
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
        return landmarks(self)

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

    def colour(low: int = 30, high: int = 225) -> Colour:
        return tuple(float(value) for value in rng.integers(low, high, 3))

    def muted() -> Colour:
        grey = even(50, 205)
        return tuple(0.5 * (grey + value) for value in colour())

    def one_of(choices: tuple[Any, ...]) -> Any:
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
