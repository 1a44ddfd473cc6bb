"""A model's ONNX form: the folder that :mod:`fader.models.export` writes. Needs no PyTorch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fader.errors import FaderError
from fader.models.folders import CLASSIFIER_WEIGHTS, CONFIG, WEIGHTS, read_config
from fader.models.schema import read_settings
from fader.runtime.onnx import FOLDER, NETWORKS

#: The key of config.json that only an ONNX form has.
KEY = "onnx"


@dataclass(frozen=True)
class OnnxSettings:
    """What an edit needs to know of a model in ONNX: the side of its crops in pixels, what it edits
    and estimates, in its networks' order, and its :func:`fader.models.model.fingerprint`."""

    size: int
    attributes: tuple[str, ...]
    estimates: tuple[str, ...]
    fingerprint: str

    def __post_init__(self) -> None:
        for name in ("attributes", "estimates"):
            object.__setattr__(self, name, tuple(getattr(self, name)))


def read_onnx_settings(folder: Path) -> OnnxSettings:
    """What ``config.json`` of an ONNX form says. Raises :class:`FaderError`."""
    config = read_config(folder, KEY, "model in ONNX")
    return read_settings(OnnxSettings, config[KEY], folder / CONFIG)


def is_onnx_form(folder: Path) -> bool:
    """Whether ``folder`` holds networks in ONNX itself."""
    return (folder / f"encoder.{KEY}").is_file()


def onnx_form(folder: Path) -> Path | None:
    """Where the ONNX form of the model in ``folder``, which may be one itself, is; None without.

    Raises :class:`FaderError` for one of other weights than the model's.
    """
    if is_onnx_form(folder):
        return folder
    form = folder / FOLDER
    whole = [CONFIG, *(f"{name}.{KEY}" for name in NETWORKS)]
    if not all((form / name).is_file() for name in whole):  # none, or half copied
        return None
    made_from = read_config(form, KEY, "model in ONNX").get("made_from")
    if made_from != content_of(folder):
        raise FaderError(
            f"{form}: was made from other weights than those in {folder} now; make it again with "
            f"fader export {folder} --overwrite"
        )
    return form


def content_of(folder: Path) -> dict[str, str]:
    """A digest of each of a model's files that is in ``folder``."""
    return {
        name: hashlib.blake2b((folder / name).read_bytes(), digest_size=16).hexdigest()
        for name in (CONFIG, WEIGHTS, CLASSIFIER_WEIGHTS)
        if (folder / name).is_file()
    }
