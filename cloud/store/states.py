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

    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


class StageState(str, enum.Enum):
    """Where a stage is. A record left at running by a process that died is taken up again."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
