import cv2
import numpy as np
import pytest
from fakes import made_face
from PIL import Image

from fader.errors import FaderError
from fader.faces.align import (
    TEMPLATE,
    align,
    invert,
    scale_of,
    similarity,
    template,
    transform_points,
    warp,
)

TURN = np.array([[0.6, -0.8], [0.8, 0.6]])  # by about 53 degrees


def wave(size=240, period=60.0):
    """A smooth picture, so that resampling it is almost exact."""
    y, x = np.mgrid[:size, :size] * (2 * np.pi / period)
    channels = [127 + 100 * np.sin(x) * np.cos(y), 127 + 100 * np.cos(x), 127 + 100 * np.sin(y)]
    return np.stack(channels, axis=2).round().astype(np.uint8)


def test_template_is_celebas_square_resized():
    assert np.allclose(template(178), TEMPLATE - (0, 20))
    # Resizing a crop of one size to another moves its pixel centres to the other's template.
    assert np.allclose((template(178) + 0.5) * 64 / 178 - 0.5, template(64))


def test_similarity_recovers_rotation_scale_and_translation():
    source = template(128)
    target = 2.5 * source @ TURN.T + (30, -12)
    matrix = similarity(source, target)
    assert np.allclose(matrix[:, :2], 2.5 * TURN)
    assert np.allclose(matrix[:, 2], (30, -12))
    assert scale_of(matrix) == pytest.approx(2.5)


def test_similarity_is_the_least_squares_one():
    rng = np.random.default_rng(0)
    source, target = template(128), 1.3 * template(128) @ TURN.T + rng.normal(0, 3, (5, 2))
    matrix = similarity(source, target)
    best = ((transform_points(matrix, source) - target) ** 2).sum()
    for _ in range(50):
        a, b, x, y = rng.normal(0, 0.01, 4)
        near = matrix + np.array([[a, -b, x], [b, a, y]])
        assert ((transform_points(near, source) - target) ** 2).sum() >= best


def test_similarity_never_mirrors():
    mirrored = template(128) * (-1, 1)
    matrix = similarity(template(128) * (1, 0.9), mirrored)
    assert np.linalg.det(matrix[:, :2]) > 0


@pytest.mark.parametrize(
    "points",
    [np.full((5, 2), 7.0), np.full((5, 2), np.nan), np.zeros((0, 2)), np.ones((5, 3))],
    ids=["one place", "not a number", "none", "wrong shape"],
)
def test_points_that_define_no_face_are_refused(points):
    with pytest.raises(FaderError, match="landmarks"):
        similarity(points, template(128))


def test_inverse_brings_points_back():
    matrix = made_face(angle=0.4, scale=1.7).transform(128)
    points = np.array([[0.0, 0.0], [10.5, 99.0], [300.0, -5.0]])
    assert np.allclose(transform_points(invert(matrix), transform_points(matrix, points)), points)


def test_aligning_a_turned_and_scaled_photo_gives_the_upright_crop():
    photo = wave()
    upright = made_face(center=(119.5, 119.5))
    expected = align(photo, upright.landmarks, 100)

    # The same photo turned by 90 degrees and doubled, and its landmarks with it.
    turned = np.rot90(photo, -1)
    turned = np.asarray(Image.fromarray(turned).resize((480, 480), Image.Resampling.BICUBIC))
    x, y = upright.landmarks.T
    landmarks = (np.stack([239 - y, x], axis=1) + 0.5) * 2 - 0.5
    found = align(turned, landmarks, 100)
    assert np.abs(found.astype(int) - expected).max() <= 4


def test_warp_agrees_with_a_plain_crop():
    photo = wave()
    matrix = np.array([[1.0, 0, -20], [0, 1, -31]])
    assert np.array_equal(warp(photo, matrix, 64), photo[31:95, 20:84])
    assert np.array_equal(warp(photo, matrix, (40, 64)), photo[31:95, 20:60])


def test_shrinking_averages_instead_of_aliasing():
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 255
    small = warp(stripes, np.array([[1 / 8, 0, -0.4375], [0, 1 / 8, -0.4375]]), 64)
    assert np.abs(small.astype(int) - 127).max() <= 2


@pytest.mark.parametrize("times", [4, 7, 16])
def test_the_crop_of_an_enlarged_photo_is_that_of_the_photo(times):
    photo, face = wave(), made_face(center=(119.5, 119.5), angle=0.2, scale=1.2)
    expected = align(photo, face.landmarks, 100)
    enlarged = cv2.resize(photo, None, fx=times, fy=times, interpolation=cv2.INTER_CUBIC)
    crop = align(enlarged, (face.landmarks + 0.5) * times - 0.5, 100)
    assert np.abs(crop.astype(int) - expected).max() <= 4


def test_beyond_the_photo_it_is_mirrored():
    photo = wave()
    crop = warp(photo, np.array([[1.0, 0, 30], [0, 1, 0]]), 100)
    assert np.array_equal(crop[:, 30:], photo[:100, :70])
    assert np.array_equal(crop[:, :30], photo[:100, :30][:, ::-1])


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 40_000, 3), (7, 3, 3)])
def test_odd_photos_can_be_warped(shape):
    photo = np.full(shape, 90, np.uint8)
    crop = warp(photo, made_face().transform(64), 64)
    assert crop.shape == (64, 64, 3)
    assert (crop == 90).all()
