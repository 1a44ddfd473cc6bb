"""What each part of the objective brings: one run per row, equal budgets, one table.

    python tools/ablate.py --data STORE --out runs/ablation --steps 2000
    python tools/ablate.py --data SMALL_STORE --size 64 --steps 1000

A row of ``ablation.toml`` names its settings on top of the row before it. Every row is trained for
as many steps on the same data, and evaluated by the packaged judge on test people; the table and
the grids go to ``docs/ablation.md`` and ``docs/ablation/``. Rows already done are not done again,
and a row that was stopped goes on.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from PIL import Image

from fader import Editor
from fader.commands.options import device_option, resolve_device
from fader.data.batches import to_tensor
from fader.data.source import open_data
from fader.evaluate.evaluation import evaluate
from fader.evaluate.judge import load_judge
from fader.files import write_text
from fader.models.io import load_model
from fader.photo import open_photo
from fader.train.samples import sample_grid, save_grid
from fader.train.settings import tomllib

ROOT = Path(__file__).resolve().parent.parent


def plan(path: Path, size: int, steps: int) -> list[dict[str, Any]]:
    """The rows: name, attributes, and every setting that differs from the defaults."""
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    settings: dict[str, Any] = {**document["common"], "steps": steps}
    # At any size the latent has 4×4 places.
    settings |= {"model.size": size, "model.layers": (size // 4).bit_length() - 1}
    rows = []
    for row in [{"shares": document["schedule"]}, *document["row"]]:
        shares = {key: round(steps * share) for key, share in row.get("shares", {}).items()}
        settings = {**settings, **shares, **row.get("settings", {})}
        if "name" not in row:
            continue
        attributes = row.get("attributes", document["attributes"])
        rows.append({"name": row["name"], "attributes": attributes, "settings": settings})
    return rows


def train(row: dict[str, Any], data: Path, run: Path, device: str) -> None:
    """Train a row by ``fader train``, or go on with it."""
    command = [sys.executable, "-m", "fader", "train", "--attrs", ",".join(row["attributes"])]
    command += ["--data", str(data), "--out", str(run), "--device", device, "--resume"]
    if not (run / "config.json").exists():
        command += ["--preset", "paper-256"]
    command += [f"--setting={key}={value}" for key, value in row["settings"].items()]
    subprocess.run(command, check=True)


def measure(model_path: Path, data: Path, device: torch.device, limit: int) -> dict[str, Any]:
    """The numbers of a row, of the whole evaluation."""
    model = load_model(model_path, device)
    judge = load_judge(None, model, device)
    store = open_data(data, model.size)
    document = evaluate(model, judge, store, name=str(model_path), limit=limit).document
    swaps = document["swap_accuracy"]
    return {
        "swap": {
            name: [round(entry[d]["value"], 2) for d in ("to_0", "to_1") if d in entry]
            for name, entry in swaps["attributes"].items()
            if entry is not None
        },
        "mean": swaps["mean"],
        "blurred": swaps["mean_blurred"],
        "pasted": swaps["mean_pasted"],
        "kept": document["other_attributes_kept"]["mean"],
        "psnr": document["reconstruction"]["psnr"]["value"],
        "ssim": document["reconstruction"]["ssim"]["value"],
        "leakage": document["leakage"]["mean"],
    }


def grid(model_path: Path) -> Image.Image:
    """The faces of the example photos, in the public domain, with each attribute swapped."""
    editor = Editor(load_model(model_path), "cpu")
    crops, values = [], []
    for path in sorted((ROOT / "examples").glob("*.jpg")):
        crops.append(editor.crop(open_photo(path).pixels, editor.faces(path)[:1]))
        (estimate,) = editor.estimate(crops[-1])
        values.append([estimate[name] for name in editor.attributes])
    return sample_grid(editor.model, to_tensor(np.concatenate(crops)), torch.tensor(values))


def table(
    results: list[tuple[dict[str, Any], dict[str, Any]]], size: int, steps: int, limit: int
) -> str:
    """The document, from (row, numbers) pairs."""
    lines = [
        "# What each part brings",
        "",
        f"`python tools/ablate.py --data STORE --size {size} --steps {steps} --limit {limit}`:",
        "each row has the settings of the row above and its own, the same data and as many",
        "steps. Scores as in [evaluation.md](evaluation.md), on people never trained on, by the",
        "packaged judge.",
        "",
        "| row | swap | blurred | pasted | kept | PSNR dB | SSIM | leakage |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row, n in results:
        values = [f"{n[k]:.2f}" for k in ("mean", "blurred", "pasted", "kept")]
        values += [f"{n['psnr']:.1f}", f"{n['ssim']:.2f}", f"{n['leakage']:.2f}"]
        lines.append(f"| {row['name']} | " + " | ".join(values) + " |")
    lines += ["", "Swap accuracy by attribute, → 0 / → 1:", ""]
    names = list(dict.fromkeys(name for row, _ in results for name in row["attributes"]))
    lines.append("| row | " + " | ".join(names) + " |")
    lines.append("| --- |" + " --- |" * len(names))
    for row, n in results:
        cells = [" / ".join(f"{v:.2f}" for v in n["swap"].get(name, [])) for name in names]
        lines.append(f"| {row['name']} | " + " | ".join(cells) + " |")
    for row, _ in results:
        lines += ["", f"**{row['name']}**", "", f"![{row['name']}](ablation/{slug(row)}.jpg)"]
    return "\n".join(lines) + "\n"


def slug(row: dict[str, Any]) -> str:
    name = row["name"].lower()
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in name).strip("-")


@click.command()
@click.option("--data", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--out", default="runs/ablation", type=click.Path(path_type=Path))
@click.option("--size", default="128", type=click.Choice(["64", "128"]), show_default=True)
@click.option("--steps", default=2000, show_default=True, help="Of every row.")
@click.option("--limit", default=200, show_default=True, help="Test faces.")
@click.option("--plan", "plan_path", default=ROOT / "tools" / "ablation.toml",
              type=click.Path(exists=True, path_type=Path))  # fmt: skip
@click.option("--docs", default=ROOT / "docs", type=click.Path(path_type=Path))
@device_option
def main(
    data: Path,
    out: Path,
    size: str,
    steps: int,
    limit: int,
    plan_path: Path,
    docs: Path,
    device: str,
) -> None:
    """Train and measure every row; write the table of those done so far after each."""
    results = []
    (docs / "ablation").mkdir(parents=True, exist_ok=True)
    for row in plan(plan_path, int(size), steps):
        run = out / slug(row)
        numbers = run / f"numbers-{steps}-{limit}.json"
        if not numbers.exists():
            train(row, data, run, device)
            found = measure(run / "model", data, resolve_device(device), limit)
            save_grid(grid(run / "model"), run / "grid.jpg")
            write_text(numbers, json.dumps(found, indent=2) + "\n")
        shutil.copy(run / "grid.jpg", docs / "ablation" / f"{slug(row)}.jpg")
        results.append((row, json.loads(numbers.read_text(encoding="utf-8"))))
        write_text(docs / "ablation.md", table(results, int(size), steps, limit))
        click.echo(f"{row['name']}: {json.dumps(results[-1][1])}")


if __name__ == "__main__":
    main()
