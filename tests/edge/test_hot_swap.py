from __future__ import annotations

import gc
import signal
import sys
import threading
import weakref
from pathlib import Path

import psutil
import pytest

from edge.errors import TrafficVisionError
from edge.frames.frame import FrameKey
from edge.perception.detector import Detector, DetectorOptions
from edge.perception.hot_swap import PendingSwap, SwappableDetector, prepare
from edge.perception.model_change import ChangeOutcome, ModelChanger
from edge.perception.model_check import check_in_child
from edge.perception.model_child import ModelRefusedError
from edge.perception.model_file import ModelFile
from tests.models_factory import constant_model, golden_frame, loaded, rectangles_model

OPTIONS = DetectorOptions(threads=1)
OLD = loaded(rectangles_model(version="1"))
NEW = loaded(rectangles_model(version="2"))
# Loads and runs, but finds something else than its own golden frames say.
WRONG = loaded(
    constant_model(
        [[20, 20, 10, 10, 0.9, 0, 0]], class_names=("blue", "green", "red"), golden=(golden_frame(),)
    )
)
LONG_S = 60.0


def key(sequence: int) -> FrameKey:
    return FrameKey("front", 0, sequence)


def check(model: ModelFile, **options: object) -> object:
    arguments = {"timeout_s": LONG_S, "stopping": threading.Event(), **options}
    return check_in_child(model, OPTIONS, **arguments)


def test_a_swap_is_between_two_frames_and_reported_with_the_first_new_one() -> None:
    old, new = Detector(OLD, OPTIONS), Detector(NEW, OPTIONS)
    woken = threading.Event()
    detector = SwappableDetector(old, requested=woken.set)
    assert not detector.between_frames()
    assert detector.published(key(1), 100) is None
    pending = detector.request(new)
    assert woken.is_set()
    assert detector.active is old and not pending.wait_applied(0)
    assert detector.between_frames() and detector.active is new and pending.wait_applied(0)
    report = detector.published(key(2), 175)
    assert report is not None
    assert (report.frame_before, report.frame_after, report.gap_ns) == (key(1), key(2), 75)
    assert (report.old_digest, report.new_digest) == (OLD.digest, NEW.digest)
    assert detector.published(key(3), 300) is None


def test_a_swap_before_the_first_frame_has_no_gap() -> None:
    detector = SwappableDetector(Detector(OLD, OPTIONS))
    detector.request(Detector(NEW, OPTIONS))
    detector.between_frames()
    report = detector.published(key(0), 5)
    assert report is not None and report.frame_before is None and report.gap_ns is None


def test_a_request_can_be_withdrawn_until_it_is_applied() -> None:
    old, new = Detector(OLD, OPTIONS), Detector(NEW, OPTIONS)
    detector = SwappableDetector(old)
    assert detector.withdraw(detector.request(new))
    assert not detector.between_frames() and detector.active is old
    pending = detector.request(new)
    with pytest.raises(RuntimeError):
        detector.request(new)
    detector.between_frames()
    assert not detector.withdraw(pending)


def test_a_good_model_passes_in_a_child_and_is_loaded_here() -> None:
    detector = prepare(NEW, OPTIONS, timeout_s=LONG_S, stopping=threading.Event())
    assert detector.model.digest == NEW.digest


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (WRONG, "golden frames failed"),
        (loaded(rectangles_model(golden=())), "no golden frames"),
    ],
)
def test_a_model_that_fails_its_golden_frames_is_refused(model: ModelFile, reason: str) -> None:
    with pytest.raises(ModelRefusedError, match=reason) as refused:
        check(model)
    assert refused.value.is_final


def test_a_provider_that_is_not_there_is_named() -> None:
    with pytest.raises(ModelRefusedError, match="'nonesuch' is not in this ONNX Runtime") as refused:
        check_in_child(
            NEW, DetectorOptions(providers=("nonesuch",)), timeout_s=LONG_S, stopping=threading.Event()
        )
    assert not refused.value.is_final, "the machine's fault"


def children() -> set[psutil.Process]:
    """This process's child processes, those that have ended and were not waited for included."""
    return set(psutil.Process().children())


def test_a_check_that_stops_or_takes_too_long_leaves_no_child() -> None:
    before = children()
    stopping = threading.Event()
    stopping.set()
    with pytest.raises(ModelRefusedError, match="the daemon stops") as stopped:
        check(NEW, stopping=stopping)
    with pytest.raises(ModelRefusedError, match="took longer than 0 s") as late:
        check(NEW, timeout_s=0.0)
    assert not stopped.value.is_final and not late.value.is_final, "nothing was found out about the model"
    assert children() <= before


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (f"import os; os.kill(os.getpid(), {int(signal.SIGSEGV)})", "signal 11"),
        ("raise MemoryError('no room')", "exit code 1.*no room"),
        ("print('not an answer')", "exit code 0"),
    ],
)
def test_a_child_that_dies_is_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, reason: str
) -> None:
    child = tmp_path / "python"
    child.write_text(f"#!{sys.executable}\n{body}\n")
    child.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(child))
    with pytest.raises(ModelRefusedError, match=reason):
        check(NEW)


class Loop:
    """A thread that applies swaps, as the frame loop does."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.detector = SwappableDetector(Detector(OLD, OPTIONS), requested=self.asked.set)
        self.ending = False
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        while not self.ending:
            self.asked.wait(LONG_S)
            self.asked.clear()
            self.detector.between_frames()

    def __enter__(self) -> Loop:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ending = True
        self.asked.set()
        self.thread.join(LONG_S)


def changer(loop: Loop, **options: object) -> ModelChanger:
    return ModelChanger(loop.detector, OPTIONS, check_timeout_s=LONG_S, **options)


def test_a_change_swaps_refuses_with_the_reason_and_knows_what_runs() -> None:
    with Loop() as loop:
        change = changer(loop).change
        assert change(OLD).outcome is ChangeOutcome.ALREADY_ACTIVE
        refused = change(WRONG)
        assert refused.outcome is ChangeOutcome.REFUSED and "golden" in refused.detail
        assert refused.active.digest == OLD.digest == loop.detector.active.model.digest
        swapped = change(NEW)
        assert swapped.outcome is ChangeOutcome.SWAPPED and swapped.active.digest == NEW.digest


def test_the_old_session_is_freed_with_the_change_and_not_by_the_loop() -> None:
    """By reference counting alone, on the thread that asked: to destroy a session takes time."""
    freed: list[str] = []
    with Loop() as loop:
        changes = changer(loop, prepare=lambda model, options, **_: Detector(model, options))
        gc.disable()
        try:
            for model in (NEW, OLD, NEW):
                session = loop.detector.active._session
                weakref.finalize(session, lambda: freed.append(threading.current_thread().name))
                del session
                assert changes.change(model).outcome is ChangeOutcome.SWAPPED
        finally:
            gc.enable()
    assert freed == [threading.current_thread().name] * 3


def test_who_asked_frees_it_though_the_loop_has_not_come_out_of_the_exchange_yet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The loop's thread may be held up right after it said so: the old session must not wait for it."""
    said, go_on = threading.Event(), threading.Event()
    real = PendingSwap.mark_applied

    def held_up(pending: PendingSwap) -> None:
        real(pending)
        said.set()
        assert go_on.wait(LONG_S)

    monkeypatch.setattr(PendingSwap, "mark_applied", held_up)
    detector = SwappableDetector(Detector(OLD, OPTIONS))
    freed = threading.Event()
    weakref.finalize(detector.active._session, freed.set)
    pending = detector.request(Detector(NEW, OPTIONS))
    loop = threading.Thread(target=detector.between_frames)
    loop.start()
    try:
        assert said.wait(LONG_S) and pending.wait_applied(0) and not freed.is_set()
        pending.end_replaced()
        assert freed.is_set()
    finally:
        go_on.set()
        loop.join(LONG_S)


def test_one_change_at_a_time() -> None:
    entered, leave = threading.Event(), threading.Event()

    def slow(model: ModelFile, options: DetectorOptions, **_: object) -> Detector:
        entered.set()
        assert leave.wait(LONG_S)
        raise TrafficVisionError("never ready")

    with Loop() as loop:
        changes = changer(loop, prepare=slow)
        first = threading.Thread(target=changes.change, args=(NEW,))
        first.start()
        assert entered.wait(LONG_S)
        assert changes.change(NEW).outcome is ChangeOutcome.BUSY
        leave.set()
        first.join(LONG_S)
        assert changes.change(NEW).detail == "never ready"


def test_a_loop_that_has_stopped_is_a_refusal() -> None:
    loop = Loop()  # never started: nobody applies
    changes = changer(loop, prepare=lambda model, options, **_: Detector(model, options))
    changes.stop()
    result = changes.change(NEW)
    assert result.outcome is ChangeOutcome.REFUSED and result.detail == "the daemon stops"
    assert not loop.detector.between_frames()
