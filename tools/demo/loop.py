"""The loop, from the first frame by day to a stretch of night under the new model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cloud.store.states import VerdictKind
from tools.demo.companion import BASELINE_TASK, Companion
from tools.demo.errors import DemoError
from tools.demo.events import hear_pipeline
from tools.demo.listening import Listener
from tools.demo.plan import Scene
from tools.demo.processes import Children
from tools.demo.story import Story
from tools.demo.tasks import Tasks
from tools.demo.vehicle import Vehicle

# How long each may take at most, seconds of wall time; beyond it something is broken, or far too slow.
_DAY_S = 1800.0
_NIGHT_S = 1800.0
_PREPARE_S = 1800.0
_RETRAIN_S = 3 * 3600.0
_RELEASE_S = 120.0
_SWAP_S = 300.0
_PROBATION_S = 300.0
_AFTER_S = 1800.0
_SHIP_S = 120.0

_AT_ONCE = 2  # background tasks; each keeps one core busy
_RELEASED = "released"
_STANDING = 1e-6  # of the drive's time


class GateError(DemoError):
    """The loop did not close because no release came of the retrain; what there is, is kept."""


@dataclass(frozen=True, slots=True)
class Closed:
    """What a loop leaves beyond its story.

    Attributes:
        candidate: SHA-256 of the model that the retrain made.
        frames: `captured` and each way out, as the daemon counted them when it stopped.
        peak_resident_mb: of the daemon.
    """

    candidate: str
    frames: dict[str, int]
    peak_resident_mb: float


class Loop:
    """One closing of the loop. Everything happens on the main thread, which starts the children."""

    def __init__(self, scene: Scene, work: Path, children: Children, story: Story) -> None:
        """Nothing is started.

        Args:
            scene: what it is closed on.
            work: folder.
            children: start the processes.
            story: is filled.
        """
        self._scene = scene
        self._children = children
        self._story = story
        self._work = work
        self.companion = Companion(work / "cloud", scene, children, story)
        tasks = [*scene.tasks[:1], self.companion.baseline_task(), *scene.tasks[1:]]
        self._tasks = Tasks(tasks, children, story, _AT_ONCE)
        self._retraining = False
        self._vehicle: Vehicle | None = None  # once it drives

    def close(self) -> Closed:
        """Drive, retrain, swap, drive on.

        Raises:
            GateError: the candidate was not released.
            DemoError: something ended or did not come.
        """
        story, scene = self._story, self._scene
        if scene.first:
            self._make_baseline()
        story.enter("set_up", "setting up the cloud and the vehicle")
        self.companion.start()
        folder = self._work / "vehicle"
        self.companion.enrol(folder)
        vehicle = Vehicle(folder, scene, self.companion.address, story)
        vehicle.start(self._children)
        self._vehicle = vehicle
        with Listener(story, vehicle.address, self.companion.config()):
            self._drive(vehicle)
            peak = vehicle.peak_resident_mb()
            story.enter("stop", "stopping the vehicle")
            self._ship_the_rest(vehicle)
            vehicle.stop(self._children)
        self._children.stop("cloud-pipeline", "cloud-server")
        frames: dict[str, int] = story.vehicle_log.get("frames", {}).get("frames", {})
        return Closed(story.stages["train"]["candidate"], frames, peak)

    def finish_tasks(self) -> None:
        """Have everything drawn that the evaluation needs.

        Raises:
            DemoError: a task failed.
        """
        self._story.wait("the evaluation's pictures", self._tasks.are_done, _PREPARE_S, self._tasks.advance)

    def _make_baseline(self) -> None:
        self._story.enter("baseline", "fine-tuning the day model")
        hear = partial(hear_pipeline, self._story)
        child = self._children.start("baseline", *self._scene.first, hear_output=hear)
        self._story.wait("the day model", lambda: child.returncode() is not None, _RETRAIN_S)
        if child.returncode():
            raise DemoError(f"the fine-tuning of the day model {child.why()}")

    def _drive(self, vehicle: Vehicle) -> None:
        story, scene = self._story, self._scene
        story.enter("day", "driving by day")
        self._wait("dusk", lambda: story.drive_s >= scene.dusk_s, _DAY_S)
        story.enter("night", "driving into the night")
        self._wait("drift's alarm", self._alarmed, _NIGHT_S)
        story.enter("samples", "shipping samples of the night")
        self._wait("the samples of a retrain", self._samples_in, _NIGHT_S)
        vehicle.limit_speed(scene.pace.slow)
        story.enter(
            "retrain", f"retraining; the vehicle is held at {scene.pace.slow:g} times the drive's time"
        )
        self._wait("the gate's verdict", self._judged_candidate, _RETRAIN_S)
        vehicle.limit_speed(scene.pace.fast)  # before the release, so that the swap comes at full speed
        with story.changed:
            # The frame that waited for its moment has the next number.
            story.held_until = story.publications[-1].sequence + 1 if story.publications else -1
        self._wait("the retrain's end", lambda: story.retrain is not None, _RELEASE_S)
        self._require_release()
        story.enter("swap", "bringing the new model to the vehicle")
        self._wait("the swap", self._swapped, _SWAP_S)
        story.enter("new_night", "driving by night under the new model")
        self._wait("the new model's probation", self._confirmed, _PROBATION_S)
        self._wait("the new model's night", self._judged, _AFTER_S)
        with story.changed:
            if not story.around_swap:  # the drive ended soon after it
                story.keep_around(story.vehicle_log["model_swapped"]["frame_after"][2])

    def _wait(self, what: str, holds: Callable[[], bool], timeout_s: float) -> None:
        self._story.wait(what, holds, timeout_s, self._check)

    def _ship_the_rest(self, vehicle: Vehicle) -> None:
        """Let the vehicle stand until the cloud has all its samples, so that the counts tell of them all.

        It stands once two looks at it see the same frames: the first may still see some on their way, which
        may become samples.
        """
        vehicle.limit_speed(_STANDING)
        before = self._story.vehicle

        def stands_and_has_shipped() -> bool:
            nonlocal before
            earlier, before = before, self._story.vehicle
            is_news = before is not earlier
            return is_news and before.frames == earlier.frames and not before.spooled

        self._wait("the last samples", stands_and_has_shipped, _SHIP_S)

    def _check(self) -> None:
        if self._vehicle is not None:
            self._vehicle.check()
        self.companion.check()
        self._tasks.advance()
        if not self._retraining and self._tasks.are_done(BASELINE_TASK, *self._scene.for_retrain):
            self._retraining = True
            self.companion.start_pipeline()

    def _alarmed(self) -> bool:
        """Whether drift was noticed since dusk.

        Raises:
            DemoError: it should have been by now.
        """
        story, scene = self._story, self._scene
        if any(point.verdict == "alarm" and point.drive_s >= scene.dusk_s for point in story.drift[-20:]):
            return True
        late = story.drive_s > scene.dusk_s + scene.pace.longest_alarm_s
        if late or story.vehicle.ended:
            raise DemoError(
                f"no drift alarm within {story.drive_s - scene.dusk_s:.0f} s of drive after dusk began: "
                "the loop has nothing to begin with"
            )
        return False

    def _samples_in(self) -> bool:
        """Whether a retrain has what it needs: it has begun, or would where the cloud is still being set up.

        Raises:
            DemoError: the drive ended before that.
        """
        story = self._story
        if story.stage or story.retrain is not None:
            return True
        wanted = self._scene.recipe.samples
        enough = story.samples.get("drift", 0) >= wanted
        if story.vehicle.ended and not enough and not story.vehicle.spooled:
            raise DemoError(
                f"the drive ended with {story.samples.get('drift', 0)} samples of drift in the cloud, "
                f"and a retrain begins with {wanted}"
            )
        return enough

    def _judged_candidate(self) -> bool:
        return "validate" in self._story.stages or self._story.retrain is not None

    def _require_release(self) -> None:
        ended: dict[str, Any] = self._story.retrain or {}
        if ended.get("state") != _RELEASED:
            why = (
                gate_text(self._story.stages["validate"])
                if "validate" in self._story.stages
                else ended["why"]
            )
            raise GateError(f"no release came of the retrain: {why}")

    def _swapped(self) -> bool:
        return "model_swapped" in self._story.vehicle_log

    def _confirmed(self) -> bool:
        return "update_confirmed" in self._story.vehicle_log or self._story.vehicle.ended

    def _judged(self) -> bool:
        """Whether the new model's night is long enough, or the drive over."""
        story, pace = self._story, self._scene.pace
        new = story.vehicle_log["model_swapped"]["new"]
        points = [point for point in story.drift if point.model == new]
        if story.vehicle.ended or not points:
            return story.vehicle.ended
        learned = next((point.drive_s for point in points if point.verdict != "learning"), None)
        if learned is not None:
            return story.drive_s >= learned + pace.judged_s
        return story.drive_s >= points[0].drive_s + pace.longest_learning_s


def gate_text(judgement: Mapping[str, Any]) -> str:
    """Say in a line why the gate let no candidate through: what each rule found, and could have found."""
    shown = {figures["name"]: figures.get("detectable") for figures in judgement["slices"]}
    found = []
    for rule in judgement["rules"]:
        if rule["verdict"] == VerdictKind.PASS.value:
            continue
        text = f"{rule['slice']} {rule['rule']}: {rule['verdict']}, {rule['why']}"
        least = shown.get(rule["slice"])
        if rule["verdict"] == VerdictKind.INCONCLUSIVE.value and least:
            text += f"; these pictures show differences from {least:.3f} on"
        found.append(text)
    return f"the gate's verdict is {judgement['verdict']} ({'; '.join(found)})"
