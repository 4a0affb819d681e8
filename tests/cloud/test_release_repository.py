"""Keys, the repository and its serving: two signatures for a release, and whole through a kill anywhere."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from tuf.api.metadata import Metadata, Root, Targets

from cloud.release import locking, releasing, repository, serving
from cloud.release.errors import ReleaseError
from cloud.release.keys import NAMES, KeyRing, RoleKey, create_keys, load_keys, save_keys
from edge import __version__
from edge.errors import TrafficVisionError
from edge.perception.metadata import EMBEDDING_SINCE
from edge.status import daemon_version
from protos.release_promise import Promise, ShadowFacts
from protos.traffic_vision.v1 import fleet_pb2 as fleet
from tests.models_factory import with_embedding
from tests.update_world import TERMS, World, edit, model, open_world, utc

NOW = utc(2026, 1, 1, 12)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    opened = open_world(tmp_path / "cloud", NOW)
    yield opened
    opened.close()


def served(world: World, role: str, version: int | None = None) -> Metadata:
    request = fleet.FetchMetadataRequest(role=role, version=version)
    return Metadata.from_bytes(b"".join(c.data for c in serving.fetch_metadata(world.folder, request)))


def test_private_keys_are_for_their_owner_alone_and_made_once(tmp_path: Path) -> None:
    ring = create_keys(tmp_path / "keys")
    files = sorted((tmp_path / "keys").glob("*.pem"))
    assert [path.stem for path in files] == sorted(NAMES)
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert len({ring.public(name).keyid for name in NAMES}) == len(NAMES)
    assert create_keys(tmp_path / "keys") == load_keys(tmp_path / "keys")
    assert load_keys(tmp_path / "keys").public("gate") == ring.public("gate")


def test_keys_of_a_run_that_was_cut_are_used_and_not_overwritten(tmp_path: Path) -> None:
    first = create_keys(tmp_path)
    (tmp_path / "keys.json").unlink()
    (tmp_path / "timestamp.pem").unlink()
    again = create_keys(tmp_path)
    assert again.public("root-1") == first.public("root-1")
    assert again.public("timestamp") != first.public("timestamp")


def test_an_offline_key_is_asked_for_by_name_and_found_at_its_uri(tmp_path: Path) -> None:
    ring = create_keys(tmp_path / "keys#1?")
    stick = tmp_path / "stick.pem"
    (ring.folder / "root-1.pem").rename(stick)
    with pytest.raises(ReleaseError, match=r"'root-1' is not at file2:root-1\.pem"):
        ring.signer("root-1")
    moved = KeyRing(ring.folder, {**ring.keys, "root-1": RoleKey(ring.public("root-1"), f"file2:{stick}")})
    save_keys(moved)
    assert load_keys(ring.folder).signer("root-1").public_key == ring.public("root-1")


def test_a_key_that_is_not_the_one_of_the_index_does_not_sign(tmp_path: Path) -> None:
    ring = create_keys(tmp_path)
    (tmp_path / "gate.pem").write_bytes((tmp_path / "trainer.pem").read_bytes())
    with pytest.raises(ReleaseError, match="gate"):
        ring.signer("gate")
    with pytest.raises(ReleaseError, match="no key 'owner'"):
        ring.signer("owner")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 9}', '{"schema": 1, "keys": {"gate": {}}}'])
def test_a_damaged_index_is_one_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys.json").write_text(text)
    with pytest.raises(ReleaseError, match=r"keys\.json"):
        load_keys(tmp_path)


def test_roles_thresholds_and_lifetimes_are_as_designed(world: World) -> None:
    root = served(world, "root", 1).signed
    targets = served(world, "targets", 1).signed
    assert isinstance(root, Root)
    assert isinstance(targets, Targets)
    assert root.consistent_snapshot
    assert (root.roles["root"].threshold, len(root.roles["root"].keyids)) == (2, 3)
    keyids = [key for role in root.roles.values() for key in role.keyids]
    assert len(keyids) == len(set(keyids)) == 6, "no key has two roles"
    delegated = targets.delegations.roles["models"]
    assert (delegated.threshold, len(delegated.keyids), delegated.terminating) == (2, 2, True)
    assert delegated.paths == ["models/*"]
    lifetimes = {
        role: served(world, role, 1).signed.expires - NOW
        for role in ("root", "targets", "models", "snapshot")
    }
    year = timedelta(days=365)
    assert lifetimes == {"root": year, "targets": year, "models": year, "snapshot": timedelta(days=7)}
    timestamp = served(world, "timestamp").signed
    assert timestamp.expires - NOW == timedelta(days=1)
    assert timestamp.unrecognized_fields["signed_at"] == NOW.timestamp()


def test_a_proposal_is_invisible_until_the_gate_signs(world: World) -> None:
    before = served(world, "timestamp")
    facts = world.propose(model("1"), parent_sha256="b" * 64, minimum_daemon_version="0.1")
    assert served(world, "timestamp") == before
    assert repository.list_releases(world.folder) == []
    pending = releasing.pending_release(world.folder)
    assert pending is not None
    assert pending.facts == facts
    assert world.complete(facts.model_sha256) == facts
    released = repository.list_releases(world.folder)
    assert [release.facts for release in released] == [facts]
    assert released[0].file.read_bytes() == model("1")
    assert releasing.pending_release(world.folder) is None
    assert (facts.release_counter, facts.model_name, facts.model_version) == (1, "rectangles", "1")
    assert (facts.parent_sha256, facts.minimum_daemon_version) == ("b" * 64, "0.1")


@pytest.mark.parametrize(
    ("asked", "said"), [("0", EMBEDDING_SINCE), ("0.1", EMBEDDING_SINCE), ("99.1", "99.1"), ("0.2", "0.2")]
)
def test_a_model_with_an_embedding_is_for_daemons_that_read_one(world: World, asked: str, said: str) -> None:
    data = with_embedding(model("1"), np.eye(3))
    facts = world.release(data, minimum_daemon_version=asked)
    assert facts.minimum_daemon_version == said
    assert world.propose(data, minimum_daemon_version=asked) == facts, "it is not released twice"
    plain = world.release(model("2"), minimum_daemon_version=asked)
    assert plain.minimum_daemon_version == asked


def test_this_daemon_reads_an_embedding() -> None:
    ours, needed = ([int(part) for part in text.split(".")] for text in (__version__, EMBEDDING_SINCE))
    assert ours >= needed
    assert daemon_version() == __version__


def test_counters_grow_by_one_and_repeating_a_step_changes_nothing(world: World) -> None:
    first = world.release(model("1"))
    assert world.propose(model("1")) == first, "the newest release is not released twice"
    assert world.complete(first.model_sha256) == first
    second = world.propose(model("2"))
    assert world.propose(model("2")) == second
    files = snapshot_of(world.folder)
    world.propose(model("2"))
    assert snapshot_of(world.folder) == files
    assert world.complete(second.model_sha256) == second
    again = world.release(model("1"))  # back to an older model is a new release
    assert [f.release_counter for f in (first, second, again)] == [1, 2, 3]


def test_another_proposal_takes_the_place_of_one_that_was_not_released(world: World) -> None:
    abandoned = world.propose(model("1"))
    facts = world.propose(model("2"))
    assert facts.release_counter == abandoned.release_counter == 1
    with pytest.raises(ReleaseError, match=abandoned.model_sha256):
        world.complete(abandoned.model_sha256)
    targets = list((world.folder / "targets" / "models").iterdir())
    assert [path.read_bytes() for path in targets] == [model("2")], "its file is gone too"
    releasing.discard_pending(world.folder)
    releasing.discard_pending(world.folder)
    assert list((world.folder / "targets" / "models").iterdir()) == []


def test_the_same_key_twice_is_not_two_signatures(world: World) -> None:
    facts = world.propose(model("1"))
    signers = [world.keys.signer(name) for name in ("trainer", "snapshot", "timestamp")]
    before = snapshot_of(world.folder)
    with pytest.raises(ReleaseError, match="1/2 keys"):
        releasing.complete_release(world.folder, facts.model_sha256, *signers)
    assert snapshot_of(world.folder) == before


def test_the_gate_signs_only_the_release_that_it_judged(world: World) -> None:
    world.release(model("1"))
    facts = world.propose(model("2"))
    pending = world.folder / "pending" / "models.json"
    slipped = Metadata.from_bytes(pending.read_bytes())
    more = dict(slipped.signed.targets[facts.target_path].to_dict(), length=5)
    document = json.loads(pending.read_bytes())
    document["signed"]["targets"]["models/another-1.onnx"] = more
    tampered = Metadata.from_dict(document)
    tampered.sign(world.keys.signer("trainer"))
    pending.write_bytes(tampered.to_bytes())
    with pytest.raises(ReleaseError, match="holds more than that release"):
        world.complete(facts.model_sha256)


def test_the_gate_signs_only_the_terms_that_it_was_told(world: World) -> None:
    """A trainer that leaves the promises out, or makes the shadow cheaper, gets no second signature."""
    asked = {"shadow": ShadowFacts(60), "promise": Promise(drive_s=300, latency_percent=150)}
    terms = replace(TERMS, **asked)
    signers = [world.keys.signer(name) for name in ("gate", "snapshot", "timestamp")]
    for changed, named in ({"promise": None}, "promise"), ({"shadow": ShadowFacts(1)}, "shadow"):
        facts = world.propose(model("1"), **{**asked, **changed})
        with pytest.raises(ReleaseError, match=f"on other terms than the gate's: {named};"):
            releasing.complete_release(world.folder, facts.model_sha256, *signers, terms=terms)
    facts = world.propose(model("1"), **asked)
    released = releasing.complete_release(world.folder, facts.model_sha256, *signers, terms=terms)
    assert (released.shadow, released.promise) == (terms.shadow, terms.promise)
    assert repository.list_releases(world.folder)[-1].facts == released


def test_a_target_that_changed_after_the_trainer_signed_is_refused(world: World) -> None:
    facts = world.propose(model("1"))
    pending = releasing.pending_release(world.folder)
    assert pending is not None
    pending.file.write_bytes(model("2"))
    with pytest.raises(ReleaseError, match="not what the trainer signed"):
        world.complete(facts.model_sha256)


def test_what_is_no_model_or_on_impossible_terms_is_refused(world: World) -> None:
    with pytest.raises(TrafficVisionError, match="the release"):
        world.propose(b"no model")
    with pytest.raises(ReleaseError, match="hardware_ids"):
        world.propose(model("1"), hardware_ids=())
    assert releasing.pending_release(world.folder) is None


def test_the_online_roles_are_renewed_when_half_of_their_time_is_over(world: World) -> None:
    signers = world.keys.signer("snapshot"), world.keys.signer("timestamp")

    def versions() -> tuple[int, int]:
        stamp = served(world, "timestamp").signed
        return stamp.version, stamp.snapshot_meta.version

    assert not repository.refresh_timestamp(world.folder, *signers, NOW + timedelta(hours=11))
    assert repository.refresh_timestamp(world.folder, *signers, NOW + timedelta(hours=13))
    assert versions() == (2, 1)
    assert repository.refresh_timestamp(world.folder, *signers, NOW + timedelta(days=4))
    assert versions() == (3, 2)
    assert served(world, "snapshot", 2).signed.meta == served(world, "snapshot", 1).signed.meta


def test_a_root_takes_two_old_keys_and_two_new_ones(world: World) -> None:
    root = Metadata[Root].from_bytes(repository.current_root(world.folder)).signed
    new = create_keys(world.folder.parent / "new-keys")
    root.revoke_key(world.keys.public("root-1").keyid, "root")
    root.add_key(new.public("root-1"), "root")
    old = [world.keys.signer(name) for name in ("root-1", "root-2", "root-3")]
    with pytest.raises(ReleaseError, match="root 2"):
        repository.publish_root(world.folder, root, [old[0], old[1]])  # two old, one new
    with pytest.raises(ReleaseError, match="root 2"):
        repository.publish_root(world.folder, root, [new.signer("root-1"), old[1]])  # one old
    assert repository.publish_root(world.folder, root, [new.signer("root-1"), old[1], old[2]]) == 2
    assert served(world, "root", 2).signed.version == 2


def test_names_from_the_wire_lead_nowhere_else(world: World) -> None:
    facts = world.release(model("1"))
    (world.folder.parent / "secret.json").write_text("{}")
    (world.folder / "metadata" / "secret").mkdir()
    for role in ("", "../secret", "..", "secret/x", "a\x00b", "x" * 200, "models.json"):
        with pytest.raises(serving.NoSuchFileError):
            next(serving.fetch_metadata(world.folder, fleet.FetchMetadataRequest(role=role)))
    for path in (
        "models/../../keys/gate.pem",
        "models/",
        "../models/x",
        "models/a/b",
        "models/.x",
        "/etc/passwd",
    ):
        request = fleet.FetchTargetRequest(path=path, sha256=facts.model_sha256)
        with pytest.raises(serving.NoSuchFileError):
            next(serving.fetch_target(world.folder, request))
    for sha256 in ("", "*", "0" * 64, facts.model_sha256.upper()):
        with pytest.raises(serving.NoSuchFileError):
            next(
                serving.fetch_target(
                    world.folder, fleet.FetchTargetRequest(path=facts.target_path, sha256=sha256)
                )
            )


@pytest.mark.parametrize(
    ("offset", "limit"), [(0, 0), (0, 1 << 20), (1, 1000), (70_000, 65536), (100_000, 7000)]
)
def test_a_target_comes_in_bounded_chunks_from_any_offset(world: World, offset: int, limit: int) -> None:
    data = model("1", padding=150_000)
    facts = world.release(data)
    request = fleet.FetchTargetRequest(
        path=facts.target_path, sha256=facts.model_sha256, offset_bytes=offset, chunk_limit_bytes=limit
    )
    chunks = list(serving.fetch_target(world.folder, request))
    assert b"".join(chunk.data for chunk in chunks) == data[offset:]
    assert all(0 < len(chunk.data) <= min(limit or 65536, 65536) for chunk in chunks)
    assert {chunk.total_bytes for chunk in chunks} == {len(data)}
    begins = [offset + sum(len(chunk.data) for chunk in chunks[:index]) for index in range(len(chunks))]
    assert [chunk.offset_bytes for chunk in chunks] == begins


def test_the_end_is_an_empty_chunk_and_past_it_is_out_of_range(world: World) -> None:
    facts = world.release(model("1"))
    request = fleet.FetchTargetRequest(
        path=facts.target_path, sha256=facts.model_sha256, offset_bytes=len(model("1"))
    )
    assert [chunk.data for chunk in serving.fetch_target(world.folder, request)] == [b""]
    request.offset_bytes += 1
    with pytest.raises(serving.OffsetError):
        next(serving.fetch_target(world.folder, request))


def test_one_writer_at_a_time(world: World) -> None:
    with (
        locking.locked(world.folder),
        pytest.raises(ReleaseError, match="another process"),
        locking.locked(world.folder, wait_s=0),
    ):
        pass
    inside, leave, entered = threading.Event(), threading.Event(), threading.Event()

    def hold() -> None:
        with locking.locked(world.folder):
            inside.set()
            assert leave.wait(30)

    def wait() -> None:
        with locking.locked(world.folder):
            entered.set()

    threads = [threading.Thread(target=hold), threading.Thread(target=wait)]
    threads[0].start()
    assert inside.wait(30)
    threads[1].start()
    assert not entered.is_set()
    leave.set()
    assert entered.wait(30)
    for thread in threads:
        thread.join(30)


def test_a_folder_that_is_no_repository_is_one_error(tmp_path: Path) -> None:
    for call in (repository.list_releases, repository.current_root):
        with pytest.raises(ReleaseError, match="is missing"):
            call(tmp_path)


def test_a_damaged_file_is_named(world: World) -> None:
    stamp = world.folder / "metadata" / "timestamp.json"
    stamp.write_bytes(edit(stamp.read_bytes(), lambda document: document.pop("signed")))
    with pytest.raises(ReleaseError, match=r"timestamp\.json is damaged"):
        repository.list_releases(world.folder)


def test_a_kill_at_any_file_operation_leaves_a_whole_repository(tmp_path: Path) -> None:
    """Each step is killed before each of its file operations, looked at, run again, looked at again."""
    command = [sys.executable, "-m", "tests.cloud.release_kills", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    points = json.loads(done.stdout.splitlines()[-1])
    assert points["create"] >= 20
    assert points["propose"] >= 6
    assert points["complete"] >= 12
    assert points["refresh"] >= 3


def snapshot_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and os.fspath(path.name) != "lock"
    }
