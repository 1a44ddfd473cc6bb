"""Training as a user meets it: stages, the run folder, stopping and going on."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from small_trainings import ATTRIBUTES, SMALL, small_config
from warm import start

from fader.commands import main
from fader.data.batches import Augmentation, Batches
from fader.data.prepare import prepare
from fader.data.store import PreparedStore
from fader.data.synthetic import write_dataset
from fader.errors import FaderError
from fader.models.classifier import AttributeClassifier, ClassifierConfig
from fader.models.model import FaderModel
from fader.train import losses
from fader.train.classifier import ClassifierTraining, photographic, train_classifier
from fader.train.config import TrainConfig, apply_overrides, load_preset, presets
from fader.train.edits import View, draw_edits, flip_one, other_side
from fader.train.run import read_rows
from fader.train.schedule import lambda_at, learning_rate_at
from fader.train.share import Share, check_batch_size
from fader.train.trainer import Trainer

DIFFERENCE = [
    "model.kind=difference",
    "adversarial_target=prior",
    "lambda_rec=10",
    "augmentation=1",
    "gradient_clip=0.5",  # always at work
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    write_dataset(folder / "celeba", 400, seed=1, counterfactuals=False, progress=False)
    prepare(folder / "celeba", folder / "store", size=32, workers=1, progress=False)
    return folder / "store"


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


def test_a_run_in_stages_is_that_of_one_command_for_each(data: Path, tmp_path: Path) -> None:
    last = small_config(*DIFFERENCE, "logit_adjustment=1", "lambda_adv=1", "learning_rate=2e-4")
    first = {
        "steps": 8,
        "decay_steps": 2,
        "logit_adjustment": 0.0,
        "lambda_adv": 0.5,
        "learning_rate": 1e-3,
    }
    staged = TrainConfig.from_dict({**last.to_dict(), "stages": [first]})
    assert TrainConfig.from_dict(staged.to_dict()) == staged
    store = PreparedStore(data)
    whole = weights(trained := Trainer(staged, store, tmp_path / "staged"))
    trained.train()
    assert any(not torch.equal(value, weights(trained)[name]) for name, value in whole.items())

    Trainer(TrainConfig.from_dict(last.to_dict() | first), store, tmp_path / "run").train()
    again = Trainer(last, store, tmp_path / "run", resume=True)
    again.train()
    ours, theirs = weights(trained), weights(again)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_best_step_is_one_of_the_last_stage(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter((0.9, 0.8, 0.7, 0.6, 0.5, 0.4))
    found = {"kept": 1.0, "reconstruction_loss": 0.0}
    monkeypatch.setattr(
        "fader.train.trainer.validate", lambda *_: {"swap_accuracy": next(scores), **found}
    )
    config = small_config(*DIFFERENCE, "steps=12", "validate_every=2").to_dict()
    staged = TrainConfig.from_dict({**config, "stages": [{"steps": 8}]})
    Trainer(staged, PreparedStore(data), tmp_path / "run").train()
    assert FaderModel.load(tmp_path / "run" / "best").training_notes["steps"] == 10


def test_what_is_set_holds_in_every_stage(data: Path, tmp_path: Path) -> None:
    stages = [
        {"steps": 10, "lambda_keep": 0.5, "learning_rate": 2e-3},
        {"steps": 20, "lambda_keep": 2.0},
    ]
    preset = {"steps": 30, "lambda_keep": 1.0, "learning_rate": 5e-4, "stages": stages}
    values = apply_overrides(preset, ["learning_rate=1e-3", "steps=99"])
    config = TrainConfig.from_dict(values)
    steps = (0, 9, 10, 19, 20)
    assert {config.at(step).learning_rate for step in steps} == {1e-3}
    assert [config.at(step).steps for step in steps] == [10, 10, 20, 20, 99]
    assert [config.at(step).lambda_keep for step in steps] == [0.5, 0.5, 2, 2, 1]
    with pytest.raises(FaderError, match="cannot be set this way"):
        apply_overrides(values, ["stages=1"])
    stages = [{"steps": 8}, {"steps": 4}]
    with pytest.raises(FaderError, match="each must end at a later step"):
        TrainConfig.from_dict({"stages": stages})
    with pytest.raises(FaderError, match=r"there is no setting stages\.batch_size"):
        TrainConfig.from_dict({"stages": [{"steps": 4, "batch_size": 2}]})


def test_a_run_leaves_metrics_samples_checkpoints_and_a_model(data: Path, tmp_path: Path) -> None:
    config = small_config(*DIFFERENCE)
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
    # In stage 1 nothing is edited; the attribute head learns on photos from the first step.
    for term in ("realism_loss", "edit_loss", "mask_loss", "image_discriminator_accuracy"):
        assert [term in row for row in rows] == [False] * 4 + [True] * 8
    assert all("recognition_loss" in row for row in rows)
    samples = sorted(path.name for path in (tmp_path / "run" / "samples").iterdir())
    assert samples == [f"step-{step:08d}.jpg" for step in (0, 6, 12)]
    assert Image.open(tmp_path / "run" / "reals.png").size == (3 * 32, 3 * 32)
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    model = FaderModel.load(tmp_path / "run" / "model")
    assert model.attributes == ATTRIBUTES
    assert model.training_notes["steps"] == 12
    assert FaderModel.load(tmp_path / "run" / "best").attributes == ATTRIBUTES


def test_training_lowers_the_reconstruction_loss(data: Path, tmp_path: Path) -> None:
    config = small_config("steps=60", "pretrain_steps=60", "batch_size=16", "log_every=10")
    Trainer(config, PreparedStore(data), tmp_path / "run").train()
    first, *_, last = read_rows(tmp_path / "run" / "metrics.jsonl")
    assert last["reconstruction_loss"] < 0.5 * first["reconstruction_loss"]


def test_resuming_gives_the_weights_of_an_uninterrupted_run(data: Path, tmp_path: Path) -> None:
    store = PreparedStore(data)
    whole = Trainer(small_config(*DIFFERENCE), store, tmp_path / "whole")
    whole.train()

    config = small_config(*DIFFERENCE)
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


def test_an_interrupt_within_a_step_is_held_until_the_step_is_whole(
    data: Path, tmp_path: Path, interruptible: None
) -> None:
    config, store = small_config(*DIFFERENCE, "steps=6", "ramp_steps=1"), PreparedStore(data)
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


def test_a_killed_run_resumes_with_each_step_logged_once(data: Path, tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    settings = [*SMALL, "steps=30", "ramp_steps=20", "checkpoint_minutes=0.002"]
    command = ["train", "--device", "cpu", "--out", run]
    new = [
        *["--attrs", "Male,Eyeglasses", "--data", data, "--preset", "tiny"],
        *(part for setting in settings for part in ("-s", setting)),
    ]
    process = start(log, "fader", *command, *new)
    deadline = time.monotonic() + 300
    while not any(row["stage"] == 2 for row in read_rows(run / "metrics.jsonl")[10:]):
        assert process.is_alive(), log.read_text()
        assert time.monotonic() < deadline, "no second stage within five minutes"
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.join()

    done = start(log, "fader", *command, "--resume")
    done.join()
    assert done.exitcode == 0, log.read_text()
    rows = read_rows(run / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, 31))
    expected = [lambda_at(step, 4, 20, 0.01) for step in range(30)]
    assert [row["lambda"] for row in rows] == pytest.approx(expected)


def test_only_the_newest_checkpoints_are_kept(data: Path, tmp_path: Path) -> None:
    config = small_config("checkpoint_minutes=0")
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
        y = torch.tensor([[0.5, value]] * 2)
        old = first.decode(first.encode(x), y, y)
        for smiling in (0.0, 1.0):
            y = torch.tensor([[smiling, value]] * 2)
            new = second.decode(second.encode(x), y, y)
            assert old.shape == new.shape
        y = torch.tensor([[1.0, value]] * 2)
        assert torch.allclose(new, second.decode(second.encode(x), y, y))


def test_a_difference_model_starts_from_another_by_attribute_name(
    data: Path, tmp_path: Path
) -> None:
    store = PreparedStore(data)
    first = Trainer(small_config(*DIFFERENCE), store, tmp_path / "first").train()
    values = small_config(*DIFFERENCE).to_dict()
    values["model"]["attributes"] = ("Smiling", "Eyeglasses")
    second = Trainer(
        TrainConfig.from_dict(values), store, tmp_path / "second", initial=first
    ).averaged_model()
    x, own = torch.rand(2, 3, 32, 32) * 2 - 1, torch.zeros(2, 2)

    @torch.no_grad()
    def shown(model: FaderModel, *values: float) -> torch.Tensor:
        return model.decode(model.encode(x), torch.tensor([values] * 2), own)

    assert torch.allclose(shown(second, 0.0, 1.0), shown(first, 0.0, 1.0), atol=1e-6)
    assert torch.allclose(shown(second, 1.0, 0.0), shown(second, 0.0, 0.0), atol=1e-6)


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


def test_a_rare_combination_of_frequent_labels_is_drawn_more_often(data: Path) -> None:
    store = PreparedStore(data)
    labels = np.repeat(np.array([[0, 0], [1, 1], [1, 0]], np.float32), [48, 48, 4], axis=0)
    rows = np.arange(len(labels)) % len(store.images)
    drawn = []
    for balance in (0.0, 0.5, 1.0):
        batches = Batches(store, rows, labels, 500, Augmentation(), balance=balance, combined=True)
        y = torch.cat([batches.labels_of(step) for step in range(20)])
        drawn.append(float(((y[:, 0] == 1) & (y[:, 1] == 0)).float().mean()))
        assert torch.allclose(batches.prior, y.mean(dim=0), atol=0.03)
    # Of n images, n to the power of 1 - balance.
    expected = [4 / 100, 2 / (2 + 2 * 48**0.5), 1 / 3]
    assert drawn == pytest.approx(expected, abs=0.02)


def test_edits_are_one_flip_or_another_face_s_values(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("Male", "Smiling", "Young")
    y = torch.tensor([[0.0, 0.9, 0.2], [1.0, 0.8, 0.1], [0.3, 0.1, 1.0], [0.6, 0.0, 0.9]])
    monkeypatch.setattr("fader.train.edits.SHUFFLED", 0.5)
    edits = draw_edits(y, 4, y.mean(dim=0), names, torch.Generator().manual_seed(3))
    assert (edits.changed[:2].sum(dim=1) == 1).all()
    assert torch.equal(edits.target[:2][~edits.changed[:2]], y[:2][~edits.changed[:2]])
    assert torch.equal(edits.target[2:], y[[3, 0]])
    assert edits.changed[2:].tolist() == [[True, False, False], [True, True, True]]
    assert not edits.difference[:2][~edits.changed[:2]].any()


def test_half_of_the_edits_end_at_the_target_and_others_before_or_beyond() -> None:
    random = torch.Generator().manual_seed(0)
    y = (torch.rand((2000, 3), generator=random) < 0.5).float()
    names = ("Male", "Smiling", "Young")
    edits = draw_edits(y, len(y), y.mean(dim=0), names, random)
    moved = edits.target != y
    lengths = (edits.difference / (edits.target - y))[moved]
    assert 0.25 <= lengths.min() < 0.3 and 1.45 < lengths.max() <= 1.5 + 1e-6
    assert (lengths - 1).abs().lt(1e-6).float().mean() == pytest.approx(0.5, abs=0.05)
    assert edits.asked.min() >= 0 and edits.asked.max() <= 1
    half = (lengths - 0.5).abs() < 0.02
    assert (edits.asked[moved][half] - 0.5).abs().max() < 0.021


def test_both_directions_of_a_rare_attribute_get_their_turns() -> None:
    y = (torch.rand(4000, 2, generator=torch.Generator().manual_seed(0)) < 0.1).float()
    y[:, 1] = 0.5
    prior = torch.tensor([0.1, 0.5])
    asked = flip_one(y, prior, ("Bald", "Male"), torch.Generator().manual_seed(1))
    changed = asked != y
    assert (changed.sum(dim=1) == 1).all()
    rare = y[:, 0] == 1
    # Of the roots of 1 / 0.1 and 1 / 0.5, and of 1 / 0.9 and 1 / 0.5.
    assert changed[rare, 0].float().mean() == pytest.approx(3.16 / 4.58, abs=0.06)
    assert changed[~rare, 0].float().mean() == pytest.approx(1.05 / 2.47, abs=0.03)


def test_hair_that_turns_blond_is_no_longer_black() -> None:
    names = ("Black_Hair", "Blond_Hair", "Male")
    y = torch.tensor([[1.0, 0.0, 1.0]] * 3)
    asked = other_side(y, torch.tensor([1, 0, 2]), names)
    assert asked.tolist() == [[0, 1, 1], [0, 0, 1], [1, 0, 0]]


def test_a_picture_is_as_real_as_its_least_real_place() -> None:
    small, large = torch.full((3, 4, 4), 2.0), torch.full((3, 16, 16), 2.0)
    small[1, 3, 0] = large[1, 3, 0] = -12
    small[2] = large[2] = -12
    of_small, of_large = losses.whole_verdicts([small, large])
    assert of_small[0] == pytest.approx(2, abs=1e-5)
    assert of_small[2] == pytest.approx(-12, abs=1e-5)
    # One place of 16 gives it away, though it is softer on one of 256.
    assert of_small[1] < of_large[1] < -6


def test_a_discriminator_that_tells_photos_by_a_margin_has_nothing_to_learn() -> None:
    sure = torch.tensor([2.0, 2.0, -2.0, -2.0])[:, None, None].expand(4, 2, 2)
    assert losses.hinge_discriminator_loss([sure], 2) == 0
    assert losses.separation([sure], 2) == 1
    assert losses.hinge_discriminator_loss([-sure], 2) == pytest.approx(6)
    assert losses.separation([-sure], 2) == 0
    assert losses.realism_loss([sure[2:]])[0] == pytest.approx(2)


def test_an_adjusted_head_sees_a_rare_value_as_readily_as_its_opposite() -> None:
    """On images that say nothing the head answers each value's frequency, or with the adjustment
    nothing at all."""
    y = torch.zeros(100, 2)
    y[:5, 0] = y[:50, 1] = 1
    share = y.mean(dim=0)
    for adjustment, expected in ((0.0, share), (1.0, torch.full((2,), 0.5))):
        logits = torch.zeros(2, requires_grad=True)
        optimizer = torch.optim.LBFGS([logits], max_iter=50)
        offset = losses.prior_logits(share, adjustment)

        def loss(logits=logits, optimizer=optimizer, offset=offset) -> torch.Tensor:
            optimizer.zero_grad()
            value, _ = losses.image_discriminator_loss([], logits.expand(100, 2), y, offset)
            value.backward()
            return value

        optimizer.step(loss)
        assert torch.allclose(logits.sigmoid(), expected, atol=0.01)


def test_what_is_not_asked_for_is_to_be_seen_as_in_the_photo() -> None:
    own = torch.tensor([[0.3, -2.0]])
    asked, changed = torch.tensor([[0.0, 1.0]]), torch.tensor([[False, True]])

    def loss(kept: float, moved: float) -> float:
        logits = torch.tensor([[kept, moved]])
        return float(losses.edit_loss(logits, asked, changed, own)[0])

    assert loss(0.3, 2.9) < min(loss(1.3, 2.9), loss(-0.7, 2.9), loss(0.3, 0.0))
    assert loss(0.3, 2.9) < loss(0.3, 9.0)  # more than convinced is caricature


def test_what_is_to_stay_weighs_as_the_settings_say(data: Path, tmp_path: Path) -> None:
    own, seen = torch.tensor([[0.3, -2.0]]), torch.tensor([[1.3, 2.9]])
    asked, changed = torch.tensor([[0.0, 1.0]]), torch.tensor([[False, True]])

    def loss(keep: float) -> float:
        weights = Share(0, 1).weights(changed, changed, keep)
        return float(losses.edit_loss(seen, asked, changed, own, weights)[0])

    assert loss(1.0) > loss(0.0)
    assert loss(2.0) - loss(1.0) == pytest.approx(loss(1.0) - loss(0.0))
    first = {}
    for keep in (0.5, 2.0):
        config = small_config(*DIFFERENCE, f"lambda_keep={keep}", "steps=6")
        Trainer(config, PreparedStore(data), tmp_path / str(keep)).train()
        rows = read_rows(tmp_path / str(keep) / "metrics.jsonl")
        first[keep] = next(row["edit_loss"] for row in rows if "edit_loss" in row)
    assert first[2.0] > first[0.5]  # the same first edits, dearer


def test_an_edit_has_to_convince_whoever_knows_how_frequent_a_value_is() -> None:
    """Of a rare value: taking it off gains nothing from its being rare, putting it on is harder."""
    offset = losses.prior_logits(torch.tensor([0.1]), 1.0)
    put_on, taken_off = torch.tensor([[1.0]]), torch.tensor([[0.0]])
    assert losses.handicap_of(put_on, offset) == offset / 2 < 0
    assert losses.handicap_of(taken_off, offset) == 0
    assert losses.handicap_of(taken_off, -offset) == -offset / 2 > 0  # now a frequent one
    changed, own = torch.tensor([[True]]), torch.zeros(1, 1)

    def loss(logit: float, asked: torch.Tensor) -> float:
        logits = logit + losses.handicap_of(asked, offset)
        return float(losses.edit_loss(logits, asked, changed, own)[0])

    assert loss(2.9, put_on) > loss(2.9 - float(offset) / 2, put_on)  # 0.95 is not enough there
    assert loss(-2.9, taken_off) < loss(-2.0, taken_off)


def test_a_mask_that_is_grain_costs_more_than_one_that_is_a_patch() -> None:
    x = torch.zeros(1, 3, 32, 32)
    patch, grain = torch.zeros(1, 1, 32, 32), torch.zeros(1, 1, 32, 32)
    patch[:, :, 8:24, 8:24] = 1
    grain[:, :, ::2, ::2] = 1
    assert patch.sum() == grain.sum()

    def loss(mask: torch.Tensor, edited: torch.Tensor) -> torch.Tensor:
        return losses.mask_loss(mask, edited, x)[0]

    assert loss(grain, x) > 2 * loss(patch, x)
    assert loss(0 * patch, x) == 0
    assert loss(patch, x + 0.1) > loss(patch, x)


def test_half_a_mask_may_cost_more_than_a_whole_one_of_half_the_area() -> None:
    x = torch.zeros(1, 3, 32, 32)
    patch, haze = torch.zeros(1, 1, 32, 32), torch.zeros(1, 1, 32, 32)
    patch[:, :, :, :8] = 1
    haze[:, :, :, :16] = 0.5

    def loss(mask: torch.Tensor, binary: float) -> torch.Tensor:
        return losses.mask_loss(mask, x, x, binary=binary)[0]

    assert loss(haze, 0) < loss(patch, 0)  # its border is softer
    assert loss(haze, 1) > loss(patch, 1) == loss(patch, 0)


def test_photos_and_edits_are_seen_through_the_same_view() -> None:
    x = torch.rand(4, 3, 32, 32)
    for seed in range(8):
        view = View(4, 32, torch.Generator().manual_seed(seed))
        assert torch.equal(view(x)[:2], view(x[:2], 2))
        assert (view(x).mean(dim=(1, 2, 3)) - x.mean(dim=(1, 2, 3))).abs().max() < 0.2
        view(x.requires_grad_()).sum().backward()
        assert x.grad is not None
        x = x.detach()


def test_an_unknown_target_is_named() -> None:
    with pytest.raises(FaderError, match="opposite or prior"):
        small_config("adversarial_target=none")


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


def test_several_processes_share_the_batch_of_one(data: Path, tmp_path: Path) -> None:
    trainer = Trainer(small_config("augmentation=1"), PreparedStore(data), tmp_path / "run")
    batches = trainer.faces.batches
    whole, values = batches.batch(5)
    assert torch.equal(whole, batches.batch(5)[0])
    assert not torch.equal(whole, batches.batch(6)[0])
    for rank in range(3):
        share = Share(rank, 3)
        x, y = batches.batch(5, share.rows)
        assert torch.equal(y, values) and torch.equal(x, whole[share.rows])
        view = View(8, 32, torch.Generator().manual_seed(2), share.rows)
        assert torch.equal(view(x), View(8, 32, torch.Generator().manual_seed(2))(whole)[rank::3])


def test_a_batch_too_small_for_all_processes_is_refused() -> None:
    config = small_config(*DIFFERENCE)
    check_batch_size(config, 2)
    with pytest.raises(FaderError, match=r"batch_size=8: .* among 3 processes; set it to 13 or"):
        check_batch_size(config, 3)
    check_batch_size(small_config(), 8)  # the paper's objective reconstructs all images


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
    assert code == 2 and "tiny" in output
    code, output = run_train("--attrs", "Male", "--steps", "0", "--data", str(data))
    assert code == 2 and "--steps" in output
    code, output = run_train("--attrs", "Male", "-s", "stesp=3", "--data", str(data))
    assert code == 2 and "did you mean steps" in output


@pytest.mark.parametrize("command", ["train --attrs Male", "train-classifier", "prepare"])
def test_a_single_picture_is_no_data(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("photo.jpg", "photo"):  # known by its name or by its content
        Image.new("RGB", (178, 218)).save(name, "JPEG")
        given = [name, "out"] if command == "prepare" else ["--data", name, "--out", "out"]
        result = CliRunner().invoke(main, [*command.split(), *given])
        assert result.exit_code == 1
        assert f"{name}: is a single picture, and no data set; give a folder" in result.stderr
    assert not Path("out").exists()


@pytest.mark.parametrize("command", ["train", "train-classifier"])
def test_a_run_among_its_data_is_refused(command: str, data: Path) -> None:
    before = sorted(data.rglob("*"))
    of_it: list[str] = []
    if command == "train":
        of_it = ["--attrs", "Male", "--preset", "tiny"]
        of_it += [part for setting in SMALL for part in ("-s", setting)]
    for out in (data, data / "runs" / "mine"):
        result = CliRunner().invoke(
            main, [command, "--device", "cpu", *of_it, "--data", str(data), "--out", str(out)]
        )
        assert result.exit_code == 1 and "lies in the folder of its data" in result.output
    assert sorted(data.rglob("*")) == before


def test_a_run_that_already_lies_among_its_data_goes_on(data: Path, tmp_path: Path) -> None:
    store = shutil.copytree(data, tmp_path / "store")
    options = ["--attrs", "Male", "--preset", "tiny", "--data", str(store)]
    options += [part for setting in (*SMALL, "steps=1") for part in ("-s", setting)]
    assert run_train(*options, "--out", str(tmp_path / "run"))[0] == 0
    shutil.move(tmp_path / "run", store / "run")
    for forgotten in (False, True):
        if forgotten:  # as of a run of an older version
            (store / "run" / "inputs.json").unlink()
        code, output = run_train(
            "--resume", "--out", str(store / "run"), "--data", str(store), "-s", "steps=2"
        )
        assert code == 0, output


def test_a_dry_run_says_what_a_run_would_be_and_leaves_nothing(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = ["--attrs", "Male,Eyeglasses", "--data", str(data), "--preset", "tiny", "--dry-run"]
    options += ["--out", str(out)]
    options += [part for setting in [*SMALL, *DIFFERENCE] for part in ("-s", setting)]
    code, output = run_train(*options)
    assert code == 0, output
    for setting in dataclasses.fields(TrainConfig)[1:]:
        assert f"  {setting.name} = " in output and setting.metadata["help"] in output
    for words in ("kind = difference", "Male, Eyeglasses", "million", "images/s", "12 steps"):
        assert words in output
    code, output = run_train(*options, "--steps", "7")  # counts, as in cgan train
    assert code == 0 and "7 steps" in output and "steps = 7 " in output
    code, output = run_train(*options, "--json")
    found = json.loads(output)
    assert found["data"]["images"] == {
        name: len(PreparedStore(data).indices(i))
        for i, name in enumerate(("train", "valid", "test"))
    }
    assert 0 < found["data"]["share"]["Male"] < 1
    assert found["parameters"].keys() == {"autoencoder", "latent", "images"}
    assert found["cost"]["images_per_second"] > 0
    assert not out.exists()


def test_a_run_of_an_older_version_goes_on(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ["--attrs", "Male", "--data", str(data), "--out", str(run), "--preset", "tiny"]
    options += [part for setting in [*SMALL, *DIFFERENCE] for part in ("-s", setting)]
    assert run_train(*options, "--minutes", "0")[0] == 0
    saved = json.loads((run / "config.json").read_text())
    older = {name: value for name, value in saved.items() if name != "augmentation"}
    older |= {"rotation": 2, "zoom": 0.03, "shift": 0.01, "colour": 0.04, "flip": True}
    older |= {"unchanged": 0.2, "shuffled": 0.3, "longest": 1.5, "adam_beta1": 0.5}
    older |= {"sample_every": 6, "validation_images": 256, "keep_checkpoints": 2}
    (run / "config.json").write_text(json.dumps({**older, "discriminator_rate": 3}))
    code, output = run_train("--resume", "--out", str(run))
    assert code == 0, output
    assert json.loads((run / "config.json").read_text()) == saved


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
    # More steps are no other run.
    assert run_train("--resume", "--out", str(run), "--steps", "3")[0] == 0
    assert [row["step"] for row in read_rows(run / "metrics.jsonl")] == [1, 2, 3]


def test_one_command_begins_a_run_and_goes_on_with_it(data: Path, tmp_path: Path) -> None:
    options = ["--attrs", "Male", "--data", str(data), "--out", str(tmp_path), "--preset", "tiny"]
    options += [part for setting in [*SMALL, "steps=2"] for part in ("-s", setting)]
    assert run_train(*options, "--resume", "--minutes", "0")[0] == 0
    code, output = run_train(*options, "--resume")  # as a launcher repeats it
    assert code == 0, output
    assert [row["step"] for row in read_rows(tmp_path / "metrics.jsonl")] == [1, 2]
    code, output = run_train("--resume", "--out", str(tmp_path), "--preset", "default")
    assert code == 2 and "not a --preset" in output
    (tmp_path / "config.json").write_text(json.dumps({"model": "cgan"}))
    code, output = run_train("--resume", "--out", str(tmp_path))
    assert code == 1 and "is a run of cgan train" in output


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
    from fader.models.pretrained import load_classifier

    classifier = load_classifier(out / "model")
    assert classifier.config.attributes == tuple(scores)
    assert np.isfinite(scores["Male"]["accuracy"])


def test_a_classifiers_stopped_training_goes_on_and_a_finished_one_is_kept(
    data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "classifier"
    store, few = PreparedStore(data), ClassifierTraining(size=32, width=4, steps=2, batch_size=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fader.train.classifier.score_classifier", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_classifier(store, out, few)
    train_classifier(store, out, few, resume=True)
    before = (out / "model" / "classifier.safetensors").read_bytes()
    with pytest.raises(FaderError, match="already holds a run"):
        train_classifier(store, out, few)
    assert (out / "model" / "classifier.safetensors").read_bytes() == before


def test_a_resumed_classifier_is_that_of_an_uninterrupted_training(
    data: Path, tmp_path: Path, interruptible: None
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    command = ["train-classifier", "--device", "cpu", "--size", "32", "--width", "4"]
    command += ["--steps", "6", "--batch-size", "4", "--data", str(data), "--out"]
    handler = signal.getsignal(signal.SIGTERM)
    assert CliRunner().invoke(main, [*command, str(whole)]).exit_code == 0
    assert signal.getsignal(signal.SIGTERM) is handler  # the command's own ends with it
    seen = []

    def interrupted(x: torch.Tensor, random: torch.Generator) -> torch.Tensor:
        seen.append(1)
        if len(seen) == 3:
            signal.raise_signal(signal.SIGINT)
        return photographic(x, random)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fader.train.classifier.photographic", interrupted)
        stopped = CliRunner().invoke(main, [*command, str(parts)])
    assert stopped.exit_code == 130 and "--resume" in stopped.stderr
    assert [path.name for path in (parts / "checkpoints").iterdir()] == ["step-00000003.pt"]
    again = ["train-classifier", "--device", "cpu", "--resume", "--out", str(parts)]
    refused = CliRunner().invoke(main, [*again, "--width", "8"])
    assert refused.exit_code == 1 and "--width 4" in refused.output
    refused = CliRunner().invoke(main, [*again, "--init", str(whole)])
    assert refused.exit_code == 1 and "without --init" in refused.output
    result = CliRunner().invoke(main, again)
    assert result.exit_code == 0, result.output
    weights = [(run / "model" / "classifier.safetensors").read_bytes() for run in (whole, parts)]
    assert weights[0] == weights[1]
    # The whole command again, as a script has it, changes nothing; nor does it need a run.
    assert CliRunner().invoke(main, [*command, str(parts), "--resume"]).exit_code == 0
    fresh = [*command, str(tmp_path / "fresh"), "--resume"]
    assert CliRunner().invoke(main, fresh).exit_code == 0


def test_a_classifier_starts_from_another_of_its_kind(data: Path, tmp_path: Path) -> None:
    command = ["train-classifier", "--device", "cpu", "--data", str(data), "--size", "32"]
    command += ["--width", "4", "--batch-size", "4", "--learning-rate", "1e-9", "--steps", "1"]
    first, second = tmp_path / "first", tmp_path / "second"
    assert CliRunner().invoke(main, [*command, "--out", str(first)]).exit_code == 0
    result = CliRunner().invoke(main, [*command, "--out", str(second), "--init", str(first)])
    assert result.exit_code == 0, result.output
    from fader.models.pretrained import load_classifier

    before, after = (load_classifier(run / "model").head[-1].weight for run in (first, second))
    assert torch.allclose(before, after, atol=1e-6)
    other = [*command, "--architecture", "plain", "--out", str(tmp_path / "third")]
    result = CliRunner().invoke(main, [*other, "--init", str(first)])
    assert result.exit_code == 1 and "architecture" in result.output


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_terminated_run_writes_a_checkpoint_first(data: Path, tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    settings = [part for setting in [*SMALL, "steps=100000"] for part in ("-s", setting)]
    process = start(
        *(log, "fader", "train", "--device", "cpu", "--out", run),
        *("--attrs", "Male", "--data", data, "--preset", "tiny", *settings),
    )
    deadline = time.monotonic() + 300
    while not read_rows(run / "metrics.jsonl"):
        assert process.is_alive(), log.read_text()
        assert time.monotonic() < deadline, "nothing logged within five minutes"
        time.sleep(0.02)
    process.terminate()
    process.join(timeout=300)
    message = log.read_text()
    assert process.exitcode == 130
    assert "--resume" in message and "Traceback" not in message
    assert len(list((run / "checkpoints").iterdir())) == 1


def test_a_classifier_that_lacks_an_attribute_is_refused(data: Path, tmp_path: Path) -> None:
    classifier = AttributeClassifier(ClassifierConfig(attributes=("Male",), size=32, width=4))
    with pytest.raises(FaderError, match="does not know Eyeglasses"):
        Trainer(small_config(), PreparedStore(data), tmp_path / "run", classifier=classifier)
    assert not (tmp_path / "run").exists()
