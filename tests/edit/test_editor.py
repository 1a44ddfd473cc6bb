import numpy as np
import pytest
from fakes import FakeModel, made_face
from paths import ASTRONAUT
from PIL import Image, ImageCms

from fader import Editor
from fader.attributes import ATTRIBUTES, Change
from fader.edit.strip import strip
from fader.edit.values import settle
from fader.errors import FaderError, NoFaceError, UnknownAttributeError, UnreadableImageError
from fader.faces.blend import mask


@pytest.fixture(scope="module")
def editor():
    return Editor(FakeModel(), device="cpu")


@pytest.fixture(scope="module")
def photo():
    return np.asarray(Image.open(ASTRONAUT).convert("RGB"))


@pytest.fixture(scope="module")
def couple(photo):
    """The same face twice: the first is the larger."""
    head = Image.fromarray(photo[20:240, 120:340])
    both = Image.new("RGB", (640, 330))
    both.paste(head.resize((330, 330), Image.Resampling.BICUBIC), (0, 0))
    both.paste(head, (400, 50))
    return np.asarray(both)


def test_an_edit_changes_the_face_and_nothing_outside_its_mask(editor, photo):
    result = editor.apply(photo, Smiling=0)
    edited = np.asarray(result.image)
    (edit,) = result.faces
    outside = mask(edit.face, photo.shape) == 0
    assert np.array_equal(edited[outside], photo[outside])
    # Smiling is the brightness at the mouth in this model.
    x, y = edit.face.landmarks[3:].mean(axis=0).round().astype(int)
    mouth = (slice(y - 5, y + 6), slice(x - 5, x + 6))
    assert edited[mouth].mean() < photo[mouth].mean() - 20


def test_the_account_of_an_edit(editor, photo):
    result = editor.apply(photo, "Smiling=0,male=+0.5")
    (edit,) = result.faces
    assert result.found == 1
    assert edit.before["Smiling"] == pytest.approx(0.97)
    assert edit.after["Smiling"] == 0
    assert edit.after["Male"] == pytest.approx(0.8)
    assert edit.after["Blond_Hair"] == edit.before["Blond_Hair"]
    assert set(edit.changed) == {"Smiling", "Male"}


def test_asking_for_what_is_there_changes_no_pixel(editor, photo):
    for asked in ({"Smiling": 1}, {"Smiling": 0.97}, {"Smiling": "+0"}):
        result = editor.apply(photo, **asked)
        assert not result.faces[0].changed
        assert np.array_equal(np.asarray(result.image), photo)


def test_a_note_says_that_a_face_is_already_as_asked(editor, photo):
    (note,) = editor.apply(photo, Smiling=1).notes
    assert note == "hardly anything to change, Smiling was 0.97 (Smiling=2 exaggerates)"
    (note,) = editor.apply(photo, Blond_Hair=0, Smiling=1).notes
    assert "Blond_Hair was 0.10, Smiling was 0.97 (Blond_Hair=-1 exaggerates)" in note
    for asked in ({"Smiling": 0}, {"Smiling": 2}, {"Smiling": 0.9}, {"Smiling": "+0"}):
        assert not editor.apply(photo, **asked).notes
    assert not editor.apply(photo, Blond_Hair=0, Male=1).notes


def test_what_counts_as_there_already():
    before = {"Smiling": 0.97}
    assert settle(before, [Change("Smiling", 1)]) == before
    assert settle(before, [Change("Smiling", 0.9)]) == {"Smiling": 0.9}
    assert settle({"Smiling": 0.99}, [Change("Smiling", 1.02)]) == {"Smiling": 1.02}
    assert settle(before, [Change("Smiling", 0.01, relative=True)])["Smiling"] > 0.97
    assert settle({"Smiling": 0.03}, [Change("Smiling", 0)]) == {"Smiling": 0.03}
    # Later changes win; relative ones go on from there.
    assert settle(before, [Change("Smiling", 0), Change("Smiling", 0.5, relative=True)]) == {
        "Smiling": 0.5
    }


def test_ways_to_ask_for_the_same(editor, photo):
    expected = editor.edit(photo, Smiling=0)
    for image in (
        editor.edit(photo, "Smiling=0"),
        editor.edit(photo, "smiling = 0"),
        editor.edit(photo, [Change("smiling", 0)]),
        editor.edit(photo, SMILING=0.0),
        editor.edit(photo, smiling="0"),
        editor.edit(Image.fromarray(photo), Smiling=0),
        editor.edit(str(ASTRONAUT), Smiling=0),
        editor.edit(ASTRONAUT, Smiling=0),
    ):
        assert np.array_equal(np.asarray(image), np.asarray(expected))


def test_a_group_sets_the_members_the_model_has(editor, photo):
    (edit,) = editor.apply(photo, Hair="Blond").faces
    assert edit.after["Blond_Hair"] == 1 and edit.after["Black_Hair"] == 0


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"Smilling": 0}, UnknownAttributeError, "did you mean Smiling"),
        ({"Bald": 1}, UnknownAttributeError, "does not know Bald; it knows Male, Smiling"),
        ({"changes": "Bald=1"}, UnknownAttributeError, "does not know Bald"),
        ({"changes": [Change("Bald", 1)]}, UnknownAttributeError, "does not know Bald"),
        ({"changes": "Smiling"}, FaderError, "NAME=VALUE"),
        ({"Smiling": float("nan")}, FaderError, "Smiling=nan: .* finite"),
        ({"Smiling": "much"}, FaderError, "must be a number"),
        ({}, FaderError, "nothing to change"),
        ({"changes": []}, FaderError, "nothing to change"),
        ({"Smiling": 0, "output": "foto"}, FaderError, "'photo', 'crop' or 'pair'"),
    ],
)
def test_what_cannot_be_asked_for(editor, photo, asked, error, message):
    with pytest.raises(error, match=message):
        editor.edit(photo, **asked)


def test_no_face_names_the_photo(editor, tmp_path):
    path = tmp_path / "wall.png"
    Image.new("RGB", (200, 150), (180, 170, 160)).save(path)
    with pytest.raises(NoFaceError, match=r"wall\.png: no face found"):
        editor.edit(path, Smiling=0)
    with pytest.raises(NoFaceError, match="the image: no face found"):
        editor.edit(Image.open(path), Smiling=0)
    assert editor.describe(path) == [] == editor.faces(path)


def test_what_is_no_photo(editor, tmp_path):
    with pytest.raises(UnreadableImageError, match=r"none\.png"):
        editor.edit(tmp_path / "none.png", Smiling=0)
    with pytest.raises(UnreadableImageError, match="uint8"):
        editor.edit(np.zeros((50, 50, 3)), Smiling=0)


def test_which_face(editor, couple):
    def changed_halves(face):
        edited = np.asarray(editor.edit(couple, face=face, Smiling=0))
        difference = (edited != couple).any(axis=2)
        return bool(difference[:, :360].any()), bool(difference[:, 360:].any())

    assert changed_halves("largest") == (True, False)
    assert changed_halves(1) == (True, False)
    assert changed_halves(2) == (False, True)
    assert changed_halves("all") == (True, True)
    with pytest.raises(NoFaceError, match="no face 3"):
        editor.edit(couple, face=3, Smiling=0)
    assert editor.apply(couple, face=2, Smiling=0).found == 2


def test_all_faces_are_edited_as_each_alone_would_be(editor, couple):
    first = editor.edit(couple, face=1, Smiling=0)
    assert np.array_equal(
        np.asarray(editor.edit(couple, face="all", Smiling=0)),
        np.asarray(editor.edit(first, face=2, Smiling=0)),
    )


def test_outputs(editor, photo, couple):
    assert editor.edit(photo, output="crop", Smiling=0).size == (64, 64)
    assert editor.edit(couple, output="crop", face="all", Smiling=0).size == (128, 64)
    pair = np.asarray(editor.edit(photo, output="pair", Smiling=0))
    assert np.array_equal(pair[:, :512], photo)
    assert np.array_equal(pair[:, 512:], np.asarray(editor.edit(photo, Smiling=0)))


def test_a_photo_on_its_side_comes_out_upright(editor, photo, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the viewer turns it by 90 degrees clockwise
    path = tmp_path / "side.png"
    Image.fromarray(np.rot90(photo)).save(path, exif=exif)
    edited = editor.edit(path, Smiling=0)
    assert np.array_equal(np.asarray(edited), np.asarray(editor.edit(photo, Smiling=0)))
    assert edited.getexif().get(0x0112, 1) == 1


def test_the_colour_profile_is_kept_where_it_applies(editor, photo, tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image.fromarray(photo)
    image.info["icc_profile"] = profile
    assert editor.edit(image, Smiling=0).info["icc_profile"] == profile
    image.info["icc_profile"] = profile[:16] + b"CMYK" + profile[20:]
    assert "icc_profile" not in editor.edit(image, Smiling=0).info


def test_small_and_grey_photos(editor, photo):
    small = Image.fromarray(photo).resize((170, 170), Image.Resampling.LANCZOS)
    edited = np.asarray(editor.edit(small, Smiling=0))
    assert (edited != np.asarray(small)).any()
    assert editor.edit(Image.fromarray(photo).convert("L"), Smiling=0).mode == "RGB"


def test_where_picks_the_faces_of_a_box(editor, couple):
    (small,) = [face for face in editor.faces(couple) if face.box[0] > 350]
    box = (400, 50, 620, 270)
    result = editor.apply(couple, where=box, Smiling=0)
    assert result.found == 2
    assert [edit.face.box[0] for edit in result.faces] == [small.box[0]]
    with pytest.raises(NoFaceError, match="no face 2"):
        editor.edit(couple, where=box, face=2, Smiling=0)
    with pytest.raises(NoFaceError, match=r"box 340,300,380,330; elsewhere .* there are 2"):
        editor.edit(couple, where=(340, 300, 380, 330), Smiling=0)
    with pytest.raises(NoFaceError, match="covers nothing of the photo, which is 640x330"):
        editor.edit(couple, where=(700, 0, 800, 100), Smiling=0)


def test_tiny_faces_are_left_alone_and_that_is_said(editor, photo):
    head = Image.fromarray(photo[20:240, 120:340])
    both = Image.new("RGB", (500, 330), (90, 90, 90))
    both.paste(head.resize((330, 330), Image.Resampling.BICUBIC), (0, 0))
    both.paste(head.resize((54, 54), Image.Resampling.LANCZOS), (390, 100))
    both = np.asarray(both)
    result = editor.apply(both, face="all", Smiling=0)
    assert (result.found, len(result.faces)) == (2, 1)
    assert result.notes == ("1 of its faces left alone, under 32 pixels",)
    assert np.array_equal(np.asarray(result.image)[:, 350:], both[:, 350:])
    with pytest.raises(NoFaceError, match="those under 32 are left alone") as caught:
        editor.edit(both, face=2, Smiling=0)
    assert caught.value.found == 2


def test_overlapping_edits_each_see_the_last(photo):
    """The second of two faces on the same spot starts from what the first edit left."""
    from fakes import made_face

    editor = Editor(FakeModel(), device="cpu")
    faces = [made_face(center=(220, 130), scale=1.5), made_face(center=(240, 140), scale=1.4)]
    editor.__dict__["detector"] = lambda image: faces
    both = editor.edit(photo, face="all", Smiling=0)
    first = editor.edit(photo, face=1, Smiling=0)
    assert np.array_equal(np.asarray(both), np.asarray(editor.edit(first, face=2, Smiling=0)))
    # Far apart they go through the network together.
    faces[1] = made_face(center=(420, 400), scale=1.4)
    shapes = []
    change = editor.model.change
    editor.model.change = lambda f, y, own: shapes.append(len(y)) or change(f, y, own)
    editor.edit(photo, face="all", Smiling=0)
    assert shapes == [2]


def test_a_photo_with_twenty_faces(editor, photo):
    head = Image.fromarray(photo[20:240, 120:340])
    crowd = Image.new("RGB", (5 * 220, 4 * 220))
    for i in range(20):
        size = 220 - 4 * i
        place = (220 * (i % 5), 220 * (i // 5))
        crowd.paste(head.resize((size, size), Image.Resampling.LANCZOS), place)
    crowd = np.asarray(crowd)
    result = editor.apply(crowd, face="all", Smiling=0)
    assert result.found == len(result.faces) == 20
    edited, areas = np.asarray(result.image), [edit.face.area for edit in result.faces]
    assert areas == sorted(areas, reverse=True)
    for edit in result.faces:
        x, y = edit.face.landmarks[3:].mean(axis=0).round().astype(int)
        mouth = (slice(y - 3, y + 4), slice(x - 3, x + 4))
        assert edited[mouth].mean() < crowd[mouth].mean() - 15
    (last,) = editor.apply(crowd, face=20, Smiling=0).faces
    assert last.face.area == min(areas)


@pytest.mark.parametrize("narrower", [0.8, 0.6, 0.4, 0.2])
def test_a_face_turned_aside_is_edited_or_told_of(editor, photo, narrower):
    """The further a head is turned, the narrower its face is seen."""
    turned = Image.fromarray(photo).resize((int(512 * narrower), 512), Image.Resampling.LANCZOS)
    turned = np.asarray(turned)
    try:
        result = editor.apply(turned, Smiling=0)
    except NoFaceError as error:
        assert narrower < 0.6 and "turned to the camera" in str(error)
    else:
        outside = mask(result.faces[0].face, turned.shape) == 0
        assert np.array_equal(np.asarray(result.image)[outside], turned[outside])
        assert (np.asarray(result.image) != turned).any()


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_faces_in_a_turned_photo(editor, photo, quarters):
    turned = np.ascontiguousarray(np.rot90(photo, quarters))
    result = editor.apply(turned, Smiling=0)
    (upright,) = editor.apply(photo, Smiling=0).faces
    (edit,) = result.faces
    expected = upright.face.landmarks
    for _ in range(quarters):  # rot90 takes (x, y) to (y, 511 - x)
        expected = np.stack([expected[:, 1], 511 - expected[:, 0]], axis=1)
    assert np.abs(edit.face.landmarks - expected).max() < 4
    back = np.rot90(np.asarray(result.image), -quarters)
    x, y = upright.face.landmarks[3:].mean(axis=0).round().astype(int)
    mouth = (slice(y - 5, y + 6), slice(x - 5, x + 6))
    assert back[mouth].mean() < photo[mouth].mean() - 20


def test_a_saved_edit_keeps_what_the_file_had(editor, tmp_path):
    image = Image.open(ASTRONAUT).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    image.save(tmp_path / "a.png", dpi=(200, 200))
    edit = editor.apply(tmp_path / "a.png", Smiling=0)
    assert edit.image.mode == "RGBA"
    edit.save(tmp_path / "b.png")
    with Image.open(tmp_path / "b.png") as saved:
        assert np.array_equal(np.asarray(saved.getchannel("A")), np.asarray(image)[:, :, 3])
        assert saved.info["dpi"] == pytest.approx((200, 200), abs=0.1)
        assert "Smiling=0" in saved.text["Software"]
    edit.save(tmp_path / "c.png", provenance=False)
    assert "Software" not in Image.open(tmp_path / "c.png").text


def test_grey_files_come_out_grey(editor, photo, tmp_path):
    Image.fromarray(photo).convert("L").save(tmp_path / "a.png")
    edited = np.asarray(editor.edit(tmp_path / "a.png", Smiling=0))
    assert (edited == edited[:, :, :1]).all()
    assert (edited[:, :, 0] != np.asarray(Image.open(tmp_path / "a.png"))).any()


def test_description(editor, couple):
    first, second = editor.describe(couple)
    assert first.face.area > second.face.area
    assert tuple(first.attributes) == ATTRIBUTES
    document = first.to_dict()
    assert document["attributes"]["Smiling"] == 0.97
    assert np.shape(document["landmarks"]) == (5, 2) and len(document["box"]) == 4
    assert document["score"] > 0.9


def test_a_model_without_classifier_is_told_of(photo):
    from fader.models.autoencoder import AutoencoderConfig
    from fader.models.model import FaderModel

    model = FaderModel(AutoencoderConfig(size=32, layers=2, attributes=("Male",), width=4))
    with pytest.raises(FaderError, match="no classifier"):
        Editor(model, device="cpu").edit(photo, Male=0)


def test_strip_has_a_row_per_attribute_and_a_column_per_value(editor, photo):
    result = strip(editor, photo, ["smiling", "Male"], start=0, stop=1, steps=5, side=96)
    assert result.attributes == ("Smiling", "Male")
    assert result.values == (0, 0.25, 0.5, 0.75, 1)
    assert result.estimates == pytest.approx((0.97, 0.3))
    assert result.cells.shape == (2, 5, 96, 96, 3)
    mouths = result.cells[0, :, 70:76, 45:51].mean(axis=(1, 2, 3))
    assert (np.diff(mouths) > 0).all()
    width, height = result.grid().size
    assert width > 5 * 96 and height > 2 * 96


def test_strip_cells_are_what_an_edit_gives(editor, photo):
    from fader.faces.align import warp

    result = strip(editor, photo, ["Smiling"], start=0, stop=1, steps=2, side=128)
    edited = np.asarray(editor.edit(photo, Smiling=0))
    (face,) = editor.faces(photo)
    expected = warp(edited, face.transform(128), 128)
    assert np.abs(result.cells[0, 0].astype(int) - expected).mean() < 1
    # Smiling=1 is there already.
    assert np.array_equal(result.cells[0, 1], warp(photo, face.transform(128), 128))


def test_strip_in_motion_goes_there_and_back(editor, photo):
    assert strip(editor, photo, ["Male"], side=32).values == (-1, -0.5, 0, 0.5, 1, 1.5, 2)
    result = strip(editor, photo, ["Smiling", "Male"], steps=4, side=64)
    loop = [np.asarray(frame) for frame in result.loop()]
    assert len(loop) == 6
    assert np.array_equal(loop[1], loop[5]) and np.array_equal(loop[2], loop[4])
    assert len({frame.shape for frame in loop}) == 1


def test_strips_that_make_no_sense(editor, photo):
    for options in ({"steps": 1}, {"start": 1, "stop": 1}, {"stop": float("inf")}):
        with pytest.raises(FaderError, match="two steps"):
            strip(editor, photo, ["Smiling"], **options)
    with pytest.raises(FaderError, match="at least one attribute"):
        strip(editor, photo, [])
    with pytest.raises(UnknownAttributeError, match="did you mean Smiling"):
        strip(editor, photo, ["Smilling"])


def test_a_crowd_is_sorted_into_turns_at_once():
    """Five hundred faces took 22 seconds."""
    from time import monotonic

    from fader.edit.choice import turns as in_turns

    places = [(60 * (i % 25) + 50, 60 * (i // 25) + 50) for i in range(500)]
    faces = [made_face(center=place, scale=0.4) for place in places]
    begin = monotonic()
    turns = in_turns(faces, (1300, 1600, 3))
    assert monotonic() - begin < 2
    assert turns == [list(range(500))]
    faces += [made_face(center=(80, 50), scale=0.4)]  # between the first two
    assert in_turns(faces, (1300, 1600, 3)) == [list(range(500)), [500]]
