"""The networks and their files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from fader.errors import FaderError
from fader.models.autoencoder import Autoencoder, AutoencoderConfig, DecoderLayer
from fader.models.classifier import AttributeClassifier, ClassifierConfig
from fader.models.copies import MOST_COPIES, moved, moved_back
from fader.models.discriminators import (
    LATENT_DISCRIMINATORS,
    ImageDiscriminator,
    PretrainedDiscriminator,
    UnfoldedConv2d,
)
from fader.models.erasure import Erasure
from fader.models.io import FaderModel, load_classifier, load_model, model_info
from fader.models.sliders import GROWTH, LONGEST, calibrated, reaching

TINY = {"size": 32, "layers": 3, "attributes": ("Male", "Smiling"), "width": 8, "max_width": 16}
VARIANTS = [
    {},
    {"conditioning": "modulation"},
    {"conditioning": "modulation", "blur_upsampling": True, "residual_blocks": 1},
    {"skip": 1},
    {"skip": 2, "conditioning": "modulation"},
    {"instance_norm": True},
    {"skip": 1, "erase": True},
]


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_every_variant_decodes_several_ways_and_heeds_the_attributes(options: dict) -> None:
    network = Autoencoder(AutoencoderConfig(**TINY, **options)).eval()
    x = torch.rand(3, 3, 32, 32) * 2 - 1
    y = torch.tensor([[0.0, 0.0]] * 3 + [[1.0, 0.0]] * 3)
    features, decoded = network(x, y)
    assert [f.shape[1:] for f in features] == list(network.config.feature_shapes)
    assert decoded.shape == (6, 3, 32, 32)
    assert decoded.abs().max() <= 1
    assert not torch.allclose(decoded[:3], decoded[3:])
    # Row m decodes image m mod N.
    alone = network.decode(network.encode(x[1:2]), y[4:5])
    assert torch.allclose(alone, decoded[4:5], atol=1e-5)


def test_planes_are_the_paper_s_layers() -> None:
    config = AutoencoderConfig(size=256, layers=7, attributes=("Male",), conditioning="planes")
    network = Autoencoder(config)
    assert config.channels == (32, 64, 128, 256, 512, 512, 512)
    assert config.feature_shapes == ((512, 2, 2),)
    inputs = [layer.up.in_channels for layer in network.decoder]
    assert inputs == [c + 2 for c in (512, 512, 512, 256, 128, 64, 32)]
    assert isinstance(network.encoder[0][1], torch.nn.Identity)  # no norm on the first layer


def test_an_erasing_model_leaves_nothing_linear_of_the_attributes() -> None:
    network = Autoencoder(AutoencoderConfig(**TINY, skip=1, erase=True)).eval()
    y = (torch.rand(64, 2) < 0.5).float()
    x = torch.rand(64, 3, 32, 32) - 0.5
    x[:, 0] += y[:, 0, None, None]  # Male is red

    def covariance() -> torch.Tensor:
        with torch.no_grad():
            features = network.encode(torch.cat([x, x.flip(3)]))
        latent = torch.cat([f.flatten(1) for f in features], dim=1)
        return (y - y.mean(dim=0)).repeat(2, 1).T @ (latent - latent.mean(dim=0)) / len(latent)

    before = covariance().abs().max()
    network.measure_erasure(((x[some], y[some]) for some in (slice(40), slice(40, 64))), sample=3)
    assert covariance().abs().max() < 1e-3 * before
    # What is taken from an image does not depend on those beside it, to the bit.
    features = [torch.rand(64, *shape) for shape in network.config.feature_shapes]
    alone, together = network.erasure([f[:1] for f in features]), network.erasure(features)
    assert all(torch.equal(a, f[:1]) for a, f in zip(alone, together, strict=True))


def test_erasing_leaves_what_merely_varies_along_with_an_attribute() -> None:
    random = torch.Generator().manual_seed(0)
    y = (torch.rand(2000, 1, generator=random) < 0.5).float()
    noise = torch.randn(2000, 1, generator=random)
    # The first feature is the attribute beneath a strong nuisance; the second is the nuisance.
    features = [torch.cat([y + 3 * noise, noise], dim=1)[:, :, None, None]]
    erasure = Erasure([(2, 1, 1)], 1)
    erasure.measure([(features, features, y)])
    left = erasure(features)[0][:, :, 0, 0]
    assert abs(torch.corrcoef(torch.cat([left[:, :1], y], dim=1).T)[0, 1]) < 1e-3
    assert torch.corrcoef(torch.cat([left[:, 1:], noise], dim=1).T)[0, 1] > 0.99
    assert torch.corrcoef(torch.cat([left[:, :1], noise], dim=1).T)[0, 1] > 0.99


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
    layer = DecoderLayer(
        6, 5, planes=4, modulation=0, norm=None, blur=False, residual_blocks=0
    ).double()
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


def test_discriminators_give_one_logit_per_attribute_and_per_patch() -> None:
    shapes = ((16, 16, 16), (32, 8, 8), (64, 4, 4))
    features = [torch.rand(2, *shape) for shape in shapes]
    for discriminator in LATENT_DISCRIMINATORS.values():
        assert discriminator(shapes, 5, width=32)(features).shape == (2, 5)
    # A model's size need not be a multiple of 16: 200 pixels halve to 12 and 6 patches.
    for size, patches in ((64, 4), (200, 12)):
        images, values = torch.rand(2, 3, size, size), torch.rand(2, 5)
        (real, wide), attributes = ImageDiscriminator(size, 5, width=8)(images, values)
        assert real.shape == (2, patches, patches)
        assert wide.shape == (2, patches // 2, patches // 2) and attributes.shape == (2, 5)


@pytest.mark.parametrize("architecture", ["resnet", "plain"])
def test_a_pretrained_discriminator_knows_at_once_what_its_classifier_knows(
    architecture: str,
) -> None:
    config = ClassifierConfig(size=64, width=4, architecture=architecture)
    classifier = AttributeClassifier(config).eval()
    columns = [config.attributes.index(name) for name in ("Male", "Smiling")]
    discriminator = PretrainedDiscriminator(classifier, columns).eval()
    x = torch.rand(3, 3, 96, 96) * 2 - 1
    y = torch.tensor([[0.9, 0.2], [0.0, 1.0], [0.4, 0.6]])
    real, attributes = discriminator(x, y)
    assert torch.allclose(attributes, classifier(x)[:, columns], atol=1e-5)
    # A verdict for each place of the maps of 8, 4 and (the residual one) 2 pixels.
    sides = [8, 4, 2] if architecture == "resnet" else [8, 4]
    assert [scale.shape for scale in real] == [(3, side, side) for side in sides]
    # It learns on, the classifier stays.
    before = [p.clone() for p in classifier.parameters()]
    optimizer = torch.optim.SGD(discriminator.parameters(), 1.0)
    (real[0].sum() + attributes.sum()).backward()
    optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(before, classifier.parameters(), strict=True))
    assert not torch.allclose(discriminator(x, y)[1], classifier(x)[:, columns], atol=1e-3)
    # Verdicts heed the side of the values, and only the side: soft ones are no hint.
    verdict = discriminator(x, y)[0][0]
    assert torch.equal(discriminator(x, y.round())[0][0], verdict)
    assert not torch.equal(discriminator(x, 1 - y)[0][0], verdict)


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
        model.decode(model.encode(x), y), again.decode(again.encode(x), y), atol=1e-5
    )
    assert torch.allclose(model.estimate(x), again.estimate(x), atol=1e-5)
    assert FaderModel.from_pretrained(str(tmp_path / "m")).attributes == model.attributes


def test_copies_are_moved_back_to_where_they_were() -> None:
    x = torch.rand(2, 3, 16, 20)
    there = [moved(x, copy) for copy in range(MOST_COPIES)]
    assert torch.equal(there[0], x)
    assert len({copy.sum().item() for copy in there}) == MOST_COPIES
    for copy, one in enumerate(there):
        assert torch.equal(moved_back(one, copy)[:, :, 3:-3, 3:-3], x[:, :, 3:-3, 3:-3])


@torch.no_grad()
def test_faces_are_decoded_in_copies(model: FaderModel, tmp_path: Path) -> None:
    x, y = torch.rand(2, 3, 32, 32) * 2 - 1, torch.tensor([[0.0, 1.0], [1.0, 0.0]])

    def decoded(model: FaderModel, x: torch.Tensor) -> torch.Tensor:
        return model.decode(model.encode(x), torch.cat([y, 1 - y]))

    each = [moved_back(decoded(model, moved(x, i)), i) for i in range(MOST_COPIES)]
    model.copies = MOST_COPIES
    assert torch.allclose(decoded(model, x), torch.stack(each).mean(dim=0), atol=1e-6)
    model.save(tmp_path / "m")
    again = load_model(tmp_path / "m")
    assert again.copies == MOST_COPIES
    assert torch.allclose(decoded(again, x), decoded(model, x), atol=1e-6)


@torch.no_grad()
def test_in_copies_it_matters_less_where_the_pixels_are() -> None:
    torch.manual_seed(0)
    model = FaderModel(AutoencoderConfig(**TINY)).eval()
    x, y = torch.rand(8, 3, 32, 32) * 2 - 1, torch.full((8, 2), 0.5)

    def unlike() -> float:
        """How a face's decoding differs from that of the face one pixel further, moved back."""
        here, there = (model.decode(model.encode(faces), y) for faces in (x, x.roll(1, dims=3)))
        return float((there.roll(-1, dims=3) - here)[:, :, 6:-6, 6:-6].square().mean())

    once = unlike()
    model.copies = MOST_COPIES
    assert unlike() < once / 2


def test_float16_weights_halve_the_files(model: FaderModel, tmp_path: Path) -> None:
    model.save(tmp_path / "32")
    model.save(tmp_path / "16", torch.float16)
    size = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("32", "16")]
    assert size[1] < 0.7 * size[0]
    x = torch.rand(1, 3, 32, 32)
    assert torch.allclose(load_model(tmp_path / "16").estimate(x), model.estimate(x), atol=1e-2)


def test_sliders_beyond_the_range_go_at_the_calibrated_pace(
    model: FaderModel, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    for parameter in model.autoencoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x, y = torch.rand(4, 3, 32, 32) * 2 - 1, torch.rand(4, 2)

    def decoded(some: FaderModel, first: float, second: float) -> torch.Tensor:
        with torch.inference_mode():
            return some.decode(some.encode(x), torch.tensor([[first, second]]).expand(4, 2))

    plain = {value: decoded(model, value, 0.5) for value in (-1, 0, 0.7, 1, 2)}
    model.beyond = {model.attributes[0]: (0.25, 0.5)}
    assert torch.equal(decoded(model, 0.7, 0.5), plain[0.7])
    model.save(tmp_path / "m")
    again = load_model(tmp_path / "m")
    assert again.beyond == model.beyond
    twice, once = decoded(again, 2, 0.5), decoded(again, 1.5, 0.5)
    assert not torch.allclose(twice, plain[2], atol=1e-4)
    model.beyond = {}
    assert torch.allclose(twice, decoded(model, 1.5, 0.5), atol=1e-4)
    assert torch.allclose(decoded(again, -1, 0.5), decoded(model, -0.25, 0.5), atol=1e-4)
    assert not torch.allclose(once, twice, atol=1e-4)

    # What the tool that packages a model measures, with no classifier to object.
    model.classifier = None
    model.beyond = calibrated(model, x, y)
    for column, name in enumerate(model.attributes):

        def change(value: float, other: float, column: int = column) -> float:
            codes = [y.clone(), y.clone()]
            codes[0][:, column], codes[1][:, column] = value, other
            features = model.encode(x)
            with torch.inference_mode():
                a, b = (model.decode(features, code).clamp(-1, 1) for code in codes)
            return float((a - b).abs().mean())

        for outer, far, scale in zip((-1, 2), (1, 0), model.beyond[name], strict=True):
            assert 0 < scale <= 1
            growth = change(outer, far) / change(0, 1)
            assert growth <= GROWTH + 1e-3
            if scale < 1:
                assert growth == pytest.approx(GROWTH, abs=0.05)


def test_sliders_end_where_an_attribute_is_seen_less_again(model: FaderModel) -> None:
    # Both brighten without end; but what is too bright is less of a smile to the classifier.
    class Network(torch.nn.Module):
        config, regions = model.autoencoder.config, None

        def encode(self, x: torch.Tensor, copies: int = 1) -> list[torch.Tensor]:
            return [x]

        def decode(self, features: list[torch.Tensor], y: torch.Tensor) -> torch.Tensor:
            return (0.3 * y.sum(dim=1) - 0.3)[:, None, None, None].expand_as(features[0])

    class Sees(torch.nn.Module):
        config, sure = model.classifier.config, 30.0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits = torch.zeros(len(x), len(self.config.attributes))
            logits[:, self.config.attributes.index("Male")] = x.mean((1, 2, 3))
            smile = -self.sure * (x.mean((1, 2, 3)) - 0.05).abs()
            logits[:, self.config.attributes.index("Smiling")] = smile
            return logits

    model.autoencoder, model.classifier = Network(), Sees()
    x, y = torch.zeros(8, 3, 32, 32), torch.zeros(8, 2)
    assert model.attributes == ("Male", "Smiling")
    scales = calibrated(model, x, y)
    # Half of a unit more is half as much again, as wanted; the most of a smile is at 1.17 units.
    assert scales["Male"] == (pytest.approx(0.5, abs=0.02), pytest.approx(0.5, abs=0.02))
    assert scales["Smiling"][1] == pytest.approx(0.125, abs=0.01)  # 0.5 halved twice
    assert scales["Smiling"][0] == pytest.approx(0.5, abs=0.02)  # there it is less and less
    model.classifier.sure = 0.5  # hardly less is not less
    assert calibrated(model, x, y)["Smiling"][1] == pytest.approx(0.5, abs=0.02)


def test_moves_are_as_long_as_the_classifier_needs(model: FaderModel, tmp_path: Path) -> None:
    # Male reddens and Smiling hardly greens; the classifier sees the one past 1.2 times the way and
    # the other never.
    class Network(torch.nn.Module):
        config, regions = model.autoencoder.config, None
        spilled = 0.0

        def encode(self, x: torch.Tensor, copies: int = 1) -> list[torch.Tensor]:
            return [x]

        def confined(self, changed: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
            return changed

        def decode(self, features: list[torch.Tensor], y: torch.Tensor) -> torch.Tensor:
            green = 0.01 * y[:, 1] + self.spilled * y[:, 0]
            shift = torch.stack([0.5 * y[:, 0], green, 0 * green], dim=1)
            return (features[0] >= 0) * shift[:, :, None, None]  # dark faces do not change

    class Sees(torch.nn.Module):
        config = model.classifier.config

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits = torch.full((len(x), len(self.config.attributes)), -1.0)
            for name, colour, enough in (("Male", 0, 0.6), ("Smiling", 1, 0.6)):
                logits[:, self.config.attributes.index(name)] = x[:, colour].mean((1, 2)) - enough
            return logits

    torch.manual_seed(0)
    plain = model.autoencoder
    model.autoencoder, model.classifier = Network(), Sees()
    x, y = torch.rand(40, 3, 32, 32), (torch.rand(40, 2) < 0.5).float()
    reach = reaching(model, x, y)
    # Red of 0.6 at 0.5 a unit: the first of the lengths tried that is past 1.2.
    assert reach["Male"] == (1, pytest.approx(1.25))
    assert reach["Smiling"] == (1, 1)  # in vain, so not at all
    dark = x.clone()
    dark[::4] = -1  # no length will do for these
    assert reaching(model, dark, y)["Male"] == (1, pytest.approx(1.25))
    model.autoencoder.spilled = 0.57  # 1.125 of Male would show as Smiling, too
    assert reaching(model, x, y)["Male"] == (1, 1)
    model.autoencoder.spilled = 0.0
    few = torch.ones(40, 2)
    few[:7] = 0
    assert reaching(model, x, few)["Male"][1] == 1  # seven faces say nothing

    # What is drawn so finely that it is gone from afar is to be drawn more strongly.
    male = model.classifier.config.attributes.index("Male")

    class SeesContrast(Sees):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits = torch.full((len(x), len(self.config.attributes)), -1.0)
            logits[:, male] = x.diff(dim=3).abs().mean((1, 2, 3)) - 0.12
            return logits

    def drawn(width: int, strength: float) -> float:
        stripes = strength * (torch.arange(32) // width % 2 * 2 - 1)
        model.autoencoder.decode = lambda _, y: (y[:, :1, None, None] * stripes).expand(
            -1, 3, 32, 32
        )
        return reaching(model, x, y)["Male"][1]

    model.classifier = SeesContrast()
    assert drawn(width=8, strength=2) == 1
    assert 1 < drawn(width=2, strength=0.3) < LONGEST
    assert drawn(width=2, strength=0.8) == 1

    model = FaderModel(plain.config, None).eval()
    model.reach = {"Male": (1.5, 1.25)}
    model.save(tmp_path / "m")
    again = load_model(tmp_path / "m")
    assert again.reach == model.reach
    features = again.encode(x[:2])
    own, asked = torch.tensor([[0.4, 0.3], [0.2, 0.9]]), torch.tensor([[0.8, 0.3], [0.0, 0.9]])
    told = torch.tensor([[0.9, 0.3], [-0.1, 0.9]])  # 1.25 times up, 1.5 times down
    assert torch.allclose(
        again.decode(features, asked, own), again.decode(features, told), atol=1e-5
    )
    # What a face shows is decoded as it is, and rows go round the images.
    assert torch.equal(again.decode(features, own, own), again.decode(features, own))
    twice = again.decode(features, torch.cat([own, asked]), own)
    assert torch.allclose(twice[2:], again.decode(features, told), atol=1e-5)


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
    other["beyond"] = {"Male": 3}
    config.write_text(json.dumps(other))
    assert "beyond" in message()
    del other["beyond"]
    other["reach"] = {"Male": [1, "far"]}
    config.write_text(json.dumps(other))
    assert "reach" in message()
    for copies in (0, 9, 2.5, "4"):
        config.write_text(json.dumps({**json.loads(good), "copies": copies}))
        assert "copies must be" in message()
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

    monkeypatch.setattr("fader.models.io.snapshot_download", asked)
    monkeypatch.chdir(tmp_path)
    for name in ("runs/frist", "runs/frist/model", "models/frist")[: 3 if there else 2]:
        if there:
            (tmp_path / name.split("/")[0] / "first").mkdir(parents=True, exist_ok=True)
        with pytest.raises(FaderError, match="no such model") as caught:
            load_model(name)
        assert ("did you mean" in str(caught.value)) == (there and name.count("/") == 1)
    with pytest.raises(AssertionError, match="asked the Hub"):
        load_model("someone/first")


@pytest.mark.parametrize("side", [2, 4, 8])
def test_an_unfolded_convolution_is_the_convolution(side: int) -> None:
    unfolded = UnfoldedConv2d(6, 5, side)
    x = torch.rand(3, 6, side, side)
    assert torch.allclose(unfolded(x), unfolded.as_convolution()(x), atol=1e-5)
