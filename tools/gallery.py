"""The pictures of the README and the docs, made anew from the photos in ``examples``.

    python tools/gallery.py                      # → docs/gallery/
    python tools/gallery.py --model runs/mine/model -o /tmp/gallery photo.jpg

For every photo: a row of edits (``edits.jpg``, one row per photo), a strip of sliders
(``NAME-strip.jpg``), and for the first photo an animation (``slider.gif``). ``failures.jpg`` has
edits of the photos in ``examples`` that the packaged model does badly. ``faces.png`` and
``emotions.png``: what the packaged generators draw, the first latents of seed 1.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from cgan.generate import asked_labels
from cgan.io import available_generators, load_generator
from cgan.pictures import grid, label_rows
from fader import Editor
from fader.edit.strip import strip
from fader.faces.align import warp
from fader.faces.detect import Face

ROOT = Path(__file__).resolve().parent.parent
SIDE = 224
GENERATED = 12

#: What new faces are asked for; what is left open is drawn, alike in every row.
REQUESTS = (
    "Male=0,Blond_Hair=1",
    "Male=0,Black_Hair=1",
    "Male=1,Blond_Hair=1",
    "Male=1,Black_Hair=1",
    "Smiling=1",
    "Young=0",
    "Eyeglasses=1",
)

#: What the packaged model does badly.
FAILURES = (
    ("astronaut.jpg", "Smiling=0"),
    ("astronaut.jpg", "Eyeglasses=1"),
    ("astronaut.jpg", "Bald=1"),
    ("hopper.jpg", "Blond_Hair=1"),
    ("hopper.jpg", "Black_Hair=1"),
)


def failures(editor: Editor) -> Image.Image:
    """Photo and edit side by side, pair after pair."""
    row = []
    for name, changes in FAILURES:
        path = ROOT / "examples" / name
        face = editor.faces(path)[0]
        row += [("photo", Image.open(path), face), (changes, editor.edit(path, changes), face)]
    return titled([row])


def edits(editor: Editor, photos: list[Path]) -> Image.Image:
    """A row per photo: as it is, then each attribute moved to its other side."""
    rows = []
    for path in photos:
        found = editor.describe(path)[0]
        row = [("photo", Image.open(path), found.face)]
        for name in editor.attributes:
            value = int(found.attributes[name] < 0.5)
            row.append((f"{name} = {value}", editor.edit(path, **{name: value}), found.face))
        rows.append(row)
    return titled(rows)


def titled(rows: list[list[tuple[str, Image.Image, Face]]]) -> Image.Image:
    """Rows of crops of the face in each picture, each with its title above it."""
    font = ImageFont.load_default(size=15)
    sheet = Image.new("RGB", (SIDE * len(rows[0]), (SIDE + 22) * len(rows)), "white")
    draw = ImageDraw.Draw(sheet)
    for i, row in enumerate(rows):
        for j, (title, image, face) in enumerate(row):
            crop = warp(np.asarray(image.convert("RGB")), face.transform(SIDE), SIDE)
            left, top = j * SIDE, i * (SIDE + 22)
            sheet.paste(Image.fromarray(crop), (left, top + 22))
            draw.text((left + SIDE / 2, top + 11), title.replace("_", " "), "black", font, "mm")
    return sheet


def generated(name: str) -> Image.Image:
    """Twelve new faces, always of the same latents, for each request to a packaged generator."""
    generator = load_generator(name)
    if generator.label_kind == "attributes":
        asked = [asked_labels(generator, GENERATED, 1, values)[0] for values in REQUESTS]
        labels, titles = torch.cat(asked), [values.replace(",", ", ") for values in REQUESTS]
    else:
        labels, titles = label_rows(generator.config, GENERATED)
    latents = generator.latents(GENERATED, seed=1).repeat(len(titles), 1)
    return grid(generator.render(latents, labels), GENERATED, titles)


@click.command()
@click.argument("photos", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--model", default="default", show_default=True)
@click.option("-o", "--out", default=ROOT / "docs" / "gallery", type=click.Path(path_type=Path))
def main(photos: tuple[Path, ...], model: str, out: Path) -> None:
    """Write the gallery of PHOTOS (default: those in examples) into OUT."""
    chosen = list(photos) or sorted((ROOT / "examples").glob("*.jpg"))
    chosen = [path for path in chosen if ".edited" not in path.name]
    editor = Editor(model)
    out.mkdir(parents=True, exist_ok=True)
    edits(editor, chosen).save(out / "edits.jpg", quality=88)
    if not photos:
        failures(editor).save(out / "failures.jpg", quality=88)
        for name in available_generators():
            generated(name).save(out / f"{name}.png", optimize=True)
    for path in chosen:
        sliders = strip(editor, path, editor.attributes, -0.5, 1.5, 7, side=128)
        sliders.grid().save(out / f"{path.stem}-strip.jpg", quality=88)
    shown = [n for n in ("Smiling", "Eyeglasses", "Male", "Young") if n in editor.attributes]
    frames = strip(editor, chosen[0], shown, 0, 1, 9, side=160).loop()
    first, *others = (frame.quantize(128) for frame in frames)
    gif = {"save_all": True, "append_images": others, "duration": 120, "loop": 0}
    first.save(out / "slider.gif", **gif)
    for path in sorted(out.iterdir()):
        click.echo(f"{path} {path.stat().st_size // 1024} KB")


if __name__ == "__main__":
    main()
