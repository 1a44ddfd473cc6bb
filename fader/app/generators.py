"""Faces that nobody has: the one place where fader uses cgan, and only when it is asked to."""

from __future__ import annotations

import io
import secrets
import threading
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fader.app.errors import Refused
from fader.errors import FaderError

if TYPE_CHECKING:
    from cgan.networks import Generator


@dataclass(frozen=True)
class Drawn:
    """What a generator drew with ``seed``: PNGs, each after what it was asked to be, and all in a
    ``grid``; ``size`` is the side of one in pixels."""

    seed: int
    size: int
    images: list[tuple[str, bytes]]
    grid: bytes


class Generators:
    """The generators that cgan knows by name, and those of runs in ``folder``."""

    def __init__(self, folder: Path | None = None, device: str = "cpu") -> None:
        if folder is not None and not folder.is_dir():
            raise FaderError(f"--generators {folder}: there is no such folder")
        self._folder = folder
        # Three are kept loaded.
        self._loaded = lru_cache(3)(lambda stage: stage.load(device))
        self._lock = threading.Lock()

    def catalogue(self) -> list[dict[str, Any]]:
        """What there is: name, size, kind and names of the labels, length of training."""
        found = []
        for name, (_, config) in self._all().items():
            facts = {"name": name, "size": config.size, "channels": config.channels}
            found.append({**facts, "kind": config.label_kind, "labels": list(config.label_names)})
        return found

    def draw(
        self,
        name: str,
        n: int,
        seed: int | None = None,
        values: str = "",
        label: str = "",
        truncation: float = 1.0,
    ) -> Drawn:
        """``n`` faces (of each class with the label ``all``); without a seed, any. Raises
        :class:`FaderError` when there is no such generator, or it cannot be asked that."""
        generator = self._load(name)
        from cgan.generate import asked_labels
        from cgan.pictures import grid

        seed = secrets.randbelow(1_000_000) if seed is None else seed
        classes = {"": [], "all": list(generator.label_names)}.get(label, [label])
        labels, titles = asked_labels(generator, n, seed, values or None, classes)
        z = generator.latents(n, seed, truncation).repeat(len(labels) // n, 1)
        faces = generator.render(z, labels)
        whole = grid(faces, n if titles and n <= 16 else min(len(faces), 10))
        images = [
            (titles[i // n] if titles else _title(generator, labels[i]), _png(grid(face[None], 1)))
            for i, face in enumerate(faces)
        ]
        return Drawn(seed, generator.config.size, images, _png(whole))

    def _all(self) -> dict[str, tuple[Any, Any]]:
        """Every generator: what loads it, and its settings."""
        try:
            from cgan import DEFAULT_MODEL
            from cgan.io import WEIGHTS_FOLDER, Stage, available_generators, stages
        except ImportError as error:
            missing = "cgan, which draws faces" if error.name == "cgan" else "PyTorch"
            raise Refused(501, f"{missing} is not installed beside fader") from None
        names = sorted(available_generators(), key=lambda name: name != DEFAULT_MODEL)
        found = [Stage(name, WEIGHTS_FOLDER / name) for name in names]
        if self._folder is not None:
            found += stages(self._folder)
        named: dict[str, tuple[Any, Any]] = {}
        for stage in found:
            named.setdefault(stage.name, (stage, stage.config()))
        return named

    def _load(self, name: str) -> Generator:
        with self._lock:
            known = self._all()
            if name in ("", "default"):
                name = next(iter(known), "")
            if name not in known:
                raise Refused(404, f"there is no generator {name!r}; there are {', '.join(known)}")
            return self._loaded(known[name][0])


def _title(generator: Generator, labels: Any) -> str:
    if generator.label_kind == "classes":
        return generator.label_names[int(labels.argmax())]
    pairs = zip(generator.label_names, labels.tolist(), strict=True)
    return ", ".join(f"{name}={value:g}" for name, value in pairs)


def _png(image: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
