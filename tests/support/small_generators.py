"""Small trainings of generators, on discs drawn when a test runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from click.testing import CliRunner
from PIL import Image

from cgan.commands import main
from cgan.config import GanConfig, apply_overrides, load_preset
from cgan.data import ImageSet

SMALL = [
    "steps=12",
    "size=32",
    "width=8",
    "max_width=16",
    "critic_width=8",
    "critic_max_width=16",
    "latent=8",
    "batch_size=4",
    "log_every=1",
    "snapshot_every=3",
    "mixed_precision=no",
]


def drawn(n: int = 24, classes: int = 2, size: int = 32, channels: int = 1) -> ImageSet:
    """Bright and dark discs: a class each."""
    random = np.random.default_rng(0)
    place = np.arange(size)
    images = np.zeros((n, size, size, channels), np.uint8)
    for i in range(n):
        x, y, r = random.integers((10, 10, 4), (22, 22, 9)).tolist()
        inside = (place[:, None] - y) ** 2 + (place - x) ** 2 < r**2
        images[i][inside] = 255 if i % 2 else 120
    labels = np.eye(max(classes, 1), dtype=np.float32)[np.arange(n) % max(classes, 1)]
    return ImageSet(
        images,
        labels if classes else np.zeros((n, 0), np.float32),
        ("dark", "bright", "other")[:classes],
        "classes" if classes else "none",
        np.zeros(n, np.uint8),
        [f"{i}.png" for i in range(n)],
    )


def small_config(images: ImageSet, *overrides: str, preset: str = "tiny") -> GanConfig:
    values = apply_overrides(
        load_preset(preset), [*SMALL, f"channels={images.channels}", *overrides]
    )
    named = {"label_names": images.label_names, "label_kind": images.label_kind}
    return GanConfig.from_dict(values | named)


def class_folders(root: Path, n: int = 12) -> Path:
    images = drawn(n)
    for name, number, image in zip(images.names, images.class_numbers, images.images, strict=True):
        path = root / images.label_names[number] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(path)
    return root


def run_cgan(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    return result.exit_code, result.output


def settings(*more: str) -> list[str]:
    return [part for setting in [*SMALL, *more] for part in ("-s", setting)]
