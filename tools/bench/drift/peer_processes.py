"""The detectors beside ours, each a child process in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from tools.bench.rounds import BenchError

_INSTALL_S = 1200.0
_STOP_S = 20.0
_CHILD = Path(__file__).with_name("peer_child.py")


@dataclass(frozen=True, slots=True)
class Peer:
    """A detector that is published.

    Attributes:
        kind: as `peer_child` knows it.
        name: for people.
        package: to install; None: it comes with this project.
    """

    kind: str
    name: str
    package: str | None


PEERS = (
    Peer("ks_2samp", "scipy ks_2samp, window of 200", None),
    Peer("kswin", "river KSWIN", "river==0.26.1"),
    Peer("adwin", "river ADWIN", "river==0.26.1"),
    Peer("ksdrift", "alibi-detect KSDrift, windows of 200", "alibi-detect==0.13.0"),
    Peer("frouros", "frouros IncrementalKSTest, window of 200", "frouros==0.9.0"),
)


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of some frames: at which there was an alarm, and the processor time of all, seconds."""

    alarms: npt.NDArray[np.int64]
    cpu_s: float


class PeerProcess:
    """One peer at work, which does not outlive the bench."""

    def __init__(self, peer: Peer, environments: Path | None, scratch: Path) -> None:
        """Start it.

        Args:
            peer: which.
            environments: folder of the peers' environments; the peer's is made where there is none.
            scratch: for what passes between here and there.

        Raises:
            BenchError: it is not installed, or does not start; the message says why.
        """
        python = _python(peer, environments)
        self._peer, self._file = peer, scratch / f"{peer.kind}.npy"
        self._errors = scratch / f"{peer.kind}.log"
        tied = [sys.executable, "-m", "tools.demo.lifeline", str(os.getpid())]
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [*tied, str(python), "-I", str(_CHILD), peer.kind],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        try:
            self.release = str(self._answer()["release"])
        except BaseException:
            self.close()
            raise

    def begin(self, reference: npt.NDArray[np.float32], rate_hz: float) -> None:
        """Begin anew, with what the stream looked like."""
        np.save(self._file, reference)
        self._ask({"reference": str(self._file), "rate_hz": rate_hz})

    def take(self, frames: npt.NDArray[np.float32]) -> Taken:
        """Show it the next frames."""
        np.save(self._file, frames)
        answer = self._ask({"frames": str(self._file)})
        return Taken(np.array(answer["alarms"], np.int64), float(answer["cpu_s"]))

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(_STOP_S)
        self._process.stdout.close()

    def __enter__(self) -> PeerProcess:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Close."""
        self.close()

    def _ask(self, order: dict[str, object]) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        except OSError:
            pass  # it has ended: the answer says why
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        try:
            answer = json.loads(line)
        except ValueError:
            said = self._errors.read_text(errors="replace").strip()[-400:]
            raise BenchError(f"the peer {self._peer.name} ended: {said or line}") from None
        assert isinstance(answer, dict)
        return answer


def _python(peer: Peer, environments: Path | None) -> Path:
    """The interpreter that has the peer; installed from the package index first, if it is not there yet."""
    if peer.package is None:
        return Path(sys.executable)
    if environments is None:
        raise BenchError(f"not installed: {peer.package} needs an environment of its own: give --peers DIR")
    folder = environments.absolute() / peer.package.partition("==")[0]
    python, done = folder / "bin" / "python", folder / f"has-{peer.package}"
    if done.exists():
        return python
    venv.create(folder, with_pip=True)
    try:
        made = subprocess.run(
            [python, "-m", "pip", "install", "--quiet", peer.package],
            capture_output=True,
            text=True,
            timeout=_INSTALL_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BenchError(f"not installed: {peer.package}: not done after {_INSTALL_S:g} s") from None
    if made.returncode:
        raise BenchError(f"not installed: {peer.package}: {made.stderr.strip()[-400:]}")
    done.touch()
    return python
