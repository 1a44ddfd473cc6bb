"""Images per second of one training step: ours against the literal algorithm, in one run.

    python tools/bench_train.py                       # 128 px, 5 layers, 4 attributes, batch 32
    python tools/bench_train.py --size 256 --layers 6

*Ours* is :meth:`fader.train.trainer.Trainer.step` as ``fader train`` runs it on this device. The
*literal* step is the paper's two updates written down plainly: float32, NCHW, torch's own
convolutions throughout, the attributes concatenated as constant planes, the batch encoded once for
the discriminator's update and again for the autoencoder's. Both train the same networks, the
paper's, with λ > 0 and no optional term. The literal step has a process of its own, since ours
keeps its memory between steps, as ``fader train`` does. Blocks of steps alternate, so that whatever
else the machine does falls on both; medians are reported, as JSON. Beside them stand the GFLOP/s
that our step reaches (torch's own count of it, once) and those of a plain matrix product in the
same run and precision, which is what the device can do at best. ``--preset default`` times that
preset's step instead of the paper's, without a literal one to compare with.
"""

from __future__ import annotations

import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from types import SimpleNamespace

import click
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from fader.commands.options import device_option, resolve_device
from fader.models.autoencoder import Autoencoder, DecoderLayer
from fader.models.config import AutoencoderConfig
from fader.models.discriminators import LatentDiscriminator
from fader.models.small_maps import Conv2d
from fader.processes import keep_memory
from fader.train import losses
from fader.train.config import TrainConfig, load_preset
from fader.train.trainer import Trainer

LAMBDA = 1e-4


class ConcatenatedPlanes(torch.nn.Module):
    """A decoder layer as the paper writes it: the code as constant planes beside the features."""

    def __init__(self, layer: DecoderLayer) -> None:
        super().__init__()
        self.up, self.norm = layer.up, layer.norm

    def forward(self, h: Tensor, code: Tensor) -> Tensor:
        """Features N×C×H×W and the code N×2n → N×C′×2H×2W."""
        planes = code[:, :, None, None].expand(-1, -1, *h.shape[2:])
        h = self.up(torch.cat([h, planes], dim=1))
        return h if self.norm is None else F.relu(self.norm(h))


class Literal:
    """Lample et al. 2017, §3: update the discriminator on E(x), then the autoencoder."""

    def __init__(self, config: AutoencoderConfig, device: torch.device) -> None:
        self.autoencoder = Autoencoder(config)
        for i, layer in enumerate(self.autoencoder.decoder):
            self.autoencoder.decoder[i] = ConcatenatedPlanes(layer)
        self.discriminator = LatentDiscriminator(config.latent_shape, len(config.attributes))
        nets = self.autoencoder, self.discriminator
        for net in nets:
            plainly(net)
            net.to(device)
        self.of_autoencoder, self.of_discriminator = (
            torch.optim.Adam(net.parameters(), 2e-3, (0.5, 0.999)) for net in nets
        )

    def step(self, x: Tensor, y: Tensor) -> None:
        """Both updates on images N×3×S×S in [-1, 1] and values N×n."""
        self.discriminator.train()
        with torch.no_grad():
            code = self.autoencoder.encode(x)[-1]
        loss = losses.attribute_nll(self.discriminator(code), y)
        self.of_discriminator.zero_grad()
        loss.backward()
        self.of_discriminator.step()

        self.discriminator.eval()
        code, decoded = self.autoencoder(x, y)
        loss = losses.reconstruction_mse(decoded, x)
        loss = loss + LAMBDA * losses.attribute_nll(self.discriminator(code), 1 - y)
        self.of_autoencoder.zero_grad()
        loss.backward()
        self.of_autoencoder.step()


def plainly(net: torch.nn.Module) -> None:
    """Make every convolution of ``net`` torch's own, and 4×4 as in the paper."""
    for parent in list(net.modules()):
        for name, child in parent.named_children():
            if isinstance(child, Conv2d):
                channels = child.in_channels, child.out_channels
                setattr(parent, name, torch.nn.Conv2d(*channels, 4, stride=2, padding=1))


def work_literally(
    connection: Connection, config: AutoencoderConfig, device: torch.device, x: Tensor, y: Tensor
) -> None:
    """Answer each number of steps that comes with the seconds they took, until 0 comes."""
    literal = Literal(config, device)
    x, y = x.contiguous().to(device), y.to(device)
    while steps := connection.recv():
        connection.send(seconds(lambda: [literal.step(x, y) for _ in range(steps)], device))


@contextmanager
def literal_process(*arguments: object) -> Iterator[Callable[[int], float]]:
    """A process in which so many literal steps are made at a time; answers their seconds."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=work_literally, args=(there, *arguments), daemon=True)
    process.start()

    def took(steps: int) -> float:
        here.send(steps)
        return here.recv()

    yield took
    here.send(0)
    process.join()


def noise_store(size: int, attributes: tuple[str, ...], n: int) -> SimpleNamespace:
    """As much of a prepared store as a trainer needs to be built, holding noise."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, (n, len(attributes))).astype(np.float32)
    labels[:2] = [[0.0], [1.0]]
    return SimpleNamespace(
        size=size,
        images=random.integers(0, 256, (n, size, size, 3), dtype=np.uint8),
        indices=lambda split: np.arange(n),
        select_labels=lambda names: labels,
    )


def gemm_gflops(device: torch.device, dtype: torch.dtype, side: int = 2048) -> float:
    """GFLOP/s of a product of two square matrices, the best of five."""
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / min(seconds(lambda: a @ b, device) for _ in range(6)) / 1e9


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """How long ``work`` takes, with all that the device has to do for it."""
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def in_turn(
    contenders: dict[str, Callable[[int], float]], blocks: int, steps: int
) -> dict[str, float]:
    """The median seconds of each contender's blocks, which alternate."""
    took: dict[str, list[float]] = {name: [] for name in contenders}
    for block in range(blocks + 1):
        for name, work in contenders.items():
            seconds_of_block = work(steps)
            if block:  # the first one warms up
                took[name].append(seconds_of_block)
    return {name: statistics.median(values) for name, values in took.items()}


def step_gflop(trainer: Trainer, x: Tensor, y: Tensor) -> float:
    """Floating-point operations of one step, forward and backward, in 1e9 (optimisers left out)."""
    with FlopCounterMode(display=False) as counter:
        trainer.step(x, y)
    return counter.get_total_flops() / 1e9


@click.command()
@click.option("--size", default=128, show_default=True)
@click.option("--layers", default=5, show_default=True)
@click.option("--attributes", default=4, show_default=True)
@click.option("--batch-size", default=32, show_default=True)
@click.option("--blocks", default=15, show_default=True, help="Blocks of each, alternating.")
@click.option("--steps", default=4, show_default=True, help="Steps in a block.")
@click.option("--preset", help="Time this preset's step instead of the paper's.")
@click.option("--compile", "compiled", is_flag=True, help="Put ours through torch.compile.")
@device_option
def main(
    size: int,
    layers: int,
    attributes: int,
    batch_size: int,
    blocks: int,
    steps: int,
    preset: str | None,
    compiled: bool,
    device: str,
) -> None:
    """Print rates, their ratio, and the GFLOP/s reached, as JSON."""
    where = resolve_device(device)
    keep_memory()
    names = tuple(f"attribute {i}" for i in range(attributes))
    network = AutoencoderConfig(size=size, layers=layers, attributes=names)
    config = TrainConfig(model=network, batch_size=batch_size, ramp_steps=0, lambda_max=LAMBDA)
    if preset:
        values = load_preset(preset)
        values["model"]["attributes"] = names
        config = replace(TrainConfig.from_dict(values), pretrain_steps=0, ramp_steps=0)
    store = noise_store(config.model.size, names, config.batch_size)
    with tempfile.TemporaryDirectory() as out:
        trainer = Trainer(config, store, out, device=where, progress=False, compiled=compiled)
    x, y = (t.to(where) for t in trainer.faces.batches.batch(0))
    trainer.done = 1  # no gradient penalty is due
    gflop = step_gflop(trainer, x, y)
    contenders = {
        "ours": lambda steps: seconds(lambda: [trainer.step(x, y) for _ in range(steps)], where)
    }
    with ExitStack() as stack:
        if not preset:
            literal = literal_process(network, where, x.cpu(), y.cpu())
            contenders["literal"] = stack.enter_context(literal)
        medians = {
            name: config.batch_size * steps / took
            for name, took in in_turn(contenders, blocks, steps).items()
        }
    precision = trainer.accelerator.mixed_precision
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    reached = gflop * medians["ours"] / config.batch_size
    best = gemm_gflops(where, dtype)
    result = {
        "size": config.model.size,
        "layers": config.model.layers,
        "attributes": attributes,
        "batch_size": config.batch_size,
        "device": str(where),
        "threads": torch.get_num_threads(),
        "precision": precision,
        "compiled": compiled,
        **{f"{name}_images_per_second": round(rate, 1) for name, rate in medians.items()},
        "gflop_per_image": round(gflop / config.batch_size, 2),
        "gflops": round(reached, 1),
        "gemm_gflops": round(best, 1),
        "share_of_gemm": round(reached / best, 2),
    }
    if "literal" in medians:
        result["ratio"] = round(medians["ours"] / medians["literal"], 2)
    click.echo(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
