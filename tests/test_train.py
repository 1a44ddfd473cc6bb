"""Training as a user meets it: stages, the run folder, stopping and going on."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torchmetrics.functional.image import structural_similarity_index_measure

from fader.commands import main
from fader.data.batches import Augmentation, Batches, to_tensor
from fader.data.prepared import PreparedStore, prepare
from fader.data.synthetic import write_dataset
from fader.errors import FaderError
from fader.models.classifier import AttributeClassifier, ClassifierConfig
from fader.models.io import FaderModel
from fader.train import losses
from fader.train.classifier import ClassifierTraining, train_classifier
from fader.train.config import TrainConfig, apply_overrides, load_preset, presets
from fader.train.run import RunFolder, read_rows
from fader.train.schedule import lambda_at, learning_rate_at
from fader.train.trainer import Trainer

ATTRIBUTES = ("Male", "Eyeglasses")
SMALL = [
    "steps=12",
    "pretrain_steps=4",
    "ramp_steps=4",
    "decay_steps=0",
    "batch_size=8",
    "log_every=1",
    "sample_every=6",
    "validate_every=6",
    "validation_images=8",
    "mixed_precision=no",
    "model.size=32",
    "model.layers=3",
    "model.width=8",
    "model.max_width=16",
]
EVERY_TERM = [
    "patch_weight=0.01",
    "recognition_weight=0.01",
    "change_weight=0.1",
    "gradient_penalty=0.1",
    "discriminator=perceptron",
    "adversarial_target=prior",
    "model.skip=1",
    "model.regions=true",
    "structure_weight=0.05",
    "colour=0.1",
    "shuffled_fraction=0.5",
    "longest_move=1.5",
    "copies=2",
    "unconvinced_weight=1",
    "erase_steps=4",
    "gradient_clip=0.5",  # always at work
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    write_dataset(folder / "celeba", 400, seed=1, counterfactuals=False, progress=False)
    prepare(folder / "celeba", folder / "store", size=32, workers=1, progress=False)
    return folder / "store"


def small_config(*overrides: str) -> TrainConfig:
    values = apply_overrides(load_preset("tiny"), [*SMALL, *overrides])
    values["model"]["attributes"] = ATTRIBUTES
    return TrainConfig.from_dict(values)


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in trainer.averaged_model().autoencoder.state_dict().items()}


def test_lambda_is_zero_then_rises_linearly_then_stays() -> None:
    values = [lambda_at(step, 3, 4, 0.8) for step in range(10)]
    assert values[:3] == [0, 0, 0]
    assert values[3:7] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert values[7:] == pytest.approx([0.8] * 3)


def test_learning_rate_falls_to_almost_nothing_at_the_end() -> None:
    assert learning_rate_at(0, 100, 20, 1e-3) == 1e-3
    assert learning_rate_at(90, 100, 20, 1e-3) == pytest.approx(5e-4)
    assert learning_rate_at(99, 100, 20, 1e-3) == pytest.approx(5e-5)


def test_every_preset_loads() -> None:
    assert {"default", "paper-256", "tiny"} <= set(presets())
    for name in presets():
        TrainConfig.from_dict(load_preset(name))


def test_overrides_are_checked_by_name_and_kind() -> None:
    values = apply_overrides(load_preset("tiny"), ["lambda_max=0.5", "model.layers=5"])
    config = TrainConfig.from_dict(values)
    assert (config.lambda_max, config.model.layers) == (0.5, 5)
    with pytest.raises(FaderError, match="did you mean lambda_max"):
        apply_overrides({}, ["lamda_max=1"])
    with pytest.raises(FaderError, match="steps=many: must be a whole number"):
        apply_overrides({}, ["steps=many"])
    with pytest.raises(FaderError, match="KEY=VALUE"):
        apply_overrides({}, ["steps"])


def test_a_run_leaves_metrics_samples_checkpoints_and_a_model(data: Path, tmp_path: Path) -> None:
    config = small_config(*EVERY_TERM)
    Trainer(config, PreparedStore(data), tmp_path / "run").train()
    rows = read_rows(tmp_path / "run" / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert [row["stage"] for row in rows] == [1] * 4 + [2] * 8
    contract = {
        "step",
        "stage",
        "lambda",
        "reconstruction_loss",
        "discriminator_loss",
        "discriminator_accuracy",
        "images_per_second",
    }
    assert all(contract <= row.keys() for row in rows)
    # The optional terms are about changed decodings, which stage 1 does not make.
    for term in ("patch_loss", "recognition_loss", "change_loss"):
        assert [term in row for row in rows] == [False] * 4 + [True] * 8
    assert len(list((tmp_path / "run" / "samples").iterdir())) == 2
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    model = FaderModel.load(tmp_path / "run" / "model")
    assert model.attributes == ATTRIBUTES
    assert model.training_notes["steps"] == 12
    assert FaderModel.load(tmp_path / "run" / "best").attributes == ATTRIBUTES


def test_averages_are_normalised_as_in_training(data: Path, tmp_path: Path) -> None:
    """On faces as they are alone, decodings came out 1 dB further from their photos."""
    config = small_config(*EVERY_TERM, "model.conditioning=planes")
    Trainer(config, PreparedStore(data), tmp_path / "run").train()
    tool = Path(__file__).parent.parent / "tools" / "average_models.py"
    spec = importlib.util.spec_from_file_location("average_models", tool)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model, again = tmp_path / "run" / "model", tmp_path / "again"
    arguments = [str(model), str(model), str(again), "--weight", "1", "--store", str(data)]
    result = CliRunner().invoke(module.main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    before, after = (FaderModel.load(path).autoencoder.state_dict() for path in (model, again))
    assert any("running_var" in key for key in before)
    for key, value in before.items():
        assert torch.allclose(value, after[key], rtol=0.02, atol=0.01), key


def test_training_lowers_the_reconstruction_loss(data: Path, tmp_path: Path) -> None:
    config = small_config("steps=60", "pretrain_steps=60", "batch_size=16", "log_every=10")
    Trainer(config, PreparedStore(data), tmp_path / "run").train()
    first, *_, last = read_rows(tmp_path / "run" / "metrics.jsonl")
    assert last["reconstruction_loss"] < 0.5 * first["reconstruction_loss"]


def test_resuming_gives_the_weights_of_an_uninterrupted_run(data: Path, tmp_path: Path) -> None:
    store = PreparedStore(data)
    whole = Trainer(small_config(*EVERY_TERM), store, tmp_path / "whole")
    whole.train()

    config = small_config(*EVERY_TERM)
    stopped = Trainer(config, store, tmp_path / "parts")
    stopped.train(minutes=0)  # one step, then the checkpoint
    assert stopped.done == 1
    for _ in range(20):
        resumed = Trainer(config, store, tmp_path / "parts", resume=True)
        resumed.train(minutes=0 if resumed.done < 10 else None)
        if resumed.done == config.steps:
            break
    assert weights(resumed).keys() == weights(whole).keys()
    for name, value in weights(whole).items():
        assert torch.equal(weights(resumed)[name], value), name
    rows = read_rows(tmp_path / "parts" / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, 13))


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C as in a terminal; a shell's background jobs ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_within_a_step_is_held_until_the_step_is_whole(
    data: Path, tmp_path: Path, interruptible: None
) -> None:
    config, store = small_config(*EVERY_TERM, "steps=6", "ramp_steps=1"), PreparedStore(data)
    whole = Trainer(config, store, tmp_path / "whole")
    whole.train()
    stopped = Trainer(config, store, tmp_path / "parts")
    update = stopped._update

    def interrupted(name: str, loss: torch.Tensor) -> None:
        if name == "autoencoder" and stopped.done == 4:  # the discriminators are updated already
            signal.raise_signal(signal.SIGINT)
        update(name, loss)

    stopped._update = interrupted
    with pytest.raises(KeyboardInterrupt):
        stopped.train()
    assert stopped.done == 5
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    resumed = Trainer(config, store, tmp_path / "parts", resume=True)
    assert resumed.done == 5
    resumed.train()
    for name in whole.nets:
        there = resumed.bare(name).state_dict()
        for key, value in whole.bare(name).state_dict().items():
            assert torch.equal(there[key], value), f"{name}.{key}"


def test_the_last_stage_freezes_the_encoder_and_erases_the_attributes(
    data: Path, tmp_path: Path
) -> None:
    store = PreparedStore(data)
    stages = ["pretrain_steps=2", "ramp_steps=2", "erase_steps=6"]
    trainer = Trainer(small_config(*stages, "model.skip=1"), store, tmp_path / "run")
    seen: list[torch.Tensor] = []
    step = trainer.step

    def watched(x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
        seen.append(trainer.bare("autoencoder").encoder[1][0].weight.detach().clone())
        return step(x, y)

    trainer.step = watched
    model = trainer.train()
    assert not torch.equal(seen[4], seen[5])
    assert all(torch.equal(one, seen[6]) for one in seen[7:])
    assert small_config("erase_steps=11").erase_from == 8  # λ is at its maximum

    rows = store.indices(0)
    both = to_tensor(store.images[rows])
    both = torch.cat([both, both.flip(3)])
    labels = torch.from_numpy(store.select_labels(ATTRIBUTES)[rows]).repeat(2, 1)

    def correlation(images: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            f = torch.cat([part.flatten(1) for part in model.encode(images)], dim=1)
        return ((y - y.mean(0)) / y.std(0)).T @ ((f - f.mean(0)) / (f.std(0) + 1e-3)) / len(f)

    left = correlation(both, labels).abs().max()
    erasure, model.autoencoder.erasure = model.autoencoder.erasure, None
    assert left < 0.1 * correlation(both, labels).abs().max()
    model.autoencoder.erasure = erasure
    assert FaderModel.load(tmp_path / "run" / "model").autoencoder.erasure.measured


def test_a_killed_run_resumes_with_each_step_logged_once(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = [*SMALL, "steps=60", "ramp_steps=40", "checkpoint_minutes=0.002"]
    command = [sys.executable, "-m", "fader", "train", "--device", "cpu", "--out", str(run)]
    new = [
        *["--attrs", "Male,Eyeglasses", "--data", str(data), "--preset", "tiny"],
        *(part for setting in settings for part in ("-s", setting)),
    ]
    process = subprocess.Popen([*command, *new], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 300
    while not any(row["stage"] == 2 for row in read_rows(run / "metrics.jsonl")[10:]):
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline, "no second stage within five minutes"
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()

    done = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = read_rows(run / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, 61))
    expected = [lambda_at(step, 4, 40, 0.01) for step in range(60)]
    assert [row["lambda"] for row in rows] == pytest.approx(expected)


def test_only_the_newest_checkpoints_are_kept(data: Path, tmp_path: Path) -> None:
    config = small_config("checkpoint_minutes=0", "keep_checkpoints=2")
    Trainer(config, PreparedStore(data), tmp_path / "run").train()
    names = sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["step-00000011.pt", "step-00000012.pt"]


def test_divergence_stops_with_a_sentence_and_keeps_the_checkpoint(
    data: Path, tmp_path: Path
) -> None:
    config = small_config("checkpoint_minutes=0", "steps=200", "learning_rate=1e30")
    trainer = Trainer(config, PreparedStore(data), tmp_path / "run")
    with pytest.raises(FaderError, match="diverged at step"):
        trainer.train()
    for path in (tmp_path / "run" / "checkpoints").glob("*.pt"):
        state = torch.load(path, weights_only=True)
        assert state["step"] < trainer.done


def test_a_wild_batch_moves_the_weights_no_further_than_others(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(small_config("gradient_clip=2"), PreparedStore(data), tmp_path / "run")
    mse, norms = losses.reconstruction_mse, []

    def wild_once(decoded: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return mse(decoded, x) * (1e4 if trainer.done == 8 else 1)

    def norm(optimizer: torch.optim.Optimizer, *_: object) -> None:
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"]]
        norms.append(float(torch.nn.utils.get_total_norm(gradients)))

    monkeypatch.setattr(losses, "reconstruction_mse", wild_once)
    trainer.optimizers["autoencoder"].optimizer.register_step_pre_hook(norm)
    trainer.train()
    assert len(norms) == 12
    assert norms[8] <= 2 * max(norms[:8])
    assert norms[9] < norms[8]


def test_a_model_starts_from_another_by_attribute_name(data: Path, tmp_path: Path) -> None:
    store = PreparedStore(data)
    first = Trainer(small_config(), store, tmp_path / "first").train()
    values = small_config().to_dict()
    values["model"]["attributes"] = ("Smiling", "Eyeglasses")
    second = Trainer(
        TrainConfig.from_dict(values), store, tmp_path / "second", initial=first
    ).averaged_model()
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    for value in (0.0, 1.0):
        # Eyeglasses act as they did in the first model; Smiling does nothing yet.
        old = first.decode(first.encode(x), torch.tensor([[0.5, value]] * 2))
        for smiling in (0.0, 1.0):
            new = second.decode(second.encode(x), torch.tensor([[smiling, value]] * 2))
            assert old.shape == new.shape
        same = second.decode(second.encode(x), torch.tensor([[1.0, value]] * 2))
        assert torch.allclose(new, same)


def test_discriminators_start_from_another_run_s(data: Path, tmp_path: Path) -> None:
    store = PreparedStore(data)
    config = small_config("patch_weight=0.1")
    first = Trainer(config, store, tmp_path / "first")
    first.train()
    second = Trainer(config, store, tmp_path / "second", rivals=first.run)
    for name in ("discriminator", "images"):
        states = [trainer.bare(name).state_dict() for trainer in (first, second)]
        assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    with pytest.raises(FaderError, match="no run"):
        Trainer(config, store, tmp_path / "third", rivals=RunFolder(tmp_path / "none"))
    values = small_config("discriminator=perceptron").to_dict()
    with pytest.raises(FaderError, match="another kind"):
        Trainer(TrainConfig.from_dict(values), store, tmp_path / "third", rivals=first.run)
    values["model"]["attributes"] = ("Smiling", "Eyeglasses")
    with pytest.raises(FaderError, match="same attributes"):
        Trainer(TrainConfig.from_dict(values), store, tmp_path / "third", rivals=first.run)


def test_the_prior_is_what_the_batches_hold(data: Path) -> None:
    store = PreparedStore(data)
    rows = store.indices(0)
    labels = store.select_labels(("Eyeglasses", "Wearing_Hat"))[rows]
    for balance in (0.0, 1.0):
        batches = Batches(store, rows, labels, 200, Augmentation(flip=False), balance=balance)
        drawn = torch.cat([batches.batch(step)[1] for step in range(20)]).mean(dim=0)
        assert torch.allclose(batches.prior, drawn, atol=0.03)
        rare = abs(batches.prior - 0.5)
    assert (rare < abs(torch.from_numpy(labels).mean(dim=0) - 0.5)).all()  # balance evens it out


def test_a_change_that_is_grain_costs_more_than_one_that_is_a_patch() -> None:
    decoded = torch.zeros(1, 3, 32, 32)
    patch, grain = decoded.clone(), decoded.clone()
    patch[:, :, 8:24, 8:24] = 0.04
    grain[:, :, ::2, ::2] = 0.04
    assert torch.isclose(patch.sum(), grain.sum())
    assert losses.change_size(grain, decoded) > 2 * losses.change_size(patch, decoded)
    assert losses.change_size(decoded, decoded) == 0


def test_a_change_costs_twice_for_colour_and_little_more_for_a_larger_area() -> None:
    decoded = torch.zeros(1, 3, 32, 32)
    grey, red, large = decoded.clone(), decoded.clone(), decoded.clone()
    grey[:, :, 8:24, 8:24] = 0.2
    red[:, 0, 8:24, 8:24] = 0.6
    large[:, :, :, :] = 0.2
    assert losses.change_size(red, decoded) > 1.2 * losses.change_size(grey, decoded)
    assert (
        losses.change_size(grey, decoded)
        < losses.change_size(large, decoded)
        < 2 * losses.change_size(grey, decoded)
    )


def test_a_picture_is_as_real_as_its_least_real_place() -> None:
    small, large = torch.full((3, 4, 4), 2.0), torch.full((3, 16, 16), 2.0)
    small[1, 3, 0] = large[1, 3, 0] = -12
    small[2] = large[2] = -12
    verdict = losses.whole_verdict([small, large])
    assert verdict.shape == (3,)
    assert verdict[0] == pytest.approx(2, abs=1e-5) and verdict[2] == pytest.approx(-12, abs=1e-5)
    # One place of 16 gives it away, though it is softer on one of 256.
    assert losses.whole_verdict([small])[1] < losses.whole_verdict([large])[1] < -6

    def loss(changed: float) -> float:
        place = torch.full((3, 4, 4), 2.0)
        place[2, 1, 1] = changed
        return float(losses.patch_discriminator_loss([place], 1))

    assert loss(-12) < 0.5 * loss(2)
    generator = losses.patch_generator_loss
    assert generator([small[1:2]]) > 10 * generator([small[:1]])


def test_lost_texture_is_dissimilar_where_a_change_of_light_is_not() -> None:
    random = torch.Generator().manual_seed(0)
    x = torch.rand(2, 3, 32, 32, generator=random) - 0.5
    lighter, smooth = x + 0.1, torch.nn.functional.avg_pool2d(x, 3, stride=1, padding=1)
    assert losses.structural_dissimilarity(x, x).abs() < 1e-5
    assert losses.structural_dissimilarity(lighter, x) < 0.1
    assert losses.structural_dissimilarity(smooth, x) > 0.3
    reference = structural_similarity_index_measure(
        smooth / 2 + 0.5, x / 2 + 0.5, gaussian_kernel=False, kernel_size=7, data_range=1.0
    )
    lost = float(losses.structural_dissimilarity(smooth, x))
    assert lost == pytest.approx(1 - float(reference), abs=0.03)


def test_asked_values_are_one_flip_or_another_face_s() -> None:
    y = torch.tensor([[0.0, 0.9, 0.2], [1.0, 0.8, 0.1], [0.3, 0.1, 1.0], [0.6, 0.0, 0.9]])
    asked, changed = losses.asked_values(y, y.mean(dim=0), 0.5, torch.Generator().manual_seed(3))
    assert (changed[:2].sum(dim=1) == 1).all()
    assert torch.equal(asked[:2][~changed[:2]], y[:2][~changed[:2]])
    assert torch.equal(asked[2:], y[[3, 0]])
    assert changed[2:].tolist() == [[True, False, False], [True, True, True]]


def test_longer_moves_go_the_same_way_further_face_by_face() -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.rand((500, 3), generator=generator)
    asked, _ = losses.flip_one(y, y.mean(dim=0), generator)
    assert torch.equal(losses.lengthened(y, asked, 1, generator), asked)
    values = losses.lengthened(y, asked, 1.6, generator)
    moved = asked != y
    assert torch.equal(values[~moved], y[~moved])
    lengths = ((values - y) / (asked - y))[moved]
    assert lengths.min() < 1.05 and lengths.max() > 1.55
    assert lengths.min() > 1 - 1e-3 and lengths.max() < 1.6 + 1e-3
    # One length a face: another face's values still go together.
    both = losses.lengthened(y, y.roll(-1, dims=0), 1.6, generator) - y
    lengths = both / (y.roll(-1, dims=0) - y)
    assert (lengths.amax(dim=1) - lengths.amin(dim=1)).median() < 1e-3


def test_being_unconvinced_is_about_what_was_changed_only() -> None:
    y = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    changed = torch.tensor([[True, False], [True, False]])
    logits = torch.tensor([[3.0, -3.0], [3.0, -3.0]], requires_grad=True)
    fooled = losses.unconvinced_loss(logits, y, changed)
    fooled.backward()
    assert (logits.grad[:, 0] > 0).all() and not logits.grad[:, 1].any()
    assert losses.unconvinced_loss(-logits, y, changed) < fooled / 10


def test_both_directions_of_a_rare_attribute_get_their_turns() -> None:
    y = (torch.rand(4000, 2, generator=torch.Generator().manual_seed(0)) < 0.1).float()
    y[:, 1] = 0.5
    prior = torch.tensor([0.1, 0.5])
    asked, changed = losses.flip_one(y, prior, torch.Generator().manual_seed(1))
    assert (changed.sum(dim=1) == 1).all() and torch.equal(asked[~changed], y[~changed])
    rare = y[:, 0] == 1
    # Of the roots of 1 / 0.1 and 1 / 0.5, and of 1 / 0.9 and 1 / 0.5.
    assert changed[rare, 0].float().mean() == pytest.approx(3.16 / 4.58, abs=0.06)
    assert changed[~rare, 0].float().mean() == pytest.approx(1.05 / 2.47, abs=0.03)


def test_other_light_keeps_images_in_range_and_places() -> None:
    x = torch.zeros(64, 3, 16, 16)
    x[:, :, 4:8, 4:8] = 0.9
    seen = Augmentation(flip=False, colour=0.2)(x.clone(), np.random.default_rng(0))
    assert seen.abs().max() <= 1
    inside, outside = seen[:, :, 5, 5], seen[:, :, 0, 0]
    assert (inside > outside).all()
    assert torch.equal(seen[:, :, 4:8, 4:8], inside[:, :, None, None].expand(-1, -1, 4, 4))
    assert 0.1 < outside.std() < 0.3  # brightness differs from image to image
    assert (inside - outside).std(dim=1).mean() > 0.03  # and gain from channel to channel
    same = Augmentation(flip=False)(x.clone(), np.random.default_rng(0))
    assert torch.equal(same, x)


def test_the_image_discriminator_may_start_from_the_classifier(data: Path, tmp_path: Path) -> None:
    config = small_config(*EVERY_TERM, "image_discriminator=classifier")
    with pytest.raises(FaderError, match="image_discriminator=classifier is set but"):
        Trainer(config, PreparedStore(data), tmp_path / "run")
    classifier = AttributeClassifier(ClassifierConfig(size=32, width=4))
    kept = {name: value.clone() for name, value in classifier.state_dict().items()}
    trainer = Trainer(config, PreparedStore(data), tmp_path / "run", classifier=classifier)
    start = [p.detach().clone() for p in trainer.bare("images").features.parameters()]
    trainer.train()
    rows = read_rows(tmp_path / "run" / "metrics.jsonl")
    assert ["patch_discriminator_loss" in row for row in rows] == [False] * 4 + [True] * 8
    moved = zip(start, trainer.bare("images").features.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in moved)
    assert all(torch.equal(kept[name], value) for name, value in classifier.state_dict().items())


def test_what_is_looked_at_is_the_mean_of_the_copies(data: Path, tmp_path: Path) -> None:
    trainer = Trainer(small_config("copies=4"), PreparedStore(data), tmp_path / "run")
    network = trainer.bare("autoencoder").eval()
    x, y = trainer.batches.batch(0)
    with torch.no_grad():
        network.decoder[-1].up.weight.mul_(30)  # so that there is something to see
        expected = losses.reconstruction_mse(network.decode(network.encode(x, 4), y), x)
        single = losses.reconstruction_mse(network.decode(network.encode(x), y), x)
    loss = trainer.step(x, y)["reconstruction_loss"]
    assert loss == pytest.approx(float(expected), rel=1e-4)
    assert loss != pytest.approx(float(single), rel=1e-3)
    with pytest.raises(FaderError, match="copies=5: must be from 1 to 4"):
        small_config("copies=5")


def test_unknown_kinds_of_discriminator_and_target_are_named() -> None:
    with pytest.raises(FaderError, match="fresh or classifier"):
        small_config("image_discriminator=guide")
    with pytest.raises(FaderError, match="convolutions or perceptron"):
        small_config("discriminator=mlp")
    with pytest.raises(FaderError, match="opposite or prior"):
        small_config("adversarial_target=none")


def test_several_processes_draw_different_images(data: Path, tmp_path: Path) -> None:
    trainer = Trainer(small_config(), PreparedStore(data), tmp_path / "run")
    first, _ = trainer.batches.batch(5)
    again, _ = trainer.batches.batch(5)
    assert torch.equal(first, again)
    trainer.batches.rank = 1
    other, _ = trainer.batches.batch(5)
    assert not torch.equal(first, other)


def run_train(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["train", "--device", "cpu", *arguments])
    return result.exit_code, result.output


def test_without_data_the_message_says_how_to_get_some(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FADER_DATA", raising=False)
    code, output = run_train("--attrs", "Male,Young")
    assert code == 1
    assert "CelebA" in output and "fader synth" in output
    assert not (tmp_path / "runs").exists()


def test_bad_usage_of_train(data: Path, tmp_path: Path) -> None:
    code, output = run_train("--attrs", "Male,Yung")
    assert code == 2 and "did you mean Young" in output
    code, output = run_train()
    assert code == 2 and "--attrs" in output
    code, output = run_train("--attrs", "Male", "--preset", "huge", "--data", str(data))
    assert code == 1 and "tiny" in output


def test_a_second_run_does_not_overwrite_the_first(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ["--attrs", "Male", "--data", str(data), "--out", str(run), "--preset", "tiny"]
    options += [part for setting in [*SMALL, "steps=2"] for part in ("-s", setting)]
    assert run_train(*options)[0] == 0
    before = (run / "metrics.jsonl").read_bytes()
    code, output = run_train(*options)
    assert code == 1 and "--resume" in output
    assert (run / "metrics.jsonl").read_bytes() == before
    code, output = run_train("--resume", "--attrs", "Smiling", "--out", str(run))
    assert code == 1 and "Male" in output
    code, output = run_train("--resume", "--out", str(run), "-s", "model.width=16")
    assert code == 1 and "cannot change its model" in output
    # More steps are no other run, and a last stage may be added.
    assert run_train("--resume", "--out", str(run), "-s", "steps=3")[0] == 0
    more = ["steps=5", "pretrain_steps=1", "ramp_steps=1", "erase_steps=2"]
    more = [part for setting in more for part in ("-s", setting)]
    assert run_train("--resume", "--out", str(run), *more)[0] == 0
    assert [row["step"] for row in read_rows(run / "metrics.jsonl")] == [1, 2, 3, 4, 5]
    assert FaderModel.load(run / "model").autoencoder.erasure.measured
    code, output = run_train("--resume", "--out", str(run), "-s", "erase_steps=0")
    assert code == 1 and "cannot change its model" in output


def test_a_run_without_a_checkpoint_yet_still_begins_from_its_initial_model(
    data: Path, tmp_path: Path
) -> None:
    options = ["--attrs", "Male", "--data", str(data), "--preset", "tiny"]
    options += [part for setting in [*SMALL, "steps=1"] for part in ("-s", setting)]
    first, second = str(tmp_path / "first"), tmp_path / "second"
    assert run_train(*options, "--out", first)[0] == 0
    init = ["--init", f"{first}/model"]
    assert run_train(*options, "--out", str(second), *init)[0] == 0
    begun = FaderModel.load(second / "model").state_dict()
    for path in second.glob("checkpoints/*"):
        path.unlink()  # as if it had been killed before
    assert run_train("--resume", "--out", str(second))[0] == 0
    for name, value in FaderModel.load(second / "model").state_dict().items():
        assert torch.equal(begun[name], value), name


def test_the_classifier_beats_guessing_and_is_saved(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "classifier"
    result = CliRunner().invoke(
        main,
        [
            *["train-classifier", "--device", "cpu", "--data", str(data), "--out", str(out)],
            *["--size", "32", "--width", "8", "--steps", "300", "--batch-size", "16", "--json"],
        ],
    )
    assert result.exit_code == 0, result.output
    scores = json.loads(result.stdout)
    assert scores["Wearing_Hat"]["balanced_accuracy"] > 0.7
    assert "Big_Nose" not in scores  # drawn faces never have one
    from fader.models.io import load_classifier

    classifier = load_classifier(out / "model")
    assert classifier.config.attributes == tuple(scores)
    assert np.isfinite(scores["Male"]["accuracy"])


def test_a_classifiers_stopped_training_begins_again_and_a_finished_one_is_kept(
    data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "classifier"
    store, few = PreparedStore(data), ClassifierTraining(size=32, width=4, steps=2, batch_size=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fader.train.classifier.score_classifier", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_classifier(store, out, few)
    train_classifier(store, out, few)
    before = (out / "model" / "classifier.safetensors").read_bytes()
    with pytest.raises(FaderError, match="already holds a classifier"):
        train_classifier(store, out, few)
    assert (out / "model" / "classifier.safetensors").read_bytes() == before


def test_a_classifier_starts_from_another_of_its_kind(data: Path, tmp_path: Path) -> None:
    command = ["train-classifier", "--device", "cpu", "--data", str(data), "--size", "32"]
    command += ["--width", "4", "--batch-size", "4", "--learning-rate", "1e-9", "--steps", "1"]
    first, second = tmp_path / "first", tmp_path / "second"
    assert CliRunner().invoke(main, [*command, "--out", str(first)]).exit_code == 0
    result = CliRunner().invoke(main, [*command, "--out", str(second), "--init", str(first)])
    assert result.exit_code == 0, result.output
    from fader.models.io import load_classifier

    before, after = (load_classifier(run / "model").head[-1].weight for run in (first, second))
    assert torch.allclose(before, after, atol=1e-6)
    other = [*command, "--architecture", "plain", "--out", str(tmp_path / "third")]
    result = CliRunner().invoke(main, [*other, "--init", str(first)])
    assert result.exit_code == 1 and "architecture" in result.output


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_terminated_run_writes_a_checkpoint_first(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = [part for setting in [*SMALL, "steps=100000"] for part in ("-s", setting)]
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "fader",
            "train",
            "--device",
            "cpu",
            "--out",
            str(run),
            "--attrs",
            "Male",
            "--data",
            str(data),
            "--preset",
            "tiny",
            *settings,
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 300
    while not read_rows(run / "metrics.jsonl"):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline, "nothing logged within five minutes"
        time.sleep(0.02)
    process.terminate()
    _, message = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "--resume" in message and "Traceback" not in message
    assert len(list((run / "checkpoints").iterdir())) == 1


def test_a_classifier_that_lacks_an_attribute_is_refused(data: Path, tmp_path: Path) -> None:
    classifier = AttributeClassifier(ClassifierConfig(attributes=("Male",), size=32, width=4))
    with pytest.raises(FaderError, match="does not know Eyeglasses"):
        Trainer(small_config(), PreparedStore(data), tmp_path / "run", classifier=classifier)
    assert not (tmp_path / "run").exists()
