"""What the check finds, and what the configured rules make of it: rules alone."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cloud.config import PurityRules


class Kind(str, enum.Enum):
    """What can be wrong. The words are the keys of `[purity.rules]`, and of the report; they never change."""

    PICTURE = "unreadable_picture"
    SCHEMA = "bad_label"
    CLASS = "unknown_class"
    BOX = "box_out_of_bounds"
    SIZE = "box_size"
    BLUR = "blurred"
    EXPOSURE = "badly_exposed"
    DUPLICATE = "duplicate"
    DUPLICATE_ACROSS = "duplicate_across_splits"
    DUPLICATE_KNOWN = "duplicate_of_known"
    DRIVE = "drive_across_splits"
    HOLDOUT = "drive_in_holdout"
    CLASS_BALANCE = "class_balance"
    SLICE_BALANCE = "slice_balance"
    DRIFT = "drift_from_known"
    DOUBT = "doubtful_label"
    DISAGREEMENT = "sources_disagree"


# What is counted of each kind, in the plural.
UNITS: Mapping[Kind, str] = {
    Kind.PICTURE: "pictures",
    Kind.SCHEMA: "labels",
    Kind.CLASS: "boxes",
    Kind.BOX: "boxes",
    Kind.SIZE: "boxes",
    Kind.BLUR: "pictures",
    Kind.EXPOSURE: "pictures",
    Kind.DUPLICATE: "pictures",
    Kind.DUPLICATE_ACROSS: "pictures",
    Kind.DUPLICATE_KNOWN: "pictures",
    Kind.DRIVE: "drives",
    Kind.HOLDOUT: "pictures",
    Kind.CLASS_BALANCE: "classes",
    Kind.SLICE_BALANCE: "slices",
    Kind.DRIFT: "features",
    Kind.DOUBT: "boxes",
    Kind.DISAGREEMENT: "boxes",
}

# Finds of a picture, which alone can cost that picture its place in the training.
OF_PICTURES = frozenset(
    kind
    for kind, unit in UNITS.items()
    if unit in ("pictures", "boxes") and kind not in (Kind.DOUBT, Kind.DISAGREEMENT)
)


class Verdict(str, enum.Enum):
    """The worst of all rules."""

    PASS = "pass"  # noqa: S105 - a verdict, no password
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found.

    Attributes:
        kind: of what.
        where: names of the pictures that it is about, the one that would go first; empty for what is about
            the whole (a drive, a class, a feature: `what` names it).
        what: for people, with figures.
        reason: the same text for all of its kind, to count by.
        box: place of the box in the first picture's labels.
        corners: x1, y1, x2, y2, pixels, of what is in no label: a missing box.
        score: how bad; the higher the worse. Comparable within a kind.
    """

    kind: Kind
    where: tuple[str, ...]
    what: str
    reason: str
    box: int | None = None
    corners: tuple[float, float, float, float] | None = None
    score: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON-able values."""
        line = {"kind": self.kind.value, "where": list(self.where), "what": self.what, "reason": self.reason}
        more: dict[str, Any] = {"box": self.box} if self.box is not None else {}
        if self.corners is not None:
            more["corners"] = [round(value, 1) for value in self.corners]
        return {**line, **more, "score": round(self.score, 6)}


@dataclass(frozen=True, slots=True)
class Tally:
    """How much of one kind there is, and what its rule says.

    Attributes:
        found, of: so many of so many, in `unit`.
        verdict: the rule's.
        refuses: pictures with it are left out.
        note: why it was not looked for; empty if it was.
    """

    kind: Kind
    found: int
    of: int
    unit: str
    verdict: Verdict
    refuses: bool
    note: str = ""

    @property
    def share(self) -> float:
        """Of what was looked at."""
        return self.found / self.of if self.of else 0.0

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON-able values."""
        return {
            "kind": self.kind.value,
            "found": self.found,
            "of": self.of,
            "unit": self.unit,
            "verdict": self.verdict.value,
            "refuses": self.refuses,
            **({"note": self.note} if self.note else {}),
        }


@dataclass(frozen=True, slots=True)
class PurityReport:
    """What came of a check.

    Attributes:
        tallies: one a kind, in their order.
        findings: all of them, by kind, the worst first.
        facts: what was looked at, and figures beside the rules (norms, balance, drift, agreement).
    """

    tallies: tuple[Tally, ...]
    findings: tuple[Finding, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        """The worst of all rules."""
        found = {tally.verdict for tally in self.tallies}
        return next((one for one in (Verdict.FAIL, Verdict.WARN) if one in found), Verdict.PASS)

    def of_kind(self, kind: Kind) -> list[Finding]:
        """Give the findings of one kind, the worst first."""
        return [finding for finding in self.findings if finding.kind == kind]

    def refused(self) -> dict[str, str]:
        """Give the pictures that must not be trained on, each with the first reason."""
        refusing = {tally.kind for tally in self.tallies if tally.refuses} & OF_PICTURES
        reasons: dict[str, str] = {}
        for finding in self.findings:
            if finding.kind in refusing:
                reasons.setdefault(finding.where[0], finding.reason)
        return reasons

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON-able values."""
        return {
            "verdict": self.verdict.value,
            "tallies": [tally.to_json() for tally in self.tallies],
            "refused": self.refused(),
            "facts": dict(self.facts),
            "findings": [finding.to_json() for finding in self.findings],
        }


def judge(
    findings: Sequence[Finding],
    looked_at: Mapping[Kind, int],
    rules: PurityRules,
    notes: Mapping[Kind, str] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> PurityReport:
    """Hold findings against the rules.

    Args:
        findings: in any order.
        looked_at: how many pictures, boxes... of each kind that was looked for.
        rules: as configured.
        notes: why a kind was not looked for.
        facts: goes into the report as it is.
    """
    order = {kind: number for number, kind in enumerate(Kind)}
    ranked = sorted(findings, key=lambda one: (order[one.kind], -one.score, one.where, one.box or 0))
    tallies = []
    for kind in Kind:
        rule = getattr(rules, kind.value)
        # Of one box, or picture, several things of a kind may be wrong.
        count = len({_subject(finding) for finding in ranked if finding.kind is kind})
        of = max(looked_at.get(kind, 0), count)
        share = count / of if of else 0.0
        verdict = Verdict.PASS
        if share > rule.fail_above:
            verdict = Verdict.FAIL
        elif share > rule.warn_above:
            verdict = Verdict.WARN
        note = "" if kind in looked_at else (notes or {}).get(kind, "not looked for")
        tallies.append(Tally(kind, count, of, UNITS[kind], verdict, rule.refuse, note))
    return PurityReport(tuple(tallies), tuple(ranked), facts or {})


def _subject(finding: Finding) -> tuple[object, ...]:
    if not finding.where:
        return (finding.what,)
    if UNITS[finding.kind] in ("boxes", "labels"):
        # What was cut or left out when the batch was read has no place any more.
        place = finding.box if finding.box is not None else finding.corners or finding.what
        return finding.where[0], place
    return (finding.where[0],)
