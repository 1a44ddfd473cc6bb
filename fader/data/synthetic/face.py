"""Drawn faces with known attributes, and for each the true picture with one attribute changed.

On photos nobody knows what the right answer of an edit is; here it is drawn. Of a
:class:`SyntheticFace` its :class:`Traits` are what the labels speak of, its :class:`Look` is
everything else, and its counterfactual has the same look and one other trait.

>>> face = sample_face(np.random.default_rng(0))
>>> before, after = face.draw(), face.with_attribute("Eyeglasses", True).draw()
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, get_type_hints

import numpy as np

from fader.attributes import ATTRIBUTES, GROUPS, attribute_name
from fader.data.synthetic.canvas import Colour, loop, ramp, shade, symmetric
from fader.errors import FaderError

_HAIR_BY_ATTRIBUTE = {attribute: name for name, attribute in GROUPS["Hair"].items()}
_BEARD_ATTRIBUTES = ("Goatee", "Mustache", "No_Beard")
_FIELD_BY_ATTRIBUTE = {
    **{"Male": "male", "Young": "young", "Smiling": "smiling", "Mouth_Slightly_Open": "mouth_open"},
    **{"Eyeglasses": "eyeglasses", "Bangs": "bangs", "Mustache": "mustache"},
    **{"Pale_Skin": "pale", "Rosy_Cheeks": "rosy", "Wearing_Earrings": "earrings"},
    **{"Wearing_Hat": "hat", "Wearing_Lipstick": "lipstick"},
}
#: The attributes that are drawn and labelled truly. All others are -1 in every annotation.
DRAWN: tuple[str, ...] = tuple(
    name
    for name in ATTRIBUTES
    if name in {*_FIELD_BY_ATTRIBUTE, *_HAIR_BY_ATTRIBUTE, *_BEARD_ATTRIBUTES}
)

_CENTRE_X = 89.4  # the middle of CelebA's mean eyes and mouth corners
EYE_X, EYE_Y = 19.8, 112.2
NOSE_Y = 136.8
_MOUTH_Y = 153.05
# How much further than the eyes these move when the head turns.
NOSE_DEPTH, MOUTH_DEPTH = 1.9, 1.25

#: Light to dark, interpolated by ``look.skin``; pale skin is outside this range.
_SKIN_TONES = ((230, 180, 148), (218, 164, 126), (198, 140, 102), (150, 100, 70), (104, 68, 48))
_PALE_TONES = ((246, 226, 216), (238, 216, 204))
_BROWN = (104, 66, 38)
_HAIR_COLOURS = {"Black": (30, 26, 28), "Blond": (226, 190, 112), "Gray": (172, 174, 178)}
_IRIS_COLOURS = ((92, 56, 30), (60, 38, 24), (70, 118, 168), (88, 132, 84), (118, 128, 136))
_GLASSES_COLOURS = ((24, 22, 24), (86, 44, 24), (140, 24, 32), (30, 48, 110))


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


_Sampler = Callable[[np.random.Generator], Any]


def _even(low: float = -1.0, high: float = 1.0) -> _Sampler:
    return lambda rng: float(rng.uniform(low, high))


def _around(mean: float, spread: float, low: float = -np.inf, high: float = np.inf) -> _Sampler:
    return lambda rng: float(np.clip(rng.normal(mean, spread), low, high))


def _one_of(*choices: Any) -> _Sampler:
    return lambda rng: choices[int(rng.integers(len(choices)))]


def _colour(low: int = 30, high: int = 225) -> _Sampler:
    return lambda rng: tuple(float(value) for value in rng.integers(low, high, 3))


def _muted(rng: np.random.Generator) -> Colour:
    grey = _even(50, 205)(rng)
    return tuple(0.5 * (grey + value) for value in _colour()(rng))


_Even = Annotated[float, _even()]
_Share = Annotated[float, _even(0, 1)]
_Angle = Annotated[float, _even(0, 2 * np.pi)]


@dataclass(frozen=True)
class Look:
    """Everything about a face that no label speaks of, and how it is sampled, in this order.

    Plain numbers are -1..1 around the mean, or 0..1; angles are radians except ``roll`` (degrees);
    shifts, and ``turn`` (of the eyes), are pixels; colours RGB 0..255. The pose scatters the
    landmarks a few pixels around CelebA's template.
    """

    skin: _Share
    face_width: _Even
    jaw: _Even
    chin: _Even
    roll: Annotated[float, _around(0, 1.8)]
    scale: Annotated[float, _around(1, 0.02, 0.94, 1.06)]
    shift_x: Annotated[float, _around(0, 0.9)]
    shift_y: Annotated[float, _around(0, 0.9)]
    turn: Annotated[float, _even(-2, 2)]
    eye_size: _Even
    iris: Annotated[Colour, _one_of(*_IRIS_COLOURS)]
    brow_height: _Even
    brow_angle: _Even
    brow_weight: _Even
    nose_width: _Even
    nose_length: _Even
    mouth_width: _Even
    lip_fullness: _Even
    lipstick_shade: _Share
    hair_shade: _Even
    hair_volume: _Share
    hair_length: _Share
    hair_wave: _Even
    hair_part: _Even
    jewel_shade: _Share
    clothes: Annotated[Colour, _colour()]
    clothes_style: Annotated[int, _one_of(0, 1, 2)]
    hat_style: Annotated[str, _one_of("beanie", "cap", "brim")]
    hat_colour: Annotated[Colour, _colour(40, 200)]
    glasses_style: Annotated[str, _one_of("round", "square", "aviator")]
    glasses_colour: Annotated[Colour, _one_of(*_GLASSES_COLOURS)]
    background: Annotated[Colour, _muted]
    background_second: Annotated[Colour, _muted]
    background_angle: _Angle
    light_angle: _Angle
    light_strength: Annotated[float, _even(0, 0.16)]
    brightness: Annotated[float, _even(0.88, 1.08)]
    noise: Annotated[float, _even(0.5, 3)]
    noise_seed: Annotated[int, lambda rng: int(rng.integers(2**31))]


_LOOK_SAMPLERS: dict[str, _Sampler] = {
    name: hint.__metadata__[0] for name, hint in get_type_hints(Look, include_extras=True).items()
}


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
        """The attributes whose opposite can be drawn for this face: a hair colour can be given but
        not merely taken away (which one would follow?), only men grow beards, nobody is bald under
        a hat, and bangs need hair in sight."""
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
        beard goes with ``Male``, ``Goatee`` and ``No_Beard`` exclude each other, a hat hides bangs.
        Raises :class:`~fader.errors.FaderError` for what is not :attr:`editable`,
        :class:`~fader.errors.UnknownAttributeError` for a name not drawn.
        """
        name = attribute_name(name, DRAWN)
        if self.attributes[name] == value:
            return self
        if name not in self.editable:
            raise FaderError(f"this drawn face cannot have {name}={int(value)}")
        change: dict[str, Any]
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
    def skin_colour(self) -> Colour:
        """Between light and dark as the look says; pale skin is outside that range."""
        return ramp(_PALE_TONES if self.traits.pale else _SKIN_TONES, self.look.skin)

    @property
    def hair_colour(self) -> Colour:
        """The hair's colour; a bald head's brows and beard keep what grew there before, brown."""
        colour = _HAIR_COLOURS.get(self.traits.hair, _BROWN)
        return shade(colour, 1 + 0.13 * self.look.hair_shade)

    @property
    def wide(self) -> float:
        """The face's width, 1 on average."""
        return 1 + 0.035 * self.look.face_width

    @property
    def outline(self) -> np.ndarray:
        """The head without hair: a man's jaw is wider and squarer, a woman's chin narrower."""
        jaw, corner, chin = (36.5, 23.5, 182.0) if self.traits.male else (30.0, 14.0, 178.5)
        more = 1.2 * self.look.jaw
        right = [(0.0, 51.0), (21.0, 55.5), (37.0, 73.0), (42.5, 96.0), (42.5, 118.0)]
        right += [(0.35 * 42.5 + 0.65 * jaw, 142.0), (jaw + more, 158.0), (corner + more, 173.5)]
        right += [(0.0, chin + 1.5 * self.look.chin)]
        return loop(symmetric(np.array(right) * (self.wide, 1)))

    @property
    def mouth_corner(self) -> tuple[float, float]:
        """The right mouth corner; the left one mirrors it. A smile pulls both out and up."""
        smile = 1.0 if self.traits.smiling else -1.0
        return 16.85 + 0.9 * self.look.mouth_width + 1.5 * smile, _MOUTH_Y - 1.2 * smile

    @property
    def pose(self) -> np.ndarray:
        """Face coordinates → pixels of the 178x218 picture, a similarity (2x3)."""
        look, angle = self.look, math.radians(self.look.roll)
        cos, sin = look.scale * math.cos(angle), look.scale * math.sin(angle)
        linear = np.array([[cos, -sin], [sin, cos]])
        pivot = np.array([0.0, 130.0])  # the middle of the five landmarks: a tilt moves them least
        shift = np.array([_CENTRE_X + look.shift_x, look.shift_y])
        return np.column_stack([linear, pivot + shift - linear @ pivot])

    @property
    def landmarks(self) -> np.ndarray:
        """(5, 2) float64 pixels: left eye, right eye, nose, left and right mouth corner; left and
        right as seen in the picture."""
        (x, y), turn = self.mouth_corner, self.look.turn
        points = [(turn - EYE_X, EYE_Y), (turn + EYE_X, EYE_Y)]
        points += [(turn * NOSE_DEPTH, NOSE_Y + self.look.nose_length)]
        points += [(turn * MOUTH_DEPTH - x, y), (turn * MOUTH_DEPTH + x, y)]
        return np.array(points) @ self.pose[:, :2].T + self.pose[:, 2]

    def draw(self) -> np.ndarray:
        """The picture: (218, 178, 3) uint8 RGB."""
        from fader.data.synthetic.drawing import draw

        return draw(self)


def _sample_traits(rng: np.random.Generator) -> Traits:
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


def sample_face(rng: np.random.Generator) -> SyntheticFace:
    """A random face; the same generator state gives the same face."""
    traits = _sample_traits(rng)
    return SyntheticFace(traits, Look(**{name: one(rng) for name, one in _LOOK_SAMPLERS.items()}))


def face_number(number: int, seed: int) -> SyntheticFace:
    """Face ``number`` (from 1) of the data set with that seed, whatever the set's size."""
    return sample_face(np.random.default_rng((seed, number)))
