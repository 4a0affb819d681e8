"""What goes wrong between a vehicle and its cloud costs what depends on it; the frames go on."""

from __future__ import annotations

import resource
import shutil
from pathlib import Path

import pytest

from tests.clouds import make_cloud, serving
from tests.daemons import DaemonProcess, write_config
from tests.waiting import eventually

VEHICLE = "test-1"
FRAMES = 200
DRIVE = {"name": "front", "url": f"sim:7?seconds={FRAMES / 10:g}&rate=10&size=128x72", "pace": "lockstep"}
OFTEN = {"baseline_spacing_s": 1, "near_duplicate_bits": 0}
ALL_PUBLISHED = {"captured": FRAMES, "published": FRAMES}


def said(daemon: DaemonProcess, text: str) -> bool:
    return any(text in line["message"] for line in daemon.log)


@pytest.mark.parametrize(
    ("foreign", "expected"),
    [
        (("client.crt", "client.key"), "it does not accept this vehicle's certificate"),
        (("ca.crt",), "not from the authority that this vehicle trusts"),
    ],
)
def test_a_certificate_of_another_authority_gets_nothing_and_costs_no_frame(
    tmp_path: Path, foreign: tuple[str, ...], expected: str
) -> None:
    ours, other = tmp_path / "ours", tmp_path / "other"
    for folder in (ours, other):
        make_cloud(folder, VEHICLE)
    own = ours / "vehicles" / VEHICLE
    for name in foreign:
        shutil.copyfile(other / "vehicles" / VEHICLE / name, own / name)
    with serving(ours) as server:
        files = {"ca": "ca.crt", "cert": "client.crt", "key": "client.key"}
        cloud = {"address": server.address, "retry_limit_s": 0.5, **files}
        with DaemonProcess(write_config(own, DRIVE, sampler=OFTEN, cloud=cloud)) as daemon:
            assert daemon.until_ended()["front"] == ALL_PUBLISHED
            eventually(lambda: said(daemon, expected), "why it is not connected")
            status = daemon.client.status().status
            assert not status.connected_to_cloud and status.spool.samples > 0
            assert daemon.terminate() == 0


def test_a_disk_that_takes_nothing_costs_the_samples_alone(tmp_path: Path) -> None:
    config = write_config(tmp_path, DRIVE, sampler=OFTEN)
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Of the child alone: it inherits the limit, and a write beyond it fails as on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, usual[1]))
    try:
        daemon = DaemonProcess(config)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    with daemon:
        assert daemon.until_ended()["front"] == ALL_PUBLISHED
        eventually(lambda: said(daemon, "an item was not written"), "what the disk does")
        assert daemon.client.status().status.spool.samples == 0
        assert daemon.terminate() == 0
    told = [line for line in daemon.log if "an item was not written" in line["message"]]
    assert len(told) == 1 and not [line for line in daemon.log if "traceback" in line]
