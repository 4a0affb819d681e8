"""What a running daemon takes over of a configuration that was read again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge.config import EdgeConfig, load_config
from edge.config.change import changed_keys, taken_over
from tests.daemons import write_config

FRONT, REAR = {"name": "front", "url": "front"}, {"name": "rear", "url": "rear"}


def configured(folder: Path, *cameras: dict[str, Any], **more: Any) -> EdgeConfig:
    return load_config(write_config(folder, *cameras, **more))


def test_a_speed_limit_goes_to_the_camera_of_its_name(tmp_path: Path) -> None:
    running = configured(tmp_path, FRONT, REAR)
    wanted = configured(tmp_path, {**REAR, "speed_limit": 2.0}, FRONT)
    taken = taken_over(running, wanted)
    assert [(camera.name, camera.speed_limit) for camera in taken.cameras] == [("front", None), ("rear", 2.0)]
    assert changed_keys(running, taken) == ["cameras[1].speed_limit"]


def test_a_limit_that_is_lifted_again_is_a_change_again(tmp_path: Path) -> None:
    free, held = configured(tmp_path, FRONT), configured(tmp_path, {**FRONT, "speed_limit": 0.5})
    slow = taken_over(free, held)
    assert changed_keys(slow, taken_over(slow, free)) == ["cameras[0].speed_limit"]


def test_all_else_waits_for_a_restart(tmp_path: Path) -> None:
    running = configured(tmp_path, FRONT)
    wanted = configured(tmp_path, FRONT, REAR, log={"level": "debug"}, spool={"limit_bytes": 7})
    taken = taken_over(running, wanted)
    assert taken.log.level == "debug" and len(taken.cameras) == 1 and taken.spool == running.spool
    assert "spool.limit_bytes" in changed_keys(taken, wanted)


def test_what_can_change_while_it_runs_is_taken_over(tmp_path: Path) -> None:
    running = configured(tmp_path, FRONT, sampler={})
    changes: dict[str, Any] = {
        "serve": {"address": "127.0.0.1:0", "queue_limit": 3},
        "disk": {"bytes_per_day": 5},
        "spool": {"bytes_per_day": 4},
        "sampler": {"bytes_per_day": 6, "drift_spacing_s": 1, "near_duplicate_bits": 0},
    }
    wanted = configured(tmp_path, {**FRONT, "rate_limit_hz": 2.0, "stale_after_ms": 9.0}, **changes)
    taken = taken_over(running, wanted)
    assert changed_keys(taken, wanted) == []
    assert len(changed_keys(running, taken)) == 8


def test_a_section_that_comes_or_goes_waits_for_a_restart(tmp_path: Path) -> None:
    without, with_it = configured(tmp_path, FRONT), configured(tmp_path, FRONT, sampler={"bytes_per_day": 6})
    for running, wanted in ((without, with_it), (with_it, without)):
        taken = taken_over(running, wanted)
        assert taken.sampler == running.sampler
        assert any(key.startswith("sampler") for key in changed_keys(taken, wanted))
