"""Training that begins small and doubles the side (Karras et al. 2018)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from small_generators import class_folders, drawn, run_cgan, settings, small_config

from cgan.config import GanConfig
from cgan.gan import GanTrainer
from cgan.io import load_generator
from cgan.networks import Discriminator, Generator, shrunk
from fader.errors import FaderError

GROWING = ["size=128", "growth=4", "critic_norm=none"]


def growing(**changes) -> GanConfig:
    return GanConfig(
        size=128, growth=100, critic_norm="none", width=4, critic_width=4, latent=8, **changes
    )


def test_each_side_has_its_steps_half_of_them_to_come_in() -> None:
    config = growing()
    steps = {0: 0, 99: 0, 100: 0, 125: 0.5, 150: 1, 199: 1, 225: 1.5, 250: 2, 9999: 2}
    assert {step: config.level_at(step) for step in steps} == steps
    assert GanConfig(size=96, growth=1, critic_norm="none").doublings == 1  # from 48


@pytest.mark.parametrize(
    ("level", "side"), [(0.0, 32), (0.5, 64), (1.0, 64), (1.5, 128), (2.0, 128)]
)
def test_both_networks_work_on_the_side_that_is_reached(level: float, side: int) -> None:
    config = growing(label_names=("a",), label_kind="attributes")
    z, y = torch.randn(4, 8), torch.rand(4, 1)
    made = Generator(config)(z, y, level)
    real = shrunk(torch.rand(4, 3, 128, 128), config, level)
    assert made.shape == real.shape == (4, 3, side, side)
    logits, _ = Discriminator(config)(made, y, level)
    assert logits.shape == (4,)


def test_new_layers_come_in_without_a_jump() -> None:
    torch.manual_seed(0)
    config = growing()
    generator, critic = Generator(config).eval(), Discriminator(config)
    z, y, x = torch.randn(4, 8), torch.zeros(4, 0), torch.rand(4, 3, 128, 128)
    for level in (0.0, 1.0):
        before, after = generator(z, y, level), generator(z, y, level + 1e-4)
        larger = torch.nn.functional.interpolate(before, scale_factor=2, mode="bilinear")
        torch.testing.assert_close(after, larger, atol=0.05, rtol=0)
        scores = [critic(shrunk(x, config, at), y, at)[0] for at in (level, level + 1e-4)]
        torch.testing.assert_close(*scores, atol=1e-3, rtol=0)


def test_a_growing_run_trains_resumes_and_shows_whole_pictures(tmp_path: Path) -> None:
    images = drawn(size=128)
    config = small_config(images, *GROWING, "steps=14", "snapshot_every=7")
    GanTrainer(config, images, tmp_path / "whole", progress=False).train()
    half = GanTrainer(config, images, tmp_path / "half", progress=False)
    half.train(minutes=1e-9)
    assert 0 < half.done < 14
    resumed = GanTrainer(config, images, tmp_path / "half", progress=False, resume=True)
    weights = resumed.train().state_dict()
    for name, value in load_generator(tmp_path / "whole").state_dict().items():
        assert torch.equal(value, weights[name]), name
    assert weights["level"] == 2
    sizes = {Image.open(path).size for path in (tmp_path / "whole/snapshots").glob("*.png")}
    assert len(sizes) == 1


def test_a_run_stopped_at_a_small_side_draws_its_size(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "data")
    code, output = run_cgan(
        "train", "--data", data, "--labels", "folder", "--out", tmp_path / "run",
        "--minutes", 0, *settings(*GROWING, "channels=1"),
    )  # fmt: skip
    assert code == 0, output
    faces = load_generator(tmp_path / "run").sample(2, 0)
    assert faces.shape == (2, 1, 128, 128)
    assert load_generator(tmp_path / "run").level == 0


def test_what_cannot_grow_is_refused() -> None:
    for changes, reason in (
        ({"model": "cvae"}, "needs model=cgan"),
        ({"critic_norm": "batch"}, "critic_norm of none or spectral"),
        ({"size": 48}, "too small to grow"),
        ({"growth": -1}, "0 or more"),
        ({"steps": 24}, "reaches 128 pixels after 25"),
    ):
        with pytest.raises(FaderError, match=reason):
            GanConfig(**{"size": 128, "growth": 10, "critic_norm": "none", **changes})
