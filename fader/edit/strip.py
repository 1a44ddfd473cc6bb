"""The slider as a picture: one face at a row of values of an attribute, or in motion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fader.attributes import Change, attribute_name
from fader.edit.choice import Which
from fader.edit.editor import Editor
from fader.edit.values import settle
from fader.errors import FaderError, NoFaceError
from fader.faces.align import template, warp
from fader.faces.blend import composite
from fader.faces.detect import Face, select
from fader.photo import ImageLike, open_photo

_PAPER, _INK, _MARK = (255, 255, 255), (40, 40, 40), (214, 72, 24)
_GAP = 4

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class Strip:
    """A face at every one of ``values`` of each of ``attributes``. ``cells`` is (attributes,
    values, side, side, 3) uint8; ``estimates`` has the present value of each attribute, 0..1."""

    attributes: tuple[str, ...]
    values: tuple[float, ...]
    estimates: tuple[float, ...]
    cells: np.ndarray

    def grid(self) -> Image.Image:
        """All cells with labels: a row per attribute, a column per value. The value nearest to a
        face's estimate is framed, when the estimate is in the range."""
        side, pitch, top, font = self._measures()
        labels = [
            f"{name}\nestimate {estimate:.2f}"
            for name, estimate in zip(self.attributes, self.estimates, strict=True)
        ]
        left = 3 * _GAP + max(_text_size(label, font)[0] for label in labels)
        size = left + pitch * len(self.values), top + pitch * len(self.attributes)
        picture = Image.new("RGB", size, _PAPER)
        draw = ImageDraw.Draw(picture)
        for column, value in enumerate(self.values):
            x = left + column * pitch + side / 2
            draw.text((x, top / 2), _number(value), _INK, font=font, anchor="mm")
        for row, label in enumerate(labels):
            y = top + row * pitch
            draw.multiline_text((_GAP, y + side / 2), label, _INK, font=font, anchor="lm")
            for column, cell in enumerate(self.cells[row]):
                picture.paste(Image.fromarray(cell), (left + column * pitch, y))
            marked = self._marked(row)
            if marked is not None:
                x, edge = left + marked * pitch, side + _GAP - 2
                frame = (x - _GAP + 1, y - _GAP + 1, x + edge, y + edge)
                draw.rectangle(frame, outline=_MARK, width=_GAP - 1)
        return picture

    def frames(self) -> list[Image.Image]:
        """One picture per value, the attributes side by side, from the first value to the last."""
        side, pitch, top, font = self._measures()
        pictures = []
        for column, value in enumerate(self.values):
            size = (pitch * len(self.attributes) - _GAP, top + side)
            picture = Image.new("RGB", size, _PAPER)
            draw = ImageDraw.Draw(picture)
            for row, name in enumerate(self.attributes):
                x = row * pitch
                label = f"{name} = {_number(value)}"
                draw.text((x + side / 2, top / 2), label, _INK, font=font, anchor="mm")
                picture.paste(Image.fromarray(self.cells[row, column]), (x, top))
            pictures.append(picture)
        return pictures

    def loop(self) -> list[Image.Image]:
        """The frames of an endless animation: there and back again."""
        frames = self.frames()
        return frames + frames[-2:0:-1]

    def _measures(self) -> tuple[int, int, int, _Font]:
        """A cell's side, the way to the next one, the height of the labels above, and the font."""
        side = self.cells.shape[2]
        font = ImageFont.load_default(size=max(10, side // 12))
        return side, side + _GAP, 3 * _GAP + _text_size("0", font)[1], font

    def _marked(self, row: int) -> int | None:
        """The column nearest to the estimate, if that lies within (half a step of) the values."""
        distances = np.abs(np.array(self.values) - self.estimates[row])
        half_step = abs(self.values[1] - self.values[0]) / 2
        nearest = int(distances.argmin())
        return nearest if distances[nearest] <= half_step + 1e-9 else None


def strip(
    editor: Editor,
    image: ImageLike,
    attributes: Sequence[str],
    start: float = -1.0,
    stop: float = 2.0,
    steps: int = 7,
    *,
    face: Which = "largest",
    side: int = 256,
) -> Strip:
    """``attributes``' sliders on one face of a photo: ``steps`` values from ``start`` to ``stop``.

    Each cell is the face as an edit of the photo would leave it, aligned, ``side`` pixels wide.
    ``face`` is ``"largest"`` or the n-th largest.

    Raises what :meth:`Editor.apply` raises.
    """
    if not attributes:
        raise FaderError("nothing to show; give at least one attribute, such as Smiling")
    if steps < 2 or start == stop or not (np.isfinite(start) and np.isfinite(stop)):
        raise FaderError("a strip needs at least two steps between two different values")
    names = tuple(dict.fromkeys(attribute_name(name, editor.attributes) for name in attributes))
    # Rounded, so that steps of tenths are not labelled 0.30000000000000004.
    values = tuple(float(v) for v in np.linspace(start, stop, steps).round(6))

    opened = open_photo(image)
    photo, networks = opened.pixels, editor.networks
    try:
        (chosen,) = select(editor.detector(photo), face)
    except NoFaceError as error:
        raise NoFaceError(f"{opened.name}: {error}") from None
    crops = networks.crop(photo, [chosen])
    (before,) = networks.before(crops)
    codes = [
        list(settle(before, [Change(name, value)]).values()) for name in names for value in values
    ]
    own = np.array([list(before.values())])
    (decoded,) = networks.decode(crops, np.array([codes]), own)

    # The aligned face plays the photo: the same blending, at the size it is shown.
    aligned = warp(photo, chosen.transform(side), side)
    stage = Face(np.array([0.0, 0.0, side, side]), chosen.score, template(side))
    unchanged = list(before.values())
    cells = [
        aligned if code == unchanged else composite(aligned, stage, one)
        for code, one in zip(codes, decoded, strict=True)
    ]
    shape = (len(names), len(values), side, side, 3)
    return Strip(
        names, values, tuple(before[name] for name in names), np.stack(cells).reshape(shape)
    )


def _number(value: float) -> str:
    return f"{value:.3g}"


def _text_size(text: str, font: _Font) -> tuple[int, int]:
    box = ImageDraw.Draw(Image.new("RGB", (1, 1))).multiline_textbbox((0, 0), text, font=font)
    return int(box[2]), int(box[3])
