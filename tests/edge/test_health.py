from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.frames.capture import CapturePhase
from edge.health import (
    FRUITLESS_AFTER_S,
    STUCK_AFTER_S,
    CameraHealth,
    CameraState,
    LoopHealth,
    health,
    loop_troubles,
)

S = 1_000_000_000
NOW = 1_000 * S

moments = st.integers(0, NOW)
cameras = st.lists(
    st.builds(
        CameraHealth,
        name=st.sampled_from(["front", "rear"]),
        phase=st.sampled_from(CapturePhase),
        last_arrival_ns=st.none() | moments,
        stale_after_ns=st.integers(1, 100 * S),
    ),
    max_size=4,
)
loops = st.builds(
    LoopHealth,
    is_running=st.booleans(),
    stepped_ns=moments,
    fruitless_since_ns=st.none() | moments,
    taken_ns=st.none() | moments,
    down_since_ns=st.none() | moments,
)


def well(**changes: object) -> LoopHealth:
    return LoopHealth(**{"is_running": True, "stepped_ns": NOW - S // 2, **changes})


def front(phase: CapturePhase = CapturePhase.RUNNING, ago_s: float | None = 0.1) -> CameraHealth:
    arrival = None if ago_s is None else NOW - round(ago_s * S)
    return CameraHealth("front", phase, arrival, S)


@given(cameras, loops)
def test_it_is_well_exactly_where_all_that_it_needs_is(
    all_cameras: list[CameraHealth], loop: LoopHealth
) -> None:
    good = {CameraState.FRESH, CameraState.BACK_OFF, CameraState.ENDED}
    expected = (
        loop.is_running
        and NOW - loop.stepped_ns <= STUCK_AFTER_S * S
        and loop.down_since_ns is None
        and not (
            loop.fruitless_since_ns is not None
            and loop.taken_ns is not None
            and NOW - loop.fruitless_since_ns > FRUITLESS_AFTER_S * S
            and NOW - loop.taken_ns <= FRUITLESS_AFTER_S * S
        )
        and all(camera.state(NOW) in good for camera in all_cameras)
    )
    assert (health(all_cameras, loop, NOW) == ()) == expected


@given(cameras, loops)
def test_a_loop_that_is_not_alive_is_never_well(all_cameras: list[CameraHealth], loop: LoopHealth) -> None:
    assert set(loop_troubles(loop, NOW)) <= set(health(all_cameras, loop, NOW))


@given(cameras, loops, st.data())
def test_one_camera_more_takes_no_trouble_away(
    all_cameras: list[CameraHealth], loop: LoopHealth, data: st.DataObject
) -> None:
    fewer = all_cameras[: data.draw(st.integers(0, len(all_cameras)))]
    assert set(health(fewer, loop, NOW)) <= set(health(all_cameras, loop, NOW))


def test_cameras_in_counted_back_off_and_recordings_that_ended_are_well() -> None:
    assert health([front(CapturePhase.BACK_OFF, 90), front(CapturePhase.ENDED, 90)], well(), NOW) == ()
    assert health([front(CapturePhase.BACK_OFF, None)], well(), NOW) == ()
    assert health([front()], well(), NOW) == ()


def test_back_off_is_no_excuse_for_a_try_that_hangs() -> None:
    trying = CameraHealth("front", CapturePhase.BACK_OFF, None, S, back_off_until_ns=NOW)
    assert health([trying], well(), NOW) == ()
    assert health([trying], well(), NOW + 3 * S) == (
        "camera front hangs while it is opened: 3.0 s over its time",
    )


def test_each_trouble_is_told_in_words() -> None:
    assert health([front(ago_s=2.5)], well(), NOW) == (
        "camera front has given no frame for 2.5 s, more than 1 s",
    )
    assert health([front(ago_s=None)], well(), NOW) == ("camera front has not given its first frame yet",)
    assert health([], well(is_running=False), NOW) == ("the frame loop does not run",)
    assert health([], well(stepped_ns=NOW - 11 * S), NOW) == (
        "the frame loop has not come round for 11.0 s: inference hangs",
    )
    assert health([], well(fruitless_since_ns=NOW - 12 * S, taken_ns=NOW), NOW) == (
        "inference has answered none of the frames of the last 12.0 s",
    )
    assert health([], well(down_since_ns=NOW - 3 * S), NOW) == ("inference has been down for 3.0 s",)


def test_one_frame_that_came_to_nothing_is_no_trouble_yet() -> None:
    assert health([front()], well(fruitless_since_ns=NOW - S, taken_ns=NOW), NOW) == ()


def test_a_recording_whose_last_frame_came_to_nothing_is_no_trouble() -> None:
    loop = well(fruitless_since_ns=NOW - 60 * S, taken_ns=NOW - 59 * S)
    assert health([front(CapturePhase.ENDED, 59)], loop, NOW) == ()


def test_inference_that_is_down_leaves_the_loop_alive() -> None:
    assert loop_troubles(well(down_since_ns=NOW - 20 * S), NOW) == ()
