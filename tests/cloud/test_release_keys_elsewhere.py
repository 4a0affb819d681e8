"""Changes of keys whose signatures are collected on other machines: copies, and what becomes of it."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from tuf.api.metadata import Metadata, Root

from cloud.config import CloudConfig, load_config
from cloud.release.change_file import pending_path
from cloud.release.keys import load_keys
from cloud.release.releasing import complete_release, propose_release
from cloud.release.repository import list_releases
from cloud.release.role_files import newest_root, role_path, sign_role
from tests.clouds import make_cloud
from tests.key_commands import done, keys, status, trail
from tests.update_world import TERMS, model
from tools.cli.cloud import command


def on_a_stick(folder: Path, name: str, stick: Path) -> None:
    """The private key leaves the server."""
    stick.mkdir(exist_ok=True)
    (folder / "keys" / f"{name}.pem").rename(stick / f"{name}.pem")
    done(folder, "move", name, "offline:")


def test_a_change_collects_signatures_from_other_machines(
    config: CloudConfig, folder: Path, tmp_path: Path
) -> None:
    """Root's keys are on three sticks in three pockets, and the server has none."""
    for name in ("root-1", "root-2", "root-3"):
        on_a_stick(folder, name, tmp_path / name)
    shown = done(folder, "rotate", "timestamp")
    assert "not published yet" in shown
    assert "root needs 2 more" in shown
    assert newest_root(config.folders.repository).signed.version == 1
    assert status(folder)["pending"]["missing"]
    assert "another change of keys is under way" in str(keys(folder, "rotate", "gate").exception)
    pending = folder / "repository" / "pending" / "keys.json"
    assert "PRIVATE" not in pending.read_text()
    copies = {name: tmp_path / name / "change.json" for name in ("root-1", "root-3")}
    for name, copy in copies.items():  # each signs the bare file, and knows of no other
        shutil.copy(pending, copy)
        told = ["keys", "sign", str(copy), "--uri", f"file2:{copy.parent / name}.pem", "--yes"]
        there = CliRunner().invoke(command, told)
        assert there.exit_code == 0, there.output
        assert "role timestamp: key" in there.output, "who signs sees what"
        assert "root needs 1 more" in there.output
    assert "root needs 1 more" in done(folder, "sign", copies["root-1"])
    assert "root needs 1 more" in done(folder, "sign", copies["root-1"]), "the same one twice is one"
    assert "published" in done(folder, "sign", copies["root-3"])
    assert newest_root(config.folders.repository).signed.version == 2
    assert status(folder)["pending"] is None
    assert [action for action, _, _ in trail(config)[-2:]] == ["keys begun", "keys rotated"]


def test_a_copy_that_was_altered_or_is_of_another_change_is_refused(
    config: CloudConfig, folder: Path, tmp_path: Path
) -> None:
    for name in ("root-1", "root-2"):
        on_a_stick(folder, name, tmp_path / name)
    done(folder, "rotate", "timestamp")
    pending = folder / "repository" / "pending" / "keys.json"
    whole = json.loads(pending.read_text())

    def altered(change: Any) -> Path:
        document = json.loads(json.dumps(whole))
        change(document)
        path = tmp_path / "copy.json"
        path.write_text(json.dumps(document))
        return path

    def lower(document: Any) -> None:
        document["after"]["root"]["signed"]["roles"]["root"]["threshold"] = 1

    def forge(document: Any) -> None:
        signatures = document["after"]["root"]["signatures"]
        for signature in signatures:
            signature["sig"] = "00" * 64
        ours = document["before"]["root"]["signed"]["roles"]["root"]["keyids"]
        signatures += [{"keyid": keyid, "sig": "00" * 64} for keyid in ours if keyid not in str(signatures)]

    cases = {
        "altered": lower,
        "forged": forge,
        "not the change": lambda document: document["facts"].update(id="0" * 16),
        "no change of keys": lambda document: document.pop("after"),
    }
    for says, change in cases.items():
        refused = keys(folder, "sign", altered(change))
        assert refused.exit_code == 1
        assert says in str(refused.exception), says
    assert newest_root(config.folders.repository).signed.version == 1
    # Who is asked to sign the altered one sees it.
    lowered = altered(lower)
    told = ["keys", "sign", str(lowered), "--uri", f"file2:{tmp_path / 'root-1' / 'root-1.pem'}"]
    assert "threshold 1 of 3" in CliRunner().invoke(command, told, input="n\n").output


def test_who_signs_elsewhere_holds_the_file_to_a_root_that_he_kept(
    config: CloudConfig, folder: Path, tmp_path: Path
) -> None:
    """Somebody on the server puts keys of his own into what the change begins with: then nothing differs."""
    kept = tmp_path / "root.json"
    shutil.copy(role_path(config.folders.repository, "root", 1), kept)
    for name in ("root-1", "root-2"):
        on_a_stick(folder, name, tmp_path / name)
    done(folder, "rotate", "timestamp")
    pending = folder / "repository" / "pending" / "keys.json"
    uri = f"file2:{tmp_path / 'root-1' / 'root-1.pem'}"
    told = ["keys", "sign", "--uri", uri, "--root", str(kept), "--yes"]
    copy = tmp_path / "copy.json"
    shutil.copy(pending, copy)
    assert CliRunner().invoke(command, [*told, str(copy)]).exit_code == 0

    other = make_cloud(tmp_path / "other")
    thief = load_keys(other.folders.keys)
    document = json.loads(pending.read_text())
    before = Metadata[Root].from_dict(document["before"]["root"])
    for name in ("root-2", "root-3"):
        before.signed.revoke_key(load_keys(config.folders.keys).public(name).keyid, "root")
        before.signed.add_key(thief.public(name), "root")
    sign_role(before, [thief.signer(name) for name in ("root-2", "root-3")])
    document["before"]["root"] = before.to_dict()
    copy.write_text(json.dumps(document))
    refused = CliRunner().invoke(command, [*told, str(copy)])
    assert "begins with is not signed: root was signed by 0/2 keys" in str(refused.exception)
    before.signatures.popitem()
    document["before"]["root"] = before.to_dict()
    copy.write_text(json.dumps(document))
    alone = CliRunner().invoke(command, ["keys", "sign", "--uri", uri, "--yes", str(copy)])
    assert "is not signed" in str(alone.exception), "not even by itself"


def test_a_key_that_has_nothing_to_sign_says_so(config: CloudConfig, folder: Path, tmp_path: Path) -> None:
    for name in ("root-1", "root-2"):
        on_a_stick(folder, name, tmp_path / name)
    done(folder, "rotate", "timestamp")
    pending = folder / "repository" / "pending" / "keys.json"
    for key in (folder / "keys" / "gate.pem", folder / "nowhere.pem"):
        told = ["keys", "sign", str(pending), "--uri", f"file2:{key}", "--yes"]
        assert CliRunner().invoke(command, told).exit_code == 1


def test_a_change_that_is_given_up_leaves_nothing(config: CloudConfig, folder: Path, tmp_path: Path) -> None:
    for name in ("root-1", "root-2"):
        on_a_stick(folder, name, tmp_path / name)
    files = sorted(path.name for path in (folder / "keys").iterdir())
    done(folder, "rotate", "timestamp")
    assert sorted(path.name for path in (folder / "keys").iterdir()) != files
    done(folder, "abandon")
    assert sorted(path.name for path in (folder / "keys").iterdir()) == files
    assert status(folder)["pending"] is None
    assert keys(folder, "abandon").exit_code == 1
    assert trail(config)[-1][0] == "keys abandoned"


def test_a_release_between_makes_a_waiting_change_begin_again(
    config: CloudConfig, folder: Path, tmp_path: Path
) -> None:
    """Where both touch the same role, and only there."""
    repository, ring = config.folders.repository, load_keys(config.folders.keys)

    def release(version: str) -> None:
        facts = propose_release(repository, model(version), TERMS, ring.signer("trainer"))
        signers = (ring.signer(name) for name in ("gate", "snapshot", "timestamp"))
        complete_release(repository, facts.model_sha256, *signers)

    def sign(name: str) -> None:
        told = [str(pending_path(repository)), "--uri", f"file2:{tmp_path / name / name}.pem", "--yes"]
        assert CliRunner().invoke(command, ["keys", "sign", *told]).exit_code == 0

    on_a_stick(folder, "targets", tmp_path / "targets")
    assert "targets needs 1 more" in done(folder, "rotate", "gate")
    release("1")
    sign("targets")
    assert "models was changed since" in str(keys(folder, "sign").exception)
    done(folder, "abandon")
    for name in ("root-1", "root-2"):
        on_a_stick(folder, name, tmp_path / name)
    done(folder, "rotate", "timestamp")
    release("2")
    sign("root-1")
    assert "published" in done(folder, "sign")
    assert len(list_releases(repository)) == 2


def test_roots_keys_may_be_elsewhere_from_the_first_day_and_so_many_of_so_many(tmp_path: Path) -> None:
    folder, sticks = tmp_path / "cloud", [tmp_path / f"stick-{number}" for number in range(1, 6)]
    for stick in sticks:
        stick.mkdir()
    files = [stick / "root.pem" for stick in sticks]

    def init(*more: str, where: Path = folder, elsewhere: Sequence[Path] = files) -> Result:
        told = [word for file in elsewhere for word in ("--root-key", str(file))]
        return CliRunner().invoke(command, ["init", str(where), *told, *more])

    many = init("--root-threshold", "6", where=tmp_path / "other", elsewhere=[tmp_path / "a.pem"])
    assert "root has 1 keys: 6 of them cannot sign" in str(many.exception)
    assert "one file holds one" in str(init(where=tmp_path / "twice", elsewhere=files[:1] * 2).exception)
    assert init("--root-threshold", "3").exit_code == 0
    config = load_config(folder / "cloud.toml")
    assert not list((folder / "keys").glob("root*"))
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    root = newest_root(config.folders.repository).signed
    assert (len(root.roles["root"].keyids), root.roles["root"].threshold) == (5, 3)
    assert init("--root-threshold", "3").exit_code == 0, "what is there is kept"
    assert "has the threshold 3, which stays" in str(init("--root-threshold", "2").exception)
    assert "has root keys" in str(init(elsewhere=files[:3]).exception)
    for file in files[2:]:
        file.rename(file.with_suffix(".away"))
    assert "root needs 1 more" in done(folder, "rotate", "timestamp")
    copy = tmp_path / "change.json"
    shutil.copy(pending_path(config.folders.repository), copy)
    told = ["keys", "sign", str(copy), "--uri", f"file2:{sticks[2] / 'root.away'}", "--yes"]
    assert CliRunner().invoke(command, told).exit_code == 0
    assert "published" in done(folder, "sign", copy)
    assert newest_root(config.folders.repository).signed.roles["root"].threshold == 3
