"""The service under a real systemd: its unit as it is, in namespaces of the test's own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from edge.machine import install
from tests.daemons import write_config
from tests.waiting import eventually

pytestmark = pytest.mark.services

ROOT = Path(__file__).resolve().parents[2]
SYSTEMD = Path("/lib/systemd/systemd")
CONFIG = "/etc/traffic-vision/edge.toml"
LACKING = 77
# What a machine of the test's own cannot have: an interpreter outside /root, the units of a whole system. A
# checkout below /tmp is brought into the service's private one.
HERE = f"""[Unit]
DefaultDependencies=no
After=
StartLimitIntervalSec=600
[Service]
ProtectHome=no
Environment=PYTHONPATH={ROOT}
BindReadOnlyPaths={ROOT} {sys.prefix}
ExecStart=
ExecStart={sys.executable} -B -X faulthandler -m tools.cli edge run --config %E/traffic-vision/edge.toml
StandardError=append:{{log}}
WatchdogSec=3
RestartSec=100ms
"""
TARGET = f"[Unit]\nDefaultDependencies=no\nWants={install.UNIT}\n"


class Machine:
    """A systemd that runs the service alone."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "daemon.log"
        units = folder / "units"
        (units / f"{install.UNIT}.d").mkdir(parents=True)
        ours = Path(install.__file__).parent.parent / "systemd"
        shutil.copy(ours / install.UNIT, units)
        shutil.copy(ours / "traffic-vision.sysusers", folder / "sysusers")
        (units / f"{install.UNIT}.d" / "50-here.conf").write_text(HERE.format(log=self.log))
        (units / "here.target").write_text(TARGET)
        camera = {"url": "sim:7?seconds=0&rate=10&size=64x64"}
        config = write_config(folder / "etc", camera, address="unix:/run/traffic-vision/perception.sock")
        config.write_text(config.read_text().replace('"state"', '"/var/lib/traffic-vision"'))
        self.cgroup = f"traffic-vision-test-{os.getpid()}"
        (folder / "cgroup").write_text(self.cgroup)
        script = str(ROOT / "tests/under_systemd.sh")
        self._outer = subprocess.Popen(
            ["unshare", "--mount", script, str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        eventually(self._begun, "systemd starts")
        if self._outer.poll() is not None:
            assert self._outer.stderr is not None
            said = self._outer.stderr.read().decode()
            self._remove_cgroup()
            assert self._outer.returncode == LACKING or "unshare failed" in said, said
            pytest.skip(f"no systemd of one's own here: {said[-200:]}")

    def _begun(self) -> bool:
        """Whether it runs, or has given up; what it forks looks the same for a moment, and comes after it."""
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self._outer.pid).children(recursive=True):
                if child.cmdline()[:1] == [str(SYSTEMD)]:
                    self.pid = child.pid
                    return True
        return self._outer.poll() is not None

    def inside(self, *words: str) -> subprocess.CompletedProcess[str]:
        enter = ["nsenter", "-t", str(self.pid), "-m", "-p", "-u", "-i", "-C", *words]
        return subprocess.run(enter, capture_output=True, text=True, timeout=60, check=False)

    def show(self, name: str) -> str:
        """A property of the service."""
        return self.inside("systemctl", "show", install.UNIT, "--value", "-p", name).stdout.strip()

    def told(self, event: str) -> bool:
        return f'"event": "{event}"' in self.log.read_text()

    def close(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)  # the first process of its namespace takes the rest along
        self._outer.wait(60)
        eventually(self._remove_cgroup, "its cgroup is removed")

    def _remove_cgroup(self) -> bool:
        cgroup = f"/sys/fs/cgroup/{self.cgroup}"
        remove = f"mount -t cgroup2 cgroup2 /sys/fs/cgroup && find {cgroup} -depth -type d -delete"
        command = ["unshare", "--mount", "sh", "-c", remove]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    if os.geteuid() != 0 or not SYSTEMD.exists() or not all(map(shutil.which, ("unshare", "nsenter"))):
        pytest.skip("needs root, systemd, unshare and nsenter")
    machine = Machine(tmp_path)
    yield machine
    machine.close()


def test_systemd_starts_reloads_watches_restarts_and_stops_it(machine: Machine) -> None:
    eventually(lambda: machine.show("ActiveState") == "active", "the daemon says that it is ready")
    assert "serving at unix:/run/traffic-vision" in machine.show("StatusText")
    first = machine.show("MainPID")
    eventually(lambda: machine.show("WatchdogTimestampMonotonic") not in ("", "0"), "signs of life")

    machine.inside("sed", "-i", r"s/threads = 1/&\n[log]\nlevel = 'debug'/", CONFIG)
    reloaded = machine.inside("systemctl", "reload", install.UNIT)
    assert reloaded.returncode == 0, reloaded.stderr
    eventually(lambda: machine.told("config_reloaded"), "the configuration is read again")
    assert machine.show("MainPID") == first and machine.show("ActiveState") == "active"

    machine.inside("kill", "-STOP", first)  # it lives, and does nothing
    eventually(lambda: machine.show("NRestarts") == "1", "the watchdog ends it")
    eventually(lambda: machine.show("ActiveState") == "active", "and it is started again")
    assert "Fatal Python error: Aborted" in machine.log.read_text(), "with where it hung"
    machine.inside("kill", "-KILL", machine.show("MainPID"))
    eventually(lambda: machine.show("NRestarts") == "2", "one that is killed is started again")
    eventually(lambda: machine.show("ActiveState") == "active", "and is ready")

    stopped = machine.inside("systemctl", "stop", install.UNIT)
    assert stopped.returncode == 0, stopped.stderr
    assert (machine.show("ActiveState"), machine.show("Result")) == ("inactive", "success")
    assert machine.told("stopped") and not machine.told("hangs")
    assert machine.inside("test", "-e", "/run/traffic-vision").returncode != 0
    assert machine.inside("test", "-e", "/var/lib/traffic-vision/daemon.lock").returncode == 0


def test_a_configuration_that_is_refused_does_not_make_it_start_for_ever(machine: Machine) -> None:
    eventually(lambda: machine.show("ActiveState") == "active", "the daemon says that it is ready")
    machine.inside("sed", "-i", "s/threads/thread/", CONFIG)
    machine.inside("systemctl", "restart", "--no-block", install.UNIT)
    eventually(lambda: machine.show("ActiveState") == "failed", "it stays down", 200)
    # StartLimitBurst, of which the first start came to something.
    assert machine.log.read_text().count("did you mean 'threads'") == 10 - 1
