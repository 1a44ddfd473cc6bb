"""The page in a real browser; skipped where there is none."""

from __future__ import annotations

import base64
import io
import shlex
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from serving import ASTRONAUT, ATTRIBUTES, couple, random_model, run, serving, wait

from fader.app.settings import Settings

selenium = pytest.importorskip("selenium", reason="needs selenium to drive a browser")
from selenium import webdriver  # noqa: E402
from selenium.common.exceptions import WebDriverException  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

_FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-background-networking "
    "--disable-component-update --disable-sync --no-first-run --window-size=1440,900"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return random_model(tmp_path_factory.mktemp("models") / "noise")


@pytest.fixture(scope="module")
def client(model):
    with serving(Settings(port=0, model=str(model), device="cpu")) as client:
        yield client


@pytest.fixture(scope="module")
def driver(tmp_path_factory) -> Iterator[Any]:
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    service = shutil.which("chromedriver")
    if not (binary and service):
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in _FLAGS.split():
        options.add_argument(flag)
    # The path of a socket in it may not be long.
    with tempfile.TemporaryDirectory(prefix="fader-chrome-", ignore_cleanup_errors=True) as profile:
        options.add_argument(f"--user-data-dir={profile}")
        options.add_argument("--use-fake-ui-for-media-stream")
        options.add_argument("--use-fake-device-for-media-stream")
        options.add_argument(f"--use-file-for-fake-video-capture={film(Path(profile))}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        try:
            driver = webdriver.Chrome(options, webdriver.ChromeService(service))
        except WebDriverException as error:
            pytest.skip(f"no browser starts here: {error.msg}")
        yield driver
        driver.quit()


def film(folder: Path) -> Path:
    """What the browser's camera sees: the astronaut, who keeps still, as YUV4MPEG2."""
    photo = Image.open(ASTRONAUT).convert("YCbCr")
    planes = [photo.getchannel(0), *(photo.getchannel(i).reduce(2) for i in (1, 2))]
    head = f"YUV4MPEG2 W{photo.width} H{photo.height} F10:1 Ip A1:1 C420jpeg\nFRAME\n"
    path = folder / "camera.y4m"
    path.write_bytes(head.encode() + b"".join(plane.tobytes() for plane in planes))
    return path


class Page:
    """The page as somebody at it sees it."""

    def __init__(self, driver: Any, address: str) -> None:
        self.driver = driver
        driver.get("about:blank")
        driver.get(address)
        wait(lambda: driver.execute_script("return document.documentElement.dataset.ready"))

    def find(self, selector: str) -> Any:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def send(self, path: Path, where: str = "#file") -> None:
        self.find(where).send_keys(str(path))

    def opened(self, path: Path) -> None:
        self.send(path)
        wait(lambda: self.all("#faders .fader"))

    def fader(self, name: str) -> Any:
        return self.find(f"#faders input[data-attribute={name}]")

    def value(self, name: str) -> float:
        return float(self.fader(name).get_attribute("value"))

    def shown(self) -> str | None:
        """The edits that the composed photo shows, as JSON."""
        return self.find("#stage").get_attribute("data-shown")

    def pixels(self, selector: str) -> np.ndarray:
        """What an image of the page holds."""
        script = """
            const image = document.querySelector(arguments[0]);
            const canvas = document.createElement("canvas");
            canvas.width = image.naturalWidth;
            canvas.height = image.naturalHeight;
            canvas.getContext("2d").drawImage(image, 0, 0);
            return canvas.toDataURL("image/png").split(",")[1];
        """
        wait(lambda: self.find(selector).get_property("complete"))
        data = base64.b64decode(self.driver.execute_script(script, selector))
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)

    def complaint(self) -> str:
        return wait(lambda: self.find("#message p").text)


@pytest.fixture
def page(driver, client) -> Page:
    driver.get_log("browser")
    yield Page(driver, str(client.base_url))
    errors = [entry for entry in driver.get_log("browser") if entry["source"] == "javascript"]
    assert not errors


@pytest.fixture
def downloads(driver, tmp_path) -> Path:
    folder = tmp_path / "downloads"
    folder.mkdir()
    setting = {"behavior": "allow", "downloadPath": str(folder)}
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", setting)
    return folder


def downloaded(folder: Path) -> bytes:
    wait(lambda: [p for p in folder.iterdir() if not p.name.endswith((".crdownload", ".tmp"))])
    (path,) = [p for p in folder.iterdir() if not p.name.startswith(".")]
    return path.read_bytes()


def test_move_undo_download_and_the_copied_command(page, downloads, tmp_path):
    page.opened(ASTRONAUT)
    assert {e.get_attribute("data-attribute") for e in page.all("#faders input")} == set(ATTRIBUTES)
    before = page.pixels("#before")
    estimate = page.value("Smiling")
    page.fader("Smiling").send_keys(Keys.END)
    assert page.value("Smiling") == 2
    wait(page.shown)
    after = page.pixels("#after")
    assert np.abs(after - before).max() > 30
    # Nothing moves while it loads: the stage has the photo's shape throughout.
    stage = page.find("#stage").size
    assert abs(stage["width"] - stage["height"]) <= 1

    page.find("#undo").click()
    wait(lambda: page.shown() == "{}")
    assert page.value("Smiling") == pytest.approx(estimate)
    assert np.abs(page.pixels("#after") - before).max() == 0
    page.find("#redo").click()
    wait(lambda: '"Smiling":2' in (page.shown() or ""))

    page.find("#download").click()
    file = downloaded(downloads)
    page.find("#copy").click()
    command = wait(lambda: page.find("#command").text)
    (tmp_path / "astronaut.jpg").write_bytes(ASTRONAUT.read_bytes())
    words = shlex.split(command)
    assert words[:3] == ["fader", "edit", "astronaut.jpg"]
    result = run(*words[1:], "--device", "cpu", folder=tmp_path)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "astronaut.edited.jpg").read_bytes() == file != ASTRONAUT.read_bytes()


def test_the_keyboard_alone(page):
    page.opened(ASTRONAUT)
    page.driver.execute_script("document.body.focus()")
    focus = page.driver.switch_to
    for _ in range(80):
        focus.active_element.send_keys(Keys.TAB)
        if focus.active_element.get_attribute("data-attribute") == "Smiling":
            break
    fader = focus.active_element
    assert fader.get_attribute("data-attribute") == "Smiling"
    label = page.find(f"label[for={fader.get_attribute('id')}]").text
    assert label == "Smiling"
    estimate = page.value("Smiling")
    fader.send_keys(Keys.ARROW_RIGHT)
    assert page.value("Smiling") == pytest.approx(estimate + 0.05, abs=0.006)
    fader.send_keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert page.value("Smiling") == pytest.approx(estimate - 0.05, abs=0.011)
    assert "estimated" in fader.get_attribute("aria-valuetext")
    fader.send_keys(Keys.DELETE)
    assert page.value("Smiling") == pytest.approx(estimate)
    fader.send_keys(Keys.HOME)
    wait(lambda: '"Smiling":-1' in (page.shown() or ""))
    fader.send_keys(Keys.CONTROL, "z")
    wait(lambda: page.shown() == "{}")
    divider = page.find("#divider")
    divider.send_keys(Keys.ARROW_RIGHT)
    assert divider.get_attribute("aria-valuenow") == "5"
    # Every button says what it is.
    for button in page.all("button"):
        name = button.get_attribute("aria-label") or button.get_attribute("textContent")
        assert name.strip()


def test_several_faces_keep_their_edits(page, tmp_path):
    path = tmp_path / "couple.png"
    path.write_bytes(couple())
    page.opened(path)
    faces = page.all("#faces button")
    assert [face.get_attribute("aria-pressed") for face in faces] == ["true", "false"]
    page.fader("Smiling").send_keys(Keys.END)
    wait(page.shown)
    page.driver.execute_script("arguments[0].click()", faces[1])
    wait(lambda: "Face 2" in page.find("#face-title").text)
    assert page.value("Smiling") != 2
    page.fader("Male").send_keys(Keys.END)
    wait(lambda: page.shown() == '{"1":{"Smiling":2},"2":{"Male":2}}')
    page.driver.execute_script("arguments[0].click()", faces[0])
    wait(lambda: page.value("Smiling") == 2)


def test_a_text_file_named_jpg(page, tmp_path):
    path = tmp_path / "notes.jpg"
    path.write_text("no photo at all")
    page.send(path)
    assert page.complaint().startswith("Notes.jpg: not an image")
    assert page.find("#drop").is_displayed()


def test_the_camera(page):
    page.find("#camera").click()
    wait(
        lambda: page.driver.execute_script(
            "return document.querySelector('#camera-dialog video').videoWidth"
        )
    )
    page.find("#shoot").click()
    wait(lambda: page.all("#faders .fader"))
    assert not page.find("#camera-dialog").is_displayed()
    still = page.driver.execute_script(
        "return document.querySelector('#camera-dialog video').srcObject.active"
    )
    assert not still  # the camera is let go of
    page.fader("Smiling").send_keys(Keys.END)
    wait(page.shown)
    assert np.abs(page.pixels("#after") - page.pixels("#before")).max() > 30


def test_a_photo_that_is_gone_is_sent_again(page, client):
    page.opened(ASTRONAUT)
    page.fader("Smiling").send_keys(Keys.END)
    wait(page.shown)
    photos = client.app.state.fader.photos
    for name in list(photos._entries):
        photos.remove(name)
    page.fader("Male").send_keys(Keys.END)
    assert "send it again" in page.complaint()
    page.find("#again").click()
    wait(lambda: page.shown() == '{"1":{"Smiling":2,"Male":2}}')


def test_two_pages_do_not_mix(page, client):
    page.opened(ASTRONAUT)
    first = page.driver.current_window_handle
    page.driver.switch_to.new_window("tab")
    try:
        other = Page(page.driver, str(client.base_url))
        other.opened(ASTRONAUT.with_name("hopper.jpg"))
        other.fader("Male").send_keys(Keys.END)
        page.driver.switch_to.window(first)
        page.fader("Smiling").send_keys(Keys.END)
        assert wait(page.shown) == '{"1":{"Smiling":2}}'
        assert page.pixels("#after").shape == (512, 512, 3)
        page.driver.switch_to.window(page.driver.window_handles[1])
        assert wait(other.shown) == '{"1":{"Male":2}}'
        assert other.pixels("#after").shape == (600, 512, 3)
    finally:
        page.driver.switch_to.window(page.driver.window_handles[1])
        page.driver.close()
        page.driver.switch_to.window(first)


def test_ten_faces_one_face_and_edit_this_face(page):
    page.find("nav a[href='#generate']").click()
    wait(lambda: page.all("#generator option"))
    page.find("#seed").send_keys("4")
    page.find("#generate").click()
    wait(lambda: len(page.all("#drawn button")) == 10)
    page.find("input[name=n][value='1']").click()
    page.find("#generate").click()
    wait(lambda: len(page.all("#drawn button")) == 1)
    page.find("#drawn button").click()
    wait(lambda: page.find("#large").is_displayed())
    page.find("#large-edit").click()
    wait(lambda: page.find("#page-edit").is_displayed() and page.find("#work").is_displayed())


def test_a_folder(page, downloads):
    page.find("nav a[href='#folder']").click()
    wait(lambda: page.all("#folder-faders input"))
    for name in ("astronaut.jpg", "hopper.jpg"):
        page.send(ASTRONAUT.with_name(name), "#folder-files")
    assert not page.find("#folder-start").is_enabled()
    page.find("#folder-faders input[data-attribute=Smiling]").send_keys(Keys.END)
    page.find("#folder-start").click()
    wait(lambda: page.find("#folder-result").is_displayed())
    page.find("#folder-result").click()
    names = zipfile.ZipFile(io.BytesIO(downloaded(downloads))).namelist()
    assert set(names) == {"astronaut.jpg", "hopper.jpg", "report.csv"}


def test_the_models(page):
    page.find("nav a[href='#models']").click()
    wait(lambda: page.all("#model-list article"))
    assert "in use" in page.find("#model-list").text
    assert page.all("#model-card table")


@pytest.mark.parametrize("width", [390, 1440])
def test_nothing_is_wider_than_the_window(page, width):
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": False}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        page.opened(ASTRONAUT)
        for part in ("edit", "folder", "generate", "models"):
            page.driver.execute_script(f"location.hash = '{part}'")
            wait(lambda part=part: page.find(f"#page-{part}").is_displayed())
            wide = page.driver.execute_script("return document.documentElement.scrollWidth")
            assert wide <= width
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
