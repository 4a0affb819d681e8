"""A shadow adds up over starts of the daemon: what is kept of it, and what goes on from there."""

from __future__ import annotations

import errno
import json
import logging
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.machine.disk_budget import DiskBudget
from edge.perception.agreement import Agreement
from edge.perception.model_change import ChangeOutcome
from edge.updates.inbox import ROLLBACK, Inbox
from edge.updates.overview import overview_text, read_overview
from edge.updates.roll_back import LAST_GOOD
from edge.updates.shadow_progress import FILE, Progress, ShadowProgress, from_bytes, to_bytes
from edge.updates.shadow_rules import ShadowTally, failure, shadow_terms
from edge.updates.state_file import CHECKSUM, checksum
from protos.release_promise import Promise, ShadowFacts
from protos.traffic_vision.v1 import common_pb2
from tests.update_garage import CONFIRMED, PROBATION, Garage, Vehicle
from tests.update_world import model
from tests.waiting import eventually

SHADOW = common_pb2.UPDATE_PHASE_SHADOW
ASKED = ShadowFacts(drive_s=20, every_frames=2, cpu_percent=100, least_agreement_percent=80)

counts = st.integers(0, 2**40)


@given(
    st.dictionaries(st.text(max_size=8), st.tuples(counts, counts, st.floats(-1e6, 1e6)), max_size=4),
    st.floats(0, 1e9),
    counts,
)
def test_what_is_written_is_read(classes: dict[str, tuple[int, int, float]], drive_s: float, n: int) -> None:
    found = {name: Agreement(a, b, min(a, b), score) for name, (a, b, score) in classes.items()}
    tally = ShadowTally(n, 2, 3, 4, found, last_error="an error", drifted="count")
    assert from_bytes(to_bytes(Progress("new", "old", drive_s, tally))) == Progress(
        "new", "old", drive_s, tally
    )


@pytest.mark.parametrize("where", range(0, 300, 7))
def test_a_flipped_bit_begins_anew(tmp_path: Path, where: int, caplog: pytest.LogCaptureFixture) -> None:
    tally = ShadowTally(40, classes={"car": Agreement(100, 90, 80)})
    data = bytearray(to_bytes(Progress("new", "old", 30.0, tally)))
    data[where % len(data)] ^= 1
    (tmp_path / FILE).write_bytes(data)
    assert a_file(tmp_path).read("new", "old") == Progress("new", "old")
    assert "begins anew" in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"compared": -1},
        {"errors": True},
        {"drive_s": -1.0},
        {"classes": {"car": [1, 1, 2, 0.0]}},
        {"classes": {"car": [1, 1]}},
        {"classes": {str(number): [0, 0, 0, 0.0] for number in range(201)}},
        {"classes": []},
    ],
)
def test_nonsense_with_a_good_checksum_begins_anew(tmp_path: Path, change: dict[str, object]) -> None:
    document = {**json.loads(to_bytes(Progress("new", "old", 30.0, ShadowTally(40)))), **change}
    del document[CHECKSUM]
    (tmp_path / FILE).write_text(json.dumps({**document, CHECKSUM: checksum(document)}))
    assert a_file(tmp_path).read("new", "old") == Progress("new", "old")


def test_only_the_same_two_models_go_on(tmp_path: Path) -> None:
    file, found = a_file(tmp_path), Progress("new", "old", 30.0, ShadowTally(40))
    file.write(found)
    assert file.read("new", "old") == found
    assert file.read("newer", "old") == Progress("newer", "old")
    assert file.read("new", "older") == Progress("new", "older")
    file.forget()
    file.forget()
    assert file.read("new", "old") == Progress("new", "old")


def test_a_full_disk_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("edge.updates.shadow_progress.atomic_write", full)  # no disk is full at a wish
    a_file(tmp_path).write(Progress("new", "old"))
    assert "No space left" in caplog.text


def test_its_own_drift_at_the_end_of_an_earlier_run_fails_it() -> None:
    terms = shadow_terms(ShadowFacts(60), Promise(no_drift_alarm=True), most_seconds=3600, most_cpu_share=1.0)
    tally = ShadowTally(40, drifted="camera front: what it finds has left its own reference")
    assert failure(terms, tally, "new", ()) == tally.drifted


@pytest.mark.services
def test_trips_shorter_than_the_shadow_add_up(start: Garage) -> None:
    start.release(model("1"), shadow=replace(ASKED, drive_s=300))
    compared = 0
    for trip in (1, 2, 3):
        vehicle = start()
        vehicle.until(SHADOW)
        drive_on(vehicle, 80.0 * trip)
        report = vehicle.status().model.shadow
        assert report.drive_s < 300 and report.compared_frames > compared
        compared = report.compared_frames
        vehicle.stop()
        assert f"trial      shadow, {report.drive_s:.0f} s and " in overview_text(read_overview(start.config))
    vehicle = start()
    vehicle.publishing = 10
    report = vehicle.until(PROBATION).shadow
    assert report.outcome == common_pb2.TRIAL_OUTCOME_PASSED and report.drive_s >= 300
    assert report.agreement[0].matched_detections == report.compared_frames
    assert not kept(start).exists(), "it is put in"


@pytest.mark.services
def test_a_power_cut_costs_a_minute_of_driving(start: Garage) -> None:
    start.release(model("1"), shadow=ShadowFacts(10**5, every_frames=50, cpu_percent=100))
    vehicle = start()
    vehicle.until(SHADOW)
    vehicle.publishing = 20
    eventually(lambda: vehicle.status() is not None and kept(start).exists(), "its progress on disk")
    at_the_cut = kept(start).read_bytes()
    assert from_bytes(at_the_cut).drive_s >= 60
    vehicle.cut()
    kept(start).write_bytes(at_the_cut)
    assert start().until(SHADOW).shadow.drive_s == from_bytes(at_the_cut).drive_s


@pytest.mark.services
def test_what_has_passed_is_put_in_at_the_next_start(start: Garage) -> None:
    start.release(model("1"), shadow=ASKED)
    vehicle = start()
    for _ in range(1000):
        vehicle.answer(ChangeOutcome.BUSY)
    vehicle.until(SHADOW)
    vehicle.publishing = 2
    eventually(lambda: vehicle.status() is not None and "passed" in vehicle.keeper.said, "the shadow's end")
    vehicle.stop()
    again = start()
    assert again.until(PROBATION).active.version == "1"


@pytest.mark.services
def test_another_active_model_begins_it_anew(start: Garage, caplog: pytest.LogCaptureFixture) -> None:
    """What it was held against is gone."""
    caplog.set_level(logging.INFO)
    start.confirmed(model("1"))
    start.confirmed(model("2"))
    start.release(model("3"), shadow=ShadowFacts(10**5, every_frames=2, cpu_percent=100))
    vehicle = start()
    vehicle.until(SHADOW)
    drive_on(vehicle, 6.0)
    inbox = Inbox(start.config.state_folder)
    assert inbox.wait(inbox.wish(LAST_GOOD, ROLLBACK), 30).is_installed

    def begun() -> list[logging.LogRecord]:
        return [one for one in caplog.records if one.__dict__.get("event") == "shadow_begun"]

    eventually(lambda: len(begun()) == 2, "it begins anew")
    assert "another model is active now" in caplog.text
    assert "0 of 86400 s" in begun()[-1].getMessage()
    assert vehicle.status().model.phase != CONFIRMED


def a_file(folder: Path) -> ShadowProgress:
    return ShadowProgress(folder, DiskBudget().lane("slots"))


def kept(start: Garage) -> Path:
    return start.config.state_folder / "slots" / FILE


def drive_on(vehicle: Vehicle, drive_s: float) -> None:
    vehicle.publishing = 1
    before = vehicle.status().model.shadow.compared_frames
    eventually(lambda: vehicle.status().model.shadow.compared_frames > before, "a comparison")
    vehicle.publishing = 10
    eventually(lambda: vehicle.status().model.shadow.drive_s >= drive_s, f"{drive_s} s")
    vehicle.publishing = 0
