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
from PIL import Image, ImageDraw, ImageFont

from cgan.io import available_generators, load_generator
from cgan.pictures import grid, label_rows
from fader import Editor
from fader.edit.strip import strip
from fader.faces.align import warp

ROOT = Path(__file__).resolve().parent.parent
SIDE = 224
GENERATED = 12

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
    font = ImageFont.load_default(size=15)
    picture = Image.new("RGB", (2 * SIDE * len(FAILURES), SIDE + 22), "white")
    draw = ImageDraw.Draw(picture)
    for column, (name, changes) in enumerate(FAILURES):
        path = ROOT / "examples" / name
        face = editor.faces(path)[0]
        images = Image.open(path).convert("RGB"), editor.edit(path, changes)
        for i, (image, title) in enumerate(zip(images, ("photo", changes), strict=True)):
            crop = warp(np.asarray(image), face.transform(SIDE), SIDE)
            left = (2 * column + i) * SIDE
            picture.paste(Image.fromarray(crop), (left, 22))
            draw.text((left + SIDE / 2, 11), title.replace("_", " "), "black", font, anchor="mm")
    return picture


def edits(editor: Editor, photos: list[Path]) -> Image.Image:
    """A row per photo: as it is, then each attribute moved to its other side."""
    font = ImageFont.load_default(size=15)
    titles = ["photo", *(name.replace("_", " ") for name in editor.attributes)]
    picture = Image.new("RGB", (SIDE * len(titles), (SIDE + 22) * len(photos)), "white")
    draw = ImageDraw.Draw(picture)
    for row, path in enumerate(photos):
        face = editor.faces(path)[0]
        top = row * (SIDE + 22)
        estimates = editor.describe(path)[0].attributes
        for column, title in enumerate(titles):
            if column:
                name = editor.attributes[column - 1]
                value = int(estimates[name] < 0.5)
                image, title = editor.edit(path, **{name: value}), f"{title} = {value}"
            else:
                image = Image.open(path).convert("RGB")
            crop = warp(np.asarray(image), face.transform(SIDE), SIDE)
            picture.paste(Image.fromarray(crop), (column * SIDE, top + 22))
            draw.text((column * SIDE + SIDE / 2, top + 11), title, "black", font, anchor="mm")
    return picture


def generated(name: str) -> Image.Image:
    """Twelve new faces of each kind that a packaged generator can be asked for."""
    generator = load_generator(name)
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
    frames = [frame.quantize(128) for frame in frames]
    frames[0].save(
        out / "slider.gif", save_all=True, append_images=frames[1:], duration=120, loop=0
    )
    for path in sorted(out.iterdir()):
        click.echo(f"{path} {path.stat().st_size // 1024} KB")


if __name__ == "__main__":
    main()
