"""The demonstration: work folder, signals, children and screen around the loop, then figures and report."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TextIO

from rich.console import Console
from rich.live import Live

from edge.perception.model_file import read_model_file
from tools.demo import simulated
from tools.demo.loop import GateError, Loop
from tools.demo.plan import Scene
from tools.demo.processes import Children
from tools.demo.recording import candidate_file, make_record, write_incomplete
from tools.demo.scoring import score
from tools.demo.story import Line, Story
from tools.demo.summary import print_summary
from tools.demo.view import Screen, line_text
from tools.demo.work_folder import WorkFolder

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SCREEN_HZ = 4.0


@dataclass(frozen=True, slots=True)
class Request:
    """What to demonstrate.

    Attributes:
        work: folder for everything on the way.
        report: folder for what comes of it.
        data: labelled pictures by day and by night; None: simulated drives.
        weights: checkpoint that the baseline of `data` is fine-tuned from.
        quick: the simulated one in small, for tests.
        baseline: model file in place of the shipped one, for tests.
        learning_rate: of the quick one's retrain; None: its own. For tests: a great one spoils the candidate.
    """

    work: Path
    report: Path
    data: Path | None = None
    weights: str = "yolov8n.pt"
    quick: bool = False
    baseline: Path | None = None
    learning_rate: float | None = None


def demonstrate(request: Request, output: TextIO) -> Path:
    """Close the loop, show it, and write the report; gives the report's page.

    Raises:
        DemoError: the loop did not close, or a process ended; the work folder is kept.
        KeyboardInterrupt: by SIGINT, SIGTERM or SIGHUP; no child is left.
    """
    with ExitStack() as stack:
        work = stack.enter_context(WorkFolder(request.work))
        scene = _scene(request, work.path)
        console = Console(file=output)
        story = Story(lambda line: None if console.is_terminal else _print(line, output))
        stack.enter_context(_interruptible())
        children = stack.enter_context(Children(work.path / "logs", story.wake))
        loop = Loop(scene, work.path, children, story)
        try:
            with _screen(console, story, scene):
                page = _run(request, scene, loop, story)
        except GateError as error:
            write_incomplete(request.report, scene, story, loop.companion, str(error))
            print_summary(console, story, request.report)
            raise
        print_summary(console, story, request.report)
        return page


def _scene(request: Request, work: Path) -> Scene:
    if request.data is not None:
        from tools.demo.real import real_scene

        return real_scene(request.data, request.weights, work)
    simulation = (
        simulated.quick(request.baseline, request.learning_rate) if request.quick else simulated.Simulation()
    )
    return simulation.scene(work)


def _run(request: Request, scene: Scene, loop: Loop, story: Story) -> Path:
    closed = loop.close()
    loop.finish_tasks()
    story.enter("evaluate", "evaluating both models on drives that no training saw")
    candidate = candidate_file(loop.companion, closed.candidate)

    def progress(what: str, done: int, of: int) -> None:
        story.tasks = {what: (done, of)}

    scores = score(
        read_model_file(scene.baseline),
        read_model_file(candidate),
        scene.evaluation,
        min_boxes=scene.recipe.min_boxes,
        progress=progress,
    )
    story.tasks = {}
    from tools.demo.report import write_report  # it brings what draws

    story.enter("report", "writing the report")
    record = make_record(scene, story, loop.companion, closed, candidate, scores)
    page = write_report(record, request.report)
    story.say(f"report: {page}")
    return page


@contextmanager
def _screen(console: Console, story: Story, scene: Scene) -> Iterator[None]:
    if not console.is_terminal:
        yield
        return
    # What libraries print meanwhile appears above it.
    with Live(Screen(story, scene), console=console, refresh_per_second=_SCREEN_HZ):
        yield


@contextmanager
def _interruptible() -> Iterator[None]:
    """Have SIGTERM, and a terminal that goes away, do as SIGINT does.

    A second signal, while the children are ended, changes nothing.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print(line: Line, output: TextIO) -> None:
    print(line_text(line), file=output, flush=True)
