"""The table and the plot of tools/study_few_images.py, from its rows of scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fader.files import atomic_path

#: What is kept of each score: column → its heading, and where an evaluation's document has it.
MEASURES = {
    "frechet": ("Fréchet distance ↓", ("frechet",)),
    "kid": ("KID ↓", ("kid", "value")),
    "precision": ("precision ↑", ("precision", "value")),
    "recall": ("recall ↑", ("recall", "value")),
    "spread": ("spread of features", ("spread",)),
    "ms_ssim": ("MS-SSIM between samples", ("ms_ssim", "value")),
    "collapse": ("collapse ↓", ("collapse", "score")),
    "near": ("nearer to a training image than 99 % of real ones ↓", None),
    "copies": ("copies of training images ↓", None),
}
_PLOTTED = ("frechet", "precision", "recall", "spread", "collapse", "copies")


def markdown(rows: list[dict[str, Any]], features: str) -> str:
    """A table for each measure: a line per generator, a column per number of iterations."""
    iterations = sorted({row["iterations"] for row in rows})
    parts = [f"Distances on {features}. 0 iterations is untrained.\n"]
    for name, (title, _) in MEASURES.items():
        real = _text(rows[0][column(name, "real")])
        parts.append(f"**{title}** (real held-out images: {real})\n")
        parts.append("| images | DiffAugment |" + "".join(f" {i} |" for i in iterations))
        parts.append("| --- | --- |" + " ---: |" * len(iterations))
        for (images, diffaugment), values in _lines(rows, name).items():
            cells = "".join(f" {_text(values.get(i))} |" for i in iterations)
            parts.append(f"| {images or 'all'} | {diffaugment} |{cells}")
        parts.append("")
    return "\n".join(parts)


def plot(rows: list[dict[str, Any]], features: str, path: Path) -> None:
    """A panel for each of the main measures, over iterations."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 7.5), layout="constrained")
    panels = figure.subplots(2, 3).ravel()
    counts = sorted({row["images"] for row in rows}, key=lambda count: count or 10**9)
    colours = {count: f"C{i}" for i, count in enumerate(counts)}
    for panel, name in zip(panels, _PLOTTED, strict=True):
        for (images, diffaugment), values in _lines(rows, name).items():
            points = sorted((i, v) for i, v in values.items() if v is not None)
            panel.plot(
                [i for i, _ in points],
                [v for _, v in points],
                "o-" if diffaugment == "on" else "x--",
                color=colours[images],
                label=f"{images or 'all'} images{'' if diffaugment == 'on' else ', not augmented'}",
            )
        real = rows[0][column(name, "real")]
        if real is not None:
            panel.axhline(real, color="grey", linewidth=1, linestyle=":", label="real, held out")
        iterations = sorted({row["iterations"] for row in rows})
        panel.set_xscale("symlog", linthresh=100, linscale=0.5)
        panel.set_xlim(-15, 1.2 * max(100, *iterations))
        panel.set_xticks(iterations, [str(number) for number in iterations])
        panel.minorticks_off()
        panel.set_title(MEASURES[name][0])
        panel.set_xlabel("iterations")
    panels[0].legend(fontsize=8)
    figure.suptitle(f"Few images: quality and variety on {features} features")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _lines(rows: list[dict[str, Any]], name: str) -> dict[tuple[int, str], dict[int, Any]]:
    lines: dict[tuple[int, str], dict[int, Any]] = {}
    for row in rows:
        line = lines.setdefault((row["images"], row["diffaugment"]), {})
        line[row["iterations"]] = row[name]
    return lines


def column(name: str, who: str) -> str:
    """The column of a measure of ``generated`` or ``real`` images."""
    return name if who == "generated" else f"{name}_real"


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
