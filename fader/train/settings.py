"""What the settings of every kind of training share: presets as TOML, overrides as KEY=VALUE."""

from __future__ import annotations

import dataclasses
import difflib
import sys
from collections.abc import Iterable
from importlib import resources
from typing import Any

from fader.errors import FaderError

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib


def preset_names(package: str) -> tuple[str, ...]:
    """Names of the ``presets/*.toml`` of a package such as ``fader.train``."""
    folder = resources.files(package) / "presets"
    return tuple(sorted(p.name.removesuffix(".toml") for p in folder.iterdir()))


def read_preset(package: str, name: str) -> dict[str, Any]:
    """A preset's values; raises :class:`FaderError` with the names there are."""
    names = preset_names(package)
    if name not in names:
        raise FaderError(f"no preset named {name!r}; the presets are {', '.join(names)}")
    path = resources.files(package) / "presets" / f"{name}.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))


def split_override(override: str) -> tuple[str, str]:
    """``"steps = 5"`` → ``("steps", "5")``."""
    name, equals, text = (part.strip() for part in override.partition("="))
    if not equals:
        raise FaderError(f"{override!r} is not KEY=VALUE, such as steps=1000")
    return name, text


def check_names(names: Iterable[str], owner: type, prefix: str = "") -> None:
    """Raise :class:`FaderError` for a name that is no field of the dataclass ``owner``."""
    known = [f.name for f in dataclasses.fields(owner)]
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {prefix}{close[0]}?" if close else ""
            raise FaderError(f"there is no setting {prefix}{name}{hint}")


def parse_value(name: str, text: str, default: Any) -> Any:
    """``text`` as a value of the kind of ``default``; ``name`` is what the message calls it."""
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False, "1": True, "0": False}[text.lower()]
        return type(default)(text)
    except (KeyError, ValueError):
        kind = {bool: "true or false", int: "a whole number", float: "a number"}[type(default)]
        raise FaderError(f"{name}={text}: must be {kind}") from None
