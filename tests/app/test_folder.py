"""Folders, drawn faces and models through the HTTP API."""

from __future__ import annotations

import base64
import csv
import io
import json
import zipfile
from pathlib import Path

import httpx
import pytest
import torch
from PIL import Image
from serving import ASTRONAUT, ATTRIBUTES, random_model, run, send, serving, wait

from cgan.config import GanConfig
from cgan.io import save_generator
from cgan.networks import Generator
from fader.app.settings import Settings
from fader.train.run import RunFolder

HOPPER = ASTRONAUT.with_name("hopper.jpg")
SMALL = {"size": 32, "width": 4, "max_width": 8, "latent": 8}
SMALL |= {"label_kind": "classes", "label_names": ("happy", "sad")}


def train_a_little(folder: Path) -> None:
    """A run of cgan with a model and checkpoints at steps 50 and 100, as training leaves it."""
    run_folder = RunFolder(folder)
    folder.mkdir(parents=True)
    config = GanConfig(**SMALL, ema_decay=0)
    run_folder.config.write_text(json.dumps(config.to_dict()))
    run_folder.checkpoints.mkdir()
    for step in (50, 100):
        torch.manual_seed(step)
        generator = Generator(config)
        state = {"step": step, "nets": {"generator": generator.state_dict()}}
        torch.save(state, run_folder.checkpoint_path(step))
    save_generator(generator.eval(), run_folder.model)


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("noise", "snow")):
        random_model(folder / name, seed)
    (folder / "notes").mkdir()
    (folder / "snow" / "README.md").write_text("# Snow\n\n| a | b |\n| --- | --- |\n| c | 1 |")
    generators = tmp_path_factory.mktemp("generators")
    train_a_little(generators / "moods")
    settings = Settings(
        port=0,
        model=str(folder / "noise"),
        models=(str(folder),),
        generators=generators,
        device="cpu",
    )
    with serving(settings) as client:
        client.folder = folder
        yield client


def progress(client: httpx.Client, job: str) -> list[dict]:
    """All that the server tells of a job, until it is over."""
    told = []
    with client.stream("GET", f"/api/folders/{job}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            if line.startswith("data:"):
                told.append(json.loads(line.removeprefix("data:")))
    return told


def result(client: httpx.Client, job: str) -> zipfile.ZipFile:
    response = client.get(f"/api/folders/{job}/result")
    assert response.headers["content-type"] == "application/zip"
    return zipfile.ZipFile(io.BytesIO(response.content))


def test_a_folder_is_edited_as_the_command_does(client, tmp_path):
    photos = [("photos", (p.name, p.read_bytes())) for p in (ASTRONAUT, HOPPER)]
    photos.append(("photos", ("text.jpg", b"no photo")))
    form = {"set": "Smiling=2", "face": "all"}
    job = client.post("/api/folders", files=photos, data=form).json()["id"]
    told = progress(client, job)
    assert [one["state"] for one in told][-1] == "done"
    assert told[-1]["total"] == told[-1]["done"] == 3
    assert told[-1]["counts"] == {"edited": 2, "unreadable": 1}
    made = result(client, job)
    rows = list(csv.DictReader(io.TextIOWrapper(made.open("report.csv"), "utf-8")))
    assert [row["status"] for row in rows] == ["edited", "edited", "unreadable"]
    source = tmp_path / "in"
    source.mkdir()
    for path in (ASTRONAUT, HOPPER):
        (source / path.name).write_bytes(path.read_bytes())
    model = client.folder / "noise"
    options = ("--face", "all", "--model", model, "--device", "cpu", "--workers", 1)
    run("edit", source, "-o", tmp_path / "out", "--set", "Smiling=2", *options, folder=tmp_path)
    for path in (ASTRONAUT, HOPPER):
        assert made.read(path.name) == (tmp_path / "out" / path.name).read_bytes()
    assert set(made.namelist()) == {"astronaut.jpg", "hopper.jpg", "report.csv"}


def test_a_zip_sent_in_parts(client):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.write(ASTRONAUT, "one/a.jpg")
        archive.writestr("__MACOSX/one/._a.jpg", b"x")
        archive.writestr("notes.txt", b"x")
    job = client.post("/api/folders", files={"start": (None, "false")}).json()
    assert job["state"] == "waiting"
    path = f"/api/folders/{job['id']}"
    response = client.post(f"{path}/start", files={"set": (None, "Smiling=1")})
    assert response.status_code == 422 and "no photos" in response.json()["detail"]
    client.post(f"{path}/photos", files={"photos": ("a.zip", buffer.getvalue())})
    for _ in range(2):
        client.post(f"{path}/photos", files={"photos": (HOPPER.name, HOPPER.read_bytes())})
    started = client.post(f"{path}/start", files={"set": (None, "Smiling=1")})
    assert started.status_code == 200, started.text
    assert client.post(f"{path}/photos", files={"photos": b"x"}).status_code == 409
    assert client.get(path).json()["total"] == 3
    wait(lambda: client.get(path).json()["state"] == "done")
    names = set(result(client, job["id"]).namelist())
    assert names == {"one/a.jpg", "hopper.jpg", "hopper-2.jpg", "report.csv"}


def test_what_cannot_be_asked_of_a_folder(client):
    for form in ({}, {"set": "Nose=1"}, {"set": "Smiling=1", "model": "none"}):
        response = client.post("/api/folders", files={"photos": ASTRONAUT.read_bytes()}, data=form)
        assert response.status_code in (404, 422)
    assert client.get("/api/folders/none").status_code == 404
    assert client.get("/api/health").json()["folders"] == 0


def test_generators_are_listed_with_their_training(client):
    known = {one["name"]: one for one in client.get("/api/generators").json()}
    for name in ("faces", "emotions", "moods", "moods, step 50", "moods, step 100"):
        assert name in known
    assert known["moods, step 50"]["labels"] == ["happy", "sad"]
    assert next(iter(known)) == "faces"


@pytest.mark.parametrize("n", [1, 10])
def test_faces_are_drawn(client, n):
    asked = {"generator": "moods, step 50", "n": n, "seed": 3, "label": "sad"}
    drawn = client.post("/api/generate", json=asked).json()
    assert drawn["seed"] == 3 and len(drawn["images"]) == n
    image = Image.open(io.BytesIO(base64.b64decode(drawn["images"][0]["png"])))
    assert image.size == (32, 32) and drawn["images"][0]["title"] == "sad"
    assert client.post("/api/generate", json=asked).json() == drawn
    later = {**asked, "generator": "moods, step 100"}
    assert client.post("/api/generate", json=later).json()["images"] != drawn["images"]
    grid = client.post("/api/generate", json={**asked, "answer": "grid"})
    assert Image.open(io.BytesIO(grid.content)).size == (32 * n, 32)


def test_the_default_generator_is_asked_for_attributes(client):
    drawn = client.post("/api/generate", json={"n": 1, "set": {"Male": 0}}).json()
    assert "Male=0" in drawn["images"][0]["title"]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"n": 0}, "n:"),
        ({"n": 1000}, "n:"),
        ({"label": "happy"}, "no classes"),
        ({"set": {"Bald": 1}}, "Bald"),
        ({"set": {"Male": 3}}, "from 0 to 1"),
        ({"generator": "moods", "label": "hungry"}, "hungry"),
        ({"seed": -1}, "seed"),
        ({"truncation": 9}, "truncation"),
    ],
)
def test_what_cannot_be_drawn(client, asked, words):
    response = client.post("/api/generate", json=asked)
    assert response.status_code == 422
    assert words in response.json()["detail"]


def test_models_are_listed_and_used(client):
    known = {one["name"]: one for one in client.get("/api/models").json()}
    assert list(known) == ["noise", "snow"]
    assert known["noise"]["first"] and known["noise"]["attributes"] == list(ATTRIBUTES)
    assert known["snow"]["card"].startswith("# Snow")
    assert "config.json" in known["noise"]["card"]
    assert client.post("/api/models/snow/load").json()["loaded"]
    assert client.post("/api/models/rain/load").status_code == 404
    files = {"photo": ("a.jpg", ASTRONAUT.read_bytes())}
    other = client.post("/api/photos", files=files, data={"model": "snow"}).json()
    assert other["model"] == "snow"
    first = send(client)
    assert first["faces"][0]["attributes"] != other["faces"][0]["attributes"]
    asked = {"set": {"Smiling": 1}}
    response = client.post(f"/api/photos/{other['id']}/edit", json=asked)
    command = json.loads(response.headers["fader-edit"])["command"]
    assert command.endswith(f"--model {client.folder / 'snow'}")


def test_the_api_describes_itself(client):
    paths = client.get("/openapi.json").json()["paths"]
    for path in ("/api/photos", "/api/edit", "/api/generate", "/api/health"):
        assert path in paths
    assert "/api/photos/{photo_id}/faces/{number}/preview" in paths
    assert "docs.js" in client.get("/docs").text
    page = client.get("/").text
    for text in (page, client.get("/docs").text):
        assert "http://" not in text and "https://" not in text
