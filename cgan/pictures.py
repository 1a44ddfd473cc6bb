"""What a run looks like: grids of faces, the GIF of its snapshots, the graph of its losses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from cgan.config import GanConfig
from fader.data.batches import to_images
from fader.documents import check_regular
from fader.errors import FaderError
from fader.files import atomic_path
from fader.photo import save_image
from fader.train.run import RunFolder, numbered, read_rows

#: A GIF of a run has at most this many frames, and is at most this wide, in pixels.
MOST_FRAMES, WIDEST = 60, 384
_UNDITHERED = Image.Dither.NONE


def grid(
    images: Tensor, columns: int, titles: Sequence[str] = (), heads: Sequence[str] = ()
) -> Image.Image:
    """Images N×C×S×S in [-1, 1] in rows of ``columns``, each row under its title if it has one, and
    each column under its head."""
    pixels = to_images(images)
    n, side, _, channels = pixels.shape
    first, band = 14 if heads else 0, 14 if titles else 0
    height = side + band
    picture = np.full((first + -(-n // columns) * height, columns * side, channels), 255, np.uint8)
    for i, image in enumerate(pixels):
        top, left = first + i // columns * height + band, i % columns * side
        picture[top : top + side, left : left + side] = image
    whole = Image.fromarray(picture[..., 0] if channels == 1 else picture)
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(size=11)
    for row, title in enumerate(titles):
        draw.text((2, first + row * height), title, fill="black", font=font)
    for column, head in enumerate(heads):
        draw.text((column * side + 2, 0), head[: side // 6], fill="black", font=font)
    return whole


def label_rows(config: GanConfig, columns: int = 8) -> tuple[Tensor, list[str]]:
    """Labels for a grid of rows that differ in what is asked, (rows · columns)×k, and their titles.

    A row per class, per combination of up to three attributes, or per attribute of more; without
    labels eight rows and no titles.
    """
    names, k = config.label_names, len(config.label_names)
    if config.label_kind == "none":
        return torch.zeros(8 * columns, 0), []
    rows, titles = torch.eye(k), list(names)
    if config.label_kind == "attributes" and k > 3:
        titles = [f"{name} alone" for name in names]
    elif config.label_kind == "attributes":
        rows = torch.cartesian_prod(*[torch.arange(2.0)] * k).reshape(-1, k)
        titles = [
            ", ".join(f"{n}={v:.0f}" for n, v in zip(names, row, strict=True)) for row in rows
        ]
    return rows.repeat_interleave(columns, dim=0), titles


def save_animation(frames: Sequence[Image.Image], path: Path, milliseconds: int) -> None:
    """Write frames as a GIF that goes on for ever; the last frame stays for two seconds."""
    times = [milliseconds] * (len(frames) - 1) + [max(milliseconds, 2000)]
    with atomic_path(path) as temporary:
        frames[0].save(temporary, save_all=True, append_images=frames[1:], duration=times, loop=0)


def snapshots(run: RunFolder) -> list[Path]:
    """A run's snapshots, oldest first."""
    return numbered(run.samples, ".png")


def save_progress(run: RunFolder) -> list[Path]:
    """Write what a run looks like so far, at any time: ``progress.gif``, ``losses.png`` and
    ``grid.png``. Raises :class:`FaderError` for a run that has made no snapshot yet."""
    pictures = snapshots(run)
    if not pictures:
        raise FaderError(f"{run.path}: has no snapshots yet; is it a run of cgan train?")
    written = [run.path / "progress.gif", run.path / "grid.png"]
    save_snapshots_gif(pictures, written[0])
    newest = pictures[-1].read_bytes()
    with atomic_path(written[1]) as temporary:
        temporary.write_bytes(newest)
    if rows := read_rows(run.metrics):
        written.append(run.path / "losses.png")
        save_loss_graph(rows, written[-1])
    return written


def save_snapshots_gif(snapshots: Sequence[Path], path: Path) -> None:
    """The GIF of a run from its snapshots, each marked with its step; of more than
    :data:`MOST_FRAMES` evenly spaced ones, the first and the last among them."""
    last, frames = len(snapshots) - 1, []
    for i in np.linspace(0, last, min(last + 1, MOST_FRAMES)).round().astype(int):
        snapshot = snapshots[i]
        frame = _open_snapshot(snapshot)
        if frame.width > WIDEST:
            height = round(frame.height * WIDEST / frame.width)
            frame = frame.resize((WIDEST, height), Image.Resampling.LANCZOS)
        marked = Image.new(frame.mode, (frame.width, frame.height + 16), "white")
        marked.paste(frame, (0, 16))
        step = int(snapshot.stem.removeprefix("step-"))
        ImageDraw.Draw(marked).text((2, 1), f"step {step}", fill="black")
        # Of 64 colours and undithered it is a third of the size, and no worse to look at.
        frames.append(marked if marked.mode == "L" else marked.quantize(64, dither=_UNDITHERED))
    save_animation(frames, path, max(40, min(200, 12_000 // len(frames))))


def _open_snapshot(path: Path) -> Image.Image:
    check_regular(path)
    try:
        with Image.open(path, formats=["PNG"]) as opened:
            return opened.convert("RGB") if opened.mode != "L" else opened.copy()
    except Exception as error:  # Pillow answers broken files with any exception there is
        raise FaderError(f"{path}: not a whole snapshot ({error}); delete it") from None


def save_loss_graph(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """The losses over the steps of ``metrics.jsonl``'s rows, smoothed over the rows behind: a
    discriminator's and a generator's in one graph, others, which have other units, in one each.
    Rows without all of them are passed over."""
    # The figure's own canvas: pyplot would pick a window system and keep the figure alive.
    from matplotlib.figure import Figure

    names = ("discriminator_loss", "generator_loss")
    if any("kl_loss" in row for row in rows):
        names = ("reconstruction_loss", "kl_loss")
    rows = [row for row in rows if all(isinstance(row.get(name), float) for name in names)]
    steps = [row["step"] for row in rows]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    panels = figure.subplots(1 + ("kl_loss" in names), sharex=True, squeeze=False)[:, 0]
    for i, (name, colour) in enumerate(zip(names, ("tab:blue", "tab:orange"), strict=True)):
        axes, values = panels[i % len(panels)], np.array([row[name] for row in rows])
        axes.plot(steps, values, color=colour, alpha=0.25, linewidth=0.8)
        axes.plot(steps, _smooth(values), color=colour, linewidth=1.8, label=name.replace("_", " "))
    for axes in panels:
        axes.set_ylabel("loss")
        axes.grid(alpha=0.3)
        axes.legend()
    panels[-1].set_xlabel("step")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)


def _smooth(values: np.ndarray, keep: float = 0.95) -> np.ndarray:
    total, weight, smooth = 0.0, 0.0, np.empty(len(values))
    for i, value in enumerate(values):
        total, weight = keep * total + (1 - keep) * value, keep * weight + 1 - keep
        smooth[i] = total / weight
    return smooth


def save_png(image: Image.Image, path: Path) -> None:
    """Write a PNG atomically, in haste rather than small."""
    save_image(image, path, compress_level=1)
