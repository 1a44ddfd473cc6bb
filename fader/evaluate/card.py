"""The card that goes with a model to the Hub: what it is, how it is used, what was measured."""

from __future__ import annotations

from typing import Any

from fader.errors import FaderError
from fader.evaluate.table import COLUMNS, faces, rows, summary
from fader.models.model import FaderModel
from fader.words import plural

#: Columns of the evaluation's table that the card shows.
_SHOWN = ("n", "swap", "blurred", "kept", "judge", "leakage", "identity")


def model_card(
    model: FaderModel, repo_id: str, licence: str, evaluation: dict[str, Any] | None = None
) -> str:
    """The card of ``model`` as ``user/name`` on the Hub: Markdown with metadata in front.
    ``evaluation`` is the document of ``fader evaluate --json``; raises :class:`FaderError` when it
    is none, or of a model that edits other things."""
    config = model.autoencoder.config
    estimates = (
        "Estimates are by its own classifier."
        if model.classifier
        else "It has no classifier; estimates are by the one that comes with `fader`."
    )
    card = f"""# {repo_id.rpartition("/")[2]}

A Fader Network (arXiv 1706.00409) that edits {", ".join(model.attributes)} in photos of faces. \
It works on crops of {config.size} pixels; the editor puts the change back into the photo at the \
photo's own resolution.

```sh
fader edit photo.jpg --set {model.attributes[0]}=1 --model {repo_id}
```

The network is of the kind `{config.kind}`, with {plural(config.layers, "layer")}. {estimates}

Edited photos of real people can mislead: say that a picture was edited. The names of attributes \
are labels of a data set, not facts about people.
"""
    if evaluation is not None:
        card += f"\n## Measured\n\n{_measured(model, evaluation)}\n"
    return with_metadata(card, licence)


def with_metadata(card: str, licence: str) -> str:
    """A card with ``licence`` and what the Hub finds it by in its metadata; the rest stays. Raises
    :class:`FaderError` for a card whose metadata cannot be read."""
    from huggingface_hub import ModelCard, ModelCardData

    if not card.startswith("---"):
        card = f"---\nlibrary_name: fader\n---\n\n{card}"
    try:
        made = ModelCard(card, ignore_metadata_errors=False)
    except Exception as error:  # whatever its parser runs into
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise FaderError(f"README.md: its metadata cannot be read ({reason})") from None
    data = made.data.to_dict()
    data = {"pipeline_tag": "image-to-image", **data, "library_name": "fader", "license": licence}
    data["tags"] = sorted({*(data.get("tags") or ()), "fader-networks", "face-editing"})
    made.data = ModelCardData(**data)
    return str(made)


def _measured(model: FaderModel, evaluation: dict[str, Any]) -> str:
    try:
        of, data = evaluation["model"]["attributes"], evaluation["data"]
        if list(of) != list(model.attributes):
            raise FaderError("is the evaluation of a model that edits other attributes")
        table, summed = rows(evaluation), summary(evaluation)
        said = faces(data)
    except (KeyError, TypeError, AttributeError, ValueError):
        raise FaderError("is not what fader evaluate --json prints") from None
    lines = [
        f"`fader evaluate` on {said} that the model never saw, by a judge that had no part in the "
        "training.",
        "",
        f"| attribute | | {' | '.join(_SHOWN)} |",
        f"| --- {'| --- ' * (1 + len(_SHOWN))}|",
    ]
    for name, direction, cells in table:
        shown = " | ".join(cells.get(column, "") for column in _SHOWN)
        lines.append(f"| {name} | {direction} | {shown} |")
    lines += ["", *(f"- {line}" for line in summed), ""]
    return "\n".join([*lines, *(f"*{column}*: {COLUMNS[column]}.  " for column in _SHOWN)])
