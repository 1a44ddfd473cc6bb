"""Names and requests as users type them."""

from __future__ import annotations

import pytest

from fader.attributes import (
    ATTRIBUTES,
    WORDS,
    Change,
    attribute_name,
    parse_attributes,
    parse_changes,
    parse_words,
)
from fader.errors import FaderError, UnknownAttributeError


def test_there_are_celeba_s_forty_in_its_order() -> None:
    assert len(ATTRIBUTES) == len(set(ATTRIBUTES)) == 40
    assert list(ATTRIBUTES) == sorted(ATTRIBUTES, key=str.lower)
    assert ATTRIBUTES[0] == "5_o_Clock_Shadow" and ATTRIBUTES[-1] == "Young"


def test_case_does_not_matter_and_a_typo_gets_a_hint() -> None:
    assert attribute_name("eyeglasses") == "Eyeglasses"
    assert attribute_name("Mouth-Slightly-Open") == "Mouth_Slightly_Open"
    with pytest.raises(UnknownAttributeError, match="did you mean Smiling"):
        attribute_name("Smilling")
    with pytest.raises(UnknownAttributeError, match="this model does not know Bald; it knows Male"):
        attribute_name("bald", known=("Male",))


def test_attribute_lists() -> None:
    assert parse_attributes("male, Young,male") == ("Male", "Young")
    assert parse_attributes("Hair") == (
        "Black_Hair",
        "Blond_Hair",
        "Brown_Hair",
        "Gray_Hair",
        "Bald",
    )
    with pytest.raises(FaderError, match="no attribute"):
        parse_attributes(" , ")


def test_a_sign_makes_a_change_relative() -> None:
    assert parse_changes("Male=0,smiling=+0.5") == (
        Change("Male", 0.0),
        Change("Smiling", 0.5, relative=True),
    )
    (change,) = parse_changes("Young=-0.25")
    assert change.apply(0.75) == 0.5
    (change,) = parse_changes("Young=1.5")
    assert change.apply(0.75) == 1.5


def test_a_hair_colour_sets_the_others_to_zero() -> None:
    changes = {c.attribute: c.value for c in parse_changes("hair=blond")}
    assert changes.pop("Blond_Hair") == 1
    assert set(changes.values()) == {0.0} and len(changes) == 4
    known = ("Male", "Blond_Hair", "Gray_Hair")
    assert {c.attribute for c in parse_changes("Hair=Gray", known)} == {"Blond_Hair", "Gray_Hair"}
    with pytest.raises(FaderError, match="did you mean Blond"):
        parse_changes("Hair=Blonde")
    with pytest.raises(UnknownAttributeError, match="does not know Bald"):
        parse_changes("Hair=Bald", known)


@pytest.mark.parametrize("text", ["Male", "Male=", "=1", "Male=much", "Male=nan", "Male=inf", ""])
def test_what_is_not_name_equals_number_is_refused(text: str) -> None:
    with pytest.raises(FaderError):
        parse_changes(text)


def test_words() -> None:
    assert parse_words("Older,glasses") == (Change("Young", 0.0), Change("Eyeglasses", 1.0))
    # What goes along with a word is left out for a model that does not know it.
    assert parse_words("female", ("Male",)) == (Change("Male", 0.0),)
    assert parse_words("female", ("Male", "No_Beard")) == (
        Change("Male", 0.0),
        Change("No_Beard", 1.0),
    )
    with pytest.raises(FaderError, match="does not know Male"):
        parse_words("female", ("No_Beard",))
    with pytest.raises(FaderError, match="did you mean younger"):
        parse_words("yunger")
    with pytest.raises(FaderError, match="no word given"):
        parse_words(" , ")
    for word in WORDS:
        assert parse_words(word)


def test_a_change_can_be_for_one_face():
    first, *rest = parse_changes("2:smiling=1, 1:Hair=Blond", ATTRIBUTES)
    assert first == Change("Smiling", 1, face=2) and str(first) == "2:Smiling=1"
    assert {change.face for change in rest} == {1}
    for text in ("0:Smiling=1", "x:Smiling=1", ":Smiling=1"):
        with pytest.raises(FaderError, match="face's number"):
            parse_changes(text)


def test_no_value_goes_farther_than_a_face() -> None:
    assert parse_changes("Smiling=-10")[0].value == -10
    for text in ("Smiling=1e9", "Smiling=+11", "Male=-10.5"):
        with pytest.raises(FaderError, match="from -10 to 10"):
            parse_changes(text)
