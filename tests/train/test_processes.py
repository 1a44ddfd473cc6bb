"""Training in several processes: the steps of one, and on after a death."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from paths import ROOT

from fader.commands import main
from fader.data.prepare import prepare
from fader.data.synthetic import write_dataset
from fader.train.run import read_rows

SCRIPT = ROOT / "tests" / "support" / "training_in_parts.py"
RENDEZVOUS = ["--nproc-per-node=2", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]
SMALL = [
    *("pretrain_steps=0", "ramp_steps=1", "decay_steps=0", "log_every=1", "validate_every=100"),
    # An odd batch: the shares differ in how many images they have, and how many are edited.
    *("batch_size=11", "mixed_precision=no", "learning_rate=1e-4"),
    *("model.size=32", "model.layers=3", "model.width=8", "model.max_width=16"),
]
KINDS = {
    "paper": ["model.kind=paper", "lambda_max=0.1"],
    "difference": [
        *("model.kind=difference", "adversarial_target=prior", "lambda_rec=10", "lambda_max=0.1"),
        *("augmentation=1", "gradient_clip=3", "balance=0.5"),
    ],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    write_dataset(folder / "celeba", 60, seed=1, counterfactuals=False, progress=False)
    prepare(folder / "celeba", folder / "store", size=32, workers=1, progress=False)
    return folder / "store"


def options(data: Path, out: Path, steps: int, *settings: str) -> list[str]:
    given = [word for setting in (*SMALL, *settings, f"steps={steps}") for word in ("-s", setting)]
    attributes = ["--attrs", "Male,Eyeglasses"]
    place = ["--data", str(data), "--out", str(out), "--resume", "--device", "cpu"]
    return ["train", *attributes, *place, *given]


def run_alone(*arguments: str) -> None:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == 0, result.output


def run_in_two(arguments: list[str], launcher: list[str], **environment: str) -> str:
    """Run ``fader train`` in two processes; what they said on stderr."""
    command = [sys.executable, str(SCRIPT), *RENDEZVOUS, *launcher, "--", *arguments]
    done = subprocess.run(
        command,
        # Else a restart may find where the dead processes were, and wait for them.
        env={**os.environ, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def gradients(run: Path) -> dict[str, torch.Tensor]:
    """Each network's gradient in the first step, as Adam remembers it."""
    path = run / "checkpoints" / "step-00000001.pt"
    state: dict[str, Any] = torch.load(path, weights_only=True)
    return {
        name: torch.cat([p["exp_avg"].flatten() for p in optimizer["state"].values()])
        for name, optimizer in state["optimizers"].items()
    }


def assert_same_losses(run: Path, other: Path, within: float) -> None:
    rows, others = read_rows(run / "metrics.jsonl"), read_rows(other / "metrics.jsonl")
    assert [row["step"] for row in rows] == [row["step"] for row in others]
    # Of pairs of images, of which each process sees only its own.
    skipped = ("images_per_second", "image_discriminator_accuracy")
    for row, expected in zip(rows, others, strict=True):
        assert row.keys() == expected.keys()
        for name in row.keys() - set(skipped):
            assert row[name] == pytest.approx(expected[name], rel=within, abs=within), name


def test_two_processes_take_the_steps_of_one(data: Path, tmp_path: Path) -> None:
    in_two: list[str] = []
    for kind, settings in KINDS.items():
        in_two += ["then"] * bool(in_two) + options(data, tmp_path / "two" / kind, 1, *settings)
    run_in_two(in_two, [])
    for kind, settings in KINDS.items():
        one, two = tmp_path / "one" / kind, tmp_path / "two" / kind
        run_alone(*options(data, one, 1, *settings))
        expected = gradients(one)
        for name, gradient in gradients(two).items():
            assert (gradient - expected[name]).norm() < 1e-4 * expected[name].norm(), name
        for run in (one, two):  # goes on in one process
            run_alone(*options(data, run, 3, *settings))
        assert_same_losses(two, one, within=2e-3)


def test_a_killed_process_is_started_again_from_the_last_checkpoint(
    data: Path, tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    settings = [*KINDS["difference"], "checkpoint_minutes=0"]
    run_alone(*options(data, one, 6, *settings))
    run_alone(*options(data, two, 2, *settings))  # begins in one process
    launcher = ["--nnodes=1:2", "--max-restarts=3", "--rdzv-conf=last_call_timeout=1"]
    said = run_in_two(options(data, two, 6, *settings), launcher, FADER_TEST_DIES_AT="4")
    assert "rank 1 dies at step 4" in said
    assert "restarts: 1" in said
    assert_same_losses(two, one, within=2e-2)
