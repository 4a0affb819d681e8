"""Keys as their owner handles them: the commands, keys in tokens and encrypted, fleets' roles, a kill."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from securesystemslib.signer import SIGNER_FOR_URI_SCHEME, CryptoSigner, Key, Signature, Signer

from cloud.config import CloudConfig
from cloud.fleet.repository import SignedRepository, open_repository
from cloud.release import key_publishing
from cloud.release.ceremony import Wish, begin_renewal, begin_rotation
from cloud.release.keys import KeyRing, _secret, create_keys, load_keys
from cloud.release.releasing import complete_release, propose_release
from cloud.release.repository import create_repository
from cloud.release.role_files import current_role, read_role, role_path, sign_role
from tests.key_commands import done, keyids, keys, status, trail
from tests.update_world import TERMS, model
from tools.cli.cloud import command


def test_status_shows_who_signs_what_and_where_each_key_is(config: CloudConfig, folder: Path) -> None:
    (folder / "keys" / "root-1.pem").unlink()
    (folder / "keys" / "gate.pem").chmod(0o644)
    found = status(folder)
    roles = {role["role"]: role for role in found["roles"]}
    assert list(roles) == ["root", "targets", "snapshot", "timestamp", "models"]
    assert (roles["root"]["threshold"], len(roles["root"]["keys"])) == (2, 3)
    assert (roles["models"]["threshold"], roles["models"]["keys"]) == (2, ["trainer", "gate"])
    assert 360 < roles["root"]["days_left"] <= 365
    assert 0 < roles["timestamp"]["days_left"] <= 1
    by_name = {key["name"]: key for key in found["keys"]}
    assert not by_name["root-1"]["reachable"]
    assert by_name["root-2"]["reachable"]
    assert "chmod 600" in by_name["gate"]["trouble"]
    assert by_name["targets"]["roles"] == ["targets"]
    assert found["pending"] is None
    text = done(folder, "status")
    assert "2 of root-1, root-2, root-3" in text
    assert "root-1.pem" in text


@pytest.mark.parametrize(
    ("subject", "gone", "roles"),
    [
        ("root-2", ["root-2"], {"root"}),
        ("root", ["root-1", "root-2", "root-3"], {"root"}),
        ("targets", ["targets"], {"root", "targets"}),
        ("models", ["trainer", "gate"], {"targets", "models"}),
        ("gate", ["gate"], {"targets", "models"}),
        ("timestamp", ["timestamp"], {"root"}),
    ],
)
def test_rotate_puts_a_new_key_in_its_place_and_keeps_the_thresholds(
    config: CloudConfig, folder: Path, subject: str, gone: list[str], roles: set[str]
) -> None:
    before, shown = status(folder), done(folder, "rotate", subject)
    after = status(folder)
    assert "published" in shown
    assert "OTHER CHANGES" not in shown
    old, new = ({key["name"]: key["keyid"] for key in found["keys"]} for found in (before, after))
    assert [name for name in old if old[name] != new[name]] == [name for name in old if name in gone]
    thresholds = [[(r["role"], r["threshold"], len(r["keys"])) for r in f["roles"]] for f in (before, after)]
    assert thresholds[0] == thresholds[1]
    versions = [{role["role"]: role["version"] for role in found["roles"]} for found in (before, after)]
    offline = {"root", "targets", "models"}
    assert {role for role in offline if versions[0][role] != versions[1][role]} == roles
    assert [key["keyid"] for key in after["retired"]] == [old[name] for name in gone]
    action, told, detail = trail(config)[-1]
    assert (action, told, detail["reason"]) == ("keys rotated", subject, "")
    assert detail["retired"] == [old[name] for name in gone]


def test_revoke_says_why_and_takes_the_online_keys_along_where_that_one_was_enough(
    config: CloudConfig, folder: Path
) -> None:
    assert keys(folder, "revoke", "trainer").exit_code == 2, "no reason"
    before = keyids(folder)
    done(folder, "revoke", "trainer", "--reason", "laptop stolen")
    between = keyids(folder)
    assert {name for name in before if before[name] != between[name]} == {"trainer"}
    done(folder, "revoke", "snapshot", "--reason", "server broken into")
    after = keyids(folder)
    assert {name for name in after if between[name] != after[name]} == {"snapshot", "timestamp"}
    retired = status(folder)["retired"]
    assert [(key["name"], key["reason"]) for key in retired] == [
        ("trainer", "laptop stolen"),
        ("snapshot", "server broken into"),
        ("timestamp", "server broken into"),
    ]
    assert [(action, detail["reason"]) for action, _, detail in trail(config)[-2:]] == [
        ("keys revoked", "laptop stolen"),
        ("keys revoked", "server broken into"),
    ]
    # What the trainer had signed is signed anew, and its old signature is nowhere.
    models = current_role(config.folders.repository, "models")
    assert set(models.signatures) == {after["trainer"], after["gate"]}


def test_a_new_key_of_ones_own_making_is_taken_by_uri_or_by_its_public_half(
    config: CloudConfig, folder: Path, tmp_path: Path
) -> None:
    made = Ed25519PrivateKey.generate()
    private, public = tmp_path / "new.pem", tmp_path / "new.pub"
    private.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(made.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    done(folder, "rotate", "gate", "--uri", f"file2:{private}")
    assert {key["name"]: key["uri"] for key in status(folder)["keys"]}["gate"] == f"file2:{private}"
    again = keys(folder, "rotate", "trainer", "--uri", f"file2:{private}")
    assert "each is used once" in str(again.exception)
    # Only its public half is here: the change waits until the private one has proved itself.
    shown = done(folder, "rotate", "gate")
    other = Ed25519PrivateKey.generate()
    public.write_bytes(other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    shown = done(folder, "rotate", "root-1", "--public", public)
    assert "root needs 1 more by the new keys" in shown
    (tmp_path / "far.pem").write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    pending = folder / "repository" / "pending" / "keys.json"
    told = ["keys", "sign", str(pending), "--uri", f"file2:{tmp_path / 'far.pem'}", "--yes"]
    assert CliRunner().invoke(command, told).exit_code == 0
    assert "published" in done(folder, "sign")
    for uri in ("hsm:2", "gate.pem", "file2:nowhere.pem"):
        assert keys(folder, "rotate", "root-2", "--uri", uri).exit_code == 1


class Token(Signer):
    """A hardware token that wants its PIN; its one key is in memory."""

    key = CryptoSigner.generate_ecdsa()

    def __init__(self, pin: Callable[[str], str]) -> None:
        self.pin = pin

    @property
    def public_key(self) -> Key:
        return self.key.public_key

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: Callable[[str], str] | None = None
    ) -> Token:
        assert secrets_handler is not None
        return cls(secrets_handler)

    def sign(self, payload: bytes) -> Signature:
        if self.pin("pin") != "1234":
            raise RuntimeError("wrong PIN")
        return self.key.sign(payload)


def test_a_key_in_a_token_is_a_matter_of_its_uri_and_its_pin(
    config: CloudConfig, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SIGNER_FOR_URI_SCHEME, "token", Token)
    _secret.cache_clear()
    public = tmp_path / "token.pub"
    public.write_text(Token.key.public_key.keyval["public"])
    monkeypatch.setenv("TRAFFIC_VISION_KEY_SECRET", "0000")
    wrong = keys(folder, "rotate", "root-1", "--uri", "token:1", "--public", public)
    assert "wrong PIN" in str(wrong.exception)
    assert status(folder)["pending"] is None
    _secret.cache_clear()
    monkeypatch.setenv("TRAFFIC_VISION_KEY_SECRET", "1234")
    assert "published" in done(folder, "rotate", "root-1", "--uri", "token:1", "--public", public)
    assert {key["name"]: key["reachable"] for key in status(folder)["keys"]}["root-1"]
    (folder / "keys" / "root-3.pem").unlink()
    assert "published" in done(folder, "rotate", "timestamp"), "root-2 and the token sign"
    _secret.cache_clear()
    monkeypatch.delenv("TRAFFIC_VISION_KEY_SECRET")
    found = {key["name"]: key for key in status(folder)["keys"]}["root-1"]
    assert not found["reachable"]
    assert "it wants a pin" in found["trouble"]


def test_a_private_key_may_be_encrypted(
    config: CloudConfig, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "keys" / "root-1.pem"
    private = load_pem_private_key(path.read_bytes(), None)
    path.write_bytes(
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word"))
    )
    (folder / "keys" / "root-2.pem").unlink()
    for word, signs in (("wrong", False), ("word", True)):
        _secret.cache_clear()
        monkeypatch.setenv("TRAFFIC_VISION_KEY_SECRET", word)
        assert {key["name"]: key["reachable"] for key in status(folder)["keys"]}["root-1"] is signs
    assert "published" in done(folder, "rotate", "root-2")
    _secret.cache_clear()


def test_a_key_moves_where_it_signs_or_where_one_says(
    config: CloudConfig, folder: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "elsewhere.pem"
    shutil.copy(folder / "keys" / "gate.pem", moved)
    done(folder, "move", "gate", f"file2:{moved}")
    assert load_keys(config.folders.keys).signer("gate").public_key.keyid == keyids(folder)["gate"]
    for uri in (f"file2:{folder / 'keys' / 'trainer.pem'}", "file2:nowhere.pem", "nowhere"):
        assert keys(folder, "move", "gate", uri).exit_code == 1, uri
    done(folder, "move", "gate", "hsm:2?label=gate", "--unchecked")
    assert {key["name"]: key["reachable"] for key in status(folder)["keys"]}["gate"] is False
    assert trail(config)[-1][:2] == ("key moved", "gate")


def test_renew_gives_the_offline_roles_another_year(config: CloudConfig, folder: Path) -> None:
    before = {role["role"]: role["version"] for role in status(folder)["roles"]}
    done(folder, "renew")
    done(folder, "renew", "root")
    after = {role["role"]: role["version"] for role in status(folder)["roles"]}
    assert {role: after[role] - before[role] for role in ("root", "targets", "models")} == {
        "root": 2,
        "targets": 1,
        "models": 1,
    }
    assert keys(folder, "renew", "timestamp").exit_code == 1
    assert keys(folder, "rotate", "nobody").exit_code == 1


def test_the_server_says_which_roles_end_soon(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder, ring = tmp_path / "repository", create_keys(tmp_path / "keys")
    create_repository(folder, ring, datetime.now(timezone.utc) - timedelta(days=340))
    SignedRepository(folder, ring.folder).refresh()
    assert [record.args[0] for record in caplog.records] == ["root", "targets", "models"]
    begin_renewal(folder, ring.folder, "all", Wish("owner"))
    key_publishing.publish(folder, ring.folder)
    caplog.clear()
    (folder / "metadata" / "timestamp.json").write_bytes(_ending(folder, ring))
    SignedRepository(folder, ring.folder).refresh()
    assert caplog.records == []


def _ending(folder: Path, ring: KeyRing) -> bytes:
    """A timestamp that is due."""
    stamp = read_role(folder / "metadata" / "timestamp.json")
    stamp.signed.expires -= timedelta(hours=20)
    sign_role(stamp, [ring.signer("timestamp")])
    return stamp.to_bytes()


def test_a_fleet_gets_a_role_with_keys_of_its_own_or_with_the_common_ones(
    config: CloudConfig, folder: Path
) -> None:
    done(folder, "delegate", "trucks", "--own-keys")
    done(folder, "delegate", "vans")
    roles = {role["role"]: role for role in status(folder)["roles"]}
    assert roles["models-trucks"]["keys"] == ["trucks-trainer", "trucks-gate"]
    assert roles["models-vans"]["keys"] == ["trainer", "gate"]
    assert {roles[f"models{fleet}"]["threshold"] for fleet in ("", "-trucks", "-vans")} == {2}
    delegated = current_role(config.folders.repository, "targets").signed.delegations.roles["models-trucks"]
    assert (delegated.terminating, delegated.paths) == (True, ["models/trucks/*"])
    for name in ("trucks", "Trucks", "../x", "", "a" * 40, "-a"):
        assert keys(folder, "delegate", "--", name).exit_code in (1, 2), name
    done(folder, "rotate", "trainer")
    versions = {role["role"]: role["version"] for role in status(folder)["roles"]}
    assert (versions["models"], versions["models-vans"], versions["models-trucks"]) == (2, 2, 1)
    assert ("fleet delegated", "trucks") in {(action, subject) for action, subject, _ in trail(config)}


def test_a_bundle_is_written_and_written_down(config: CloudConfig, folder: Path, tmp_path: Path) -> None:
    def bundle(*more: str) -> Result:
        told = ["release", "bundle", str(tmp_path / "out"), "--config", str(folder / "cloud.toml"), *more]
        return CliRunner().invoke(command, told)

    assert bundle().exit_code == 1, "there is no release yet"
    ring = load_keys(config.folders.keys)
    facts = propose_release(config.folders.repository, model("1"), TERMS, ring.signer("trainer"))
    signers = (ring.signer(name) for name in ("gate", "snapshot", "timestamp"))
    complete_release(config.folders.repository, facts.model_sha256, *signers)
    for online in ("snapshot", "timestamp"):  # nothing is signed for it
        (folder / "keys" / f"{online}.pem").unlink()
    written = bundle()
    assert written.exit_code == 0, written.output
    assert "release 1 (rectangles 1)" in written.output
    assert (tmp_path / "out").stat().st_size > len(model("1"))
    assert trail(config)[-1][:2] == ("bundled", "1")
    assert bundle("--fleet", "trucks").exit_code == 1


def test_the_server_finishes_what_a_kill_left(config: CloudConfig, folder: Path) -> None:
    """Root is out and the online roles are not: so it is when an old key was lost and then the power went."""
    (folder / "keys" / "timestamp.pem").unlink()
    repository = config.folders.repository
    change = begin_rotation(repository, config.folders.keys, "timestamp", Wish("owner"))
    root = change.after("root")
    assert root is not None
    role_path(repository, "root", 2).write_bytes(root.to_bytes())
    open_repository(config).refresh()
    stamp = json.loads((repository / "metadata" / "timestamp.json").read_text())
    assert [signature["keyid"] for signature in stamp["signatures"]] == [keyids(folder)["timestamp"]]
    assert status(folder)["pending"] is not None, "it is not written down yet"
    assert "published" in done(folder, "rotate", "timestamp")
    assert len(status(folder)["retired"]) == 1, (
        "the same command again finished it, and rotated no second time"
    )
    assert [action for action, _, _ in trail(config)].count("keys rotated") == 1
