"""A plain loop over paced frames whose model is changed meanwhile, in a process of its own:
`python -m tools.bench.swap.peer_child ORDER`.

Each line on standard input asks for a block, each line on standard output says what came of one. Camera and
video are those of the daemon's own blocks; the way to another model is the peer's.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edge.frames.frame import Frame
from edge.frames.mailbox import Mailbox, MailboxClosed
from tools.bench import contenders
from tools.bench.contenders import FloatArray, Picture, Task
from tools.bench.edge.cameras import StampedCamera
from tools.bench.swap.v2_protocol import V2Client

SETTLE_S = 0.3  # as in the daemon's blocks
_TAKE_S = 0.2
_SWAP_S = 60.0

Run = Callable[[npt.NDArray[np.uint8]], FloatArray]


class Peer(Protocol):
    """A way to run a model and to change it."""

    def run(self, picture: Picture) -> FloatArray:
        """The output for a letterboxed picture, `uint8[H, W, 3]`. On the loop's thread."""

    def between_frames(self) -> None:
        """Before each frame. On the loop's thread."""

    def swap(self, model: Path) -> None:
        """Change the model, and return when the new one answers. On a thread of the caller's."""


class InLoop:
    """The plain way: a new session in the old one's place, made between two frames by the loop itself."""

    def __init__(self, model: Path, threads: int) -> None:
        """Load the first model."""
        self._threads = threads
        self._asked: Path | None = None
        self._done = threading.Event()
        self._run = _session_run(model, threads)

    def run(self, picture: Picture) -> FloatArray:
        """As of a `Peer`."""
        return self._run(picture)

    def between_frames(self) -> None:
        """Load the other model where that was asked for."""
        if self._asked is not None:
            self._run = _session_run(self._asked, self._threads)
            self._asked = None
            self._done.set()

    def swap(self, model: Path) -> None:
        """Ask the loop."""
        self._done.clear()
        self._asked = model
        if not self._done.wait(_SWAP_S):
            raise TimeoutError(f"the loop loaded no model in {_SWAP_S:g} s")


class InThread:
    """The careful way: the session is made and run once on a thread, and the loop takes it over."""

    def __init__(self, model: Path, threads: int) -> None:
        """Load the first model."""
        self._threads = threads
        self._run = _session_run(model, threads)

    def run(self, picture: Picture) -> FloatArray:
        """As of a `Peer`."""
        return self._run(picture)

    def between_frames(self) -> None:
        """Nothing: the next frame takes what is there."""

    def swap(self, model: Path) -> None:
        """Load it here."""
        self._run = _session_run(model, self._threads, warm=True)


class MlServer:
    """MLServer by gRPC (the V2, or Open Inference, protocol); its repository loads the models."""

    def __init__(self, model: Path, address: str, served: Path) -> None:
        """Connect.

        Args:
            model: the first model.
            address: of its gRPC interface.
            served: the model file that its repository names.
        """
        self._served = served
        self._client = V2Client(address, "detector")
        self.swap(model)

    def run(self, picture: Picture) -> FloatArray:
        """As of a `Peer`."""
        return self._client.infer("image", picture[None])

    def between_frames(self) -> None:
        """Nothing: the server changes its model by itself."""

    def swap(self, model: Path) -> None:
        """Put the file where its repository has it, and have that loaded."""
        new = self._served.with_suffix(".new")
        new.write_bytes(model.read_bytes())
        new.replace(self._served)
        self._client.load()


def _session_run(model: Path, threads: int, *, warm: bool = False) -> Run:
    session = contenders.session(model.read_bytes(), threads)
    name, shape = session.get_inputs()[0].name, session.get_inputs()[0].shape

    def run(picture: npt.NDArray[np.uint8]) -> FloatArray:
        output: FloatArray = session.run(None, {name: picture[None]})[0]
        return output

    if warm:
        run(np.zeros(shape[1:], np.uint8))
    return run


@dataclass(slots=True)
class _Block:
    born_ns: list[int] = field(default_factory=list)
    answered: list[tuple[int, int]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    swapped_ns: list[int] = field(default_factory=list)
    took_ms: list[float] = field(default_factory=list)
    trouble: str = ""


class Loop:
    """The loop of one peer."""

    def __init__(self, peer: Peer, task: Task, video: Path, rate_hz: float, births: Path) -> None:
        """Take a peer that is ready.

        Args:
            peer: runs the model.
            task: what is done to a picture and an output.
            video: that the camera plays.
            rate_hz: of the camera.
            births: a file for its births.
        """
        self._peer = peer
        self._task = task
        self._camera: Callable[[], StampedCamera] = lambda: StampedCamera(video, rate_hz, births)

    def block(self, swaps: int, every_s: float, seconds: float) -> dict[str, Any]:
        """One block, for a JSON line.

        Args:
            swaps: of the model; 0: the block lasts `seconds`.
            every_s: from the start of one to that of the next, at least.
            seconds: of a block without changes.
        """
        block, box, camera = _Block(), Mailbox[Frame](), self._camera()
        born: list[int] = []
        ended = threading.Event()
        window: list[int] = []

        def capture() -> None:
            with camera:
                for frame in camera:
                    born.append(frame.captured_ns)
                    try:
                        box.put(frame)
                    except MailboxClosed:
                        return

        def drive() -> None:
            pause = threading.Event()
            pause.wait(SETTLE_S)
            window.append(time.monotonic_ns())
            try:
                for number in range(swaps):
                    self._swap(block, number, every_s, pause)
            except Exception as error:  # noqa: BLE001 - this thread's top; the bench is told
                block.trouble = f"{type(error).__name__}: {error}"
            pause.wait(SETTLE_S if swaps else seconds)
            window.append(time.monotonic_ns())
            pause.wait(SETTLE_S)  # the last frame of the window is answered meanwhile
            ended.set()

        threads = [threading.Thread(target=work, daemon=True) for work in (capture, drive)]
        for thread in threads:
            thread.start()
        while not ended.is_set():
            self._step(block, box)
        camera.close()
        box.close()
        for thread in threads:
            thread.join(_SWAP_S)
        begin_ns, end_ns = window
        block.born_ns = [at for at in born if begin_ns <= at < end_ns]
        return {
            "born_ns": block.born_ns,
            "answered": block.answered,
            "failed": block.failed,
            "swapped_ns": block.swapped_ns,
            "took_ms": block.took_ms,
            "seconds": (end_ns - begin_ns) / 1e9,
            "trouble": block.trouble,
        }

    def _swap(self, block: _Block, number: int, every_s: float, pause: threading.Event) -> None:
        began = time.monotonic()
        self._peer.swap(_MODELS[number % 2])
        took_s = time.monotonic() - began
        block.swapped_ns.append(time.monotonic_ns())
        block.took_ms.append(1e3 * took_s)
        pause.wait(max(0.0, every_s - took_s))

    def _step(self, block: _Block, box: Mailbox[Frame]) -> None:
        self._peer.between_frames()
        frame = box.take(_TAKE_S)
        if frame is None:
            return
        try:
            picture, scale, left, top = contenders.letterboxed(frame.image, self._task.input_hw)
            contenders.boxes(self._peer.run(picture), self._task, scale, left, top)
        except Exception as error:  # noqa: BLE001 - whatever a peer refuses costs this frame, and is told
            block.failed.append(f"{type(error).__name__}: {error}"[:200])
            return
        block.answered.append((frame.captured_ns, time.monotonic_ns()))


_MODELS: list[Path] = []


def main() -> None:
    """Run it. The argument: a JSON object, as `tools.bench.swap.peers` writes it."""
    order = json.loads(sys.argv[1])
    _MODELS.extend(Path(path) for path in reversed(order["models"]))  # the first change is one
    first = Path(order["models"][0])
    makers: dict[str, Callable[[], Peer]] = {
        "in_loop": lambda: InLoop(first, order["threads"]),
        "in_thread": lambda: InThread(first, order["threads"]),
        "mlserver": lambda: MlServer(first, order["address"], Path(order["served"])),
    }
    height, width = order["input_hw"]
    task = Task(
        (height, width), order["layout"], order["score_threshold"], order["iou_threshold"], order["threads"]
    )
    video, births = Path(order["video"]), Path(order["births"])
    loop = Loop(makers[order["kind"]](), task, video, order["rate_hz"], births)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(loop.block(**json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
