"""A server for tests: the real one, on a free port, with a small model of random weights."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import torch
import uvicorn
from click.testing import CliRunner, Result
from paths import ASTRONAUT, ROOT
from PIL import Image

from fader.app.server import _listen, create_app
from fader.app.settings import Settings
from fader.commands import main
from fader.models.classifier import ClassifierConfig
from fader.models.config import AutoencoderConfig
from fader.models.model import FaderModel

ATTRIBUTES = ("Male", "Smiling", "Eyeglasses", "Black_Hair", "Blond_Hair")


def random_model(folder: Path, seed: int = 0) -> Path:
    """A model whose edits are nonsense that everybody sees."""
    torch.manual_seed(seed)
    config = AutoencoderConfig("difference", 64, 4, ATTRIBUTES, width=8, max_width=32)
    model = FaderModel(config, ClassifierConfig(size=32, width=8))
    with torch.no_grad():
        for parameter in model.autoencoder.parameters():
            parameter.normal_(0, 0.2)
        # So wide open that every edit shows.
        model.autoencoder.head.bias[12:] = 4
    model.save(folder)
    return folder


def couple() -> bytes:
    """A PNG with the same face twice: the first is the larger."""
    photo = Image.open(ASTRONAUT).convert("RGB")
    head = photo.crop((120, 20, 340, 240))
    both = Image.new("RGB", (640, 330))
    both.paste(head.resize((330, 330), Image.Resampling.BICUBIC), (0, 0))
    both.paste(head, (400, 50))
    buffer = io.BytesIO()
    both.save(buffer, "PNG")
    return buffer.getvalue()


@contextmanager
def serving(settings: Settings) -> Iterator[httpx.Client]:
    """A client of a server in a thread of this process."""
    app = create_app(settings)
    listening = _listen(settings)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", proxy_headers=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    port = listening.getsockname()[1]
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
            client.app = app
            yield client
    finally:
        server.should_exit = True
        thread.join(30)
        listening.close()


def send(client: httpx.Client, data: bytes | None = None, name: str = "astronaut.jpg") -> Any:
    """Send a photo (the astronaut): what the server says of it."""
    data = ASTRONAUT.read_bytes() if data is None else data
    response = client.post("/api/photos", files={"photo": (name, data)})
    assert response.status_code == 201, response.text
    return response.json()


def run(*arguments: object, folder: Path) -> Result:
    """``fader …`` in a folder."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        return CliRunner().invoke(main, [str(argument) for argument in arguments])
    finally:
        os.chdir(before)


@contextmanager
def started(
    *arguments: object, environment: dict[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """``fader app …`` as a process, and its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "fader", "app", "--port", "0", "--no-browser", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stderr.readline()
        assert line.startswith("Fader is at"), line + process.stderr.read()
        yield process, line.split()[3].rstrip("/")
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait(30)
        process.stderr.close()


def wait(condition: Any, seconds: float = 60) -> Any:
    """The first true answer of ``condition()``."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer := condition():
            return answer
        time.sleep(0.05)
    raise AssertionError("it did not come true")
