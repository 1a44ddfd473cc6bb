"""The measures of generated pictures, on sets whose right answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from cgan.evaluate.metrics import (
    Bins,
    collapse,
    frechet,
    kid,
    manifolds,
    memory,
    nearest,
    pixels,
    repeat_distance,
    similarity,
    spread,
)
from fader.data.synthetic import face_number
from fader.evaluate.statistics import frechet as other_frechet


def cloud(seed: int, n: int = 300, d: int = 6, scale: float = 1.0) -> np.ndarray:
    return scale * np.random.default_rng(seed).normal(size=(n, d))


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    """90 drawn faces, 32 pixels, no two alike."""
    drawn = [face_number(i, 5).draw()[20:198] for i in range(90)]
    return np.stack([shrink(face) for face in drawn])


def shrink(image: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA)


# ---------------------------------------------------------------- distances


def test_equal_sets_have_no_distance():
    a = cloud(0)
    assert frechet(a, a) == pytest.approx(0, abs=1e-6)
    assert kid(a, a)[0] < 0.02


def test_frechet_distance_of_gaussians_is_the_known_one():
    # Of N(0, I) and N(m, s²I): |m|² + d (1 − s)².
    a, b = cloud(1, 20_000, 4), 2 + 3 * cloud(2, 20_000, 4)
    assert frechet(a, b) == pytest.approx(4 * 2**2 + 4 * 2**2, rel=0.02)


def test_frechet_distance_is_that_of_the_other_implementation():
    a, b = cloud(3, 80, 5), cloud(4, 90, 5) @ np.diag([1, 2, 1, 1, 0.5]) + 0.3
    assert frechet(a, b) == pytest.approx(other_frechet(a, b), rel=1e-6)


def test_frechet_distance_with_fewer_pictures_than_features():
    few = cloud(5, 8, 40)
    assert frechet(few, few) == pytest.approx(0, abs=1e-4)


def test_kid_grows_with_the_shift_and_is_unbiased():
    a = cloud(6, 600)
    same = [kid(a, cloud(seed, 600))[0] for seed in (7, 8, 9, 10)]
    assert min(same) < 0.02  # of sets of one kind it may fall on either side of 0
    assert np.mean(same) == pytest.approx(0, abs=0.05)
    near, far = kid(a, cloud(11, 600) + 0.5)[0], kid(a, cloud(11, 600) + 1)[0]
    assert max(same) < near < far
    assert kid(a, cloud(12, 600), seed=1) == kid(a, cloud(12, 600), seed=1)


# ---------------------------------------------------------------- neighbourhoods


def test_precision_and_recall_at_their_extremes():
    real = cloud(20)
    same = manifolds(real, real)
    assert (same.precision.value, same.recall.value, same.coverage.value) == (1, 1, 1)
    elsewhere = manifolds(real, real + 100)
    assert (elsewhere.precision.value, elsewhere.recall.value) == (0, 0)
    assert (elsewhere.density.value, elsewhere.coverage.value) == (0, 0)


def test_precision_without_recall_and_recall_without_precision():
    real = np.concatenate([cloud(21), cloud(22) + 50])
    half = manifolds(real, cloud(23))  # one of two kinds
    assert half.precision.value > 0.85 and half.recall.value == pytest.approx(0.5, abs=0.07)
    more = manifolds(cloud(24), np.concatenate([cloud(25), cloud(26) + 50]))
    assert more.precision.value == pytest.approx(0.5, abs=0.07) and more.recall.value > 0.85


def test_one_real_picture_repeated_is_precise_and_covers_nothing():
    real = cloud(27)
    repeated = manifolds(real, np.repeat(real[:1], 200, axis=0))
    assert repeated.precision.value == 1
    assert repeated.recall.value <= 1 / 300 and repeated.coverage.value < 0.05


def test_two_sets_of_one_kind_have_about_density_and_coverage_1():
    fair = manifolds(cloud(28, 600), cloud(29, 600))
    assert fair.density.value == pytest.approx(1, abs=0.15)
    # For as many points and k = 5 the expectation is 1 − 2⁻⁵ (Naeem et al. 2020, lemma 2).
    assert fair.coverage.value == pytest.approx(1 - 2**-5, abs=0.03)
    assert fair.coverage.low < fair.coverage.value < fair.coverage.high


def test_nearest_finds_a_copy_at_distance_0_among_far_points():
    points = cloud(30, 200, 500, scale=1000).astype(np.float32)
    distances, rows = nearest(points[[7, 3]], points, 3)
    assert rows[:, 0].tolist() == [7, 3] and distances[:, 0].tolist() == [0, 0]
    assert (np.diff(distances, axis=1) >= 0).all()
    among, neighbours = nearest(points, points, among_themselves=True)
    assert (neighbours[:, 0] != np.arange(200)).all() and (among > 0).all()


# ---------------------------------------------------------------- diversity and collapse


def judged(images: np.ndarray, faces: np.ndarray):
    """The collapse of pictures against half of the faces, features being pixels."""
    real, held_out = faces[:60], faces[60:]
    bins = Bins.of(real)
    return collapse(
        pixels(images),
        spread(pixels(real)),
        repeat_distance(pixels(real)),
        bins.compare(images),
        bins.compare(held_out),
    )


def test_real_pictures_have_not_collapsed(faces: np.ndarray):
    found = judged(faces[60:], faces)
    assert found.score < 0.2
    assert found.modes is None or found.modes > 50


def test_one_picture_repeated_has_collapsed_wholly(faces: np.ndarray):
    found = judged(np.repeat(faces[:1], 40, axis=0), faces)
    assert found.score == pytest.approx(1, abs=1e-6)
    assert found.spread == found.repeats == pytest.approx(1)
    assert found.modes == 1


def test_five_pictures_in_turn_are_found_by_their_repeats(faces: np.ndarray):
    found = judged(np.tile(faces[:5], (12, 1, 1, 1)), faces)
    assert found.spread < 0.5  # the mean distance alone would not have told
    assert found.repeats == pytest.approx(1) and found.score == pytest.approx(1)
    assert found.modes == pytest.approx(5, rel=0.3)


def test_a_kind_left_out_is_found_by_the_bins():
    random = np.random.default_rng(3)

    def of_brightness(value: int, n: int) -> np.ndarray:
        return np.clip(random.normal(value, 12, (n, 16, 16, 1)), 0, 255).astype(np.uint8)

    dark, light = of_brightness(60, 200), of_brightness(190, 200)
    bins = Bins.of(np.concatenate([dark, light]))
    fair = bins.compare(np.concatenate([of_brightness(60, 200), of_brightness(190, 200)]))
    one = bins.compare(of_brightness(60, 400))
    assert one.missing == pytest.approx(0.5, abs=0.12)
    assert fair.missing < 0.25
    assert one.divergence > fair.divergence and one.different > fair.different


def test_similarity_is_1_for_one_picture_and_low_for_varied_ones(faces: np.ndarray):
    same, varied = similarity(np.repeat(faces[:1], 10, axis=0)), similarity(faces)
    assert same.value == pytest.approx(1, abs=1e-4)
    assert varied.high < 0.7
    assert similarity(faces[:, ::2, ::2]) is None  # 16 pixels: the window does not fit


def test_similarity_knows_grey_pictures(faces: np.ndarray):
    assert similarity(faces.mean(axis=3, keepdims=True).astype(np.uint8)).value < 0.7


# ---------------------------------------------------------------- memory


def test_copies_of_training_pictures_are_found(faces: np.ndarray):
    training, held_out = pixels(faces[:60]), pixels(faces[60:])
    random = np.random.default_rng(0)
    noisy = np.clip(faces[:20] + random.normal(0, 4, faces[:20].shape), 0, 255).astype(np.uint8)
    samples = np.concatenate([pixels(noisy), held_out[:20]])
    found = memory(samples, training, held_out)
    assert found.copies.value == pytest.approx(0.5, abs=0.03)
    assert found.copied[:20].all() and found.rows[:20].tolist() == list(range(20))
    assert found.near.value >= found.copies.value


def test_a_copy_turned_over_is_a_copy(faces: np.ndarray):
    training, turned = faces[:60], faces[:60, :, ::-1]
    blind = memory(pixels(turned), pixels(training), pixels(faces[60:]))
    seeing = memory(
        pixels(turned),
        pixels(training),
        pixels(faces[60:]),
        mirrored=pixels(turned[:, :, ::-1]),
        mirrored_held_out=pixels(faces[60:, :, ::-1]),
    )
    assert blind.copies.value < seeing.copies.value == 1


def test_other_pictures_are_no_copies(faces: np.ndarray):
    found = memory(pixels(faces[60:]), pixels(faces[:60]), None)
    assert found.copies.value <= 0.1


def test_a_smooth_average_is_near_to_many_and_a_copy_of_none(faces: np.ndarray):
    average = faces[:60].mean(axis=0, keepdims=True).astype(np.uint8)
    found = memory(pixels(average.repeat(5, axis=0)), pixels(faces[:60]), pixels(faces[60:]))
    assert found.copies.value == 0
