"""An evaluation as one HTML file that needs nothing but itself."""

from __future__ import annotations

import os
from html import escape
from typing import Any

from fader._version import __version__
from fader.evaluate.evaluation import Evaluation
from fader.evaluate.page import cautions, page, picture, tabular
from fader.evaluate.table import COLUMNS, faces, number, rejected, rows, summary
from fader.files import write_text

# A slider curve, in SVG units.
_WIDTH, _HEIGHT, _MARGIN = 260, 170, 26

#: A drop after blur and JPEG beyond this is marked.
_TRICK = 0.05


_OF_SLIDERS = """The judge's probability of the attribute as its slider goes from −1 to 2: mean
over faces, and where the middle 80 % of them are. Training covers 0 to 1."""
_OF_SIDE_EFFECTS = """How much the judge's probability of the column's attribute moved, on average,
when the row's was set."""
_OF_GROUPS = """Swap accuracy, mean of both directions, apart for the two sides of other
attributes."""


def write_report(evaluation: Evaluation, path: str | os.PathLike[str]) -> None:
    """Write the report atomically: table, slider curves, side effects and pictures, all inside."""
    write_text(path, html(evaluation))


def html(evaluation: Evaluation) -> str:
    """The report's text. It refers to nothing outside itself."""
    document = evaluation.document
    data = document["data"]
    lines = [line for line in summary(document) if not line.startswith("CAUTION")]
    curves = "".join(_curve(name, curve) for name, curve in document["continuity"].items())
    pictures = "".join(picture(name, one) for name, one in evaluation.pictures.items())
    legend = "".join(f"<dt>{name}</dt><dd>{escape(what)}</dd>" for name, what in COLUMNS.items())
    body = f"""<p>{escape(faces(data))}, of {escape(data["path"])},
{document["model"]["size"]} pixels, seed {data["seed"]}; {rejected(data)} rejected when it was
prepared. fader {__version__}.</p>
{cautions(document["cautions"])}
<ul>{"".join(f"<li>{escape(line)}</li>" for line in lines)}</ul>
<h2>Attributes</h2>
<div class="wide">{_table(document)}</div>
<dl>{legend}</dl>
{_section("Sliders", _OF_SLIDERS, "curves", curves)}
{_section("Side effects", _OF_SIDE_EFFECTS, "wide", _side_effects(document))}
{_section("For whom", _OF_GROUPS, "wide", _groups(document))}
<h2>Pictures</h2>
<p>Random faces of the split, not chosen ones.</p>
{pictures}"""
    return page(f"Evaluation of {document['model']['name']}", body)


def _section(title: str, told: str, kind: str, content: str) -> str:
    """A part of the report; nothing where it would be empty, as it may be of few faces."""
    return (
        f'<h2>{title}</h2>\n<p>{told}</p>\n<div class="{kind}">{content}</div>' if content else ""
    )


def _table(document: dict[str, Any]) -> str:
    body = []
    for name, direction, cells in rows(document):
        entry = document["swap_accuracy"]["attributes"][name]
        bad = {"blurred"} if entry and _dropped(entry, direction) else set()
        texts = "".join(
            f"<td{' class=bad' if column in bad else ''}>{escape(cells.get(column, ''))}</td>"
            for column in COLUMNS
        )
        kind = ' class="mean"' if direction == "mean" else ""
        body.append(f"<tr{kind}><td>{escape(name)} {direction}</td>{texts}</tr>")
    return tabular(["attribute", *COLUMNS], body)


def _dropped(entry: dict[str, Any], direction: str) -> bool:
    score = entry[direction.replace("→", "to_")]
    accuracy = score.get("accuracy", score)["value"]
    return accuracy - score["blurred"]["value"] > _TRICK


def _side_effects(document: dict[str, Any]) -> str:
    names = document["model"]["attributes"]
    body = []
    for name, entry in document["other_attributes_kept"]["attributes"].items():
        for direction, score in (entry or {}).items():
            cells = "".join(_shaded(score["side_effects"].get(other)) for other in names)
            label = f"{escape(name)} {direction.replace('to_', '→')}"
            body.append(f"<tr><td>{label}</td>{cells}</tr>")
    return tabular(["set", *names], body) if body else ""


def _shaded(move: float | None) -> str:
    if move is None:
        return "<td></td>"
    colour = "200, 60, 40" if move < 0 else "30, 90, 200"
    return f'<td style="background: rgba({colour}, {min(abs(move), 1):.2f})">{move:+.2f}</td>'


def _groups(document: dict[str, Any]) -> str:
    scores, means = (document["swap_accuracy"][key] for key in ("attributes", "by_group"))
    entries = {name: entry["groups"] for name, entry in scores.items() if entry}
    groups = list(dict.fromkeys(group for entry in entries.values() for group in entry))
    if not groups:
        return ""

    def row(name: str, kind: str, shown: dict[str, tuple[float | None, str]]) -> str:
        cells = [
            f"<td>{number(shown[g][0])} <small>{shown[g][1]}</small></td>"
            if g in shown
            else "<td></td>"
            for g in groups
        ]
        return f"<tr{kind}><td>{escape(name)}</td>{''.join(cells)}</tr>"

    body = [
        row(name, "", {g: (one["value"], f"n={one['n']}") for g, one in entry.items()})
        for name, entry in entries.items()
    ]
    whole = {g: (one["mean"], f"all faces {number(one['whole'])}") for g, one in means.items()}
    body.append(row("mean", ' class="mean"', whole))
    return tabular(["attribute", *groups], body)


def _curve(name: str, curve: dict[str, Any]) -> str:
    positions = curve["positions"]
    first, last = positions[0], positions[-1]
    right, bottom = _WIDTH - _MARGIN, _HEIGHT - _MARGIN

    def x(position: float) -> float:
        return round(_MARGIN + (position - first) / (last - first) * (right - _MARGIN), 1)

    def y(probability: float) -> float:
        return round(bottom - probability * (bottom - _MARGIN), 1)

    def points(values: list[float], step: int = 1) -> str:
        pairs = zip(positions[::step], values[::step], strict=True)
        return " ".join(f"{x(p)},{y(v)}" for p, v in pairs)

    grid = "".join(
        f'<line x1="{x(p)}" x2="{x(p)}" y1="{y(0)}" y2="{y(1)}" stroke="#ddd"/>'
        f'<text x="{x(p)}" y="{y(0) + 15}" text-anchor="middle">{p}</text>'
        for p in range(int(first), int(last) + 1)
    )
    grid += "".join(
        f'<line x1="{x(first)}" x2="{x(last)}" y1="{y(v)}" y2="{y(v)}" stroke="#ddd"/>'
        f'<text x="{_MARGIN - 5}" y="{y(v) + 4}" text-anchor="end">{v:g}</text>'
        for v in (0, 0.5, 1)
    )
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img" font-size="11" '
        f'aria-label="{escape(name)} along its slider">{grid}'
        f'<polygon points="{points(curve["low"])} {points(curve["high"], -1)}" fill="#4a7fc1" '
        f'opacity="0.2"/><polyline points="{points(curve["probability"])}" fill="none" '
        f'stroke="#1f4e8c" stroke-width="2"/>'
        f'<text x="{_MARGIN}" y="16" font-weight="bold">{escape(name)}</text>'
        f'<text x="{right}" y="16" text-anchor="end">ρ {curve["spearman"]["value"]:.2f}</text>'
        "</svg>"
    )
