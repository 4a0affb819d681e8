"""The slots' state machine, driven at random: there is always a model to run, and never a bad one."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge.updates import history, slot_document, slot_state
from edge.updates.errors import SlotError
from edge.updates.history import Entry
from edge.updates.slot_state import SlotState
from protos.release_facts import ReleaseFacts

MOST_STARTS = 3
MOST_CONFIRMED = 4


def release(counter: int) -> ReleaseFacts:
    return ReleaseFacts(counter, "streets", str(counter), f"{counter:064x}", ("x86_64-cpu",))


class Machine(RuleBasedStateMachine):
    """Random calls in any order; a refused one changes nothing."""

    digests = Bundle("digests")

    def __init__(self) -> None:
        super().__init__()
        self.state = SlotState()
        self.counter = 0
        self.floor = 0

    @initialize(target=digests)
    def begin(self) -> str:
        return "f" * 64

    @rule(target=digests)
    def stage(self) -> str:
        self.counter += 1
        offered = release(self.counter)
        before = self.state
        try:
            slot = slot_state.slot_to_stage(before)
        except SlotError:
            assert before.on_probation
            return offered.model_sha256
        assert slot not in (before.active, before.last_good, "factory")
        emptied = slot_state.emptied(before, slot)
        assert not slot_state.violations(emptied), "a kill may leave this state behind"
        assert (emptied.active, emptied.last_good) == (before.active, before.last_good)
        self.state = slot_state.staged(emptied, slot, offered)
        assert self.state.candidate == slot
        return offered.model_sha256

    @rule()
    def activate(self) -> None:
        before = self.state
        if before.candidate is None:
            with pytest.raises(SlotError):
                slot_state.activated(before)
            return
        self.state = slot_state.activated(before)
        assert self.state.active == before.candidate
        assert self.state.last_good == before.last_good

    @rule()
    def confirm(self) -> None:
        if not self.state.on_probation:
            with pytest.raises(SlotError):
                slot_state.confirmed(self.state)
            return
        self.state = slot_state.confirmed(self.state)
        assert self.state.active == self.state.last_good
        active = self.state.release(self.state.active)
        assert active is not None
        assert self.state.release_floor >= active.release_counter

    @rule()
    def revert(self) -> None:
        before = self.state
        if not before.on_probation:
            with pytest.raises(SlotError):
                slot_state.reverted(before, "on purpose")
            return
        failed = before.release(before.active)
        assert failed is not None
        self.state = slot_state.reverted(before, "on purpose")
        assert self.state.active == before.last_good
        assert failed.model_sha256 in self.state.bad_sha256

    @rule(starts=st.integers(1, MOST_STARTS + 1))
    def restart(self, starts: int) -> None:
        for _ in range(starts):
            self.state = slot_state.started(self.state, MOST_STARTS)
        assert self.state.probation_starts is None or self.state.probation_starts <= MOST_STARTS
        if starts > MOST_STARTS:
            assert not self.state.on_probation, "a crash loop ends"

    @rule(starts=st.integers(1, MOST_CONFIRMED + 1))
    def crash_loop(self, starts: int) -> None:
        before = self.state
        for _ in range(starts):
            self.state = slot_state.started(self.state, MOST_STARTS, MOST_CONFIRMED)
        assert self.state.starts <= MOST_CONFIRMED
        if not before.on_probation and before.active != "factory" and starts > MOST_CONFIRMED:
            assert self.state.active != before.active, "a crash loop ends"
            assert self.state.reverted is not None

    @rule()
    def excuse_a_start(self) -> None:
        before = self.state
        begun = slot_state.started(before, MOST_STARTS, MOST_CONFIRMED)
        self.state = slot_state.excused(begun)
        assert (self.state.active, self.state.on_probation) == (begun.active, begun.on_probation)
        if begun.active == before.active:
            assert self.state == before, "as if there had been no start"

    @rule(driven_s=st.integers(0, 100), frames=st.integers(0, 100))
    def take_a_trip(self, driven_s: int, frames: int) -> None:
        before = self.state
        begun = slot_state.started(before, MOST_STARTS, MOST_CONFIRMED)
        self.state = slot_state.paused(begun, driven_s, frames)
        assert self.state.active == begun.active
        if begun.on_probation:
            assert self.state.probation_starts == before.probation_starts
            assert self.state.driven_s == before.driven_s + driven_s
            assert self.state.driven_frames == before.driven_frames + frames
        else:
            assert (self.state.starts, self.state.driven_s, self.state.driven_frames) == (0, 0, 0)

    @rule()
    def run_well(self) -> None:
        self.state = slot_state.ran_well(self.state)
        active = self.state.active
        for _ in range(MOST_CONFIRMED):
            if not self.state.on_probation:
                self.state = slot_state.started(self.state, MOST_STARTS, MOST_CONFIRMED)
                assert self.state.active == active

    @rule(to_factory=st.booleans())
    def roll_back(self, to_factory: bool) -> None:
        before = self.state
        release = before.release(before.active)
        if release is None:
            with pytest.raises(SlotError, match="factory"):
                slot_state.rolled_back(before, "by hand", to_factory=to_factory)
            return
        self.state = slot_state.rolled_back(before, "by hand", to_factory=to_factory)
        assert release.model_sha256 in self.state.bad_sha256
        assert not self.state.on_probation
        if to_factory:
            assert self.state.active == "factory"
        elif before.on_probation:
            assert self.state.active == before.last_good

    @rule(sha256=digests)
    def mark_bad(self, sha256: str) -> None:
        good = self.state.release(self.state.last_good)
        if good is not None and good.model_sha256 == sha256:
            with pytest.raises(SlotError):
                slot_state.marked_bad(self.state, sha256, "on purpose")
            return
        self.state = slot_state.marked_bad(self.state, sha256, "on purpose")
        assert sha256 in self.state.bad_sha256

    @precondition(lambda self: self.state.active != "factory")
    @rule()
    def lose_the_active_slot(self) -> None:
        before = self.state
        lost = before.active
        self.state = slot_state.lost(before, lost)
        assert self.state.active != lost
        assert self.state.bad == before.bad, "a broken disk is not a bad model"

    @precondition(lambda self: self.state.last_good != "factory")
    @rule()
    def lose_the_last_good_slot(self) -> None:
        self.state = slot_state.lost(self.state, self.state.last_good)

    @rule(counter=st.integers(0, 5), clock_s=st.integers(0, 2**31))
    def raise_floors(self, counter: int, clock_s: int) -> None:
        self.state = slot_state.floors_raised(self.state, release=counter, clock_s=clock_s)
        assert self.state.clock_floor_s >= clock_s

    @invariant()
    def it_is_a_state_of_the_machine(self) -> None:
        assert slot_state.violations(self.state) == []

    @invariant()
    def it_survives_the_disk(self) -> None:
        text = json.dumps(slot_document.to_document(self.state))
        assert slot_document.from_document(json.loads(text)) == self.state

    @invariant()
    def only_a_confirmed_release_has_its_starts_counted(self) -> None:
        assert not self.state.starts or not (self.state.on_probation or self.state.active == "factory")

    @invariant()
    def no_bad_model_runs_or_is_about_to(self) -> None:
        for slot in (self.state.active, self.state.last_good, self.state.candidate or "factory"):
            held = self.state.release(slot)
            assert held is None or held.model_sha256 not in self.state.bad_sha256

    @invariant()
    def the_floor_never_falls(self) -> None:
        assert self.state.release_floor >= self.floor
        self.floor = self.state.release_floor


TestSlotState = Machine.TestCase
TestSlotState.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


def test_bad_digests_are_bounded_and_the_latest_are_kept() -> None:
    state = SlotState()
    for index in range(slot_state.MAX_BAD + 10):
        state = slot_state.marked_bad(state, f"{index:064x}", "on purpose")
    assert len(state.bad) == slot_state.MAX_BAD
    assert state.bad[-1].sha256 == f"{slot_state.MAX_BAD + 9:064x}"


def confirmed_release(state: SlotState, counter: int) -> SlotState:
    slot = slot_state.slot_to_stage(state)
    state = slot_state.staged(slot_state.emptied(state, slot), slot, release(counter))
    return slot_state.confirmed(slot_state.activated(state))


def crash_looped(state: SlotState) -> SlotState:
    for _ in range(MOST_CONFIRMED + 1):
        state = slot_state.started(state, MOST_STARTS, MOST_CONFIRMED)
    return state


def test_a_crash_loop_after_confirmation_goes_down_to_the_factory_and_stays_there() -> None:
    state = confirmed_release(confirmed_release(SlotState(), 1), 2)
    state = crash_looped(state)
    assert (state.release(state.active), state.starts) == (release(1), 1)
    assert state.reverted is not None and "4 times in a row" in state.reverted.reason
    for _ in range(MOST_CONFIRMED):
        state = slot_state.started(state, MOST_STARTS, MOST_CONFIRMED)
    assert (state.active, state.bad, state.release_floor) == ("factory", (), 2)
    assert crash_looped(state) == state


def test_the_second_crash_loop_after_a_confirmation_makes_a_model_bad() -> None:
    state = crash_looped(confirmed_release(SlotState(), 1))
    assert state.active == "factory" and not state.bad, "it may be fetched again"
    state = crash_looped(confirmed_release(state, 1))
    assert state.active == "factory"
    assert state.bad_sha256 == {release(1).model_sha256}


def test_a_state_of_an_earlier_version_is_read() -> None:
    written = document()
    for key in ("starts", "fallen", "driven_s", "driven_frames", "history"):
        del written[key]
    assert slot_document.from_document(written) == SlotState()


def test_a_damaged_history_costs_itself_alone() -> None:
    entry = Entry(1, "staged", "cloud", "f" * 64, 1, "streets 1", "")
    good = history.to_document((entry,))[0]
    assert slot_document.from_document(document(history=[7, {}, good, None])).history == (entry,)
    assert slot_document.from_document(document(history="x")).history == ()
    many = [good] * (history.MAX_ENTRIES + 5)
    assert len(slot_document.from_document(document(history=many)).history) == history.MAX_ENTRIES


def test_a_release_that_failed_here_cannot_be_staged() -> None:
    state = slot_state.marked_bad(SlotState(), release(3).model_sha256, "on purpose")
    with pytest.raises(SlotError, match="failed on this vehicle"):
        slot_state.staged(state, "a", release(3))


def test_a_candidate_is_replaced_in_its_own_slot_after_the_other_one_broke() -> None:
    state = slot_state.staged(SlotState(), "a", release(1))
    state = slot_state.confirmed(slot_state.activated(state))
    state = slot_state.lost(slot_state.staged(state, "b", release(2)), "a")
    slot = slot_state.slot_to_stage(state)
    assert slot == "b"
    assert slot_state.staged(slot_state.emptied(state, slot), slot, release(3)).b == release(3)
    with pytest.raises(SlotError, match="candidate already"):
        slot_state.staged(state, "a", release(3))


def document(**fields: object) -> dict[str, object]:
    return {**slot_document.to_document(SlotState()), **fields}


@pytest.mark.parametrize(
    "damaged",
    [
        None,
        [],
        {},
        {"schema": 2},
        document(active="c"),
        document(active="a"),
        document(active=None),
        document(candidate="factory"),
        document(last_good="b"),
        document(probation_starts=0),
        document(probation_starts=-1),
        document(probation_starts=True),
        document(release_floor=1.5),
        document(clock_floor_s=10**12),
        document(a={"traffic_vision": {}}),
        document(bad=[{"sha256": "x"}]),
        document(bad=None),
        document(reverted=7),
        document(starts=-1),
        document(fallen=[7]),
        document(driven_s=1),
        document(driven_frames=-1),
    ],
)
def test_a_damaged_state_is_refused(damaged: object) -> None:
    with pytest.raises(SlotError):
        slot_document.from_document(damaged)
