"""What a holdout can show at all: how likely a truly better candidate is to be released. Rules alone.

By the normal approximation, from the spread of the difference that the resamples found: a spread falls with
the root of the number of drives. That all rules are passed together is at least the product of their chances,
since differences on slices that share pictures go up and down together, and those on others are independent
(D. Slepian, The one-sided barrier problem for Gaussian noise, Bell System Technical Journal 41, 1962).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

from cloud.pipeline.gate import BETTER, NO_REGRESSION, Demand
from cloud.pipeline.gate_slices import POWER, SliceFigures

_MOST = 1e6  # so many times the drives; beyond it no figure is given
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class RulePower:
    """One rule's.

    Attributes:
        truth: the difference in mAP50 that is assumed.
        spread: standard deviation of the difference that is seen; None: the slice has too little.
        power: share of such holdouts in which the rule is passed.
    """

    rule: str
    slice: str
    bound: float
    truth: float
    spread: float | None
    power: float


@dataclass(frozen=True, slots=True)
class PowerReport:
    """How likely a candidate is released that is better on the targets, and as good elsewhere.

    Attributes:
        effect: how much better, in mAP50.
        power: at least this share of such holdouts would release it.
        enough: it is `POWER` or more.
        drives: of the holdout.
        needed_drives: so many of the same kind would be enough; None: no number would, or it is not known.
        rules: each one's part.
    """

    effect: float
    power: float
    enough: bool
    drives: int
    needed_drives: int | None
    rules: tuple[RulePower, ...]

    def to_json(self) -> dict[str, Any]:
        """Give JSON-able values."""
        return {**asdict(self), "rules": [asdict(rule) for rule in self.rules]}


def power_of(
    demands: Sequence[Demand], figures: Sequence[SliceFigures], targets: Sequence[str], effect: float
) -> PowerReport:
    """Tell what a holdout can show.

    Args:
        demands: of the rules; see `cloud.pipeline.gate.demands_of`.
        figures: of the whole (first) and of each slice.
        targets: slices that are assumed to be better.
        effect: by so much, in mAP50.
    """
    by_name = {each.name: each for each in figures}
    rules = [_rule(demand, by_name.get(demand.slice), targets, effect) for demand in demands]
    judged = any(demand.rule == BETTER for demand in demands)
    power = _joint(demands, rules, 1.0) if judged else 0.0
    drives = figures[0].drives if figures else 0
    factor = _factor(demands, rules) if judged else None
    needed = None if factor is None else max(1, math.ceil(factor * drives))
    return PowerReport(effect, power, power >= POWER, drives, needed, tuple(rules))


def _rule(demand: Demand, figures: SliceFigures | None, targets: Sequence[str], effect: float) -> RulePower:
    truth = effect if demand.slice in targets or demand.rule == BETTER else 0.0
    spread = None if figures is None else figures.spread
    power = 0.0 if spread is None else _power(demand, truth, spread)
    return RulePower(demand.rule, demand.slice, demand.bound, truth, spread, power)


def _power(demand: Demand, truth: float, spread: float) -> float:
    reach = _NORMAL.inv_cdf(demand.confidence)
    room = truth - demand.bound
    if spread == 0:
        return 1.0 if room > 0 or (demand.rule == NO_REGRESSION and room == 0) else 0.0
    return _NORMAL.cdf(room / spread + (reach if demand.rule == NO_REGRESSION else -reach))


def _joint(demands: Sequence[Demand], rules: Sequence[RulePower], factor: float) -> float:
    """At so many times the drives."""
    passed = 1.0
    for demand, rule in zip(demands, rules, strict=True):
        if rule.spread is None:
            return 0.0
        passed *= _power(demand, rule.truth, rule.spread / math.sqrt(factor))
    return passed


def _factor(demands: Sequence[Demand], rules: Sequence[RulePower]) -> float | None:
    """The least that is enough: power only rises with the number of drives where there is room at all."""
    low, high = 1 / _MOST, _MOST
    if _joint(demands, rules, high) < POWER:
        return None
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if _joint(demands, rules, middle) >= POWER else (middle, high)
    return high
