"""The updates as a part of the daemon: a release from the nudge to its confirmation, or another end."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest

from edge.perception.model_change import ChangeOutcome
from edge.perception.model_file import parse_model_file
from edge.updates.errors import SlotError
from edge.updates.slots import MAX_PROBATION_STARTS
from protos.release_promise import Promise, Range
from protos.traffic_vision.v1 import common_pb2, fleet_pb2
from tests.update_garage import (
    BIG,
    CONFIRMED,
    FRAMES,
    PROBATION,
    REFUSED,
    REVERTED,
    STAGED,
    Garage,
    events,
)
from tests.update_world import model
from tests.waiting import eventually


def test_a_nudge_brings_a_release_up_to_its_confirmation(
    start: Garage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    vehicle = start()
    eventually(lambda: vehicle.status().HasField("metadata_expires_wall_ns"), "the first check")
    facts = start.release(BIG)
    vehicle.updates.nudge(facts.release_counter)
    state = vehicle.until(PROBATION)
    assert vehicle.running.data == BIG
    assert (state.active.sha256, state.active_slot) == (facts.model_sha256, common_pb2.SLOT_A)
    assert state.last_good.version == "factory"
    second = start.release(model("2"))
    asked = len(start.world.server.asked)
    vehicle.updates.nudge(second.release_counter)
    vehicle.until(PROBATION)
    assert vehicle.asked == [facts.model_sha256], "without frames it goes on, and it comes first"
    assert len(start.world.server.asked) == asked
    vehicle.publishing = FRAMES
    eventually(lambda: vehicle.running.digest == second.model_sha256, "what came during the probation")
    phases = [phase for phase in vehicle.phases() if phase != common_pb2.UPDATE_PHASE_IDLE]
    downloading = phases.index(common_pb2.UPDATE_PHASE_DOWNLOADING)
    assert phases[downloading - 1 : downloading + 5] == [
        common_pb2.UPDATE_PHASE_CHECKING,
        common_pb2.UPDATE_PHASE_DOWNLOADING,
        common_pb2.UPDATE_PHASE_VERIFYING,
        STAGED,
        PROBATION,
        CONFIRMED,
    ]
    eventually(lambda: len(events(caplog)) >= 5, "the log")
    assert events(caplog)[:5] == [
        "update_staged",
        "update_activated",
        "update_confirmed",
        "update_staged",
        "update_activated",
    ]
    assert vehicle.models.newest_counter == 2, "a nudge for it asks nothing"


def test_a_model_that_fails_its_check_is_bad_and_not_tried_again(
    start: Garage, caplog: pytest.LogCaptureFixture
) -> None:
    facts = start.release(model("1"))
    vehicle = start(start=False)
    vehicle.answer(ChangeOutcome.REFUSED, "golden frames failed: 1 of 1", is_final=True)
    vehicle.updates.start()
    state = vehicle.until(REFUSED)
    assert "golden frames failed" in state.detail
    assert state.candidate.sha256 == facts.model_sha256
    checks = start.world.server.asked.count("timestamp")
    vehicle.updates.nudge(0)
    eventually(lambda: start.world.server.asked.count("timestamp") > checks, "another check")
    assert vehicle.until(REFUSED).detail == state.detail, "it is still said why"
    assert vehicle.asked == [facts.model_sha256]
    assert list(vehicle.status().model.bad_sha256) == [facts.model_sha256]
    assert "update_refused" in events(caplog)


@pytest.mark.parametrize(
    ("outcome", "detail"),
    [
        (ChangeOutcome.BUSY, "another change of model is under way"),
        (ChangeOutcome.REFUSED, "no frame was finished in 30 s: inference hangs"),
    ],
)
def test_what_is_not_the_models_fault_is_tried_again(
    start: Garage, outcome: ChangeOutcome, detail: str
) -> None:
    facts = start.release(model("1"))
    vehicle = start(start=False)
    vehicle.answer(outcome, detail)
    vehicle.updates.start()
    vehicle.until(PROBATION)
    assert vehicle.asked == [facts.model_sha256] * 2
    assert not vehicle.models.slots.state.bad


def test_a_crash_during_the_probation_reverts(start: Garage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    facts = start.release(model("1"))
    vehicle = start()
    vehicle.until(PROBATION)
    factory = parse_model_file(model("factory"), "test")
    vehicle.updates.model_failed(vehicle.running, "the device is gone")
    state = vehicle.until(REVERTED)
    assert vehicle.running.digest == state.active.sha256 == factory.digest
    assert vehicle.asked == [facts.model_sha256, factory.digest]
    assert vehicle.on_probation_at == [False, True], "the old model runs before the slots say so"
    assert "the device is gone" in state.detail
    assert list(state.bad_sha256) == [facts.model_sha256]
    checks = start.world.server.asked.count("timestamp")
    vehicle.updates.nudge(0)
    eventually(lambda: start.world.server.asked.count("timestamp") > checks, "another check")
    vehicle.until(REVERTED)
    assert vehicle.asked == [facts.model_sha256, factory.digest], "it is still offered, and not taken"
    assert "update_reverted" in events(caplog)
    assert start().running.digest == factory.digest


def test_inference_errors_that_the_old_model_had_not_revert(start: Garage) -> None:
    start.release(model("1"))
    vehicle = start(start=False)
    vehicle.published, vehicle.errors = 1000, 1
    vehicle.updates.start()
    vehicle.until(PROBATION)
    eventually(
        lambda: vehicle.status().model.HasField("probation"), "it is watched: what was before is counted"
    )
    vehicle.drive(publishing=10, erring=10)
    assert "frames ended in an inference error (50%; before it, 0%)" in vehicle.until(REVERTED).detail


def test_a_fall_back_waits_for_another_change_and_takes_the_next_where_one_is_refused(start: Garage) -> None:
    first = start.confirmed(model("1")).running
    second = start.release(model("2"))
    vehicle = start()
    vehicle.until(PROBATION)
    vehicle.answer(ChangeOutcome.BUSY)
    vehicle.answer(ChangeOutcome.REFUSED, "it does not load any more", is_final=True)
    vehicle.updates.model_failed(vehicle.running, "it broke")
    vehicle.until(REVERTED)
    factory = parse_model_file(model("factory"), "test").digest
    assert vehicle.asked == [second.model_sha256, first.digest, first.digest, factory]
    state = vehicle.until(REVERTED)
    assert (state.active.sha256, state.active_slot) == (factory, common_pb2.SLOT_FACTORY)
    assert start().running.digest == first.digest, "the next start tries the last good one"


def test_a_confirmed_model_that_crashes_is_set_aside_and_not_called_bad(
    start: Garage, caplog: pytest.LogCaptureFixture
) -> None:
    vehicle = start.confirmed(model("1"))
    crashed = vehicle.running
    vehicle.updates.model_failed(crashed, "it broke")
    eventually(lambda: vehicle.running.metadata.version == "factory", "the factory's model")
    eventually(lambda: "is set aside" in vehicle.until(CONFIRMED).detail, "its reason")
    state = vehicle.until(CONFIRMED)
    assert state.active_slot == common_pb2.SLOT_FACTORY
    assert not state.bad_sha256
    vehicle.updates.model_failed(vehicle.running, "the device is gone")
    eventually(
        lambda: any(record.__dict__.get("event") == "model_stuck" for record in caplog.records), "stuck"
    )
    assert vehicle.running.metadata.version == "factory", "there is no other, and it is tried on"
    assert start().running.digest == crashed.digest
    third = start.release(model("3"))
    start.vehicles[-1].updates.nudge(third.release_counter)
    eventually(lambda: start.vehicles[-1].running.digest == third.model_sha256, "the next release")


def test_a_restart_goes_on_with_the_probation_and_counts(start: Garage) -> None:
    facts = start.release(model("1"))
    start().until(PROBATION)
    start.vehicles[-1].cut()
    vehicle = start()
    assert vehicle.running.digest == facts.model_sha256
    assert vehicle.models.slots.state.probation_starts == 1
    assert vehicle.until(PROBATION).detail == ""
    vehicle.publishing = FRAMES
    assert vehicle.until(CONFIRMED).last_good.sha256 == facts.model_sha256
    assert vehicle.asked == []


def test_a_probation_that_never_ends_reverts_at_a_start(
    start: Garage, caplog: pytest.LogCaptureFixture
) -> None:
    start.release(model("1"))
    start().until(PROBATION)
    for _ in range(3):
        vehicle = start()
        assert vehicle.running.metadata.version == "1"
        vehicle.cut()
    assert start().running.metadata.version == "factory"
    assert any(record.__dict__.get("event") == "model_fallback" for record in caplog.records)


def test_short_trips_condemn_nothing_and_add_up_to_a_probation(start: Garage) -> None:
    facts = start.release(model("1"))
    start().until(PROBATION)
    trips, each = MAX_PROBATION_STARTS + 2, FRAMES // 5
    for trip in range(trips):
        vehicle = start()
        assert vehicle.running.digest == facts.model_sha256
        assert vehicle.models.slots.state.driven_frames == trip * each
        before = vehicle.status().model.probation.frames
        assert before in (0, trip * each)
        eventually(lambda v=vehicle: v.status().model.probation.needed_frames > 0, "the probation goes on")
        done = (trip + 1) * each
        if trip < trips - 1:
            vehicle.published += each
            eventually(lambda v=vehicle, n=done: v.status().model.probation.frames == n, "its frames")
    vehicle.publishing = each
    vehicle.status()  # with records, so that it drives too
    vehicle.publishing = 0
    assert vehicle.until(CONFIRMED).last_good.sha256 == facts.model_sha256
    assert vehicle.published < FRAMES, "this trip alone was too short"
    state = vehicle.models.slots.state
    assert (state.driven_s, state.driven_frames) == (0, 0)


def test_what_was_driven_before_a_power_cut_does_not_count(start: Garage) -> None:
    start.release(model("1"))
    vehicle = start()
    vehicle.until(PROBATION)
    eventually(lambda: vehicle.status().model.probation.needed_frames > 0, "the probation")
    vehicle.published += FRAMES - 1
    eventually(lambda: vehicle.status().model.probation.frames == FRAMES - 1, "its frames")
    vehicle.cut()
    state = start().models.slots.state
    assert (state.probation_starts, state.driven_frames) == (1, 0)


def test_a_stop_during_a_download_that_hangs(start: Garage) -> None:
    facts = start.release(BIG)
    inner = start.world.server.target

    def hangs(request: fleet_pb2.FetchTargetRequest) -> Iterator[fleet_pb2.FetchTargetResponse]:
        yield next(inner(request))
        start.world.server.hung_up.wait(60)

    start.world.server.target = hangs
    vehicle = start()
    eventually(lambda: vehicle.status().model.received_bytes > 0, "the first chunk")
    state = vehicle.status().model
    assert (state.phase, state.total_bytes) == (common_pb2.UPDATE_PHASE_DOWNLOADING, len(BIG))
    assert state.candidate.sha256 == facts.model_sha256
    vehicle.updates.stop()
    assert vehicle.updates.join(30), "it waits neither for the server nor for the channel's end"
    with pytest.raises(SlotError, match="closed"):
        vehicle.models.slots.mark_bad("a" * 64, "on purpose")


def test_a_part_that_was_never_started_can_be_stopped(start: Garage) -> None:
    vehicle = start(start=False)
    vehicle.updates.stop()
    vehicle.updates.stop()
    assert vehicle.updates.join(0)


def test_what_is_staged_is_put_in_though_the_cloud_is_away(start: Garage) -> None:
    staged = start.staged(model("1"))
    staged.stop()
    start.world.stop_server()
    away = start()
    away.until(PROBATION)
    assert away.running.data == model("1")


def test_a_candidate_that_was_damaged_is_fetched_anew(start: Garage) -> None:
    vehicle = start.staged(model("1"))
    vehicle.stop()
    path = vehicle.models.slots.content("a").model_path
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    again = start()
    again.until(PROBATION)
    assert again.running.data == model("1")
    assert not again.models.slots.state.bad


SEES_WELL = Promise(latency_percent=300, detections_per_1000_frames=(("(all)", Range(500, 8000)),))


@pytest.mark.parametrize(
    ("change", "figure"),
    [
        ({"latency_ms": 100.0}, "latency_p99_ratio"),
        ({"detections": 0}, "detections_per_frame"),
        ({"detections": 50}, "detections_per_frame"),
    ],
    ids=["slow", "finds nothing", "finds too much"],
)
def test_a_model_that_breaks_its_promise_is_taken_back_with_the_figures(
    start: Garage, change: dict[str, float], figure: str
) -> None:
    promise = replace(SEES_WELL, drive_s=200)
    facts = start.release(model("1"), promise=promise)
    vehicle = start(start=False)
    vehicle.publishing = 100
    for _ in range(10):
        vehicle.status()  # what the model before does
    vehicle.publishing = 0
    vehicle.updates.start()
    vehicle.until(PROBATION)
    for name, value in change.items():
        setattr(vehicle, name, value)
    vehicle.publishing = 100
    state = vehicle.until(REVERTED)
    assert figure in state.detail and "promised" in state.detail
    assert list(state.bad_sha256) == [facts.model_sha256]
    assert vehicle.running.metadata.version == "factory"
    report = state.probation
    assert report.model.sha256 == facts.model_sha256
    assert (report.outcome, report.detail) == (common_pb2.TRIAL_OUTCOME_FAILED, state.detail)
    assert [one.name for one in report.figures if one.broken] == [figure]
    assert report.drive_s > 0 and report.needed_drive_s == 200
    eventually(lambda: vehicle.told[-1].probation.outcome == common_pb2.TRIAL_OUTCOME_FAILED, "it is told")


def test_a_promise_that_is_kept_is_confirmed_with_the_figures(start: Garage) -> None:
    facts = start.release(model("1"), promise=replace(SEES_WELL, drive_s=200, frames=800))
    vehicle = start(start=False)
    vehicle.publishing = 100
    for _ in range(10):
        vehicle.status()
    vehicle.updates.start()
    report = vehicle.until(CONFIRMED).probation
    assert (report.model.sha256, report.outcome) == (facts.model_sha256, common_pb2.TRIAL_OUTCOME_PASSED)
    assert report.drive_s >= 200 and report.frames >= 800
    assert {one.name for one in report.figures} == {"latency_p99_ratio", "detections_per_frame"}
    assert not any(one.broken for one in report.figures)


def test_a_parked_vehicle_and_a_recording_that_has_ended_confirm_nothing(start: Garage) -> None:
    start.release(model("1"), promise=Promise(drive_s=30))
    vehicle = start()
    vehicle.parked, vehicle.publishing = True, 100
    eventually(lambda: vehicle.until(PROBATION).probation.frames > 1000, "frames that do not count")
    assert vehicle.until(PROBATION).probation.drive_s == 0
    vehicle.publishing = 0
    looks = vehicle.published
    vehicle.parked = False
    assert vehicle.until(PROBATION).probation.frames <= looks
    vehicle.publishing = 100
    assert vehicle.until(CONFIRMED).probation.drive_s >= 30


def test_progress_is_told_now_and_then_and_not_with_every_look(start: Garage) -> None:
    start.release(model("1"), promise=Promise(drive_s=10**5))
    vehicle = start()
    vehicle.publishing = 10
    reports: set[float] = set()
    eventually(
        lambda: len(reports) >= 4 or bool(reports.add(vehicle.until(PROBATION).probation.drive_s)), "looks"
    )
    progress = [state for state in vehicle.told if state.probation.drive_s > 0]
    assert len(progress) <= 1
