"""Where trained models are, by name, folder, run, or on the Hugging Face Hub, and their ONNX forms,
the folders that :mod:`fader.models.export` writes. Needs no PyTorch."""

from __future__ import annotations

import difflib
import hashlib
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fader.documents import read_json
from fader.errors import FaderError
from fader.models.schema import read_settings

FORMAT = 2
CONFIG, WEIGHTS, CLASSIFIER_WEIGHTS = "config.json", "model.safetensors", "classifier.safetensors"

#: What only an ONNX form's config.json has; its files' suffix, and its folder's name in a model's.
KEY = "onnx"
_NETWORKS = ("encoder", "decoder", "classifier", "pnet", "rnet", "onet")

#: Models that come in the package, by name.
WEIGHTS_FOLDER = Path(__file__).parent.parent / "weights"


@cache
def available_models() -> tuple[str, ...]:
    """Names of the models that come in the package."""
    return tuple(sorted(path.parent.name for path in WEIGHTS_FOLDER.glob(f"*/{CONFIG}")))


def model_info(name: str | os.PathLike[str]) -> dict[str, Any]:
    """The configuration of a model, named as for :func:`find_model`, without its weights."""
    return read_config(find_model(name), "autoencoder", "Fader model")


def model_folder(folder: Path) -> Path:
    """The folder of a model that ``folder`` stands for: a run's is its ``model/``, and
    :class:`FaderError` is raised where it has none."""
    if any(folder.glob("*.safetensors")):
        return folder
    inside = folder / "model"
    if (inside / CONFIG).is_file():
        return inside
    if (folder / "metrics.jsonl").exists() or (folder / "checkpoints").is_dir():
        raise FaderError(f"{folder}: this run has written no model yet; train it for longer")
    return folder


def find_model(name: str | os.PathLike[str], **hub_options: Any) -> Path:
    """The folder of a model: by name, folder (a run's stands for the model in it), or Hub id, which
    may be ``user/name@revision``; ``hub_options`` are ``huggingface_hub.snapshot_download``'s.
    Raises :class:`FaderError` when there is no such model."""
    text = os.fspath(name)
    if text in available_models():
        return WEIGHTS_FOLDER / text
    path = Path(text)
    if path.is_dir():
        return model_folder(path)
    names = ", ".join(available_models())
    # What begins like a folder that is here, or like those that training makes, is a folder's name
    # mistyped, which is nobody else's business.
    first = text.split("/")[0]
    local = text.startswith((".", "/", "~")) or first == "runs" or os.path.lexists(first)
    if text.partition("@")[0].count("/") != 1 or local or os.path.lexists(text):
        beside = [place.name for place in path.parent.iterdir()] if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, beside, n=1)
        hint = f"; did you mean {path.parent / close[0]}?" if close else ""
        raise FaderError(
            f"{text}: no such model{hint}; give a name ({names}), a run or a folder with "
            f"{CONFIG}, or a Hub id such as user/name"
        )
    from fader.models.hub import download

    return download(text, **hub_options)


def read_config(folder: Path, key: str, what: str) -> dict[str, Any]:
    """A model folder's ``config.json``, which must have ``key``; ``what`` is what messages call
    such a model. Raises :class:`FaderError`."""
    path = folder / CONFIG
    try:
        config = read_json(path)
    except FileNotFoundError:
        raise FaderError(f"{folder}: not a {what}, it has no {CONFIG}") from None
    if key not in config:
        other = "; it is a generator's, of cgan train" if "generator" in config else ""
        raise FaderError(f"{path}: not the configuration of a {what}{other}")
    version = config.get("format", 0)
    notes = [config.get(name) or {} for name in ("training", "classifier_training")]
    if type(version) is not int or not all(isinstance(note, dict) for note in notes):
        raise FaderError(f"{path}: not the configuration of a {what}, or damaged")
    if version > FORMAT:
        raise FaderError(f"{path}: made by a newer fader; upgrade with pip install -U fader")
    return config


@dataclass(frozen=True)
class OnnxSettings:
    """What an edit needs to know of a model in ONNX: the side of its crops in pixels, what it edits
    and estimates, in its networks' order, and its :func:`fader.models.model.fingerprint`."""

    size: int
    attributes: tuple[str, ...]
    estimates: tuple[str, ...]
    fingerprint: str


def read_onnx_settings(folder: Path) -> OnnxSettings:
    """What ``config.json`` of an ONNX form says. Raises :class:`FaderError`."""
    config = read_config(folder, KEY, "model in ONNX")
    return read_settings(OnnxSettings, config[KEY], folder / CONFIG)


def is_onnx_form(folder: Path) -> bool:
    """Whether ``folder`` holds networks in ONNX itself."""
    return (folder / f"encoder.{KEY}").is_file()


def onnx_form(folder: Path) -> Path | None:
    """Where the ONNX form of the model in ``folder``, which may be one itself, is; None without;
    :class:`FaderError` for one of other weights than the model's."""
    if is_onnx_form(folder):
        return folder
    form = folder / KEY
    whole = [CONFIG, *(f"{name}.{KEY}" for name in _NETWORKS)]
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
