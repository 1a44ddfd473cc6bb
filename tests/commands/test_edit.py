import csv
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from paths import ASTRONAUT, ROOT
from PIL import Image

from fader.commands import main
from fader.photo import open_photo


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small untrained model on disk. Its edits are no smiles, but they are edits."""
    from fader.models.autoencoder import AutoencoderConfig
    from fader.models.classifier import ClassifierConfig
    from fader.models.model import FaderModel

    torch.manual_seed(0)
    attributes = ("Male", "Smiling", "Blond_Hair")
    made = FaderModel(
        AutoencoderConfig(size=32, layers=3, attributes=attributes, width=8, max_width=32),
        ClassifierConfig(size=32, width=4),
    )
    folder = tmp_path_factory.mktemp("model")
    made.save(folder)
    return str(folder)


@pytest.fixture
def fader(model):
    """Runs ``fader COMMAND …`` with the small model."""

    def run(command, *arguments):
        texts = [str(argument) for argument in arguments]
        return CliRunner().invoke(main, [command, *texts, "--model", model, "--device", "cpu"])

    return run


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.open(ASTRONAUT).convert("RGB").save(path)
    return path


@pytest.fixture
def wall(tmp_path):
    path = tmp_path / "wall.png"
    Image.new("RGB", (200, 150), (180, 170, 160)).save(path)
    return path


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"))


# fader edit


def test_edit_writes_beside_the_photo_and_prints_where(fader, photo):
    result = fader("edit", photo, "--set", "Smiling=5")
    assert result.exit_code == 0, result.output
    written = photo.with_name("photo.edited.png")
    assert result.stdout == f"{written}\n"
    different = (pixels(written) != pixels(photo)).any(axis=2)
    assert different[60:180, 180:280].any()
    assert (
        not different[400:].any() and not different[:, :80].any() and not different[:, 400:].any()
    )


def test_edit_to_what_is_there_is_the_photo_byte_for_byte(fader, photo, tmp_path):
    result = fader("edit", photo, "--set", "Smiling=+0", "-o", tmp_path / "same.png")
    assert result.exit_code == 0, result.output
    assert np.array_equal(pixels(tmp_path / "same.png"), pixels(photo))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--set"),
        (["--set", "Smilling=1"], "did you mean Smiling"),
        (["--set", "Smiling"], "NAME=VALUE"),
        (["--set", "Smiling=yes"], "must be a number"),
        (["--to", "oldr"], "did you mean older"),
        (["--to", ""], "no word given"),
        (["--set", "Smiling=1", "--face", "0"], "face's number"),
        (["--set", "Smiling=1", "--output", "foto"], "photo"),
        (["--set", "Smiling=1", "--quality", "0"], "1<=x<=100"),
    ],
)
def test_edit_bad_usage_exits_2(fader, photo, arguments, message):
    result = fader("edit", photo, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""
    assert list(photo.parent.iterdir()) == [photo]


def test_edit_of_an_attribute_the_model_lacks_is_one_sentence(fader, photo):
    result = fader("edit", photo, "--to", "bald")
    assert result.exit_code == 1
    assert result.stderr == (
        "Error: this model does not know Bald; it knows Male, Smiling, Blond_Hair\n"
    )


def test_edit_in_words_and_groups(fader, photo):
    result = fader("edit", photo, "--to", "female,blond", "--set", "Smiling=+1", "--json")
    assert result.exit_code == 0, result.output
    (one,) = json.loads(result.stdout)
    assert one["input"] == str(photo)
    assert one["output"] == str(photo.with_name("photo.edited.png"))
    assert (one["status"], one["faces"], one["detail"]) == ("edited", 1, "")
    (edit,) = one["edits"]
    assert edit["after"]["Male"] == 0 and edit["after"]["Blond_Hair"] == 1
    assert edit["after"]["Smiling"] == pytest.approx(edit["before"]["Smiling"] + 1, abs=1e-3)


def test_edit_without_a_face_writes_nothing(fader, wall, tmp_path):
    result = fader("edit", wall, "--set", "Smiling=1", "-o", tmp_path / "out.png")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"Error: {wall}: no face found")
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == [wall]


def test_edit_does_not_overwrite_unasked(fader, photo, tmp_path):
    out = tmp_path / "out.png"
    out.write_bytes(b"precious")
    result = fader("edit", photo, "--set", "Smiling=5", "-o", out)
    assert result.exit_code == 1
    assert str(out) in result.stderr and "--overwrite" in result.stderr
    assert out.read_bytes() == b"precious"
    assert fader("edit", photo, "--set", "Smiling=5", "-o", out, "--overwrite").exit_code == 0
    assert pixels(out).shape == (512, 512, 3)


def test_edit_never_overwrites_the_input(fader, photo, tmp_path):
    before = photo.read_bytes()
    link = tmp_path / "link.png"
    link.symlink_to(photo)
    hard = tmp_path / "hard.png"
    hard.hardlink_to(photo)
    for out in (photo, link, hard, tmp_path / "." / "photo.png"):
        result = fader("edit", photo, "--set", "Smiling=5", "-o", out, "--overwrite")
        assert result.exit_code == 1
        assert "input photo" in result.stderr
    result = fader("edit", link, "--set", "Smiling=5", "-o", photo, "--overwrite")
    assert result.exit_code == 1
    assert photo.read_bytes() == before and link.is_symlink()


def test_edit_of_several_goes_on_after_a_bad_one(fader, photo, wall, tmp_path):
    second = tmp_path / "second.png"
    second.write_bytes(photo.read_bytes())
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(ASTRONAUT.read_bytes()[:5000])
    missing = tmp_path / "missing.jpg"
    out = tmp_path / "out"
    result = fader("edit", photo, broken, wall, missing, second, "--set", "Smiling=5", "-o", out)
    assert result.exit_code == 1
    assert result.stdout.split() == [str(out / "photo.png"), str(out / "second.png")]
    lines = result.stderr.splitlines()
    assert [
        name in line
        for name, line in zip(("broken.jpg", "wall.png", "missing.jpg"), lines, strict=True)
    ] == [True] * 3
    assert sorted(path.name for path in out.iterdir()) == ["photo.png", "second.png"]


def test_edit_of_several_that_would_fall_together_is_refused(fader, photo, tmp_path):
    (tmp_path / "sub").mkdir()
    twin = tmp_path / "sub" / "photo.png"
    twin.write_bytes(photo.read_bytes())
    result = fader("edit", photo, twin, "--set", "Smiling=1", "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "would both become" in result.stderr


def test_edit_keeps_format_and_profile_where_it_can(fader, tmp_path):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image.open(ASTRONAUT)
    jpeg, gif = tmp_path / "a.JPG", tmp_path / "b.gif"
    image.save(jpeg, "JPEG", icc_profile=profile)
    image.save(gif)
    result = fader("edit", jpeg, gif, "--set", "Smiling=5", "--quality", "60")
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "a.edited.JPG") as edited:
        assert edited.format == "JPEG" and edited.info["icc_profile"] == profile
    assert Image.open(tmp_path / "b.edited.png").format == "PNG"


def test_edit_to_a_format_that_cannot_be_written(fader, photo, tmp_path):
    result = fader("edit", photo, "--set", "Smiling=5", "-o", tmp_path / "out.xyz")
    assert result.exit_code == 1
    assert "out.xyz" in result.stderr and ".png" in result.stderr


def test_edit_of_a_photo_on_its_side(fader, photo, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 8
    side = tmp_path / "side.png"
    Image.fromarray(np.rot90(pixels(photo), -1)).save(side, exif=exif)
    assert fader("edit", side, photo, "--set", "Smiling=5").exit_code == 0
    upright = tmp_path / "side.edited.png"
    assert np.array_equal(pixels(upright), pixels(tmp_path / "photo.edited.png"))


def test_edit_of_a_folder_keeps_the_tree_and_reports_every_photo(fader, tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    (source / "deep" / "er").mkdir(parents=True)
    photo = Image.open(ASTRONAUT).convert("RGB")
    photo.save(source / "a.png")
    photo.save(source / "deep" / "er" / "b.gif")
    Image.new("RGB", (90, 90)).save(source / "deep" / "dark.png")
    (source / "notes.txt").write_text("not a photo")
    arguments = ("edit", source, "--set", "Smiling=5", "-o", out)

    result = fader(*arguments)
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == [str(out / "a.png"), str(out / "deep/er/b.gif.png")]
    rows = list(csv.DictReader((out / "report.csv").open()))
    assert [(row["input"], row["output"], row["status"], row["faces"]) for row in rows] == [
        ("a.png", "a.png", "edited", "1"),
        ("deep/dark.png", "", "no-face", "0"),
        ("deep/er/b.gif", "deep/er/b.gif.png", "edited", "1"),
    ]
    assert float(rows[0]["estimated_Smiling"]) <= 1 and rows[0]["set_Smiling"] == "5"
    assert "no face" in rows[1]["detail"]

    # Again: what is there is left; a photo that cannot be read is a failure.
    (source / "c.jpg").write_bytes(b"no picture")
    before = (out / "a.png").stat().st_mtime_ns
    result = fader(*arguments)
    assert result.exit_code == 1
    statuses = [row["status"] for row in csv.DictReader((out / "report.csv").open())]
    assert statuses == ["skipped", "unreadable", "no-face", "skipped"]
    assert (out / "a.png").stat().st_mtime_ns == before


def test_edit_of_a_folder_needs_a_place_outside_it(fader, photo, tmp_path):
    folder = photo.parent
    for out in ([], ["-o", folder], ["-o", folder / "sub"], ["-o", photo]):
        result = fader("edit", folder, "--set", "Smiling=1", *out)
        assert result.exit_code == 2
    result = fader("edit", folder, photo, "--set", "Smiling=1", "-o", tmp_path / "out")
    assert result.exit_code == 2
    empty = tmp_path / "empty"
    empty.mkdir()
    result = fader("edit", empty, "--set", "Smiling=1", "-o", tmp_path / "out")
    assert result.exit_code == 1 and "no photos" in result.stderr


def test_a_folder_of_one_photo_is_summed_up(fader, photo, tmp_path):
    (tmp_path / "in").mkdir()
    photo.rename(tmp_path / "in" / photo.name)
    result = fader("edit", tmp_path / "in", "--set", "Smiling=1", "-o", tmp_path / "out")
    assert result.exit_code == 0 and "1 photo: 1 edited; 1 face; " in result.stderr


def test_a_slash_at_the_end_means_a_folder(fader, photo, tmp_path):
    for out in ("new/", "new.jpg/", "new/."):
        result = fader(
            "edit", photo, "--set", "Smiling=5", "-o", f"{tmp_path}/{out}", "--overwrite"
        )
        assert result.exit_code == 0, result.output
        assert (tmp_path / out / "photo.png").is_file()
    result = fader("edit", photo, "--set", "Smiling=5", "-o", f"{photo}/")
    assert result.exit_code == 2 and "is a file" in result.stderr
    result = fader("strip", photo, "--attr", "Smiling", "--steps", "2", "-o", f"{tmp_path}/strips/")
    assert result.stdout == f"{tmp_path}/strips/photo.strip.png\n"


def test_two_names_of_one_file_do_not_overwrite_each_other(fader, photo, tmp_path, monkeypatch):
    """As on a disk to which A.png is a.png."""
    from fader.edit import outputs

    twin = photo.with_name("twin.png")
    Image.open(photo).rotate(3).save(twin)
    out = tmp_path / "out"
    out.mkdir()
    (out / "twin.png").symlink_to(out / "photo.png")
    monkeypatch.setattr(outputs, "refuse_overwriting", lambda *_: None)
    arguments = ("--set", "Smiling=5", "-o", out, "--overwrite")
    result = fader("edit", photo, twin, *arguments)
    assert result.exit_code == 1 and "is the same file as" in result.stderr
    assert result.stdout == f"{out / 'photo.png'}\n"


def test_names_that_the_terminal_cannot_show(model, photo, tmp_path):
    arguments = ["edit", str(photo), "--set", "Smiling=5", "--model", model, "--device", "cpu"]
    out = tmp_path / "😀.png"
    done = subprocess.run(
        [sys.executable, "-m", "fader", *arguments, "-o", str(out)],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "cp1252"},
        check=False,
    )
    assert done.returncode == 0 and out.is_file() and not done.stderr, done.stderr
    assert rb"\U0001f600.png" in done.stdout


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_standard_output_stops_no_work(model, photo, tmp_path):
    second, out = photo.with_name("second.png"), tmp_path / "out"
    second.write_bytes(photo.read_bytes())
    arguments = ["edit", photo, second, "--set", "Smiling=5", "--model", model, "-o", out]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "fader", *map(str, arguments)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "standard output cannot be written" in done.stderr
    assert len(list(out.iterdir())) == 2


def commands(document):
    """The lines of a document's blocks of commands, block by block."""
    text = (ROOT / document).read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    lines = [
        [shlex.split(line, comments=True) for line in block.splitlines()]
        for language, block in blocks
        if language in ("", "sh")
    ]
    return [[words for words in block if words] for block in lines]


@pytest.mark.parametrize("document", ["README.md", "docs/photos.md"])
def test_commands_of_the_documents_can_be_pasted_in_order(document, tmp_path, monkeypatch):
    """Those that edit, with a small model; what they leave is in the way of those that follow."""
    from fader.models.autoencoder import AutoencoderConfig
    from fader.models.classifier import ClassifierConfig
    from fader.models.folders import available_models, model_info
    from fader.models.model import FaderModel

    attributes = tuple(model_info(available_models()[0])["autoencoder"]["attributes"])
    made = FaderModel(
        AutoencoderConfig(size=32, layers=3, attributes=attributes, width=8, max_width=32),
        ClassifierConfig(size=32, width=4),
    )
    made.save(tmp_path / "runs" / "first" / "model")
    monkeypatch.chdir(tmp_path)
    for name in ("photo.jpg", "group.jpg", "holiday/a.jpg", "photos/a.jpg", "portraits/a.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.open(ASTRONAUT).save(name)
    ran = 0
    for block in commands(document):
        for words in block:
            if words[0] != "fader" or words[1] not in ("edit", "strip", "describe"):
                continue
            more = [] if "--model" in words else ["--model", "runs/first"]
            if "--where" in words:  # of a photo that is not ours
                more += ["--where", "150,20,300,200"]
            result = CliRunner().invoke(main, [*words[1:], *more])
            assert result.exit_code == 0, (words, result.output)
            ran += 1
    assert ran >= 4


# fader describe


def test_describe(fader, photo, wall):
    result = fader("describe", photo)
    assert result.exit_code == 0, result.output
    assert "face 1 of 1" in result.stdout
    assert len(fader("describe", photo, "--all").stdout.splitlines()) == 41

    result = fader("describe", photo, wall, "--json")
    assert result.exit_code == 1
    assert f"{wall}: no face found" in result.stderr
    first, second = json.loads(result.stdout)
    assert first["input"] == str(photo) and len(first["faces"]) == 1
    assert len(first["faces"][0]["attributes"]) == 40
    assert second["faces"] == [] and "no face" in second["detail"]


def test_describe_a_folder(fader, photo, wall, tmp_path):
    (tmp_path / "deep").mkdir()
    photo.rename(tmp_path / "deep" / "photo.png")
    (tmp_path / "notes.txt").write_text("")
    result = fader("describe", tmp_path)
    assert result.exit_code == 0, result.output  # a wall is to be expected there
    assert f"{tmp_path / 'deep' / 'photo.png'}: face 1 of 1" in result.stdout
    assert f"{wall}: no face found" in result.stderr and "1 .txt" in result.stderr
    (tmp_path / "broken.jpg").write_text("no picture")
    result = fader("describe", tmp_path, "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert [Path(one["input"]).name for one in document] == ["broken.jpg", "photo.png", "wall.png"]
    (tmp_path / "empty").mkdir()
    assert "no photos" in fader("describe", tmp_path / "empty").stderr


# fader strip


def test_strip_as_picture_and_animation(fader, photo, tmp_path):
    options = ("--attr", "Smiling", "--attr", "male", "--from", "-1", "--to", "2", "--steps", "3")
    for name in ("strip.png", "strip.gif"):
        result = fader("strip", photo, *options, "-o", tmp_path / name)
        assert result.exit_code == 0, result.output
        assert result.stdout == f"{tmp_path / name}\n"
    assert Image.open(tmp_path / "strip.png").width > 3 * 256
    with Image.open(tmp_path / "strip.gif") as animation:
        assert animation.is_animated and animation.n_frames == 4
    # Without options: -1 to 2 by halves, so that both ends of the attribute are shown.
    usual = fader("strip", photo, "--attr", "Smiling", "-o", tmp_path / "usual.png")
    halves = ("--from", "-1", "--to", "2", "--steps", "7")
    asked = fader("strip", photo, "--attr", "Smiling", *halves, "-o", tmp_path / "asked.png")
    assert usual.exit_code == asked.exit_code == 0
    assert (tmp_path / "usual.png").read_bytes() == (tmp_path / "asked.png").read_bytes()


def test_strip_mistakes(fader, photo, tmp_path):
    out = tmp_path / "strip.png"
    result = fader("strip", photo, "--attr", "Smiling", "--from", "1", "--to", "1", "-o", out)
    assert result.exit_code == 2 and "two different values" in result.stderr
    result = fader("strip", photo, "--attr", "Smilling", "-o", out)
    assert result.exit_code == 2 and "did you mean Smiling" in result.stderr
    result = fader("strip", photo, "--attr", "Bald", "-o", out)
    assert result.exit_code == 1 and "does not know Bald" in result.stderr
    result = fader("strip", photo, "--attr", "Smiling", "-o", photo, "--overwrite")
    assert result.exit_code == 1 and "input photo" in result.stderr
    assert not out.exists()


# all three


def test_a_cold_edit_imports_only_what_it_needs(photo, model, tmp_path):
    code = (
        "import sys\nfrom fader.commands import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'torchvision', 'facenet_pytorch', 'accelerate', 'tensorboard', 'torchmetrics'}\n"
        "heavy |= {'matplotlib', 'torch._dynamo', 'sympy', 'huggingface_hub', 'trio', 'yaml'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    out = tmp_path / "out.png"
    arguments = ["edit", photo, "--set", "Smiling=2", "-o", out, "--model", model]
    command = [sys.executable, "-c", code, *map(str, arguments), "--device", "cpu"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert out.exists()


@pytest.mark.parametrize("command", ["edit", "describe", "strip"])
def test_help_has_an_example_and_loads_no_torch(command):
    code = (
        "import sys\nfrom fader.commands import main\n"
        f"try: main(['{command}', '-h'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert not {'torch', 'cv2', 'facenet_pytorch'} & set(sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert f"fader {command} photo.jpg" in run.stdout


def test_a_model_that_is_not_there_is_told_once(photo, tmp_path):
    arguments = ["edit", str(photo), str(photo.with_name("x.png")), "--set", "Smiling=1"]
    arguments += ["-o", str(tmp_path / "out"), "--model", str(tmp_path)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert result.stderr.count("Error:") == 1 and "config.json" in result.stderr


def test_what_an_output_cannot_hold_is_noted(fader, tmp_path):
    packet = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
        b'syntax-ns#"><rdf:Description rdf:about="" xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/'
        b'1.0/" hdrgm:Version="1.0"/></rdf:RDF></x:xmpmeta>'
    )
    source, out = tmp_path / "a.jpg", tmp_path / "b.bmp"
    exif = Image.Exif()
    exif[271] = "Maker"
    Image.open(ASTRONAUT).convert("RGB").save(source, xmp=packet, exif=exif, quality=95)
    source.chmod(0o600)
    result = fader("edit", source, "--set", "Smiling=+5", "-o", out)
    assert result.exit_code == 0, result.output
    for words in ("its gain map is left out", "not kept: EXIF", "does not say that it was edited"):
        assert words in result.stderr
    assert out.stat().st_mode & 0o777 == 0o600
    result = fader("edit", source, "--set", "Smiling=+5")
    assert open_photo(tmp_path / "a.edited.jpg").provenance.edits == "Smiling=+5"
    result = fader("edit", source, "--set", "Smiling=5", "-o", tmp_path / "b.ico")
    assert result.exit_code == 1 and "cannot write .ico" in result.stderr
