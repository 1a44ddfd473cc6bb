"""A model of format 1, as it was: decoded in copies, its edits confined by rules."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fader.errors import FaderError
from fader.faces.blend import DecodedFace
from fader.models.classifier import ClassifierConfig
from fader.models.format1 import paste
from fader.models.format1 import silhouette as silhouettes
from fader.models.format1.autoencoder import Autoencoder, AutoencoderConfig
from fader.models.format1.copies import MOST_COPIES
from fader.models.model import Decoding, FaderModel
from fader.models.schema import read_settings


@dataclass(frozen=True)
class Format1Face(DecodedFace):
    """A decoded face; ``tinted`` (S, S) in 0..1 is where only the colour of hair differs."""

    tinted: np.ndarray | None = None

    def layers(self, crop: np.ndarray, inside: np.ndarray) -> np.ndarray:
        return paste.layers(crop, inside, self.before, self.after, self.tinted)


@dataclass(frozen=True)
class Format1Decoding(Decoding):
    tinted: Tensor | None = None

    def faces(self) -> list[DecodedFace]:
        maps = [None] * len(self.before)
        if self.tinted is not None:
            maps = list(self.tinted[:, 0].float().cpu().numpy())
        return [
            Format1Face(face.before, face.after, face.mask, where)
            for face, where in zip(super().faces(), maps, strict=True)
        ]


class Format1Model(FaderModel):
    """What :class:`FaderModel` was."""

    def __init__(self, autoencoder: AutoencoderConfig, classifier: ClassifierConfig | None) -> None:
        super().__init__(autoencoder, classifier)
        self.beyond: dict[str, tuple[float, float]] = {}
        self.reach: dict[str, tuple[float, float]] = {}
        self.copies = 1

    def build(self, config: AutoencoderConfig) -> Autoencoder:
        return Autoencoder(config)

    @classmethod
    def from_config(
        cls, config: dict[str, Any], classifier: ClassifierConfig | None, path: Path
    ) -> Format1Model:
        """The model that a ``config.json`` of format 1 describes, without its weights."""
        try:
            settings = read_settings(AutoencoderConfig, config["autoencoder"], path)
            model = cls(settings, classifier)
            model.beyond, model.reach = (
                {str(n): (float(a), float(b)) for n, (a, b) in (config.get(key) or {}).items()}
                for key in ("beyond", "reach")
            )
            model.copies = int(config.get("copies", 1))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise FaderError(f"{path}: not the configuration of a Fader model ({error})") from None
        pairs = [*model.beyond.values(), *model.reach.values()]
        if not all(abs(number) <= 100 for pair in pairs for number in pair):
            raise FaderError(f"{path}: beyond and reach must be numbers up to 100")
        if not 1 <= model.copies <= MOST_COPIES:
            raise FaderError(f"{path}: copies must be a number from 1 to {MOST_COPIES}")
        return model

    @property
    def settings(self) -> str:
        regions = self.autoencoder.regions
        rules = None if regions is None else regions.rules
        return repr((sorted(self.beyond.items()), sorted(self.reach.items()), self.copies, rules))

    def encode(self, x: Tensor) -> list[Tensor]:
        return [x, *self.autoencoder.encode(x, self.copies)]

    def change(self, features: list[Tensor], y: Tensor, own: Tensor) -> Format1Decoding:
        _, *features = features
        rows = torch.arange(len(y), device=y.device) % len(own)
        before = self.autoencoder.decode(features, own)
        after = self._decode(features, y, own, before)
        regions = self.autoencoder.regions
        tinted = None if regions is None else regions.tinted(y, own)
        return Format1Decoding(before[rows], after, torch.ones_like(after[:, :1]), tinted)

    def decode(self, features: list[Tensor], y: Tensor, own: Tensor) -> Tensor:
        if len(y) == len(own) and torch.equal(y, own):
            return self.autoencoder.decode(features[1:], y)
        return self.change(features, y, own).image

    def _decode(
        self,
        features: list[Tensor],
        y: Tensor,
        own: Tensor | None = None,
        unedited: Tensor | None = None,
        held: Tensor | None = None,
    ) -> Tensor:
        """What the decoder makes of values M×n for faces with ``own`` (N×n): moves as long as
        ``reach`` says, confined to the attributes' regions; beyond 0..1 the picture goes on."""
        if self.beyond:
            below, above = self._pairs(self.beyond, y)
            y = y.clamp(0, 1) + below * y.clamp(max=0) + above * (y - 1).clamp(min=0)
        regions = self.autoencoder.regions
        if own is None or regions is None:
            y = y if own is None else self._reached(y, own)
            return self.autoencoder.decode(features, y)
        near, past = regions.within(y, own)
        near = regions.eased(near, own, held)
        beyond = past.any(dim=1).nonzero()[:, 0]
        if len(beyond) and unedited is None and not torch.equal(y[: len(own)], own):
            unedited = self.autoencoder.decode(features, own)
        decoded = self._decode_apart(features, self._reached(near, own), own, unedited)
        if not len(beyond):
            return decoded
        if unedited is None:  # the first rows are it
            unedited = decoded[: len(own)]
        faces, past, end = beyond % len(own), past[beyond], near[beyond]
        own, before = own[faces], unedited[faces]
        opposite = self._reached(torch.where(past != 0, 1 - end, end), own)
        other = self._decode_apart([f[faces] for f in features], opposite, own, before)
        more = regions.exaggerated(decoded[beyond], other, before, past)
        return decoded.index_copy(0, beyond, more.to(decoded.dtype))

    def _reached(self, y: Tensor, own: Tensor) -> Tensor:
        """What to tell the decoder, M×n, for faces with values ``own`` (N×n) to show ``y``."""
        if not self.reach:
            return y
        down, up = self._pairs(self.reach, y)
        start = own[torch.arange(len(y), device=y.device) % len(own)]
        return start + down * (y - start).clamp(max=0) + up * (y - start).clamp(min=0)

    def _decode_apart(
        self, features: list[Tensor], y: Tensor, own: Tensor, unedited: Tensor | None
    ) -> Tensor:
        """Decodings in which parts of the face, the colour of hair, and the rest change apart, each
        as if alone.

        Confined together, all that gray hair does to a face would be let through where a smile is;
        told to make a man a gray woman, decoders go twice as far as they ever did. Hair that is
        dyed is not otherwise changed.
        """
        groups, ending = self.autoencoder.regions.groups, self.autoencoder.regions.ending[:, 1]
        rows = torch.arange(len(y), device=y.device) % len(own)
        start = own[rows]
        # What is to go is not dyed.
        goes = ((y > start) & ending).any(dim=1)
        parts = groups[:, None].repeat(1, len(y), 1)
        parts[2, goes], parts[1, goes] = groups[1:].any(dim=0), False
        moves = ((y != start) & parts).any(dim=2)
        several, first = moves.sum(dim=0) > 1, moves.int().argmax(dim=0)
        if not several.any():
            return self.autoencoder.decode(features, y, own, unedited)
        if unedited is None and not torch.equal(y[: len(own)], own):
            unedited = self.autoencoder.decode(features, own)
        other = ~parts[first, torch.arange(len(y), device=y.device)]
        alone = torch.where(several[:, None] & other, start, y)
        decoded = self.autoencoder.decode(features, alone, own, unedited)
        if unedited is None:  # the first rows are it
            unedited = decoded[: len(own)]
        for index, part in enumerate(parts):
            again = (several & moves[index] & (first != index)).nonzero()[:, 0]
            if len(again):
                faces = rows[again]
                of_these, before = [f[faces] for f in features], unedited[faces].to(decoded.dtype)
                codes = torch.where(part, y, start)[again]
                change = self.autoencoder.decode(of_these, codes, own[faces], before) - before
                dyed = moves[1, again] & (index > 1)
                if dyed.any():  # dark hair of youth would show through blond
                    hair = silhouettes.silhouette(before)[:, 1:] * dyed[:, None, None, None]
                    change = change * (1 - hair)
                decoded = decoded.index_add(0, again, change.to(decoded.dtype))
        return torch.where(several[:, None, None, None], decoded.clamp(-1, 1), decoded)

    def _pairs(self, numbers: dict[str, tuple[float, float]], like: Tensor) -> tuple[Tensor, ...]:
        pairs = [numbers.get(name, (1.0, 1.0)) for name in self.attributes]
        return like.new_tensor(pairs).unbind(1)
