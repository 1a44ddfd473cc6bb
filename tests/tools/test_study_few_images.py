"""The study of few images: its table, plot and pictures, and going on after a stop."""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from click.testing import CliRunner, Result
from paths import ROOT
from PIL import Image

_SMALL = ("width=4", "max_width=8", "critic_width=4", "critic_max_width=8", "latent=4",
          "batch_size=4", "mixed_precision=no")  # fmt: skip


@pytest.fixture(scope="module")
def study() -> ModuleType:
    path = ROOT / "tools" / "study_few_images.py"
    spec = importlib.util.spec_from_file_location("study_few_images", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 images to learn from and 12 held out."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for split, count in (("train", 24), ("test", 12)):
        (folder / split).mkdir()
        for i in range(count):
            small = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            Image.fromarray(small).resize((32, 32)).save(folder / split / f"{i}.png")
    return folder


def run(study: ModuleType, data: Path, out: Path, *more: str) -> Result:
    arguments = ["--data", str(data), "--out", str(out), "--size", "32", "--images", "12,all"]
    arguments += ["--diffaugment", "on", "-n", "20"]
    for setting in _SMALL:
        arguments += ["-s", setting]
    return CliRunner().invoke(study.main, [*arguments, *more], catch_exceptions=False)


def test_study_goes_on_where_it_was(study: ModuleType, pictures: Path, tmp_path: Path):
    out = tmp_path / "study"
    first = run(study, pictures, out, "--iterations", "0,1")
    assert first.exit_code == 0, first.output
    before = (out / "results.jsonl").read_text()
    second = run(study, pictures, out, "--iterations", "0,1,3")
    assert second.exit_code == 0, second.output
    assert "1/2: 12 images, DiffAugment, 3 iterations" in second.stderr

    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert (out / "results.jsonl").read_text().startswith(before)  # not made again
    assert {(row["images"], row["iterations"]) for row in rows} == {
        (images, iterations) for images in (12, 0) for iterations in (0, 1, 3)
    }
    assert len(rows) == 6 and len({row["frechet_real"] for row in rows}) == 1
    with open(out / "results.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["images"] for row in table] == ["12"] * 3 + ["all"] * 3
    text = (out / "results.md").read_text()
    assert "| all | on |" in text and "Fréchet distance" in text
    with Image.open(out / "study.png") as plot, Image.open(out / "samples.png") as samples:
        assert plot.width > 1000 and samples.size == (12 * 32, 6 * (32 + 14))


def test_another_setting_needs_another_folder(study: ModuleType, pictures: Path, tmp_path: Path):
    out = tmp_path / "study"
    assert run(study, pictures, out, "--iterations", "0", "--images", "12").exit_code == 0
    other = run(study, pictures, out, "--iterations", "0", "-s", "latent=8")
    assert other.exit_code == 1 and "another latent" in other.output


def test_more_images_than_there_are(study: ModuleType, pictures: Path, tmp_path: Path):
    found = run(study, pictures, tmp_path / "study", "--images", "50,all")
    assert found.exit_code == 1 and "24 training images, fewer than 50" in found.output


def test_estimate_says_minutes(study: ModuleType, pictures: Path, tmp_path: Path):
    found = run(study, pictures, tmp_path / "study", "--estimate", "--iterations", "0,50")
    assert found.exit_code == 0 and "4 scores of 2 generators in about" in found.output
    assert not (tmp_path / "study" / "results.jsonl").exists()
