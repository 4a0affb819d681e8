"""Dataset versions as people ask for them: listed, compared, checked out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from cloud.datasets import dataset_sha256, read_dataset
from cloud.datasets.writing import label_path
from cloud.pipeline.data_repository import DATASET, DataRepository
from cloud.pipeline.errors import PipelineError
from cloud.pipeline.manifest import Entry, Manifest
from cloud.store import Store
from cloud.store.models import Candidate, Dataset, Run

FORGOTTEN = "forgotten"  # in a dataset's facts: how many of its pictures are gone
FORGETS = "forgets"  # in a dataset's facts: how many pictures of its parent it leaves out


@dataclass(frozen=True, slots=True)
class VersionLine:
    """A dataset version.

    Attributes:
        parent: that it was made on top of; empty: none.
        new: pictures that its parent has not.
        counts: of the pictures of each side's list, by slice.
        forgotten: pictures that were forgotten since: it cannot be had any more.
        forgets: pictures of its parent that it leaves out.
        models: that were trained on it.
    """

    version: str
    parent: str
    created: str
    images: int
    new: int
    counts: dict[str, dict[str, int]]
    forgotten: int
    forgets: int
    dvc_md5: str
    git_commit: str
    models: list[str]


@dataclass(frozen=True, slots=True)
class Difference:
    """What one version has and another has not.

    Attributes:
        added, removed: pictures by name.
        used, unused: that both have, and that came into its side's list or went out of it.
        relabeled: whose labels differ; None: one version's list of files is not here to tell.
        counts: of all pictures, by side and slice: before, after.
    """

    before: str
    after: str
    added: list[str]
    removed: list[str]
    used: list[str]
    unused: list[str]
    relabeled: list[str] | None
    counts: dict[str, tuple[int, int]]


def list_versions(store: Store) -> list[VersionLine]:
    """List the versions, the oldest first."""
    with store.reading() as session:
        models: dict[str, list[str]] = {}
        for candidate, run in session.execute(
            select(Candidate, Run).join(Run, Candidate.run_id == Run.id).order_by(Candidate.created)
        ):
            models.setdefault(run.dataset_version or "", []).append(candidate.version)
        datasets = sorted(session.scalars(select(Dataset)), key=lambda dataset: int(dataset.version[1:]))
    return [_line(dataset, models.get(dataset.version, [])) for dataset in datasets]


def _line(dataset: Dataset, models: list[str]) -> VersionLine:
    facts = dataset.facts
    return VersionLine(
        version=dataset.version,
        parent=dataset.parent_version or "",
        created=dataset.created.isoformat(timespec="seconds"),
        images=dataset.images,
        new=sum(facts.get("slices", {}).values()) if dataset.parent_version else dataset.images,
        counts=facts.get("counts", {}),
        forgotten=facts.get(FORGOTTEN, 0),
        forgets=facts.get(FORGETS, 0),
        dvc_md5=dataset.dvc_md5,
        git_commit=dataset.git_commit,
        models=models,
    )


def row_of_newest(data: DataRepository, parent: str | None, facts: dict[str, Any]) -> Dataset:
    """Give the row of the newest version, whose pictures are in the repository's folder.

    Args:
        data: the repository, which nobody else works on.
        parent: that the version was made on top of; None: of nothing.
        facts: what is to be in them beside the counts of its lists.
    """
    tag = data.tags()[-1]
    version, manifest = data.version(tag), data.manifest(tag)
    return Dataset(
        version=tag,
        parent_version=parent,
        sha256=dataset_sha256(read_dataset(data.folder / DATASET)),
        dvc_md5=version.dvc_md5,
        git_commit=version.git_commit,
        images=len(manifest.entries),
        facts={"counts": manifest.counts(), **facts},
    )


def require_whole(session: Session, version: str) -> Dataset:
    """Give a version that can be had.

    Raises:
        PipelineError: there is none of this name, or pictures of it were forgotten.
    """
    dataset = session.get(Dataset, version)
    if dataset is None:
        known = ", ".join(sorted(session.scalars(select(Dataset.version)), key=lambda name: int(name[1:])))
        raise PipelineError(f"there is no data version {version!r}; there are {known or 'none'}")
    gone = dataset.facts.get(FORGOTTEN, 0)
    if gone:
        raise PipelineError(
            f"{version} cannot be had any more: {gone} of its {dataset.images} pictures were forgotten; "
            "a later version is without them (`cloud dataset list`)"
        )
    return dataset


def checkout(store: Store, data: DataRepository, version: str, folder: Path) -> int:
    """Write a version's dataset to a new or empty folder; give how many pictures it has.

    Raises:
        PipelineError: there is no such version, it cannot be had any more, or the folder holds something.
    """
    with store.reading() as session:
        dataset = require_whole(session, version)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PipelineError(f"{folder} exists and is not an empty folder: give another, or remove it")
    data.export(version, folder)
    return dataset.images


def compare(data: DataRepository, before: str, after: str) -> Difference:
    """Compare two versions, picture by picture.

    Raises:
        PipelineError: there is no such version.
    """
    versions = [data.version(tag) for tag in (before, after)]
    old, new = (data.manifest(tag) for tag in (before, after))
    files = [data.files(v.dvc_md5) if data.cached(v.dvc_md5).is_file() else None for v in versions]
    return difference(before, after, old, new, files[0], files[1])


def difference(
    before: str,
    after: str,
    old: Manifest,
    new: Manifest,
    old_files: dict[str, str] | None,
    new_files: dict[str, str] | None,
) -> Difference:
    """Compare two manifests, and the files of their versions where both are known."""
    earlier, later = ({entry.name: entry for entry in manifest.entries} for manifest in (old, new))
    both = [name for name in later if name in earlier]
    relabeled = None
    if old_files is not None and new_files is not None:
        paths = {name: label_path(name) for name in both}
        relabeled = [name for name, path in paths.items() if old_files.get(path) != new_files.get(path)]
    counted = [Counter(f"{entry.side} {entry.slice}" for entry in m.entries) for m in (old, new)]
    return Difference(
        before,
        after,
        added=[name for name in later if name not in earlier],
        removed=[name for name in earlier if name not in later],
        used=_changed(both, earlier, later, used=True),
        unused=_changed(both, earlier, later, used=False),
        relabeled=relabeled,
        counts={key: (counted[0][key], counted[1][key]) for key in sorted(counted[0] | counted[1])},
    )


def _changed(names: Iterable[str], old: dict[str, Entry], new: dict[str, Entry], used: bool) -> list[str]:
    return [name for name in names if new[name].used is used and old[name].used is not used]


def list_to_text(lines: list[VersionLine]) -> str:
    """Lay the versions out for a terminal."""
    return (
        "\n".join(_version_text(line) for line in lines) or "no version yet: `cloud baseline` makes the first"
    )


def _version_text(line: VersionLine) -> str:
    sides = "; ".join(
        f"{side} {', '.join(f'{count} {name}' for name, count in slices.items())}"
        for side, slices in line.counts.items()
        if slices
    )
    text = f"{line.version:<5} {line.created}  {line.images} pictures"
    if line.parent:
        text += f" on top of {line.parent}, {line.new} new"
    if line.forgets:
        text += f", without {line.forgets} that were forgotten"
    text += f"; in the lists: {sides}"
    if line.models:
        text += f"; trained: {', '.join(line.models)}"
    if line.forgotten:
        text += f"; CANNOT BE HAD ANY MORE, {line.forgotten} pictures were forgotten"
    return text


def difference_to_text(found: Difference, names: bool) -> str:
    """Lay a difference out for a terminal; `names`: with the pictures' names."""
    lines = [f"{found.before} -> {found.after}"]
    kinds: list[tuple[str, list[str] | None]] = [
        ("added", found.added),
        ("removed", found.removed),
        ("into the lists", found.used),
        ("out of the lists", found.unused),
        ("labels changed", found.relabeled),
    ]
    for words, pictures in kinds:
        lines.append(f"  {words:<17}{len(pictures) if pictures is not None else 'not known here'}")
        lines += [f"    {name}" for name in pictures or () if names]
    lines += [f"  {key:<17}{old} -> {new}" for key, (old, new) in found.counts.items()]
    return "\n".join(lines)
