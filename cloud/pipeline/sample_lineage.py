"""Where a sample went: labels, dataset versions, models, releases; `lineage` goes the other way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from cloud.pipeline.data_repository import DataRepository
from cloud.pipeline.forgetting import UnknownSampleError, choose_any
from cloud.pipeline.labeled_samples import picture_name
from cloud.pipeline.lineage import moment_text
from cloud.pipeline.model_family import descendants, release_counters, trained
from cloud.store import Store
from cloud.store.models import Candidate, Label, Run, Sample
from cloud.store.states import SampleState

__all__ = ["UnknownSampleError", "sample_lineage", "to_text"]

_SIDES = {"train": "trained on", "val": "chosen by", "test": "judged by"}


def sample_lineage(store: Store, data: DataRepository, what: str) -> dict[str, Any]:
    """Trace a sample forward, or all samples of a vehicle together.

    Args:
        store: the cloud's.
        data: the data repository; its manifests say which version holds which picture, and for what.
        what: VEHICLE/SAMPLE, a sample's id, or a vehicle.

    Returns:
        JSON-able: what, samples (id, received, state, detail, drift_event, labels; of several only their
        number in each state), versions (tag, and how many of the pictures are on which side, used or not),
        models (with what the pictures were to them, verdicts and releases), descendants.

    Raises:
        PipelineError: nothing is called so, or several things are.
    """
    with store.reading() as session:
        samples = choose_any(session, what)
        names = {picture_name(sample.vehicle, sample.external_id) for sample in samples}
        versions = _versions(data, names)
        found = trained(session, [version["version"] for version in versions])
        models = [_model(session, candidate, run, versions) for candidate, run in found]
        later = descendants(session, [candidate.sha256 for candidate, _ in found])
        return {
            "what": what,
            "samples": [_sample(session, sample) for sample in samples] if len(samples) == 1 else [],
            "states": _states(samples),
            "versions": versions,
            "models": models,
            "descendants": [_descendant(session, candidate) for candidate in later],
        }


def _versions(data: DataRepository, names: set[str]) -> list[dict[str, Any]]:
    found = []
    for tag in data.tags():
        counts: dict[str, int] = {}
        for entry in data.manifest(tag).entries:
            if entry.name in names:
                key = f"{entry.side}{'' if entry.used else ', not in the list'}"
                counts[key] = counts.get(key, 0) + 1
        if counts:
            found.append({"version": tag, "pictures": counts})
    return found


def _model(
    session: Session, candidate: Candidate, run: Run, versions: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    pictures = next(v["pictures"] for v in versions if v["version"] == run.dataset_version)
    roles = {words: pictures[side] for side, words in _SIDES.items() if side in pictures}
    return {
        "sha256": candidate.sha256,
        "version": candidate.version,
        "dataset": run.dataset_version,
        "roles": roles,
        "verdicts": [verdict.verdict.value for verdict in candidate.verdicts],
        "releases": release_counters(session, candidate.sha256),
    }


def _descendant(session: Session, candidate: Candidate) -> dict[str, Any]:
    """A model that was trained from one of these, on other data: what it learned may be in it too."""
    return {
        "sha256": candidate.sha256,
        "version": candidate.version,
        "releases": release_counters(session, candidate.sha256),
    }


def _sample(session: Session, sample: Sample) -> dict[str, Any]:
    labels = session.scalars(select(Label).where(Label.sample_id == sample.id).order_by(Label.id))
    return {
        "id": f"{sample.vehicle}/{sample.external_id}",
        "received": moment_text(sample.received),
        "state": sample.state.value,
        "detail": sample.state_detail,
        "drift_event": sample.drift_event,
        "labels": [
            {"service": label.service, "created": moment_text(label.created), "boxes": len(label.boxes)}
            for label in labels
        ],
    }


def _states(samples: Sequence[Sample]) -> dict[str, int]:
    return {
        state.value: count
        for state in SampleState
        if (count := sum(sample.state is state for sample in samples))
    }


def to_text(chain: dict[str, Any]) -> str:
    """Lay it out for a terminal, from the sample to the releases."""
    lines = [
        _words("samples", ", ".join(f"{count} {state}" for state, count in chain["states"].items()) or "none")
    ]
    for sample in chain["samples"]:
        detail = f" ({sample['detail']})" if sample["detail"] else ""
        lines[0] = _words("sample", f"{sample['id']}, {sample['received']}: {sample['state']}{detail}")
        if sample["drift_event"]:
            lines.append(_words("drift event", sample["drift_event"]))
        lines += [
            _words("labels", f"{label['boxes']} boxes by {label['service']} ({label['created']})")
            for label in sample["labels"]
        ]
    for version in chain["versions"]:
        pictures = ", ".join(f"{count} {side}" for side, count in version["pictures"].items())
        lines.append(_words("dataset", f"{version['version']}: {pictures}"))
    for model in chain["models"]:
        roles = ", ".join(f"{words} {count}" for words, count in model["roles"].items()) or "not used"
        verdicts = ", ".join(model["verdicts"]) or "not judged"
        text = f"{model['version']} {model['sha256'][:12]} on {model['dataset']}: {roles}; {verdicts}"
        lines.append(_words("model", f"{text}; {_release_text(model)}"))
    for model in chain["descendants"]:
        lines.append(
            _words("handed on to", f"{model['version']} {model['sha256'][:12]}; {_release_text(model)}")
        )
    return "\n".join(lines)


def _release_text(model: dict[str, Any]) -> str:
    counters = ", ".join(str(counter) for counter in model["releases"])
    return f"release {counters}" if counters else "not released"


def _words(what: str, text: str) -> str:
    return f"{what:<13} {text}"
