"""An evaluation as text for a terminal, and as one HTML file that needs nothing but itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from html import escape
from typing import Any

from cgan.evaluate.evaluation import Evaluation
from fader._version import __version__
from fader.evaluate.page import cautions, page, picture, tabular
from fader.files import write_text
from fader.words import plural

#: Row of the table → (what it is called, which way is better, what it says).
MEASURES = {
    "frechet": ("Fréchet distance", "↓", "distance of the two clouds of features as Gaussians"),
    "kid": ("KID ×1000", "↓", "unbiased kernel distance on the same features, ± over subsets"),
    "precision": ("precision", "↑", "samples that lie among the real pictures"),
    "recall": ("recall", "↑", "real pictures that lie among the samples"),
    "density": ("density", "↑", "real neighbourhoods a sample lies in; 1 is usual for real ones"),
    "coverage": ("coverage", "↑", "real neighbourhoods with a sample in them"),
    "spread": ("spread", "=", "mean distance in features between two pictures"),
    "ms_ssim": ("MS-SSIM", "=", "mean similarity of two pictures; higher means less various"),
    "modes": ("distinct pictures", "=", "so many would give as many pairs of near-duplicates"),
    "bins": ("bins off (NDB/K)", "↓", "groups of look-alikes that are filled otherwise"),
    "psnr": ("PSNR of redrawn, dB", "↑", "how near real pictures are to what the model redraws"),
    "collapse": ("collapse", "↓", "variety that is gone: 0 none, 1 one picture for all"),
}
# What a measure's cell has where it is not an estimate's interval.
_CELLS: dict[str, Callable[[dict[str, Any]], str]] = {
    "frechet": lambda scores: f"{scores['frechet']:.3f}",
    "kid": lambda scores: "{value:.1f} ± {std:.1f}".format(
        **{key: 1000 * value for key, value in scores["kid"].items()}
    ),
    "psnr": lambda scores: f"{scores['psnr']['value']:.2f}" if "psnr" in scores else "",
    "spread": lambda scores: f"{scores['spread']:.3g}",
    "bins": lambda scores: _number(scores["bins"]["different"]),
    "collapse": lambda scores: _number(scores["collapse"]["score"]),
    "modes": lambda scores: _modes(scores["collapse"]["modes"]),
}


def write_report(evaluation: Evaluation, path: str | os.PathLike[str]) -> None:
    """Write the report atomically: tables and pictures, all inside."""
    write_text(path, html(evaluation))


def html(evaluation: Evaluation) -> str:
    """The report's text. It refers to nothing outside itself."""
    document = evaluation.document
    data, model = document["data"], document["model"]
    lines = [line for line in _summary(document) if not line.startswith("CAUTION")]
    measures = [
        f"<tr><td>{escape(title)} {arrow}</td><td>{escape(generated)}</td><td>{escape(real)}</td>"
        f'<td class="words">{escape(what)}</td></tr>'
        for title, arrow, generated, real, what in _rows(document)
    ]
    labels = "".join(
        f'<div class="wide">{tabular(heads, map(_html_row, body))}</div>'
        for heads, body in _label_tables(document)
    )
    if labels:
        told = "<p>No score can be trusted beyond the judge's own beside it.</p>"
        labels = f"<h2>By label</h2>{told}{labels}"
    body = f"""<p>{plural(data["samples"], "sample")} of {model["size"]} pixels against
{data["training"]} training and {plural(data["held_out"], "held-out picture")} of
{escape(data["path"])}, seed {data["seed"]}; fader {__version__}.</p>
{cautions(document["cautions"])}
<ul>{"".join(f"<li>{escape(line)}</li>" for line in lines)}</ul>
<h2>Quality and variety, on {escape(document["features"]["title"])} features</h2>
<p>↓ lower is better, ↑ higher, = as near to the real pictures' value as can be. The second
column is what {escape(data["real"])} score in the samples' place.</p>
<div class="wide">{tabular(["measure", "generated", "real", ""], measures)}</div>
{labels}
<h2>Pictures</h2>
{"".join(picture(title, one) for title, one in evaluation.pictures.items())}"""
    return page(f"Evaluation of {model['name']}", body)


def _html_row(cells: list[str]) -> str:
    return f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


def _group_rows(document: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of the table by class or combination of attributes."""
    labels = document["labels"]
    heads = ["asked", "right", "judge", "KID ×1000", "variety", "repeats", "training"]
    body = []
    for group, entry in labels["groups"].items():
        kid = f"{1000 * entry['kid']['value']:.1f}" if "kid" in entry else ""
        row = [group, _interval(entry["right"]), _number(entry["judge"]), kid]
        row += [_number(entry.get("variety")), _number(entry.get("repeats")), str(entry["real"])]
        if labels["kind"] == "classes":
            most = sorted(entry["taken_for"].items(), key=lambda item: -item[1])[:2]
            row.append(", ".join(f"{name} {100 * share:.0f} %" for name, share in most))
        body.append(row)
    return [*heads, "mostly taken for"] if labels["kind"] == "classes" else heads, body


def _summary(document: dict[str, Any]) -> list[str]:
    """What is not in a table, in sentences; warnings come last."""
    data, labels = document["data"], document["labels"]
    lines = [f"features: {document['features']['description']}"]
    found = document["scores"]["generated"]["collapse"]
    parts = ", ".join(f"{part} {_number(found[part])}" for part in ("spread", "repeats", "bins"))
    verdict = {"none": "not collapsed", "partial": "partly collapsed", "collapsed": "collapsed"}
    lines.append(f"{verdict[found['verdict']]}: {_number(found['score'])}, the largest of {parts}")
    spaces = {"features": f"{document['features']['title']} features", "pixels": "pixels"}
    for space, title in spaces.items():
        one = document["memory"][space]
        lines.append(
            f"memory, in {title}: {_percent(one['copies'])} of the samples are copies of a "
            f"training picture, {_percent(one['near'])} nearer to one than 99 % of the "
            f"{document['memory']['usual']} are; median distance {one['median']:.3g} (real "
            f"{one['real_median']:.3g})"
        )
    if labels:
        judge = labels["judge"]
        lines.append(
            f"label accuracy: {_interval(labels['accuracy']) or 'none'}; the judge's own on "
            f"{plural(judge['scored_on'], 'real picture')} "
            f"{_interval(judge['accuracy']) or 'none'}, chance {_number(labels['chance'])}"
        )
        lines.append(f"judge of labels: {judge['name']} ({judge['architecture']})")
    lines.append(
        f"{plural(data['samples'], 'sample')}, {data['compared']} of them and as many real "
        f"pictures in the distances; real: {data['real']}, compared with training pictures as the "
        f"samples are; {plural(data['rejected'], 'file')} of the data could not be used"
    )
    return lines + [f"CAUTION: {caution}" for caution in document["cautions"]]


def text(document: dict[str, Any]) -> str:
    """The whole evaluation."""
    data = document["data"]
    lines = [f"{document['model']['name']} against {data['path']}", ""]
    header = [f"on {document['features']['title']} features", "", "generated", "real", ""]
    lines += _aligned([header, *map(list, _rows(document))], left=(0, 1, 4))
    for heads, body in _label_tables(document):
        lines += ["", *_aligned([heads, *body], left=(0, 7))]
    return "\n".join([*lines, "", *_summary(document)])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _percent(score: dict[str, float]) -> str:
    return f"{100 * score['value']:.1f} %"


def _interval(score: dict[str, float] | None) -> str:
    if not score or score["value"] is None:
        return ""
    return f"{score['value']:.3f} [{score['low']:.2f}–{score['high']:.2f}]"


def _rows(document: dict[str, Any]) -> list[tuple[str, ...]]:
    """(measure, arrow, of generated, of real pictures, explanation), all texts."""
    table = []
    for key, (title, arrow, what) in MEASURES.items():
        if key == "frechet" and document["features"]["name"] == "inception":
            title = "FID"
        if key == "psnr" and key not in document["scores"]["generated"]:
            continue  # of a generator that takes up no pictures
        cells = [
            _CELLS[key](scores) if key in _CELLS else _interval(scores[key]) or "too small"
            for scores in map(document["scores"].get, ("generated", "real"))
        ]
        table.append((title, arrow, *cells, what))
    return table


def _label_tables(document: dict[str, Any]) -> list[tuple[list[str], list[list[str]]]]:
    """Headings and rows by attribute and value, and by class or combination of attributes."""
    if not document["labels"]:
        return []
    sides = document["labels"].get("attributes", {})
    body = [
        [f"{name}={value}", _interval(entry), _number(entry["judge"])]
        for name, entries in sides.items()
        for value, entry in entries.items()
    ]
    tables = [(["asked", "seen", "judge"], body), _group_rows(document)]
    return [(heads, body) for heads, body in tables if body]


def _modes(modes: float | None) -> str:
    return "no two alike" if modes is None else f"{float(f'{modes:.2g}'):,.0f}"


def _aligned(table: list[list[str]], left: tuple[int, ...]) -> list[str]:
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    return [
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
