import cv2
import numpy as np
import pytest
from fakes import crop_corners, made_face

from fader.faces.align import warp
from fader.faces.blend import composite, mask, smoothstep, yielding
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


def decodings(size=64, change=80.0):
    """A flat face, and the same with a bright disc in the middle."""
    before = np.full((size, size, 3), 110, np.float32)
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    after = before + change * np.exp(-(rows**2 + columns**2) / (size / 8) ** 2)[:, :, None]
    return before, after.astype(np.float32)


@pytest.mark.parametrize("face", FACES.values(), ids=FACES)
def test_no_change_changes_no_pixel(photo, face):
    decoded = np.random.default_rng(2).uniform(0, 255, (64, 64, 3)).astype(np.float32)
    assert np.array_equal(composite(photo, face, decoded, decoded.copy()), photo)


@pytest.mark.parametrize("face", FACES.values(), ids=FACES)
def test_pixels_outside_the_mask_are_untouched(photo, face):
    before, after = decodings()
    after += 60  # a change everywhere, also at the crop's border
    edited = composite(photo, face, before, after)
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
    edited = composite(photo, made_face(angle=0.3), before, before + 60).astype(int)
    assert edited.max() == 160
    assert np.abs(np.diff(edited, axis=0)).max() <= 8
    assert np.abs(np.diff(edited, axis=1)).max() <= 8


def test_small_changes_keep_the_photos_detail_and_large_ones_replace_it():
    rng = np.random.default_rng(3)
    photo = np.clip(rng.normal(110, 20, (400, 400, 3)), 0, 255).astype(np.uint8)
    face = made_face(center=(200.0, 200.0), scale=3.0)
    middle = slice(196, 205)

    slight = composite(photo, face, *decodings(change=3.0)).astype(float) - photo
    assert 1 <= slight[middle, middle].mean() <= 3
    assert slight[middle, middle].std() < 1  # the grain is still the photo's

    strong = composite(photo, face, *decodings(change=80.0)).astype(float)
    assert strong[middle, middle].mean() == pytest.approx(190, abs=3)
    assert strong[middle, middle].std() < 1  # the grain is gone


@pytest.mark.parametrize("angle", [0.0, 0.3])
def test_an_edit_looks_the_same_in_a_photo_eight_times_as_large(angle):
    rows, columns = np.mgrid[:240, :300] / 20
    photo = np.stack([np.sin(rows), np.cos(columns), np.sin(rows + columns)], axis=2) * 60 + 128
    photo = photo.astype(np.uint8)
    small = made_face(angle=angle)
    large = Face(small.box * 8, small.score, (small.landmarks + 0.5) * 8 - 0.5)
    before, after = decodings(change=60.0)
    expected = composite(photo, small, before, after)

    enlarged = cv2.resize(photo, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
    edited = composite(enlarged, large, before, after)
    reduced = cv2.resize(edited, (300, 240), interpolation=cv2.INTER_AREA)
    assert np.abs(reduced.astype(int) - expected).max() <= 3
    assert np.abs(expected.astype(int) - photo).max() > 50


def test_detail_yields_between_the_two_thresholds():
    flat = np.zeros((32, 32, 3), np.float32)
    levels = [float(yielding(flat, flat + change)[16, 16]) for change in (0, 6, 14, 22, 200)]
    assert levels == pytest.approx([0, 0, 0.5, 1, 1], abs=1e-3)


def test_strands_of_dyed_hair_stay_and_darken_with_it():
    dark, bright = (np.full((64, 64, 3), v, np.float32) for v in (40, 160))
    everywhere = np.ones((64, 64), np.float32)
    assert yielding(dark, bright)[32, 32] == yielding(bright, dark)[32, 32] == 1
    assert yielding(dark, bright, everywhere)[32, 32] == 0
    assert yielding(bright, dark, everywhere)[32, 32] == pytest.approx(1 - 48 / 168)
    strands = np.full((400, 400, 3), 30, np.uint8)
    strands[:, ::2] = 50
    face = made_face(center=(200.0, 200.0), scale=3.0)
    for tinted, contrast in ((None, 0), (everywhere, 20)):
        edited = composite(strands, face, dark, bright, tinted)[200, 190:210].astype(float)
        assert edited.mean() == pytest.approx(160, abs=2)
        assert np.ptp(edited) == pytest.approx(contrast, abs=2)


def test_changes_too_small_to_be_meant_are_left_out(photo):
    before = np.full((64, 64, 3), 110, np.float32)
    assert np.array_equal(composite(photo, made_face(), before, before + 0.9), photo)


def test_faint_stains_lose_their_colour_and_strong_colours_keep_it():
    photo = np.full((240, 300, 3), 110, np.uint8)
    face = made_face()
    x, y = face.landmarks.mean(axis=0).round().astype(int)
    before = np.full((64, 64, 3), 110, np.float32)

    def added(*colour: float) -> np.ndarray:
        after = before + np.array(colour, np.float32)
        return composite(photo, face, before, after)[y, x].astype(int) - 110

    reddish = added(12, 9, 9)
    assert np.ptp(reddish) <= 1 and reddish.mean() == pytest.approx(10, abs=1)
    assert added(60, 40, -40) == pytest.approx([60, 40, -40], abs=1)


def test_what_replaces_detail_has_the_tone_of_the_photo_around() -> None:
    """A decoder makes red skin a little gray; where a smile was, that would be a gray patch."""
    photo = np.full((400, 400, 3), (150, 120, 100), np.uint8)
    face = made_face(center=(200.0, 200.0), scale=3.0)
    before, after = decodings(change=60)  # a gray face
    edited = composite(photo, face, before, after)[200, 200].astype(int)
    assert edited == pytest.approx(photo[0, 0] + 60.0, abs=5)


def test_what_replaces_hair_has_the_tone_of_hair() -> None:
    """A decoder makes a violet wall blue; the hair beside it came out plum."""
    photo = np.full((400, 400, 3), (150, 100, 200), np.uint8)
    photo[:200] = photo[200:, :60] = (60, 60, 60)
    face = made_face(center=(200.0, 200.0), scale=3.0)
    before = warp(photo, face.transform(64), 64).astype(np.float32)
    before[before[:, :, 2] > 150] = (100, 110, 200)
    after = before.copy()
    after[26:31] = after[34:40] = (70, 70, 70)  # hair that was, and hair that grows
    edited = composite(photo, face, before, after).astype(int)
    for y in (180, 220):
        red, green, blue = edited[y, 200]
        assert abs(red - green) < 15 and abs(blue - green) < 15


def test_an_enlarged_change_is_smooth():
    photo = np.full((700, 700, 3), 100, np.uint8)
    face = made_face(center=(350.0, 350.0), scale=6.0)
    edited = composite(photo, face, *decodings(size=32)).astype(int)
    assert np.abs(np.diff(edited, axis=1)).max() <= 3


def test_a_face_outside_the_photo_changes_nothing(photo):
    face = made_face(center=(-500.0, 100.0))
    assert np.array_equal(composite(photo, face, *decodings()), photo)
    assert not mask(face, photo.shape).any()


def test_the_photo_given_is_not_written_to(photo):
    kept = photo.copy()
    composite(photo, made_face(), *decodings())
    assert np.array_equal(photo, kept)


def test_smoothstep():
    assert smoothstep(np.array([-1.0, 0.0, 0.5, 1.0, 9.0]), 0, 1).tolist() == [0, 0, 0.5, 1, 1]
