"""Puts the daemon in place as a service of systemd, and takes it away again.

First a plan, then its steps: what `--dry-run` prints is what an installation does. Under another root than
`/` (image builds) files alone are written, and the service is enabled by the link that `systemctl enable`
makes.
"""

from __future__ import annotations

import grp
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edge.errors import TrafficVisionError
from edge.files import atomic_write

UNIT = "traffic-vision-edge.service"
USER = "traffic-vision"
BOARDS = ("nvidia", "jetson", "dri")

_OURS = Path(__file__).parent.parent / "systemd"
_UNITS = "etc/systemd/system"
_WANTED = f"{_UNITS}/multi-user.target.wants/{UNIT}"
_DROP_INS = f"{_UNITS}/{UNIT}.d"
_SYSUSERS = f"etc/sysusers.d/{USER}.conf"
_CONFIG = f"etc/{USER}"
_STATE = f"var/lib/{USER}"
# What the unit's ProtectHome and PrivateTmp hide from the service.
_HIDDEN = tuple(map(Path, ("/root", "/home", "/run/user", "/tmp", "/var/tmp")))  # noqa: S108 - compared with, never written to
_RUN_S = 60.0


class InstallError(TrafficVisionError):
    """The service cannot be put in place; the message says what to do."""


class Step(Protocol):
    """One thing that an installation does."""

    def describe(self) -> str:
        """For people, without doing it."""

    def apply(self) -> bool:
        """Do it; False where it was so already.

        Raises:
            OSError, InstallError: it cannot be done.
        """


@dataclass(frozen=True, slots=True)
class WriteFile:
    """A file with this content; `is_kept`: only where there is none."""

    path: Path
    content: bytes
    mode: int = 0o644
    group: str | None = None
    is_kept: bool = False

    def describe(self) -> str:
        """Which file."""
        return f"write {self.path}" + (" unless it is there" if self.is_kept else "")

    def apply(self) -> bool:
        """Write it."""
        if self.path.exists() and (self.is_kept or self.path.read_bytes() == self.content):
            return False
        self.path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(self.path, self.content)
        self.path.chmod(self.mode)
        _give(self.path, self.group)
        return True


@dataclass(frozen=True, slots=True)
class MakeFolder:
    """A folder of this mode and group."""

    path: Path
    mode: int
    group: str | None = None

    def describe(self) -> str:
        """Which folder."""
        return f"make {self.path}/ ({self.mode:o})"

    def apply(self) -> bool:
        """Make it."""
        if self.path.is_dir() and stat.S_IMODE(self.path.stat().st_mode) == self.mode:
            _give(self.path, self.group)
            return False
        self.path.mkdir(parents=True, exist_ok=True)
        self.path.chmod(self.mode)
        _give(self.path, self.group)
        return True


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link."""

    path: Path
    target: str

    def describe(self) -> str:
        """From where to where."""
        return f"link {self.path} -> {self.target}"

    def apply(self) -> bool:
        """Make it."""
        if self.path.is_symlink() and self.path.readlink() == Path(self.target):
            return False
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.unlink(missing_ok=True)
        self.path.symlink_to(self.target)
        return True


@dataclass(frozen=True, slots=True)
class Remove:
    """No such file or folder."""

    path: Path

    def describe(self) -> str:
        """Which."""
        return f"remove {self.path}"

    def apply(self) -> bool:
        """Remove it, a folder with all that is in it."""
        if not self.path.exists() and not self.path.is_symlink():
            return False
        if self.path.is_dir() and not self.path.is_symlink():
            shutil.rmtree(self.path)
        else:
            self.path.unlink()
        return True


@dataclass(frozen=True, slots=True)
class Run:
    """A command; `may_fail`: where what it undoes is not there."""

    command: tuple[str, ...]
    may_fail: bool = False

    def describe(self) -> str:
        """As a shell would take it."""
        return f"run {' '.join(self.command)}"

    def apply(self) -> bool:
        """Run it."""
        try:
            done = subprocess.run(self.command, capture_output=True, text=True, timeout=_RUN_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            if self.may_fail:
                return False
            raise InstallError(f"{self.describe()}: {error}") from None
        if done.returncode and not self.may_fail:
            said = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
            raise InstallError(f"{self.describe()}: exit code {done.returncode}: {said[-1]}")
        return True


def plan_install(root: Path, python: Path, boards: Sequence[str]) -> list[Step]:
    """What puts the service in place, in order.

    Args:
        root: `/`, or the folder that an image is made in.
        python: the interpreter that runs the service, as it is called there.
        boards: of `BOARDS`, whose drop-ins are needed.
    """
    is_live = root == Path("/")
    unit = (_OURS / UNIT).read_text().replace("@PYTHON@", str(python))
    example = (_OURS / "edge.example.toml").read_bytes()
    steps: list[Step] = [
        WriteFile(root / _SYSUSERS, (_OURS / f"{USER}.sysusers").read_bytes()),
        _make_user(root),
        MakeFolder(root / _CONFIG, 0o750, USER),
        WriteFile(root / _CONFIG / "edge.toml", example, 0o640, USER, is_kept=True),
        # systemd gives it to the user at each start.
        MakeFolder(root / _STATE, 0o700),
        WriteFile(root / _UNITS / UNIT, unit.encode()),
    ]
    for board in BOARDS:
        place = root / _DROP_INS / f"10-{board}.conf"
        source = _OURS / "drop-ins" / place.name
        steps.append(WriteFile(place, source.read_bytes()) if board in boards else Remove(place))
    if is_live:
        steps += [Run(("systemctl", "daemon-reload")), Run(("systemctl", "enable", UNIT))]
    else:
        steps.append(Link(root / _WANTED, f"/{_UNITS}/{UNIT}"))
    return steps


def plan_uninstall(root: Path, *, purge: bool) -> list[Step]:
    """What takes the service away; with `purge` its configuration, state and user too."""
    is_live = root == Path("/")
    steps: list[Step] = [Run(("systemctl", "disable", "--now", UNIT), may_fail=True)] if is_live else []
    steps += [Remove(root / _WANTED), Remove(root / _UNITS / UNIT)]
    steps += [Remove(root / _DROP_INS / f"10-{board}.conf") for board in BOARDS]
    if is_live:
        steps.append(Run(("systemctl", "daemon-reload"), may_fail=True))
    if purge:
        steps += [Remove(root / _DROP_INS), Remove(root / _CONFIG), Remove(root / _STATE)]
        steps.append(Remove(root / _SYSUSERS))
        if is_live:
            steps.append(Run(("userdel", USER), may_fail=True))
    return steps


def found_boards(root: Path) -> tuple[str, ...]:
    """The boards of `BOARDS` that the machine under `root` has."""
    compatible = root / "proc/device-tree/compatible"
    is_jetson = (root / "etc/nv_tegra_release").exists() or (
        compatible.is_file() and b"nvidia,tegra" in compatible.read_bytes()
    )
    if is_jetson:
        return ("jetson",)
    seen = {
        "nvidia": (root / "proc/driver/nvidia/version").exists() or (root / "dev/nvidiactl").exists(),
        "dri": any((root / "dev/dri").glob("renderD*")),
    }
    return tuple(board for board in BOARDS if seen.get(board))


def require_root() -> None:
    """Refuse early what would fail half-way.

    Raises:
        InstallError: this process is not root's.
    """
    if os.geteuid() != 0:
        raise InstallError(
            "this changes the system, so it needs root:"
            f" sudo {sys.executable} -m tools.cli edge ...; --dry-run shows what it would do,"
            " --root DIR writes into an image"
        )


def require_systemd() -> None:
    """Refuse a machine where systemd does not run.

    Raises:
        InstallError: it does not (sd_booted(3)).
    """
    if not Path("/run/systemd/system").is_dir():
        raise InstallError(
            "systemd does not run here, so there is nothing to install into; for an image give --root DIR,"
            " in a container run `traffic-vision edge run`"
        )


def require_reachable(python: Path, places: Sequence[Path]) -> None:
    """Refuse an interpreter that the service's user could not run.

    Args:
        python: the interpreter.
        places: it, what it stands for, and where its packages are.

    Raises:
        InstallError: names the folder that is in the way, and what to do.
    """
    advice = "make the environment in a place of its own: python3 -m venv /opt/traffic-vision"
    for place in places:
        for hidden in _HIDDEN:
            if place.is_relative_to(hidden):
                raise InstallError(f"{place} is under {hidden}, which the service does not see; {advice}")
        for folder in (place, *place.parents):
            try:
                mode = folder.stat().st_mode
            except OSError as error:
                raise InstallError(f"{folder} cannot be looked at: {error.strerror}; {advice}") from None
            if not mode & stat.S_IXOTH and (stat.S_ISDIR(mode) or folder == python):
                raise InstallError(
                    f"{folder} is closed to other users ({stat.S_IMODE(mode):o}), and so to the service's:"
                    f" chmod o+rx {folder}, or {advice}"
                )
    done = subprocess.run(
        [python, "-I", "-c", "import tools.cli, edge.daemon"],
        capture_output=True,
        text=True,
        timeout=_RUN_S,
        check=False,
        cwd="/",
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["no output"]
        raise InstallError(
            f"{python} does not load traffic-vision by itself ({said[-1]}):"
            f" {python} -m pip install 'traffic-vision[edge]'"
        )


def interpreter_places() -> list[Path]:
    """What the service must reach of this process's interpreter."""
    return [
        Path(sys.executable),
        Path(sys.executable).resolve(),
        Path(sys.base_prefix),
        Path(__file__).parent.parent,
    ]


def apply(steps: Sequence[Step]) -> Iterator[str]:
    """Do the steps; gives a line for each.

    Raises:
        InstallError: a step failed; the ones before it are done, and doing all again is safe.
    """
    for step in steps:
        try:
            changed = step.apply()
        except OSError as error:
            raise InstallError(f"{step.describe()}: {error.strerror or error}") from None
        yield step.describe() if changed else f"{step.describe()}: nothing to do"


def _make_user(root: Path) -> Step:
    given = () if root == Path("/") else (f"--root={root}",)
    # In an image its absence is no loss: systemd makes the user at boot, by the same file.
    return Run(("systemd-sysusers", *given, f"{USER}.conf"), may_fail=root != Path("/"))


def _give(path: Path, group: str | None) -> None:
    """Let root own it, and a group of this machine read it; without root, all stays as it is."""
    if group is None or os.geteuid() != 0:
        return
    try:
        number = grp.getgrnam(group).gr_gid
    except KeyError:  # in an image; the first start finds it closed, and `edge check` says so
        return
    os.chown(path, 0, number)
