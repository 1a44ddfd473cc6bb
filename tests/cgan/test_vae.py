"""The conditional VAE as a user meets it: trained, drawn from, judged, and given photos."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from paths import ASTRONAUT
from PIL import Image
from small_generators import class_folders, drawn, run_cgan, settings, small_config

from cgan import losses
from cgan.config import GanConfig
from cgan.data import ImageSet
from cgan.io import generator_config, load_generator, save_generator
from cgan.networks import ConditionalVae, make_generator
from cgan.pictures import snapshots
from cgan.reconstruct import Redrawer
from cgan.vae import VaeTrainer
from fader.app.generators import Generators
from fader.errors import FaderError
from fader.train.run import read_rows

SMALL = {"model": "cvae", "size": 32, "width": 4, "max_width": 8, "latent": 8, "critic_width": 4}


def make(folder: Path, aligned: bool = True, **settings: object) -> Path:
    """A cVAE with random weights, as a run of cgan train keeps one."""
    torch.manual_seed(0)
    vae = make_generator(GanConfig(**SMALL, **settings))
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.normal_(0, 0.2)
    save_generator(vae.eval(), folder, {"aligned": aligned})
    return folder


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    return make(tmp_path / "faces", label_names=("Smiling", "Male"), label_kind="attributes")


@pytest.fixture
def moods(tmp_path: Path) -> Path:
    labels = {"label_names": ("happy", "sad"), "label_kind": "classes"}
    return make(tmp_path / "moods", aligned=False, channels=1, **labels)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


# ---------------------------------------------------------------- network and losses


@pytest.mark.parametrize(
    "changes",
    [{"size": 28, "channels": 1}, {"size": 48}, {"size": 96}, {"size": 128, "residual": True}],
)
def test_encoder_and_decoder_of_every_size(changes: dict) -> None:
    config = GanConfig(**{**SMALL, **changes}, label_names=("a", "b"), label_kind="attributes")
    vae = make_generator(config)
    assert isinstance(vae, ConditionalVae)
    x, y = torch.rand(4, config.channels, config.size, config.size) * 2 - 1, torch.rand(4, 2)
    mean, log_variance = vae.encode(x, y)
    assert mean.shape == log_variance.shape == (4, config.latent)
    assert vae(mean, y).shape == x.shape
    assert not torch.allclose(mean, vae.encode(x, 1 - y)[0])


def test_the_losses_are_those_of_the_papers() -> None:
    normal, unit = torch.distributions.Normal, torch.tensor([[0.5, -1.0]])
    own = normal(unit, torch.tensor([[0.5, 2.0]]))
    expected = torch.distributions.kl_divergence(own, normal(0.0, 1.0)).sum()
    assert losses.kl_divergence(unit, 2 * own.scale.log()) == pytest.approx(float(expected))
    x = torch.rand(5, 3, 8, 8)
    decoded = x + 0.1 * torch.randn_like(x)
    spread = (decoded - x).square().mean().sqrt()
    expected = -normal(decoded, spread).log_prob(x).mean()  # at the likeliest spread
    assert losses.reconstruction_loss(decoded, x) == pytest.approx(float(expected), abs=1e-3)
    assert torch.isfinite(losses.reconstruction_loss(x, x))
    z, y = torch.randn(400, 2), (torch.randn(400, 1) > 0).float()
    assert losses.label_correlation(z, y) < 0.1
    told = torch.cat([z, -3 * y], dim=1)  # a latent that says the label, in whatever unit
    assert losses.label_correlation(told, y) == pytest.approx(1, abs=0.1)
    assert losses.label_correlation(told, torch.ones(400, 1)) == 0


# ---------------------------------------------------------------- training


def test_training_learns_to_redraw_and_what_the_classes_look_like(tmp_path: Path) -> None:
    images = drawn(64)
    images.images[1::2] = 255 - images.images[1::2]  # of the bright class the ground is bright
    more = ["model=cvae", "steps=150", "batch_size=16", "snapshot_every=75", "width=16"]
    config = small_config(images, *more, "learning_rate=3e-3", "kl_warmup_steps=100")
    out = tmp_path / "run"
    vae = VaeTrainer(config, images, out, progress=False).train()
    rows = read_rows(out / "metrics.jsonl")
    assert rows[-1]["reconstruction_loss"] < rows[0]["reconstruction_loss"] - 0.5
    assert rows[-1]["kl_loss"] > 1
    dark, bright = (vae.sample(16, 1, torch.full((16,), i)).mean() for i in (0, 1))
    assert bright - dark > 0.5
    with Image.open(out / "grid.png") as grid:  # images, redrawn, and a row for each class
        assert grid.size == (8 * 32, 4 * (32 + 14))
    with Image.open(out / "progress.gif") as gif:
        assert gif.n_frames == 3
    with Image.open(out / "losses.png") as graph:
        assert graph.width > 400
    assert isinstance(load_generator(out), ConditionalVae)
    notes = generator_config(out / "model")["training"]
    assert notes["steps"] == 150 and notes["aligned"] is False and "diffaugment" not in notes


def test_resuming_gives_the_weights_of_an_uninterrupted_run(tmp_path: Path) -> None:
    images = drawn(classes=0, channels=3)
    config = small_config(images, "model=cvae", "steps=6")
    whole = VaeTrainer(config, images, tmp_path / "whole", progress=False)
    whole.train()
    VaeTrainer(config, images, tmp_path / "parts", progress=False).train(minutes=0)
    resumed = VaeTrainer(config, images, tmp_path / "parts", resume=True, progress=False)
    assert resumed.done == 1
    resumed.train()
    for name, value in whole.averaged_generator().state_dict().items():
        assert torch.equal(resumed.averaged_generator().state_dict()[name], value), name
    for path in snapshots(whole.run):
        assert (tmp_path / "parts" / "snapshots" / path.name).read_bytes() == path.read_bytes()


def test_the_command_trains_resumes_and_keeps_its_kind(tmp_path: Path) -> None:
    data, run = class_folders(tmp_path / "discs"), tmp_path / "run"
    options = ["--data", data, "--labels", "folder", "--channels", 1, "--device", "cpu"]
    # --resume where nothing began yet begins, as for a script that is started again and again.
    for flags, out in (([], tmp_path / "first"), (["--resume"], run)):
        code, output = run_cgan(
            *("train", *flags, *options, "--model", "cvae", "--out", out),
            *settings("steps=2", "latent=9"),
        )
        assert code == 0, output
        saved = json.loads((out / "config.json").read_text())
        assert saved["model"] == "cvae" and saved["correlation_weight"] == 100  # its preset
    code, output = run_cgan("train", "--resume", "--out", run, "--model", "cgan")
    assert code == 1 and "was started with --model cvae" in output
    code, output = run_cgan("train", "--resume", "--out", run, "--steps", 3, "--device", "cpu")
    assert code == 0, output
    code, output = run_cgan("train", *options, "--out", tmp_path / "x", "--model", "vae")
    assert code == 2 and "cvae" in output
    # A run begun before there were two kinds is a cGAN's.
    old = tmp_path / "old"
    code, output = run_cgan(
        *("train", *options, "--preset", "tiny", "--out", old, *settings("steps=1"))
    )
    assert code == 0, output
    values = json.loads((old / "config.json").read_text())
    (old / "config.json").write_text(json.dumps({k: v for k, v in values.items() if k != "model"}))
    code, output = run_cgan("train", "--resume", "--out", old, "--model", "cvae")
    assert code == 1 and "was started with --model cgan" in output
    assert run_cgan("train", "--resume", "--out", old, "--steps", 2, "--device", "cpu")[0] == 0


def test_a_divergence_and_a_setting_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FaderError, match="model=vae: must be one of cgan, cvae"):
        GanConfig(model="vae")
    with pytest.raises(FaderError, match="kl_warmup_steps=0: must be at least 1"):
        GanConfig(kl_warmup_steps=0)
    images = drawn()
    config = small_config(images, "model=cvae", "steps=60", "learning_rate=1e30")
    with pytest.raises(FaderError, match="diverged at step"):
        VaeTrainer(config, images, tmp_path / "run", progress=False).train()


# ---------------------------------------------------------------- where generators are taken


def test_it_is_drawn_from_as_any_generator(faces: Path, tmp_path: Path) -> None:
    out = tmp_path / "grid.png"
    code, output = run_cgan(
        *("generate", "--model", faces, "--set", "Smiling=1", "-n", 3, "--seed", 1, "-o", out)
    )
    assert code == 0, output
    assert pixels(out).shape == (32, 96, 3)
    page = Generators(tmp_path)
    assert "faces" in {one["name"] for one in page.catalogue()}
    assert len(page.draw("faces", 3, seed=1, values="Smiling=1").images) == 3


def test_an_evaluation_says_how_well_it_redraws(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "discs", 48)
    vae, report = make(tmp_path / "vae", channels=1), tmp_path / "report.html"
    options = ["evaluate", "--data", data, "-n", 20]
    code, output = run_cgan(*options, "--model", vae, "--html", report)
    assert code == 0, output
    (row,) = [line for line in output.splitlines() if line.startswith("PSNR")]
    assert 0 < float(row.split()[5]) < 30
    assert "redrawn" in report.read_text()


def test_a_perfect_copy_has_sixty_decibels() -> None:
    from cgan.evaluate.metrics import psnr

    images = drawn().images
    assert psnr(images, images).value == 60
    assert psnr(np.full_like(images, 0), np.full_like(images, 255)).value == pytest.approx(0)


# ---------------------------------------------------------------- photos


def test_photos_are_redrawn_with_what_is_asked(faces: Path, tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    command = ["reconstruct", ASTRONAUT, ASTRONAUT.with_name("none.jpg"), "--model", faces]
    code, output = run_cgan(*command, "--set", "Smiling=0", "--set", "Smiling=1", "-o", out)
    # The one photo is drawn though the other is not there.
    assert (
        code == 1 and f"Error: {ASTRONAUT.with_name('none.jpg')}" in output and str(out) in output
    )
    sheet = pixels(out)
    assert sheet.shape == (32 + 14 + 14, 4 * 32, 3)
    photo, redrawn, without, smiling = (sheet[28:, i : i + 32] for i in range(0, 128, 32))
    assert (without != smiling).any() and (photo != redrawn).any()
    # The photo is as training saw its faces.
    from fader.faces.align import align
    from fader.faces.detect import Detector
    from fader.photo import open_photo

    whole = open_photo(ASTRONAUT).pixels
    assert (photo == align(whole, Detector()(whole)[0].landmarks, 32)).all()
    # She smiles, which is what the redrawing is told unless --label says otherwise.
    assert (redrawn == smiling).all()
    again = ["reconstruct", ASTRONAUT, "--model", faces, "--label", "Smiling=0", "-o", out]
    code, output = run_cgan(*again)
    assert code == 1 and "--overwrite" in output
    assert run_cgan(*again, "--overwrite")[0] == 0
    assert (pixels(out)[28:, 32:] != redrawn).any()


def test_attributes_that_nobody_can_estimate_are_off_or_said(tmp_path: Path) -> None:
    names = ("Smiling", "Pirate")
    model = make(tmp_path / "own", label_names=names, label_kind="attributes")
    redrawer = Redrawer(model)
    _, y = redrawer.take(ASTRONAUT)
    assert y.tolist() == [[1, 0]]
    assert redrawer.labelled(y, "Pirate=1").tolist() == [[1, 1]]


def test_of_classes_the_photo_s_must_be_said(moods: Path, tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    command = ["reconstruct", ASTRONAUT, "--model", moods, "-o", out]
    code, output = run_cgan(*command)
    assert code == 1 and "--label; the model knows happy, sad" in output and not out.exists()
    code, output = run_cgan(*command, "--label", "Happy", "--set", "sadd")
    assert code == 2 and "the labels are happy, sad" in output and not out.exists()
    code, output = run_cgan(*command, "--label", "Happy", "--set", "sad")
    assert code == 0, output
    assert pixels(out).shape == (60, 96)  # grey
    whole = pixels(out)[28:, :32]
    code, output = run_cgan(*command, "--label", "happy", "--face", 1, "--overwrite")
    assert code == 0, output
    with Image.open(ASTRONAUT) as image:
        grey = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.BOX)).astype(int)
    # The whole photo as that model's images were taken, and only with --face the face in it.
    assert np.abs(whole - grey).mean() < 12
    assert np.abs(pixels(out)[28:, :32] - grey).mean() > 20


def test_one_photo_turns_into_another(faces: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.png"
    with Image.open(ASTRONAUT) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(other)
    command = ["reconstruct", ASTRONAUT, other, "--model", faces, "--interpolate", 5]
    code, output = run_cgan(*command, "-o", tmp_path / "strip.png")
    assert code == 0, output
    strip = pixels(tmp_path / "strip.png")
    assert strip.shape == (32, 7 * 32, 3)
    code, output = run_cgan("reconstruct", *command[1:-2], "-o", tmp_path / "sheet.png")
    sheet = pixels(tmp_path / "sheet.png")
    ends = strip[:, 32:64], strip[:, -64:-32]
    assert np.abs(ends[0] - sheet[28:60, 32:]).max() <= 1
    assert np.abs(ends[1] - sheet[74:, 32:]).max() <= 1
    code, output = run_cgan(*command, "--set", "Male=+0.5", "-o", tmp_path / "strip.gif")
    assert code == 0, output
    with Image.open(tmp_path / "strip.gif") as gif:
        assert gif.n_frames == 8 and gif.size == (32, 64)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--set", "Young=1"], 1, "knows Smiling, Male"),
        (["--set", "Smiling=7"], 1, "from 0 to 1"),
        (["--set", "2:Smiling=1"], 1, "--face says which"),
        (["--set", "Smilling=1"], 2, "did you mean Smiling?"),
        (["--label", "happy"], 2, "not NAME=VALUE"),
        (["--face", "9"], 1, "there is no face 9"),
        *((["--interpolate", few], 2, "2<=x<=200") for few in "01"),
        (["--interpolate", "5"], 2, "from one photo to another; 1 given"),
        (["-o", "x.gif"], 2, "a GIF needs --interpolate"),
        (["-o", "x.txt"], 2, "ends in .png"),
        (["-o", "photo.png"], 1, "never overwritten"),
        (["--model", "plain", "--set", "Smiling=1"], 1, "no labels, so there is nothing to set"),
        (["--model", "gan"], 1, "cgan train --model cvae"),
        (["--model", "nowhere"], 1, "no such generator"),
    ],
)
def test_what_cannot_be_reconstructed(
    faces: Path, tmp_path: Path, monkeypatch, arguments: list, code: int, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with Image.open(ASTRONAUT) as image:
        image.save("photo.png")
    before = Path("photo.png").read_bytes()
    make(tmp_path / "plain")
    save_generator(make_generator(GanConfig(**{**SMALL, "model": "cgan"})), tmp_path / "gan")
    found, output = run_cgan(
        *("reconstruct", "photo.png", "--model", faces, "-o", "out.png", "--overwrite", *arguments)
    )
    assert (found, words in output) == (code, True), output
    assert not list(tmp_path.glob("out.*")) and Path("photo.png").read_bytes() == before


def test_a_photo_without_a_face_is_named(faces: Path, tmp_path: Path) -> None:
    grey = tmp_path / "grey.png"
    cv2.imwrite(str(grey), np.full((80, 80, 3), 128, np.uint8))
    code, output = run_cgan("reconstruct", grey, "--model", faces, "-o", tmp_path / "out.png")
    assert code == 1 and f"{grey}: no face found" in output and not (tmp_path / "out.png").exists()


def test_faces_of_a_store_are_aligned_and_other_images_are_not(celeba, tmp_path: Path) -> None:
    from cgan.data import open_images

    def opened(labels: str | tuple[str, ...], path: Path) -> ImageSet:
        return open_images(path, 32, 3, labels, progress=False)

    folder = celeba(n=12)
    assert opened(("Smiling",), folder).aligned and opened("none", folder).aligned
    assert not opened("folder", class_folders(tmp_path / "discs")).aligned


def test_a_diverged_training_is_one_sentence(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "data", 24)
    # Seen by the snapshot before it is logged, and the other way round.
    for every in ("log_every=10", "snapshot_every=1"), ("log_every=1", "snapshot_every=9"):
        code, output = run_cgan(
            "train", "--data", data, "--labels", "folder", "--channels", 1, "--model", "cvae",
            "--out", tmp_path / every[0], *settings("learning_rate=1e30", *every),
        )  # fmt: skip
        assert code == 1 and "Error: " in output, output


def test_it_draws_codes_such_as_those_of_images() -> None:
    torch.manual_seed(0)
    vae = make_generator(GanConfig(model="cvae", size=32, width=4, critic_width=4, latent=3))
    mixed = torch.tensor([[3.0, 0, 0], [1, 0.1, 0], [0, 0, 1]])
    mean = torch.randn(4000, 3) @ mixed.T + torch.tensor([1.0, 0, -2])
    vae.fit_codes(mean, torch.full((4000, 3), -4.0))
    z = vae.latents(4000, seed=1)
    wanted = torch.cov(mean.T) + torch.exp(torch.tensor(-4.0)) * torch.eye(3)
    torch.testing.assert_close(z.mean(dim=0), mean.mean(dim=0), atol=0.2, rtol=0)
    torch.testing.assert_close(torch.cov(z.T), wanted, atol=0.5, rtol=0.05)
    assert torch.equal(vae.latents(5, seed=1), z[:5])
    near = vae.latents(4000, seed=1, truncation=0.5)
    torch.testing.assert_close(near - vae.codes_mean, (z - vae.codes_mean) / 2)
