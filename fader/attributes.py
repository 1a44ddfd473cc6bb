"""The 40 CelebA attributes, their groups, and the ``Male=0,Smiling=+0.5`` way of asking for them.

Names and order are those of ``list_attr_celeba.txt`` (Liu et al. 2015, arXiv 1411.7766).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from fader.errors import FaderError, UnknownAttributeError

_NAMES = """
5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair
Blond_Hair Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair
Heavy_Makeup High_Cheekbones Male Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face
Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks Sideburns Smiling Straight_Hair Wavy_Hair
Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace Wearing_Necktie Young
"""

ATTRIBUTES: tuple[str, ...] = tuple(_NAMES.split())

#: A group is a choice: ``Hair=Blond`` sets ``Blond_Hair`` to 1 and the other members to 0.
GROUPS: dict[str, dict[str, str]] = {
    "Hair": {
        "Black": "Black_Hair",
        "Blond": "Blond_Hair",
        "Brown": "Brown_Hair",
        "Gray": "Gray_Hair",
        "Bald": "Bald",
    },
}

#: Common edits in words, for ``--to``: what the word means, and what goes along with it for models
#: that know it (an open mouth that does not smile is not what "serious" says).
WORDS: dict[str, str] = {
    "female": "Male=0,No_Beard=1",
    "male": "Male=1",
    "older": "Young=0",
    "younger": "Young=1,Gray_Hair=0",
    "smiling": "Smiling=1",
    "serious": "Smiling=0,Mouth_Slightly_Open=0",
    "glasses": "Eyeglasses=1",
    "no-glasses": "Eyeglasses=0",
    "mouth-open": "Mouth_Slightly_Open=1",
    "mouth-closed": "Mouth_Slightly_Open=0",
    "blond": "Hair=Blond",
    "black-haired": "Hair=Black",
    "brown-haired": "Hair=Brown",
    "gray-haired": "Hair=Gray",
    "bald": "Hair=Bald",
    "bearded": "No_Beard=0",
    "shaven": "No_Beard=1",
    "bangs": "Bangs=1",
    "no-bangs": "Bangs=0",
    "hat": "Wearing_Hat=1",
    "no-hat": "Wearing_Hat=0",
}


#: The largest value, of either sign, that can be asked for; the networks make stains of more.
FARTHEST = 10


@dataclass(frozen=True)
class Change:
    """One asked change: set ``attribute`` to ``value``, or move it by ``value`` when relative. With
    ``face`` it is for the n-th largest face of the photo alone, from 1."""

    attribute: str
    value: float
    relative: bool = False
    face: int | None = None

    def apply(self, estimate: float) -> float:
        """The new value of an attribute whose present value is ``estimate`` (0..1)."""
        return estimate + self.value if self.relative else self.value

    def __str__(self) -> str:
        face = f"{self.face}:" if self.face else ""
        return f"{face}{self.attribute}={self.value:{'+g' if self.relative else 'g'}}"


def _parts(text: str) -> list[str]:
    return [part for part in map(str.strip, text.split(",")) if part]


def _spelled(name: str, choices: Iterable[str]) -> str | None:
    """The choice that ``name`` is in other letters, small or capital."""
    return next((one for one in choices if one.casefold() == name.casefold()), None)


def _suggest(name: str, choices: Iterable[str]) -> str:
    by_folded = {choice.casefold(): choice for choice in choices}
    close = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.6)
    return f"; did you mean {by_folded[close[0]]}?" if close else ""


def attribute_name(name: str, known: Sequence[str] = ATTRIBUTES) -> str:
    """The exact spelling of an attribute, given in any case (``smiling`` → ``Smiling``).

    ``known`` are CelebA's forty, or those of one model. Raises
    :class:`~fader.errors.UnknownAttributeError` with a suggestion for a typo, or with the
    model's own list for a CelebA attribute that the model lacks.
    """
    name = name.strip()
    plain = name.replace("-", "_").replace(" ", "_")
    if found := _spelled(plain, known):
        return found
    if known is not ATTRIBUTES and (lacking := _spelled(plain, ATTRIBUTES)):
        raise UnknownAttributeError(
            f"this model does not know {lacking}; it knows {', '.join(known)}"
        )
    hint = _suggest(name, known) or f"; the names are {', '.join(known)}"
    raise UnknownAttributeError(f"unknown attribute {name!r}{hint}")


def rivals(name: str, known: Sequence[str]) -> tuple[str, ...]:
    """The others of ``name``'s group (:data:`GROUPS`) that are ``known``, which a face with it does
    not have: blond hair is not black."""
    groups = [members.values() for members in GROUPS.values() if name in members.values()]
    return tuple(other for group in groups for other in group if other != name and other in known)


def parse_attributes(text: str, known: Sequence[str] = ATTRIBUTES) -> tuple[str, ...]:
    """``"Male,young"`` → ``("Male", "Young")``; a group name stands for all its members.

    Order is kept, repeats are dropped. Raises :class:`~fader.errors.UnknownAttributeError`, or
    :class:`~fader.errors.FaderError` when nothing is named.
    """
    names: list[str] = []
    for part in _parts(text):
        group = _spelled(part, GROUPS)
        names += GROUPS[group].values() if group else [attribute_name(part, known)]
    if not names:
        raise FaderError("no attribute named; give at least one, such as Male,Young")
    return tuple(dict.fromkeys(names))


def parse_changes(text: str, known: Sequence[str] = ATTRIBUTES) -> tuple[Change, ...]:
    """``"Male=0,Smiling=+0.5,Hair=Blond"`` → the :class:`Change` values it asks for.

    A plain number is the value to set (0..1 is the trained range, beyond it exaggerates); a
    number with a sign moves from the face's estimate, so a value below zero is asked for as
    ``-0.5`` only relative to it. A group takes the name of a member, and sets those of its
    members that are in ``known``. ``2:Smiling=1`` is for the second largest face alone.

    Raises :class:`~fader.errors.FaderError` for a part that is not ``NAME=VALUE`` or names an
    unknown attribute.
    """
    changes: list[Change] = []
    for part in _parts(text):
        name, equals, value = map(str.strip, part.partition("="))
        if not (equals and name and value):
            raise FaderError(f"{part!r} is not NAME=VALUE, such as Male=0 or Smiling=+0.5")
        face = None
        number, colon, rest = map(str.strip, name.partition(":"))
        if colon:
            if not (number.isdecimal() and int(number)):
                raise FaderError(f"{part!r}: before the colon goes a face's number, from 1")
            face, name = int(number), rest
        if group := _spelled(name, GROUPS):
            changes += _group_changes(group, value, known, face)
            continue
        attribute = attribute_name(name, known)
        try:
            to_set = float(value)
        except ValueError:
            to_set = math.nan
        if not math.isfinite(to_set):
            raise FaderError(f"{part!r}: the value must be a number, such as {attribute}=0.5")
        if abs(to_set) > FARTHEST:
            raise FaderError(
                f"{part!r}: is farther than any face goes; give from {-FARTHEST} to {FARTHEST} (0 "
                "and 1 are the ends that training has seen)"
            )
        changes.append(Change(attribute, to_set, value[0] in "+-", face))
    if not changes:
        raise FaderError("nothing to change; give at least one NAME=VALUE, such as Smiling=1")
    return tuple(changes)


def parse_words(text: str, known: Sequence[str] = ATTRIBUTES) -> tuple[Change, ...]:
    """``"female,older"`` → the changes these words stand for (see :data:`WORDS`)."""
    changes: list[Change] = []
    for word in map(str.casefold, _parts(text)):
        if word not in WORDS:
            hint = _suggest(word, WORDS) or f"; the words are {', '.join(WORDS)}"
            raise FaderError(f"unknown word {word!r} for --to{hint}")
        meant, *along = WORDS[word].split(",")
        changes += parse_changes(meant, known)
        for change in along:
            with suppress(UnknownAttributeError):  # what goes along, where the model knows it
                changes += parse_changes(change, known)
    if not changes:
        raise FaderError(f"no word given for --to; the words are {', '.join(WORDS)}")
    return tuple(changes)


def _group_changes(
    group: str, value: str, known: Sequence[str], face: int | None
) -> Iterator[Change]:
    members = GROUPS[group]
    choice = _spelled(value, members)
    if choice is None:
        raise FaderError(
            f"{group}={value}: the value is one of {', '.join(members)}{_suggest(value, members)}"
        )
    wanted = attribute_name(members[choice], known)
    for name in members.values():
        if name in known:
            yield Change(name, float(name == wanted), face=face)
