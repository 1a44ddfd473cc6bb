import cv2
import numpy as np
import pytest
from fakes import crop_corners, made_face

from fader.faces.align import warp
from fader.faces.blend import DecodedFace, composite, mask, smoothstep, yielding
from fader.faces.detect import Face

FACES = {
    "upright": made_face(),
    "turned": made_face(angle=0.5, scale=1.2),
    "small": made_face(scale=0.3),
    "large": made_face(scale=3.0),
    "cut by the border": made_face(center=(5.0, 230.0)),
}


@pytest.fixture
def photo():
    """Noise of all values: the hardest picture to leave alone by accident."""
    return np.random.default_rng(1).integers(0, 256, (240, 300, 3), dtype=np.uint8)


def decoded_face(size=64, change=80.0, base=110.0):
    """A flat face that is to be ``change`` brighter, with a soft disc in the middle as its mask."""
    before = np.full((size, size, 3), base, np.float32)
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    disc = np.exp(-(rows**2 + columns**2) / (size / 8) ** 2).astype(np.float32)
    return DecodedFace(before, before + np.float32(change), disc)


def everywhere(before, after):
    return DecodedFace(before, after, np.ones(before.shape[:2], np.float32))


@pytest.mark.parametrize("face", FACES.values(), ids=FACES)
def test_no_change_changes_no_pixel(photo, face):
    random = np.random.default_rng(2)
    x = random.uniform(0, 255, (64, 64, 3)).astype(np.float32)
    mask = random.random((64, 64), np.float32)
    assert np.array_equal(composite(photo, face, DecodedFace(x, x.copy(), mask)), photo)
    # Nor does a mask that lets nothing through.
    closed = DecodedFace(x, 255 - x, np.zeros((64, 64), np.float32))
    assert np.array_equal(composite(photo, face, closed), photo)


@pytest.mark.parametrize("face", FACES.values(), ids=FACES)
def test_pixels_outside_the_mask_are_untouched(photo, face):
    before = np.full((64, 64, 3), 110, np.float32)
    edited = composite(photo, face, everywhere(before, before + 60))  # also at the crop's border
    outside = mask(face, photo.shape) == 0
    assert np.array_equal(edited[outside], photo[outside])
    assert not np.array_equal(edited, photo)


@pytest.mark.parametrize("face", FACES.values(), ids=FACES)
def test_the_mask_lies_within_the_aligned_crop(photo, face):
    crop = np.zeros(photo.shape[:2], np.uint8)
    cv2.fillConvexPoly(crop, crop_corners(face).round().astype(np.int32), 1)
    covered = mask(face, photo.shape)
    assert covered.max() <= 1 and covered.min() == 0
    assert not (covered[crop == 0] > 0).any()


def test_the_mask_is_whole_over_the_face_and_its_edge_is_soft():
    face = made_face(scale=2.0, center=(150.0, 150.0))
    covered = mask(face, (300, 300))
    for x, y in face.landmarks.round().astype(int):
        assert covered[y, x] == 1
    steps = np.abs(np.diff(covered, axis=0)), np.abs(np.diff(covered, axis=1))
    assert max(step.max() for step in steps) < 0.1


def test_a_change_leaves_no_seam():
    """A change of the whole crop fades in: no step between neighbours larger than the ramp's."""
    photo = np.full((240, 300, 3), 100, np.uint8)
    before = np.full((64, 64, 3), 100, np.float32)
    edited = composite(photo, made_face(angle=0.3), everywhere(before, before + 60)).astype(int)
    assert edited.max() == 160
    assert np.abs(np.diff(edited, axis=0)).max() <= 8
    assert np.abs(np.diff(edited, axis=1)).max() <= 8


@pytest.mark.parametrize("angle", [0.0, 0.3])
def test_an_edit_looks_the_same_in_a_photo_eight_times_as_large(angle):
    rows, columns = np.mgrid[:240, :300] / 20
    photo = np.stack([np.sin(rows), np.cos(columns), np.sin(rows + columns)], axis=2) * 60 + 128
    photo = photo.astype(np.uint8)
    small = made_face(angle=angle)
    large = Face(small.box * 8, small.score, (small.landmarks + 0.5) * 8 - 0.5)
    decoded = decoded_face(change=60.0)
    expected = composite(photo, small, decoded)

    enlarged = cv2.resize(photo, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
    edited = composite(enlarged, large, decoded)
    reduced = cv2.resize(edited, (300, 240), interpolation=cv2.INTER_AREA)
    assert np.abs(reduced.astype(int) - expected).max() <= 3
    assert np.abs(expected.astype(int) - photo).max() > 50


def noise(seed=3, size=64, level=110.0, spread=20.0):
    random = np.random.default_rng(seed)
    grey = cv2.GaussianBlur(random.normal(0, 1, (size, size)).astype(np.float32), (0, 0), 1)
    return np.repeat((level + spread * grey / grey.std())[:, :, None], 3, axis=2)


def test_detail_stays_in_a_tint_and_goes_where_structure_is_replaced():
    x = noise()
    assert yielding(x, x).max() == 0
    assert yielding(x, x + 60).max() < 1e-3  # lighter hair has the strands it had
    assert yielding(x, 0.75 * x + 10).max() < 0.05
    flat = np.full_like(x, 110)
    assert np.median(yielding(x, flat)) == 1  # teeth behind a closed mouth
    assert np.median(yielding(flat, x)) == 1  # a frame that was not there
    assert np.median(yielding(x, noise(seed=4))) == 1  # another mouth
    assert yielding(flat, flat + 2 * (x - 110) / 20).max() < 0.2  # grain is no structure


def test_fine_strands_survive_a_tint_and_not_a_replacement():
    coarse = noise(size=400, level=100)
    photo = np.clip(coarse, 0, 255).astype(np.uint8)
    photo[:, ::2] += 10
    photo[:, 1::2] -= 10
    face = made_face(center=(200.0, 200.0), scale=3.0)
    x = warp(photo, face.transform(64), 64).astype(np.float32)
    middle = slice(180, 220)

    def strands(after):
        row = composite(photo, face, everywhere(x, after))[middle, middle].astype(float)
        return (row[:, ::2] - row[:, 1::2]).mean(), row.mean()

    contrast, level = strands(x + 60)
    assert contrast == pytest.approx(20, abs=1) and level == pytest.approx(160, abs=3)
    contrast, level = strands(np.full_like(x, 160))
    assert contrast == pytest.approx(0, abs=6) and level == pytest.approx(160, abs=3)


def test_an_enlarged_change_is_smooth():
    photo = np.full((700, 700, 3), 100, np.uint8)
    face = made_face(center=(350.0, 350.0), scale=6.0)
    edited = composite(photo, face, decoded_face(size=32)).astype(int)
    assert np.abs(np.diff(edited, axis=1)).max() <= 3


def test_a_face_outside_the_photo_changes_nothing(photo):
    face = made_face(center=(-500.0, 100.0))
    assert np.array_equal(composite(photo, face, decoded_face()), photo)
    assert not mask(face, photo.shape).any()


def test_the_photo_given_is_not_written_to(photo):
    kept = photo.copy()
    composite(photo, made_face(), decoded_face())
    assert np.array_equal(photo, kept)


def test_smoothstep():
    assert smoothstep(np.array([-1.0, 0.0, 0.5, 1.0, 9.0]), 0, 1).tolist() == [0, 0, 0.5, 1, 1]
