"""Training a generator as a user meets it: the run folder, pictures, stopping and going on."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from small_generators import class_folders, drawn, run_cgan, settings, small_config
from warm import start

from cgan.collapse import Signs, diversity
from cgan.config import presets
from cgan.gan import GanTrainer
from cgan.io import load_generator
from cgan.pictures import save_progress, snapshots
from fader.data.synthetic import write_dataset
from fader.errors import FaderError
from fader.train.run import read_rows


def test_a_run_leaves_snapshots_pictures_metrics_and_a_generator(tmp_path: Path) -> None:
    images = drawn()
    out = tmp_path / "run"
    GanTrainer(small_config(images), images, out, progress=False).train()
    rows = read_rows(out / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, 13))
    wanted = {"step", "generator_loss", "discriminator_loss", "images_per_second"}
    assert all(wanted <= row.keys() for row in rows)
    names = [p.name for p in sorted((out / "snapshots").iterdir())]
    assert names == [f"step-{step:08d}.png" for step in (0, 3, 6, 9, 12)]
    with Image.open(out / "progress.gif") as gif:
        assert gif.n_frames == 5
    with Image.open(out / "losses.png") as graph:
        assert graph.width > 400
    assert (out / "grid.png").read_bytes() == (out / "snapshots" / names[-1]).read_bytes()
    assert list((out / "tensorboard").iterdir())
    generator = load_generator(out)
    assert generator.label_names == ("dark", "bright") and generator.label_kind == "classes"
    assert generator.label_rows.sum(dim=1).eq(1).all()


def test_training_learns_what_the_classes_look_like(tmp_path: Path) -> None:
    images = drawn(64)
    config = small_config(images, "steps=150", "batch_size=16", "snapshot_every=150", "width=16")
    generator = GanTrainer(config, images, tmp_path / "run", progress=False).train()
    dark, bright = (generator.sample(16, 1, torch.full((16,), i)).mean() for i in (0, 1))
    real = [images.images[images.class_numbers == i].mean() / 127.5 - 1 for i in (0, 1)]
    assert bright - dark > 0.3 * (real[1] - real[0])


@pytest.mark.parametrize(
    "overrides",
    [
        ["loss=nonsaturating", "critic_norm=none", "r1_weight=1", "r1_interval=2"],
        ["critic=auxiliary", "diffaugment=color,translation,cutout", "ema_decay=0"],
        ["critic=both", "critic_norm=none", "self_modulation=true"],
    ],
)
def test_the_options_train(overrides: list[str], tmp_path: Path) -> None:
    for kind in (2, 0):
        images = drawn(classes=kind, channels=3)
        config = small_config(images, "steps=4", *overrides)
        trainer = GanTrainer(config, images, tmp_path / f"{kind}", progress=False)
        before = {k: v.clone() for k, v in trainer.bare("generator").state_dict().items()}
        trainer.train()
        after = trainer.bare("generator").state_dict()
        assert any(not torch.equal(before[name], after[name]) for name in before)


def test_the_plain_dcgan_trains(tmp_path: Path) -> None:
    images = drawn()
    GanTrainer(small_config(images, preset="dcgan"), images, tmp_path / "run").train()
    assert load_generator(tmp_path / "run").config.conditioning == "concat"


@pytest.mark.parametrize("target", [0, 0.01])
def test_resuming_gives_the_weights_of_an_uninterrupted_run(
    target: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = drawn()
    monkeypatch.setattr("cgan.augment.ADAPTATION", 16)  # by a quarter at each step
    kinds = "diffaugment=color,translation,cutout"
    config = small_config(images, kinds, f"augment_target={target}")
    whole = GanTrainer(config, images, tmp_path / "whole", progress=False)
    whole.train()
    for _ in range(20):
        exists = (tmp_path / "parts" / "config.json").exists()
        resumed = GanTrainer(config, images, tmp_path / "parts", resume=exists, progress=False)
        resumed.train(minutes=0 if resumed.done < 7 else None)  # one step and a backup
        if resumed.done == config.steps:
            break
    for name, value in whole.averaged_generator().state_dict().items():
        assert torch.equal(resumed.averaged_generator().state_dict()[name], value), name
    for path in snapshots(whole.run):
        assert (tmp_path / "parts" / "snapshots" / path.name).read_bytes() == path.read_bytes()
    rows = read_rows(resumed.run.metrics)
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert len({row.get("augmented") for row in rows}) > 1 or not target


def test_a_killed_run_resumes_with_no_snapshot_lost_or_doubled(tmp_path: Path) -> None:
    data, run, log = class_folders(tmp_path / "discs"), tmp_path / "run", tmp_path / "log"
    command = ["train", "--device", "cpu", "--out", run]
    new = ["--data", data, "--labels", "folder", "--channels", "1", "--preset", "tiny"]
    process = start(log, "cgan", *command, *new, *settings("steps=36", "snapshot_every=3"))
    deadline = time.monotonic() + 300
    while not (run / "snapshots" / "step-00000012.png").exists():
        assert process.is_alive(), log.read_text()
        assert time.monotonic() < deadline, "no fourth snapshot within five minutes"
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()

    done = start(log, "cgan", *command, "--resume")
    done.join()
    assert done.exitcode == 0, log.read_text()
    assert [row["step"] for row in read_rows(run / "metrics.jsonl")] == list(range(1, 37))
    expected = list(range(0, 37, 3))
    assert [row["step"] for row in read_rows(run / "validation.jsonl")] == expected
    names = sorted(p.name for p in (run / "snapshots").iterdir() if p.suffix == ".png")
    assert [n for n in names if n.startswith("step")] == [f"step-{s:08d}.png" for s in expected]
    with Image.open(run / "progress.gif") as gif:
        assert gif.n_frames == len(expected)


def test_a_terminated_run_says_how_to_go_on(tmp_path: Path) -> None:
    data, run, log = class_folders(tmp_path / "discs"), tmp_path / "run", tmp_path / "log"
    process = start(
        *(log, "cgan", "train", "--device", "cpu", "--out", run),
        *("--data", data, "--channels", "1", "--preset", "tiny", *settings("steps=100000")),
    )
    deadline = time.monotonic() + 300
    while not read_rows(run / "metrics.jsonl"):
        assert process.is_alive(), log.read_text()
        assert time.monotonic() < deadline, "nothing logged within five minutes"
        time.sleep(0.01)
    process.terminate()
    process.join(timeout=300)
    message = log.read_text()
    assert process.exitcode == 130
    assert "cgan train --resume --out" in message and "Traceback" not in message
    assert list((run / "checkpoints").iterdir())


def test_the_command_trains_and_refuses_to_overwrite(tmp_path: Path) -> None:
    data, run = class_folders(tmp_path / "discs"), tmp_path / "run"
    (data / "dark" / "broken.png").write_bytes(b"no image")
    options = ["train", "--data", data, "--labels", "folder", "--channels", 1, "--out", run]
    options += ["--preset", "tiny", "--device", "cpu", *settings("steps=2", "size=48")]
    code, output = run_cgan(*options, "--size", 32)
    assert code == 0, output
    assert "left out: dark/broken.png" in output and "12 images" in output
    assert f"1 file left out; {run / 'rejected.csv'} lists it" in output
    assert "dark/broken.png" in (run / "rejected.csv").read_text()
    assert load_generator(run).config.size == 32
    code, output = run_cgan(*options)
    assert code == 1 and "--resume" in output
    # More steps are no other run; another network is.
    assert run_cgan("train", "--resume", "--out", run, "--steps", 3, "--device", "cpu")[0] == 0
    code, output = run_cgan("train", "--resume", "--out", run, "-s", "width=16")
    assert code == 1 and "does not fit" in output
    # The same options again, with --resume.
    only = [
        "--data",
        class_folders(tmp_path / "more", 24),
        "--labels",
        "folder",
        "--only",
        "dark",
        "--out",
        tmp_path / "dark",
    ]
    only += ["--device", "cpu"]
    few = ["--channels", 1, "--preset", "tiny", *settings("steps=1", "size=32")]
    code, output = run_cgan("train", *only, *few)
    assert code == 0, output
    code, output = run_cgan("train", *only, *few, "--resume", "--steps", 2)
    assert code == 0, output
    code, output = run_cgan("train", *only, "--resume", "--preset", "dcgan")
    assert code == 2 and "not a --preset" in output
    # From the first generator's weights.
    other = ["--out", tmp_path / "other", "--init", run]
    assert run_cgan(*options[:-2], *settings("steps=1"), *other, "--size", 32)[0] == 0


def test_one_class_alone(tmp_path: Path) -> None:
    data, run = class_folders(tmp_path / "discs", 24), tmp_path / "run"
    options = ["--channels", 1, "--preset", "tiny", "--device", "cpu", *settings("steps=1")]
    code, output = run_cgan("train", "--data", data, "--only", "dark", "--out", run, *options)
    assert code == 0 and "12 images" in output
    assert load_generator(run).label_kind == "none"
    code, output = run_cgan("train", "--data", data, "--only", "drak", "--out", run / "2", *options)
    assert code == 1 and "the labels are bright, dark" in output and not (run / "2").exists()


def test_bad_usage_of_train(tmp_path: Path) -> None:
    code, output = run_cgan("train")
    assert code == 2 and "--data" in output
    code, output = run_cgan("train", "--data", tmp_path, "--labels", "Blond_Hare")
    assert code == 2 and "did you mean Blond_Hair" in output
    code, output = run_cgan("train", "--data", tmp_path, "--size", 50)
    assert code == 2 and "50" in output
    for options, said in ((("-s", "widht=8"), "did you mean width"), (("--preset", "x"), "tiny")):
        code, output = run_cgan("train", "--data", tmp_path, *options)
        assert code == 2 and said in output
    for preset, model in (("cvae", "cgan"), *((p, "cvae") for p in presets() if p != "cvae")):
        for chosen in (["--model", model], ["-s", f"model={model}"]):
            code, output = run_cgan("train", "--data", tmp_path, "--preset", preset, *chosen)
            assert code == 2
            assert f"--preset {preset} is for --model " in output and f"for {model};" in output
    code, output = run_cgan("train", "--data", tmp_path, "--preset", "tiny", "-s", "model=vae")
    assert code == 2 and "must be one of cgan, cvae" in output
    for i in range(3):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{i}.png")
    code, output = run_cgan("train", "--data", tmp_path, "--out", tmp_path / "run")
    assert code == 1 and "3 usable images" in output and not (tmp_path / "run").exists()


def test_runs_and_folders_of_another_kind_are_named(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text(json.dumps({"model": {"size": 64}}))
    code, output = run_cgan("train", "--resume", "--out", run)
    assert code == 1 and "is a run of fader train" in output
    celeba = tmp_path / "celeba"
    write_dataset(celeba, 12, seed=1)
    code, output = run_cgan(
        "train", "--data", celeba, "--labels", "folder", "--out", tmp_path / "x"
    )
    assert code == 1 and "is in CelebA's layout" in output
    assert run_cgan("train", "--data", celeba, "--minutes", -1)[0] == 2


def test_a_run_among_its_pictures_is_refused(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "discs")
    before = sorted(data.rglob("*"))
    for out in (data, data / "runs"):
        code, output = run_cgan("train", "--data", data, "--out", out, *settings("steps=1"))
        assert code == 1 and "lies in the folder of its data" in output
    assert sorted(data.rglob("*")) == before


def test_divergence_is_one_sentence(tmp_path: Path) -> None:
    images = drawn()
    config = small_config(images, "steps=200", "learning_rate=1e30", "critic_norm=none")
    with pytest.raises(FaderError, match="diverged at step"):
        GanTrainer(config, images, tmp_path / "run", progress=False).train()


def test_signs_name_collapse_and_a_discriminator_that_has_won() -> None:
    signs = Signs(real=0.4)
    for spread in (0.01, 0.1, 0.2, 0.3, 0.35):
        assert signs.snapshot(spread) == []
    for _ in range(100):
        signs.losses(0.001)
    (sentence,) = signs.snapshot(0.33)
    assert "discriminator's loss is near 0" in sentence
    found = [s for spread in (0.1, 0.08, 0.05, 0.05) for s in signs.snapshot(spread)]
    assert len(found) == 1 and "alike" in found[0]
    copy = Signs(real=0.4)
    copy.load_state_dict(signs.state_dict())
    assert copy.snapshot(0.05) == signs.snapshot(0.05) == []


def test_diversity_is_the_mean_distance_of_pairs() -> None:
    assert diversity(torch.zeros(5, 3, 32, 32)) == 0
    two = torch.stack([torch.full((1, 32, 32), -0.5), torch.full((1, 32, 32), 0.5)])
    assert diversity(two) == pytest.approx(1)


def test_a_collapsing_generator_is_warned_of(tmp_path: Path) -> None:
    images = drawn()
    told: list[str] = []
    config = replace(small_config(images), snapshot_every=1)
    trainer = GanTrainer(config, images, tmp_path / "run", progress=False, warn=told.append)
    trainer.signs.most = 10.0  # as if it had been various
    trainer.train()
    assert any("alike" in sentence for sentence in told)
    rows = read_rows(trainer.run.validation)
    assert any("alike" in sentence for row in rows for sentence in row["warnings"])


def test_pictures_of_a_folder_that_is_no_run(tmp_path: Path) -> None:
    code, output = run_cgan("progress", tmp_path)
    assert code == 1 and "no snapshots" in output


def test_a_long_run_s_gif_is_bounded(tmp_path: Path) -> None:
    images = drawn()
    trainer = GanTrainer(small_config(images, "steps=1"), images, tmp_path / "run", progress=False)
    trainer.train()
    first = snapshots(trainer.run)[0].read_bytes()
    for step in range(2, 300):
        (trainer.run.samples / f"step-{step:08d}.png").write_bytes(first[:])
    save_progress(trainer.run)
    with Image.open(trainer.run.path / "progress.gif") as gif:
        assert gif.n_frames <= 60
