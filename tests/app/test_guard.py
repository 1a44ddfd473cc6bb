"""What ``fader app`` refuses, and that each refusal is one sentence."""

from __future__ import annotations

import errno
import io
import os
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
import zlib
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from PIL import Image
from serving import ASTRONAUT, ROOT, random_model, send, serving, started, wait

from fader.app.errors import Refused
from fader.app.jobs import remove_leftovers
from fader.app.server import create_app
from fader.app.settings import MB, Settings
from fader.app.uploads import ZipLimits, unpack_photos
from fader.commands import main
from fader.errors import FaderError


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return random_model(tmp_path_factory.mktemp("models") / "noise")


@pytest.fixture(scope="module")
def client(model):
    with serving(Settings(port=0, model=str(model), device="cpu")) as client:
        yield client


def sentence(response: httpx.Response, status: int) -> str:
    assert response.status_code == status, response.text
    detail = response.json()["detail"]
    assert isinstance(detail, str) and "Traceback" not in detail and "\n" not in detail
    return detail


def sent(client: httpx.Client, data: bytes, name: str = "photo.jpg") -> httpx.Response:
    return client.post("/api/photos", files={"photo": (name, data)})


# Who may ask.


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.7", "example.org", "::"])
def test_another_host_needs_a_token(host):
    result = CliRunner().invoke(main, ["app", "--host", host, "--port", "0"])
    assert result.exit_code == 1
    assert "--token" in result.output and result.output.count("\n") == 1
    Settings(host=host, token="secret").check()


def test_hosts_of_this_machine_need_none():
    for host in ("127.0.0.1", "localhost", "::1", "127.0.0.2"):
        Settings(host=host).check()


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
def test_a_foreign_host_header_is_refused(client, host):
    for path in ("/", "/api/health", "/static/app.js"):
        assert "Host" in sentence(client.get(path, headers={"host": host}), 421)


def test_its_own_names_are_taken(client):
    port = client.base_url.port
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", "[::1]:9", "LOCALHOST"):
        assert client.get("/api/health", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:1"},
        {"origin": "null"},
        {"origin": "http://["},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_other_sites_are_refused(client, headers):
    with open(ASTRONAUT, "rb") as file:
        response = client.post("/api/photos", files={"photo": file}, headers=headers)
    assert "other sites" in sentence(response, 403)
    assert "other sites" in sentence(client.get("/api/health", headers=headers), 403)


def test_a_link_on_another_site_may_lead_to_the_page(client):
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client.get("/", headers=headers).status_code == 200
    own = {"origin": str(client.base_url).rstrip("/")}
    assert client.get("/api/health", headers=own).status_code == 200


def test_a_token(model):
    with serving(Settings(port=0, model=str(model), device="cpu", token="s3cret")) as client:
        for path in ("/", "/api/health", "/static/app.js", "/docs", "/openapi.json"):
            assert "token" in sentence(client.get(path), 401)
            wrong = {"authorization": "Bearer s3cre"}
            sentence(client.get(path, headers=wrong), 401)
            right = {"authorization": "Bearer s3cret"}
            assert client.get(path, headers=right).status_code == 200
        page = client.get("/", headers={"accept": "text/html"})
        assert page.status_code == 401 and "<form" in page.text
        # The link that is printed opens the page, and the browser remembers it.
        opened = client.get("/?token=s3cret")
        assert opened.status_code == 303 and "httponly" in opened.headers["set-cookie"].lower()
        assert "s3cret" not in opened.headers["location"]
        assert client.get("/api/health").status_code == 200


def test_no_endpoint_opens_paths_of_the_server(client):
    for path in ("/static/../server.py", "/static/%2e%2e/server.py", "/static//etc/passwd"):
        assert client.get(path).status_code == 404
    for name in ("/etc/passwd", "../..", "http://127.0.0.1/x", "user/name"):
        response = client.post("/api/photos", files={"photo": b"x"}, data={"model": name})
        assert "there is no model" in sentence(response, 404)
        response = client.post("/api/generate", json={"generator": name})
        assert "there is no generator" in sentence(response, 404)


# Uploads.


def test_sixty_five_megabytes_are_refused(client):
    assert "64 MB" in sentence(sent(client, b"\xff\xd8" + bytes(65 * MB)), 413)
    assert client.get("/api/health").json()["photos"] == len(client.app.state.fader.photos)


def test_the_limit_can_be_set(model):
    with serving(Settings(port=0, model=str(model), device="cpu", max_upload=MB)) as client:
        assert "1 MB" in sentence(sent(client, bytes(2 * MB)), 413)

        def parts():
            yield b'--x\r\ncontent-disposition: form-data; name="photo"; filename="a"\r\n\r\n'
            yield from (bytes(MB // 4) for _ in range(8))
            yield b"\r\n--x--\r\n"

        kind = {"content-type": "multipart/form-data; boundary=x"}
        response = client.post("/api/photos", content=parts(), headers=kind)
        assert "1 MB" in sentence(response, 413)
        assert send(client)["faces"]


def bomb() -> bytes:
    """A PNG that claims to have 40,000 by 40,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checked = kind + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", b"x") + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"this is no photo at all\n" * 9, "not an image"),
        (b"", "empty"),
        (ASTRONAUT.read_bytes()[:5000], "broken or cut short"),
        (bomb(), "megapixels"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
    ],
)
def test_what_is_no_photo(client, data, words):
    for path in ("/api/photos", "/api/edit"):
        files = {"photo": ("photo.jpg", data)}
        detail = sentence(client.post(path, files=files, data={"set": "Smiling=1"}), 415)
        assert words in detail and detail.startswith("photo.jpg")


def test_types_are_told_by_content(client):
    assert sent(client, ASTRONAUT.read_bytes(), "notes.txt").json()["format"] == "JPEG"


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{}", {"content-type": "application/json"}, 415),
        (b"x", {"content-type": "multipart/form-data"}, 400),
        (b"--x\r\nnonsense", {"content-type": "multipart/form-data; boundary=x"}, 422),
        (b"--x--\r\n", {"content-type": "multipart/form-data; boundary=x"}, 422),
    ],
)
def test_forms_that_are_none(client, body, headers, status):
    sentence(client.post("/api/photos", content=body, headers=headers), status)


def test_two_photos_at_once_are_one_too_many(client):
    files = [("photo", b"a"), ("photo", b"b")]
    assert "one photo" in sentence(client.post("/api/photos", files=files), 422)


@pytest.mark.parametrize("text", ["", "{", "null", "[" * 5000])
def test_json_that_is_none(client, text):
    name = send(client)["id"]
    kind = {"content-type": "application/json"}
    response = client.post(f"/api/photos/{name}/edit", content=text, headers=kind)
    assert response.status_code in (400, 422)
    sentence(response, response.status_code)


def test_requests_that_are_no_uploads_are_short(client):
    kind = {"content-type": "application/json"}
    response = client.post("/api/generate", content=b" " * 2 * MB, headers=kind)
    assert "1 MB" in sentence(response, 413)


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({}, "nothing to change"),
        ({"set": "Smiling"}, "NAME=VALUE"),
        ({"set": "Smiling=1", "face": "second"}, "face"),
        ({"set": "Smiling=1", "face": "3"}, "there is no face 3"),
        ({"set": "Smiling=1", "quality": "200"}, "quality"),
        ({"set": "Smiling=1", "url": "http://x"}, "url"),
        ({"to": "handsome"}, "handsome"),
    ],
)
def test_edits_that_cannot_be_asked(client, form, words):
    with open(ASTRONAUT, "rb") as file:
        response = client.post("/api/edit", files={"photo": file}, data=form)
    assert words in sentence(response, 422)


def test_bugs_are_no_tracebacks(client, monkeypatch):
    monkeypatch.setattr("fader.edit.session.OpenPhoto.preview", lambda *a, **k: 1 / 0)
    name = send(client)["id"]
    response = client.get(f"/api/photos/{name}/faces/1/preview?Smiling=1")
    assert "ZeroDivision" not in sentence(response, 500)


def test_nothing_is_written_to_a_disk(client, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    buffer = io.BytesIO()
    Image.open(ASTRONAUT).resize((1600, 1600)).save(buffer, "PNG")
    assert buffer.tell() > MB
    name = send(client, buffer.getvalue(), "a.png")["id"]
    seen: list[str] = []
    looking = threading.Event()

    def look() -> None:
        while not looking.wait(0.002):
            seen.extend(os.listdir(tmp_path))

    thread = threading.Thread(target=look)
    thread.start()
    client.post(f"/api/photos/{name}/edit", json={"set": {"Smiling": 1}})
    client.post("/api/edit", files={"photo": buffer.getvalue()}, data={"set": "Smiling=1"})
    looking.set()
    thread.join()
    assert not seen


# What is kept, and for how long.


def test_photos_expire(model):
    with serving(Settings(port=0, model=str(model), device="cpu", idle=1.5)) as client:
        name = send(client)["id"]
        assert client.get(f"/api/photos/{name}").status_code == 200
        time.sleep(1.7)
        assert "send it again" in sentence(client.get(f"/api/photos/{name}"), 410)
        sentence(client.get("/api/photos/never"), 404)


def test_the_longest_unused_photo_makes_room(model):
    size = 30 * MB  # a small photo, with what is remembered of it
    settings = Settings(port=0, model=str(model), device="cpu", memory=2 * size)
    with serving(settings) as client:
        names = [send(client)["id"] for _ in range(2)]
        assert client.get(f"/api/photos/{names[0]}").status_code == 200
        names.append(send(client)["id"])
        states = [client.get(f"/api/photos/{name}").status_code for name in names]
        assert states == [200, 410, 200]
        health = client.get("/api/health").json()
        assert health["photos"] == 2 and health["photo_bytes"] <= 2 * size
        assert client.delete(f"/api/photos/{names[2]}").status_code == 204
        sentence(client.get(f"/api/photos/{names[2]}"), 410)
    with serving(Settings(port=0, model=str(model), device="cpu", memory=MB)) as client:
        assert "memory" in sentence(sent(client, ASTRONAUT.read_bytes()), 413)


# Zips.


def zipped(*entries: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return buffer.getvalue()


def link(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.create_system = 3
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


def locked(data: bytes) -> bytes:
    """The zip with its entries marked as encrypted."""
    for header, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = data.index(header) + flags
        data = data[:at] + bytes([data[at] | 1]) + data[at + 1 :]
    return data


PHOTO = ASTRONAUT.read_bytes()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (zipped(("../a.jpg", PHOTO)), "leads out"),
        (zipped(("a/../../a.jpg", PHOTO)), "leads out"),
        (zipped(("/etc/a.jpg", PHOTO)), "leads out"),
        (zipped(("..\\a.jpg", PHOTO)), "leads out"),
        (zipped(("C:\\a.jpg", PHOTO)), "leads out"),
        (zipped((link("a.jpg"), b"/etc/passwd")), "link"),
        (locked(zipped(("a.jpg", PHOTO))), "has a password"),
        (zipped(("a.jpg", bytes(50 * MB))), "100 times its size"),
        (zipped(*((f"{n}.txt", b"") for n in range(2001))), "2001 entries"),
        (zipped(("a.jpg", PHOTO))[:-300], "not a whole zip"),
        (b"PK\3\4 and nothing more", "not a whole zip"),
        (zipped(("a.txt", b"text")), "no photos"),
    ],
)
def test_zips_that_are_refused(client, tmp_path, monkeypatch, data, words):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    files = {"photos": ("photos.zip", data)}
    response = client.post("/api/folders", files=files, data={"set": "Smiling=1"})
    assert response.status_code in (413, 415, 422)
    assert words in sentence(response, response.status_code)
    assert not os.listdir(tmp_path)


def test_a_full_disk_is_no_fault_of_the_zip(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        unpack_photos(zipped(("a.jpg", PHOTO)), "a.zip", tmp_path)


def test_the_size_of_a_zip_is_bounded(tmp_path):
    data = zipped(("a.jpg", PHOTO), ("b.jpg", PHOTO))
    with pytest.raises(Refused, match="would unpack to"):
        unpack_photos(data, "a.zip", tmp_path, ZipLimits(unpacked=len(PHOTO)))
    assert not os.listdir(tmp_path)
    # An entry that claims to be smaller than it is gives no more than it claims.
    lying = data.replace(struct.pack("<I", len(PHOTO)), struct.pack("<I", 100))
    with pytest.raises(Refused, match="not a whole zip"):
        unpack_photos(lying, "a.zip", tmp_path, ZipLimits())
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.jpg")) <= 200


# Starting and stopping.


def test_a_port_that_is_taken(client, model):
    port = str(client.base_url.port)
    result = CliRunner().invoke(main, ["app", "--port", port, "--model", str(model)])
    assert result.exit_code == 1
    assert "--port" in result.output and result.output.count("\n") == 1


def test_a_model_that_is_none(model, tmp_path):
    result = CliRunner().invoke(main, ["app", "--port", "0", "--model", str(tmp_path)])
    assert result.exit_code == 1 and "Traceback" not in result.output
    with pytest.raises(FaderError, match="no such folder"):
        create_app(Settings(model=str(model), generators=tmp_path / "none"))


def test_ctrl_c_ends_it_and_its_jobs(model, tmp_path):
    environment = {"TMPDIR": str(tmp_path)}
    with started("--model", model, environment=environment) as (process, address):
        files = [("photos", (f"{n}.jpg", PHOTO)) for n in range(60)]
        form = {"set": "Smiling=1"}
        job = httpx.post(f"{address}/api/folders", files=files, data=form, timeout=60)
        assert job.status_code == 201
        assert list(tmp_path.glob("fader-app-*"))
        events = f"{address}/api/folders/{job.json()['id']}/events"
        with httpx.stream("GET", events, timeout=60) as stream:
            assert "running" in next(stream.iter_text())
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        assert process.stderr.read() == "Stopped.\n"
        assert not os.listdir(tmp_path)


def test_what_a_killed_server_left_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    killed, alive, other = (tmp_path / name for name in ("fader-app-1", "fader-app-2", "other"))
    for folder in (killed, alive, other):
        (folder / "photos").mkdir(parents=True)
        (folder / "photos" / "a.jpg").write_bytes(PHOTO)
        (folder / ".lock").touch()
    code = (
        "import sys, time\nfrom fader.files import file_lock\n"
        "with file_lock(sys.argv[1]): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(alive / ".lock")],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        assert holder.stdout.readline()
        remove_leftovers()
        assert sorted(os.listdir(tmp_path)) == ["fader-app-2", "other"]
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    remove_leftovers()
    assert os.listdir(tmp_path) == ["other"]


def test_a_job_is_cancelled(client, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    files = [("photos", (f"{n}.jpg", PHOTO)) for n in range(40)]
    job = client.post("/api/folders", files=files, data={"set": "Smiling=1"}).json()
    assert job["total"] == 40
    cancelled = client.delete(f"/api/folders/{job['id']}").json()
    assert cancelled["state"] == "cancelled"
    wait(lambda: not os.listdir(tmp_path))
    assert "cancelled" in sentence(client.get(f"/api/folders/{job['id']}/result"), 409)


def test_without_the_libraries_a_sentence_names_them(monkeypatch):
    monkeypatch.setitem(sys.modules, "fader.app.server", None)
    result = CliRunner().invoke(main, ["app"])
    assert result.exit_code == 1 and "pip install 'fader[app]'" in result.output


def test_uploads_at_once_are_bounded(model):
    settings = Settings(port=0, model=str(model), device="cpu", max_upload=MB)
    with serving(settings) as client:
        uploads = client.app.state.fader.uploads
        uploads._held = uploads._memory
        assert "others" in sentence(sent(client, PHOTO), 429)
        uploads._held = 0
        send(client)
        assert uploads._held == 0
