"""One vehicle and its cloud for a benchmark: real processes, real certificates, releases signed as by the
pipeline.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from cloud.config import CloudConfig, load_config
from cloud.fleet.enrolment import CONFIG_FILE, CloudChoices, enrol, init_cloud
from cloud.release.keys import load_keys
from cloud.release.releasing import ReleaseTerms, complete_release, propose_release
from cloud.store import FolderObjects, Store, open_database
from cloud.store.database import audit
from cloud.store.models import Candidate
from cloud.store.releases import release_row
from edge.fleet.enrolment import STATE_FOLDER, VehicleChoices
from edge.fleet.enrolment import enrol as enrol_vehicle
from edge.fleet.identity import IDENTITY_FILE
from edge.perception.model_file import ModelFile, parse_model_file
from protos.release_facts import ReleaseFacts
from tools.bench.edge.daemon import COMMAND, STOP_TIMEOUT_S, write_config
from tools.bench.rounds import BenchError

VEHICLE = "bench"
IDLE_HZ = 1.0  # of the camera while its gate is shut
# As short as may be: a probation is no part of what is measured, and the next release waits for its end.
_PROBATION = {"probation_s": 0.001, "probation_frames": 1}


@dataclass(frozen=True, slots=True)
class Track:
    """The gated camera of a vehicle, from outside.

    Attributes:
        video: that it plays.
        rate_hz: frames per second while the gate is open.
        births: its file of births.
        gate: its gate.
    """

    video: Path
    rate_hz: float
    births: Path
    gate: Path

    def url(self, idle_hz: float = IDLE_HZ) -> str:
        """Its URL."""
        files = {"video": self.video, "births": self.births, "gate": self.gate}
        named = "&".join(f"{name}={quote(str(path.absolute()))}" for name, path in files.items())
        return f"benchcam:gated?{named}&rate={self.rate_hz:g}&idle={idle_hz:g}"

    def open(self) -> None:
        """Let frames come."""
        self.gate.unlink(missing_ok=True)

    def shut(self) -> None:
        """Let it rest."""
        self.gate.touch()

    def born_between(self, begin_ns: int, end_ns: int) -> list[int]:
        """The births from the one moment on, up to the other."""
        born = [int(line.partition(" ")[2]) for line in self.births.read_text().splitlines()]
        return [time_ns for time_ns in born if begin_ns <= time_ns < end_ns]


class Cloud:
    """A cloud in a folder, and its server as a child that does not outlive the bench."""

    def __init__(self, folder: Path, *vehicles: str) -> None:
        """Make it, start the server, wait until it serves, and enrol the vehicles.

        Args:
            folder: new.
            vehicles: their names.

        Raises:
            TrafficVisionError: it cannot be made, or does not start.
        """
        init_cloud(folder, CloudChoices(listen="127.0.0.1:0"))
        self.config: CloudConfig = load_config(folder / CONFIG_FILE)
        self._log = folder / "server.log"
        tied = [sys.executable, "-m", "tools.demo.lifeline", str(os.getpid()), *COMMAND]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*tied, "cloud", "serve", "--config", str(folder / CONFIG_FILE)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        try:
            self.address, enrol_address = self._serving()
            addresses = {"address": self.address, "enrol_address": enrol_address}
            serve = self.config.serve.model_copy(update=addresses)
            self.config = self.config.model_copy(update={"serve": serve})
            self.store: Store = open_database(self.config.store.database)
            self._identities = {name: self._enrolled(folder / "vehicles" / name) for name in vehicles}
        except BaseException:
            self._end()
            raise

    def folder_of(self, name: str) -> Path:
        """The folder of a vehicle, with its certificates and its root."""
        return self._identities[name]

    def daemon_config(
        self, name: str, track: Track, model: Path, threads: int, *, check_interval_s: float, idle_hz: float
    ) -> Path:
        """An edge.toml for one of the vehicles, beside its certificates."""
        folder = self.folder_of(name)
        identity = f"{STATE_FOLDER}/{IDENTITY_FILE}"
        files = {"ca": "ca.crt", "cert": identity, "key": identity}
        return write_config(
            folder,
            {"url": track.url(idle_hz)},
            model,
            threads,
            sampler={},
            cloud={"address": self.address, "retry_limit_s": 1.0, **files},
            updates={"root": "root.json", "check_interval_s": check_interval_s, **_PROBATION},
        )

    def release(self, data: bytes) -> ReleaseFacts:
        """Sign a model as the stage deploy does, trainer first, then the gate, and write it down.

        Raises:
            TrafficVisionError: it cannot be signed.
        """
        model = parse_model_file(data, "the bench's release")
        folders, terms = self.config.folders, self.config.release
        keys = load_keys(folders.keys)
        wanted = ReleaseTerms(terms.hardware_ids, terms.minimum_daemon_version)
        propose_release(folders.repository, data, wanted, keys.signer("trainer"))
        gate, snapshot, timestamp = (keys.signer(name) for name in ("gate", "snapshot", "timestamp"))
        facts = complete_release(folders.repository, model.digest, gate, snapshot, timestamp)
        self._write_down(model, facts)
        return facts

    def close(self) -> None:
        """End it."""
        self.store.close()
        self._end()

    def __enter__(self) -> Cloud:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Close."""
        self.close()

    def _write_down(self, model: ModelFile, facts: ReleaseFacts) -> None:
        objects = FolderObjects(self.config.store.objects)
        try:
            key = objects.put(model.data)
        finally:
            objects.close()
        about = model.metadata
        with self.store.writing() as session:
            session.add(
                Candidate(sha256=model.digest, name=about.name, version=about.version, object_key=key)
            )
            session.flush()
            session.add(release_row(facts))
            audit(session, "bench", "released", str(facts.release_counter), sha256=model.digest)

    def _enrolled(self, folder: Path) -> Path:
        enrol_vehicle(enrol(self.config, folder.name).text, folder, VehicleChoices())
        return folder

    def _serving(self) -> tuple[str, str]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.startswith("serving "):
            raise BenchError(f"the cloud's server did not start: {self._log.read_text()[-400:]}")
        _, address, _, enrol_address = line.split()
        return address, enrol_address

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_TIMEOUT_S)
        assert self._process.stdout is not None
        self._process.stdout.close()


def monotonic_of_wall_ns(wall_ns: int) -> int:
    """A file's time on the monotonic clock, as the two stand to each other now."""
    return wall_ns - time.time_ns() + time.monotonic_ns()
