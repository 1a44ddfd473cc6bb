"""From the changes asked for and the values estimated to the values an edit sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from fader.attributes import Change, attribute_name, parse_changes, rivals
from fader.edit.results import FaceEdit
from fader.errors import FaderError

#: An attribute whose estimate is this near to the value asked for is taken to be there already.
ALREADY_THERE = 0.05

# An edit to 0 or 1 that moves no attribute further than this is hardly seen, and a note says so.
_HARDLY = 0.25


def asked_changes(
    changes: str | Iterable[Change] | None, values: Mapping[str, float | str], known: Sequence[str]
) -> list[Change]:
    """All asked changes in one list, their names those ``known``.

    ``changes`` is text such as ``"Male=0,Smiling=+0.5"`` or a sequence; ``values`` are attributes
    by name, with a number or text such as ``"+0.5"``, or a group's member: ``Hair="Blond"``.

    Raises :class:`FaderError` for unknown names, values that are not finite, and nothing asked.
    """
    if isinstance(changes, str):
        changes = parse_changes(changes, known)
    wanted = [replace(c, attribute=attribute_name(c.attribute, known)) for c in changes or ()]
    for name, value in values.items():
        if isinstance(value, str):
            wanted += parse_changes(f"{name}={value}", known)
            continue
        attribute = attribute_name(name, known)
        if not np.isfinite(value):
            raise FaderError(f"{attribute}={value}: the value must be a finite number")
        wanted.append(Change(attribute, float(value)))
    if not wanted:
        raise FaderError("nothing to change; give at least one attribute, such as Smiling=1")
    return wanted


def settle(before: Mapping[str, float], changes: Iterable[Change]) -> dict[str, float]:
    """The attribute values that ``changes``, in order, make of the estimates ``before``.

    A classifier hardly ever answers exactly 0 or 1. So that asking for what is there changes
    nothing, a value to set within 0..1 that is no further than :data:`ALREADY_THERE` from the
    estimate gives the estimate itself. Relative changes always move. An attribute that rises takes
    its :func:`~fader.attributes.rivals` down with it, unless they are asked for, too.
    """
    after = dict(before)
    changes = list(changes)
    asked = {change.attribute for change in changes}
    for change in changes:
        estimate = before[change.attribute]
        value = change.apply(after[change.attribute])
        there = abs(value - estimate) <= ALREADY_THERE and 0 <= value <= 1
        after[change.attribute] = estimate if there and not change.relative else value
        if after[change.attribute] > estimate:
            for rival in set(rivals(change.attribute, list(before))) - asked:
                after[rival] = min(after[rival], max(0.0, 1 - after[change.attribute]))
    return after


def hardly_changed(edits: Sequence[FaceEdit], changes: Sequence[Change]) -> tuple[str, ...]:
    """A note, if all that ``changes`` ask for was nearly there before, in every face."""
    if any(change.relative or change.value not in (0, 1) for change in changes):
        return ()
    asked = list(dict.fromkeys(change.attribute for change in changes))
    moves = [abs(edit.after[name] - edit.before[name]) for edit in edits for name in asked]
    if not moves or max(moves) > _HARDLY:
        return ()
    values = ", ".join(f"{name} was {edits[0].before[name]:.2f}" for name in asked)
    beyond = -1 if edits[0].after[asked[0]] < 0.5 else 2
    return (f"hardly anything to change, {values} ({asked[0]}={beyond} exaggerates)",)
