"""Forgetting in the data repository: which versions hold a picture, a version without it, and its bytes' end.

A version that holds a forgotten picture keeps its tag and its list of pictures, and cannot be had any more.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from cloud.datasets import canonical, read_dataset
from cloud.datasets.writing import LABELS_FILE, label_path, picture_path
from cloud.pipeline.building import Ingredients, build, usable
from cloud.pipeline.champion import champion_of
from cloud.pipeline.data_repository import DATASET, DataRepository, next_tag
from cloud.pipeline.job import Pipeline
from cloud.pipeline.manifest import Manifest

WORK = "forget"  # in the folder for what can be made again


@dataclass(frozen=True, slots=True)
class Scope:
    """What of the data repository holds pictures that are to be forgotten.

    Attributes:
        versions: of which the database knows; they cannot be had any more.
        listings: DVC's MD5 of each folder that holds some, `orphan`'s too.
        orphan: a version that a killed retrain made and nobody knows of; empty: there is none.
        parent: the newest version, where it is among them; empty: it is not.
        reduced: the version without them that is to be made on top of `parent`.
    """

    versions: tuple[str, ...] = ()
    listings: tuple[str, ...] = ()
    orphan: str = ""
    parent: str = ""
    reduced: str = ""


def scope_of(data: DataRepository, known: Collection[str], names: Collection[str]) -> Scope:
    """Find out what holds these pictures.

    Args:
        data: the repository.
        known: versions that the database has.
        names: of the pictures.
    """
    tags = data.tags()
    wanted = set(names)
    holding = [tag for tag in tags if any(entry.name in wanted for entry in data.manifest(tag).entries)]
    orphan = tags[-1] if holding and holding[-1] == tags[-1] and tags[-1] not in known else ""
    versions = tuple(tag for tag in holding if tag != orphan)
    newest = [tag for tag in tags if tag != orphan][-1:]
    parent = newest[0] if newest and newest[0] in versions else ""
    return Scope(
        versions=versions,
        listings=tuple(data.version(tag).dvc_md5 for tag in holding),
        orphan=orphan,
        parent=parent,
        reduced=next_tag(tags) if parent else "",
    )


def reduce(pipeline: Pipeline, data: DataRepository, scope: Scope, names: Collection[str]) -> None:
    """Make the version without the pictures; one that is there stays."""
    if scope.orphan:
        data.drop_newest(scope.orphan)
    if not scope.reduced:
        return
    if scope.reduced not in data.tags():
        _add_reduced(pipeline, data, scope, set(names))
    data.publish(scope.reduced)


def _add_reduced(pipeline: Pipeline, data: DataRepository, scope: Scope, names: set[str]) -> None:
    work = pipeline.config.folders.work / WORK
    before, folder = work / "parent", work / "dataset"
    data.export(scope.parent, before)
    entries = tuple(entry for entry in data.manifest(scope.parent).entries if entry.name not in names)
    with pipeline.store.reading() as session:
        classes = [canonical(name) for name in champion_of(session).facts["class_names"]]
    manifest, _ = build(
        folder,
        Ingredients(
            tag=scope.reduced,
            class_names=classes,
            slice_by=pipeline.config.gate.slice_by,
            old=[image for image in usable(read_dataset(before)) if image.name not in names],
            manifest=Manifest(entries),
            used_old={entry.name for entry in entries if entry.used},
            new=(),
            sides={},
            trainable=False,
        ),
    )
    message = f"{scope.reduced}: {scope.parent} without {len(names)} pictures that were forgotten"
    data.add(scope.reduced, folder, manifest, message)


def purge(data: DataRepository, scope: Scope, names: Collection[str]) -> int:
    """Delete the pictures' bytes and their labels from DVC's cache and remotes; give how many were here.

    What any other picture needs stays: the same bytes under another name.
    """
    if not data.tags():
        return 0
    own = {path for name in names for path in (picture_path(name), label_path(name))}
    gone, needed = set[str](), set[str]()
    listings = {data.version(tag).dvc_md5 for tag in data.tags()} | set(scope.listings)
    workspace = data.folder / DATASET
    left = _left_in(workspace, own)
    for files in (*(data.files(listing) for listing in listings), left):
        holds = not own.isdisjoint(files)
        for path, md5 in files.items():
            # The labels of all pictures are in one file too.
            is_gone = path in own or (holds and path == LABELS_FILE)
            (gone if is_gone else needed).add(md5)
    if left:  # half of a version that never was
        shutil.rmtree(workspace)
        data.restore()
    return data.remove(gone - needed)


def _left_in(folder: Path, own: Iterable[str]) -> dict[str, str]:
    """MD5 of the pictures' files that a killed attempt left in the repository's folder, by their paths."""
    there = [path for path in own if (folder / path).is_file()]
    if there and (folder / LABELS_FILE).is_file():
        there.append(LABELS_FILE)
    return {
        path: hashlib.md5((folder / path).read_bytes(), usedforsecurity=False).hexdigest() for path in there
    }


def clear_work(work: Path, names: Collection[str], object_keys: Collection[str]) -> None:
    """Remove copies of datasets that hold one of the pictures, and notes on a picture, from the work folder.

    Args:
        work: the folder for what can be made again.
        names: of the pictures.
        object_keys: of the pictures that nobody else needs; files are called by them.
    """
    shutil.rmtree(work / WORK, ignore_errors=True)
    for images in [*work.glob("*/*/images"), *work.glob("*/*/*/images")]:
        if any((images / name).exists() for name in names):
            copy = images.parent
            (copy.parent / f"{copy.name}.version").unlink(missing_ok=True)
            shutil.rmtree(copy)
    gone = set(object_keys)
    for note in [path for path in work.rglob("*") if path.stem in gone]:
        note.unlink()
