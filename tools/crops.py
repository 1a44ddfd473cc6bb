"""Before and after of faces at native resolution, side by side in one picture, to look at the seam.

    python tools/crops.py photo1.jpg photo2.jpg --set Smiling=0 --set Smiling=1 -o crops.png

A row per photo: the photo, then one picture per ``--set``, each cut to what the largest face's edit
may touch and a little around it, one pixel of the photo to a pixel. A last column shows, eight
times as strong, what the last edit changed.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from PIL import Image

from fader import Editor
from fader.attributes import parse_changes
from fader.commands.options import model_option
from fader.faces.blend import mask
from fader.photo import open_photo, save_image


@click.command()
@click.argument("photos", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--set", "sets", multiple=True, required=True, metavar="NAME=V[,NAME=V]")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path))
@model_option
def main(photos: tuple[Path, ...], sets: tuple[str, ...], out: Path, model: str) -> None:
    """Put native-resolution crops of each photo and its edits side by side."""
    editor = Editor(model, "cpu")
    variants = [parse_changes(text, editor.attributes) for text in sets]
    rows = []
    for photo in photos:
        before = open_photo(photo).pixels
        edits = list(editor.variants(photo, variants))
        ys, xs = np.nonzero(mask(edits[0].faces[0].face, before.shape))
        margin = (xs.max() - xs.min()) // 20
        y0, x0 = max(0, ys.min() - margin), max(0, xs.min() - margin)
        part = slice(y0, ys.max() + margin), slice(x0, xs.max() + margin)
        cells = [before[part], *(edit.photo.pixels[part] for edit in edits)]
        change = 128 + 8 * (cells[-1].astype(int) - cells[0])
        rows.append(np.concatenate([*cells, np.clip(change, 0, 255).astype(np.uint8)], axis=1))
    picture = np.zeros(
        (sum(len(row) for row in rows), max(row.shape[1] for row in rows), 3), np.uint8
    )
    top = 0
    for row in rows:
        picture[top : top + len(row), : row.shape[1]] = row
        top += len(row)
    save_image(Image.fromarray(picture), out)
    click.echo(out)


if __name__ == "__main__":
    main()
