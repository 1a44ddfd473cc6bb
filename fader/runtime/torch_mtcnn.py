"""The networks of MTCNN in PyTorch, with the weights in the facenet-pytorch package."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fader.errors import FaderError

Prelu = Callable[[Tensor, Tensor], Tensor]


class TorchMtcnn:
    """See :class:`fader.faces.mtcnn.Networks`; on ``device``. ``prelu`` is another way than that of
    PyTorch to work out a channel's x, or its slope · x below 0."""

    def __init__(self, device: str, prelu: Prelu = F.prelu) -> None:
        self._device, self._prelu = torch.device(device), prelu
        self._layers = [_placed(layer, device) for layer in _first_stage()]
        #: The second and the third network, of N×S×S×3 uint8 as tensors.
        self.second_of = _Network("rnet", (3, 3, 0), 2, device, prelu)
        self.third_of = _Network("onet", (3, 3, 2, 0), 3, device, prelu)

    def first(self, image: np.ndarray) -> np.ndarray:
        """H×W×3 uint8 RGB → h×w×6."""
        return self._answers(self.first_of, image[None])[0]

    def second(self, crops: np.ndarray) -> list[np.ndarray]:
        """Probabilities (N,) and moves (N, 4) of N×24×24×3."""
        return self._answers(self.second_of, crops)

    def third(self, crops: np.ndarray) -> list[np.ndarray]:
        """Probabilities (N,), moves (N, 4) and points (N, 10) of N×48×48×3."""
        return self._answers(self.third_of, crops)

    def first_of(self, x: Tensor, halved: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """N×H×W×3 uint8 → N×h×w×6; ``halved`` is another maximum of 2×2 than the one here."""
        w1, b1, p1, w2, b2, p2, w3, b3, p3, w4, b4 = self._layers
        h = self._prelu(F.conv2d(x.permute(0, 3, 1, 2).float(), w1, b1), p1)
        h = (halved or _halved)(h)
        h = self._prelu(F.conv2d(h, w2, b2), p2)
        h = self._prelu(F.conv2d(h, w3, b3), p3)
        return F.conv2d(h, w4, b4).permute(0, 2, 3, 1)

    def _answers(self, network: Callable[..., Iterable[Tensor]], x: np.ndarray) -> list[np.ndarray]:
        """What a network says, computed by one thread: by two PyTorch's convolutions differ in the
        last bits, and an edit's bytes would depend on how many processors there are."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.inference_mode():
                pixels = torch.from_numpy(np.ascontiguousarray(x)).to(self._device)
                return [answer.cpu().numpy() for answer in network(pixels)]
        finally:
            torch.set_num_threads(threads)


class _Network:
    """The second or third network: ``pools`` has the side of the maximum pooling after each
    convolution, 0 for none; of ``heads`` linear layers come class scores, moves and points."""

    def __init__(
        self, name: str, pools: tuple[int, ...], heads: int, device: str, prelu: Prelu
    ) -> None:
        self._weights = {key: _placed(value, device) for key, value in _weights(name).items()}
        self._pools, self._heads, self._prelu = pools, heads, prelu

    def __call__(self, x: Tensor) -> list[Tensor]:
        """Crops N×S×S×3 in 0..255 → probabilities (N,), moves (N, 4), points (N, 10)."""
        weights, n = self._weights, len(self._pools) + 1
        x = (x.permute(0, 3, 1, 2).float() - 127.5) / 128
        for i, pool in enumerate(self._pools, 1):
            x = F.conv2d(x, weights[f"conv{i}.weight"], weights[f"conv{i}.bias"])
            x = self._prelu(x, weights[f"prelu{i}.weight"])
            if pool:
                x = F.max_pool2d(x, pool, 2, ceil_mode=True)
        # The weights were trained elsewhere, on images whose columns come before their rows.
        x = x.permute(0, 3, 2, 1).flatten(1)
        x = F.linear(x, weights[f"dense{n}.weight"], weights[f"dense{n}.bias"])
        x = F.prelu(x, weights[f"prelu{n}.weight"])
        heads = (f"dense{n + 1}_{i + 1}" for i in range(self._heads))
        scores, *rest = (F.linear(x, weights[f"{h}.weight"], weights[f"{h}.bias"]) for h in heads)
        return [scores.softmax(dim=1)[:, 1], *rest]


def _weights(name: str) -> dict[str, Tensor]:
    """A network's weights. The package is located without importing it, which takes seconds."""
    package = find_spec("facenet_pytorch")
    if package is None or not package.submodule_search_locations:
        raise FaderError("no face detector here; install it with pip install facenet-pytorch")
    path = Path(package.submodule_search_locations[0]) / "data" / f"{name}.pt"
    weights = torch.load(path, map_location="cpu", weights_only=True)
    # They are stored transposed, and the last bits of a product depend on the layout in memory.
    return {key: value.contiguous() for key, value in weights.items()}


def _placed(weight: Tensor, device: str) -> Tensor:
    layout = torch.channels_last if weight.ndim == 4 else torch.preserve_format
    return weight.to(device, memory_format=layout)


def _first_stage() -> list[Tensor]:
    """The first network's weights, biases and slopes, layer after layer, for pixels 0..255; ten
    channels are padded to sixteen, which fills a vector register and is faster."""
    weights = _weights("pnet")

    def padded(weight: Tensor, *shape: int) -> Tensor:
        whole = torch.zeros(*shape, *weight.shape[2:])
        whole[tuple(slice(n) for n in weight.shape)] = weight
        return whole

    first, bias = weights["conv1.weight"], weights["conv1.bias"]
    others = ("conv2.bias", "prelu2.weight", "conv3.weight", "conv3.bias", "prelu3.weight")
    return [
        padded(first / 128, 16, 3),
        padded(bias - 127.5 / 128 * first.sum((1, 2, 3)), 16),
        padded(weights["prelu1.weight"], 16),
        padded(weights["conv2.weight"], 16, 16),
        *(weights[name] for name in others),
        torch.cat([weights["conv4_1.weight"], weights["conv4_2.weight"]]),
        torch.cat([weights["conv4_1.bias"], weights["conv4_2.bias"]]),
    ]


def _halved(x: Tensor) -> Tensor:
    """The maximum of 2×2, ends included; max_pool2d is several times slower on this layout."""
    x = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2), value=-math.inf)
    x = torch.maximum(x[:, :, ::2], x[:, :, 1::2])
    return torch.maximum(x[:, :, :, ::2], x[:, :, :, 1::2])
