"""``fader push``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fader.commands.echo import say
from fader.commands.options import PATH, user_parameter
from fader.errors import FaderError

if TYPE_CHECKING:
    from fader.models.model import FaderModel


def _licence(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]{0,60}", text):
        raise FaderError(f"{text!r} is no licence's name, such as mit, cc-by-nc-4.0 or other")
    return text


def _repo_id(text: str) -> str:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", text):
        raise FaderError(f"{text!r} is not a user or organisation and a name, such as me/smiles")
    return text


@click.command(epilog="Example: fader push runs/first me/smiles --license cc-by-nc-4.0 --private")
@click.argument("model")
@click.argument("repo_id", metavar="USER/NAME", callback=user_parameter(_repo_id))
@click.option(
    "--license",
    "licence",
    required=True,
    metavar="NAME",
    callback=user_parameter(_licence),
    help="Under what others may use the weights: mit, cc-by-nc-4.0, other…; data that they "
    "learnt from may bind you.",
)
@click.option("--private", is_flag=True, help="A new repository is for yourself alone.")
@click.option(
    "--evaluation",
    type=PATH,
    help="What fader evaluate --json printed, for the card; default: evaluation.json in the run "
    "or model, where there is one.",
)
def command(model: str, repo_id: str, licence: str, private: bool, evaluation: Path | None) -> None:
    """Upload MODEL, a run or a model folder, to USER/NAME on the Hugging Face Hub.

    Only the model goes, with a card: the README.md of its folder, or one that is written here. Log
    in before with hf auth login, or set HF_TOKEN. Then: fader edit photo.jpg --model USER/NAME …
    """
    from fader.models.folders import find_model
    from fader.models.hub import push
    from fader.models.model import FaderModel

    folder = find_model(model)
    loaded = FaderModel.load(folder)
    if evaluation is None:
        places = (Path(model) / "evaluation.json", folder / "evaluation.json")
        evaluation = next((place for place in places if place.is_file()), None)
    card = _card(loaded, folder, repo_id, licence, evaluation)
    say(push(folder, repo_id, card, private=private or None))


def _card(
    model: FaderModel, folder: Path, repo_id: str, licence: str, evaluation: Path | None
) -> str:
    """The folder's own card, or a new one."""
    from fader.documents import read_json
    from fader.evaluate.card import model_card, with_metadata

    own = folder / "README.md"
    if own.is_file():
        try:
            return with_metadata(own.read_text("utf-8", "replace"), licence)
        except FaderError as error:
            raise FaderError(f"{folder}: {error}") from None
    if evaluation is None:
        return model_card(model, repo_id, licence, None)
    try:
        return model_card(model, repo_id, licence, read_json(evaluation))
    except FileNotFoundError:
        raise FaderError(f"{evaluation}: no such file") from None
    except FaderError as error:
        text = str(error).removeprefix(f"{evaluation}: ")
        raise FaderError(f"{evaluation}: {text}") from None
