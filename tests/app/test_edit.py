"""Photos through the HTTP API: what is edited, and that it is what ``fader edit`` writes."""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from serving import ASTRONAUT, ATTRIBUTES, couple, random_model, run, send, serving

from fader.app.settings import Settings
from fader.edit.editor import Editor
from fader.edit.session import OpenPhoto
from fader.photo import read_photo
from fader.photo.png import deep_png, read_deep_png


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return random_model(tmp_path_factory.mktemp("models") / "noise")


@pytest.fixture(scope="module")
def client(model):
    with serving(Settings(port=0, model=str(model), device="cpu")) as client:
        yield client


def picture(response: httpx.Response) -> np.ndarray:
    assert response.status_code == 200, response.text
    return np.asarray(Image.open(io.BytesIO(response.content)).convert("RGB")).astype(int)


def account(response: httpx.Response) -> dict:
    return json.loads(response.headers["fader-edit"])


def by_command(command: str, folder: Path) -> bytes:
    """The file that a copied command makes."""
    words = shlex.split(command)
    assert words[:2] == ["fader", "edit"]
    result = run(*words[1:], "--device", "cpu", folder=folder)
    assert result.exit_code == 0, result.output
    return (folder / words[words.index("-o") + 1]).read_bytes()


def test_a_photo_and_its_faces(client):
    sent = send(client)
    assert (sent["width"], sent["height"], sent["format"]) == (512, 512, "JPEG")
    assert sent["output"] == "astronaut.edited.jpg"
    (face,) = sent["faces"]
    assert face["number"] == 1 and face["editable"]
    assert set(face["attributes"]) == set(ATTRIBUTES)
    assert all(0 <= value <= 1 for value in face["attributes"].values())
    assert client.get(f"/api/photos/{sent['id']}").json()["faces"] == sent["faces"]
    shown = picture(client.get(f"/api/photos/{sent['id']}/picture?side=256"))
    assert shown.shape == (256, 256, 3)


def test_a_move_draws_the_face_alone(client):
    sent = send(client)
    path = f"/api/photos/{sent['id']}/faces/1/preview"
    x0, y0, x1, y1 = sent["faces"][0]["region"]
    one, other = (picture(client.get(path, params={"Smiling": v, "as": "png"})) for v in (0, 1.5))
    assert one.shape[:2] == (y1 - y0, x1 - x0)
    assert np.abs(one - other).max() > 10
    for kind in ("jpeg", "webp"):
        response = client.get(path, params={"smiling": 1.5, "as": kind, "side": 64})
        assert response.headers["content-type"] == f"image/{kind}"
        assert max(picture(response).shape) == 64
        assert account(response)["Smiling"] == 1.5


def test_a_preview_shows_what_the_whole_photo_will_be(client):
    buffer = io.BytesIO()
    Image.open(ASTRONAUT).save(buffer, "PNG")
    sent = send(client, buffer.getvalue(), "a.png")
    x0, y0, x1, y1 = sent["faces"][0]["region"]
    path = f"/api/photos/{sent['id']}"
    near = picture(client.get(f"{path}/faces/1/preview", params={"Smiling": 2, "as": "png"}))
    whole = picture(client.post(f"{path}/edit", json={"faces": {"1": {"Smiling": 2}}}))
    difference = np.abs(near - whole[y0:y1, x0:x1])
    assert difference.mean() < 1


def test_the_encoder_and_the_detector_run_once(model, monkeypatch):
    editor = Editor.from_pretrained(model, "cpu")
    calls = {"encode": 0, "detect": 0}
    encode, detect = editor.model.encode, editor.detector

    def counted(x):
        calls["encode"] += 1
        return encode(x)

    def searched(pixels):
        calls["detect"] += 1
        return detect(pixels)

    monkeypatch.setattr(editor.model, "encode", counted)
    editor.detector = searched
    photo = OpenPhoto(editor, ASTRONAUT.read_bytes(), "a.jpg")
    for value in (0, 0.4, 2):
        photo.preview(1, {"Smiling": value})
        photo.edited({1: {"Smiling": value}})
    assert calls == {"encode": 1, "detect": 1}


@pytest.mark.parametrize("values", [{"Smiling": 1.25, "Male": 0}, {"Blond_Hair": -0.5}])
def test_the_download_is_what_the_copied_command_writes(client, tmp_path, values):
    sent = send(client)
    response = client.post(f"/api/photos/{sent['id']}/edit", json={"faces": {"1": values}})
    assert "astronaut.edited.jpg" in response.headers["content-disposition"]
    done = account(response)
    for name, value in values.items():
        assert done["faces"]["1"]["after"][name] == pytest.approx(value, abs=1e-3)
    (tmp_path / "astronaut.jpg").write_bytes(ASTRONAUT.read_bytes())
    assert by_command(done["command"], tmp_path) == response.content
    assert response.content != ASTRONAUT.read_bytes()


def test_several_faces_keep_their_edits(client, tmp_path):
    data = couple()
    sent = send(client, data, "couple.png")
    assert len(sent["faces"]) == 2
    asked = {"faces": {"1": {"Smiling": 2}, "2": {"Male": 1.5, "Smiling": -0.5}}}
    response = client.post(f"/api/photos/{sent['id']}/edit", json=asked)
    whole = picture(response)
    original = np.asarray(Image.open(io.BytesIO(data))).astype(int)
    for face in sent["faces"]:
        x0, y0, x1, y1 = face["region"]
        assert np.abs(whole - original)[y0:y1, x0:x1].max() > 10
    command = account(response)["command"]
    assert "1:Smiling=2" in command and "2:Male=1.5" in command
    (tmp_path / "couple.png").write_bytes(data)
    assert by_command(command, tmp_path) == response.content
    # The second alone is named by --face, and is what that command makes.
    response = client.post(f"/api/photos/{sent['id']}/edit", json={"faces": {"2": {"Male": 1}}})
    command = account(response)["command"]
    assert "--face 2" in command
    assert by_command(command.replace("-o couple", "-o second"), tmp_path) == response.content


def test_nothing_asked_gives_the_file_itself(client):
    sent = send(client)
    response = client.post(f"/api/photos/{sent['id']}/edit", json={})
    assert response.content == ASTRONAUT.read_bytes()
    assert account(response)["command"] == ""


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".bmp", ".avif", ".heic"])
def test_other_formats_are_kept(client, tmp_path, suffix):
    if suffix == ".heic":
        pytest.importorskip("pillow_heif").register_heif_opener()
    place = tmp_path / f"photo{suffix}"
    Image.open(ASTRONAUT).crop((100, 0, 400, 300)).save(place)
    sent = send(client, place.read_bytes(), place.name)
    response = client.post(f"/api/photos/{sent['id']}/edit", json={"set": {"Smiling": 2}})
    assert by_command(account(response)["command"], tmp_path) == response.content


def test_sixteen_bits_and_metadata_are_kept(client, tmp_path):
    values = np.asarray(Image.open(ASTRONAUT)).astype(np.uint16) * 257 + 3
    data = deep_png(values)
    (tmp_path / "deep.png").write_bytes(data)
    sent = send(client, data, "deep.png")
    response = client.post(f"/api/photos/{sent['id']}/edit", json={"set": {"Smiling": 2}})
    assert by_command(account(response)["command"], tmp_path) == response.content
    edited = read_deep_png(response.content)
    assert np.array_equal(edited[-9:], values[-9:])
    assert read_photo(response.content, "deep.png").provenance.edits == "Smiling=2"


def test_a_name_that_does_not_fit_the_content(client):
    buffer = io.BytesIO()
    Image.open(ASTRONAUT).save(buffer, "PNG")
    sent = send(client, buffer.getvalue(), "../../etc/-passwd.jpg")
    assert (sent["name"], sent["output"]) == ("-passwd.jpg", "-passwd.edited.png")
    response = client.post(f"/api/photos/{sent['id']}/edit", json={"set": {"Smiling": 2}})
    assert Image.open(io.BytesIO(response.content)).format == "PNG"
    assert account(response)["command"].startswith("fader edit ./-passwd.jpg")


def test_photo_in_photo_out(client, model, tmp_path):
    with open(ASTRONAUT, "rb") as file:
        form = {"set": "Smiling=1.5,Male=+0.5", "to": "glasses", "face": "all", "quality": "80"}
        response = client.post("/api/edit", files={"photo": file}, data=form)
    assert response.status_code == 200
    out = tmp_path / "out.jpg"
    options = ("--to", "glasses", "--set", form["set"], "--face", "all", "--quality", 80)
    result = run("edit", ASTRONAUT, *options, "--model", model, "-o", out, folder=tmp_path)
    assert result.exit_code == 0, result.output
    # The order of --set and --to does not matter here.
    assert np.array_equal(picture(response), np.asarray(Image.open(out)).astype(int))
    assert account(response)["faces"][0]["after"]["Smiling"] == 1.5


def test_a_strip_and_an_animation(client):
    sent = send(client)
    path = f"/api/photos/{sent['id']}/faces/1/strip"
    query = {"attribute": "Smiling", "from": 0, "to": 1, "steps": 3}
    strip = Image.open(io.BytesIO(client.get(path, params=query).content))
    assert strip.format == "PNG" and strip.width > 3 * 256
    animation = Image.open(io.BytesIO(client.get(path, params={**query, "as": "gif"}).content))
    assert animation.format == "GIF" and animation.n_frames == 4


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/faces/9/preview?Smiling=1", 422, "no face 9"),
        ("/faces/1/preview?Smilling=1", 422, "did you mean Smiling"),
        ("/faces/1/preview?Smiling=much", 422, "must be a number"),
        ("/faces/1/preview?Smiling=inf", 422, "must be a number"),
        ("/faces/1/preview?Young=1", 422, "does not know Young"),
        ("/faces/one/preview?Smiling=1", 422, "number"),
        ("/faces/1/preview?side=100000", 422, "side"),
        ("/faces/1/strip?attribute=Smiling&steps=1", 422, "steps"),
        ("/nothing", 404, "/docs"),
    ],
)
def test_what_cannot_be_asked_of_a_photo(client, path, status, words):
    response = client.get(f"/api/photos/{send(client)['id']}{path}")
    assert response.status_code == status
    assert words in response.json()["detail"]


@pytest.mark.parametrize(
    "asked",
    [
        {"faces": {"1": {"Nose": 1}}},
        {"faces": {"7": {"Smiling": 1}}},
        {"faces": {"1": {"Smiling": "more"}}},
        {"set": {"Smiling": 1e9}},
        {"set": {"Smiling": 1}, "quality": 0},
        {"st": {"Smiling": 1}},
        [],
    ],
)
def test_edits_that_cannot_be_made(client, asked):
    response = client.post(f"/api/photos/{send(client)['id']}/edit", json=asked)
    assert response.status_code == 422
    assert isinstance(response.json()["detail"], str)


def test_twenty_clients_are_not_mixed_up(client):
    """Each moves its own photo's face, with moves that overtake each other."""
    sent = [send(client) for _ in range(20)]
    values = [0.1 * n - 0.5 for n in range(20)]

    def shown(photo: dict, value: float) -> httpx.Response:
        path = f"/api/photos/{photo['id']}/faces/1/preview"
        return client.get(path, params={"Smiling": value, "as": "png"})

    alone = {value: shown(sent[0], value).content for value in values}
    with ThreadPoolExecutor(20) as pool:
        # Two moves of each face at once: the earlier may be superseded.
        jobs = [(p, v) for p, v in zip(sent, values, strict=True) for _ in range(2)]
        answers = list(pool.map(lambda job: shown(*job), jobs))
    for (_, value), answer in zip(jobs, answers, strict=True):
        assert answer.status_code in (200, 409), answer.text
        if answer.status_code == 200:
            assert answer.content == alone[value]
        else:
            assert "later move" in answer.json()["detail"]
    answered = {job[0]["id"] for job, a in zip(jobs, answers, strict=True) if a.status_code == 200}
    assert len(answered) == 20
    assert client.get("/api/health").json()["status"] == "ok"


def test_the_examples_of_the_documents(client, tmp_path, monkeypatch):
    """As they are written, but for the address."""
    text = (ASTRONAUT.parent.parent / "docs" / "app.md").read_text("utf-8")
    address = str(client.base_url).rstrip("/")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.jpg").write_bytes(ASTRONAUT.read_bytes())
    blocks = re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)
    (python,) = [code for kind, code in blocks if kind == "python"]
    exec(python.replace("http://127.0.0.1:7860", address), {})
    by_steps = (tmp_path / "edited.jpg").read_bytes()
    assert Image.open(tmp_path / "face.jpg").format == "JPEG"
    (curl,) = [code for kind, code in blocks if "curl" in code]
    if not shutil.which("curl"):
        pytest.skip("needs curl")
    (tmp_path / "edited.jpg").unlink()
    subprocess.run(shlex.split(curl.replace("http://127.0.0.1:7860", address)), check=True)
    assert (tmp_path / "edited.jpg").read_bytes() == by_steps
