"""Every script in ``tools`` loads, and tells what it does."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import click
import pytest
import torch
from click.testing import CliRunner
from paths import ROOT

SCRIPTS = sorted(
    path
    for path in (ROOT / "tools").glob("*.py")
    if "\ndef main(" in path.read_text(encoding="utf-8")
)


def loaded(path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"tool_{path.stem}", path)
    tool = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, tool)
    spec.loader.exec_module(tool)
    return tool


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_help(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = loaded(path, monkeypatch)
    assert isinstance(tool.main, click.Command)
    result = CliRunner().invoke(tool.main, ["--help"])
    assert result.exit_code == 0 and "Usage" in result.output


def test_a_simulated_cluster_does_every_photo_whatever_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tool = loaded(ROOT / "tools" / "simulate_cluster.py", monkeypatch)

    def run(*options: str) -> dict[str, float]:
        chosen = ["--photos", "1e5", "--rate", "2", "--nodes", "2", "--cores", "4", *options]
        result = CliRunner().invoke(tool.main, chosen)
        assert result.exit_code == 0, result.output
        return json.loads(result.output)

    smooth = run("--loss-hours", "1e9", "--slow", "0", "--fails", "0")
    assert smooth["core_hours"] == pytest.approx(1e5 / 2 / 3600, rel=0.01)
    assert smooth["ideal_hours"] <= smooth["hours"] < 1.1 * smooth["ideal_hours"]
    assert smooth["machines_lost"] == smooth["core_hours_lost"] == smooth["photos_tried_again"] == 0
    rough = run("--loss-hours", "1", "--slow", "0", "--fails", "1e-3", "--block", "500")
    assert rough["machines_lost"] and rough["blocks_done_again"] <= 4 * rough["machines_lost"]
    done = rough["core_hours"] - rough["core_hours_lost"]  # every block once, and what failed
    assert done == pytest.approx(1.001 * 1e5 / 2 / 3600, rel=0.02)
    assert rough["photos_tried_again"] == pytest.approx(100, abs=40)
    assert run("--slow", "1")["hours"] == pytest.approx(2 * smooth["hours"], rel=0.1)


def test_there_are_scripts() -> None:
    assert SCRIPTS


def test_measured_tables_go_into_the_packaged_card(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def value(number: float) -> dict[str, float]:
        return {"value": number, "low": number, "high": number, "n": 3}

    swap = {**value(0.75), "blurred": value(0.5), "pasted": value(0.25), "judge_accuracy": 0.875}
    document = {
        "swap_accuracy": {
            "attributes": {"Male": {"to_0": swap, "groups": {"Young=0": value(0.625)}}},
            **dict.fromkeys(("mean", "mean_blurred", "mean_pasted"), 0.5),
        },
        "other_attributes_kept": {"mean": 0.9375},
        "reconstruction": {"psnr": value(44.4), "ssim": value(1), "ms_ssim": value(1)},
        "leakage": {"mean": 0.5625, "shown": {"mean": None}},
        "outside_mask": {"mean": 41.2, "least": 39.8},
        "realism": {"mean": 2.25},
        "identity": {"mean": 0.875},
        "continuity": {"Male": {"spearman": value(1)}},
    }
    (tmp_path / "eval.json").write_text(json.dumps(document))
    card = tmp_path / "card.md"
    card.write_text((ROOT / "docs" / "model-card.md").read_text(encoding="utf-8"))
    tool = loaded(ROOT / "tools" / "card_tables.py", monkeypatch)
    for _ in range(2):  # what is measured again takes the place of what was
        result = CliRunner().invoke(tool.main, [str(tmp_path / "eval.json"), str(card)])
        assert result.exit_code == 0, result.output
    rows = card.read_text(encoding="utf-8").splitlines()
    for row in (
        "| Male → 0 | 0.75 (0.75–0.75) | 0.50 | 0.25 | 0.88 | 3 |",
        "| outside the mask of an edit | 41.2 dB PSNR, at least 39.8 |",
        "| Male | 0.62 (3) |",
    ):
        assert rows.count(row) == 1
    assert not any(row.startswith("| TODO") for row in rows)


@torch.no_grad()
def test_moves_are_as_long_as_the_classifier_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    tool = loaded(next(path for path in SCRIPTS if path.stem == "package"), monkeypatch)

    class Model:
        """Male brightens by its difference and is seen from 1.2 on, Smiling darkens; never seen."""

        attributes = ("Male", "Smiling")
        classifier = SimpleNamespace(config=SimpleNamespace(attributes=("Smiling", "Male")))

        def encode(self, x: torch.Tensor) -> list[torch.Tensor]:
            return [x]

        def decode(
            self, features: list[torch.Tensor], y: torch.Tensor, own: torch.Tensor
        ) -> torch.Tensor:
            return features[0] + (y - own)[:, :1, None, None]

    class Sees:
        config = Model.classifier.config

        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            level = x.mean(dim=(1, 2, 3))
            return torch.stack([torch.zeros_like(level) - 1, level - 1.2], dim=1)

    model = Model()
    model.classifier = Sees()
    own = torch.tensor([[0.0, 0.0]] * 4 + [[1.0, 1.0]] * 4)
    found = tool.strengths(model, torch.zeros(8, 3, 32, 32), own)
    assert found == {"Male": (1.0, 1.25), "Smiling": (1.0, 1.0)}
