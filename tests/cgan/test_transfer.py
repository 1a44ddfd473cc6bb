"""Starting from a generator: what is taken of it, and what a run has of its settings."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_generators import class_folders, drawn, run_cgan, small_config

from cgan.config import GanConfig
from cgan.gan import GanTrainer
from cgan.io import load_config, load_generator, save_generator
from cgan.networks import Generator, make_generator
from cgan.transfer import copy_weights, settings_from
from fader.errors import FaderError

KINDS = [
    {"conditioning": "cbn"},
    {"conditioning": "cbn", "self_modulation": True},
    {"conditioning": "concat"},
    {"conditioning": "concat", "self_modulation": True},
]


def generator(*labels: str, seed: int = 0, **changes) -> Generator:
    """One whose weights and label rows are all random, and which reads its labels."""
    torch.manual_seed(seed)
    kind = "attributes" if labels else "none"
    values = {"size": 32, "width": 4, "max_width": 8, "latent": 6, "growth": 0} | changes
    net = Generator(GanConfig(label_names=labels, label_kind=kind, **values)).eval()
    for name, value in net.state_dict().items():
        if name.endswith("running_var"):
            torch.nn.init.uniform_(value, 0.5, 2.0)
        elif value.is_floating_point() and name != "level":
            torch.nn.init.normal_(value, 0.0, 0.2)
    net.label_rows.copy_((torch.rand(net.label_rows.shape) < 0.3).float())
    return net


def asked(net: Generator, **labels: float) -> torch.Tensor:
    """(1, k): these labels, and of the others the average."""
    mean = net.label_rows.mean(dim=0)
    return torch.tensor([[labels.get(n, float(mean[i])) for i, n in enumerate(net.label_names)]])


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("ab", "ab"),
        ("ab", "ba"),  # in another order
        ("abc", "b"),  # fewer
        ("abc", ""),  # none
        ("ab", "bx"),  # one that the source does not know
        ("", "ab"),
    ],
)
def test_it_draws_what_the_other_draws(kind: dict, theirs: str, ours: str) -> None:
    source, target = generator(*theirs, **kind), generator(*ours, seed=1, **kind)
    copy_weights(source, target)
    z = torch.randn(4, 6)
    for value in (0.0, 1.0):
        labels = dict.fromkeys(ours, value)
        theirs_y, ours_y = asked(source, **labels), asked(target, **labels)
        with torch.no_grad():
            expected = source(z, theirs_y.expand(4, -1))
            torch.testing.assert_close(target(z, ours_y.expand(4, -1)), expected)
    if set(theirs) & set(ours):
        assert not torch.allclose(*(source(z, torch.full((4, len(theirs)), v)) for v in (0.0, 1.0)))


def test_labels_of_another_kind_are_not_the_same_labels() -> None:
    source = generator("a", "b")
    config = GanConfig.from_dict(source.config.to_dict() | {"label_kind": "classes"})
    target = Generator(config).eval()
    copy_weights(source, target)
    z = torch.randn(2, 6)
    with torch.no_grad():
        drawn_ = [target(z, torch.eye(2)[[c, c]]) for c in (0, 1)]
        expected = source(z, asked(source).expand(2, -1))
    for image in drawn_:
        torch.testing.assert_close(image, expected)


@pytest.mark.parametrize(
    ("changes", "has"),
    [
        ({"width": 3}, "has width=4;"),
        ({"size": 48, "latent": 5}, "has size=32, latent=6;"),
        ({"self_modulation": True}, "has self_modulation=False;"),
        ({"size": 128, "growth": 2}, "has size=32, growth=0;"),
    ],
)
def test_another_architecture_is_refused(changes: dict, has: str) -> None:
    with pytest.raises(FaderError, match=f"the generator to start from {has}"):
        copy_weights(generator("a"), generator("a", critic_norm="none", **changes))


def test_a_vae_starts_from_a_gans_generator_and_from_another_vae() -> None:
    changes = {"size": 32, "width": 4, "max_width": 8, "latent": 6, "critic_width": 4}
    labels = {"label_names": ("a", "b"), "label_kind": "attributes"}
    source, other, target = (
        make_generator(GanConfig(model=model, **labels, **changes)).eval()
        for model in ("cgan", "cvae", "cvae")
    )
    z, y, x = torch.randn(2, 6), torch.rand(2, 2), torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        copy_weights(source, target)
        torch.testing.assert_close(target(z, y), source(z, y))
        copy_weights(other, target)
        torch.testing.assert_close(target.encode(x, y), other.encode(x, y))


def test_a_grown_generator_begins_grown_and_the_discriminator_catches_up(tmp_path: Path) -> None:
    images = drawn(size=128)
    growing = small_config(images, "size=128", "growth=100", "critic_norm=none", "steps=300")
    source = Generator(growing).eval()
    asked = {"steps": 8, "ema_decay": 0.0, "critic_warmup_steps": 2}
    config = GanConfig.from_dict(
        settings_from(growing, asked)
        | {"label_names": growing.label_names, "label_kind": growing.label_kind}
    )
    assert (config.width, config.critic_warmup_steps, config.decay_steps) == (growing.width, 2, 2)
    assert config.level_at(0) == config.doublings == 2
    trainer = GanTrainer(config, images, tmp_path / "run", initial=source, progress=False)
    before = {k: v.clone() for k, v in trainer.bare("discriminator").state_dict().items()}

    def same_weights() -> bool:
        weights = trainer.bare("generator").named_parameters()
        return all(torch.equal(v, source.get_parameter(k)) for k, v in weights)

    batches = trainer.batches.from_step(0)
    for step, (x, y) in zip(range(3), batches, strict=False):
        assert same_weights(), step
        row = trainer.step(x, y)
        assert row["generator_loss"].isfinite()
        trainer.done += 1
    assert not same_weights()
    after = trainer.bare("discriminator").state_dict()
    assert not all(torch.equal(v, after[k]) for k, v in before.items())


def test_the_settings_are_those_of_the_generator(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "data")
    first = GanConfig(
        size=128, growth=10, critic_norm="none", width=4, critic_width=4, max_width=16,
        critic_max_width=16, latent=8, channels=1, loss="nonsaturating", batch_size=4,
        label_names=("dark", "happy"), label_kind="classes", learning_rate=3e-4,
    )  # fmt: skip
    save_generator(Generator(first), tmp_path / "first")
    assert load_config(tmp_path / "first") == first
    options = ["train", "--data", data, "--labels", "folder", "--init", tmp_path / "first"]
    options += ["--device", "cpu", "--steps", 4]
    code, output = run_cgan(*options, "--out", tmp_path / "run")
    assert code == 0, output
    config = load_generator(tmp_path / "run").config
    assert (config.size, config.channels, config.latent, config.learning_rate) == (128, 1, 8, 3e-4)
    assert config.label_names == ("bright", "dark")
    assert (config.grown, config.critic_warmup_steps, config.decay_steps) == (True, 0, 1)
    # What is asked for comes first, and a resume needs nothing.
    code, output = run_cgan(*options, "-s", "learning_rate=1e-3", "--out", tmp_path / "two")
    assert code == 0, output
    assert load_generator(tmp_path / "two").config.learning_rate == 1e-3
    code, output = run_cgan("train", "--resume", "--out", tmp_path / "run", "--steps", 5)
    assert code == 0, output
    code, output = run_cgan(*options, "-s", "critic_warmup_steps=4", "--out", tmp_path / "no")
    assert code == 2 and "leaves the generator none of 4 steps" in output
    code, output = run_cgan(*options, "--preset", "tiny", "--channels", 1, "--out", tmp_path / "no")
    assert code == 1 and "the generator to start from has size=128, " in output
    code, output = run_cgan(*options, "--size", 48, "--out", tmp_path / "no")
    assert code == 2 and "size=48 is too small to grow to" in output
    assert not (tmp_path / "no").exists()
