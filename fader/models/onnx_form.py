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
    """What an edit needs to know of a model in ONNX.

    size: side of the square crops, in pixels; attributes: those edited, in the order of the
    decoder's values; estimates: those the classifier knows, in the order of its answers;
    fingerprint: that of the model, see :func:`fader.models.model.fingerprint`.
    """

    size: int
    attributes: tuple[str, ...]
    estimates: tuple[str, ...]
    fingerprint: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "attributes", tuple(self.attributes))
        object.__setattr__(self, "estimates", tuple(self.estimates))


def read_onnx_settings(folder: Path) -> OnnxSettings:
    """What ``config.json`` of an ONNX form says. Raises :class:`FaderError`."""
    config = read_config(folder, KEY, "model in ONNX")
    return read_settings(OnnxSettings, config[KEY], folder / CONFIG)


def is_onnx_form(folder: Path) -> bool:
    """Whether ``folder`` holds networks in ONNX itself."""
    return (folder / f"encoder.{KEY}").is_file()


def onnx_form(folder: Path) -> Path | None:
    """Where the ONNX form of the model in ``folder`` is, or None where there is none.

    ``folder`` may be one itself. Raises :class:`FaderError` for one of other weights than the
    model's.
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
