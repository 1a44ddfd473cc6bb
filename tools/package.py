r"""Put what a run made into the package, its weights as float16: a model, a generator, the judge.

python tools/package.py model runs/default/best fader/weights/default --data "CelebA, …" \
    --store runs/store-128
python tools/package.py generator runs/faces-128 cgan/weights/faces --data "CelebA, …"
python tools/package.py judge runs/judge

A model gets its edits' strengths, measured on validation faces, and its ONNX form. The recipes of
what is packaged are train_default.sh and train_generators.sh.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor

from cgan.io import load_generator, save_generator, training_notes
from fader.data.annotations import VALID
from fader.data.batches import to_tensor
from fader.data.store import PreparedStore
from fader.errors import FaderError
from fader.evaluate.judge import PACKAGED
from fader.models.export import export_onnx, faces_to_compare
from fader.models.folders import model_info
from fader.models.model import FaderModel, save_classifier
from fader.models.pretrained import load_classifier, load_model
from fader.train.edits import LONGEST, other_side

# How many times as far as asked moves may go: no further than training has looked.
LENGTHS = (1.0, 1.125, 1.25, 1.375, LONGEST)

# More length that is seen in fewer faces more than this (of all) is not worth what it breaks.
WORTH = 0.05

_BATCH = 32


@torch.inference_mode()
def seen(model: FaderModel, x: Tensor, own: Tensor, column: int, length: float) -> float:
    """Share of faces N×3×S×S with values N×n in which the classifier sees the attribute ``column``
    on its other side, after a move ``length`` times as far."""
    name = model.attributes[column]
    known = model.classifier.config.attributes.index(name)
    asked = other_side(own, torch.full((len(own),), column), model.attributes)
    hits = []
    for start in range(0, len(x), _BATCH):
        some = slice(start, start + _BATCH)
        far = own[some] + length * (asked[some] - own[some])
        images = model.decode(model.encode(x[some]), far, own[some])
        hits.append((model.classifier(images)[:, known] > 0) == (asked[some, column] > 0.5))
    return float(torch.cat(hits).float().mean())


def strengths(model: FaderModel, x: Tensor, own: Tensor) -> dict[str, tuple[float, float]]:
    """For each attribute, how many times as far as asked it is best moved down and up, on held-out
    faces N×3×S×S with values N×n: the shortest of :data:`LENGTHS` that is seen nearly as often as
    the best of them."""
    found = {}
    for column, name in enumerate(model.attributes):
        each = []
        for has in (True, False):  # faces that have it move down, others up
            some = (own[:, column] > 0.5) == has
            shares = [seen(model, x[some], own[some], column, length) for length in LENGTHS]
            enough = (share >= max(shares) - WORTH for share in shares)
            each.append(next(itertools.compress(LENGTHS, enough)))
        found[name] = tuple(each)
    return found


class Main(click.Group):
    """Fails in one sentence."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the subcommand."""
        try:
            return super().invoke(ctx)
        except FaderError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=Main)
def main() -> None:
    """Put what a run made into the package, its weights as float16."""


run_argument = click.argument("run", type=click.Path(path_type=Path, exists=True, file_okay=False))
dest_argument = click.argument("dest", type=click.Path(path_type=Path))
data_option = click.option("--data", required=True, help="What it was trained on, for config.json.")


@main.command("model")
@run_argument
@dest_argument
@data_option
@click.option(
    "--store",
    required=True,
    type=click.Path(path_type=Path, exists=True),
    help="Prepared faces; strengths are measured on up to --faces of its validation part.",
)
@click.option("--faces", default=400, show_default=True, type=click.IntRange(1))
@click.option("--classifier", help="Ship this one in the place of the run's.")
def package_model(
    run: Path, dest: Path, data: str, store: Path, faces: int, classifier: str
) -> None:
    """Write RUN (a run's model/ or best/) to DEST."""
    model = FaderModel.load(run)
    if classifier:
        model.classifier = load_classifier(classifier)
    if model.classifier is None:
        raise FaderError(f"{run}: has no classifier; give one with --classifier")
    prepared = PreparedStore(store)
    rows = np.sort(np.random.default_rng(0).permutation(prepared.indices(VALID))[:faces])
    values = torch.from_numpy(prepared.select_labels(model.attributes)[rows])
    model.strength = strengths(model, to_tensor(prepared.images[rows]), values)
    for name, (down, up) in model.strength.items():
        click.echo(f"{name}: moves {down:.2f} times as far down, {up:.2f} up")
    model.training_notes["data"] = data
    model.save(dest, torch.float16)
    saved = load_model(dest)
    export_onnx(saved, dest / "onnx", dest, faces_to_compare(saved.size))
    _tell(dest, model.attributes)


@main.command("generator")
@run_argument
@dest_argument
@data_option
def package_generator(run: Path, dest: Path, data: str) -> None:
    """Write the generator of RUN (of cgan train) to DEST."""
    generator = load_generator(run)
    save_generator(generator, dest, {**training_notes(run), "data": data}, torch.float16)
    _tell(dest, generator.label_names)


@main.command("judge")
@run_argument
def package_judge(run: Path) -> None:
    """Make the classifier of RUN (of fader train-classifier) the judge of fader evaluate."""
    model = run / "model"
    notes = model_info(model)["training"]
    save_classifier(load_classifier(model), PACKAGED, notes, dtype=torch.float16)
    click.echo(f"{model} → {PACKAGED}")


def _tell(dest: Path, names: tuple[str, ...]) -> None:
    total = sum(path.stat().st_size for path in dest.rglob("*.*"))
    click.echo(f"{dest}: {total / 1e6:.1f} MB, {', '.join(names) or 'no labels'}")


if __name__ == "__main__":
    main()
