"""Vehicles that come fresh from their box to a cloud that runs: by its command line, with its tickets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from click.testing import CliRunner, Result

from cloud.config import CloudConfig, load_config
from edge.updates.hardware import hardware_ids
from protos.enrolment import ticket_of_text, ticket_to_text
from protos.traffic_vision.v1.common_pb2 import ModelState
from protos.traffic_vision.v1.enrolment_pb2 import EnrolmentTicket
from tests import clouds
from tests.daemons import DaemonProcess
from tests.models_factory import rectangles_model
from tests.waiting import eventually
from tools.cli import root

OWN_HARDWARE = hardware_ids(("cpu",))
AT_ONCE = """
[[rollout.stages]]
name = "all"
wait_s = 0
min_reports = 0
"""
DRIVE = "front=sim:7?seconds=3600&rate=10&size=96x64"
VAN = "van-1"


def run(*arguments: str | Path, given: str | None = None) -> Result:
    result = CliRunner().invoke(root, list(map(str, arguments)), input=given)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.stderr
    return result


@contextmanager
def cloud_of_tickets(folder: Path) -> Iterator[CloudConfig]:
    """A cloud that runs, gives a release to all at once, and whose tickets lead to it."""
    clouds.make_cloud(folder, extra=AT_ONCE)
    toml = folder / "cloud.toml"
    toml.write_text(toml.read_text().replace('\naddress = "127.0.0.1:1"', ""))  # where it listens, then
    with clouds.serving(folder) as server:
        text = toml.read_text().replace(
            'enrol_address = "127.0.0.1:1"', f'enrol_address = "{server.enrol_address}"'
        )
        toml.write_text(text.replace("[serve]", f'[serve]\naddress = "{server.address}"'))
        yield load_config(toml)


def ticket_for(config: CloudConfig, vehicle: str = VAN) -> EnrolmentTicket:
    return ticket_of_text(run("cloud", "enrol", vehicle, "--cloud", config.folders.pki.parent).stdout)


def enrolled(ticket: EnrolmentTicket, folder: Path) -> Path:
    """The vehicle's `edge.toml`, with a probation that is soon over and an address that is free."""
    model = folder.with_suffix(".onnx")
    model.write_bytes(rectangles_model(version="factory"))
    run(
        "edge", "enrol", "-", folder, "--camera", DRIVE, "--model", model, given=ticket_to_text(ticket) + "\n"
    )
    path = folder / "edge.toml"
    text = path.read_text().replace("[updates]\n", "[updates]\nprobation_s = 0.1\nprobation_frames = 5\n")
    path.write_text(text + '\n[serve]\naddress = "127.0.0.1:0"\n')
    return path


def until(path: Path, holds: Callable[[ModelState], bool], told: str = "") -> ModelState:
    """Drive until it holds, and what came of a look for updates was told in the log.

    The frames that come then are of the model that it says.
    """
    with DaemonProcess(path) as daemon:
        found = ModelState()

        def said() -> bool:
            nonlocal found
            found = daemon.client.status().status.model
            return holds(found) and any(told in line["message"] for line in daemon.log)

        try:
            eventually(said, told or "what it is to do")
        except AssertionError as error:
            lines = [line["message"] for line in daemon.log[-5:]]
            raise AssertionError(f"{error}; it says {found}, it logs {lines} {daemon.errors}") from None
        for message in islice(daemon.client.detections(), 3):
            assert message.detections.model.sha256 == found.active.sha256
        assert daemon.terminate() == 0
        return found
