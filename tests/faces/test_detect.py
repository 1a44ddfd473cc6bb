import warnings

import cv2
import numpy as np
import pytest
from fakes import made_face
from paths import ASTRONAUT
from PIL import Image

from fader.errors import NoFaceError
from fader.faces.detect import Detector, select


@pytest.fixture(scope="module")
def detector():
    return Detector()


@pytest.fixture(scope="module")
def astronaut():
    return np.asarray(Image.open(ASTRONAUT).convert("RGB"))


def test_one_face_with_its_landmarks_in_place(detector, astronaut):
    (face,) = detector(astronaut)
    assert face.score > 0.99
    left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks
    assert left_eye[0] < nose[0] < right_eye[0] and left_mouth[0] < right_mouth[0]
    assert left_eye[1] < nose[1] < left_mouth[1]
    x0, y0, x1, y1 = face.box
    assert 160 < x0 < x1 < 290 and 40 < y0 < y1 < 200
    assert ((face.landmarks > (x0, y0)) & (face.landmarks < (x1, y1))).all()


def test_the_same_photo_gives_the_same_faces(detector, astronaut):
    (first,), (second,) = detector(astronaut), Detector()(astronaut)
    assert np.array_equal(first.landmarks, second.landmarks)


def test_faces_come_largest_first(detector, astronaut):
    photo = np.zeros((600, 900, 3), np.uint8)
    head = astronaut[:256, 100:356]
    photo[:256, 20:276] = head
    photo[100:484, 400:784] = cv2.resize(head, (384, 384), interpolation=cv2.INTER_CUBIC)
    large, small = detector(photo)
    assert large.area > small.area
    assert large.box[0] > 400 > small.box[2]


def test_a_huge_photo_gives_the_places_in_its_own_pixels(detector, astronaut):
    (face,) = detector(astronaut)
    huge = cv2.resize(astronaut, (512 * 7, 512 * 7), interpolation=cv2.INTER_CUBIC)
    (same,) = detector(huge)
    assert np.abs((same.landmarks + 0.5) / 7 - 0.5 - face.landmarks).max() < 3


def test_landmarks_of_small_faces_in_large_photos_are_those_at_full_size(detector, astronaut):
    """In the copy that is searched this face has some thirty pixels."""
    photo = np.full((3000, 4000, 3), 90, np.uint8)
    head = cv2.resize(astronaut[:256, 100:356], (180, 180), interpolation=cv2.INTER_AREA)
    photo[2000:2180, 3000:3180] = head
    (face,) = detector(photo)
    (near,) = detector(np.ascontiguousarray(photo[1900:2300, 2900:3300]))
    assert 55 < near.side < 100
    assert np.abs(face.landmarks - (2900, 1900) - near.landmarks).max() < 0.02 * near.side


def test_a_face_cut_by_the_photos_border_keeps_its_landmarks(detector, astronaut):
    (face,) = detector(astronaut)
    x0, y0, x1, y1 = face.box.round().astype(int)
    (same,) = detector(np.ascontiguousarray(astronaut[y0 + 10 : y1 + 20, x0:x1]))
    assert np.abs(same.landmarks + np.array([x0, y0 + 10]) - face.landmarks).max() < 6


@pytest.mark.parametrize(
    "shape", [(1, 1), (5, 300), (19, 19), (20, 20), (21, 2000), (1, 40_000), (300, 300)]
)
def test_photos_without_faces_of_any_shape(detector, shape):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for value in (0, 128, 255):
            assert detector(np.full((*shape, 3), value, np.uint8)) == []
        noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
        assert detector(noise) == []


def test_selection():
    large, middle, small = faces = [made_face(scale=s) for s in (3.0, 2.0, 1.0)]
    assert select(faces, "largest") == [large]
    assert select(faces, "all") == faces
    assert select(faces, 1) == [large]
    assert select(faces, 2) == [middle]
    assert select(faces, 3) == [small]


def test_a_face_that_is_not_there():
    with pytest.raises(NoFaceError, match=r"no face 3; the photo has faces 1 .* to 2"):
        select([made_face(), made_face()], 3)
    with pytest.raises(NoFaceError, match="no face 0"):
        select([made_face()], 0)
    for which in ("largest", "all", 1):
        with pytest.raises(NoFaceError, match="no face found"):
            select([], which)
