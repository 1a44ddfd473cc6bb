"""Fader: edit face attributes in real photos, and train the models that do it.

>>> from fader import Editor
>>> Editor().edit("photo.jpg", Male=0).save("out.png")      # doctest: +SKIP

The names below are loaded when first used, so that ``import fader`` and
``fader --help`` stay instant (PyTorch alone takes seconds to import).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fader._version import __version__

if TYPE_CHECKING:
    from fader.edit.editor import Editor
    from fader.models.pretrained import load_model

__all__ = ["Editor", "__version__", "load_model"]

_LAZY = {"Editor": "fader.edit.editor", "load_model": "fader.models.pretrained"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'fader' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
