"""The demonstration's cloud: its folder, its server, its pipeline, each as people start them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from cloud.config import CloudConfig, load_config
from cloud.datasets.files import write_file
from tools.demo.errors import DemoError
from tools.demo.events import hear_pipeline
from tools.demo.plan import CAMERA, VEHICLE, Scene
from tools.demo.processes import Child, Children
from tools.demo.settings import toml
from tools.demo.story import Story
from tools.demo.tasks import Task

BASELINE_TASK = "baseline into the cloud"

_COMMAND_S = 120.0
_SERVE_S = 60.0


class Companion:
    """One cloud on loopback."""

    def __init__(self, folder: Path, scene: Scene, children: Children, story: Story) -> None:
        """Not made yet.

        Args:
            folder: for everything of the cloud's.
            scene: says how it retrains.
            children: start its processes.
            story: hears of them.
        """
        self.folder = folder
        self._scene = scene
        self._children = children
        self._story = story
        self._address = self._enrol_address = ""
        self._running: list[Child] = []

    @property
    def config_file(self) -> Path:
        """Its cloud.toml."""
        return self.folder / "cloud.toml"

    @property
    def address(self) -> str:
        """HOST:PORT of its server."""
        return self._address

    def config(self) -> CloudConfig:
        """Its configuration, read."""
        return load_config(self.config_file)

    def start(self) -> None:
        """Make the cloud and start its server, at a port that is free.

        Raises:
            DemoError: a command failed, or the server does not start.
        """
        sections = self._scene.cloud_sections()
        write_file(self.config_file, toml(sections))
        self._do("cloud-init", "cloud", "init", self.folder)
        server = self._children.traffic_vision(
            "cloud-server", "cloud", "serve", "--config", self.config_file, hear_output=self._hear_server
        )
        self._running.append(server)
        self._story.wait("the cloud's start", lambda: bool(self._address), _SERVE_S, self.check)
        sections["serve"] |= {"address": self._address, "enrol_address": self._enrol_address}
        write_file(self.config_file, toml(sections))

    def enrol(self, folder: Path) -> None:
        """Enrol the vehicle: the cloud gives a ticket, by which the vehicle sets up its folder.

        Raises:
            DemoError: a command failed.
        """
        ticket = self.folder / "ticket"
        self._do("cloud-enrol", "cloud", "enrol", VEHICLE, "--cloud", self.folder, "--output", ticket)
        camera = ("--camera", f"{CAMERA}={self._scene.camera['url']}")
        self._do("edge-enrol", "edge", "enrol", ticket, folder, *camera, "--model", self._scene.baseline)

    def baseline_task(self) -> Task:
        """Give the task that takes the baseline in."""
        scene = self._scene
        files = ("--model", scene.baseline, "--checkpoint", scene.checkpoint, "--data", scene.data)
        return Task(
            BASELINE_TASK,
            ("cloud", "baseline", *files, "--config", self.config_file),
            after=scene.for_baseline,
        )

    def start_pipeline(self) -> None:
        """Have it retrain whenever its rule says so."""
        self._running.append(
            self._children.traffic_vision(
                "cloud-pipeline",
                "cloud",
                "run",
                "--watch",
                "--events",
                "-",
                "--config",
                self.config_file,
                hear_output=partial(hear_pipeline, self._story),
            )
        )

    def check(self) -> None:
        """See whether its processes still run.

        Raises:
            DemoError: one has ended.
        """
        for child in self._running:
            if child.returncode() is not None:
                raise DemoError(f"the {child.name} {child.why()}")

    def _hear_server(self, line: str) -> None:
        words = line.split()
        if words[::2] == ["serving", "enrolment"]:
            with self._story.changed:
                self._address, self._enrol_address = words[1::2]
                self._story.changed.notify_all()

    def _do(self, name: str, *arguments: str | Path) -> None:
        child = self._children.traffic_vision(name, *arguments)
        self._story.wait(name, lambda: child.returncode() is not None, _COMMAND_S)
        if child.returncode():
            raise DemoError(f"{name} {child.why()}")
