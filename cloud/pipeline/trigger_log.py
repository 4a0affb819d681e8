"""The trigger's log: each decision with its reasons, kept for people.

Whoever watches looks every few seconds; the same "not yet" again and again is one entry, with its first and
last time. It is another one as soon as something else is lacking, and after each retrain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from cloud.config import TriggerConfig
from cloud.pipeline.trigger import BY_HAND, Decision
from cloud.store import Store
from cloud.store.columns import utc_now
from cloud.store.decisions import TriggerDecision

# Of entries without a retrain; what began one stays.
KEPT = 2000

_OF_CHECKS = ("by", "why", "checks")


def note_waiting(store: Store, decision: Decision, rule: TriggerConfig, now: datetime | None = None) -> None:
    """Note that no retrain begins; see the module's text for when it is an entry of its own."""
    now = now or utc_now()
    lacking = _lacking([{"name": check.name, "holds": check.holds} for check in decision.checks])
    document, rule_document = decision.to_json(), rule.model_dump(mode="json")
    with store.writing() as session:
        newest = _newest(session)
        same = newest is not None and newest.run_id is None and newest.lacking == lacking
        if newest is None or not same or newest.rule != rule_document:
            newest = TriggerDecision(at=now, times=0, by=decision.by, lacking=lacking, rule=rule_document)
            session.add(newest)
        newest.last, newest.times, newest.why = now, newest.times + 1, decision.why
        newest.checks, newest.situation = document["checks"], decision.situation.to_json()
        session.flush()
        _forget_oldest(session)


def note_begun(session: Session, run_id: str, trigger: Mapping[str, Any], rule: TriggerConfig) -> None:
    """Note, in the transaction that begins it, what began a retrain.

    Args:
        session: of `Store.writing`.
        run_id: of the retrain.
        trigger: a decision's JSON-able values, or `by` and `why` alone.
        rule: the configuration.
    """
    checks = list(trigger.get("checks", ()))
    session.add(
        TriggerDecision(
            by=str(trigger.get("by", BY_HAND)),
            why=str(trigger.get("why", "")),
            lacking=_lacking(checks),
            checks=checks,
            situation={name: value for name, value in trigger.items() if name not in _OF_CHECKS},
            rule=rule.model_dump(mode="json"),
            run_id=run_id,
        )
    )


def read_log(session: Session, limit: int) -> Sequence[TriggerDecision]:
    """Give the newest entries, the oldest of them first."""
    query = select(TriggerDecision).order_by(TriggerDecision.id.desc()).limit(limit)
    return session.scalars(query).all()[::-1]


def to_json(entry: TriggerDecision) -> dict[str, Any]:
    """Give an entry as JSON-able values; times as ISO 8601, UTC."""
    return {
        "at": entry.at.isoformat(timespec="seconds"),
        "last": entry.last.isoformat(timespec="seconds"),
        "times": entry.times,
        "by": entry.by,
        "run": entry.run_id,
        "why": entry.why,
        "lacking": entry.lacking,
        "checks": entry.checks,
        "situation": entry.situation,
        "rule": entry.rule,
    }


def to_text(entry: TriggerDecision) -> str:
    """Give an entry as a line for a terminal."""
    when = f"{entry.at:%Y-%m-%d %H:%M:%S}"
    if entry.times > 1:
        when += f" to {entry.last:%Y-%m-%d %H:%M:%S} ({entry.times} times)"
    return f"{when}  {entry.run_id or 'no retrain'}: {entry.why}"


def explain(decision: Decision, running: str | None) -> str:
    """Lay a decision out for a terminal, condition by condition.

    Args:
        decision: of this moment.
        running: the retrain that is running, which keeps any other from beginning; None: none is.
    """
    lines = [f"{running} is running: no other begins before it ends"] if running else []
    word = "a retrain would begin now" if decision.begin and not running else "no retrain begins now"
    lines.append(f"{word}: {decision.why}")
    lines += [f"  {'yes' if check.holds else 'no':<4}{check.name}: {check.why}" for check in decision.checks]
    return "\n".join(lines)


def _newest(session: Session) -> TriggerDecision | None:
    return session.scalars(select(TriggerDecision).order_by(TriggerDecision.id.desc()).limit(1)).first()


def _lacking(checks: Sequence[Mapping[str, Any]]) -> list[str]:
    return [str(check["name"]) for check in checks if not check["holds"]]


def _forget_oldest(session: Session) -> None:
    waiting = TriggerDecision.run_id.is_(None)
    query = (
        select(TriggerDecision.id).where(waiting).order_by(TriggerDecision.id.desc()).offset(KEPT).limit(1)
    )
    oldest = session.scalar(query)
    if oldest is not None:
        session.execute(delete(TriggerDecision).where(waiting, TriggerDecision.id <= oldest))
