"""What children print, read: the daemon's log lines and the pipeline's events, and what to tell of them."""

from __future__ import annotations

import json
from typing import Any

from cloud.pipeline.training import EpochReport
from tools.demo.story import Story

BASELINE = "baseline"  # the stage's name of `tools.demo.fine_tune`

_STAGE_WORDS = {
    "label": "labels the samples",
    "purity": "checks them",
    "dataset": "builds the next version of the data",
    "train": "trains",
    "validate": "holds the candidate against the champion",
    "deploy": "releases it, if it passed",
}
# Of the daemon's events, those that people are told, by the fields of the line.
_VEHICLE_WORDS = {
    "update_staged": "vehicle: the new model is verified and staged",
    "update_confirmed": "vehicle: the new model has passed its probation",
    "update_refused": "vehicle: update refused: {message}",
    "update_reverted": "vehicle: {message}",
}


def parse(line: str) -> dict[str, Any] | None:
    """Read a JSON line; None for any other."""
    if not line.startswith("{"):
        return None
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def hear_vehicle(story: Story, line: str) -> None:
    """Take in a line of the daemon's log."""
    found = parse(line)
    event = found.get("event") if found else None
    if found is None or not event:
        return
    with story.changed:
        counted = story.vehicle_log.get(event, {}).get("count", 0)
        story.vehicle_log[event] = {**found, "count": counted + 1}
        story.changed.notify_all()
    text = _vehicle_text(event, found)
    if text:
        story.say(text)


def hear_pipeline(story: Story, line: str) -> None:
    """Take in a line of `cloud run --events -`."""
    found = parse(line)
    if found is None or "kind" not in found:
        return
    stage, kind, facts = found.get("stage", ""), found["kind"], found.get("facts", {})
    with story.changed:
        if kind == "begun":
            story.stage, story.stage_facts = stage, {}
        elif kind == "progress":
            story.stage_facts = facts
            if "loss" in facts:
                epochs = story.fine_tuning if stage == BASELINE else story.training
                fields = EpochReport.__dataclass_fields__
                epochs.append(EpochReport(**{name: facts[name] for name in fields if name in facts}))
        elif kind == "done":
            story.stages[stage] = facts
        elif kind == "ended":
            story.stage, story.retrain = "", facts
        story.changed.notify_all()
    text = _pipeline_text(stage, kind, facts)
    if text:
        story.say(text)


def _vehicle_text(event: str, line: dict[str, Any]) -> str:
    if event == "drift_verdict":
        return f"vehicle: drift {line.get('verdict')} at {line.get('time_s', 0):.0f} s of drive"
    if event == "model_swapped":
        gap_ms, exchange_us = line["gap_ns"] / 1e6, line["exchange_ns"] / 1e3
        return (
            f"vehicle: model {line['new'][:12]} answers from frame {line['frame_after'][2]} on, "
            f"{gap_ms:.1f} ms after frame {line['frame_before'][2]} (exchange {exchange_us:.0f} us)"
        )
    return _VEHICLE_WORDS.get(event, "").format_map({"message": line.get("message", "")})


def _pipeline_text(stage: str, kind: str, facts: dict[str, Any]) -> str:
    if kind == "started":
        return f"cloud: retrain begins: {facts.get('why', '')}"
    if kind == "begun":
        return f"cloud: {_STAGE_WORDS.get(stage, stage)}"
    if kind == "progress" and "loss" in facts:
        who = BASELINE if stage == BASELINE else "cloud"
        return (
            f"{who}: epoch {facts['epoch']}/{facts['epochs']}  loss {facts['loss']:.3f}"
            f"  mAP50 {facts['map50']:.3f}  about {facts['remaining_s']:.0f} s left"
        )
    if kind in ("failed", "waiting"):
        return f"cloud: {stage} {kind}: {facts.get('detail', '')}"
    if kind == "done" and stage == "validate":
        return f"cloud: the gate's verdict: {facts.get('verdict')}"
    if kind == "ended":
        return f"cloud: retrain {facts.get('state')}: {facts.get('why', '')}"
    return ""
