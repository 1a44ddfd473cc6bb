"""An evaluation as text for a terminal; the HTML report takes its rows from here too."""

from __future__ import annotations

from typing import Any

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


def rows(document: dict[str, Any]) -> list[tuple[str, ...]]:
    """(measure, arrow, of generated, of real pictures, explanation), all texts."""
    table = []
    for key, (title, arrow, what) in MEASURES.items():
        if key == "frechet" and document["features"]["name"] == "inception":
            title = "FID"
        if key == "psnr" and key not in document["scores"]["generated"]:
            continue  # of a generator that takes up no pictures
        cells = [_cell(key, document["scores"][who]) for who in ("generated", "real")]
        table.append((title, arrow, *cells, what))
    return table


def group_rows(document: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of the table by class or combination of attributes."""
    labels = document["labels"]
    classes = labels["kind"] == "classes"
    heads = ["asked", "right", "judge", "KID ×1000", "variety", "repeats", "training"]
    heads += ["mostly taken for"] if classes else []
    body = []
    for group, entry in labels["groups"].items():
        row = [
            group,
            interval(entry["right"]),
            number(entry["judge"]),
            f"{1000 * entry['kid']['value']:.1f}" if "kid" in entry else "",
            number(entry.get("variety")),
            number(entry.get("repeats")),
            str(entry["real"]),
        ]
        if classes:
            row.append(_taken_for(entry["taken_for"]))
        body.append(row)
    return heads, body


def attribute_rows(document: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of the table by attribute and value; no rows for classes."""
    sides = document["labels"].get("attributes", {})
    body = [
        [f"{name}={value}", interval(entry), number(entry["judge"])]
        for name, entries in sides.items()
        for value, entry in entries.items()
    ]
    return ["asked", "seen", "judge"], body


def summary(document: dict[str, Any]) -> list[str]:
    """What is not in a table, in sentences; warnings come last."""
    data, labels = document["data"], document["labels"]
    lines = [f"features: {document['features']['description']}"]
    generated = document["scores"]["generated"]
    found = generated["collapse"]
    parts = ", ".join(f"{part} {number(found[part])}" for part in ("spread", "repeats", "bins"))
    verdict = {"none": "not collapsed", "partial": "partly collapsed", "collapsed": "collapsed"}
    lines.append(f"{verdict[found['verdict']]}: {number(found['score'])}, the largest of {parts}")
    spaces = {"features": f"{document['features']['title']} features", "pixels": "pixels"}
    for space, title in spaces.items():
        one = document["memory"][space]
        lines.append(
            f"memory, in {title}: {percent(one['copies'])} of the samples are copies of a training "
            f"picture, {percent(one['near'])} nearer to one than 99 % of the "
            f"{document['memory']['usual']} are; median distance {one['median']:.3g} (real "
            f"{one['real_median']:.3g})"
        )
    if labels:
        judge = labels["judge"]
        lines.append(
            f"label accuracy: {interval(labels['accuracy'])}; the judge's own on "
            f"{judge['scored_on']} real pictures {interval(judge['accuracy'])}, chance "
            f"{number(labels['chance'])}"
        )
        lines.append(f"judge of labels: {judge['name']} ({judge['architecture']})")
    lines.append(
        f"{data['samples']} samples, {data['compared']} of them and as many real pictures in the "
        f"distances; real: {data['real']}, compared with training pictures as the samples are; "
        f"{data['rejected']} files of the data could not be used"
    )
    return lines + [f"CAUTION: {caution}" for caution in document["cautions"]]


def text(document: dict[str, Any]) -> str:
    """The whole evaluation."""
    data = document["data"]
    lines = [f"{document['model']['name']} against {data['path']}", ""]
    header = [f"on {document['features']['title']} features", "", "generated", "real", ""]
    lines += _aligned([header, *map(list, rows(document))], left=(0, 1, 4))
    if document["labels"]:
        for heads, body in (attribute_rows(document), group_rows(document)):
            if body:
                lines += ["", *_aligned([heads, *body], left=(0, 7))]
    return "\n".join([*lines, "", *summary(document)])


def number(value: float | None) -> str:
    """Three digits, or nothing."""
    return "" if value is None else f"{value:.3f}"


def percent(score: dict[str, float]) -> str:
    """A share's value in per cent."""
    return f"{100 * score['value']:.1f} %"


def interval(score: dict[str, float] | None) -> str:
    """A value with its interval, or nothing."""
    if not score or score["value"] is None:
        return ""
    return f"{score['value']:.3f} [{score['low']:.2f}–{score['high']:.2f}]"


def _cell(key: str, scores: dict[str, Any]) -> str:
    if key == "frechet":
        return f"{scores[key]:.3f}"
    if key == "kid":
        return f"{1000 * scores[key]['value']:.1f} ± {1000 * scores[key]['std']:.1f}"
    if key == "psnr":
        return f"{scores[key]['value']:.2f}" if key in scores else ""
    if key == "spread":
        return f"{scores[key]:.3g}"
    if key == "bins":
        return number(scores[key]["different"])
    if key == "collapse":
        return number(scores[key]["score"])
    if key == "modes":
        modes = scores["collapse"]["modes"]
        return "no two alike" if modes is None else f"{float(f'{modes:.2g}'):,.0f}"
    return interval(scores[key]) or "too small"


def _taken_for(shares: dict[str, float]) -> str:
    most = sorted(shares.items(), key=lambda item: -item[1])[:2]
    return ", ".join(f"{name} {100 * share:.0f} %" for name, share in most)


def _aligned(table: list[list[str]], left: tuple[int, ...]) -> list[str]:
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    return [
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
