"""An evaluation as one HTML file that needs nothing but itself."""

from __future__ import annotations

import os
from html import escape
from typing import Any

from cgan.evaluate.evaluation import Evaluation
from cgan.evaluate.table import attribute_rows, group_rows, rows, summary
from fader._version import __version__
from fader.evaluate.page import cautions, page, picture, tabular
from fader.files import write_text


def write_report(evaluation: Evaluation, path: str | os.PathLike[str]) -> None:
    """Write the report atomically: tables and pictures, all inside."""
    write_text(path, html(evaluation))


def html(evaluation: Evaluation) -> str:
    """The report's text. It refers to nothing outside itself."""
    document = evaluation.document
    data, model = document["data"], document["model"]
    lines = [line for line in summary(document) if not line.startswith("CAUTION")]
    measures = [
        f"<tr><td>{escape(title)} {arrow}</td><td>{escape(generated)}</td><td>{escape(real)}</td>"
        f'<td class="words">{escape(what)}</td></tr>'
        for title, arrow, generated, real, what in rows(document)
    ]
    body = f"""<p>{data["samples"]} samples of {model["size"]} pixels against
{data["training"]} training and {data["held_out"]} held-out pictures of {escape(data["path"])},
seed {data["seed"]}; fader {__version__}.</p>
{cautions(document["cautions"])}
<ul>{"".join(f"<li>{escape(line)}</li>" for line in lines)}</ul>
<h2>Quality and variety, on {escape(document["features"]["title"])} features</h2>
<p>↓ lower is better, ↑ higher, = as near to the real pictures' value as can be. The second
column is what {escape(data["real"])} score in the samples' place.</p>
<div class="wide">{tabular(["measure", "generated", "real", ""], measures)}</div>
{_labels(document)}
<h2>Pictures</h2>
{"".join(picture(title, one) for title, one in evaluation.pictures.items())}"""
    return page(f"Evaluation of {model['name']}", body)


def _labels(document: dict[str, Any]) -> str:
    if not document["labels"]:
        return ""
    parts = ["<h2>By label</h2><p>No score can be trusted beyond the judge's own beside it.</p>"]
    for heads, body in (attribute_rows(document), group_rows(document)):
        if body:
            cells = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in body]
            parts.append('<div class="wide">')
            parts.append(tabular(heads, [f"<tr>{row}</tr>" for row in cells]) + "</div>")
    return "".join(parts)
