"""The measured tables of a model card, from the JSON of ``fader evaluate``.

fader evaluate --model default --data STORE --limit 600 --json > eval.json
python tools/card_tables.py eval.json                     # print them
python tools/card_tables.py eval.json docs/model-card.md  # in the place of the old ones
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from fader.files import write_text

DIRECTIONS = ("to_0", "to_1")


def swaps(document: dict[str, Any]) -> list[str]:
    """A row per attribute and direction, and their means."""
    found = document["swap_accuracy"]
    lines = ["| edit | swap | blurred | pasted | judge | faces |", "| --- |" + " --- |" * 5]
    for name, entry in found["attributes"].items():
        for direction in DIRECTIONS:
            if not entry or direction not in entry:
                continue
            one = entry[direction]
            judge = "–" if one["judge_accuracy"] is None else f"{one['judge_accuracy']:.2f}"
            lines.append(
                f"| {name} → {direction[-1]} | {one['value']:.2f} ({one['low']:.2f}–"
                f"{one['high']:.2f}) | {one['blurred']['value']:.2f} | "
                f"{one['pasted']['value']:.2f} | {judge} | {one['n']} |"
            )
    means = " | ".join(f"{found[key]:.2f}" for key in ("mean", "mean_blurred", "mean_pasted"))
    return [*lines, f"| mean | {means} | | |"]


def rest(document: dict[str, Any]) -> list[str]:
    """Everything that has one value for the whole model."""
    sharp = document["reconstruction"]
    quality = [f"{sharp['psnr']['value']:.1f} dB PSNR", f"{sharp['ssim']['value']:.2f} SSIM"]
    if sharp.get("ms_ssim"):
        quality.append(f"{sharp['ms_ssim']['value']:.2f} MS-SSIM")
    leakage, identity = document["leakage"], document["identity"]
    entries = document["continuity"].items()
    slides = {name: entry["spearman"]["value"] for name, entry in entries if entry is not None}
    low, high = min(slides, key=slides.get), max(slides, key=slides.get)
    rows = [
        ("other attributes kept", _two(document["other_attributes_kept"]["mean"])),
        ("reconstruction", ", ".join(quality)),
        ("outside the mask of an edit", _outside(document["outside_mask"])),
        (
            "realism (Fréchet distance to real faces with the value; 1 is a photo)",
            _two(document["realism"]["mean"]),
        ),
        ("leakage (fresh probe on the latent code; 0.5 is none)", _two(leakage["mean"])),
        (
            "shown (what the judge reads of the attributes in decodings told nothing of them; 0.5 "
            "is none, less is the opposite)",
            _two(leakage["shown"]["mean"]),
        ),
        (f"identity after an edit ({_scale(identity)})", _two(identity["mean"])),
        (
            "sliders from −1 to 2 (Spearman ρ of position and judge)",
            f"{slides[low]:.2f} ({low}) to {slides[high]:.2f} ({high})",
        ),
    ]
    return ["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows)]


def groups(document: dict[str, Any]) -> list[str]:
    """Swaps, both directions, apart for the faces on either side of other attributes."""
    found = document["swap_accuracy"]["attributes"]
    entries = {name: entry["groups"] for name, entry in found.items() if entry}
    names = {group for entry in entries.values() for group in entry}
    names = sorted(names, key=lambda group: ("Young" not in group, group))
    lines = [
        "| attribute | " + " | ".join(name.replace("=", " = ") for name in names) + " |",
        "| --- |" + " --- |" * len(names),
    ]
    for attribute, entry in entries.items():
        cells = [
            f"{entry[name]['value']:.2f} ({entry[name]['n']})" if name in entry else ""
            for name in names
        ]
        lines.append(f"| {attribute} | " + " | ".join(cells) + " |")
    return lines


def _scale(identity: dict[str, Any]) -> str:
    """What an edit's similarity is to be compared with."""
    same, other = (
        f"{identity[key]['similarity']['value']:.2f}" if identity.get(key) else "?"
        for key in ("same_person", "strangers")
    )
    return f"similarity of embeddings; one person in two photos {same}, two people {other}"


def _outside(found: dict[str, Any]) -> str:
    if found["mean"] is None:
        return found["reason"]
    return f"{found['mean']:.1f} dB PSNR, at least {found['least']:.1f}"


def _two(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.2f}"


def replaced(text: str, table: list[str]) -> str:
    """``text`` with ``table`` in the place of the table that begins with the same cell.

    Raises :class:`click.ClickException` when there is none. A table without titles is known by the
    first cell of its first row.
    """

    def key(lines: list[str]) -> str:
        titled = lines[0].strip("| ")
        return (lines[0] if titled else lines[2]).split("|")[1].strip()

    lines = text.split("\n")
    start = 0
    while start < len(lines):
        end = start
        while end < len(lines) and lines[end].startswith("|"):
            end += 1
        if end - start > 2 and key(lines[start:end]) == key(table):
            return "\n".join([*lines[:start], *table, *lines[end:]])
        start = max(end, start + 1)
    raise click.ClickException(f"the card has no table that begins with “{key(table)}”")


@click.command()
@click.argument("evaluation", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument(
    "card", required=False, type=click.Path(path_type=Path, exists=True, dir_okay=False)
)
def main(evaluation: Path, card: Path | None) -> None:
    """Print the tables of EVALUATION, or put them into CARD."""
    document = json.loads(evaluation.read_text(encoding="utf-8"))
    tables = swaps(document), rest(document), groups(document)
    if card is None:
        click.echo("\n\n".join("\n".join(table) for table in tables))
        return
    text = card.read_text(encoding="utf-8")
    for table in tables:
        text = replaced(text, table)
    write_text(card, text)


if __name__ == "__main__":
    main()
