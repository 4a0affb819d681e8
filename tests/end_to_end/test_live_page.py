"""The live page in a browser."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.daemons import LONG_S, DaemonProcess, write_config
from tests.replays import write_drive
from tests.waiting import eventually

pytestmark = pytest.mark.services

CHROMIUM = shutil.which("chromium") or ""
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
TOKEN = "a-token-that-nobody-guesses"
FRONT = {"name": "front", "url": "sim:7?seconds=0&rate=10&size=160x96"}
REAR = {"name": "rear", "url": "sim:8?seconds=0&rate=5&size=96x96"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM:
        pytest.skip("needs chromium")
    with sync_playwright() as player:
        opened = player.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1000, "height": 800})
    context.set_default_timeout(LONG_S * 1000)
    opened = context.new_page()
    opened.errors, opened.urls = [], []
    opened.on("console", lambda told: told.type == "error" and opened.errors.append(told.text))
    opened.on("pageerror", lambda error: opened.errors.append(str(error)))
    opened.on("request", lambda request: opened.urls.append(request.url))
    yield opened
    context.close()


def look(page: Page, holds: Callable[[], bool], what: str) -> None:
    """As `eventually`, letting the browser's events through."""

    def looked() -> bool:
        page.wait_for_timeout(20)
        return holds()

    eventually(looked, what)


def address_of(daemon: DaemonProcess) -> str:
    return f"127.0.0.1:{daemon.event('http_started')['address'].rpartition(':')[2]}"


def frame_number(page: Page) -> int:
    text = page.inner_text("#frame").partition("·")[0]
    return int("".join(filter(str.isdecimal, text)) or -1)


def colours(page: Page) -> int:
    """How many there are in the picture."""
    script = """() => {
        const canvas = document.getElementById("picture");
        const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        const seen = new Set();
        for (let at = 0; at < data.length; at += 4) seen.add(data.slice(at, at + 3).join());
        return seen.size;
    }"""
    return int(page.evaluate(script))


def test_boxes_appear_the_picture_changes_and_it_comes_back_after_a_restart(
    page: Page, tmp_path: Path
) -> None:
    write_drive(tmp_path / "drive", frames=600)
    front = {"name": "front", "url": "drive"}
    drive = write_config(tmp_path, front, REAR, http={"address": "127.0.0.1:0"}, drift={})
    with DaemonProcess(drive) as daemon:
        address = address_of(daemon)
        page.goto(f"http://{address}/")
        look(page, lambda: frame_number(page) >= 0, "a picture comes")
        look(page, lambda: "1 blue" in page.locator("#found li").all_inner_texts(), "detections are listed")
        look(page, lambda: colours(page) > 50, "the picture is drawn")
        first = frame_number(page)
        look(page, lambda: frame_number(page) > first + 5, "the picture changes")
        assert page.inner_text("#vehicle") == "test-1"
        look(page, lambda: page.inner_text("#ready-text") == "ready", "ready")
        look(page, lambda: page.inner_text("#connection-text") == "connected", "connected")
        look(page, lambda: page.inner_text("#verdict") != "None", "drift is judged")
        look(page, lambda: page.inner_text("#p50-inference").endswith("ms"), "stage times are shown")

        page.get_by_role("button", name="rear").click()
        look(
            page,
            lambda: (page.get_attribute("#picture", "aria-label") or "").startswith("rear"),
            "the other camera",
        )
        look(page, lambda: page.url.endswith("#rear"), "the address names it")
        assert page.errors == []
        daemon.terminate()
    look(page, lambda: "lost" in page.inner_text("#connection-text"), "the loss is told")
    page.errors.clear()  # refused connections, which the browser tells by itself

    again = write_config(tmp_path, front, REAR, http={"address": address}, drift={})
    with DaemonProcess(again):
        look(page, lambda: page.inner_text("#connection-text") == "connected", "it connects again")
        before = frame_number(page)
        look(page, lambda: frame_number(page) not in (-1, before), "pictures come again")
        assert {url.split("/")[2] for url in page.urls} == {address}
        assert [told for told in page.errors if "ERR_CONNECTION" not in told] == []


def test_a_recording_that_ends_is_told(page: Page, tmp_path: Path) -> None:
    short = {"name": "front", "url": "sim:7?seconds=1&rate=10&size=160x96"}
    with DaemonProcess(write_config(tmp_path, short, http={"address": "127.0.0.1:0"})) as daemon:
        page.goto(f"http://{address_of(daemon)}/")
        look(page, lambda: page.inner_text("#notice") == "The recording has ended", "the end is told")
        look(page, lambda: page.inner_text("#ready-text") == "ready", "an end is no trouble")
        assert page.errors == []


def test_the_login_lets_in_who_has_the_token(page: Page, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    config = write_config(tmp_path, FRONT, http={"address": "127.0.0.1:0", "token_file": "token"})
    with DaemonProcess(config) as daemon:
        address = address_of(daemon)
        page.goto(f"http://{address}/")
        assert page.url == f"http://{address}/login"
        page.fill("#token", "a guess of the token")
        page.click("button")
        assert "not the token" in page.inner_text(".wrong")
        page.fill("#token", TOKEN)
        page.click("button")
        look(page, lambda: frame_number(page) >= 0, "a picture comes")
        assert TOKEN not in page.url and page.evaluate("document.cookie") == ""
        cookies: list[Any] = page.context.cookies()
        assert [(one["httpOnly"], one["sameSite"]) for one in cookies] == [(True, "Strict")]


@pytest.mark.parametrize("width", [360, 1400])
def test_nothing_sticks_out_sideways(page: Page, tmp_path: Path, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 740})
    long_name = {**FRONT, "name": "a-camera-with-a-name-as-long-as-names-of-cameras-are-let-to-be"}
    with DaemonProcess(
        write_config(tmp_path, long_name, REAR, http={"address": "127.0.0.1:0"}, drift={})
    ) as daemon:
        page.goto(f"http://{address_of(daemon)}/")
        look(page, lambda: frame_number(page) >= 0, "a picture comes")
        look(page, lambda: page.locator("#features li").count() > 0, "drift is shown")
        look(page, lambda: page.inner_text("#device-drift").startswith("all cameras: "), "one for all")
        assert any(each["name"] in page.inner_text("#device-drift") for each in (long_name, REAR))
        assert page.evaluate("document.documentElement.scrollWidth") <= width
