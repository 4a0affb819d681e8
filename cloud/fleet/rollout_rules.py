"""Who gets a release when, and when a rollout goes on, holds or halts. Rules alone, no I/O and no clock.

A vehicle's place in a rollout is a number from 0 to 100 that only its name and the rollout's salt decide: who
is in at 10 % is in at 50 %, on every server, whatever happened between. The salt is new in each rollout, so
that it is not always the same vehicles that go first.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cloud.config import RolloutConfig, StageConfig, ThresholdsConfig
from cloud.fleet.rollout_evidence import evidence_against
from cloud.store.states import Outcome, RolloutState

MOVING = frozenset({RolloutState.RUNNING, RolloutState.DONE})  # these take vehicles in, and may be halted
TAKEN_BACK = frozenset({RolloutState.RETURNING, RolloutState.RETURNED})
HAS_IT = frozenset({Outcome.RUNNING, Outcome.CONFIRMED})
ENDED = frozenset({Outcome.CONFIRMED, Outcome.FAILED, Outcome.ROLLED_BACK})


@dataclass(frozen=True, slots=True)
class Count:
    """So many of so many vehicles."""

    hits: int = 0
    of: int = 0

    @property
    def share(self) -> float:
        """0 where there is none."""
        return self.hits / self.of if self.of else 0.0


@dataclass(frozen=True, slots=True)
class Figures:
    """What a rollout's vehicles have reported.

    Attributes:
        members: vehicles that were assigned the release.
        ended: of them, those on which it ended: confirmed, failed or rolled back.
        failed: that refused it or could not install it; of those that have begun with it.
        rolled_back: that put an older model back, confirmed or not; of those that ran it.
        slower, faster: whose detections are older than before, or younger; of those that are compared.
        more_drift, less_drift: with more drift alarms than in as many hours of driving before, or fewer; of
            those that are compared.
    """

    members: int = 0
    ended: int = 0
    failed: Count = Count()
    rolled_back: Count = Count()
    slower: Count = Count()
    faster: Count = Count()
    more_drift: Count = Count()
    less_drift: Count = Count()


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a rollout is.

    Attributes:
        state: of the rollout.
        begun: how many of its stages have begun.
        stage_age_s: how long ago the last of them did.
        approved: a person has said that all stages up to this number may begin.
    """

    state: RolloutState
    begun: int
    stage_age_s: float
    approved: int = 0


@dataclass(frozen=True, slots=True)
class Audience:
    """The vehicles that a release is for.

    Attributes:
        hardware_ids: that it is made for; empty: any.
        fleet: whose vehicles alone take it; None: those without a fleet.
    """

    hardware_ids: frozenset[str] = frozenset()
    fleet: str | None = None

    def meets(self, other: Audience) -> bool:
        """Say whether one vehicle can be in both."""
        is_any = not self.hardware_ids or not other.hardware_ids
        return self.fleet == other.fleet and (is_any or bool(self.hardware_ids & other.hardware_ids))


@dataclass(frozen=True, slots=True)
class Track:
    """A rollout, as far as it decides who gets its release.

    Attributes:
        counter: of the release.
        state, policy, salt, begun: of the rollout.
        audience: of the release.
    """

    counter: int
    state: RolloutState
    policy: RolloutConfig
    salt: str
    begun: int
    audience: Audience = Audience()


@dataclass(frozen=True, slots=True)
class Stand:
    """A vehicle, as far as it decides what it gets.

    Attributes:
        name: of the vehicle.
        labels: of the vehicle.
        hardware_ids: as it said; empty: it never did, and no release for certain hardware is for it.
        outcomes: release counter -> how that release fares on it, where a rollout has taken it in.
        fleet: whose releases it takes; None: those for vehicles without one.
    """

    name: str
    labels: Mapping[str, str]
    hardware_ids: frozenset[str]
    outcomes: Mapping[int, Outcome]
    fleet: str | None = None

    def is_of(self, audience: Audience) -> bool:
        """Say whether a release for these is for it."""
        fits = not audience.hardware_ids or bool(audience.hardware_ids & self.hardware_ids)
        return fits and audience.fleet == self.fleet


@dataclass(frozen=True, slots=True)
class Begin:
    """The next stage begins; `stage` counts from 1."""

    stage: int


@dataclass(frozen=True, slots=True)
class Halt:
    """No more vehicles get the release."""

    reason: str


@dataclass(frozen=True, slots=True)
class Finish:
    """All stages are over."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing changes; why, for people."""

    reason: str
    needs_person: bool = False


Decision = Begin | Halt | Finish | Wait


def place(salt: str, vehicle: str) -> float:
    """Where a vehicle stands in a rollout: from 0 up to, and not, 100, evenly spread."""
    digest = hashlib.sha256(f"{salt}\0{vehicle}".encode()).digest()
    return 100 * (int.from_bytes(digest[:6], "big") / 2**48)  # 48 bits: exact in a float


def has_labels(wanted: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Say whether a vehicle has all the labels that are wanted."""
    return all(labels.get(key) == value for key, value in wanted.items())


def reached(policy: RolloutConfig, begun: int, salt: str, vehicle: str, labels: Mapping[str, str]) -> int:
    """The first of the stages begun that takes a vehicle in, from 1 on; 0: none does."""
    if not has_labels(policy.labels, labels):
        return 0
    stand = place(salt, vehicle)
    for number, stage in enumerate(policy.stages[:begun], start=1):
        if stand < stage.percent and has_labels(stage.labels, labels):
            return number
    return 0


def assigning(tracks: Sequence[Track], vehicle: Stand) -> tuple[Track | None, int]:
    """The rollout whose release a vehicle is assigned, and the stage that now takes it in.

    The newest one of its fleet that has it or takes it in. Once in, it stays in: until the release is taken
    back, the vehicle goes to another fleet, or, where it does not have the release yet, the rollout halts.

    Args:
        tracks: the rollouts, those of newer releases first.
        vehicle: whom it is about.

    Returns:
        None where no rollout has anything for it; 0 where it was in before.
    """
    for track in tracks:
        if not vehicle.is_of(track.audience):
            continue
        outcome = vehicle.outcomes.get(track.counter)
        if outcome is None:
            stage = 0
            if track.state in MOVING:
                stage = reached(track.policy, track.begun, track.salt, vehicle.name, vehicle.labels)
            if stage:
                return track, stage
        elif track.state not in TAKEN_BACK and (track.state is not RolloutState.HALTED or outcome in HAS_IT):
            return track, 0
    return None, 0


def takes_everyone(policy: RolloutConfig) -> bool:
    """Say whether the last stages leave nobody out."""
    return not policy.labels and any(stage.percent == 100 and not stage.labels for stage in policy.stages)


def at_once(policy: RolloutConfig) -> bool:
    """Say whether a release is everyone's as soon as it is there."""
    first = policy.stages[0]
    is_whole = first.percent == 100 and not first.labels and not first.approval
    return policy.automatic and not policy.labels and is_whole


def meets(one: RolloutConfig, other: RolloutConfig) -> bool:
    """Say whether a vehicle can be in the cohorts of both."""
    return all(other.labels.get(key, value) == value for key, value in one.labels.items())


def decide(policy: RolloutConfig, progress: Progress, figures: Figures) -> Decision:
    """What comes next. Only a rollout that runs goes on by itself, and one that is done may still be halted.

    A share above its limit halts it at once where chance does not explain it. Where chance may, a stage that
    is over is held for a person, or goes on, as `policy.when_unsure` says.
    """
    breach = None if progress.state not in MOVING else breach_of(policy.thresholds, figures)
    if breach is not None:
        return Halt(breach)
    if progress.state is not RolloutState.RUNNING:
        return Wait(f"it is {progress.state.value}")
    following = policy.stages[progress.begun] if progress.begun < len(policy.stages) else None
    approved = following is not None and progress.approved > progress.begun
    if progress.begun and not approved:
        unready = _unready(policy, policy.stages[progress.begun - 1], progress, figures)
        if unready is not None:
            return unready
    if following is None:
        return Finish()
    if following.approval and not approved:
        return Wait(f"stage {following.name!r} begins when a person approves it", needs_person=True)
    return Begin(progress.begun + 1)


def _unready(policy: RolloutConfig, stage: StageConfig, progress: Progress, figures: Figures) -> Wait | None:
    """Why a stage is not over yet."""
    left_s = stage.wait_s - progress.stage_age_s
    if left_s > 0:
        return Wait(f"stage {stage.name!r} lasts {left_s:.0f} s longer")
    wanted = max(min(stage.min_reports, figures.members), math.ceil(stage.min_share * figures.members))
    if figures.ended < wanted:
        return Wait(f"stage {stage.name!r} has {figures.ended} reports, {wanted} are wanted")
    over = over_limit(policy.thresholds, figures)
    if over and policy.when_unsure == "hold":
        return Wait(f"not certain: {'; '.join(over)}. Approve it, or halt it", needs_person=True)
    return None


def breach_of(limits: ThresholdsConfig, figures: Figures) -> str | None:
    """The limit that is exceeded beyond what chance explains, with its figures; None: none is.

    Failures and rollbacks are held against the share that is allowed; what moves both ways by itself
    (latency, drift) must have moved up on more vehicles than down.
    """
    enough = 1 / (1 - limits.confidence)
    for name, count, limit, opposite in _judged(limits, figures):
        if count.of < limits.min_reports or count.share <= limit:
            continue
        evidence = (
            evidence_against(count.hits, count.of, limit)
            if opposite is None
            else evidence_against(count.hits, count.hits + opposite.hits, 0.5)
        )
        if evidence >= enough:
            other = "" if opposite is None else f", {opposite.hits} the other way"
            return f"{_said(name, count, limit)}{other}; {limits.confidence:.0%} sure"
    return None


def over_limit(limits: ThresholdsConfig, figures: Figures) -> list[str]:
    """Each share that is above its limit, whether or not chance explains it; for people."""
    return [
        _said(name, count, limit)
        for name, count, limit, opposite in _judged(limits, figures)
        if count.share > limit and (opposite is None or count.hits > opposite.hits)
    ]


def _judged(limits: ThresholdsConfig, figures: Figures) -> Sequence[tuple[str, Count, float, Count | None]]:
    return (
        ("failed", figures.failed, limits.max_failure_share, None),
        ("rolled back", figures.rolled_back, limits.max_rollback_share, None),
        ("show older detections", figures.slower, limits.max_slower_share, figures.faster),
        ("have more drift alarms", figures.more_drift, limits.max_drift_share, figures.less_drift),
    )


def _said(name: str, count: Count, limit: float) -> str:
    return f"{count.hits} of {count.of} vehicles {name} ({count.share:.1%}, allowed {limit:.1%})"
