"""Edits stay where their attributes are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fader import Editor
from fader.attributes import ATTRIBUTES
from fader.faces.align import warp
from fader.models.autoencoder import Autoencoder, AutoencoderConfig, copy_weights
from fader.models.io import FaderModel, load_model
from fader.models.regions import Regions
from fader.models.silhouette import silhouette
from fader.photo import open_photo

# Of an aligned face, as (column, row) in widths of the crop.
EYE, MOUTH, HAIR, CHEEK = (0.39, 0.517), (0.5, 0.75), (0.5, 0.15), (0.36, 0.66)
CHIN = (0.5, 0.89)

EXAMPLE = Path(__file__).parents[1] / "examples" / "astronaut.jpg"


def at(region: torch.Tensor, place: tuple[float, float]) -> float:
    x, y = place
    side = region.shape[-1]
    return float(region[..., int(y * side), int(x * side)])


@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("Gray_Hair", [HAIR], [EYE]),
        ("Bald", [HAIR], [EYE]),
        ("Smiling", [MOUTH, CHEEK], [HAIR]),
        ("Mouth_Slightly_Open", [MOUTH], [HAIR, EYE]),
        ("No_Beard", [MOUTH], [HAIR]),
        ("Eyeglasses", [EYE], [HAIR, MOUTH]),
        ("Attractive", [HAIR, EYE, CHEEK, MOUTH], []),
        ("Nothing_We_Know", [HAIR, EYE, CHEEK, MOUTH], []),
    ],
)
def test_an_attribute_is_where_one_looks_for_it(
    name: str, inside: list, outside: list, size: int
) -> None:
    (both,) = Regions([name], size).maps
    assert both.shape == (2, size, size)
    for region in both:
        assert region.min() >= 0 and region.max() == 1
        assert all(at(region, place) > 0.95 for place in inside)
        assert all(at(region, place) < 0.05 for place in outside)


def test_hair_tints_the_face_a_little() -> None:
    ((down, up),) = Regions(["Gray_Hair"], 128).maps
    assert torch.equal(down, up)
    assert 0.2 < at(up, MOUTH) < 0.4 and at(up, CHEEK) == at(up, MOUTH)


def test_making_younger_leaves_the_eyes_and_most_of_the_mouth() -> None:
    ((down, up),) = Regions(["Young"], 128).maps
    assert all(at(up, place) == at(down, place) == 1 for place in (HAIR, CHEEK))
    assert at(up, EYE) == 0 < at(down, EYE) == 1
    assert 0 < at(up, MOUTH) < 0.5 < at(down, MOUTH) == 1


def test_making_a_man_leaves_most_of_the_eyes() -> None:
    """Decoders take the dark of irises for that of lashes, and make it pale."""
    ((down, up),) = Regions(["Male"], 128).maps
    assert all(at(up, place) == at(down, place) == 1 for place in (HAIR, CHEEK, MOUTH))
    assert 0.2 < at(up, EYE) < 0.9 and at(down, EYE) == 1


def test_every_attribute_has_a_region() -> None:
    maps = Regions(ATTRIBUTES, 32).maps
    assert maps.shape == (40, 2, 32, 32)
    assert (maps.amax(dim=(2, 3)) == 1).all()
    assert Regions([], 32).maps.shape == (0, 2, 32, 32)


@pytest.fixture
def all_person(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is background, and all above the brows is hair: plain colours and noise have no
    silhouette."""
    person_with_hair(monkeypatch)


def person_with_hair(monkeypatch: pytest.MonkeyPatch, down_to: float = 0.44) -> None:
    def silhouette(images: torch.Tensor) -> torch.Tensor:
        person = torch.ones_like(images[:, :1])
        return torch.cat([person, with_hair(0 * person, person, down_to)], dim=1)

    monkeypatch.setattr("fader.models.silhouette.silhouette", silhouette)


def with_hair(skin: torch.Tensor, hair: torch.Tensor, down_to: float = 0.44) -> torch.Tensor:
    """Two plain colours N×C×S×S, the second above the brows, or a share of the height."""
    size = skin.shape[-1] if skin.dim() and skin.shape[-1] > 1 else 64
    return torch.where(torch.arange(size)[:, None] < down_to * size, hair, skin)


@pytest.fixture
def model(all_person: None) -> FaderModel:
    torch.manual_seed(0)
    names = ("Big_Lips", "Receding_Hairline", "Attractive")
    return FaderModel(
        AutoencoderConfig(size=64, layers=3, attributes=names, width=8, regions=True)
    ).eval()


@torch.no_grad()
def test_decodings_differ_where_the_attributes_do(model: FaderModel) -> None:
    own = torch.tensor([[0.1, 0.4, 0.8], [0.8, 0.2, 0.1]])
    features = model.encode(torch.rand(2, 3, 64, 64) * 2 - 1)
    before = model.decode(features, own)

    def change(column: int, value: float) -> torch.Tensor:
        asked = own.clone()
        asked[:, column] = value
        after = model.decode(features, asked, own)
        free = model.decode(features, asked)
        where = (free - before).abs() > 1e-4
        both_ways = model.autoencoder.regions.maps[column].amin(dim=0)
        whole = both_ways.expand_as(free) == 1
        assert torch.allclose(after[whole], free[whole], atol=1e-6)  # all of it, inside
        assert where.float().mean() > 0.9  # and the decoder itself would change the rest, too
        return (after - before).abs().mean(dim=1)

    mouth, brow, whole = change(0, 0.5), change(1, 0.8), change(2, 0.5)
    assert at(mouth[0], HAIR) == 0 < at(mouth[0], MOUTH)
    assert at(brow[0], EYE) == 0 < at(brow[0], HAIR)
    assert min(at(whole[0], place) for place in (HAIR, EYE, MOUTH)) > 0

    both = own.clone()
    both[:, 0], both[:, 1] = 0.5, 0.8
    moved = (model.decode(features, both, own) - before).abs().mean(dim=1)[0]
    assert at(moved, HAIR) > 0 < at(moved, MOUTH) and at(moved, EYE) < at(moved, HAIR)


@torch.no_grad()
def test_rows_go_round_the_images_and_what_is_shown_stays(model: FaderModel) -> None:
    own = torch.tensor([[0.1, 0.9, 0.8], [0.8, 0.2, 0.1]])
    asked = torch.tensor([[0.9, 0.9, 0.8], [0.8, 0.9, 0.1]])
    features = model.encode(torch.rand(2, 3, 64, 64) * 2 - 1)
    before, after = model.decode(features, own), model.decode(features, asked, own)
    assert torch.equal(model.decode(features, own, own), before)
    # Whether the present is among the rows or not.
    rows = model.decode(features, torch.cat([own, asked, own]), own)
    assert torch.allclose(rows, torch.cat([before, after, before]), atol=1e-6)
    assert torch.allclose(model.decode(features, asked, own, before), after, atol=1e-5)
    odd = model.decode(features, torch.cat([asked, asked[:1]]), own)
    assert torch.allclose(odd, torch.cat([after, after[:1]]), atol=1e-6)


def test_hair_and_mouth_change_apart(model: FaderModel) -> None:
    """Where a smile is, all that gray hair does to faces was let through."""
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    own = torch.tensor([[0.1, 0.1, 0.1], [0.9, 0.1, 0.1]])
    features = model.encode(x)
    mouth, hair, whole = (own.clone() for _ in range(3))
    mouth[:, 0], hair[:, 1], whole[:, 2] = 1 - own[:, 0], 0.9, 0.9
    both, hair_and_whole = torch.cat([mouth[:, :1], hair[:, 1:]], 1), hair.clone()
    hair_and_whole[:, 2] = 0.9

    def change(*asked: torch.Tensor) -> torch.Tensor:
        decoded = model.decode(features, torch.cat([own, *asked]), own)
        return decoded[2:] - decoded[:2].repeat(len(asked), 1, 1, 1)

    apart = change(mouth) + change(hair)
    assert torch.allclose(change(both), apart, atol=1e-5)
    # One face's edits say nothing of another's, and what is one edit is as it was.
    assert torch.allclose(change(both, hair_and_whole)[2:], change(hair_and_whole), atol=1e-5)
    assert not torch.allclose(change(hair_and_whole), change(hair) + change(whole), atol=1e-3)


def test_dyed_hair_changes_apart_from_the_rest(all_person: None) -> None:
    """Told to make men gray-haired women, decoders went too far, and blotched faces."""
    torch.manual_seed(0)
    names = ("Smiling", "Gray_Hair", "Male", "Bald")
    model = FaderModel(
        AutoencoderConfig(size=64, layers=3, attributes=names, width=8, regions=True)
    ).eval()
    own = torch.tensor([[0.1, 0.1, 0.9, 0.1]])
    features = model.encode(torch.rand(1, 3, 64, 64) * 2 - 1)

    def change(*asked: float) -> torch.Tensor:
        with torch.inference_mode():
            before, after = model.decode(features, torch.cat([own, torch.tensor([asked])]), own)
        return after - before

    smile, gray = change(0.9, 0.1, 0.9, 0.1), change(0.1, 0.9, 0.9, 0.1)
    woman, bald = change(0.1, 0.1, 0.1, 0.1), change(0.1, 0.1, 0.9, 0.9)
    assert min(float(some.abs().max()) for some in (smile, gray, woman, bald)) > 0.01
    # Dyed hair is that, whatever else would darken it.
    rest = with_hair(woman, torch.zeros(()))
    assert torch.allclose(change(0.1, 0.9, 0.1, 0.1), gray + rest, atol=1e-5)
    assert torch.allclose(change(0.9, 0.9, 0.1, 0.1), smile + gray + rest, atol=1e-5)
    assert torch.allclose(change(0.9, 0.1, 0.1, 0.1), smile + woman, atol=1e-5)
    # Hair that goes is not dyed first: that would be a white cap.
    gone = torch.tensor([[0.1, 0.9, 0.9, 0.9]])
    with torch.inference_mode():
        joint = model.autoencoder.decode(features, torch.cat([own, gone]), own)
    assert torch.allclose(change(*gone[0].tolist()), joint[1] - joint[0], atol=1e-5)


def test_a_small_difference_counts_by_its_size(model: FaderModel) -> None:
    """Labels are not exactly 0 or 1; what is asked besides must not open the whole picture."""
    own = torch.tensor([[0.1, 0.9, 0.95]])
    asked = torch.tensor([[0.1, 0.1, 1.0]])
    decoded, changed = torch.zeros(1, 3, 64, 64), torch.ones(1, 3, 64, 64)
    result = model.autoencoder.confined(changed, decoded, asked, own)[0, :1]
    # Of Attractive, 0.05 of the 0.25 that count in full.
    assert at(result, EYE) == pytest.approx(0.2)
    assert at(result, HAIR) == 1


@pytest.mark.parametrize(
    ("name", "own"), [("Young", 0.1), ("Young", 0.9), ("Male", 0.1), ("Male", 0.9)]
)
def test_what_has_no_colour_tints_less(name: str, own: float, all_person: None) -> None:
    """Younger skin, or a man's, is brighter or darker, but not green."""
    confine = Regions((name, "Attractive"), 64)
    values = torch.tensor([[own, 0.9]])
    skin = torch.tensor([0.6, 0.2, 0.0])[None, :, None, None].expand(1, 3, 64, 64)
    green = torch.tensor([0.2, 0.5, 0.1])[None, :, None, None].expand(1, 3, 64, 64)

    def hue(asked: list[float], changed: torch.Tensor) -> torch.Tensor:
        pixel = confine(changed, skin, torch.tensor([asked]), values)[0, :, 58, 32] + 1
        return pixel / pixel.sum()

    before = hue([own, 0.9], green)
    far = (hue([own, 0.1], green) - before).abs().max()  # Attractive may tint
    assert far > 0.05
    assert 0 < (hue([1 - own, 0.9], green) - before).abs().max() < 0.8 * far

    def shade(face: torch.Tensor, of_it: float) -> torch.Tensor:
        changed = (face + 1) * of_it - 1
        after = confine(changed, face, torch.tensor([[1 - own, 0.9]]), values)[0, :, 58, 32]
        bright = torch.tensor([0.299, 0.587, 0.114])
        assert float(bright @ after) == pytest.approx(float(bright @ changed[0, :, 0, 0]), abs=0.02)
        return after + 1

    if (name, own) not in (("Young", 0.1), ("Male", 0.9)):  # theirs hardly darkens
        assert torch.allclose(shade(skin, 0.8), (skin[0, :, 0, 0] + 1) * 0.8, atol=0.02)
    # What gets brighter shines in part, and was not more colourful before the decoder said so.
    dim = (skin + 1) / 2 - 1
    was, lit = dim[0, :, 0, 0] + 1, shade(dim, 1.2)
    assert was[2] / was[0] + 0.01 < lit[2] / lit[0] < was[2] / was[0] + 0.1


@pytest.mark.parametrize(("name", "asked"), [("Male", 0.0), ("Young", 0.0)])
def test_hair_of_women_and_of_old_people_is_not_red(
    name: str, asked: float, all_person: None
) -> None:
    """What decoders know of women's hair is that it is colourful, of old hair that it is light."""
    confine = Regions((name,), 64)
    skin = torch.tensor([0.6, 0.2, 0.0])[None, :, None, None]
    gray = with_hair(skin, torch.tensor([0.1, 0.1, 0.12])[None, :, None, None], down_to=0.3)
    red = torch.tensor([0.5, -0.4, -0.5])[None, :, None, None].expand(1, 3, 64, 64)
    after = confine(red, gray, torch.tensor([[asked]]), torch.tensor([[1 - asked]]))
    pixel = after[0, :, 12, 32]
    assert pixel.max() - pixel.min() < 0.4 * (red.max() - red.min())


def test_locks_that_women_get_over_foreheads_have_the_hair_s_hue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They were as red as the skin below."""
    person_with_hair(monkeypatch, down_to=0.25)
    confine = Regions(("Male",), 64)
    skin = torch.tensor([0.6, 0.2, 0.0])[None, :, None, None]
    face = with_hair(skin, torch.tensor([0.0, 0.0, 0.02])[None, :, None, None], down_to=0.25)
    locks = torch.tensor([-0.2, -0.6, -0.7])[None, :, None, None].expand(1, 3, 64, 64)
    after = confine(locks, face, torch.zeros(1, 1), torch.ones(1, 1))
    over_it, below = after[0, :, 22, 32], after[0, :, 58, 32]
    assert over_it.max() - over_it.min() < 0.1
    assert below.max() - below.min() > 0.25  # skin stays skin
    # The heads of bald men have no hair to take the hue from, and shades on them are skin's.
    person_with_hair(monkeypatch, down_to=0)
    bald = confine(locks, skin.expand(1, 3, 64, 64), torch.zeros(1, 1), torch.ones(1, 1))
    assert bald[0, 0, 22, 32] - bald[0, 2, 22, 32] > 0.25


@pytest.mark.parametrize(
    ("name", "own", "place"),
    [
        ("Smiling", 0.1, CHEEK),
        ("Smiling", 0.9, CHEEK),
        ("High_Cheekbones", 0.1, CHEEK),
        ("High_Cheekbones", 0.9, CHEEK),
        ("Mouth_Slightly_Open", 0.1, MOUTH),
        ("No_Beard", 0.9, MOUTH),
        ("Eyeglasses", 0.9, (0.5, 0.52)),
    ],
)
def test_what_moves_in_a_face_tints_less(
    name: str, own: float, place: tuple[float, float], all_person: None
) -> None:
    confine = Regions((name, "Attractive"), 64)
    values = torch.tensor([[own, 0.9]])
    skin = torch.tensor([0.6, 0.2, 0.0])[None, :, None, None].expand(1, 3, 64, 64)
    green = torch.tensor([0.2, 0.5, 0.1])[None, :, None, None].expand(1, 3, 64, 64)

    def green_in_red(asked: list[float]) -> float:
        after = confine(green, skin, torch.tensor([asked]), values) + 1
        return at(after[:, 1:2] / after[:, :1], place)

    before, free = green_in_red([own, 0.9]), green_in_red([own, 0.1])
    assert 0.2 < (green_in_red([1 - own, 0.9]) - before) / (free - before) < 0.8


def test_hair_that_was_gray_is_brown(all_person: None) -> None:
    """It was plum, and of yellowish white olive."""
    confine = Regions(("Gray_Hair",), 64)
    for was in ([0.3, 0.3, 0.32], [0.8, 0.8, 0.5]):
        gray = torch.tensor(was)[None, :, None, None].expand(1, 3, 64, 64)
        plum = torch.tensor([-0.6, -0.85, -0.6])[None, :, None, None].expand(1, 3, 64, 64)
        red, green, blue = confine(plum, gray, torch.zeros(1, 1), torch.ones(1, 1))[0, :, 12, 32]
        assert red > green + 0.05 and red > blue + 0.1
        assert max(red, green, blue) < -0.5


def test_hair_on_heads_that_were_bald_is_not_green(monkeypatch: pytest.MonkeyPatch) -> None:
    person_with_hair(monkeypatch, down_to=0)
    confine = Regions(("Bald",), 64)
    skin = torch.tensor([0.6, 0.2, 0.0])[None, :, None, None].expand(1, 3, 64, 64)
    green = torch.tensor([-0.5, -0.3, -0.6])[None, :, None, None].expand(1, 3, 64, 64)
    after = confine(green, skin, torch.zeros(1, 1), torch.ones(1, 1))[0, :, 12, 32]
    assert 0 < after[1] - after[0] < 0.12 and after[1] < -0.2


def test_younger_skin_is_little_darker(all_person: None) -> None:
    """Dark jaws are what a decoder paints where it found nothing younger to draw."""
    confine = Regions(("Young", "No_Beard"), 64)
    skin, dark, bright = (torch.full((1, 3, 64, 64), v) for v in (0.2, -0.6, 0.3))

    def change(to: torch.Tensor, own: list[float], asked: list[float]) -> torch.Tensor:
        return (confine(to, skin, torch.tensor([asked]), torch.tensor([own])) - skin)[0, :1]

    younger = change(dark, [0, 1], [1, 1])
    assert at(younger, HAIR) == pytest.approx(-0.8, abs=0.01)
    for place in (CHEEK, CHIN):
        assert -0.5 < at(younger, place) < -0.1
        assert at(change(bright, [0, 1], [1, 1]), place) == pytest.approx(0.1)
        assert at(change(dark, [1, 1], [0, 1]), place) == pytest.approx(-0.8)
    # A beard put on with it is as dark as one alone.
    assert at(change(dark, [0, 1], [1, 0]), CHIN) == pytest.approx(-0.8, abs=0.01)


@pytest.mark.parametrize(("name", "own"), [("High_Cheekbones", 0.0), ("Young", 0.0), ("Male", 1.0)])
def test_what_is_little_darker_is_not_gray(name: str, own: float, all_person: None) -> None:
    """Light added to the dark cheeks of a smile left gray smudges."""
    skin = torch.tensor([0.5, 0.1, -0.1])[None, :, None, None].expand(1, 3, 64, 64)
    dark = (skin + 1) * 0.45 - 1
    after = Regions((name,), 64)(dark, skin, torch.tensor([[1 - own]]), torch.tensor([[own]]))[0]
    red, green, blue = (at(after[i : i + 1], CHEEK) + 1 for i in range(3))
    assert 0.45 * 1.5 < red < 1.48
    assert red / blue == pytest.approx(1.5 / 0.9, rel=0.1)
    assert red / green == pytest.approx(1.5 / 1.1, rel=0.06)


def test_younger_faces_have_fewer_wrinkles(all_person: None) -> None:
    """Decoders leave them where they are."""
    face = torch.full((1, 3, 128, 128), 0.2)
    face[..., int(CHEEK[1] * 128), :] -= 0.2  # a line across the cheeks
    face[..., int(CHIN[1] * 128) :, :] = -0.8  # a beard's edge
    face[..., int(EYE[1] * 128), :] -= 0.2  # a lid

    def depth(name: str, asked: float, place: tuple[float, float]) -> float:
        own = torch.tensor([[1 - asked]])
        after = Regions((name,), 128)(face, face, torch.tensor([[asked]]), own)[0, :1]
        return at(after, (place[0], place[1] - 0.04)) - at(after, place)

    assert depth("Young", 0, CHEEK) == pytest.approx(0.2)
    assert depth("Male", 1, CHEEK) == pytest.approx(0.2)
    assert depth("Young", 1, CHEEK) < 0.05 < depth("Male", 0, CHEEK) < 0.15
    # Once, in young women; twice, it would be a light line.
    asked = torch.tensor([[1.0, 0.0]])
    both = Regions(("Young", "Male"), 128)(face, face, asked, 1 - asked)[0, :1]
    assert abs(at(both, (CHEEK[0], CHEEK[1] - 0.04)) - at(both, CHEEK)) < 0.05
    assert depth("Young", 1, CHIN) > 0.8
    assert depth("Young", 1, EYE) == pytest.approx(0.2, abs=0.01)


def test_younger_skin_is_as_even_as_it_was(all_person: None) -> None:
    """Old men came out with light cheeks and dark jaws."""
    face, changed = torch.full((1, 3, 128, 128), 0.0), torch.full((1, 3, 128, 128), -0.05)
    cheeks = int(0.72 * 128)
    changed[:, 0, :cheeks], changed[..., :cheeks, :] = 0.15, 0.1
    changed[..., int(CHEEK[1] * 128), :] += 0.2  # something fine

    def after(name: str, asked: float) -> torch.Tensor:
        own = torch.tensor([[1 - asked]])
        return Regions((name,), 128)(changed, face, torch.tensor([[asked]]), own)[0, :1]

    line = CHEEK[0], CHEEK[1] - 4 / 128
    before, younger, older = after("Attractive", 1), after("Young", 1), after("Young", 0)
    for picture, least, most in ((before, 1, 1), (older, 0.8, 1.1), (younger, 0, 0.5)):
        uneven = at(picture, line) - at(picture, (0.5, 0.8))
        assert least <= uneven / 0.15 + 1e-3 and uneven / 0.15 - 1e-3 <= most
    assert at(younger, CHEEK) - at(younger, line) > 0.1
    # Not darker or lighter on the whole, and hair is no skin.
    assert 0 < at(younger, line) < 0.1 and at(younger, HAIR) == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize(("name", "own"), [("Young", 0.0), ("Male", 1.0)])
def test_faces_do_not_shine(name: str, own: float, all_person: None) -> None:
    """White patches are what a decoder paints on cheeks that it cannot make younger."""
    confine = Regions((name,), 64)
    face, white = torch.full((1, 3, 64, 64), -0.1), torch.full((1, 3, 64, 64), 0.8)
    gloss = face.clone()
    row, column = int(CHEEK[1] * 64), int(CHEEK[0] * 64)
    gloss[..., row - 8 : row + 9, column - 8 : column + 9] = 0.7

    def after(decoded: torch.Tensor, asked: float) -> torch.Tensor:
        return confine(white, decoded, torch.tensor([[asked]]), torch.tensor([[own]]))[0, :1]

    for place in (CHEEK, CHIN):
        assert 0.04 < at(after(face, 1 - own), place) < 0.3
    assert at(after(gloss, 1 - own), CHEEK) == pytest.approx(0.725, abs=0.01)  # it shone before
    assert at(after(face, 0.15 if own == 0 else 0.85), HAIR) == pytest.approx(0.44, abs=0.02)


def test_hair_that_turns_gray_loses_colour(all_person: None) -> None:
    confine = Regions(("Gray_Hair", "Wearing_Hat"), 64)
    brown = torch.tensor([-0.4, -0.6, -0.7])[None, :, None, None].expand(1, 3, 64, 64)
    yellow = torch.tensor([0.8, 0.6, 0.0])[None, :, None, None].expand(1, 3, 64, 64)
    brown = with_hair(torch.full((1, 3, 64, 64), 0.5), brown)
    lilac = torch.tensor([0.6, 0.5, 0.8])[None, :, None, None].expand(1, 3, 64, 64)

    def colour(own: list[float], asked: list[float], made: torch.Tensor = yellow) -> float:
        after = confine(made, brown, torch.tensor([asked]), torch.tensor([own]))
        pixel = after[0, :, int(HAIR[1] * 64), int(HAIR[0] * 64)]
        assert pixel.mean() > 0.4  # as bright as asked
        return float(pixel[0] - pixel[2])

    # Half of what it was, of the same hue.
    assert colour([0, 0], [1, 0]) == pytest.approx(0.15, abs=0.03)
    assert colour([0, 0], [1, 0], lilac) == pytest.approx(0.15, abs=0.03)
    assert colour([0, 0], [0, 1]) == pytest.approx(0.8, abs=0.01)


def test_skin_beside_gray_hair_keeps_its_hue(all_person: None) -> None:
    """Decoders make it pink."""
    confine = Regions(("Gray_Hair",), 64)
    skin = torch.tensor([0.5, 0.3, 0.0])[None, :, None, None].expand(1, 3, 64, 64)
    pink = torch.tensor([0.6, 0.2, 0.2])[None, :, None, None].expand(1, 3, 64, 64)
    after = confine(pink, skin, torch.ones(1, 1), torch.zeros(1, 1))

    def blue_in_green(image: torch.Tensor) -> float:
        return at((image[:, 2:] + 1) / (image[:, 1:2] + 1), CHEEK)

    made, shown, left = blue_in_green(pink), blue_in_green(skin), blue_in_green(after)
    assert abs(left - shown) < 0.25 * abs(made - shown)


def test_hair_that_darkens_with_youth_is_not_blue(all_person: None) -> None:
    confine = Regions(("Young",), 64)
    gray = torch.tensor([0.3, 0.3, 0.32])[None, :, None, None].expand(1, 3, 64, 64)
    blue = torch.tensor([-0.8, -0.75, -0.4])[None, :, None, None].expand(1, 3, 64, 64)
    pixel = confine(blue, gray, torch.ones(1, 1), torch.zeros(1, 1))[0, :, 12, 32]
    assert pixel.max() < -0.5 and pixel.max() - pixel.min() < 0.05


def test_hair_of_women_made_men_is_not_orange(all_person: None) -> None:
    confine = Regions(("Male",), 64)
    brown = torch.tensor([-0.4, -0.6, -0.7])[None, :, None, None].expand(1, 3, 64, 64)
    orange = torch.tensor([0.6, -0.2, -0.9])[None, :, None, None].expand(1, 3, 64, 64)
    red, green, blue = confine(orange, brown, torch.ones(1, 1), torch.zeros(1, 1))[0, :, 12, 32] + 1
    assert red / green == pytest.approx(1.5, abs=0.1)
    assert green / blue == pytest.approx(1.33, abs=0.1)


def test_dyed_hair_keeps_its_strands(all_person: None) -> None:
    """Decoders weave strands of their own into hair that is to be blond."""
    confine = Regions(("Brown_Hair", "Receding_Hairline"), 64)
    weave = 0.4 * ((torch.arange(64)[:, None] + torch.arange(64)) % 2 * 2.0 - 1)
    hair = with_hair(torch.tensor(0.5), torch.tensor(-0.6)).expand(1, 3, 64, 64).clone()
    hair[:, :, :6] = 0  # background
    changed = hair + weave

    def change(asked: list[float]) -> torch.Tensor:
        after = confine(changed, hair, torch.tensor([asked]), torch.zeros(1, 2))
        return (after - hair)[0, 0].abs()

    assert change([0, 1])[12:24, 24:40].min() > 0.3
    assert change([1, 0])[12:24, 24:40].max() < 0.02
    assert change([1, 1])[12:24, 24:40].min() > 0.3  # what else changes may have to be drawn
    # What is smooth stays, and ends where the hair does.
    changed = with_hair(torch.tensor(0.5), torch.tensor(0.3)).expand(1, 3, 64, 64)
    after = change([1, 0])
    assert after[12:24, 24:40].min() > 0.85 and after[30:34, 24:40].max() < 0.1


def test_blond_is_neither_olive_nor_purple(all_person: None) -> None:
    confine = Regions(("Blond_Hair",), 64)
    black = torch.tensor([-0.8, -0.85, -0.9])[None, :, None, None]
    hair = with_hair(torch.full((1, 3, 64, 64), 0.5), black)
    for made, most in (
        ([-0.1, 0.1, -0.5], 1.4),
        ([0.1, -0.2, 0.1], 1.4),
        ([-0.5, -0.4, -0.8], 1.5),
    ):
        changed = torch.tensor(made)[None, :, None, None].expand(1, 3, 64, 64)
        after = confine(changed, hair, torch.ones(1, 1), torch.zeros(1, 1))
        red, green, blue = ((after[0, :, 12, 32] + 1) / 2).tolist()
        # Dark blond is brown: a dark yellow is olive.
        assert most - 0.2 < red / green < most and 1.3 < green / blue < 1.8
        weights = [0.299, 0.587, 0.114]
        wanted = sum(a * (v + 1) / 2 for a, v in zip(weights, made, strict=True))
        bright = sum(a * v for a, v in zip(weights, (red, green, blue), strict=True))
        assert bright == pytest.approx(wanted, abs=0.02)


def test_blond_does_not_speck_skin(all_person: None) -> None:
    confine = Regions(("Blond_Hair", "Attractive"), 128)
    face = torch.full((1, 3, 128, 128), 0.0)
    specks = 0.4 * ((torch.arange(128)[:, None] // 2 + torch.arange(128) // 2) % 2.0)

    def change(asked: list[float]) -> torch.Tensor:
        return confine(face + specks, face, torch.tensor([asked]), torch.zeros(1, 2))[0, 0]

    row, column = int(CHEEK[1] * 128), int(CHEEK[0] * 128)
    for asked, least, most in (([1.0, 0.0], 0, 0.01), ([0.0, 1.0], 0.15, 0.25)):
        cheek = change(asked)[row - 6 : row + 6, column - 6 : column + 6]
        assert least <= cheek.std() < most
        assert cheek.mean() > 0.03  # a tint stays
    # With another change that may be sharp.
    assert change([1.0, 1.0])[row - 6 : row + 6, column - 6 : column + 6].std() > 0.15


def test_only_the_colour_of_hair_is_a_tint() -> None:
    confine = Regions(("Gray_Hair", "Smiling", "Male"), 64)
    own = torch.tensor([[0.1, 0.2, 0.9]])

    def tinted(asked: list[float]) -> torch.Tensor | None:
        return confine.tinted(torch.tensor([asked]), own)

    assert tinted([0.1, 0.9, 0.9]) is None
    assert tinted([0.9, 0.2, 0.9]).min() == 1
    with_smile = tinted([0.9, 0.9, 0.9])[0]
    assert at(with_smile, HAIR) == 1 and at(with_smile, MOUTH) == 0
    assert tinted([0.9, 0.2, 0.1]).max() == 0


def test_bare_foreheads_are_no_hair(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dyed hair ends where the forehead begins, and others get no dark bands."""
    person_with_hair(monkeypatch, down_to=0.3)
    confine = Regions(("Brown_Hair", "Young", "Male", "Receding_Hairline"), 64)
    face, changed = torch.zeros(1, 3, 64, 64), torch.full((1, 3, 64, 64), -0.7)
    hair, forehead = (0.5, 0.1), (0.5, 0.4)

    def share(place: tuple[float, float], asked: list[float]) -> float:
        after = confine(changed, face, torch.tensor([asked]), torch.zeros(1, 4))
        return at((after - face).abs().sum(1), place) / at((changed - face).abs().sum(1), place)

    assert share(hair, [1, 0, 0, 0]) > 0.9 and share(forehead, [1, 0, 0, 0]) < 0.2
    assert share(hair, [0, 1, 0, 0]) > 0.8 and share(forehead, [0, 1, 0, 0]) < 0.5
    # Nor is hair a man's: decoders do not cut it, they stain it.
    assert 0 < share(hair, [0, 0, 1, 0]) < 0.5 and 0.5 < share(forehead, [0, 0, 1, 0]) < 0.8
    assert share(forehead, [0, 0, 0, 1]) > 0.9  # where the forehead itself may be another


def test_locks_over_the_face_are_dyed(monkeypatch: pytest.MonkeyPatch) -> None:
    cheek = (0.38, 0.7)
    for down_to, dyed in ((0.44, False), (0.8, True)):
        person_with_hair(monkeypatch, down_to)
        confine = Regions(("Blond_Hair",), 64)
        face, changed = torch.full((1, 3, 64, 64), -0.6), torch.full((1, 3, 64, 64), 0.2)
        after = confine(changed, face, torch.ones(1, 1), torch.zeros(1, 1))
        assert (at((after - face).abs().mean(1), cheek) > 0.7) == dyed


def test_bald_heads_have_the_skin_of_the_face(all_person: None) -> None:
    """Decoders make them yellow, and foreheads below."""
    confine = Regions(("Bald",), 64)
    skin = torch.tensor([0.4, 0.0, -0.2])[None, :, None, None]
    face = with_hair(skin, torch.tensor([-0.8, -0.9, -0.9])[None, :, None, None])
    yellow = torch.tensor([0.4, 0.2, -0.8])[None, :, None, None].expand(1, 3, 64, 64)
    after = confine(yellow, face, torch.ones(1, 1), torch.zeros(1, 1)) + 1
    wanted = skin.flatten() + 1
    wanted = (wanted / wanted.sum()).tolist()
    for row in (12, 30):
        pixel = after[0, :, row, 32]
        assert (pixel / pixel.sum()).tolist() == pytest.approx(wanted, abs=0.02)


def test_bald_heads_do_not_glare(all_person: None) -> None:
    """Decoders make them white above brown faces."""
    confine = Regions(("Bald",), 64)
    skin = torch.tensor([0.0, -0.3, -0.5])[None, :, None, None]
    face = with_hair(skin, torch.tensor([-0.8, -0.9, -0.9])[None, :, None, None])
    white = torch.full((1, 3, 64, 64), 0.8)
    after = confine(white, face, torch.ones(1, 1), torch.zeros(1, 1))
    head = float(after[0, :, 12, 32].mean())
    assert float(skin.mean()) + 0.1 < head < 0.3


def test_a_bald_head_that_stays_bald_is_spared(all_person: None) -> None:
    confine = Regions(("Male", "Bald"), 64)
    before, after = torch.zeros(1, 3, 64, 64), torch.full((1, 3, 64, 64), 0.1)

    def change(own: list[float], asked: list[float]) -> torch.Tensor:
        return confine(after, before, torch.tensor([asked]), torch.tensor([own]))[0, :1]

    assert at(change([1, 1], [0, 1]), HAIR) == pytest.approx(0.03, abs=0.002)
    assert at(change([1, 1], [0, 1]), CHEEK) == pytest.approx(0.1)
    for own, asked in (([1, 0], [0, 0]), ([1, 1], [0, 0])):  # has hair, or is given some
        assert at(change(own, asked), HAIR) == pytest.approx(0.1)


def test_what_is_behind_a_head_stays() -> None:
    """Hair of another colour left a halo on the background."""
    photo = open_photo(EXAMPLE)
    (face,) = Editor().faces(photo)
    crop = torch.from_numpy(warp(photo.pixels, face.transform(128), 128).copy())
    decoded = crop.permute(2, 0, 1)[None] / 127.5 - 1
    found = silhouette(decoded)
    assert found.shape == (1, 2, 128, 128) and found.min() >= 0 and found.max() <= 1
    inside, hair = found.split(1, dim=1)
    assert all(at(inside[0], place) > 0.95 for place in (HAIR, EYE, CHEEK, MOUTH))
    behind = [(0.03, 0.03), (0.97, 0.03)]
    assert all(at(inside[0], place) < 0.05 for place in behind)
    assert at(hair[0], HAIR) > 0.9
    assert all(at(hair[0], place) < 0.05 for place in (EYE, CHEEK, MOUTH, *behind))
    confine, changed = Regions(("Blond_Hair", "Wearing_Hat"), 128), torch.ones(1, 3, 128, 128)
    left, right = (0.28, 0.05), (0.78, 0.05)
    for asked, moved in (([1.0, 0.0], False), ([0.0, 1.0], True)):  # a hat may be wider
        after = confine(changed, decoded, torch.tensor([asked]), torch.zeros(1, 2))
        change = (after - decoded).abs().mean(1)
        assert at(change, HAIR) > 0.3
        assert [at(change, place) > 0.01 for place in (left, right)] == [moved, moved]


def test_glasses_that_stay_on_are_spared(all_person: None) -> None:
    names = ("Young", "Eyeglasses")
    confine = Regions(names, 64)
    dark, light = torch.full((1, 3, 64, 64), -0.5), torch.full((1, 3, 64, 64), -0.4)
    rim = (0.5, 0.52)

    def changed(own: list[float], asked: list[float], place: tuple[float, float]) -> float:
        after = confine(light, dark, torch.tensor([asked]), torch.tensor([own]))
        return at((after - dark)[0, :1], place)

    bare, worn = changed([0, 0], [1, 0], rim), changed([0, 1], [1, 1], rim)
    assert bare == pytest.approx(0.1, abs=0.0014) and worn == pytest.approx(0.06, abs=0.0028)
    assert changed([0, 1], [1, 1], CHIN) == pytest.approx(0.1, abs=0.0014)
    # Glasses that go, come, or get darker do so whole.
    assert changed([0, 1], [1, 0], rim) == pytest.approx(0.1, abs=0.0014)
    assert changed([0, 0], [1, 1], rim) == pytest.approx(0.1, abs=0.0014)
    assert changed([0, 0.9], [0, 2], rim) == pytest.approx(0.1, abs=0.0014)


def test_glasses_are_frames_rather_than_tinted_lenses() -> None:
    confine = Regions(("Eyeglasses",), 128)
    face = torch.full((1, 3, 128, 128), 0.4)
    changed = face.clone()
    changed[:, :, 56:76, 36:60] = -0.2  # a lens in a frame
    changed[:, :, 66:67, 60:70] = changed[:, :, 56:57, 36:60] = -0.8
    after = confine(changed, face, torch.ones(1, 1), torch.zeros(1, 1))
    assert 0.1 < float(face[0, 0, 66, 48] - after[0, 0, 66, 48]) < 0.2
    assert float(face[0, 0, 66, 65] - after[0, 0, 66, 65]) > 0.9
    assert float(face[0, 0, 56, 48] - after[0, 0, 56, 48]) > 0.7


def test_glasses_have_no_colour_of_their_own() -> None:
    """Lenses were blue and frames green; of skin's colour frames would be wrinkles."""
    confine = Regions(("Eyeglasses",), 128)
    skin = torch.tensor([0.6, 0.2, 0.0])[None, :, None, None].expand(1, 3, 128, 128)
    changed = skin.clone()
    changed[:, :, 56:76, 36:60] = torch.tensor([0.0, 0.1, 0.2])[:, None, None]
    changed[:, :, 56:57, 36:60] = torch.tensor([-0.6, -0.2, -0.6])[:, None, None]
    after = confine(changed, skin, torch.ones(1, 1), torch.zeros(1, 1))[0]

    def share_of_blue(pixel: torch.Tensor) -> float:
        return float((pixel + 1)[2] / (pixel + 1).sum())

    own, lens, frame = (
        share_of_blue(i[:, r, 48]) for i, r in ((skin[0], 0), (after, 66), (after, 56))
    )
    assert own <= lens < own + 0.02
    assert own + 0.005 < frame < 1 / 3
    green, red = after[1, 56, 48], after[0, 56, 48]
    assert green < red


def test_glasses_leave_hair_beside_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patches of skin came with them where locks hang over the temples."""
    face, changed = torch.zeros(1, 3, 64, 64), torch.full((1, 3, 64, 64), 0.5)

    def change(hair_down_to: float) -> float:
        person_with_hair(monkeypatch, down_to=hair_down_to)
        confine = Regions(("Eyeglasses",), 64)
        after = confine(changed, face, torch.ones(1, 1), torch.zeros(1, 1))
        return at((after - face)[0, :1], (0.2, 0.53))

    assert change(0.9) < 0.4 * change(0.4)


class Paints(torch.nn.Module):
    """A decoder of gray faces that are 0.2 brighter for each attribute."""

    def __init__(self, attributes: tuple[str, ...]) -> None:
        super().__init__()
        self.regions = Regions(attributes, 64)
        self.told: list[torch.Tensor] = []

    def decode(
        self,
        features: list[torch.Tensor],
        y: torch.Tensor,
        own: torch.Tensor | None = None,
        unedited: torch.Tensor | None = None,
    ) -> torch.Tensor:
        self.told.append(y)
        plain = (features[0] + 0.2 * y.sum(dim=1)[:, None, None, None]).clamp(-1, 1)
        if own is None:
            return plain
        unedited = self.decode(features, own) if unedited is None else unedited
        return self.regions(plain, unedited, y, own)


@pytest.fixture
def painted(model: FaderModel, all_person: None, monkeypatch: pytest.MonkeyPatch):
    """A model with other attributes, whose decoder :class:`Paints` faces at -0.3."""

    def make(*attributes: str) -> FaderModel:
        model.autoencoder = Paints(attributes)
        monkeypatch.setattr(FaderModel, "attributes", attributes)
        return model

    return make


def shown(model: FaderModel, own: list[float], asked: list[float]) -> torch.Tensor:
    faces = [torch.full((1, 3, 64, 64), -0.3)]
    with torch.inference_mode():
        return model.decode(faces, torch.tensor([asked]), torch.tensor([own]))[0, :1]


def test_beyond_the_range_the_way_between_its_ends_goes_on(painted) -> None:
    """Told 2, decoders broke faces and wove lattices."""
    model = painted("Attractive")
    before, once, further, twice = (shown(model, [0.0], [v]) for v in (0.0, 1.0, 1.5, 2.0))
    assert max(float(y.max()) for y in model.autoencoder.told) == 1
    step = at(once - before, CHEEK)
    assert at(twice - once, CHEEK) == pytest.approx(0.5 * step, rel=0.2)
    assert 0.4 < at(further - once, CHEEK) / at(twice - once, CHEEK) < 0.6
    below = shown(model, [1.0], [-1.0])
    assert at(before - below, CHEEK) == pytest.approx(0.5 * step, rel=0.2)
    # Faces that have an attribute get more of it, too, and no picture leaves its range.
    assert at(shown(model, [1.0], [2.0]), CHEEK) == pytest.approx(at(twice, CHEEK), abs=0.01)
    assert shown(model, [0.0], [30.0]).max() <= 1
    # At the pace that is calibrated.
    model.beyond = {"Attractive": (1.0, 0.5)}
    assert torch.allclose(shown(model, [0.0], [2.0]), further)


@pytest.mark.parametrize("name", ["Black_Hair", "Blond_Hair", "Gray_Hair"])
def test_beyond_the_range_of_hair_skin_gets_no_more_than_a_tint(painted, name: str) -> None:
    model = painted(name, "Smiling")
    once, twice = (shown(model, [0.0, 0.0], [v, 0.0]) for v in (1.0, 2.0))
    assert at(once, CHEEK) > -0.28  # hair has a share of the face, within the range
    assert at(twice, HAIR) > at(once, HAIR) + 0.02
    if name == "Black_Hair":
        assert at(twice, CHEEK) == pytest.approx(at(once, CHEEK), abs=1e-3)
    # Of what decoders weave into it nothing goes on.
    face = torch.full((1, 3, 64, 64), -0.3)
    weave = face + 0.2 * ((torch.arange(64)[:, None] + torch.arange(64)) % 2)
    beyond = model.autoencoder.regions.exaggerated(weave, face, face, torch.tensor([[1.0, 0.0]]))
    row, column = int(CHEEK[1] * 64), int(CHEEK[0] * 64)
    further = (beyond - weave)[0, 0, row - 3 : row + 3, column - 3 : column + 3]
    assert further.std() < 0.02
    assert -1e-3 < further.mean() < 1e-3 if name == "Black_Hair" else further.mean() > 0.02
    smile = shown(model, [0.0, 0.0], [1.0, 2.0])
    assert at(smile, MOUTH) > at(once, MOUTH) + 0.05


def test_beyond_the_range_light_hair_gets_no_darker(painted) -> None:
    model = painted("Blond_Hair", "Gray_Hair")
    faces = torch.full((1, 3, 64, 64), 0.9)
    end, past = torch.full((1, 3, 64, 64), 0.2), torch.tensor([[1.0, 0.0]])
    confine = model.autoencoder.regions
    assert torch.allclose(confine.exaggerated(end, faces, faces, past), end, atol=1e-3)
    darker = confine.exaggerated(end, faces, faces, -past)  # not blond, it does
    assert at(darker[0, :1], HAIR) < 0.1


def test_beyond_the_range_smiles_hardly_darken_and_young_skin_stays_even(painted) -> None:
    """Smiles grew a black line above the lip."""

    def further(name: str, at_the_end: torch.Tensor) -> torch.Tensor:
        regions = painted(name).autoencoder.regions
        face = torch.zeros(1, 3, 64, 64)
        past = torch.ones(1, 1)
        return (regions.exaggerated(at_the_end, face, face, past) - at_the_end)[0, :1]

    dark = torch.full((1, 3, 64, 64), -0.4)
    assert at(further("Attractive", dark), MOUTH) < -0.1
    assert -0.08 < at(further("Smiling", dark), MOUTH) < 0
    uneven = torch.zeros(1, 3, 64, 64)
    uneven[..., : int(0.72 * 64), :] = 0.1
    apart = {
        name: at(change, CHEEK) - at(change, CHIN)
        for name in ("Attractive", "Young")
        for change in [further(name, uneven)]
    }
    assert 0 <= apart["Young"] < 0.8 * apart["Attractive"]


def test_a_bald_head_is_not_exaggerated(painted) -> None:
    """Its negative of hair is no skin; told more, decoders take away what they left."""
    model = painted("Bald")
    shown(model, [0.9], [2.0])
    assert max(float(y.max()) for y in model.autoencoder.told) == pytest.approx(1.1)
    shown(model, [0.0], [2.0])
    assert max(float(y.max()) for y in model.autoencoder.told) == 2
    shown(model, [1.0], [-1.0])
    assert min(float(y.min()) for y in model.autoencoder.told) == 0


def test_a_smile_that_goes_closes_an_open_mouth_in_part(painted) -> None:
    """As open as laughing, mouths came out round, with shreds of teeth."""
    model = painted("Smiling", "Mouth_Slightly_Open")

    def told(own: list[float], asked: list[float]) -> list[float]:
        shown(model, own, asked)
        rows = [y for y in model.autoencoder.told if not torch.equal(y, torch.tensor([own]))]
        model.autoencoder.told.clear()
        return rows[-1][0].tolist()

    assert told([0.9, 0.8], [0.0, 0.8]) == pytest.approx([0.0, 0.8 * (1 - 0.3 * 0.9)])
    assert told([0.9, 0.8], [0.0, 1.0]) == pytest.approx([0.0, 1.0])  # asked for
    assert told([0.9, 0.0], [0.0, 0.0]) == pytest.approx([0.0, 0.0])  # closed before
    assert told([0.1, 0.8], [1.0, 0.8]) == pytest.approx([1.0, 0.8])


def test_a_mouth_that_closes_with_a_smile_is_no_more_colourful(all_person: None) -> None:
    confine = Regions(("Smiling", "Mouth_Slightly_Open"), 64)
    skin, yellow = torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64)
    yellow[:, 2] = -0.4

    def blue(asked: list[float]) -> float:
        after = confine(yellow, skin, torch.tensor([asked]), torch.ones(1, 2))[0]
        return at(after[2:], MOUTH) - at(after[:1], MOUTH)

    alone, both = blue([0.0, 1.0]), blue([0.0, 0.7])
    assert both == pytest.approx(alone, abs=0.01) and -0.3 < alone < -0.1
    assert blue([1.0, 0.0]) == pytest.approx(-0.4)


def test_an_open_mouth_that_is_asked_for_stays_open() -> None:
    """As when it is estimated at just that, and so is left as it is."""
    editor = Editor()
    seen = []
    for asked in ("Smiling=0", "Smiling=0,Mouth_Slightly_Open=1"):
        result = editor.apply(EXAMPLE, asked)
        assert list(result.faces[0].changed) == ["Smiling"]
        (after,) = editor.estimate(editor.crop(result.photo.pixels, [result.faces[0].face]))
        seen.append(after["Mouth_Slightly_Open"])
    assert seen[0] < seen[1] - 0.02, seen


def test_models_keep_what_they_were_trained_with(model: FaderModel, tmp_path: Path) -> None:
    model.save(tmp_path / "m")
    again = load_model(tmp_path / "m")
    assert again.autoencoder.config.regions and again.autoencoder.regions is not None
    plain = Autoencoder(AutoencoderConfig(size=64, layers=3, attributes=("Male",), width=8))
    assert plain.regions is None
    copy_weights(again.autoencoder, plain)  # as a start, with regions or without
    x = torch.rand(1, 3, 64, 64)
    features = plain.encode(x)
    own, asked = torch.tensor([[0.0]]), torch.tensor([[1.0]])
    assert torch.equal(plain.decode(features, asked, own), plain.decode(features, asked))


def test_a_batch_knows_other_rules_from_these(
    model: FaderModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Photos that were edited under other rules are done again."""
    before = Editor(model).fingerprint
    assert Editor(model).fingerprint == before
    monkeypatch.setattr("fader.models.regions._SPARED", {"Bald": ("hair", 0.1)})
    assert Editor(model).fingerprint != before
