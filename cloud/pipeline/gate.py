"""The release gate: what a candidate must show against the champion, and what it showed. Rules alone.

Each rule bounds the end of an interval, not the figure itself, so that a small holdout makes a verdict
inconclusive and never a release. How small a difference the holdout can show at all is told first. To show
that nothing got worse by a margin is a non-inferiority test; one-sided bounds of 97.5 % are its custom
(ICH E9, Statistical Principles for Clinical Trials, 1998, sections 3.3.2 and 5.5).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import NormalDist
from typing import Any

from cloud.config import GateConfig, GateRuleConfig
from cloud.pipeline.gate_slices import OVERALL, SliceFigures
from cloud.store.states import VerdictKind

NOT_WORSE, BETTER, NO_REGRESSION = "not worse", "better", "no regression"
_DEMANDS = {"not_worse": NOT_WORSE, "better": BETTER, "no_regression": NO_REGRESSION}


@dataclass(frozen=True, slots=True)
class Demand:
    """What one rule asks of one slice.

    Attributes:
        rule: NOT_WORSE, BETTER or NO_REGRESSION.
        slice: its name.
        bound: of the difference in mAP50.
        confidence: one-sided, of the interval's end that is held against the bound.
    """

    rule: str
    slice: str
    bound: float
    confidence: float


@dataclass(frozen=True, slots=True)
class RuleResult:
    """One rule: what it demands of which slice, and what came of it.

    Attributes:
        slice: of the holdout; of the rules that are about the machine, or about small changes of pictures:
            what is measured.
        unit: of the bound.
    """

    rule: str
    slice: str
    bound: float
    verdict: VerdictKind
    why: str
    unit: str = "mAP50"

    def to_json(self) -> dict[str, Any]:
        """Give JSON-able values."""
        return {**asdict(self), "verdict": self.verdict.value}


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict, with all that it is made of.

    Attributes:
        further: what else was measured, JSON-able, by name: power, hardware, behaviour.
    """

    verdict: VerdictKind
    rules: tuple[RuleResult, ...]
    slices: tuple[SliceFigures, ...]
    targets: tuple[str, ...]
    further: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Give JSON-able values."""
        return {
            "verdict": self.verdict.value,
            "targets": list(self.targets),
            **self.further,
            "slices": [figures.to_json() for figures in self.slices],
            "rules": [result.to_json() for result in self.rules],
        }


def demands_of(gate: GateConfig, figures: Sequence[SliceFigures], targets: Sequence[str]) -> list[Demand]:
    """Say what the configured rules ask of these slices.

    A slice with too little to be judged is left out, unless it is the whole, a target, or named by a rule: no
    release without them. The slices of all `no_regression` rules share their chance of an unjust refusal
    (Bonferroni), so that it does not grow with the number of slices.

    Args:
        gate: the rules.
        figures: of the whole and of each slice.
        targets: names of slices.
    """
    asked = [
        (rule, name)
        for rule in gate.rules
        if rule.slices != "others"
        for name in _named(rule, gate, figures, targets)
    ]
    taken = {name for _, name in asked}
    rest = [each.name for each in figures if each.name not in taken and not each.too_little]
    asked += [(rule, name) for rule in gate.rules if rule.slices == "others" for name in rest]
    guards = max(1, sum(rule.demand == "no_regression" for rule, _ in asked))
    return [_demand(rule, name, gate, guards) for rule, name in asked]


def _named(
    rule: GateRuleConfig, gate: GateConfig, figures: Sequence[SliceFigures], targets: Sequence[str]
) -> list[str]:
    if rule.slices == "overall":
        return [OVERALL]
    if rule.slices == "target":
        return list(targets)
    kind = gate.slice_by if rule.slices == "slice_by" else rule.slices
    if rule.slices == "slice_by" or kind in (gate.slice_by, *gate.slices):
        return [
            each.name
            for each in figures
            if each.kind == kind and each.name not in targets and not each.too_little
        ]
    return [kind]


def _demand(rule: GateRuleConfig, name: str, gate: GateConfig, guards: int) -> Demand:
    if rule.demand == "better":
        return Demand(BETTER, name, rule.margin or 0.0, gate.confidence)
    bound = -(gate.margin if rule.margin is None else rule.margin)
    confidence = gate.confidence if rule.demand == "not_worse" else 1 - (1 - gate.confidence) / guards
    return Demand(_DEMANDS[rule.demand], name, bound, confidence)


def judge(
    figures: Sequence[SliceFigures],
    targets: Sequence[str],
    gate: GateConfig,
    others: Sequence[RuleResult] = (),
    further: Mapping[str, Any] | None = None,
) -> Judgement:
    """Give the verdict.

    One rule that fails makes the whole fail; else one that is inconclusive makes it inconclusive. Where no
    rule asks that anything be better, nothing is released.

    Args:
        figures: of the whole and of each slice.
        targets: names of slices.
        gate: the rules.
        others: results of rules that are not about slices; they count like those that are.
        further: for the record, see `Judgement`.
    """
    by_name = {each.name: each for each in figures}
    demands = demands_of(gate, figures, targets)
    results = [decide(demand, by_name.get(demand.slice)) for demand in demands]
    if not any(demand.rule == BETTER for demand in demands):
        why = "no slice is named that must be better"
        results.append(RuleResult(BETTER, "", 0.0, VerdictKind.INCONCLUSIVE, why))
    results += others
    verdict = worst(result.verdict for result in results)
    return Judgement(verdict, tuple(results), tuple(figures), tuple(targets), further or {})


def decide(demand: Demand, figures: SliceFigures | None) -> RuleResult:
    """Hold one slice's interval against one demand; a slice that is not there shows nothing."""
    missing = "the holdout has no such slice" if figures is None else figures.too_little
    if figures is None or figures.low is None or figures.high is None:
        if demand.rule == NO_REGRESSION:  # which is never inconclusive, and a misspelt name shall be seen
            return _result(demand, VerdictKind.PASS, f"not judged: {missing}")
        return _result(demand, VerdictKind.INCONCLUSIVE, missing)
    if demand.rule == NO_REGRESSION:
        return _no_regression(demand, figures)
    low, high, bound = figures.low, figures.high, demand.bound
    if low > bound:
        better = demand.rule == BETTER
        why = f"better by {low:.4f} at least" if better else f"worse by {max(-low, 0):.4f} at most"
        return _result(demand, VerdictKind.PASS, why)
    if high < bound:
        why = f"worse by {-high:.4f} at least" if high < 0 else f"better by {high:.4f} at most"
        return _result(demand, VerdictKind.FAIL, why)
    inside = "0" if bound == 0 else f"{bound:+.4f}"
    return _result(demand, VerdictKind.INCONCLUSIVE, f"{low:+.4f} to {high:+.4f} has {inside} in it")


def _no_regression(demand: Demand, figures: SliceFigures) -> RuleResult:
    """The interval's upper end by the normal distribution: resamples do not reach so far into the tail."""
    assert figures.difference is not None and figures.spread is not None
    high = figures.difference + NormalDist().inv_cdf(demand.confidence) * figures.spread
    if high < demand.bound:
        return _result(demand, VerdictKind.FAIL, f"worse by {-high:.4f} at least")
    return _result(
        demand, VerdictKind.PASS, f"{figures.difference:+.4f}, not shown to be worse by the margin"
    )


def _result(demand: Demand, verdict: VerdictKind, why: str) -> RuleResult:
    return RuleResult(demand.rule, demand.slice, demand.bound, verdict, why)


def worst(verdicts: Iterable[VerdictKind]) -> VerdictKind:
    """One that fails makes the whole fail; else one that is inconclusive makes it inconclusive."""
    found = set(verdicts)
    for kind in (VerdictKind.FAIL, VerdictKind.INCONCLUSIVE):
        if kind in found:
            return kind
    return VerdictKind.PASS
