"""The table of a cGAN, a cVAE and the Fader Network."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from paths import ROOT
from PIL import Image

from cgan.config import GanConfig
from cgan.io import save_generator
from cgan.networks import make_generator
from fader.data.prepare import prepare
from fader.data.store import PreparedStore
from fader.data.synthetic import write_dataset
from fader.models.config import AutoencoderConfig
from fader.models.model import FaderModel

LABELS = ("Male", "Black_Hair")
KNOWN = ("Black_Hair", "Male", "Blond_Hair")
SMALL = {"size": 32, "width": 4, "max_width": 8, "latent": 8, "critic_width": 4}


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("kinds", ROOT / "tools" / "compare_kinds.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def generator(folder: Path, model: str, labels: tuple[str, ...] = LABELS, **settings: Any) -> str:
    torch.manual_seed(0)
    chosen = {"label_kind": "attributes", **SMALL, **settings}
    config = GanConfig(model=model, label_names=labels, **chosen)
    save_generator(make_generator(config).eval(), folder, {})
    return str(folder)


def fader_model(size: int = 32) -> FaderModel:
    torch.manual_seed(0)
    config = AutoencoderConfig("difference", size, 3, KNOWN, width=4, max_width=8)
    return FaderModel(config).eval()


def test_every_kind_is_asked_for_the_labels_of_the_same_real_pictures(
    tool: ModuleType, tmp_path: Path
) -> None:
    write_dataset(tmp_path / "drawn", 200, seed=1, counterfactuals=False, progress=False)
    store = tmp_path / "store"
    prepare(tmp_path / "drawn", store, size=32, workers=1, progress=False)
    fader_model().save(tmp_path / "fader")
    models = [generator(tmp_path / kind, kind) for kind in ("cgan", "cvae")]
    options = ["--data", store, "--faces", store, "--model", tmp_path / "fader", "-n", 15]
    options += ["--picture", tmp_path / "rows.png"]
    result = CliRunner().invoke(tool.main, [*models, *map(str, options)])
    assert result.exit_code == 0, result.output
    heading, _, *rows = [line.strip("| ").split(" | ") for line in result.stdout.splitlines()]
    assert heading[-7:-5] == list(LABELS)
    kinds = [row[0].split(":")[0] for row in rows]
    assert kinds == ["cgan", "cvae", "Fader Network", "real pictures"]
    assert all(0 <= float(row[i]) <= 1 for row in rows for i in (1, 2, 4, 5))
    assert float(rows[-1][6]) == 1  # their own sharpness is the unit
    with Image.open(tmp_path / "rows.png") as picture:
        assert picture.width == tool.SHOWN * 32 and picture.height == 4 * 32

    grey = generator(tmp_path / "grey", "cgan", channels=1)
    plain = generator(tmp_path / "plain", "cgan", (), label_kind="none")
    other = generator(tmp_path / "other", "cgan", ("Male", "Smiling"))
    wide = str(tmp_path / "wide")
    fader_model(64).save(Path(wide))
    for arguments, sentence in (
        ([models[0], other], f"{other}: other labels"),
        ([models[0], grey], f"{grey}: other labels, size or colours"),
        ([grey], f"{grey}: does not draw in colour"),
        ([plain], f"{plain}: does not draw in colour"),
        (["nobody"], "nobody: no such generator"),
        ([models[0], "--model", wide], f"{store}: has faces of 32 pixels"),
        ([models[0], "--picture", tmp_path / "no" / "rows.png"], "there is no folder"),
    ):
        refused = CliRunner().invoke(tool.main, [str(a) for a in (*options, *arguments)])
        assert refused.exit_code == 1 and refused.output.startswith("Error: "), arguments
        assert sentence in refused.output.splitlines()[-1]
    assert CliRunner().invoke(tool.main, [*models, *map(str, options), "-n", "1"]).exit_code == 2


def test_faces_are_edited_to_the_labels_and_what_they_exclude_is_taken_off(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, told = fader_model(), []
    decode = model.decode
    monkeypatch.setattr(model, "decode", lambda f, to, own: told.append(to) or decode(f, to, own))
    faces = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    own = np.array([[0, 1, 1], [1, 0, 0], [0, 0, 1]])
    labels = np.array([[True, True], [False, True], [True, False]])
    tool.edited(model, LABELS, labels, faces, own)
    assert torch.cat(told).tolist() == [[1, 1, 0], [1, 0, 0], [0, 1, 1]]


def test_a_blurred_picture_is_less_sharp(tool: ModuleType) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    blurred = np.asarray(Image.fromarray(picture).resize((16, 16)).resize((32, 32)))
    assert tool.sharpness(blurred[None]) < tool.sharpness(picture[None]) / 2


def test_the_test_part_alone_is_edited(tool: ModuleType, tmp_path: Path) -> None:
    write_dataset(tmp_path / "drawn", 60, seed=1, counterfactuals=False, progress=False)
    prepare(tmp_path / "drawn", tmp_path / "store", size=32, workers=1, progress=False)
    fader_model().save(tmp_path / "fader")
    store = PreparedStore(tmp_path / "store")
    names, size, rows = tool.makers(
        (generator(tmp_path / "cgan", "cgan"),),
        str(tmp_path / "fader"),
        tmp_path / "store",
        np.zeros((50, 2), bool),
        0,
    )
    *_, fader = rows.values()
    assert (names, size) == (LABELS, 32)
    assert len(fader()) == len(store.indices(2))
