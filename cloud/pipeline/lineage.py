"""Where a model comes from: vehicle, drift event, samples, dataset version, commit, run, verdict, release."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session, selectinload

from cloud.pipeline.champion import champion_of
from cloud.pipeline.dataset_versions import FORGOTTEN
from cloud.pipeline.errors import PipelineError
from cloud.store import Store
from cloud.store.models import Candidate, Dataset, DatasetSample, DriftEvent, Release, Run, Sample, Verdict


class UnknownModelError(PipelineError):
    """No model is called so."""


_DIGEST_START = re.compile(r"[0-9a-f]{6,64}")


def lineage(store: Store, model: str) -> dict[str, Any]:
    """Trace a model back.

    Args:
        store: the cloud's.
        model: a model file, the start of its SHA-256, its version, or `champion`.

    Returns:
        JSON-able: model, releases, verdicts, run, dataset, samples (by vehicle and drift event),
        drift_events, vehicles, ancestors. What a baseline has none of is None or empty.

    Raises:
        PipelineError: no such model is known, or several are.
    """
    with store.reading() as session:
        candidate = find_model(session, model)
        run = session.get(Run, candidate.run_id) if candidate.run_id else None
        version = run.dataset_version if run else candidate.facts.get("dataset")
        dataset = session.get(Dataset, version) if version else None
        samples = _samples(session, dataset) if run and dataset else []
        events = _events(session, samples)
        return {
            "model": _model(candidate),
            "releases": [_release(release) for release in _releases(session, candidate)],
            "verdicts": [_verdict(verdict) for verdict in candidate.verdicts],
            "run": _run(run) if run else None,
            "dataset": _dataset(dataset) if dataset else None,
            "samples": _by_event(samples),
            "drift_events": [_event(event) for event in events],
            "vehicles": sorted({sample.vehicle for sample in samples}),
            "ancestors": _ancestors(session, run),
        }


def find_model(session: Session, model: str) -> Candidate:
    """Give a model: a file, the start of a SHA-256, a version, or `champion`.

    Raises:
        PipelineError: no such model is known, or several are.
    """
    if model == "champion":
        return champion_of(session)
    path = Path(model)
    if path.is_file():
        model = hashlib.sha256(path.read_bytes()).hexdigest()
    matches = [Candidate.version == model]
    if _DIGEST_START.fullmatch(model):
        matches.append(Candidate.sha256.startswith(model))
    query = select(Candidate).where(or_(*matches)).options(selectinload(Candidate.verdicts))
    found = session.scalars(query).all()
    if not found:
        raise UnknownModelError(
            f"no model {model!r} is known here: give a model file, the start of its SHA-256 (6 digits or "
            "more), its version, or champion"
        )
    if len(found) > 1:
        names = ", ".join(f"{candidate.version} ({candidate.sha256[:12]})" for candidate in found)
        raise PipelineError(f"{model!r} fits several models: {names}")
    return found[0]


def _samples(session: Session, dataset: Dataset) -> Sequence[Sample]:
    query = (
        select(Sample)
        .join(DatasetSample, DatasetSample.sample_id == Sample.id)
        .where(DatasetSample.dataset_version == dataset.version)
        .order_by(Sample.id)
    )
    return session.scalars(query).all()


def _events(session: Session, samples: Sequence[Sample]) -> list[DriftEvent]:
    wanted = {(sample.vehicle, sample.drift_event) for sample in samples if sample.drift_event}
    query = select(DriftEvent).where(DriftEvent.external_id.in_({event for _, event in wanted}))
    found = session.scalars(query.order_by(DriftEvent.id)).all()
    return [event for event in found if (event.vehicle, event.external_id) in wanted]


def _releases(session: Session, candidate: Candidate) -> Sequence[Release]:
    query = select(Release).where(Release.candidate_sha256 == candidate.sha256).order_by(Release.counter)
    return session.scalars(query).all()


def _ancestors(session: Session, run: Run | None) -> list[dict[str, Any]]:
    """The models that it was trained from, the nearest first, back to the baseline."""
    found: list[dict[str, Any]] = []
    while run is not None:
        parent = session.get_one(Candidate, run.parent_sha256)
        found.append(_model(parent))
        run = session.get(Run, parent.run_id) if parent.run_id else None
    return found


def _model(candidate: Candidate) -> dict[str, Any]:
    return {
        "sha256": candidate.sha256,
        "name": candidate.name,
        "version": candidate.version,
        "created": moment_text(candidate.created),
    }


def _release(release: Release) -> dict[str, Any]:
    return {
        "counter": release.counter,
        "created": moment_text(release.created),
        "target": release.target_path,
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "verdict": verdict.verdict.value,
        "created": moment_text(verdict.created),
        "champion": verdict.champion_sha256,
        "rules": verdict.rules,
        **verdict.scores,
    }


def _run(run: Run) -> dict[str, Any]:
    return {
        "id": run.id,
        "started": moment_text(run.started),
        "ended": moment_text(run.ended),
        "state": run.state.value,
        "trigger": run.trigger,
        "code_commit": run.code_commit,
        "mlflow_run": run.mlflow_run_id,
    }


def _dataset(dataset: Dataset) -> dict[str, Any]:
    return {
        "version": dataset.version,
        "parent": dataset.parent_version,
        "dvc_md5": dataset.dvc_md5,
        "git_commit": dataset.git_commit,
        "sha256": dataset.sha256,
        "images": dataset.images,
        "counts": dataset.facts.get("counts", {}),
        "forgotten": dataset.facts.get(FORGOTTEN, 0),
    }


def _by_event(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    groups: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[sample.vehicle, sample.drift_event].append(sample)
    return [
        {"vehicle": vehicle, "drift_event": event, "ids": [sample.external_id for sample in group]}
        for (vehicle, event), group in groups.items()
    ]


def _event(event: DriftEvent) -> dict[str, Any]:
    return {
        "id": event.external_id,
        "vehicle": event.vehicle,
        "camera": event.camera,
        "received": moment_text(event.received),
        "verdict": event.verdict,
        "kind": "" if event.kind == "unspecified" else event.kind,
        "context": event.context,
        "explanation": event.explanation,
        "features": event.features,
    }


def moment_text(moment: datetime | None) -> str | None:
    """Give a time as ISO 8601, UTC, to the second; None for none."""
    return moment.isoformat(timespec="seconds") if moment else None


def to_text(chain: dict[str, Any]) -> str:
    """Lay a lineage out for a terminal, from the vehicle to the release."""
    lines = [_words("vehicle", vehicle) for vehicle in chain["vehicles"]]
    lines += [_words("drift event", _event_text(event)) for event in chain["drift_events"]]
    for group in chain["samples"]:
        cause = f"of drift event {group['drift_event']}" if group["drift_event"] else "of no drift event"
        lines.append(_words("samples", f"{len(group['ids'])} of {group['vehicle']} {cause}"))
    dataset, run = chain["dataset"], chain["run"]
    if dataset:
        lines.append(_words("dataset", _dataset_text(dataset)))
    if run:
        lines.append(_words("code", run["code_commit"] or "not in a repository"))
        why = run["trigger"].get("why", "")
        lines.append(_words("run", f"{run['id']} ({run['state']}), MLflow {run['mlflow_run']}: {why}"))
    for verdict in chain["verdicts"]:
        rules = "; ".join(f"{rule['slice']} {rule['rule']}: {rule['why']}" for rule in verdict["rules"])
        lines.append(_words("verdict", f"{verdict['verdict']} ({rules})"))
    model = chain["model"]
    lines.append(_words("model", f"{model['name']} {model['version']}, sha256 {model['sha256']}"))
    lines += [
        _words("release", f"{release['counter']}, {release['target']} ({release['created']})")
        for release in chain["releases"]
    ] or [_words("release", "none")]
    lines += [
        _words("trained from", f"{parent['name']} {parent['version']}, sha256 {parent['sha256'][:12]}")
        for parent in chain["ancestors"]
    ]
    return "\n".join(lines)


def _event_text(event: dict[str, Any]) -> str:
    strongest = ", ".join(f"{feature['name']} D {feature['ks_d']:.2f}" for feature in event["features"][:3])
    kind = f" ({event['kind'].replace('_', ' ')})" if event["kind"] else ""
    what = (
        f"{event['id']} on {event['vehicle']}, {event['camera']}: {event['verdict']}{kind} {event['context']}"
    )
    return f"{what.strip()} ({event['received']}; {strongest or 'no features'})"


def _dataset_text(dataset: dict[str, Any]) -> str:
    return (
        f"{dataset['version']} on top of {dataset['parent'] or 'nothing'}, {dataset['images']} images, "
        f"DVC {dataset['dvc_md5']}, git {dataset['git_commit'][:12]}, sha256 {dataset['sha256'][:12]}"
        + (f"; {dataset['forgotten']} were forgotten since" if dataset["forgotten"] else "")
    )


def _words(what: str, text: str) -> str:
    return f"{what:<13} {text}"
