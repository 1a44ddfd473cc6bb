"""How few images are enough? Generators from 50, 496 and all images, looked at as they learn.

    python tools/study_few_images.py --data data/celeba --out runs/study --estimate
    python tools/study_few_images.py --data data/celeba --out runs/study
    python tools/study_few_images.py --data data/celeba --out runs/study --size 32 \
        --iterations 0,100,500,1000 -n 500 --minutes 60      # a quick one

One generator is trained for each number of images, with DiffAugment and without, and scored at
each number of iterations, 0 being untrained. All are scored against the same real images: as
many training images as there are samples, and held-out ones as the scale. Whether samples are
copies is asked of the very images that the generator learnt from. Smaller sets are part of the
larger ones.

OUT gets results.csv, results.md, study.png (the plot), samples.png (the same latents for every
generator) and runs/, the runs themselves. Whatever stops it, the same call goes on: a score that
is in results.jsonl is not made again, and a run goes on from its last backup.
"""

from __future__ import annotations

import csv
import json
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from functools import cached_property, reduce
from itertools import product
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

from cgan.config import GanConfig, apply_overrides, load_preset
from cgan.data import ImageSet, open_images
from cgan.evaluate.evaluation import evaluate
from cgan.evaluate.features import SPACES, FeatureSpace
from cgan.evaluate.reals import Reals
from cgan.gan import GanTrainer
from cgan.pictures import grid, save_png
from fader.commands.options import device_option, resolve_device
from fader.data.batches import to_images
from fader.errors import FaderError
from fader.files import atomic_path, write_text

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
_DIFFAUGMENT = {"on": "color,translation,cutout", "off": "none"}
#: Samples in a row of samples.png, and steps that --estimate measures.
_SHOWN, _MEASURED = 12, 6


@dataclass(frozen=True)
class Cell:
    """One generator at one moment; ``images`` 0 is all of them."""

    images: int
    diffaugment: str
    iterations: int

    @property
    def run(self) -> str:
        """The run's folder in OUT/runs."""
        return f"{self.images or 'all'}-{self.diffaugment}"

    @property
    def title(self) -> str:
        """The cell in words."""
        augmented = "DiffAugment" if self.diffaugment == "on" else "no DiffAugment"
        return f"{self.images or 'all'} images, {augmented}, {self.iterations} iterations"


@dataclass
class Study:
    """The scores so far, and the means to make the missing ones."""

    out: Path
    images: ImageSet
    config: GanConfig
    n: int
    space: FeatureSpace
    device: Any

    def __post_init__(self) -> None:
        """Scores of other settings must not end in one table."""
        self.results = self.out / "results.jsonl"
        settings = {**self.config.to_dict(), "samples": self.n, "features": self.space.name}
        settings["training_images"] = len(self.images.indices(0))
        path = self.out / "study.json"
        if not path.exists():
            write_text(path, json.dumps(settings, indent=2) + "\n")
        before = json.loads(path.read_text(encoding="utf-8"))
        changed = sorted(key for key in settings if before.get(key) != settings[key])
        if changed:
            raise FaderError(
                f"{self.out}: was begun with another {', '.join(changed)}; give another --out"
            )

    @cached_property
    def reals(self) -> Reals:
        """The real images, seen when they are first needed."""
        return Reals.seen(self.images, self.space, limit=self.n, seed=self.config.seed)

    def rows(self) -> dict[Cell, dict[str, Any]]:
        """The scores so far."""
        if not self.results.exists():
            return {}
        lines = self.results.read_text(encoding="utf-8").splitlines(keepends=True)
        # A kill may have left half a line at the end.
        rows = [json.loads(line) for line in lines if line.endswith("\n")]
        return {Cell(row["images"], row["diffaugment"], row["iterations"]): row for row in rows}

    def training_rows(self, cell: Cell) -> np.ndarray:
        """(n,) rows of the images the cell learns from, ascending."""
        training = self.images.indices(0)
        shuffled = np.random.default_rng(self.config.seed).permutation(training)
        return np.sort(shuffled[: cell.images or None])

    def trainer(self, cell: Cell, folder: Path) -> GanTrainer:
        """A trainer that goes on with the cell's run, up to the cell's iterations."""
        chosen = np.isin(np.arange(len(self.images)), self.training_rows(cell))
        augment = _DIFFAUGMENT[cell.diffaugment]
        return GanTrainer(
            replace(self.config, steps=max(1, cell.iterations), diffaugment=augment),
            replace(self.images, split=np.where(chosen, 0, 1).astype(np.uint8)),
            folder,
            device=self.device,
            resume=(folder / "config.json").exists(),
            warn=lambda sentence: click.echo(f"{cell.run}: {sentence}", err=True),
        )

    def score(self, cell: Cell, deadline: float | None) -> bool:
        """Train as far as the cell asks and score; False when time ran out before that."""
        folder = self.out / "runs" / cell.run
        trainer = self.trainer(cell, folder)
        if trainer.done > cell.iterations:
            raise FaderError(
                f"{folder}: has gone on to {trainer.done} iterations, so {cell.iterations} cannot "
                "be scored any more; give another --out"
            )
        if cell.iterations:
            trainer.train(None if deadline is None else max(0.0, deadline - time.monotonic()) / 60)
            if trainer.done < cell.iterations:
                return False
        generator, seed = trainer.averaged_generator(), self.config.seed
        reals = self.reals.trained_on(self.training_rows(cell))
        found = evaluate(generator, reals, name=cell.title, data="study", n=self.n, seed=seed)
        shown = generator.sample(_SHOWN, seed)
        save_png(grid(shown, _SHOWN, [cell.title]), self.picture(cell))
        row: dict[str, Any] = asdict(cell)
        for who, (name, (_, place)) in product(("generated", "real"), MEASURES.items()):
            if place:
                row[_column(name, who)] = _at(found.document["scores"][who], place)
        # Of real images 1 % are so near, by definition; a copy is beyond that.
        in_pixels = found.document["memory"]["pixels"]
        row |= {"near": in_pixels["near"]["value"], "near_real": 0.01}
        row |= {"copies": in_pixels["copies"]["value"], "copies_real": 0.0}
        with open(self.results, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        return True

    def picture(self, cell: Cell) -> Path:
        """Where the cell's samples are kept."""
        return self.out / "samples" / f"{cell.run}-{cell.iterations}.png"

    def write(self) -> None:
        """The table as CSV and Markdown, the plot, and the samples, of what is scored so far."""
        cells = self.rows()
        order = sorted(cells, key=lambda c: (_all_last(c.images), c.diffaugment, c.iterations))
        rows = [cells[cell] for cell in order]
        if not rows:
            return
        with atomic_path(self.out / "results.csv") as path, open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows({**row, "images": row["images"] or "all"} for row in rows)
        write_text(self.out / "results.md", markdown(rows, self.space.description))
        plot(rows, self.space.title, self.out / "study.png")
        strips = [np.asarray(Image.open(self.picture(cell)).convert("RGB")) for cell in order]
        save_png(Image.fromarray(np.vstack(strips)), self.out / "samples.png")

    def estimate(self, todo: list[Cell]) -> str:
        """How long it will take, measured on a few iterations and a few pictures. What is saved by
        runs already begun is left out."""
        cell = Cell(0, "on", _MEASURED)
        with tempfile.TemporaryDirectory() as folder:
            self.trainer(replace(cell, iterations=2), Path(folder)).train()
            trainer = self.trainer(cell, Path(folder))
            x, y = next(iter(trainer.batches.from_step(0)))
            for net in trainer.nets.values():
                net.train()
            device = trainer.accelerator.device
            started = time.perf_counter()
            for _ in range(_MEASURED):
                trainer.step(x.to(device), y.to(device))
            per_iteration = (time.perf_counter() - started) / _MEASURED
            shown = trainer.averaged_generator().sample(64, 0)
            started = time.perf_counter()
            self.space.see(to_images(shown))
            per_sample = (time.perf_counter() - started) / 64
        reals = len(self.images.indices(0)) + min(self.n, len(self.images))
        # The distances to all training images take about as long again as features of the samples.
        per_score = 2 * self.n * per_sample
        runs: dict[str, int] = defaultdict(int)
        for one in todo:
            runs[one.run] = max(runs[one.run], one.iterations)
        total = sum(runs.values()) * per_iteration + len(todo) * per_score + reals * per_sample
        return (
            f"{1000 * per_iteration:.0f} ms an iteration, {per_score:.0f} s a score; {len(todo)} "
            f"scores of {len(runs)} generators in about {total / 60:.0f} minutes"
        )


def _all_last(count: int) -> int:
    return count or 10**9


def _column(name: str, who: str) -> str:
    return name if who == "generated" else f"{name}_real"


def _at(scores: Any, place: tuple[str, ...]) -> Any:
    return reduce(lambda found, key: None if found is None else found[key], place, scores)


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def markdown(rows: list[dict[str, Any]], features: str) -> str:
    """A table for each measure: a line per generator, a column per number of iterations."""
    iterations = sorted({row["iterations"] for row in rows})
    parts = [f"Distances on {features}. 0 iterations is untrained.\n"]
    for name, (title, _) in MEASURES.items():
        real = _text(rows[0][_column(name, "real")])
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
    counts = sorted({row["images"] for row in rows}, key=_all_last)
    iterations = sorted({row["iterations"] for row in rows})
    for panel, name in zip(panels, _PLOTTED, strict=True):
        for (images, diffaugment), values in _lines(rows, name).items():
            points = sorted((i, v) for i, v in values.items() if v is not None)
            style, words = ("o-", "") if diffaugment == "on" else ("x--", ", not augmented")
            colour, label = f"C{counts.index(images)}", f"{images or 'all'} images{words}"
            panel.plot(*np.array(points).reshape(-1, 2).T, style, color=colour, label=label)
        real = rows[0][_column(name, "real")]
        if real is not None:
            panel.axhline(real, color="grey", linewidth=1, linestyle=":", label="real, held out")
        panel.set_xscale("symlog", linthresh=100, linscale=0.5)
        panel.set_xlim(-15, 1.2 * max(100, *iterations))
        panel.set_xticks(iterations, [str(number) for number in iterations])
        panel.minorticks_off()
        panel.set(title=MEASURES[name][0], xlabel="iterations")
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


def _counts(ctx: click.Context, param: click.Parameter, text: str) -> list[int]:
    try:
        found = [0 if part.strip() == "all" else int(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"{text}: numbers with commas between", ctx, param) from None
    if any(number < 0 for number in found):
        raise click.BadParameter(f"{text}: must not be negative", ctx, param)
    return sorted(set(found), key=_all_last if param.name == "images" else None)


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]}, help=__doc__.split("\n")[0]
)
@click.option("--data", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--out", default="runs/study", show_default=True, type=click.Path(path_type=Path))
@click.option("--size", default="64", show_default=True, type=click.Choice(["32", "48", "64"]))
@click.option("--channels", default="3", show_default=True, type=click.Choice(["1", "3"]))
@click.option("--images", default="50,496,all", show_default=True, callback=_counts)
@click.option("--iterations", default="0,100,500,1000,5000", show_default=True, callback=_counts)
@click.option(
    "--diffaugment", default="on,off", show_default=True,
    type=click.Choice(["on,off", "on", "off"]),
)  # fmt: skip
@click.option("-n", "n", default=1000, show_default=True, type=click.IntRange(20), help="Samples.")
@click.option("--features", default="attributes", show_default=True, type=click.Choice([*SPACES]))
@click.option("--preset", default="default", show_default=True)
@click.option("-s", "--setting", "settings", multiple=True, metavar="KEY=VALUE")
@click.option("--minutes", type=float, help="Stop after about so long; the same call goes on.")
@click.option("--estimate", is_flag=True, help="Only say how long it will take on this machine.")
@device_option
def main(
    data: Path,
    out: Path,
    size: str,
    channels: str,
    images: list[int],
    iterations: list[int],
    diffaugment: str,
    n: int,
    features: str,
    preset: str,
    settings: tuple[str, ...],
    minutes: float | None,
    estimate: bool,
    device: str,
) -> None:
    """Train and score what is missing, and write the tables."""
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    where = resolve_device(device)
    try:
        values = apply_overrides(load_preset(preset), settings)
        values |= {"size": int(size), "channels": int(channels), "snapshot_every": 250}
        # A falling learning rate would have to know where a run ends.
        config = GanConfig.from_dict(values | {"decay_steps": 0})
        faces = open_images(data, config.size, config.channels)
        available = len(faces.indices(0))
        if max(images) > available:
            raise FaderError(f"{data}: has {available} training images, fewer than {max(images)}")
        study = Study(out, faces, config, n, SPACES[features](where), where)
        # A run's in the order of its training; small sets first.
        every = (Cell(*one) for one in product(images, diffaugment.split(","), iterations))
        done = study.rows()
        todo = [cell for cell in every if cell not in done]
        if estimate:
            click.echo(study.estimate(todo))
            return
        for number, cell in enumerate(todo, 1):
            click.echo(f"{number}/{len(todo)}: {cell.title}", err=True)
            scored = study.score(cell, deadline)
            late = deadline is not None and time.monotonic() > deadline and number < len(todo)
            if late or not scored:
                click.echo("out of time; the same call goes on from here", err=True)
                break
            study.write()
        study.write()
        click.echo(out / "results.md")
    except FaderError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
