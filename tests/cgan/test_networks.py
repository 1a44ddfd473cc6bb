"""Settings, networks, losses and augmentation of generators."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cgan import losses
from cgan.augment import ADAPTATION, adapted, augment, policy_for
from cgan.config import GanConfig, apply_overrides, load_preset, presets
from cgan.layers import Upsample
from cgan.networks import Discriminator, Generator
from fader.errors import FaderError


def test_every_preset_loads_and_round_trips() -> None:
    assert {"default", "dcgan", "tiny"} <= set(presets())
    for name in presets():
        config = GanConfig.from_dict(load_preset(name))
        assert GanConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_settings_are_checked() -> None:
    with pytest.raises(FaderError, match="did you mean critic_norm"):
        apply_overrides({}, ["critic_nrom=batch"])
    with pytest.raises(FaderError, match="loss=wgan: must be one of hinge"):
        GanConfig(loss="wgan")
    with pytest.raises(FaderError, match="diffaugment=colour"):
        GanConfig(diffaugment="colour")
    with pytest.raises(FaderError, match="size=50"):
        GanConfig(size=50)


@pytest.mark.parametrize(
    "changes",
    [
        {"size": 48, "channels": 1},
        {"size": 96},
        {"size": 128, "residual": True},
        {"critic": "concat", "conditioning": "concat", "critic_norm": "batch"},
        {"critic": "auxiliary", "upsampling": "deconvolution", "critic_norm": "none"},
        {"critic": "both", "self_modulation": True, "critic_norm": "spectral"},
        {"self_modulation": True, "conditioning": "concat", "residual": True},
    ],
)
def test_networks_of_every_size_and_kind(changes: dict) -> None:
    config = GanConfig(
        width=4, critic_width=4, label_names=("a", "b"), label_kind="attributes", **changes
    )
    x = Generator(config)(torch.randn(4, config.latent), torch.rand(4, 2))
    assert x.shape == (4, config.channels, config.size, config.size)
    assert x.abs().max() <= 1
    logits, told = Discriminator(config)(x, torch.rand(4, 2))
    assert logits.shape == (4,)
    assert (told is not None) == (config.critic in ("auxiliary", "both"))


@pytest.mark.parametrize("self_modulation", [False, True])
def test_self_modulation_lets_latents_act_in_every_layer(self_modulation: bool) -> None:
    config = GanConfig(
        size=32, width=4, label_names=("a",), label_kind="attributes",
        self_modulation=self_modulation,
    )  # fmt: skip
    generator = Generator(config).eval()
    for name, weight in generator.named_parameters():
        if "label_gain" in name:
            torch.nn.init.normal_(weight, std=0.1)
    generator.first.weight.data.zero_()  # the one way in that there is without it
    torch.nn.init.ones_(generator.first.bias)
    one, other = generator.render(generator.latents(2, seed=0), torch.ones(2, 1))
    assert bool((one - other).abs().max() > 1e-4) == self_modulation


def test_nearest_upsampling_draws_no_checkerboard() -> None:
    """From constant maps it makes constant ones, whatever its weights."""
    torch.manual_seed(0)
    for kind, flat in (("nearest", True), ("deconvolution", False)):
        out = Upsample(3, 2, kind)(torch.ones(1, 3, 6, 6))[..., 2:-2, 2:-2]
        assert (out[0, 0].std() < 1e-6) == flat


@pytest.mark.parametrize("mixed", [False, True])
def test_nearest_upsampling_is_a_convolution_behind_enlargement(mixed: bool) -> None:
    torch.manual_seed(0)
    layer, h = Upsample(3, 2, "nearest"), torch.randn(2, 3, 6, 6)
    # A transposed convolution lays its kernel down where a convolution looks through it.
    flipped = layer.weight.flip(2, 3).swapaxes(0, 1)
    expected = F.conv2d(F.interpolate(h, scale_factor=2), flipped, padding=1)
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        assert layer.kernel().dtype == torch.float32
        out = layer(h)
    assert torch.allclose(out.float(), expected, atol=0.002 if mixed else 1e-6)
    assert set(layer.state_dict()) == {"weight"}


def test_losses_are_those_of_the_papers() -> None:
    zero = torch.zeros(4)
    assert losses.discriminator_loss("nonsaturating", zero, zero) == pytest.approx(np.log(4))
    assert losses.discriminator_loss("hinge", zero, zero) == 2
    logit = torch.tensor([2.0])
    made = torch.sigmoid(logit)
    assert losses.generator_loss("minimax", logit) == pytest.approx(float(torch.log(1 - made)))
    assert losses.generator_loss("nonsaturating", logit) == pytest.approx(-float(torch.log(made)))


def test_augmentation_is_for_small_sets_and_differentiable() -> None:
    assert policy_for("auto", 496) == ("color", "translation", "cutout")
    assert policy_for("auto", 50_000) == policy_for("none", 50) == ()
    x = torch.rand(6, 3, 32, 32, requires_grad=True)
    changed = augment(x, policy_for("auto", 50), torch.Generator().manual_seed(1))
    assert changed.shape == x.shape and not torch.allclose(changed[0], changed[1])
    changed.sum().backward()
    assert all(g.abs().sum() > 0 for g in x.grad)
    again = augment(x, policy_for("auto", 50), torch.Generator().manual_seed(1))
    assert torch.equal(changed, again)


def test_a_share_of_the_images_is_augmented() -> None:
    x = torch.rand(400, 3, 16, 16)
    changed = augment(x, ("cutout",), torch.Generator().manual_seed(1), share=0.25)
    share = (changed != x).flatten(1).any(dim=1).float().mean()
    assert share == pytest.approx(0.25, abs=0.07)
    assert torch.equal(augment(x, ("cutout",), torch.Generator(), share=0), x)


def test_more_is_augmented_while_training_images_are_known_by_heart() -> None:
    sure, unsure = torch.full((10,), 3.0), torch.tensor([1.0, -1.0] * 5)
    share = torch.tensor(0.5)
    assert adapted(share, sure, 0.6) == pytest.approx(0.5 + 10 / ADAPTATION)
    assert adapted(share, unsure, 0.6) == pytest.approx(0.5 - 10 / ADAPTATION)
    assert adapted(torch.tensor(1.0), sure, 0.6) == 1
    assert adapted(torch.tensor(0.0), unsure, 0.6) == 0
