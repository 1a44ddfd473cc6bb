"""What a run was started on, so that ``--resume`` goes on with the same from any folder."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from fader.data.store import Data, checksum
from fader.documents import read_json
from fader.errors import FaderError
from fader.train.run import RunFolder
from fader.urls import is_url, path_or_url


def place(name: str | os.PathLike[str] | None, names: Collection[str] = ()) -> str | None:
    """The absolute path of what lies in a folder; one of ``names``, or a Hub id, as it is."""
    if name is None:
        return None
    text = os.fspath(name)
    return os.path.abspath(text) if text not in names and os.path.exists(text) else text


def read_inputs(run: RunFolder) -> dict[str, Any] | None:
    """What :attr:`RunFolder.started_on` was; None when it was nothing."""
    try:
        inputs = read_json(run.inputs)
    except FileNotFoundError:
        return None
    for name, value in inputs.items():
        words = value if isinstance(value, list) else [value]
        if not all(word is None or isinstance(word, str) for word in words):
            raise FaderError(f"{run.inputs}: damaged ({name} is {value!r})")
    return inputs


def check_same(
    run: RunFolder, inputs: Mapping[str, Any], names: Collection[str], **given: str | None
) -> None:
    """Refuse, by a :class:`FaderError` that names both, what is given with ``--resume`` but is not
    what the run was started on: models by their options' names in ``inputs``, None where not given.
    ``names`` are those of packaged ones."""
    for name, value in given.items():
        began = inputs.get(name)
        if value is None or place(value, names) in (began, place(began, names)):
            continue
        option = "--" + name.replace("_", "-")
        was = f"with {option} {began}" if began else f"without {option}"
        raise FaderError(
            f"{run.path}: was started {was}, so {option} {value} cannot be used now; leave it out "
            "to go on, or start another run"
        )


def find_data(
    run: RunFolder, inputs: Mapping[str, Any], given: Path | str | None
) -> Path | str | None:
    """Where a resumed run's data is: the place given, else where it was. Raises
    :class:`FaderError` when that was a path and is there no more."""
    if given is not None or not inputs.get("data"):
        return given
    path = path_or_url(inputs["data"])
    if is_url(path) or os.path.exists(path):
        return path
    raise FaderError(
        f"{run.path}: its data was at {path} and is there no more; say with --data where it is now"
    )


def check_data(
    run: RunFolder, inputs: Mapping[str, Any], path: Path | str, data: Data, given: bool
) -> str:
    """The data's :func:`checksum`.

    It must be that of the data a resumed run was started on (a new run's ``inputs`` are empty).
    ``given`` says whether the user named the data. Raises :class:`FaderError` for other data, and
    where a new run would lie among its data, so that its pictures became part of it.
    """
    if not run.config.exists() and not is_url(path):
        folder, of_run = Path(path).resolve(), run.path.resolve()
        if folder.is_dir() and folder in (of_run, *of_run.parents):
            raise FaderError(
                f"{run.path}: lies in the folder of its data, {Path(path)}; give another --out"
            )
    found, began = checksum(data), inputs.get("data_checksum")
    if began in (None, found):
        return found
    if given:
        raise FaderError(
            f"{run.path}: was started on other data ({inputs['data']}) than --data {path}; leave "
            "it out to go on, or start another run"
        )
    raise FaderError(
        f"{path}: is not the data any more that {run.path} was started on; bring that back, or "
        "start another run, which may begin from this one's model with --init"
    )
