"""A candidate in shadow: a real child process beside a vehicle that takes updates."""

from __future__ import annotations

import logging
import os
import signal
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from edge.drift import fit
from edge.drift.features import NAMES, ORIGINS, extract
from edge.machine.priority import LOW
from edge.perception.model_change import ChangeOutcome, ChangeResult
from edge.perception.model_file import ModelFile
from edge.reload import Reloader
from protos.release_promise import Promise, Range, ShadowFacts
from protos.traffic_vision.v1 import common_pb2, perception_pb2
from protos.trials import trial_lines
from tests.models_factory import constant_model, golden_frame, rectangles_model, with_embedding
from tests.processes import descendants
from tests.treacherous_models import greedy_model
from tests.update_garage import CONFIRMED, PERIOD_NS, PROBATION, REFUSED, STAGED, Garage, Vehicle
from tests.update_world import model
from tests.waiting import eventually

pytestmark = pytest.mark.services

SHADOW = common_pb2.UPDATE_PHASE_SHADOW
ASKED = ShadowFacts(drive_s=20, every_frames=2, cpu_percent=100, least_agreement_percent=80)
BRIGHT = np.full((64, 96, 3), 200, np.uint8)


def in_shadow(start: Garage, data: bytes, shadow: ShadowFacts = ASKED, **terms: object) -> Vehicle:
    start.release(data, shadow=shadow, **terms)
    vehicle = start()
    vehicle.until(SHADOW)
    return vehicle


def test_a_candidate_that_agrees_is_put_in_after_its_shadow(start: Garage) -> None:
    vehicle = in_shadow(start, model("1"))
    digest = vehicle.status().model.candidate.sha256
    assert vehicle.running.metadata.version == "factory" and vehicle.asked == []
    vehicle.publishing = 2
    state = vehicle.until(PROBATION)
    report = state.shadow
    assert (report.model.sha256, report.outcome) == (digest, common_pb2.TRIAL_OUTCOME_PASSED)
    assert report.drive_s >= 20 and report.compared_frames >= 30
    everything, red = report.agreement
    assert (everything.class_name, red.class_name) == ("", "red")
    assert everything.f1_share == red.f1_share == 1.0
    assert red.matched_detections == red.active_detections == report.compared_frames
    assert not report.drift, "its file brings no reference"
    eventually(lambda: PROBATION in vehicle.phases(), "it is told")
    assert vehicle.phases().index(SHADOW) == vehicle.phases().index(PROBATION) - 1
    vehicle.publishing = 50
    assert vehicle.until(CONFIRMED).active.sha256 == digest
    # What it finds is kept, reference or none.
    assert vehicle.keeper.said == [f"begin {digest}", "passed"]
    late = len(vehicle.keeper.rows) - report.compared_frames
    assert late in (0, 1), "the one that was on its way"
    expected = extract(vehicle.image, vehicle.found, class_names=("blue", "green", "red"))
    for found_by, camera, time_ns, features in vehicle.keeper.rows:
        assert (found_by, camera) == (digest, "front") and time_ns % PERIOD_NS == 0
        np.testing.assert_allclose(features, expected, rtol=1e-3)
        assert np.isnan(features[NAMES.index("embedding_1")])


@pytest.mark.parametrize(
    ("promise", "says"),
    [(None, "agrees with the active model by F1"), (Promise(detections_percent=Range(50, 150)), "found 0")],
)
def test_a_candidate_that_sees_something_else_is_refused(
    start: Garage, promise: Promise | None, says: str
) -> None:
    golden = golden_frame()
    blind = constant_model(
        [[*_centred(row), *(row[4] * (row[5] == index) for index in range(3))] for row in golden.detections],
        class_names=("blue", "green", "red"),
        score_threshold=0.5,
        golden=(golden,),
        version="other",
    )
    if promise is not None:
        blind = model("blind")
    vehicle = in_shadow(start, blind, promise=promise)
    if promise is not None:
        vehicle.image = BRIGHT
        vehicle.found = np.repeat(vehicle.found, 5, axis=0)
    vehicle.publishing = 2
    state = vehicle.until(REFUSED)
    assert says in state.detail
    assert list(state.bad_sha256) == [state.shadow.model.sha256]
    assert state.shadow.outcome == common_pb2.TRIAL_OUTCOME_FAILED
    assert vehicle.asked == [], "it never came near the frames"
    assert vehicle.keeper.said[1:] == ["forget"], "what it finds is of no use"


def test_a_hang_refuses_it(start: Garage) -> None:
    """No graph that keeps the rules hangs by a picture's doing, but its process may stand still."""
    start.hang_s = 5.0
    vehicle = in_shadow(start, model("1"))
    vehicle.publishing = 1
    eventually(lambda: _compared(vehicle) > 0, "a comparison")
    _kill(signal.SIGSTOP)
    state = vehicle.until(REFUSED)
    assert "in shadow it hung" in state.detail and len(state.bad_sha256) == 1
    assert _children() == []


@pytest.mark.parametrize("gigabytes", [4.0, 40.0])
def test_memory_without_end_refuses_it(start: Garage, gigabytes: float) -> None:
    vehicle = in_shadow(start, greedy_model(gigabytes, version="1"))
    state = vehicle.until(REFUSED)
    assert "MB of memory" in state.detail or "Failed to allocate memory" in state.detail, state.detail
    assert len(state.bad_sha256) == 1


def test_a_crash_refuses_it_and_a_kill_from_outside_only_in_the_end(
    start: Garage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    vehicle = in_shadow(start, model("1"))
    vehicle.publishing = 1
    for attempt in range(1, 4):
        eventually(lambda: _compared(vehicle) > 0, "a comparison")
        _kill(signal.SIGKILL)
        # Until it is seen, then until another has begun.
        eventually(lambda attempt=attempt: len(_begun(caplog)) > attempt, "another try")
    assert not vehicle.status().model.bad_sha256
    eventually(lambda: _compared(vehicle) > 0, "a comparison")
    _kill(signal.SIGSEGV)
    state = vehicle.until(REFUSED)
    assert "its process died (signal 11)" in state.detail and len(state.bad_sha256) == 1


def test_it_keeps_to_its_budget_and_its_place(start: Garage) -> None:
    """5 % of a core, at a low priority; parked frames are not shown."""
    vehicle = in_shadow(start, model("1"), ShadowFacts(10**5, every_frames=1, cpu_percent=5))
    vehicle.parked, vehicle.publishing = True, 20
    eventually(lambda: bool(_children()) and vehicle.status().model.shadow.resident_bytes > 0, "the child")
    (child,) = _children()
    assert child.nice() == LOW
    assert vehicle.status().model.shadow.compared_frames == 0
    vehicle.parked = False
    eventually(lambda: vehicle.status().model.shadow.over_budget_frames > 500, "frames over budget")
    report = vehicle.status().model.shadow
    assert 0 < report.cpu_share <= 0.05 * 1.5, "one frame is always begun before it is paid for"
    assert report.most_cpu_share == pytest.approx(0.05)


def test_a_newer_release_takes_its_place_and_the_daemons_end_ends_it(start: Garage) -> None:
    vehicle = in_shadow(start, model("1"))
    newer = start.release(model("2"), shadow=ASKED)
    vehicle.updates.nudge(newer.release_counter)
    eventually(lambda: vehicle.shadow.digest == newer.model_sha256, "the newer one in shadow")
    eventually(lambda: len(_children()) == 1, "its child, and no other")
    last = start.release(model("3"))
    vehicle.updates.nudge(last.release_counter)
    vehicle.until(PROBATION)
    assert vehicle.running.digest == last.model_sha256
    assert vehicle.status().model.shadow.outcome == common_pb2.TRIAL_OUTCOME_BROKEN_OFF
    assert _children() == [] and vehicle.shadow.digest == ""
    assert "passed" not in vehicle.keeper.said and vehicle.keeper.said[-1] == "forget"


def test_what_passed_and_is_not_put_in_is_forgotten(start: Garage) -> None:
    vehicle = in_shadow(start, model("1"))
    vehicle.answer(ChangeOutcome.REFUSED, "it does not load", is_final=True)
    vehicle.publishing = 2
    state = vehicle.until(REFUSED)
    assert "it does not load" in state.detail
    assert vehicle.keeper.said[1:] == ["passed", "forget"]


def test_what_passed_and_waits_is_forgotten_when_the_daemon_stops_or_another_comes(start: Garage) -> None:
    vehicle = in_shadow(start, model("1"))
    for _ in range(1000):
        vehicle.answer(ChangeOutcome.BUSY)
    vehicle.publishing = 2
    eventually(lambda: vehicle.status() is not None and "passed" in vehicle.keeper.said, "the shadow's end")
    newer = start.release(model("2"))
    vehicle.updates.nudge(newer.release_counter)
    eventually(lambda: vehicle.keeper.said[-1] == "forget", "the older one's end")
    assert vehicle.keeper.said[1:] == ["passed", "forget"]
    again = in_shadow(start, model("3"))
    for _ in range(1000):
        again.answer(ChangeOutcome.BUSY)
    again.publishing = 2
    eventually(lambda: again.status() is not None and "passed" in again.keeper.said, "the shadow's end")
    again.stop()
    assert again.keeper.said[-1] == "forget"


def test_what_is_seen_while_the_vehicle_stands_is_compared_and_not_kept(start: Garage) -> None:
    vehicle = in_shadow(start, model("1"), replace(ASKED, drive_s=10**5))
    vehicle.moving, vehicle.publishing = False, 2
    eventually(lambda: _compared(vehicle) > 20, "comparisons")
    assert vehicle.keeper.rows == []
    vehicle.moving = True
    eventually(lambda: bool(vehicle.status()) and len(vehicle.keeper.rows) > 2, "rows")


def test_a_restart_begins_anew_and_leaves_no_process(start: Garage, tmp_path: Path) -> None:
    vehicle = in_shadow(start, model("1"))
    eventually(lambda: bool(_children()), "the child")
    vehicle.stop()
    assert _children() == []
    again = start()
    again.until(SHADOW)
    assert again.running.metadata.version == "factory"
    assert STAGED in vehicle.phases()


def _centred(row: np.ndarray) -> list[float]:
    x1, y1, x2, y2 = (float(value) for value in row[:4])
    return [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]


def _children() -> list[psutil.Process]:
    return descendants(None, lambda child: any("shadow_child" in part for part in child.cmdline()))


def _begun(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if getattr(record, "event", "") == "shadow_begun"]


def _compared(vehicle: Vehicle) -> int:
    return vehicle.status().model.shadow.compared_frames


def _kill(number: signal.Signals) -> None:
    for child in _children():
        os.kill(child.pid, number)
        eventually(lambda child=child: not child.is_running(), "its end")


@pytest.mark.parametrize("gives_embedding", [False, True])
def test_its_own_drift_is_watched_against_the_reference_in_its_file(
    start: Garage, gives_embedding: bool
) -> None:
    rng = np.random.default_rng(0)
    seen = rng.normal(50, 5, (600, len(NAMES))).astype(np.float32)
    reference = fit([seen[:300], seen[300:]], 2.0, NAMES, origins=ORIGINS, context="day")
    data = rectangles_model(version="1", drift_prior=reference.to_bytes().decode())
    if gives_embedding:
        data = with_embedding(data, np.eye(3))
    vehicle = in_shadow(start, data, replace(ASKED, drive_s=10**5))
    vehicle.publishing = 20

    def judged() -> set[str]:
        drift = vehicle.status().model.shadow.drift
        return {one.name for state in drift for one in state.features if one.window_s > 0}

    embedded = {f"embedding_{number}" for number in (1, 2, 3)}
    given = embedded if gives_embedding else set()
    eventually(lambda: given | {"brightness"} <= judged(), "a judgement")
    assert judged() & embedded == given
    (state,) = vehicle.status().model.shadow.drift
    assert (state.camera, state.reference_sha256) == ("front", reference.digest)
    assert state.model.sha256 == vehicle.status().model.candidate.sha256
    assert {feature.name for feature in state.features} - {"unknown_context"} == set(NAMES)
    assert any("its own drift" in line for line in trial_lines(vehicle.status().model))


def test_no_reload_puts_a_candidate_in_before_its_shadow_is_over(start: Garage) -> None:
    vehicle = in_shadow(start, model("1"))
    answer = reloaded(vehicle)
    assert answer.outcome == perception_pb2.RELOAD_OUTCOME_REFUSED
    assert "release 1 has to be in shadow first" in answer.detail
    assert vehicle.running.metadata.version == "factory"
    for _ in range(1000):
        vehicle.answer(ChangeOutcome.BUSY)  # what the vehicle itself would do
    vehicle.publishing = 2
    vehicle.until(STAGED)
    answer = reloaded(vehicle)
    assert answer.outcome == perception_pb2.RELOAD_OUTCOME_SWAPPED, answer.detail
    assert vehicle.until(PROBATION).active.version == "1"


def reloaded(vehicle: Vehicle) -> perception_pb2.ReloadModelResponse:
    """As a local client asks for the candidate."""

    class Changer:
        active = vehicle.running
        keep_frames = staticmethod(nullcontext)

        def change(self, model: ModelFile) -> ChangeResult:
            vehicle.running = model
            return ChangeResult(ChangeOutcome.SWAPPED, model)

    return Reloader(vehicle.models, Changer()).reload(perception_pb2.ReloadModelRequest())
