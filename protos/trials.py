"""How a shadow or a probation is doing, in words: for the vehicle's own tools and for the cloud's."""

from __future__ import annotations

from protos.traffic_vision.v1 import common_pb2
from protos.words import word

_KINDS = {common_pb2.ProbationReport: "probation", common_pb2.ShadowReport: "shadow"}


def trial_words(report: common_pb2.ProbationReport | common_pb2.ShadowReport) -> str:
    """One short line: how far it is, and how it ended."""
    line = f"{_KINDS[type(report)]} {report.drive_s:.0f} of {report.needed_drive_s:.0f} s"
    if isinstance(report, common_pb2.ProbationReport):
        line += f", {report.frames:,} of {report.needed_frames:,} frames"
    else:
        line += f", {report.compared_frames:,} frames compared"
        if report.agreement:
            line += f", F1 {report.agreement[0].f1_share:.2f}"
    if report.outcome != common_pb2.TRIAL_OUTCOME_UNDER_WAY:
        line += f": {word(common_pb2.TrialOutcome, 'TRIAL_OUTCOME_', report.outcome).replace('_', ' ')}"
    return line


def trial_lines(state: common_pb2.ModelState) -> list[str]:
    """Everything that a model's state says of its trials, for a terminal; empty where it says nothing."""
    lines = []
    if state.HasField("shadow"):
        lines += [trial_words(state.shadow), *_shadow(state.shadow)]
    if state.HasField("probation"):
        lines += [trial_words(state.probation), *_figures(state.probation)]
    return lines


def _figures(report: common_pb2.ProbationReport) -> list[str]:
    lines = []
    for figure in report.figures:
        bounds = [f"at least {figure.least:g}"] if figure.HasField("least") else []
        bounds += [f"at most {figure.most:g}"] if figure.HasField("most") else []
        where = f" ({figure.context})" if figure.context else ""
        broken = ": BROKEN" if figure.broken else ""
        lines.append(
            f"  {figure.name}{where} {figure.value:.4g} of {figure.samples:,},"
            f" promised {' and '.join(bounds)}{broken}"
        )
    return lines + ([f"  {report.detail}"] if report.detail else [])


def _shadow(report: common_pb2.ShadowReport) -> list[str]:
    lines = [
        f"  CPU {report.cpu_share:.1%} of a core, at most {report.most_cpu_share:.0%};"
        f" left out: {report.over_budget_frames:,} over budget, {report.busy_frames:,} busy;"
        f" {report.error_frames:,} errors; {report.inference_p99_ms:.1f} ms at p99;"
        f" {report.resident_bytes / 1e6:.0f} MB"
    ]
    for one in report.agreement:
        lines.append(
            f"  {one.class_name or 'all classes'}: F1 {one.f1_share:.2f}, {one.candidate_detections:,}"
            f" detections against {one.active_detections:,}, scores {one.mean_difference_score:+.3f}"
        )
    for drift in report.drift:
        verdict = word(common_pb2.DriftVerdict, "DRIFT_VERDICT_", drift.verdict)
        lines.append(f"  camera {drift.camera}: its own drift {verdict} {drift.explanation}".rstrip())
    return lines + ([f"  {report.detail}"] if report.detail else [])
