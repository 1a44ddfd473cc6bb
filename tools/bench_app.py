"""How fast ``fader app`` answers: the real server, driven over loopback.

    python tools/bench_app.py examples/astronaut.jpg --model runs/faces

Measures the cold start to the first byte of the page, the moves of a fader (request to the last
byte of the face's picture, and what takes the time), the release of a 12-megapixel photo, and
twenty clients that move faders at once (answers per second, latency, peak memory). Prints JSON.
"""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import httpx
import numpy as np
from PIL import Image

from fader.edit.editor import Editor
from fader.edit.session import OpenPhoto
from fader.faces.blend import composite_into

# Of the photo whose release is measured.
_LARGE = (4000, 3000)


@click.command()
@click.argument("photo", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--model", default="default", show_default=True, help="As for fader app.")
@click.option("--attribute", default="Smiling", show_default=True, help="Whose fader is moved.")
@click.option("--moves", default=100, show_default=True)
@click.option("--clients", default=20, show_default=True)
@click.option("--seconds", default=10.0, show_default=True, help="How long the clients move.")
def main(photo: Path, model: str, attribute: str, moves: int, clients: int, seconds: float) -> None:
    """Measure the page's server with PHOTO, which shows a face."""
    data = photo.read_bytes()
    port = _free_port()
    command = [sys.executable, "-m", "fader", "app", "--no-browser", "--device", "cpu"]
    begin = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--port", str(port), "--model", model], stderr=subprocess.DEVNULL
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=300) as client:
            figures: dict[str, Any] = {"cores": os.cpu_count(), "load": os.getloadavg()[0]}
            figures["first_byte_s"] = round(_first_byte(client, process, begin), 2)
            figures["first_photo_s"] = round(_timed(lambda: _send(client, data)), 2)
            figures["moves_ms"] = _moves(client, data, attribute, moves)
            figures["release_12_megapixels_ms"] = _release(client, data, attribute)
            figures["clients"] = _crowd(client, data, attribute, clients, seconds, process.pid)
        figures["parts_of_a_move_ms"] = _parts(data, model, attribute)
        click.echo(json.dumps(figures, indent=2))
    finally:
        process.terminate()
        process.wait(30)


def _first_byte(client: httpx.Client, process: subprocess.Popen[bytes], begin: float) -> float:
    while process.poll() is None:
        try:
            client.get("/").raise_for_status()
            return time.perf_counter() - begin
        except httpx.TransportError:
            time.sleep(0.02)
    raise click.ClickException("fader app ended before it answered; try it by itself")


def _send(client: httpx.Client, data: bytes) -> dict[str, Any]:
    response = client.post("/api/photos", files={"photo": ("photo.jpg", data)})
    response.raise_for_status()
    return response.json()


def _preview(client: httpx.Client, name: str, attribute: str, value: float) -> httpx.Response:
    query = {attribute: value}
    return client.get(f"/api/photos/{name}/faces/1/preview", params=query)


def _moves(client: httpx.Client, data: bytes, attribute: str, count: int) -> dict[str, float]:
    name = _send(client, data)["id"]
    _preview(client, name, attribute, 0.5)
    values = np.linspace(-1, 2, count).round(4).tolist()
    return _spread([_timed(lambda v=v: _preview(client, name, attribute, v)) for v in values])


def _release(client: httpx.Client, data: bytes, attribute: str) -> dict[str, float]:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(data)).convert("RGB").resize(_LARGE).save(buffer, "JPEG", quality=92)
    name = _send(client, buffer.getvalue())["id"]
    path = f"/api/photos/{name}/edit"

    def release(value: float, **query: int) -> None:
        client.post(path, json={"set": {attribute: value}}, params=query).raise_for_status()

    release(0.5, side=1600)
    values = np.linspace(-1, 2, 7).tolist()
    shown = _spread([_timed(lambda v=v: release(v, side=1600)) for v in values])
    whole = _spread([_timed(lambda v=v: release(v)) for v in values[:3]])
    return {"to_look_at": shown, "download": whole}


def _crowd(
    client: httpx.Client, data: bytes, attribute: str, count: int, seconds: float, pid: int
) -> dict[str, Any]:
    names = [_send(client, data)["id"] for _ in range(count)]
    end = time.perf_counter() + seconds

    def move(seed: int) -> tuple[list[float], int]:
        """Seconds of each answer, and how many requests others superseded."""
        random, times, superseded = np.random.default_rng(seed), [], 0
        with httpx.Client(base_url=client.base_url, timeout=300) as own:
            while (begin := time.perf_counter()) < end:
                value = round(random.uniform(-1, 2), 3)
                response = _preview(own, names[seed], attribute, value)
                if response.status_code == 409:
                    superseded += 1
                    continue
                response.raise_for_status()
                times.append(time.perf_counter() - begin)
        return times, superseded

    with ThreadPoolExecutor(count) as pool:
        found = list(pool.map(move, range(count)))
    times = [seconds for some, _ in found for seconds in some]
    return {
        "clients": count,
        "answers_per_second": round(len(times) / seconds),
        "superseded": sum(superseded for _, superseded in found),
        "latency_ms": _spread(times),
        "peak_memory_mb": _peak_memory(pid),
    }


def _parts(data: bytes, model: str, attribute: str) -> dict[str, float]:
    """What a move takes without a server: the rest of a request is transport."""
    photo = OpenPhoto(Editor(model, "cpu"), data, "photo.jpg")
    values = {attribute: 1.5}
    photo.preview(1, values)
    after = photo.values(1, values)
    stage = photo._stage(1, 512)
    face = stage.placed(photo.faces[0].face)
    decoded = photo._decoded(1, after)
    image = photo.preview(1, values)
    work: dict[str, Callable[[], Any]] = {
        "decode": lambda: photo._decoded(1, after),
        "compose": lambda: composite_into(stage.pixels.copy(), face, decoded),
        "encode": lambda: image.save(io.BytesIO(), "JPEG", quality=88),
    }
    return {
        part: round(1000 * float(np.median([_timed(do) for _ in range(30)])), 1)
        for part, do in work.items()
    }


def _timed(work: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _spread(times: list[float]) -> dict[str, float]:
    ends = np.percentile(1000 * np.array(times), [50, 95, 100]).round(1).tolist()
    return dict(zip(("median", "p95", "most"), ends, strict=True))


def _peak_memory(pid: int) -> float | None:
    with suppress(OSError):
        status = Path(f"/proc/{pid}/status").read_text()
        return round(int(status.partition("VmHWM:")[2].split()[0]) / 1024)
    return None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    main()
