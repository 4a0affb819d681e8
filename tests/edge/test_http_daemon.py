"""HTTP of a running daemon, as its clients use it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.daemons import LONG_S, DaemonProcess, refused, write_config
from tests.http_fuzz import fuzz_detect, promises, seeds
from tests.models_factory import picture, rectangles_model
from tests.replays import BLUE_BOX, FRAME_HW, red_box, write_drive
from tests.waiting import Stopwatch, eventually

pytestmark = pytest.mark.services

TOKEN = "a-token-that-nobody-guesses"
FUZZ_S = 5.0  # tests/fuzz does it for longer
ENDLESS = {"url": "sim:7?seconds=0&rate=10&size=160x96"}


@contextmanager
def serving(
    folder: Path, *cameras: dict[str, Any], **http: Any
) -> Iterator[tuple[DaemonProcess, httpx.Client]]:
    keys = {"address": "127.0.0.1:0", **http}
    config = write_config(folder, *(cameras or [ENDLESS]), http=keys)
    with DaemonProcess(config) as daemon:
        port = daemon.event("http_started")["address"].rpartition(":")[2]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=LONG_S, trust_env=False) as client:
            yield daemon, client
        # libjpeg and libpng write what they find of damaged pictures past every log; Python would write more.
        assert not [line for line in daemon.errors if "Traceback" in line or line.startswith("  File")]
        assert [
            line for line in daemon.log if line["level"] == "error" and line.get("event") != "model_refused"
        ] == []


def answered(answer: httpx.Response) -> tuple[int, Any]:
    return answer.status_code, answer.json()


def figure(client: httpx.Client, name: str, **labels: str) -> float:
    families = text_string_to_metric_families(client.get("/metrics").text)
    (value,) = [
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == f"traffic_vision_{name}" and labels.items() <= sample.labels.items()
    ]
    return value


def test_health_readiness_and_figures(tmp_path: Path) -> None:
    with serving(tmp_path) as (daemon, client):
        ready = (200, {"ready": True, "troubles": []})
        eventually(lambda: answered(client.get("/readyz")) == ready, "the daemon is ready")
        assert client.get("/healthz").text == "ok"

        def published() -> float:
            return figure(client, "frames_total", camera="camera0", outcome="published")

        eventually(lambda: published() >= 1, "a frame is published")
        frames = published()
        eventually(
            lambda: figure(client, "stage_seconds_count", stage="inference") >= frames,
            "those who look at a frame once it is published have seen it",
        )
        assert figure(client, "inference_up") == 1 and figure(client, "resident_bytes") > 10_000_000
        assert client.get("/nothing/here").status_code == 404
        assert figure(client, "http_requests_total", route="other", code="404") == 1
        assert client.get("/docs").status_code == 404
        assert "/detect" in client.get("/openapi.json").json()["paths"]
        for answer in (client.get("/"), client.get("/metrics"), client.get("/nothing")):
            assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert daemon.terminate() == 0


def test_a_camera_without_frames_is_not_ready_and_says_so(tmp_path: Path) -> None:
    write_drive(tmp_path / "drive", frames=2)
    slow = {"url": "drive", "still_rate_hz": 0.02, "stale_after_ms": 300}
    with serving(tmp_path, slow) as (_, client):
        eventually(lambda: "has given no frame for" in client.get("/readyz").text, "the camera is stale")
        answer = client.get("/readyz")
        assert answer.status_code == 503 and not answer.json()["ready"]
        assert answer.json()["troubles"][0].startswith("camera camera0 has given no frame for")
        assert client.get("/healthz").status_code == 200


def test_a_picture_gives_the_detections_that_are_on_it(tmp_path: Path) -> None:
    image = picture(FRAME_HW, red_box(3), BLUE_BOX)
    with serving(tmp_path) as (daemon, client):
        for suffix in (".png", ".bmp"):
            answer = client.post("/detect", content=cv2.imencode(suffix, image)[1].tobytes())
            found = answer.json()
            assert answer.status_code == 200, found
            assert (found["width_px"], found["height_px"]) == (160, 96)
            assert {one["class_name"] for one in found["detections"]} == {"red", "blue"}
            (red,) = [one for one in found["detections"] if one["class_name"] == "red"]
            assert all(abs(a - b) <= 2 for a, b in zip(red["box_px"], red_box(3)[:4], strict=True))
            assert found["model"]["sha256"] == daemon.event("started")["model"]
            assert set(found["times_ms"]) == {"decode", "preprocess", "inference", "postprocess"}
        png = cv2.imencode(".png", image)[1].tobytes()
        assert client.post("/detect?min_score=1", content=png).json()["detections"] == []
        assert client.post("/detect?min_score=2", content=png).status_code == 422


def test_what_is_no_picture_is_refused_with_a_reason(tmp_path: Path) -> None:
    with serving(tmp_path, max_picture_bytes=10_000) as (_, client):
        for body, code, reason in (
            (b"", 415, "no picture"),
            (b"hello", 415, "no picture"),
            (seeds()[".jpg"][:300], 422, "does not decode"),
            (bytes(10_001), 413, "10000 bytes"),
            *((body, 413, "taken at most") for body in promises().values()),
        ):
            answer = client.post("/detect", content=body)
            assert answer.status_code == code and reason in answer.json()["detail"], answer.text
        chunks = (bytes(1000) for _ in range(100))  # no length ahead
        assert client.post("/detect", content=chunks).status_code == 413


def test_hostile_pictures_cost_themselves_alone(tmp_path: Path) -> None:
    with serving(tmp_path) as (daemon, client):
        codes = fuzz_detect(client, FUZZ_S, seed=7)
        assert codes[200] and codes[415] and codes[422], codes
        assert client.get("/healthz").status_code == 200
        assert figure(client, "inference_restarts_total") == 0
        assert (
            figure(client, "disk_limit_bytes") == daemon.client.status().status.disk.limit_bytes_per_day > 0
        )
        assert figure(client, "camera_losses_total", camera="camera0") == 0
        assert figure(client, "parked", camera="camera0") in (0, 1)
        assert daemon.terminate() == 0


def test_whoever_keeps_asking_leaves_the_cameras_their_rate(tmp_path: Path) -> None:
    # At a rate that a busy machine renders too: what is tried is who goes first.
    with serving(tmp_path, {"url": "sim:7?seconds=0&rate=4&size=160x96"}) as (daemon, client):
        png, stopping = seeds()[".png"], threading.Event()
        codes: set[int] = set()
        again: set[str | None] = set()

        def ask() -> None:
            with httpx.Client(base_url=client.base_url, timeout=LONG_S, trust_env=False) as own:
                while not stopping.is_set():
                    answer = own.post("/detect", content=png)
                    codes.add(answer.status_code)
                    if answer.status_code == 503:
                        again.add(answer.headers.get("retry-after"))

        askers = [threading.Thread(target=ask) for _ in range(5)]
        for asker in askers:
            asker.start()
        before = daemon.cameras()["camera0"]
        eventually(
            lambda: daemon.cameras()["camera0"].captured_frames >= before.captured_frames + 30, "frames go on"
        )
        after = daemon.cameras()["camera0"]
        stopping.set()
        for asker in askers:
            asker.join(LONG_S)
        ways = {
            count.outcome: count.frames - other.frames
            for count, other in zip(after.outcomes, before.outcomes, strict=True)
        }
        assert ways[1] >= 0.8 * sum(ways.values()), ways  # published
        assert codes == {200, 503} and again == {"1"}


def test_a_reload_swaps_between_two_frames(tmp_path: Path) -> None:
    with serving(tmp_path) as (daemon, client):
        answer = client.post("/reload")
        assert (answer.status_code, answer.json()["outcome"]) == (200, "already_active")
        new = rectangles_model(version="2")
        (tmp_path / "factory.onnx").write_bytes(new)
        wrong = client.post("/reload", json={"slot": "factory", "expected_sha256": "0" * 64})
        assert (wrong.status_code, wrong.json()["outcome"]) == (422, "refused")
        answer = client.post("/reload", json={"slot": "factory"})
        assert (answer.status_code, answer.json()["outcome"]) == (200, "swapped"), answer.text
        assert answer.json()["active"]["version"] == "2"
        assert client.post("/reload", json={"slot": "b"}).status_code == 404
        for body, code in (
            (b"{", 422),
            (b"[]", 422),
            (b'{"slot": "c"}', 422),
            (b'{"path": "/etc/passwd"}', 422),
            (b'{"expected_sha256": "ABC"}', 422),
        ):
            answer = client.post("/reload", content=body, headers={"content-type": "application/json"})
            assert answer.status_code == code, answer.text
        assert client.post("/reload", content=b"{}").status_code == 415
        assert figure(client, "model_info", version="2") == 1
        daemon.event("model_swapped")


def test_loopback_is_guarded_against_browsers_that_are_led_here(tmp_path: Path) -> None:
    with serving(tmp_path) as (_, client):
        assert client.get("/metrics", headers={"host": "evil.example"}).status_code == 421
        assert client.post("/reload", headers={"origin": "http://evil.example"}).status_code == 403
        assert client.post("/detect", headers={"origin": "null"}).status_code == 403
        own = str(client.base_url).rstrip("/")
        assert client.post("/reload", headers={"origin": own}).status_code == 200


def test_with_a_token_nothing_opens_without_it(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o600)
    with serving(tmp_path, address="0.0.0.0:0", token_file="token") as (daemon, client):
        eventually(lambda: client.get("/healthz").text == "ok", "the daemon lives")
        for path in ("/metrics", "/readyz", "/overview", "/live/camera0", "/openapi.json"):
            answer = client.get(path)
            assert answer.status_code == 401 and "Bearer" in answer.headers["www-authenticate"]
        assert client.post("/reload").status_code == 401
        bearer = {"authorization": f"Bearer {TOKEN}"}
        assert client.get("/metrics", headers=bearer).status_code == 200
        assert client.get("/metrics", headers={"authorization": f"Bearer {TOKEN}x"}).status_code == 401

        assert client.get("/").headers["location"] == "/login"
        assert client.post("/login", data={"token": "a guess of it"}).status_code == 401
        entered = client.post("/login", data={"token": TOKEN})
        assert entered.status_code == 303
        cookie = entered.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=strict" in cookie and TOKEN not in cookie
        assert "Live picture" in client.get("/").text and client.get("/overview").status_code == 200
        assert TOKEN not in str(daemon.log)


def test_without_the_live_page_there_is_none(tmp_path: Path) -> None:
    with serving(tmp_path, live_page=False) as (_, client):
        for path in ("/", "/overview", "/live/camera0", "/page/live.js", "/login"):
            assert client.get(path).status_code == 404
        assert client.get("/healthz").status_code == 200


def test_an_address_that_is_taken_is_an_error_at_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        line = refused(write_config(tmp_path, ENDLESS, http={"address": address}))
    assert line == f"cannot serve http at {address}: another process listens there"
    (tmp_path / "token").write_text("short")
    line = refused(write_config(tmp_path, ENDLESS, http={"address": "127.0.0.1:0", "token_file": "token"}))
    assert "holds no token" in line and "short" not in line


def test_it_stops_in_time_with_requests_under_way(tmp_path: Path) -> None:
    """Someone watches, someone never ends a body, someone sends nothing at all."""
    with serving(tmp_path) as (daemon, client):
        url, watching = client.base_url, threading.Event()

        def watch() -> None:
            with httpx.Client(base_url=url, timeout=LONG_S, trust_env=False) as own:
                try:
                    while own.get("/live/camera0").status_code in (200, 204):
                        watching.set()
                except httpx.HTTPError:
                    pass

        watcher = threading.Thread(target=watch)
        watcher.start()
        assert watching.wait(LONG_S)
        with (
            socket.create_connection((url.host, url.port)) as slow,
            socket.create_connection((url.host, url.port)),
        ):
            head = f"POST /detect HTTP/1.1\r\nHost: {url.host}:{url.port}\r\nContent-Length: 1000\r\n\r\n"
            slow.sendall(head.encode() + b"abc")
            took = Stopwatch()
            assert daemon.terminate() == 0
            assert took() < 3.0  # what the daemon promises
        watcher.join(LONG_S)
        assert not [line for line in daemon.log if line.get("event") == "hangs"]
