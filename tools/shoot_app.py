"""Pictures of the page of ``fader app``, for the documents and for looking at.

    python tools/shoot_app.py examples/astronaut.jpg --model runs/faces --set Eyeglasses=2 -o shots/

Starts the server and a headless Chromium (with chromedriver), edits the photo, and writes a PNG of
every part of the page at 1440 and 390 pixels, light and dark.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

_FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-background-networking "
    "--disable-component-update --disable-sync --no-first-run --hide-scrollbars"
)
_SIZES = ((1440, 900), (390, 844))

# Moves a fader as a hand does.
_MOVE = """
const fader = document.querySelector(`#faders input[data-attribute=${arguments[0]}]`);
fader.value = arguments[1];
fader.dispatchEvent(new Event("input"));
fader.dispatchEvent(new Event("change"));
"""


@click.command()
@click.argument("photo", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--model", default="default", show_default=True, help="As for fader app.")
@click.option("--set", "edit", default="Smiling=0", show_default=True, metavar="NAME=V")
@click.option("--divider", default=9, show_default=True, help="Where it stands, in twentieths.")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, metavar="FOLDER")
def main(photo: Path, model: str, edit: str, divider: int, out: Path) -> None:
    """Write pictures of the page with PHOTO, which shows a face."""
    out.mkdir(parents=True, exist_ok=True)
    name, _, value = edit.partition("=")
    with _server(model) as address, _browser() as driver:
        from selenium.webdriver.common.by import By
        from selenium.webdriver.common.keys import Keys

        driver.get(address)
        _until(lambda: driver.execute_script("return document.documentElement.dataset.ready"))
        _size(driver, *_SIZES[0], dark=False)
        driver.save_screenshot(str(out / "empty.png"))
        driver.find_element(By.ID, "file").send_keys(str(photo.resolve()))
        _until(lambda: driver.find_elements(By.CSS_SELECTOR, "#faders input"))
        driver.execute_script(_MOVE, name, value)
        stage = driver.find_element(By.ID, "stage")
        _until(lambda: stage.get_attribute("data-shown"))
        for _ in range(divider):
            driver.find_element(By.ID, "divider").send_keys(Keys.ARROW_RIGHT)
        driver.execute_script("document.activeElement.blur()")
        for width, height in _SIZES:
            for dark in (False, True):
                _size(driver, width, height, dark)
                for part in ("edit", "folder", "generate", "models"):
                    driver.execute_script(f"location.hash = '{part}'")
                    time.sleep(1)
                    if part == "generate":
                        driver.find_element(By.ID, "generate").click()
                        time.sleep(2)
                    driver.execute_script("scrollTo(0, 0)")
                    shade = "dark" if dark else "light"
                    driver.save_screenshot(str(out / f"{part}-{width}-{shade}.png"))


@contextmanager
def _server(model: str) -> Iterator[str]:
    command = [sys.executable, "-m", "fader", "app", "--no-browser", "--port", "0"]
    process = subprocess.Popen([*command, "--model", model], stderr=subprocess.PIPE, text=True)
    try:
        line = process.stderr.readline()
        if not line.startswith("Fader is at"):
            raise click.ClickException(line + process.stderr.read())
        yield line.split()[3]
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def _browser() -> Iterator[Any]:
    from selenium import webdriver

    binary, service = shutil.which("chromium"), shutil.which("chromedriver")
    if not (binary and service):
        raise click.ClickException("needs chromium and chromedriver (Debian: chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (*_FLAGS.split(), f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options, webdriver.ChromeService(service))
        try:
            yield driver
        finally:
            driver.quit()


def _size(driver: Any, width: int, height: int, dark: bool) -> None:
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    shade = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [shade]})
    time.sleep(0.5)


def _until(condition: Any) -> None:
    end = time.monotonic() + 120
    while not condition():
        if time.monotonic() > end:
            raise click.ClickException("the page does not come to where it should")
        time.sleep(0.1)


if __name__ == "__main__":
    main()
