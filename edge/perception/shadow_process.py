"""A candidate beside the active model: a child process, its frames, and the limits that it is held to.

The frame loop only leaves the newest frame here, and never waits: where the child is at work, or its CPU
budget is used up, the frame is not taken. One thread feeds the child, waits for it, and kills it where it
takes too long or too much memory. What it uses is measured from outside, by the kernel's clock of its process
(clock_getcpuclockid(3)) and by what is resident.
"""

from __future__ import annotations

import enum
import json
import logging
import mmap
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.frames import lifeline
from edge.machine import children
from edge.machine.priority import lower
from edge.perception.cpu_budget import CpuBudget
from edge.perception.detector import DetectorOptions
from edge.perception.model_file import ModelFile

logger = logging.getLogger(__name__)

_POLL_S = 0.1
_MOST_BOXES = 300  # by falling score; a pipe holds the line that they are in
_MOST_ANSWER_BYTES = 1 << 20
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class ShadowLimits:
    """What a candidate in shadow may take.

    Attributes:
        cpu_share: of one core.
        memory_bytes: resident.
        start_s: to load and to verify its golden frames; a provider may build an engine for minutes.
        hang_cpu_s, hang_s: of one frame, in the child's CPU time and by the clock: a machine may be so busy
            that a process of low priority waits for long.
    """

    cpu_share: float
    memory_bytes: int = 2_000_000_000
    start_s: float = 900.0
    hang_cpu_s: float = 30.0
    hang_s: float = 120.0


@dataclass(frozen=True, slots=True, eq=False)
class ShadowFrame:
    """A frame for the candidate.

    Attributes:
        camera, time_ns: whose, and its own time.
        image: `uint8[H, W, 3]` BGR; it is not changed by anyone.
        boxes: `float32[N, 6]` what the active model found on it.
        classes: the active model's class names.
        moving: whether the vehicle was: what is seen while it stands is one place, seen again and again.
    """

    camera: str
    time_ns: int
    image: npt.NDArray[np.uint8]
    boxes: npt.NDArray[np.float32]
    classes: Sequence[str]
    moving: bool


class Offer(enum.Enum):
    """What came of a frame that was offered."""

    TAKEN = "taken"
    BUSY = "busy"
    OVER_BUDGET = "over_budget"
    # It still loads, or has ended.
    NOT_RUNNING = "not_running"


@dataclass(frozen=True, slots=True)
class ShadowEnd:
    """Why it does not go on.

    Attributes:
        reason: for people.
        is_final: the candidate's own fault, which it would commit again.
    """

    reason: str
    is_final: bool


class ShadowProcess:
    """One run of a candidate. `offer` is for the frame loop's thread, the rest for any."""

    def __init__(
        self,
        model: ModelFile,
        options: DetectorOptions,
        limits: ShadowLimits,
        answered: Callable[[ShadowFrame, dict[str, Any]], None],
    ) -> None:
        """Make ready; nothing runs before `start`.

        Args:
            model: the candidate.
            options: how it will run; here it has one thread.
            limits: that it is held to.
            answered: is given what the child says of each frame, on this object's thread.
        """
        self._model = model
        self._options = options
        self._limits = limits
        self._answered = answered
        self._budget = CpuBudget(limits.cpu_share)
        self._changed = threading.Condition()  # guards the next four
        self._waiting: ShadowFrame | None = None
        self._is_idle = False
        self._is_stopping = False
        self._end: ShadowEnd | None = None
        self._resident_bytes = 0
        self._child: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    def start(self) -> None:
        """Start the thread, which starts the child."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end, and the child with it. Returns at once."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread; False where it hangs."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def end(self) -> ShadowEnd | None:
        """Why it has ended by itself; None: it has not."""
        return self._end

    @property
    def pid(self) -> int | None:
        """Of the child; None while there is none."""
        child = self._child
        return None if child is None else child.pid

    @property
    def resident_bytes(self) -> int:
        """Memory that the child held when it was looked at last."""
        return self._resident_bytes

    def cpu_share(self) -> float:
        """Of one core, that the child has taken since its first frame."""
        return self._budget.spent_share(time.monotonic())

    def offer(self, frame: ShadowFrame) -> Offer:
        """Leave a frame, if it can be taken. Never waits for anything."""
        with self._changed:
            if not self._is_idle:
                is_at_work = self._child is not None and self._waiting is not None
                return Offer.BUSY if is_at_work else Offer.NOT_RUNNING
            if not self._budget.allows(time.monotonic()):
                return Offer.OVER_BUDGET
            self._waiting, self._is_idle = frame, False
            self._changed.notify_all()
            return Offer.TAKEN

    def _run(self) -> None:
        try:
            end = self._drive()
        except OSError as error:
            end = ShadowEnd(f"the candidate's process cannot be run: {error.strerror or error}", False)
        except Exception as error:  # the thread's top
            logger.exception("the shadow failed", extra={"event": "shadow_failed"})
            end = ShadowEnd(f"a defect: {type(error).__name__}: {error}", False)
        finally:
            with self._changed:
                self._is_idle, self._waiting = False, None
        self._end = end

    def _drive(self) -> ShadowEnd | None:
        with (
            os.fdopen(os.memfd_create("candidate"), "w+b") as model,
            os.fdopen(os.memfd_create("frame"), "w+b") as pixels,
        ):
            asked = {"origin": f"model {self._model.metadata.name} {self._model.metadata.version}"}
            cache = self._options.engine_cache
            options = {
                "providers": list(self._options.providers),
                "threads": 1,
                "engine_cache": None if cache is None else str(cache),
            }
            model.write(json.dumps({**asked, **options}).encode() + b"\n" + self._model.data)
            model.flush()
            child = self._child = _started(model.fileno(), pixels.fileno(), self._limits.memory_bytes)
            try:
                return _Talk(self, child, pixels.fileno()).go_on()
            finally:
                child.kill()
                child.wait()
                for stream in (child.stdin, child.stdout, child.stderr):
                    if stream is not None:
                        with suppress(BrokenPipeError):
                            stream.close()


class _Talk:
    """What passes between the thread and the child."""

    def __init__(self, shadow: ShadowProcess, child: subprocess.Popen[bytes], frame_fd: int) -> None:
        self._shadow = shadow
        self._child = child
        self._frame_fd = frame_fd
        self._frame_bytes = 0
        self._said = b""  # of the next answer
        self._last_words = b""  # on its standard error

    def go_on(self) -> ShadowEnd | None:
        """Feed the child until it is stopped (None) or ends."""
        shadow = self._shadow
        limits = shadow._limits
        # It has found nothing yet when that takes too long: as with its check, nothing is said of the model.
        hello = self._answer(limits.start_s, limits.start_s, is_final=False)
        if isinstance(hello, ShadowEnd) or hello is None:
            return hello
        if "refused" in hello:
            return ShadowEnd(str(hello["refused"])[:500], bool(hello.get("is_final", True)))
        while True:
            with shadow._changed:
                shadow._waiting, shadow._is_idle = None, True
            frame = self._next_frame()
            if frame is None or isinstance(frame, ShadowEnd):
                return frame
            began_s, before_s = time.monotonic(), self._cpu_s()
            self._hand_over(frame)
            answer = self._answer(limits.hang_s, limits.hang_cpu_s)
            shadow._budget.spent(began_s, max(0.0, self._cpu_s() - before_s))
            if answer is None or isinstance(answer, ShadowEnd):
                return answer
            shadow._answered(frame, answer)

    def _next_frame(self) -> ShadowFrame | ShadowEnd | None:
        shadow = self._shadow
        while True:
            with shadow._changed:
                shadow._changed.wait_for(
                    lambda: shadow._is_stopping or shadow._waiting is not None, timeout=1.0
                )
                if shadow._is_stopping:
                    return None
                if shadow._waiting is not None:
                    return shadow._waiting
            trouble = self._trouble()
            if trouble is not None:
                return trouble

    def _hand_over(self, frame: ShadowFrame) -> None:
        height, width = frame.image.shape[:2]
        size = height * width * 3
        if size > self._frame_bytes:
            os.ftruncate(self._frame_fd, size)
            self._frame_bytes = size
        with mmap.mmap(self._frame_fd, size) as pixels:
            # Gone before the mapping is, which it would hold.
            np.copyto(np.frombuffer(pixels, np.uint8).reshape(height, width, 3), frame.image)
        request = {
            "camera": frame.camera,
            "time_ns": frame.time_ns,
            "shape": [height, width],
            "boxes": frame.boxes[:_MOST_BOXES].tolist(),
            "classes": list(frame.classes),
            "moving": frame.moving,
        }
        assert self._child.stdin is not None
        with suppress(BrokenPipeError):  # it has died, as its answer will tell
            self._child.stdin.write(json.dumps(request).encode() + b"\n")
            self._child.stdin.flush()

    def _answer(
        self, limit_s: float, limit_cpu_s: float, *, is_final: bool = True
    ) -> dict[str, Any] | ShadowEnd | None:
        """Wait for the child's next line; None: it is to stop."""
        assert self._child.stdout is not None and self._child.stderr is not None
        until_s, until_cpu_s = time.monotonic() + limit_s, self._cpu_s() + limit_cpu_s
        streams = {self._child.stdout.fileno(): "out", self._child.stderr.fileno(): "err"}
        while b"\n" not in self._said:
            if self._shadow._is_stopping:
                return None
            trouble = self._trouble(is_waiting=True)
            if trouble is not None:
                return trouble
            if time.monotonic() > until_s or self._cpu_s() > until_cpu_s:
                return ShadowEnd(
                    f"in shadow it hung: no answer within {limit_s:g} s or {limit_cpu_s:g} s of CPU time",
                    is_final,
                )
            readable, _, _ = select.select(list(streams), [], [], _POLL_S)
            for descriptor in readable:
                data = os.read(descriptor, 65536)
                if streams[descriptor] == "err":
                    self._last_words = (self._last_words + data)[-4096:]
                    if not data:
                        del streams[descriptor]
                elif not data:
                    return self._died()
                else:
                    self._said += data
            if len(self._said) > _MOST_ANSWER_BYTES:
                return ShadowEnd("in shadow it answered without end", True)
        line, self._said = self._said.split(b"\n", 1)
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        return answer if isinstance(answer, dict) else ShadowEnd("in shadow it answered nonsense", True)

    def _trouble(self, *, is_waiting: bool = False) -> ShadowEnd | None:
        """What is wrong with the child at this moment."""
        self._shadow._resident_bytes = resident = _resident_bytes(self._child.pid)
        limit = self._shadow._limits.memory_bytes
        if resident > limit:
            return ShadowEnd(
                f"in shadow it took {resident / 1e6:.0f} MB of memory, allowed are {limit / 1e6:.0f} MB", True
            )
        # While an answer is awaited, the end of its output tells: it may have said why before.
        return None if is_waiting or self._child.poll() is None else self._died()

    def _died(self) -> ShadowEnd:
        assert self._child.stderr is not None
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(1.0)
        code = self._child.poll()
        os.set_blocking(self._child.stderr.fileno(), False)
        self._last_words += self._child.stderr.read() or b""
        said = self._last_words.decode(errors="replace").strip().splitlines()
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        words = f": {said[-1][:300]}" if said else ""
        # SIGKILL comes from outside: the kernel out of memory, or somebody by hand.
        return ShadowEnd(f"in shadow its process died ({how}){words}", code != -signal.SIGKILL)

    def _cpu_s(self) -> float:
        try:
            return time.clock_gettime(_cpu_clock(self._child.pid))
        except OSError:  # it is gone
            return 0.0


def _started(model_fd: int, frame_fd: int, memory_bytes: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "edge.perception.shadow_child"]
    arguments = [str(model_fd), str(frame_fd), str(memory_bytes)]
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", str(Path(lifeline.__file__)), str(os.getpid()), *command, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=(model_fd, frame_fd),
        env=children.environment(),
        start_new_session=True,
    )
    lower(child.pid)  # no further: at 19 it would take minutes to load beside frames that want all cores
    return child


def _cpu_clock(pid: int) -> int:
    """The clock of all threads of a process, as the kernel numbers it (clock_getcpuclockid(3))."""
    return (~pid << 3) | 2


def _resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return 0
