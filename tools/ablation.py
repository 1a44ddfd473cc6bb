"""What each part of the default recipe is worth: it is left out, and the rest trained as before.

    fader prepare CELEBA STORE --size 64
    python tools/ablation.py STORE CLASSIFIER runs/ablation --steps 2000

All rows have the same data, seed, steps and batch, at 64 px, and the settings of the preset's first
stage. ``table.md`` has a line for each: what the classifier (of ``fader train-classifier``) sees on
validation faces. ``NAME.jpg`` are edits of the photos in ``examples``, as the editor composes them.
A row that was stopped goes on, and one that is done is not trained again.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import click
import numpy as np
import torch
from PIL import Image
from torch import Tensor

import fader.train.trainer
from fader import Editor
from fader.attributes import parse_attributes, parse_changes
from fader.data.store import PreparedStore
from fader.faces.align import warp
from fader.models.model import Decoding, FaderModel
from fader.models.pretrained import load_classifier
from fader.train.config import TrainConfig, apply_overrides, load_preset
from fader.train.edits import Edits, draw_edits
from fader.train.trainer import Trainer

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
ATTRIBUTES = "Male,Young,Smiling,Eyeglasses,Mouth_Slightly_Open,No_Beard,Bangs,Hair"
SIDE = 96
#: What is left out, the preset it begins with, and the settings that leave it out.
ROWS = {
    "nothing": ("default", ""),
    "all but the paper's objective": ("tiny", ""),
    "difference": ("default", ""),
    "mask": ("default", "lambda_mask=0"),
    "realism": ("default", "lambda_adv=0"),
    "latent": ("default", "lambda_max=0"),
}


@contextmanager
def told_values() -> Iterator[None]:
    """Within it the decoder is told the values to reach, as the paper's is, not the difference."""
    change = FaderModel.change

    def draw(y: Tensor, *rest: Any) -> Edits:
        edits = draw_edits(y, *rest)
        return dataclasses.replace(edits, difference=y + edits.difference)

    def changed(model: FaderModel, features: list[Tensor], y: Tensor, own: Tensor) -> Decoding:
        rows = torch.arange(len(y)) % len(own)
        return change(model, [f[rows] for f in features], y, torch.zeros_like(y))

    with (
        mock.patch.object(fader.train.trainer, "draw_edits", draw),
        mock.patch.object(FaderModel, "change", changed),
    ):
        yield


def settings(row: str, steps: int) -> TrainConfig:
    """The row's settings, with the schedule in proportion to ``steps``."""
    preset, left_out = ROWS[row]
    default = load_preset("default")
    values = {**default, **default["stages"][0], "stages": []}
    if preset == "tiny":  # its objective alone; the rest is as in every row
        tiny = load_preset(preset)
        values |= {"lambda_rec": 1.0, "model": tiny["model"], "lambda_max": tiny["lambda_max"]}
        values["adversarial_target"] = "opposite"
    values["model"] = {**values["model"], "attributes": parse_attributes(ATTRIBUTES)}
    common = f"model.size=64 steps={steps} pretrain_steps={steps // 10} ramp_steps={steps // 4}"
    common += f" decay_steps={steps // 3} validate_every={steps} log_every=50"
    return TrainConfig.from_dict(apply_overrides(values, f"{common} {left_out}".split()))


def picture(run: Path) -> Image.Image:
    """Each photo in ``examples``, and each attribute at its other side."""
    model = FaderModel.load(run / "model")
    editor, rows = Editor(model, device="cpu"), []
    for path in sorted(EXAMPLES.glob("*.jpg")):
        crop = editor.faces(path)[0].transform(SIDE)
        estimates = editor.describe(path)[0].attributes
        flips = [
            parse_changes(f"{name}={int(estimates[name] < 0.5)}", editor.attributes)
            for name in editor.attributes
        ]
        images = [Image.open(path), *(edit.image for edit in editor.variants(path, flips))]
        rows.append(np.hstack([warp(np.asarray(im.convert("RGB")), crop, SIDE) for im in images]))
    return Image.fromarray(np.vstack(rows))


@click.command()
@click.argument("store", type=click.Path(exists=True))
@click.argument("classifier", type=click.Path(exists=True))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--steps", default=2000, show_default=True)
def main(store: str, classifier: str, out: Path, steps: int) -> None:
    """Train every row, then write its line and its picture."""
    data, lines = PreparedStore(store), ["| left out | swap | kept | reconstruction, RMSE |"]
    lines.append("| --- | --- | --- | --- |")
    for row in ROWS:
        run = out / row.replace(" ", "-").replace("'", "")
        with told_values() if row == "difference" else nullcontext():
            Trainer(
                settings(row, steps),
                data,
                run,
                classifier=load_classifier(classifier),
                resume=(run / "config.json").exists(),
            ).train()
            picture(run).save(out / f"{run.name}.jpg", quality=90)
        last = json.loads((run / "validation.jsonl").read_text().splitlines()[-1])
        rmse = last["reconstruction_loss"] ** 0.5
        lines.append(f"| {row} | {last['swap_accuracy']:.2f} | {last['kept']:.2f} | {rmse:.3f} |")
        (out / "table.md").write_text("\n".join(lines) + "\n")
        click.echo(lines[-1])


if __name__ == "__main__":
    main()
