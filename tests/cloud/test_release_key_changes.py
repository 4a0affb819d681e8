"""Any sequence of changes of keys: rules hold after each, and vehicles follow, fresh, known or away."""

from __future__ import annotations

import tempfile
from datetime import datetime, timezone
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from securesystemslib.signer import CryptoSigner

from cloud.release.ceremony import Wish, begin_delegation, begin_renewal, begin_rotation, current_roles
from cloud.release.key_changes import (
    delegated_role,
    exchange,
    role_names,
    roles_of,
    with_online_keys,
)
from cloud.release.key_publishing import finish, publish
from cloud.release.keys import create_keys, load_keys
from cloud.release.repository import create_repository
from tests.cloud.release_kills import seen

WISH = Wish("owner", "stolen")
ONLINE = ["snapshot", "timestamp"]
SUBJECTS = st.sampled_from(["root", "targets", "models", *ONLINE, "root-1", "root-3", "trainer", "gate"])
STEPS = st.tuples(st.just("rotate"), SUBJECTS) | st.tuples(st.just("revoke"), SUBJECTS)
STEPS |= st.tuples(st.just("renew"), st.sampled_from(["all", "root", "models"]))
STEPS |= st.tuples(st.just("delegate"), st.sampled_from(["trucks", "vans"]))


@given(steps=st.lists(STEPS, min_size=1, max_size=6, unique=True), looks=st.sets(st.integers(0, 5)))
@settings(max_examples=15, deadline=None)
def test_after_any_changes_the_rules_hold_and_vehicles_follow(
    steps: list[tuple[str, str]], looks: set[int]
) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder, keys = Path(place) / "repository", Path(place) / "keys"
        create_repository(folder, create_keys(keys))
        seen(folder, Path(place) / "away")
        first = current_roles(folder)
        thresholds = {name: delegated_role(first, name).threshold for name in role_names(first)}
        for number, (step, subject) in enumerate(steps):
            before = load_keys(keys)
            if step == "renew":
                begin_renewal(folder, keys, subject, WISH)
            elif step == "delegate":
                begin_delegation(folder, keys, subject, WISH, own_keys=subject == "trucks")
            else:
                begin_rotation(folder, keys, subject, WISH, revoke=step == "revoke")
            publish(folder, keys)
            finish(folder)
            roles, ring = current_roles(folder), load_keys(keys)
            gone = {key.keyid for key in ring.retired}
            for name in role_names(roles):
                role = delegated_role(roles, name)
                assert role.threshold == thresholds.get(name, 2)
                assert not gone.intersection(role.keyids)
                assert len(role.keyids) == len(set(role.keyids)) == (3 if name == "root" else role.threshold)
            top = [keyid for name in role_names(roles)[:4] for keyid in delegated_role(roles, name).keyids]
            assert len(set(top)) == 6, "no key has two top-level roles"
            if step == "revoke" and subject in ("targets", "models", *ONLINE):
                assert all(before.public(name).keyid in gone for name in ONLINE)
            if number in looks:
                seen(folder, Path(place) / "known")
        for cache in ("known", "away", "fresh"):
            assert seen(folder, Path(place) / cache) == []


def test_a_key_below_its_roles_threshold_takes_no_online_key_along(tmp_path: Path) -> None:
    ring = create_keys(tmp_path / "keys")
    create_repository(tmp_path / "repository", ring)
    roles = current_roles(tmp_path / "repository")

    def along(*names: str) -> set[str]:
        return {
            ring.name_of(keyid) for keyid in with_online_keys(roles, [ring.public(n).keyid for n in names])
        }

    for names in (("root-1",), ("trainer",), ("gate",), ("root-1", "gate")):
        assert along(*names) == set()
    for names in (("root-1", "root-2"), ("trainer", "gate"), ("targets",)):
        assert along(*names) == set(ONLINE)
    assert along("timestamp") == {"snapshot"}


def test_what_changes_is_what_must_and_nothing_else(tmp_path: Path) -> None:
    ring = create_keys(tmp_path / "keys")
    create_repository(tmp_path / "repository", ring)
    roles = current_roles(tmp_path / "repository")
    now = datetime(2026, 1, 1, tzinfo=timezone.utc)
    new = CryptoSigner.generate_ed25519().public_key
    expected = {
        "root-2": ["root"],
        "timestamp": ["root"],
        "targets": ["root", "targets"],
        "trainer": ["targets", "models"],
    }
    for name, written in expected.items():
        keyid = ring.public(name).keyid
        documents = exchange(roles, {keyid: new}, (), now)
        assert [document.role for document in documents] == written
        for document in documents:
            assert document.before is not None
            assert document.after.signed.version == document.before.signed.version + 1
            assert document.after.signatures == {}
        assert roles_of(roles, keyid), "what it was made of is not touched"
