"""The demonstration's vehicle: a daemon that is told how fast it may drive."""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

from edge.files import atomic_write
from tools.demo.errors import DemoError
from tools.demo.events import hear_vehicle
from tools.demo.plan import VEHICLE, Scene
from tools.demo.processes import Children
from tools.demo.settings import toml
from tools.demo.story import Story

_START_S = 60.0
_RELOAD_S = 20.0


class Vehicle:
    """One daemon, from its folder as `edge enrol` made it."""

    def __init__(self, folder: Path, scene: Scene, cloud_address: str, story: Story) -> None:
        """Write its configuration.

        Args:
            folder: with its certificates and its model.
            scene: what it drives on.
            cloud_address: HOST:PORT.
            story: hears its log.
        """
        self._folder = folder
        self._scene = scene
        self._cloud_address = cloud_address
        self._story = story
        self._configure(scene.pace.fast)

    def start(self, children: Children) -> None:
        """Start the daemon; it drives when this returns.

        Raises:
            DemoError: it does not start.
        """
        self._child = children.traffic_vision(
            "vehicle",
            "edge",
            "run",
            "--config",
            self._config,
            hear_errors=partial(hear_vehicle, self._story),
        )
        self._story.wait(
            "the vehicle's start", lambda: "started" in self._story.vehicle_log, _START_S, self.check
        )

    @property
    def address(self) -> str:
        """Of its perception service."""
        address: str = self._story.vehicle_log["started"]["address"]
        return address

    def check(self) -> None:
        """See whether it still runs.

        Raises:
            DemoError: it has ended.
        """
        if self._child.returncode() is not None:
            raise DemoError(f"the vehicle's daemon {self._child.why()}")

    def limit_speed(self, factor: float | None) -> None:
        """Let it drive no faster than so many times the drive's own time; None: as fast as inference goes.

        Raises:
            DemoError: it does not take that over.
        """
        reloads = self._reloads()
        self._configure(factor)
        self._child.tell(signal.SIGHUP)
        self._story.wait(
            "the vehicle's new speed limit", lambda: self._reloads() > reloads, _RELOAD_S, self.check
        )

    def peak_resident_mb(self) -> float:
        """The most memory that it ever held (proc(5), VmHWM); 0 where the system does not tell."""
        with suppress(OSError):
            for line in Path(f"/proc/{self._child.pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024 / 1e6
        return 0.0

    def stop(self, children: Children) -> float:
        """Have it end as a vehicle ends. Gives the seconds that it took."""
        began = time.monotonic()
        children.stop("vehicle")
        return time.monotonic() - began

    @property
    def _config(self) -> Path:
        return self._folder / "edge.toml"

    def _configure(self, speed_limit: float | None) -> None:
        top = {"vehicle": VEHICLE, "state_folder": "state"}
        text = toml(self._scene.edge_sections(self._cloud_address, speed_limit), top)
        atomic_write(self._config, text.encode())

    def _reloads(self) -> int:
        count: int = self._story.vehicle_log.get("config_reloaded", {}).get("count", 0)
        return count
