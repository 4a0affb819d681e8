"""What is learned on the way is fitted beside the frame loop, and comes back while frames go on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import psutil
import pytest

from edge.drift import DriftMonitor, DriftState, Reference, Verdict, fit, unlearned
from edge.drift.learn_child import ChildLearner, fit_in_child
from edge.drift.learning import Answer, Lesson, Question, answered
from edge.drift.reference import DriftReferenceError, FeatureReference
from edge.drift.state import Origin
from tests.edge.drift_streams import ar1
from tests.processes import descendants

NAMES = ["light", "colour", "cars"]
RATE_HZ = 2.0
S = 1_000_000_000


def series_of(seed: int, frames: int = 400) -> np.ndarray:
    return ar1(np.random.default_rng(seed), 0.0, frames, 3).astype(np.float32)


DAY = fit(series_of(0, 1200), RATE_HZ, NAMES, origins=["picture", "picture", "detections"])


def watch(monitor: DriftMonitor, series: np.ndarray, start_s: float = 0.0) -> list[DriftState]:
    states = (
        monitor.observe(round((start_s + number / RATE_HZ) * S), row) for number, row in enumerate(series)
    )
    return [state for state in states if state is not None]


class Slow:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[Question] = []
        self.done: Answer | None = None
        self.waits = False

    def ready(self) -> bool:
        return not self.waits

    def ask(self, question: Question) -> None:
        self.asked.append(question)
        self.waits = True

    def answer(self) -> Answer | None:
        done, self.done = self.done, None
        self.waits = self.waits and done is None
        return done

    def finish(self) -> None:
        self.done = Answer(self.asked[-1], answered(self.asked[-1]))


def known(monitor: DriftMonitor) -> list[bool]:
    return [feature.known for feature in monitor.reference.contexts[0].features]


def test_all_that_is_due_is_one_question_and_frames_go_on_while_it_is_answered() -> None:
    learner = Slow()
    monitor = DriftMonitor(unlearned(RATE_HZ, NAMES), learn_s=60, learner=learner)
    states = watch(monitor, series_of(1))
    assert [[lesson.name for lesson in question.lessons] for question in learner.asked] == [NAMES]
    assert [len(lesson.values) for lesson in learner.asked[0].lessons] == [120] * 3
    assert {state.verdict for state in states} == {Verdict.LEARNING}
    assert known(monitor) == [False] * 3
    learner.finish()
    states = watch(monitor, series_of(2), 200.0)
    assert known(monitor) == [True] * 3
    assert states[-1].verdict is Verdict.UNCALIBRATED
    assert len(learner.asked) == 1


def test_it_learns_what_a_monitor_that_waits_would() -> None:
    """One feature is due: then both see the same frames of it."""
    learner, series = Slow(), series_of(3)
    reference = DAY.without(["detections"])
    aside = DriftMonitor(reference, learn_s=60, learner=learner)
    waiting = DriftMonitor(reference, learn_s=60)
    watch(aside, series[:120])
    learner.finish()
    watch(aside, series[120:], 60.0)
    watch(waiting, series)
    assert aside.reference.digest == waiting.reference.digest


def test_an_answer_that_came_too_late_for_a_new_model_is_not_taken() -> None:
    learner = Slow()
    monitor = DriftMonitor(DAY.without(["detections"]), learn_s=60, learner=learner)
    watch(monitor, series_of(4, 120))
    learner.finish()
    monitor.model_changed()
    watch(monitor, series_of(5, 100) + np.float32(30), 60.0)
    assert not known(monitor)[2]
    watch(monitor, series_of(6, 40) + np.float32(30), 110.0)
    assert len(learner.asked) == 2
    learner.finish()
    watch(monitor, series_of(7, 10), 130.0)
    assert monitor.reference.contexts[0].features[2].mean == pytest.approx(30, abs=1)


def test_what_varies_slowly_is_asked_about_again_when_more_was_seen() -> None:
    learner = Slow()
    monitor = DriftMonitor(unlearned(RATE_HZ, NAMES[:1]), learn_s=30, learner=learner)
    series = ar1(np.random.default_rng(8), 0.95, 4000, 1)
    for start in range(0, 4000, 20):
        watch(monitor, series[start : start + 20], start / RATE_HZ)
        if learner.waits and learner.done is None:
            learner.finish()
    sizes = [len(question.lessons[0].values) for question in learner.asked]
    assert len(sizes) > 1 and sizes == sorted(sizes)
    assert known(monitor) == [True]


def test_a_restart_while_it_is_answered_asks_again() -> None:
    learner = Slow()
    first = DriftMonitor(unlearned(RATE_HZ, NAMES), learn_s=60, learner=learner)
    watch(first, series_of(9, 140))
    second = DriftMonitor(unlearned(RATE_HZ, NAMES), learn_s=60)
    second.restore(first.to_bytes())
    watch(second, series_of(10, 10), 70.0)
    assert known(second) == [True] * 3


def test_what_nobody_fits_grows_no_further() -> None:
    step_s = 360  # ten hours are a hundred frames
    monitor = DriftMonitor(unlearned(1 / step_s, NAMES), learn_s=60, learner=Slow())
    for number, row in enumerate(series_of(11, 300)):
        monitor.observe(number * step_s * S, row)
    (context,) = monitor.snapshot().contexts
    assert {len(seen) for seen in context.learning.values()} == {100}


def question(frames: int = 600, **change: object) -> Question:
    values = series_of(12, frames)
    values[frames // 2] = np.nan
    prior = replace(DAY.contexts[0].features[0], drives=8, drive_sigma=0.4)
    lessons = (
        Lesson(0, "light", Origin.PICTURE, values[:, 0], frames / RATE_HZ, 1.0, prior),
        Lesson(2, "cars", Origin.DETECTIONS, values[: frames // 2, 2], frames, 4.0, None),
    )
    return replace(Question(0, RATE_HZ, 3, 24.0, 5, lessons), **change)


def same(one: tuple[FeatureReference, ...], other: tuple[FeatureReference, ...]) -> bool:
    context = DAY.contexts[0]
    made = (Reference(1.0, 1.0, (replace(context, features=features),)) for features in (one, other))
    return len({reference.digest for reference in made}) == 1


def test_a_child_answers_what_is_answered_here() -> None:
    asked = question()
    found = fit_in_child(asked, threading.Event())
    assert [feature.name for feature in found] == ["light", "cars"]
    assert same(found, answered(asked))
    assert found[0].margin > 0, "how far drives differ is the prior's"


def test_a_child_whose_question_makes_no_sense_says_so() -> None:
    with pytest.raises(DriftReferenceError, match="the fit of what is learned died"):
        fit_in_child(question(lessons=(replace(question().lessons[0], slowdown=0.0),)), threading.Event())


def test_an_end_of_the_daemon_ends_the_child() -> None:
    stopping = threading.Event()
    stopping.set()
    with pytest.raises(DriftReferenceError, match="broken off: the daemon stops"):
        fit_in_child(question(100_000), stopping)
    assert not descendants(None, lambda child: "edge.drift.learn_child" in child.cmdline())


def test_a_child_that_is_killed_costs_a_while_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    jobs: list[Callable[[], object]] = []
    learner = ChildLearner("front", lambda job: not jobs.append(job), clock_s=lambda: now[0])
    assert learner.ready()
    learner.ask(question(100_000))
    assert not learner.ready() and learner.answer() is None
    killer = threading.Thread(target=_kill_the_first)
    killer.start()
    with caplog.at_level(logging.WARNING):
        jobs.pop()()
    killer.join(60)
    assert "camera front: light, cars is not learned yet" in caplog.text
    answer = learner.answer()
    assert answer is not None and answer.features == ()
    assert not learner.ready()
    now[0] = 4000.0
    assert learner.ready()
    learner.ask(question())
    jobs.pop()()
    answer = learner.answer()
    assert answer is not None and len(answer.features) == 2
    assert learner.ready()


def _kill_the_first() -> None:
    children: list[psutil.Process] = []
    while not children:
        children = descendants(None, lambda child: "edge.drift.learn_child" in child.cmdline())
    children[0].kill()


def test_a_thread_that_has_ended_is_asked_again_later_and_not_at_each_frame() -> None:
    now, refused = [0.0], [0]

    def refuse(job: Callable[[], object]) -> bool:
        refused[0] += 1
        return False

    learner = ChildLearner("front", refuse, clock_s=lambda: now[0])
    monitor = DriftMonitor(unlearned(RATE_HZ, NAMES), learn_s=60, learner=learner)
    watch(monitor, series_of(13))
    assert refused[0] == 1
    now[0] = 4000.0
    watch(monitor, series_of(14, 10), 200.0)
    assert refused[0] == 2


def test_a_monitor_learns_by_a_child() -> None:
    learner = ChildLearner("front", lambda job: (job(), True)[1])
    monitor = DriftMonitor(unlearned(RATE_HZ, NAMES), learn_s=60, learner=learner)
    states = watch(monitor, series_of(15))
    assert known(monitor) == [True] * 3
    assert states[-1].verdict is Verdict.UNCALIBRATED
    learner.stop()


def bursts(rng: np.random.Generator, frames: int) -> np.ndarray:
    """What is seldom anything but 0, and then for a while, as a share of pedestrians: `float64[frames]`."""
    there = np.zeros(frames)
    for begin in np.flatnonzero(rng.random(frames) < 1 / 200):
        there[begin : begin + 40] = 1.0
    return np.where(rng.random(frames) < 0.5, there * rng.random(frames), 0.0)


@pytest.mark.parametrize("seed", range(4))
def test_what_was_slow_before_is_not_taken_for_quick_by_the_few_frames_of_a_new_model(seed: int) -> None:
    rng = np.random.default_rng(seed)
    before = fit(bursts(rng, 7200)[:, None], RATE_HZ, ["pedestrians"], origins=["detections"])
    monitor = DriftMonitor(before, learn_s=120.0)
    monitor.model_changed()
    watch(monitor, bursts(rng, 3600)[:, None])
    known, learned = (one.contexts[0].features[0] for one in (before, monitor.reference))
    assert learned.known and learned.frames < 3600
    assert learned.tau >= known.tau
    assert [tail.frames for tail in learned.tails] >= [tail.frames for tail in known.tails]


def test_frames_enough_for_a_promise_tell_themselves_how_slowly_a_feature_varies() -> None:
    rng = np.random.default_rng(0)
    slow = fit(ar1(rng, 0.97, 7200, 1), RATE_HZ, ["light"])
    (quick,) = fit(ar1(rng, 0.0, 12 * 7200, 1), RATE_HZ, ["light"], prior=slow.contexts[0]).contexts
    assert quick.features[0].tau < 2.0 < slow.contexts[0].features[0].tau
    (few,) = fit(ar1(rng, 0.0, 600, 1), RATE_HZ, ["light"], prior=slow.contexts[0]).contexts
    assert few.features[0].tau == slow.contexts[0].features[0].tau
