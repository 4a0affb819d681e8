"""`edge update status`: what a daemon says of itself, and what its disk says without one."""

from __future__ import annotations

from pathlib import Path

from edge.updates.overview import overview_text, read_overview, said_by_daemon
from protos.traffic_vision.v1 import common_pb2, fleet_pb2
from tests.update_garage import PROBATION, Garage
from tests.update_world import model


def test_a_daemon_tells_its_alarms_its_trials_and_what_is_assigned(start: Garage) -> None:
    status = common_pb2.VehicleStatus(
        clock_alarm="the clock is a year ahead",
        metadata_alarm="the metadata ended",
        model=common_pb2.ModelState(
            phase=common_pb2.UPDATE_PHASE_SHADOW,
            assigned_release_counter=7,
            shadow=common_pb2.ShadowReport(
                outcome=common_pb2.TRIAL_OUTCOME_UNDER_WAY, drive_s=12, needed_drive_s=600, compared_frames=40
            ),
        ),
    )
    overview = said_by_daemon(read_overview(start.config), status, "unix:there")
    assert overview["alarms"] == ["the clock is a year ahead", "the metadata ended"]
    text = overview_text(overview)
    assert "trial      shadow 12 of 600 s, 40 frames compared\n             CPU" in text
    assert (
        "assigned   release 7\nALARM      the clock is a year ahead\nALARM      the metadata ended\n" in text
    )
    status.model.assigned_release_counter = 0
    assert "assigned   to keep what it has" in overview_text(
        said_by_daemon(read_overview(start.config), status, "unix:there")
    )


def test_the_disk_tells_what_a_probation_has_driven_and_what_is_assigned(start: Garage) -> None:
    facts = start.release(model("1"))
    vehicle = start(start=False)
    vehicle.updates.assign(fleet_pb2.Assignment(release_counter=facts.release_counter))
    vehicle.updates.start()
    vehicle.until(PROBATION)
    vehicle.stop()
    overview = read_overview(start.config)
    assert overview["assigned_release"] == facts.release_counter
    assert "trial      probation, 0 s and 0 frames in earlier runs; 0 starts" in overview_text(overview)


def test_a_damaged_assignment_is_none(start: Garage) -> None:
    start().stop()
    path: Path = start.config.state_folder / "slots" / "assignment.json"
    path.write_text("nonsense")
    assert read_overview(start.config)["assigned_release"] is None
