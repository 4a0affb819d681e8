"""The states that rows go through, and the gate's verdicts; the values are what the database holds."""

from __future__ import annotations

import enum


class SampleState(str, enum.Enum):
    """How far a sample has come."""

    STORED = "stored"
    LABELED = "labeled"
    EXCLUDED = "excluded"  # by the purity check, see `state_detail`
    FORGOTTEN = "forgotten"  # deleted on purpose: a tombstone that keeps its id from coming back


class RunState(str, enum.Enum):
    """How a retrain ended, or that it has not."""

    RUNNING = "running"
    RELEASED = "released"
    REJECTED = "rejected"  # by the gate: fail or inconclusive
    FAILED = "failed"


class VerdictKind(str, enum.Enum):
    """What the gate says. Inconclusive is a verdict of its own and never releases."""

    PASS = "pass"  # noqa: S105 - a verdict, no password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


class StageState(str, enum.Enum):
    """Where a stage is. A record left at running by a process that died is taken up again."""

    RUNNING = "running"
    WAITING = "waiting"  # for someone else; nothing runs, and it goes on where it is when it is run again
    DONE = "done"
    FAILED = "failed"


class RolloutState(str, enum.Enum):
    """Where a rollout is. By itself, only a running one goes on, and that or one that is done is halted."""

    RUNNING = "running"
    PAUSED = "paused"  # nobody new gets the release
    HALTED = "halted"  # nor do those that were to get it and do not have it yet
    RETURNING = "returning"  # halted, and to be taken back from those that have it: not signed yet
    RETURNED = "returned"  # a newer release brings the model before it
    DONE = "done"  # all stages are over: who comes later gets it too
    SUPERSEDED = "superseded"  # a newer release's rollout began before it was done


class Outcome(str, enum.Enum):
    """How a release fares on a vehicle that was assigned it."""

    ASSIGNED = "assigned"
    BEGUN = "begun"  # it is being fetched, checked, or runs in the shadow
    RUNNING = "running"  # on probation
    CONFIRMED = "confirmed"
    FAILED = "failed"  # refused, or not to be installed
    ROLLED_BACK = "rolled back"  # ran, confirmed or not, and an older model is back
    WITHDRAWN = "withdrawn"  # ran, and was taken back by the owner
