"""Options that several commands share, spelled and explained once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fader.commands.echo import say
from fader.errors import FaderError
from fader.files import check_folder
from fader.urls import is_url, path_or_url
from fader.words import plural

if TYPE_CHECKING:
    import torch

    from fader.data.store import PreparedStore
    from fader.edit.editor import Editor
    from fader.edit.runtime import Runtime

device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    default="auto",
    show_default=True,
    help="Where to compute; auto takes a GPU when there is one.",
)

_runtime_option = click.option(
    "--runtime",
    type=click.Choice(["auto", "torch", "onnx"]),
    default="auto",
    show_default=True,
    help="What runs the networks; auto takes ONNX Runtime on a CPU where it is installed and the "
    "model has its ONNX form.",
)

model_option = click.option(
    "--model",
    default="default",
    show_default=True,
    metavar="NAME|FOLDER|HUB_ID",
    help="The model: 'default' comes with the package, a folder is a run of fader train or its "
    "model/, and user/name or user/name@revision is looked up on the Hugging Face Hub.",
)

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document on standard output."
)

overwrite_option = click.option(
    "--overwrite", is_flag=True, help="Replace an output that is already there."
)

#: A file or folder, as a :class:`~pathlib.Path`.
PATH = click.Path(path_type=Path)

#: What --data is, in every command that opens it with :func:`open_store`.
DATA: dict[str, Any] = {"type": path_or_url, "metavar": "PATH|URL"}


def with_options(
    *options: Callable[..., Any],
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """All these options, in their order, as one decorator."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


#: What :func:`make_editor` takes.
compute_options = with_options(device_option, _runtime_option)
editor_options = with_options(model_option, compute_options)


def names_folder(text: str) -> bool:
    """Whether a path that need not exist is one of a folder, as in ``-o new/``."""
    return os.path.basename(text) in ("", ".", "..")


def refuse_replacing(path: Path | None, overwrite: bool) -> None:
    """Refuse, before the work for it is done, to write what is there already, or cannot be."""
    if path is None:
        return
    if os.path.lexists(path) and not overwrite:
        raise FaderError(f"{path}: is already there; add --overwrite, or give another name")
    check_folder(path.parent)


def user_parameter(parse: Callable[[str], Any]) -> Callable[..., Any]:
    """A click callback that parses each given text with ``parse``; its failures are bad usage."""

    def callback(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        try:
            if isinstance(value, tuple):
                return tuple(parse(text) for text in value)
            return None if value is None else parse(value)
        except FaderError as error:
            raise click.BadParameter(str(error), ctx, param) from error

    return callback


def _place_for_folder(place: Path | str) -> Path | str:
    if not is_url(place):
        check_folder(place)
    return place


#: The callback of a parameter that names a folder to write: a file in its place is bad usage.
folder_to_write = user_parameter(_place_for_folder)


@contextmanager
def usage() -> Iterator[None]:
    """What fails in here was asked for wrongly: bad usage (exit 2), not failed work (exit 1)."""
    try:
        yield
    except FaderError as error:
        raise click.UsageError(str(error)) from error


def open_store(path: Path | str, size: int) -> PreparedStore:
    """:func:`fader.data.source.open_data`, which tells of images that are not in the data."""
    from fader.data.source import open_data

    store = open_data(path, size)
    if rejected := store.rejected:
        name, reason = rejected[0]
        say(
            f"{plural(len(rejected), 'image')} left out, such as {name}: {reason}; "
            f"{os.path.join(store.path, 'rejected.csv')} lists "
            f"{'it' if len(rejected) == 1 else 'them'}",
            err=True,
        )
    return store


def make_editor(model: str, device: str, runtime: Runtime) -> Editor:
    """The editor that ``--model``, ``--device`` and ``--runtime`` ask for."""
    from fader.edit.editor import Editor

    if device not in ("auto", "cpu") and runtime != "onnx":
        device = str(resolve_device(device))
    return Editor(model, device, runtime)


def resolve_device(name: str) -> torch.device:
    """``auto|cpu|cuda|mps`` → a device; asking for one this machine lacks is bad usage."""
    import torch

    available = {"cpu": True, "cuda": torch.cuda.is_available()}
    available["mps"] = torch.backends.mps.is_available()
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if available[kind])
    if not available[name]:
        raise click.UsageError(f"--device {name}: this machine has no {name} device; use auto")
    return torch.device(name)
