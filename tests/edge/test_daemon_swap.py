"""A model changed under load, on a real daemon: no frame lost, one digest a frame, refusals with reasons."""

from __future__ import annotations

import threading
from pathlib import Path

import psutil
import pytest

from protos.traffic_vision.v1 import common_pb2, perception_pb2
from tests.daemons import LONG_S, DaemonProcess, write_config
from tests.models_factory import constant_model, golden_frame, loaded, rectangles_model
from tests.processes import is_alive
from tests.replays import write_drive
from tests.waiting import eventually

pytestmark = pytest.mark.services

OLD = rectangles_model(version="1")
NEW = rectangles_model(version="2")
# Loads and runs, and finds something else than its own golden frames say.
WRONG = constant_model(
    [[20, 20, 10, 10, 0.9, 0, 0]], class_names=("blue", "green", "red"), golden=(golden_frame(),)
)


def put(folder: Path, data: bytes) -> None:
    (folder / "new.onnx").write_bytes(data)
    (folder / "new.onnx").rename(folder / "factory.onnx")


def test_a_swap_under_load_loses_no_frame_and_a_broken_model_changes_nothing(tmp_path: Path) -> None:
    """In lock-step nothing is superseded, so the client must see every frame that was captured, in order."""
    put(tmp_path, OLD)
    config = write_config(
        tmp_path,
        {"url": "sim:7?seconds=0&rate=10&size=64x64", "pace": "lockstep"},
        serve={"address": "127.0.0.1:0", "queue_limit": 10_000},
    )
    answers: list[perception_pb2.ReloadModelResponse] = []

    def change() -> None:
        for data in (NEW, WRONG, b"no model at all"):
            put(tmp_path, data)
            answers.append(daemon.client.reload(common_pb2.SLOT_FACTORY))

    with DaemonProcess(config) as daemon:
        seen: list[tuple[int, str]] = []
        changing = threading.Thread(target=change)
        for message in daemon.client.detections():
            assert message.dropped_messages == 0
            seen.append((message.detections.frame.sequence, message.detections.model.sha256))
            if len(seen) == 5:
                changing.start()
            # What was published before the last answer may still be on its way to here.
            if len(seen) > 5 and not changing.is_alive() and seen[-1][1] == loaded(NEW).digest:
                break
        changing.join(LONG_S)
        swap = daemon.event("model_swapped")
        status = daemon.client.status().status
        assert daemon.terminate() == 0
        frames = daemon.event("frames")["frames"]

    old, new = loaded(OLD).digest, loaded(NEW).digest
    first = seen[0][0]
    assert [sequence for sequence, _ in seen] == list(range(first, first + len(seen)))
    digests = [digest for _, digest in seen]
    switched = digests.index(new)
    assert digests == [old] * switched + [new] * (len(seen) - switched)
    assert swap["frame_before"] == ["camera0", 0, seen[switched - 1][0]]
    assert swap["frame_after"] == ["camera0", 0, seen[switched][0]]
    assert (swap["old"], swap["new"]) == (old, new)

    swapped, wrong, broken = answers
    assert swapped.outcome == perception_pb2.RELOAD_OUTCOME_SWAPPED and swapped.active.sha256 == new
    assert wrong.outcome == broken.outcome == perception_pb2.RELOAD_OUTCOME_REFUSED
    assert "golden frames failed" in wrong.detail and "not an ONNX file" in broken.detail
    assert wrong.active.sha256 == broken.active.sha256 == status.model.active.sha256 == new

    captured = frames.pop("captured")
    assert captured == frames["published"] + frames["stopped"]


def test_a_reload_names_a_slot_and_may_name_a_digest(tmp_path: Path) -> None:
    put(tmp_path, OLD)
    write_drive(tmp_path / "drive", 1)
    with DaemonProcess(write_config(tmp_path, {"url": "drive"})) as daemon:
        reload = daemon.client.reload
        assert reload().outcome == perception_pb2.RELOAD_OUTCOME_ALREADY_ACTIVE
        assert reload(common_pb2.SLOT_B).outcome == perception_pb2.RELOAD_OUTCOME_NOTHING_THERE
        put(tmp_path, NEW)
        other = reload(expected_sha256="0" * 64)
        assert other.outcome == perception_pb2.RELOAD_OUTCOME_REFUSED and loaded(NEW).digest in other.detail
        daemon.until_ended()  # no frame comes any more, and the model still changes
        right = reload(expected_sha256=loaded(NEW).digest)
        assert right.outcome == perception_pb2.RELOAD_OUTCOME_SWAPPED
        assert daemon.terminate() == 0


def test_term_during_a_check_leaves_no_child(tmp_path: Path) -> None:
    put(tmp_path, OLD)
    write_drive(tmp_path / "drive", 1)
    with DaemonProcess(write_config(tmp_path, {"url": "drive"})) as daemon:
        put(tmp_path, NEW)
        answers: list[object] = []

        def change() -> None:
            try:
                answers.append(daemon.client.reload())
            except Exception as error:  # noqa: BLE001 - cut by the end of the daemon
                answers.append(error)

        changing = threading.Thread(target=change)
        changing.start()
        of_daemon: list[psutil.Process] = []

        def checks() -> bool:
            of_daemon[:] = children(daemon.process.pid)
            return bool(of_daemon)

        eventually(lambda: checks() or bool(answers), "the check begins")
        assert daemon.terminate() == 0
        changing.join(LONG_S)
        eventually(lambda: not any(is_alive(child) for child in of_daemon), "nothing of it is left")


def children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
