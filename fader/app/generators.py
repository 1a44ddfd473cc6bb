"""Faces that nobody has: the one place where fader uses cgan, and only when it is asked to."""

from __future__ import annotations

import io
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fader.app.errors import Refused
from fader.errors import FaderError

if TYPE_CHECKING:
    from cgan.networks import Generator

# Generators that are kept loaded.
_LOADED = 3


@dataclass(frozen=True)
class Drawn:
    """Pictures (PNG) that a generator drew with ``seed``, with what each was asked to be."""

    generator: str
    seed: int
    size: int
    images: list[bytes]
    titles: list[str]
    grid: bytes


class Generators:
    """The generators that cgan knows by name, and those of runs in ``folder``."""

    def __init__(self, folder: Path | None = None, device: str = "cpu") -> None:
        if folder is not None and not folder.is_dir():
            raise FaderError(f"--generators {folder}: there is no such folder")
        self._folder, self._device = folder, device
        self._loaded: OrderedDict[str, Generator] = OrderedDict()
        self._lock = threading.Lock()

    def catalogue(self) -> list[dict[str, Any]]:
        """What there is: name, size, kind and names of the labels, length of training."""
        return [
            {
                "name": name,
                "size": config.size,
                "channels": config.channels,
                "kind": config.label_kind,
                "labels": list(config.label_names),
            }
            for name, (_, config) in self._all().items()
        ]

    def draw(
        self,
        name: str,
        n: int,
        seed: int | None = None,
        values: str = "",
        label: str = "",
        truncation: float = 1.0,
    ) -> Drawn:
        """``n`` faces (of each class with the label ``all``); without a seed, any.

        Raises :class:`Refused` when there is no such generator, and :class:`FaderError` for what it
        cannot be asked.
        """
        generator = self._load(name)
        from cgan.generate import asked_labels
        from cgan.pictures import grid

        seed = secrets.randbelow(1_000_000) if seed is None else seed
        classes = [label] if label else []
        if label == "all":
            classes = list(generator.label_names)
        labels, titles = asked_labels(generator, n, seed, values or None, classes)
        z = truncation * generator.latents(n, seed).repeat(len(labels) // n, 1)
        faces = generator.render(z, labels)
        whole = grid(faces, n if titles and n <= 16 else min(len(faces), 10))
        return Drawn(
            name,
            seed,
            generator.config.size,
            [_png(grid(faces[i : i + 1], 1)) for i in range(len(faces))],
            [titles[i // n] if titles else _title(generator, labels[i]) for i in range(len(faces))],
            _png(whole),
        )

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
            if name not in self._loaded:
                self._loaded[name] = known[name][0].load(self._device)
                while len(self._loaded) > _LOADED:
                    self._loaded.popitem(last=False)
            self._loaded.move_to_end(name)
            return self._loaded[name]


def _title(generator: Generator, labels: Any) -> str:
    if generator.label_kind == "classes":
        return generator.label_names[int(labels.argmax())]
    pairs = zip(generator.label_names, labels.tolist(), strict=True)
    return ", ".join(f"{name}={value:g}" for name, value in pairs)


def _png(image: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
