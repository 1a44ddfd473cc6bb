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
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

from cgan.config import GanConfig, apply_overrides, load_preset
from cgan.data import ImageSet, open_images
from cgan.evaluate.evaluation import Evaluation, evaluate
from cgan.evaluate.features import SPACES, FeatureSpace
from cgan.evaluate.reals import Reals
from cgan.gan import GanTrainer
from cgan.networks import Generator
from cgan.pictures import grid, save_png
from fader.commands.options import device_option, resolve_device
from fader.errors import FaderError
from fader.files import atomic_path, write_text

sys.path.append(str(Path(__file__).parent))
from few_images_tables import MEASURES, column, markdown, plot

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


class Study:
    """The scores so far, and the means to make the missing ones."""

    def __init__(
        self,
        out: Path,
        images: ImageSet,
        config: GanConfig,
        n: int,
        space: FeatureSpace,
        device: Any,
    ) -> None:
        self.out, self.images, self.config, self.n = out, images, config, n
        self.space, self.device = space, device
        self.results = out / "results.jsonl"
        self._reals: Reals | None = None
        self._check_settings()

    def _check_settings(self) -> None:
        """Scores of other settings must not end in one table."""
        settings = {
            **self.config.to_dict(), "samples": self.n, "features": self.space.name,
            "training_images": len(self.images.indices(0)),
        }  # fmt: skip
        settings = json.loads(json.dumps(settings))
        path = self.out / "study.json"
        if not path.exists():
            write_text(path, json.dumps(settings, indent=2) + "\n")
            return
        before = json.loads(path.read_text(encoding="utf-8"))
        changed = sorted(key for key in settings if before.get(key) != settings[key])
        if changed:
            raise FaderError(
                f"{self.out}: was begun with another {', '.join(changed)}; give another --out"
            )

    @property
    def reals(self) -> Reals:
        """The real images, seen when they are first needed."""
        if self._reals is None:
            self._reals = Reals.seen(self.images, self.space, limit=self.n, seed=self.config.seed)
        return self._reals

    def rows(self) -> list[dict[str, Any]]:
        """The scores so far."""
        if not self.results.exists():
            return []
        lines = self.results.read_text(encoding="utf-8").splitlines(keepends=True)
        # A kill may have left half a line at the end.
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def has(self, cell: Cell) -> bool:
        """Whether the cell is scored."""
        return any(_cell_of(row) == cell for row in self.rows())

    def training_rows(self, cell: Cell) -> np.ndarray:
        """(n,) rows of the images the cell learns from, ascending."""
        training = self.images.indices(0)
        shuffled = np.random.default_rng(self.config.seed).permutation(training)
        return np.sort(shuffled[: cell.images or None])

    def trainer(self, cell: Cell, folder: Path) -> GanTrainer:
        """A trainer that goes on with the cell's run, up to the cell's iterations."""
        chosen = np.isin(np.arange(len(self.images)), self.training_rows(cell))
        config = replace(
            self.config,
            steps=max(1, cell.iterations),
            diffaugment=_DIFFAUGMENT[cell.diffaugment],
        )
        return GanTrainer(
            config,
            replace(self.images, split=np.where(chosen, 0, 1).astype(np.uint8)),
            folder,
            device=self.device,
            resume=(folder / "config.json").exists(),
            warn=lambda sentence: click.echo(f"{cell.run}: {sentence}", err=True),
        )

    def score(self, cell: Cell, deadline: float | None) -> bool:
        """Train as far as the cell asks and score; False when time ran out before that."""
        trainer = self.trainer(cell, self.out / "runs" / cell.run)
        if trainer.done > cell.iterations:
            raise FaderError(
                f"{self.out / 'runs' / cell.run}: has gone on to {trainer.done} iterations, so "
                f"{cell.iterations} cannot be scored any more; give another --out"
            )
        if cell.iterations:
            left = None if deadline is None else max(0.0, deadline - time.monotonic()) / 60
            trainer.train(left)
            if trainer.done < cell.iterations:
                return False
        generator = trainer.averaged_generator()
        self._keep(cell, generator, self.evaluation(cell, generator))
        return True

    def evaluation(self, cell: Cell, generator: Generator) -> Evaluation:
        """Score a generator against the images it learnt from."""
        reals = self.reals.trained_on(self.training_rows(cell))
        return evaluate(
            generator, reals, name=cell.title, data="study", n=self.n, seed=self.config.seed
        )

    def _keep(self, cell: Cell, generator: Generator, found: Evaluation) -> None:
        shown = generator.sample(_SHOWN, self.config.seed)
        save_png(grid(shown, _SHOWN, [cell.title]), self.picture(cell))
        document = found.document
        row = {
            "images": cell.images,
            "diffaugment": cell.diffaugment,
            "iterations": cell.iterations,
        }
        for who in ("generated", "real"):
            for name, (_, place) in MEASURES.items():
                if place:
                    row[column(name, who)] = _at(document["scores"][who], place)
        # Of real images 1 % are so near, by definition; a copy is beyond that.
        in_pixels = document["memory"]["pixels"]
        row |= {"near": in_pixels["near"]["value"], "near_real": 0.01}
        row |= {"copies": in_pixels["copies"]["value"], "copies_real": 0.0}
        with open(self.results, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def picture(self, cell: Cell) -> Path:
        """Where the cell's samples are kept."""
        return self.out / "samples" / f"{cell.run}-{cell.iterations}.png"


def cells(counts: list[int], augment: list[str], iterations: list[int]) -> Iterator[Cell]:
    """All of them, a run's in the order of its training; small sets first."""
    for count in counts:
        for diffaugment in augment:
            for number in iterations:
                yield Cell(count, diffaugment, number)


# ---------------------------------------------------------------- what comes out


def write_outputs(study: Study) -> None:
    """The table as CSV and Markdown, the plot, and the samples, of what is scored so far."""
    rows = sorted(study.rows(), key=lambda row: (row["images"] or 10**9, row["diffaugment"],
                                                 row["iterations"]))  # fmt: skip
    if not rows:
        return
    with atomic_path(study.out / "results.csv") as path, open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({**row, "images": row["images"] or "all"} for row in rows)
    write_text(study.out / "results.md", markdown(rows, study.space.description))
    plot(rows, study.space.title, study.out / "study.png")
    strips = [Image.open(study.picture(_cell_of(row))).convert("RGB") for row in rows]
    sheet = Image.new("RGB", (strips[0].width, sum(strip.height for strip in strips)), "white")
    top = 0
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height
    save_png(sheet, study.out / "samples.png")


def _cell_of(row: dict[str, Any]) -> Cell:
    return Cell(row["images"], row["diffaugment"], row["iterations"])


def _at(scores: dict[str, Any], place: tuple[str, ...]) -> Any:
    for key in place:
        scores = None if scores is None else scores[key]
    return scores


# ---------------------------------------------------------------- how long it takes


def estimate_minutes(study: Study, todo: list[Cell]) -> tuple[float, float, float]:
    """(seconds per iteration, seconds per score, minutes for all that is left), measured on a few
    iterations and a few pictures. What is saved by runs already begun is left out."""
    cell = Cell(0, "on", _MEASURED)
    with tempfile.TemporaryDirectory() as folder:
        study.trainer(replace(cell, iterations=2), Path(folder)).train()
        trainer = study.trainer(cell, Path(folder))
        x, y = next(iter(trainer.batches.from_step(0)))
        for net in trainer.nets.values():
            net.train()
        device = trainer.accelerator.device
        started = time.perf_counter()
        for _ in range(_MEASURED):
            trainer.step(x.to(device), y.to(device))
        per_iteration = (time.perf_counter() - started) / _MEASURED
        generator = trainer.averaged_generator()
        started = time.perf_counter()
        study.space.see((generator.sample(64, 0).permute(0, 2, 3, 1).numpy() * 127 + 128)
                        .astype(np.uint8))  # fmt: skip
        per_sample = (time.perf_counter() - started) / 64
    reals = len(study.images.indices(0)) + min(study.n, len(study.images))
    # The distances to all training images take about as long again as features of the samples.
    per_score = 2 * study.n * per_sample
    iterations = sum(max(c.iterations for c in run) for run in _runs(todo).values())
    seconds = iterations * per_iteration + len(todo) * per_score + reals * per_sample
    return per_iteration, per_score, seconds / 60


def _runs(some: list[Cell]) -> dict[str, list[Cell]]:
    runs: dict[str, list[Cell]] = {}
    for cell in some:
        runs.setdefault(cell.run, []).append(cell)
    return runs


# ---------------------------------------------------------------- the command


def _counts(ctx: click.Context, param: click.Parameter, text: str) -> list[int]:
    try:
        found = [0 if part.strip() == "all" else int(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"{text}: numbers with commas between", ctx, param) from None
    if any(number < 0 for number in found):
        raise click.BadParameter(f"{text}: must not be negative", ctx, param)
    return sorted(set(found), key=lambda count: count or (10**9 if param.name == "images" else 0))


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
        todo = [c for c in cells(images, diffaugment.split(","), iterations) if not study.has(c)]
        if estimate:
            step, score, total = estimate_minutes(study, todo)
            click.echo(
                f"{1000 * step:.0f} ms an iteration, {score:.0f} s a score; {len(todo)} scores of "
                f"{len(_runs(todo))} generators in about {total:.0f} minutes"
            )
            return
        for number, cell in enumerate(todo, 1):
            click.echo(f"{number}/{len(todo)}: {cell.title}", err=True)
            if not study.score(cell, deadline):
                click.echo("out of time; the same call goes on from here", err=True)
                break
            write_outputs(study)
            if deadline is not None and time.monotonic() > deadline and number < len(todo):
                click.echo("out of time; the same call goes on from here", err=True)
                break
        write_outputs(study)
        click.echo(out / "results.md")
    except FaderError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
