"""What an edit asks of the networks, in arrays; PyTorch or ONNX Runtime computes the answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fader.edit.results import FaceEdit
from fader.errors import FaderError, NotFiniteError
from fader.faces.align import warp
from fader.faces.blend import DecodedFace
from fader.faces.detect import Face

if TYPE_CHECKING:
    import torch

    from fader.models.model import FaderModel

# Images the networks see at once: bounds the memory for crowds and for long strips.
_BATCH = 32

# How far a crop is enlarged where its attributes are estimated, each view also mirrored. Over the
# four, on held-out faces, estimates are more often right, and depend less on where a face is cut.
_ENLARGED = (1.0, 1.1)


class Backend(Protocol):
    """A model's networks. Crops are N×S×S×3 uint8, S the model's ``size``.

    ``attributes`` are those edited, in the order of values; ``fingerprint`` is text that differs
    between models whose edits do.
    """

    @property
    def attributes(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def size(self) -> int: ...  # noqa: D102
    @property
    def fingerprint(self) -> str: ...  # noqa: D102

    def estimate(self, crops: np.ndarray) -> list[dict[str, float]]:
        """Of every attribute the classifier knows its probability, 0..1, for each crop."""

    def encode(self, crops: np.ndarray) -> list[Any]:
        """What :meth:`change` needs to know of N crops."""

    def change(self, features: list[Any], values: np.ndarray, own: np.ndarray) -> list[DecodedFace]:
        """N crops, which show values N×n now, decoded to show values M×n: row m is crop m mod N."""


class Networks:
    """A model, asked with arrays. Crops are N×S×S×3 uint8, S the model's size."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def crop(self, photo: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
        """The faces' aligned crops from an H×W×3 uint8 photo."""
        size = self.backend.size
        crops = [warp(photo, face.transform(size), size) for face in faces]
        return np.stack(crops) if crops else np.zeros((0, size, size, 3), np.uint8)

    def estimate(self, crops: np.ndarray) -> list[dict[str, float]]:
        """Of every attribute the classifier knows its probability, 0..1, for each crop.

        It is the mean over four views of the crop (test-time augmentation).
        """
        estimates: list[dict[str, float]] = []
        for start in range(0, len(crops), _BATCH):
            views = [self.backend.estimate(view) for view in _views(crops[start : start + _BATCH])]
            for same in zip(*views, strict=True):
                estimates.append({name: fmean(one[name] for one in same) for name in same[0]})
        return estimates

    def before(self, crops: np.ndarray) -> list[dict[str, float]]:
        """Of :meth:`estimate`, the attributes that the model edits, in its order."""
        names = self.backend.attributes
        estimates = self.estimate(crops)
        missing = [name for name in names if estimates and name not in estimates[0]]
        if missing:
            raise FaderError(f"the model's classifier cannot estimate {', '.join(missing)}")
        return [{name: one[name] for name in names} for one in estimates]

    def encode(self, crops: np.ndarray) -> list[Any]:
        """The encoder's features of at most 32 crops."""
        return self.backend.encode(crops)

    def decode(
        self, crops: np.ndarray, values: np.ndarray, own: np.ndarray
    ) -> list[list[DecodedFace]]:
        """Each of N crops decoded to show K rows of values: N lists of K.

        ``values`` is N×K×n with n the model's attributes, ``own`` N×n what the crops show now.
        Each crop is encoded once.
        """
        count = values.shape[1]
        decoded: list[list[DecodedFace]] = [[] for _ in crops]
        for first in range(0, len(crops), _BATCH):
            some = range(first, min(first + _BATCH, len(crops)))
            step = max(1, _BATCH // len(some))
            features = self.encode(crops[first : first + _BATCH])
            for start in range(0, count, step):
                # Row m of the values decodes image m mod N, so the images go round fastest.
                codes = np.concatenate(values[some, start : start + step].swapaxes(0, 1))
                for row, face in enumerate(self.backend.change(features, codes, own[some])):
                    decoded[first + row % len(some)].append(face)
        return decoded

    def decode_edits(self, crops: np.ndarray, edits: Sequence[FaceEdit]) -> list[DecodedFace]:
        """Each crop decoded as its edit sets it."""
        if not edits:
            return []
        own = np.array([[*edit.before.values()] for edit in edits])
        values = np.array([[[*edit.after.values()]] for edit in edits])
        return [one for (one,) in self.decode(crops, values, own)]


class TorchBackend:
    """A :class:`~fader.models.model.FaderModel` on ``device``, as :class:`Backend`."""

    def __init__(self, model: FaderModel, device: str) -> None:
        self._model, self._device = model, device

    @property
    def attributes(self) -> tuple[str, ...]:
        """The attributes it edits."""
        return self._model.attributes

    @property
    def size(self) -> int:
        """Side of its crops, in pixels."""
        return self._model.size

    @property
    def fingerprint(self) -> str:
        """Text that differs between models whose weights or edit strengths differ."""
        from fader.models.model import fingerprint

        return fingerprint(self._model)

    def estimate(self, crops: np.ndarray) -> list[dict[str, float]]:
        """See :class:`Backend`."""
        import torch

        with torch.inference_mode():
            rows = self._model.estimate(self._tensor(crops)).float().cpu().tolist()
        names = self._model.classifier.config.attributes  # type: ignore[union-attr]
        return [dict(zip(names, row, strict=True)) for row in rows]

    def encode(self, crops: np.ndarray) -> list[Any]:
        """See :class:`Backend`."""
        import torch

        with torch.inference_mode():
            return self._model.encode(self._tensor(crops))

    def change(self, features: list[Any], values: np.ndarray, own: np.ndarray) -> list[DecodedFace]:
        """See :class:`Backend`."""
        import torch

        y, present = (
            torch.from_numpy(rows.astype(np.float32)).to(self._device) for rows in (values, own)
        )
        with torch.inference_mode():
            return self._model.change(features, y, present).faces()

    def _tensor(self, crops: np.ndarray) -> torch.Tensor:
        import torch

        x = torch.from_numpy(np.ascontiguousarray(crops)).to(self._device)
        return x.permute(0, 3, 1, 2).float() / 127.5 - 1


class OnnxBackend:
    """The ONNX form in ``folder``, as :class:`Backend`; its files are opened when needed."""

    def __init__(self, folder: Path) -> None:
        from fader.models.folders import read_onnx_settings
        from fader.runtime.onnx import Network

        settings = read_onnx_settings(folder)
        self.attributes, self.size = settings.attributes, settings.size
        self.fingerprint, self._known = settings.fingerprint, settings.estimates
        self._folder = folder
        self._encoder, self._decoder, self._classifier = (
            Network(folder / f"{name}.onnx") for name in ("encoder", "decoder", "classifier")
        )

    def estimate(self, crops: np.ndarray) -> list[dict[str, float]]:
        """See :class:`Backend`."""
        (rows,) = self._classifier(_images(crops))
        self._check("classifier", rows, (len(crops), len(self._known)))
        return [dict(zip(self._known, row.tolist(), strict=True)) for row in rows]

    def encode(self, crops: np.ndarray) -> list[Any]:
        """See :class:`Backend`."""
        x = _images(crops)
        return [x, *self._encoder(x)]

    def change(self, features: list[Any], values: np.ndarray, own: np.ndarray) -> list[DecodedFace]:
        """See :class:`Backend`."""
        if len(values) != len(own):
            rows = np.arange(len(values)) % len(own)
            features, own = [f[rows] for f in features], own[rows]
        x, *features = features
        one, other = self._decoder(*features, values, own)
        # With a mask what is before is the image itself; without, it comes from the decoder.
        masked = other.shape[1:2] == (1,)
        for answer, channels in ((one, 3), (other, 1 if masked else 3)):
            self._check("decoder", answer, (len(values), channels, self.size, self.size))
        before, after = (x, one) if masked else (one, other)
        masks = other[:, 0] if masked else np.ones_like(one[:, 0])
        return [
            DecodedFace(_levels(b), _levels(a), m)
            for b, a, m in zip(before, after, masks, strict=True)
        ]

    def _check(self, name: str, answer: np.ndarray, shape: tuple[int, ...]) -> None:
        if answer.shape != shape:
            raise FaderError(
                f"{self._folder / name}.onnx: answers {answer.shape} in place of {shape}; it is "
                "of another model than its config.json"
            )
        if not np.isfinite(answer).all():
            raise NotFiniteError(f"{self._folder / name}.onnx: gives no numbers; it is damaged")


def _views(crops: np.ndarray) -> Iterator[np.ndarray]:
    """Crops N×S×S×3 as they are and enlarged, each also mirrored."""
    import cv2

    size = crops.shape[1]
    for factor in _ENLARGED:
        inner = round(size / factor)
        edge = (size - inner) // 2
        within = slice(edge, edge + inner)
        views = crops
        if inner < size:
            views = np.stack([cv2.resize(one, (size, size)) for one in crops[:, within, within]])
        yield views
        yield views[:, :, ::-1]


def _images(crops: np.ndarray) -> np.ndarray:
    """Crops as what the networks see: N×3×S×S float32 in [-1, 1]."""
    return np.ascontiguousarray(crops.transpose(0, 3, 1, 2)).astype(np.float32) / 127.5 - 1


def _levels(image: np.ndarray) -> np.ndarray:
    """3×S×S in [-1, 1] → S×S×3 in 0..255."""
    return np.clip((image.transpose(1, 2, 0) + 1) * np.float32(127.5), 0, 255)
