"""What an edit asks of the networks: the one place of editing that knows tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fader.edit.results import FaceEdit
from fader.errors import FaderError
from fader.faces.align import warp
from fader.faces.blend import DecodedFace
from fader.faces.detect import Face

if TYPE_CHECKING:
    import torch

    from fader.models.model import FaderModel

# Images the networks see at once: bounds the memory for crowds and for long strips.
_BATCH = 32


class Networks:
    """A model, asked with arrays. Crops are N×S×S×3 uint8, S the model's size."""

    def __init__(self, model: FaderModel, device: torch.device) -> None:
        self.model, self.device = model, device

    def crop(self, photo: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
        """The faces' aligned crops from an H×W×3 uint8 photo."""
        size = self.model.size
        crops = [warp(photo, face.transform(size), size) for face in faces]
        return np.stack(crops) if crops else np.zeros((0, size, size, 3), np.uint8)

    def estimate(self, crops: np.ndarray) -> list[dict[str, float]]:
        """Of every attribute the classifier knows its probability, 0..1, for each crop."""
        import torch

        estimates: list[dict[str, float]] = []
        for start in range(0, len(crops), _BATCH):
            with torch.inference_mode():
                rows = self.model.estimate(self._tensor(crops[start : start + _BATCH]))
            names = self.model.classifier.config.attributes  # type: ignore[union-attr]
            estimates += [dict(zip(names, row, strict=True)) for row in rows.float().cpu().tolist()]
        return estimates

    def before(self, crops: np.ndarray) -> list[dict[str, float]]:
        """Of :meth:`estimate`, the attributes that the model edits, in its order."""
        names = self.model.attributes
        estimates = self.estimate(crops)
        missing = [name for name in names if estimates and name not in estimates[0]]
        if missing:
            raise FaderError(f"the model's classifier cannot estimate {', '.join(missing)}")
        return [{name: one[name] for name in names} for one in estimates]

    def encode(self, crops: np.ndarray) -> list[torch.Tensor]:
        """The encoder's features of at most 32 crops."""
        import torch

        with torch.inference_mode():
            return self.model.encode(self._tensor(crops))

    def decode(
        self, crops: np.ndarray, values: np.ndarray, own: np.ndarray
    ) -> list[list[DecodedFace]]:
        """Each of N crops decoded to show K rows of values: N lists of K.

        ``values`` is N×K×n with n the model's attributes, ``own`` N×n what the crops show now.
        Each crop is encoded once.
        """
        import torch

        count = values.shape[1]
        decoded: list[list[DecodedFace]] = [[] for _ in crops]
        for first in range(0, len(crops), _BATCH):
            some = range(first, min(first + _BATCH, len(crops)))
            step = max(1, _BATCH // len(some))
            features = self.encode(crops[first : first + _BATCH])
            with torch.inference_mode():
                present = torch.from_numpy(own[some].astype(np.float32)).to(self.device)
                for start in range(0, count, step):
                    # Row m of the values decodes image m mod N, so the images go round fastest.
                    codes = values[some, start : start + step].swapaxes(0, 1)
                    y = torch.from_numpy(codes.astype(np.float32)).flatten(0, 1).to(self.device)
                    for row, face in enumerate(self.model.change(features, y, present).faces()):
                        decoded[first + row % len(some)].append(face)
        return decoded

    def decode_edits(self, crops: np.ndarray, edits: Sequence[FaceEdit]) -> list[DecodedFace]:
        """Each crop decoded as its edit sets it."""
        if not edits:
            return []
        own = np.array([[*edit.before.values()] for edit in edits])
        values = np.array([[[*edit.after.values()]] for edit in edits])
        return [one for (one,) in self.decode(crops, values, own)]

    def _tensor(self, crops: np.ndarray) -> torch.Tensor:
        import torch

        x = torch.from_numpy(np.ascontiguousarray(crops)).to(self.device)
        return x.permute(0, 3, 1, 2).float() / 127.5 - 1
