"""When a retrain begins by itself: rules alone. They are data (`[trigger]`), and each decision says why."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any

from cloud.config import TriggerConfig
from cloud.config.schedule import parse_schedule
from cloud.pipeline.agreement import Alarm, closest

DRIFT = "drift"
BY_RULE, BY_SCHEDULE, BY_HAND = "rule", "schedule", "hand"


@dataclass(frozen=True, slots=True)
class Situation:
    """What the decision is made of.

    Attributes:
        samples: that no dataset has.
        drift_samples: of them, those that were taken because of drift.
        vehicles: that they are from.
        since_last_s: since the last retrain began, None where there was none.
        oldest_s: since the first of the samples came, None without any.
        alarms: of the last days, what each vehicle says has changed.
        retrains: that began in the days of the budget.
        hours: that their stages took.
    """

    samples: int
    drift_samples: int
    vehicles: int
    since_last_s: float | None
    oldest_s: float | None = None
    alarms: tuple[Alarm, ...] = ()
    retrains: int = 0
    hours: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Give JSON-able values, without the alarms: what counts of them is in a decision's checks."""
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name != "alarms"}


@dataclass(frozen=True, slots=True)
class Check:
    """One condition of the rule.

    Attributes:
        name: of it, the same at each look.
        holds: whether it does.
        why: its figures, for people.
    """

    name: str
    holds: bool
    why: str


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a retrain is to begin, and why or why not, for people.

    Attributes:
        by: what begins it, or would have: the rule or the schedule.
        checks: all conditions, those that hold too.
    """

    begin: bool
    why: str
    situation: Situation
    by: str = BY_RULE
    checks: tuple[Check, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Give JSON-able values: a run's trigger."""
        return {
            "by": self.by,
            "why": self.why,
            **self.situation.to_json(),
            "checks": [asdict(check) for check in self.checks],
        }

    def by_hand(self) -> Decision:
        """Give the decision that somebody made in the place of the rule."""
        why = f"by hand; the rule says {self.why}"
        return Decision(True, why, self.situation, BY_HAND, self.checks)


def decide(situation: Situation, rule: TriggerConfig, now: datetime | None = None) -> Decision:
    """Hold the situation against the rule.

    Args:
        situation: what there is.
        rule: what must hold.
        now: for the schedule; None: there is none to be asked.
    """
    budget = _budget(situation, rule)
    checks = [*_numbers(situation, rule), *_cool_down(situation, rule), *budget]
    lacking = [check.why for check in checks if not check.holds]
    scheduled = _schedule(situation, rule, now)
    everything = (*checks, *scheduled)
    if not lacking:
        return Decision(True, _enough(situation), situation, BY_RULE, everything)
    if scheduled and all(check.holds for check in (*scheduled, *budget)):
        why = f"the schedule, {rule.schedule}: {situation.samples} new samples"
        return Decision(True, why, situation, BY_SCHEDULE, everything)
    return Decision(False, f"not yet: {', '.join(lacking)}", situation, BY_RULE, everything)


def _enough(situation: Situation) -> str:
    there = f"{situation.samples} new samples of {situation.vehicles} vehicles"
    return f"{there}, {situation.drift_samples} of them of drift: enough"


def _numbers(situation: Situation, rule: TriggerConfig) -> list[Check]:
    checks = [
        Check(
            "samples",
            situation.samples >= rule.min_samples,
            f"{situation.samples} new samples of {rule.min_samples}",
        ),
    ]
    if rule.min_drift_samples:
        checks.append(
            Check(
                "drift samples",
                situation.drift_samples >= rule.min_drift_samples,
                f"{situation.drift_samples} of {rule.min_drift_samples} samples of drift",
            )
        )
    if rule.min_vehicles:
        agreed = closest(situation.alarms, rule.min_vehicles, rule.min_features, rule.min_samples_per_vehicle)
        count = len(agreed.vehicles) if agreed else 0
        words = f"{count} of {rule.min_vehicles} vehicles agree"
        checks.append(
            Check(
                "agreement",
                count >= rule.min_vehicles,
                f"{words} ({agreed.to_text()})" if agreed else words,
            )
        )
    return checks


def _cool_down(situation: Situation, rule: TriggerConfig) -> list[Check]:
    since = situation.since_last_s
    if since is None:
        return []
    why = f"{since:.0f} s of {rule.cool_down_s:g} s since the last retrain began"
    return [Check("cool-down", since >= rule.cool_down_s, why)]


def _budget(situation: Situation, rule: TriggerConfig) -> list[Check]:
    checks = []
    within = f"of {rule.budget_days:g} days"
    if rule.budget_retrains is not None:
        why = f"{situation.retrains} of the {rule.budget_retrains} retrains {within} are used"
        checks.append(Check("budget of retrains", situation.retrains < rule.budget_retrains, why))
    if rule.budget_hours is not None:
        why = f"{situation.hours:.1f} of the {rule.budget_hours:g} hours {within} are used"
        checks.append(Check("budget of hours", situation.hours < rule.budget_hours, why))
    return checks


def _schedule(situation: Situation, rule: TriggerConfig, now: datetime | None) -> list[Check]:
    """Due: since its last moment no retrain began, and the samples were there by then."""
    if rule.schedule is None or now is None:
        return []
    schedule = parse_schedule(rule.schedule)
    ago_s = (now - schedule.latest(now)).total_seconds()
    begun = situation.since_last_s is not None and situation.since_last_s <= ago_s
    waited = situation.oldest_s is not None and situation.oldest_s >= ago_s
    enough = situation.samples >= rule.schedule_min_samples
    why = f"{situation.samples} new samples of {rule.schedule_min_samples}"
    if begun:
        why = "a retrain has begun since"
    elif enough and not waited:
        why = f"the {situation.samples} new samples came after it"
    next_at = f"{schedule.next(now):%Y-%m-%d %H:%M}"
    return [Check("schedule", enough and waited and not begun, f"{rule.schedule}: {why}; next {next_at} UTC")]
