"""Settings that may come from a stranger, checked before anything is made of them."""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from fader.errors import FaderError

T = TypeVar("T")

# What a whole number may be at most, by what its name contains; the first that fits holds.
_MOST = (
    ("seed", 2**63 - 1),
    ("steps|every|interval|keep|batch|images|growth", 10**9),
    ("width|channels|latent", 1 << 14),
    ("", 1024),  # sides among them, with whose square memory grows, whatever the weights
)
# What such names contain is at least 1; other whole numbers are at least 0.
_POSITIVE = re.compile("size|width|channels|latent|layers")
_LONGEST_TEXT, _MOST_NAMES = 200, 1000


def read_settings(kind: type[T], values: Any, path: Path | str) -> T:
    """The dataclass ``kind`` made of the ``values`` that ``path`` has; :class:`FaderError` for what
    :func:`check_settings` refuses, or the dataclass itself."""
    check_settings(kind, values, path)
    try:
        # JSON knows no tuples.
        return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    except FaderError as error:
        raise FaderError(f"{path}: {error}") from None


def check_settings(kind: type, values: Any, path: Path | str) -> None:
    """Raise :class:`FaderError`, naming ``path`` and the field, unless ``values`` are an object of
    nothing but fields of the dataclass ``kind``, numbers within bounds and names that fit files."""
    if not isinstance(values, dict):
        raise FaderError(f"{path}: has {_short(values)} where settings should be")
    hints = typing.get_type_hints(kind)
    known = {field.name for field in dataclasses.fields(kind)}
    for name, value in values.items():
        if name not in known:
            raise FaderError(
                f"{path}: has a setting {_short(name)}, which this version does not know; a newer "
                "one may: pip install -U fader"
            )
        if wrong := _wrong(name, value, hints[name]):
            raise FaderError(f"{path}: {name} is {_short(value)}; it must be {wrong}")


def check_name(name: str) -> str | None:
    """What is wrong with a name that may become a file's or be shown; None if nothing is."""
    if not name or len(name) > _LONGEST_TEXT or not name.isprintable() or name != name.strip():
        return f"a name of 1 to {_LONGEST_TEXT} printable characters"
    if "/" in name or "\\" in name or name.startswith("."):
        return "a name without slashes, and without a dot in front"
    return None


def _wrong(name: str, value: Any, hint: Any) -> str | None:
    """What the value must be, in words; None if it is that."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        check_settings(hint, value, name)
        return None
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        words = " or ".join(map(str, arguments))
        return None if type(value) is str and value in arguments else words
    if origin in (typing.Union, types.UnionType):
        answers = [_wrong(name, value, one) for one in arguments]
        return None if None in answers else " or ".join(a for a in answers if a)
    if origin is tuple:
        return _wrong_list(name, value, arguments)
    if hint is bool:
        return None if type(value) is bool else "true or false"
    if hint is int:
        least = 1 if _POSITIVE.search(name) else 0
        most = next(most for words, most in _MOST if re.search(words, name))
        fits = type(value) is int and least <= value <= most
        return None if fits else f"a whole number from {least} to {most}"
    if hint is float:
        number = type(value) is float or (type(value) is int and abs(value) < 1 << 63)
        return None if number and math.isfinite(value) else "a finite number"
    if hint is str:
        return check_name(value) if type(value) is str else "a text"
    assert hint is types.NoneType, f"{name}: no check for {hint}"
    return None if value is None else "nothing"


def _wrong_list(name: str, value: Any, hints: tuple[Any, ...]) -> str | None:
    if not isinstance(value, (list, tuple)) or len(value) > _MOST_NAMES:
        return f"a list of at most {_MOST_NAMES}"
    names = hints == (str, Ellipsis)
    if hints[-1] is Ellipsis:
        hints = hints[:1] * len(value)
    elif len(value) != len(hints):
        return f"a list of {len(hints)}"
    for one, hint in zip(value, hints, strict=True):
        if wrong := _wrong(name, one, hint):
            return f"a list in which each is {wrong}"
    return "a list of different names" if names and len(set(value)) < len(value) else None


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # of more digits than Python writes
        return "a number of very many digits"
    return text if len(text) <= 80 else f"{text[:60]}… ({len(text)} characters)"
