"""What each addition to the plain DCGAN brings: one run per row, equal steps, one table.

    python tools/compare_generators.py --data data/celeba --steps 1500
    python tools/compare_generators.py --data data/celeba --steps 1500 --only "plain DCGAN"

A row of ``generators.toml`` names its settings on top of the row before it. Every row is trained by
``cgan train`` for as many steps on the same data and measured by ``cgan evaluate``; the table goes
to ``docs/cgan-comparison.md`` and the grids beside it. Rows already done are not done again, and a
row that was stopped goes on.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
from PIL import Image

from fader.commands.options import device_option
from fader.files import write_text
from fader.train.run import read_rows
from fader.train.settings import tomllib

ROOT = Path(__file__).resolve().parent.parent

#: Options that are `cgan train`'s too, and in the document.
GIVEN = "labels", "size", "channels", "steps"

#: Column → its heading, and where the evaluation's document has it.
MEASURES = {
    "frechet": ("Fréchet distance ↓", ("frechet",)),
    "kid": ("KID ↓", ("kid", "value")),
    "precision": ("precision ↑", ("precision", "value")),
    "recall": ("recall ↑", ("recall", "value")),
    "ms_ssim": ("MS-SSIM ↓", ("ms_ssim", "value")),
    "collapse": ("collapse ↓", ("collapse", "score")),
}


def plan(path: Path) -> tuple[str, list[dict[str, Any]]]:
    """The preset all rows begin with; and each row's name and settings on top of it."""
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    settings: dict[str, Any] = {}
    rows = []
    for row in document["row"]:
        settings = {**settings, **row.get("settings", {})}
        rows.append({"name": row["name"], "settings": settings})
    return document["preset"], rows


def slug(name: str) -> str:
    """A row's name as a folder's."""
    return "".join(c if c.isalnum() else "-" for c in name.lower()).strip("-")


def cgan(*arguments: object) -> str:
    """Run cgan and return what it prints."""
    command = [sys.executable, "-m", "cgan", *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def measured(row: dict[str, Any], run: Path, preset: str, options: dict[str, Any]) -> dict:
    """Train a row, or go on with it, and evaluate it."""
    settings = [f"--setting={key}={value}" for key, value in row["settings"].items()]
    if (run / "config.json").exists():
        cgan("train", "--resume", "--out", run, "--device", options["device"])
    else:
        given = [f"--{key}={options[key]}" for key in (*GIVEN, "data", "device")]
        # Snapshots enough for the eye; their backups take time.
        given += [f"--preset={preset}", f"--snapshot-every={max(50, options['steps'] // 5)}"]
        cgan("train", *given, "--out", run, *settings)
    asked = "--model", run / "model", "--data", options["data"], "-n", options["n"], "--json"
    document = json.loads(cgan("evaluate", *asked, "--device", options["device"]))
    speeds = sorted(r["images_per_second"] for r in read_rows(run / "metrics.jsonl"))
    return {"document": document, "images_per_second": speeds[len(speeds) // 2]}


def _of(document: dict[str, Any], path: tuple[str, ...]) -> float | None:
    found: Any = document
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _cells(document: dict[str, Any], whose: str) -> list[str]:
    values = [_of(document["scores"][whose], path) for _, path in MEASURES.values()]
    right = ("accuracy",) if whose == "generated" else ("judge", "accuracy")
    values.append(_of(document, ("labels", *right, "value")))
    return ["–" if value is None else f"{value:.3g}" for value in values]


def table(rows: list[tuple[str, dict[str, Any]]], options: dict[str, Any]) -> str:
    """The document of what was measured so far."""
    given = " ".join(f"--{key} {options[key]}" for key in GIVEN)
    headings = " | ".join(heading for heading, _ in MEASURES.values())
    lines = [
        "# Generators: what each addition brings",
        "",
        f"`python tools/compare_generators.py --data DATA {given} -n {options['n']}`: each row has "
        "the settings of the row above and its own, the same data and as many steps of 64 images. "
        "Measures as in [cgan-evaluation.md](cgan-evaluation.md), on attribute features.",
        "",
        f"| row | images/s | {headings} | labels right ↑ |",
        "| --- |" + " --- |" * (len(MEASURES) + 2),
    ]
    for name, found in rows:
        cells = [f"{found['images_per_second']:.0f}", *_cells(found["document"], "generated")]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    real = _cells(rows[-1][1]["document"], "real")
    lines.append("| real images | | " + " | ".join(real) + " |")
    for name, _ in rows:
        lines += ["", f"**{name}**", "", f"![{name}](cgan-comparison/{slug(name)}.jpg)"]
    return "\n".join(lines) + "\n"


@click.command()
@click.option("--data", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--labels", default="Male,Blond_Hair,Smiling", show_default=True)
@click.option("--size", default=64, show_default=True)
@click.option("--channels", default=3, show_default=True)
@click.option("--steps", default=1500, show_default=True, help="Of every row.")
@click.option("-n", default=1000, show_default=True, help="Samples.")
@click.option("--only", multiple=True, help="A row to do; repeatable.  [default: all]")
@click.option("--out", default="runs/comparison", type=click.Path(path_type=Path))
@click.option("--docs", default=ROOT / "docs", type=click.Path(path_type=Path))
@device_option
def main(only: tuple[str, ...], out: Path, docs: Path, **options: Any) -> None:
    """Train and measure every row; write the table of those done so far after each."""
    preset, rows = plan(ROOT / "tools" / "generators.toml")
    if unknown := set(only) - {row["name"] for row in rows}:
        raise click.UsageError(f"no row is called {', '.join(sorted(unknown))}")
    (docs / "cgan-comparison").mkdir(parents=True, exist_ok=True)
    results = []
    for row in rows:
        run = out / slug(row["name"])
        kept = run / f"numbers-{options['steps']}-{options['n']}.json"
        if not kept.exists():
            if only and row["name"] not in only:
                continue
            write_text(kept, json.dumps(measured(row, run, preset, options)) + "\n")
        results.append((row["name"], json.loads(kept.read_text(encoding="utf-8"))))
        with Image.open(run / "grid.png") as grid:
            picture = docs / "cgan-comparison" / f"{slug(row['name'])}.jpg"
            grid.convert("RGB").save(picture, quality=90)
        write_text(docs / "cgan-comparison.md", table(results, options))
        click.echo(f"{row['name']}: done")


if __name__ == "__main__":
    main()
