"""How numbers are said."""

from fader.words import plural


def test_one_is_no_plural() -> None:
    assert [plural(n, "photo") for n in (0, 1, 2)] == ["0 photos", "1 photo", "2 photos"]
    assert [plural(n, "person is", "people are") for n in (1, 3)] == ["1 person is", "3 people are"]
