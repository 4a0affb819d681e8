"""Findings as text for people, and as JSON for programs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from edge.doctor.finding import Finding, Level
from edge.redaction import redact

_MARKS = {Level.OK: "ok", Level.WARNING: "WARNING", Level.FAILURE: "FAILURE"}


def has_failed(findings: Sequence[Finding]) -> bool:
    """Whether the daemon would not do its work."""
    return any(finding.level is Level.FAILURE for finding in findings)


def as_text(findings: Sequence[Finding]) -> str:
    """A line for each, advice below it, and the sum."""
    width = max((len(finding.subject) for finding in findings), default=0) + 1
    lines = []
    for finding in findings:
        lines.append(f"{_MARKS[finding.level]:<8}{finding.subject + ':':<{width}} {finding.text}")
        if finding.advice:
            lines.append(f"{'':<8}{'':<{width}} -> {finding.advice}")
    counts = Counter(finding.level for finding in findings)
    lines.append(", ".join(f"{counts[level]} {level.value}" for level in Level))
    return redact("\n".join(lines))


def as_document(findings: Sequence[Finding]) -> str:
    """`{"failed": bool, "findings": [{"subject", "level", "text", "advice"}]}`."""
    listed = [
        {
            "subject": finding.subject,
            "level": finding.level.value,
            "text": redact(finding.text),
            "advice": redact(finding.advice),
        }
        for finding in findings
    ]
    return json.dumps({"failed": has_failed(findings), "findings": listed}, indent=1)
