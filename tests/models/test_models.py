"""The networks and their files."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fader.data.batches import to_images, to_tensor
from fader.errors import FaderError
from fader.evaluate.editing import paste
from fader.models import small_maps
from fader.models.autoencoder import Autoencoder, DecoderLayer
from fader.models.classifier import ClassifierConfig
from fader.models.config import AutoencoderConfig
from fader.models.difference import DifferenceAutoencoder
from fader.models.discriminators import ImageDiscriminator, LatentDiscriminator
from fader.models.folders import model_info
from fader.models.model import FaderModel
from fader.models.pretrained import load_classifier, load_model

TINY = {"size": 32, "layers": 3, "attributes": ("Male", "Smiling"), "width": 8, "max_width": 16}
VARIANTS = [
    {},
    {"conditioning": "modulation"},
    {"conditioning": "modulation", "blur_upsampling": True},
    {"skip": 1},
    {"skip": 2, "conditioning": "modulation"},
    {"instance_norm": True},
]


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_every_variant_heeds_the_attributes(options: dict) -> None:
    network = Autoencoder(AutoencoderConfig(**TINY, **options)).eval()
    x = (torch.rand(3, 3, 32, 32) * 2 - 1).repeat(2, 1, 1, 1)
    y = torch.tensor([[0.0, 0.0]] * 3 + [[1.0, 0.0]] * 3)
    latent, decoded = network(x, y)
    assert latent.shape[1:] == network.config.latent_shape
    assert decoded.shape == (6, 3, 32, 32)
    assert decoded.abs().max() <= 1
    assert not torch.allclose(decoded[:3], decoded[3:])


def difference_network(**options) -> DifferenceAutoencoder:
    torch.manual_seed(0)
    return DifferenceAutoencoder(AutoencoderConfig(kind="difference", **TINY, **options)).eval()


def test_a_difference_of_zero_passes_every_skip_untouched() -> None:
    network = difference_network()
    skip, h = torch.rand(2, 16, 8, 8), torch.rand(2, 16, 4, 4)
    level = network.decoder[0]
    joined = []
    level.join.register_forward_pre_hook(lambda _, inputs: joined.append(inputs[0][:, 16:]))
    level(h, skip, torch.zeros(2, 2))
    level(h, skip, torch.tensor([[1.0, 0.0], [0.0, -1.0]]))
    assert torch.equal(joined[0], skip)
    assert not torch.allclose(joined[1], skip)


@torch.no_grad()
def test_an_edit_is_the_image_but_for_what_the_mask_lets_through() -> None:
    model = FaderModel(AutoencoderConfig(kind="difference", **TINY)).eval()
    x, own = torch.rand(2, 3, 32, 32) * 2 - 1, torch.tensor([[0.1, 0.9], [0.8, 0.3]])
    features = model.encode(x)
    asked = torch.cat([own, 1 - own])  # row m changes image m mod N
    made = model.change(features, asked, own)
    assert made.before.shape == made.after.shape == (4, 3, 32, 32)
    assert made.mask.shape == (4, 1, 32, 32) and 0 <= made.mask.min() <= made.mask.max() <= 1
    assert torch.equal(made.before, x.repeat(2, 1, 1, 1))
    inside = made.image - made.before
    assert torch.allclose(inside, made.mask * (made.after - made.before), atol=1e-6)
    # Only the difference counts, not where it starts.
    there = model.change(features, asked[2:] - own + 0.5, torch.full_like(own, 0.5))
    assert torch.allclose(there.image, made.image[2:], atol=1e-5)


@torch.no_grad()
def test_what_the_network_decodes_is_what_the_photo_gets() -> None:
    """Its mask ends where the composition of crop and photo does, so nothing is lost there."""
    network = difference_network()
    torch.nn.init.constant_(network.head.bias, 3.0)  # it wants to change everything
    model = FaderModel(network.config)
    model.autoencoder = network
    photos = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    with torch.no_grad():
        y = torch.ones(2, 2)
        made = model.change(model.encode(to_tensor(photos)), y, 1 - y)
    assert made.mask[:, :, 16, 16].min() > 0.5
    assert made.mask[:, :, 0].max() == made.mask[:, :, :, -1].max() == 0
    pasted, decoded = paste(photos, made).astype(int), to_images(made.image).astype(int)
    assert np.abs(pasted - photos).mean() > 20
    assert np.abs(pasted - decoded).max() <= 1


def test_edit_strength_lengthens_each_direction_and_is_saved(tmp_path: Path) -> None:
    model = FaderModel(AutoencoderConfig(kind="difference", **TINY)).eval()
    x, own = torch.rand(1, 3, 32, 32), torch.tensor([[0.4, 0.5]])
    features = model.encode(x)
    twice = model.decode(features, torch.tensor([[0.8, 0.5]]), own)
    down = model.decode(features, torch.tensor([[0.2, 0.5]]), own)
    model.strength = {"Male": (1.0, 2.0)}
    model.save(tmp_path / "m")
    again = load_model_without_classifier(tmp_path / "m")
    assert torch.allclose(again.decode(features, torch.tensor([[0.6, 0.5]]), own), twice, atol=1e-6)
    assert torch.allclose(again.decode(features, torch.tensor([[0.2, 0.5]]), own), down, atol=1e-6)


def load_model_without_classifier(folder: Path) -> FaderModel:
    return FaderModel.load(folder)


def test_planes_are_the_paper_s_layers() -> None:
    config = AutoencoderConfig(size=256, layers=7, attributes=("Male",), conditioning="planes")
    network = Autoencoder(config)
    assert config.channels == (32, 64, 128, 256, 512, 512, 512)
    assert config.latent_shape == (512, 2, 2)
    inputs = [layer.up.in_channels for layer in network.decoder]
    assert inputs == [c + 2 for c in (512, 512, 512, 256, 128, 64, 32)]
    assert isinstance(network.encoder[0][1], torch.nn.Identity)  # no norm on the first layer


def test_blurred_upsampling_cannot_make_a_checkerboard() -> None:
    network = Autoencoder(AutoencoderConfig(**TINY, blur_upsampling=True)).eval()
    images = network.decode(network.encode(torch.rand(2, 3, 32, 32)), torch.rand(2, 2))
    inner = torch.atanh(images.clamp(-0.999, 0.999))[..., 4:-4, 4:-4]
    sign = (-1.0) ** torch.arange(inner.shape[-1])
    # Whatever the weights, there is next to nothing at the frequency of alternate pixels.
    alternating = (inner * sign).mean(dim=-1).abs().max()
    assert alternating < 0.02 * inner.std()


def test_sizes_that_do_not_halve_are_refused() -> None:
    with pytest.raises(FaderError, match="multiple"):
        AutoencoderConfig(size=100, layers=5)
    with pytest.raises(FaderError, match="skip"):
        AutoencoderConfig(size=64, layers=4, skip=4)


def test_attribute_planes_are_what_concatenating_them_gives() -> None:
    layer = DecoderLayer(6, 5, planes=4, modulation=0, norm=None, blur=False).double()
    for side in (1, 2, 5):
        h = torch.rand(3, 6, side, side, dtype=torch.double, requires_grad=True)
        code = torch.rand(3, 4, dtype=torch.double, requires_grad=True)
        planes = code[:, :, None, None].expand(-1, -1, side, side)
        told, literal = layer(h, code), layer.up(torch.cat([h, planes], dim=1))
        assert torch.allclose(told, literal)
        weight = torch.rand_like(literal)
        wanted = [h, code, layer.up.weight, layer.up.bias]
        for ours, theirs in zip(
            torch.autograd.grad((told * weight).sum(), wanted),
            torch.autograd.grad((literal * weight).sum(), wanted),
            strict=True,
        ):
            assert torch.allclose(ours, theirs, atol=1e-5)


def test_discriminators_give_one_logit_per_attribute_and_per_place() -> None:
    # Nor need a code's side be a power of two: that of 48 pixels and four layers is 3.
    for side in (1, 2, 3, 4, 5, 6, 7):
        latent = torch.rand(2, 64, side, side)
        assert LatentDiscriminator((64, side, side), 5, width=32)(latent).shape == (2, 5)
    # A model's size need not be a multiple of 16: 200 pixels halve to 12 and 6 places.
    for size, places in ((32, 2), (64, 4), (200, 12)):
        images, values = torch.rand(2, 3, size, size), torch.rand(2, 5)
        (local, wide), attributes = ImageDiscriminator(size, 5, width=8)(images, values)
        assert local.shape == (2, places, places)
        assert wide.shape == (2, places // 2, places // 2) and attributes.shape == (2, 5)


def test_verdicts_heed_the_side_of_the_values_and_only_the_side() -> None:
    """Photos may have soft values and edited faces hard ones, which would tell them apart."""
    torch.manual_seed(0)
    discriminator = ImageDiscriminator(32, 2, width=8)
    for given in discriminator.given:
        torch.nn.init.normal_(given.weight)
    x, y = torch.rand(3, 3, 32, 32), torch.tensor([[0.9, 0.2], [0.0, 1.0], [0.4, 0.6]])
    (verdict, _), seen = discriminator(x, y)
    assert torch.equal(discriminator(x, y.round())[0][0], verdict)
    assert not torch.allclose(discriminator(x, 1 - y)[0][0], verdict)
    assert torch.equal(discriminator(x, 1 - y)[1], seen)


@pytest.fixture
def model() -> FaderModel:
    return FaderModel(AutoencoderConfig(**TINY), ClassifierConfig(size=32, width=4)).eval()


def test_a_saved_model_is_the_same_model(model: FaderModel, tmp_path: Path) -> None:
    model.training_notes = {"steps": 7}
    model.save(tmp_path / "m")
    again = load_model(tmp_path / "m")
    x, y = torch.rand(2, 3, 32, 32), torch.rand(2, 2)
    assert again.attributes == model.attributes and again.training_notes == {"steps": 7}
    assert torch.allclose(
        model.decode(model.encode(x), y, y), again.decode(again.encode(x), y, y), atol=1e-5
    )
    assert torch.allclose(model.estimate(x), again.estimate(x), atol=1e-5)
    assert FaderModel.from_pretrained(str(tmp_path / "m")).attributes == model.attributes


def test_a_model_goes_to_the_hub_with_a_card(
    model: FaderModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hub:
        def __init__(self, token: str | None) -> None:
            assert token == "secret"

        def create_repo(
            self, repo_id: str, private: bool | None, exist_ok: bool
        ) -> SimpleNamespace:
            assert private and exist_ok
            return SimpleNamespace(repo_id=f"me/{repo_id}")

        def upload_folder(self, *, repo_id: str, folder_path: str, **options: object) -> str:
            uploaded.append((repo_id, {path.name for path in Path(folder_path).iterdir()}))
            assert options == {"revision": "dev", "commit_message": "First"}
            return "the commit"

    uploaded: list[tuple[str, set[str]]] = []
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    options = {"private": True, "token": "secret", "branch": "dev", "commit_message": "First"}
    assert model.push_to_hub("smiles", **options) == "the commit"
    files = {"config.json", "model.safetensors", "classifier.safetensors", "README.md"}
    assert uploaded == [("me/smiles", files)]
    assert model.save_pretrained(tmp_path / "smiles") is None and len(uploaded) == 1
    (tmp_path / "smiles" / "README.md").write_text("My own card.")
    assert model.save_pretrained(tmp_path / "smiles", push_to_hub=True, **options) == "the commit"
    assert uploaded[1] == uploaded[0]
    assert (tmp_path / "smiles" / "README.md").read_text() == "My own card."
    assert FaderModel.from_pretrained(tmp_path / "smiles").attributes == model.attributes


def test_what_is_asked_of_the_hub_reaches_it(
    model: FaderModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(name: str, *, revision: str, local_files_only: bool, **_: object) -> Path:
        assert (name, revision, local_files_only) == ("me/smiles", "dev", True)
        return tmp_path / "snapshot"

    model.save(tmp_path / "snapshot")
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    found = FaderModel.from_pretrained("me/smiles", revision="dev", local_files_only=True)
    assert found.attributes == model.attributes


def test_float16_weights_halve_the_files(model: FaderModel, tmp_path: Path) -> None:
    model.save(tmp_path / "32")
    model.save(tmp_path / "16", torch.float16)
    size = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("32", "16")]
    assert size[1] < 0.7 * size[0]
    x = torch.rand(1, 3, 32, 32)
    assert torch.allclose(load_model(tmp_path / "16").estimate(x), model.estimate(x), atol=1e-2)


def test_files_that_are_not_ours_get_one_sentence(model: FaderModel, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    model.save(folder)

    def message() -> str:
        with pytest.raises(FaderError) as caught:
            load_model(folder)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    config = folder / "config.json"
    good = config.read_text()
    other = json.loads(good)
    other["autoencoder"]["width"] = 16
    config.write_text(json.dumps(other))
    assert "does not fit" in message()
    other = json.loads(good)
    other["format"] = 99
    config.write_text(json.dumps(other))
    assert "newer" in message()
    other = json.loads(good)
    other["format"] = 1
    config.write_text(json.dumps(other))
    assert message() == (
        f"{folder}: a model of an older fader, whose edits this one cannot make; train it again "
        "with fader train"
    )
    other = json.loads(good)
    other["strength"] = {"Male": [1, "far"]}
    config.write_text(json.dumps(other))
    assert "strength" in message()
    config.write_text('{"architectures": ["BertModel"]}')
    assert "not the configuration of a Fader model" in message()
    config.write_text("{")
    assert "JSON" in message()
    config.write_text(good)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "cut short" in message()
    weights.unlink()
    assert "missing" in message()
    config.unlink()
    assert "config.json" in message()


def test_an_unknown_model_name_lists_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(FaderError, match="no such model"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(FaderError, match="no such model"):
        load_model("defualt")


def test_a_run_stands_for_its_model(model: FaderModel, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "first"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.json").write_text("{}")
    with pytest.raises(FaderError, match="no model yet"):
        load_model(run)
    model.save(run / "model")
    assert load_model(run).attributes == model.attributes
    assert model_info(run) == model_info(run / "model")
    assert load_classifier(run).config == model.classifier.config
    assert FaderModel.from_pretrained(run).size == model.size


@pytest.mark.parametrize("there", [True, False])
def test_a_mistyped_run_is_not_asked_for_elsewhere(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: object, **__: object) -> None:
        raise AssertionError("asked the Hub")

    monkeypatch.setattr("huggingface_hub.snapshot_download", asked)
    monkeypatch.chdir(tmp_path)
    for name in ("runs/frist", "runs/frist/model", "models/frist")[: 3 if there else 2]:
        if there:
            (tmp_path / name.split("/")[0] / "first").mkdir(parents=True, exist_ok=True)
        with pytest.raises(FaderError, match="no such model") as caught:
            load_model(name)
        assert ("did you mean" in str(caught.value)) == (there and name.count("/") == 1)
    with pytest.raises(AssertionError, match="asked the Hub"):
        load_model("someone/first")


@pytest.mark.parametrize("window", [(4, 2, 1), (3, 1, 1), (2, 2, 0)])
@pytest.mark.parametrize("side", [2, 3, 4])
def test_small_maps_are_convolved_as_torch_does(side: int, window: tuple[int, int, int]) -> None:
    kernel, stride, padding = window
    size = {"stride": stride, "padding": padding}
    x = torch.rand(3, 6, side, side, dtype=torch.double).requires_grad_()
    ours = small_maps.Conv2d(6, 5, kernel, **size).double().to(memory_format=torch.channels_last)
    weight = torch.rand(6, 5, kernel, kernel, dtype=torch.double).requires_grad_()
    wanted = F.conv2d(x, ours.weight, ours.bias, **size)
    transposed = F.conv_transpose2d(x, weight, ours.bias, **size)
    for ours_is, torchs, parameters in (
        (ours(x), wanted, (x, ours.weight, ours.bias)),
        (small_maps.conv_transpose2d(x, weight, ours.bias, **size), transposed, (x, weight)),
    ):
        assert "Convolution" not in type(ours_is.grad_fn).__name__
        torch.testing.assert_close(ours_is, torchs)
        # Gradients, and their gradients, which R1 needs.
        pairs = []
        for out in (ours_is, torchs):
            first = torch.autograd.grad(out.square().sum(), parameters, create_graph=True)
            norm = sum(grad.square().sum() for grad in first)
            pairs.append((*first, *torch.autograd.grad(norm, parameters)))
        for one, other in zip(*pairs, strict=True):
            torch.testing.assert_close(one, other)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), wanted, rtol=0, atol=0)
