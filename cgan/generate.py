"""New images from a generator: what is asked for, one face turning into another."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import count

import numpy as np
import torch
from torch import Tensor

from cgan.data import label_name
from cgan.networks import Generator
from fader.attributes import ATTRIBUTES, parse_changes, rivals
from fader.errors import FaderError

#: Bytes of a label in a file's name.
_LONGEST_NAME = 100


def asked_labels(
    generator: Generator, n: int, seed: int, values: str | None = None, classes: Sequence[str] = ()
) -> tuple[Tensor, list[str]]:
    """The labels of n images of each kind asked for, (n · kinds)×k, and the kinds' names.

    ``values`` such as ``"Male=0,Blond_Hair=1"`` set attributes, ``classes`` name classes; what is
    left open is drawn as frequent as in training, the same for the same seed. Raises
    :class:`FaderError` for what this generator cannot be asked.
    """
    names, kind = generator.label_names, generator.label_kind
    known = ", ".join(names) or "no labels"
    if values and kind != "attributes":
        raise FaderError(f"this generator has no attributes to set; it knows {known}")
    if classes and kind != "classes":
        raise FaderError(f"this generator has no classes; it knows {known}")
    if classes:
        wanted = [label_name(name, names) for name in classes]
        rows = torch.eye(len(names))[[names.index(name) for name in wanted]]
        return rows.repeat_interleave(n, dim=0), wanted
    labels = generator.random_labels(n, seed)
    return set_attributes(labels, names, values) if values else labels, []


def check_spelling(
    generator: Generator, values: Sequence[str], classes: Sequence[str] = ()
) -> None:
    """Raise :class:`FaderError` for what is misspelt: no ``NAME=VALUE``, or the name of nothing.
    CelebA's attributes are names also where the generator lacks them; whoever asks for those is
    told so by :func:`asked_labels`."""
    names = generator.label_names
    if generator.label_kind == "attributes":
        for text in values:
            parse_changes(text, tuple(dict.fromkeys((*names, *ATTRIBUTES))))
    if generator.label_kind == "classes":
        for text in classes:
            label_name(text, names)


def set_attributes(
    labels: Tensor, names: Sequence[str], values: str, moving: bool = False
) -> Tensor:
    """Labels n×k with the attributes set that ``values`` names, such as ``"Male=0,Young=1"``; with
    ``moving`` also moved from what they are, as in ``"Young=-0.5"``, to 0 or 1 at most. What each
    excludes (:func:`fader.attributes.rivals`) is then 1 minus its value at most, unless that is
    named, too: who is to be blond has no black hair. Raises :class:`FaderError` for what they
    cannot be set to."""
    labels, changes = labels.clone(), list(parse_changes(values, names))
    named = {change.attribute for change in changes}
    for change in changes:
        column = labels[:, names.index(change.attribute)]
        if change.face:
            why = "--face says which" if moving else "there are no faces to choose from yet"
            raise FaderError(f"{change}: {why}; drop the number")
        if change.relative and not moving:
            raise FaderError(f"{change}: a new face has no value to move from; write it unsigned")
        if not change.relative and not 0 <= change.value <= 1:
            raise FaderError(f"{change}: the value must be from 0 to 1")
        column.copy_((column * change.relative + change.value).clamp(0, 1))
        for rival in set(rivals(change.attribute, names)) - named:
            other = labels[:, names.index(rival)]
            other.copy_(torch.minimum(other, 1 - column))
    return labels


def interpolation(
    generator: Generator,
    labels: Tensor,
    n: int,
    seeds: tuple[int, int],
    steps: int,
    truncation: float,
) -> list[Tensor]:
    """The n images of the first seed on their way to those of the second and back, with labels of
    each kind, (n · kinds)×k: 2 · steps − 2 frames (n · kinds)×C×S×S.

    Latents go along the arc between them: a straight line would pass nearer to the average face
    than any face of training (White 2016, arXiv 1609.04468).
    """
    start, stop = (generator.latents(n, seed).repeat(len(labels) // n, 1) for seed in seeds)
    cosine = torch.nn.functional.cosine_similarity(start, stop, dim=1).clamp(-1, 1)
    angle = torch.acos(cosine)[:, None].clamp_min(1e-4)
    frames = []
    for t in np.linspace(0, 1, steps).tolist():
        z = (torch.sin((1 - t) * angle) * start + torch.sin(t * angle) * stop) / torch.sin(angle)
        frames.append(generator.render(truncation * z, labels))
    return frames + frames[-2:0:-1]


def file_names(labels: Sequence[str]) -> list[str]:
    """For each of the labels, which may be anybody's, a part of a file's name that any disk takes:
    short, of letters, digits and few signs, different also where case does not count."""
    names: list[str] = []
    for label in labels:
        name = re.sub(r"[^\w .+-]", "_", label).strip(" .")
        name = unique = name.encode()[:_LONGEST_NAME].decode(errors="ignore") or "_"
        taken, number = {other.casefold() for other in names}, count(2)
        while unique.casefold() in taken:
            unique = f"{name}-{next(number)}"
        names.append(unique)
    return names
