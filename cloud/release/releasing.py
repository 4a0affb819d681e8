"""A release in two steps, by whoever holds the keys: the trainer proposes, the gate completes.

    folder/pending/ROLE.json                a release that is not signed by all yet; see release_file.py

One counter numbers the releases of all fleets, so that a vehicle may go from one to another.

Files appear in the order target, role, snapshot, timestamp. Clients start at the timestamp, so a kill
anywhere leaves them a whole repository, the old one or the new one; the same call again finishes.
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from securesystemslib.signer import Signer
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Snapshot, TargetFile, Targets

from cloud.release.errors import ReleaseError, UnsignedError
from cloud.release.locking import locked
from cloud.release.repository import Release, list_releases, releases_in, target_file
from cloud.release.role_files import (
    OFFLINE_VALIDITY,
    current_role,
    meta_of,
    moment,
    publish_online,
    read_role,
    read_timestamp,
    renew_snapshot,
    sign_role,
    write_durable,
    write_role,
)
from edge.perception.model_file import ModelFile, parse_model_file
from protos.release_facts import FactsError, ReleaseFacts, role_of_fleet
from protos.release_promise import Promise, ShadowFacts

_SLACK = timedelta(days=1)  # between the clocks of trainer and gate


@dataclass(frozen=True, slots=True)
class ReleaseTerms:
    """What the owner says of a release beyond what its file says of itself.

    Attributes:
        hardware_ids: what the file is made for.
        minimum_daemon_version: an older daemon must not install it; what the file itself needs holds too.
        parent_sha256: the model that training began from.
        fleet: whose vehicles alone may install it; None: those without a fleet.
        shadow: a trial beside the active model before the swap; None: none.
        promise: what the release promises of its probation; None: nothing.
    """

    hardware_ids: tuple[str, ...]
    minimum_daemon_version: str = "0"
    parent_sha256: str | None = None
    fleet: str | None = None
    shadow: ShadowFacts | None = None
    promise: Promise | None = None


def propose_release(
    folder: Path, model: bytes, terms: ReleaseTerms, trainer: Signer | None, now: datetime | None = None
) -> ReleaseFacts:
    """First step: the trainer signs. No vehicle sees it yet.

    The same model on the same terms as the newest release, or as the one that is pending, is not proposed
    twice.

    Args:
        folder: the repository.
        model: the model file's bytes.
        terms: what the owner says of it.
        trainer: signer of the trainer's key; None: it is elsewhere, and its signature is awaited.
        now: the present time; None: by the clock.

    Raises:
        ModelFileError: the bytes are no model file.
        ReleaseError: the terms are not possible, there is no such fleet, or signing failed.
        OSError: the repository cannot be written.
    """
    described = parse_model_file(model, "the release")
    role = role_name(terms.fleet)
    with locked(folder):
        current = current_role(folder, role)
        published = releases_in(folder, current)
        counter = _newest_counter(list_releases(folder)) + 1
        try:
            facts = _facts(described, terms, counter)
        except FactsError as error:
            raise ReleaseError(f"release {counter} is not possible: {error}") from None
        newest = _newest_counter(published)
        if published and published[-1].facts == replace(facts, release_counter=newest):
            return published[-1].facts
        pending = pending_release(folder, terms.fleet)
        if pending is not None and pending.facts == facts and _stands(folder, role, current, trainer):
            return facts
        _discard(folder, role, published)
        target = TargetFile.from_data(facts.target_path, model, ["sha256"])
        target.unrecognized_fields["custom"] = facts.to_custom()
        write_durable(target_file(folder, facts), model)
        current.signed.targets[facts.target_path] = target
        current.signed.version += 1
        current.signed.expires = moment(now) + OFFLINE_VALIDITY
        current.signatures.clear()
        sign_role(current, [] if trainer is None else [trainer])
        write_durable(proposal_path(folder, role), current.to_bytes())
        return facts


def complete_release(
    folder: Path,
    model_sha256: str,
    gate: Signer | None,
    snapshot: Signer,
    timestamp: Signer,
    now: datetime | None = None,
    fleet: str | None = None,
    *,
    terms: ReleaseTerms | None = None,
) -> ReleaseFacts:
    """Second step: the gate signs the very model that it judged, and vehicles see the release.

    Args:
        folder: the repository.
        model_sha256: digest of the model that passed the gate.
        gate: signer of the gate's key; None: it is elsewhere, and its signature is in the proposal.
        snapshot: signer of the snapshot role's key.
        timestamp: signer of the timestamp role's key.
        now: the present time; None: by the clock.
        fleet: that it was proposed for.
        terms: that it was judged on; the proposal must be on the same ones. None: on any.

    Raises:
        ReleaseError: this model is neither pending nor released, or the proposal holds more than this one
            release or is on other terms.
        UnsignedError: the signatures are not enough.
        OSError: the repository cannot be written.
    """
    role = role_name(fleet)
    with locked(folder):
        current = current_role(folder, role)
        published = releases_in(folder, current)
        pending = pending_release(folder, fleet)
        if pending in published:  # a kill came after the last file
            proposal_path(folder, role).unlink()
            pending = None
        if pending is None or pending.facts.model_sha256 != model_sha256:
            return _released(published, model_sha256)
        if terms is not None:
            _check_terms(pending, terms)
        proposed = read_role(proposal_path(folder, role))
        now = moment(now)
        _check_adds_only(proposed, current, pending, list_releases(folder), now)
        sign_role(proposed, [] if gate is None else [gate], append=True)
        try:
            current_role(folder, Targets.type).signed.verify_delegate(
                role, proposed.signed_bytes, proposed.signatures
            )
        except RepositoryError as error:
            raise UnsignedError(
                f"release {pending.facts.release_counter} is not signed by all: {error}"
            ) from None
        write_role(folder, role, proposed)
        following = current_role(folder, Snapshot.type)
        following.signed.meta[f"{role}.json"] = meta_of(folder, role, proposed.signed.version)
        renew_snapshot(following, now)
        publish_online(folder, following, read_timestamp(folder).version + 1, snapshot, timestamp, now)
        proposal_path(folder, role).unlink()
        return pending.facts


def discard_pending(folder: Path, fleet: str | None = None) -> None:
    """Forget a proposal that is not to be released, and its file. Without one, nothing happens.

    Raises:
        ReleaseError: there is no readable repository.
        OSError: the repository cannot be written.
    """
    with locked(folder):
        _discard(folder, role_name(fleet), list_releases(folder))


def pending_release(folder: Path, fleet: str | None = None) -> Release | None:
    """Return the fleet's release that is proposed, and not signed by all yet.

    Raises:
        ReleaseError: what is pending is no proposal.
    """
    path = proposal_path(folder, role_name(fleet))
    if not path.exists():
        return None
    try:
        return releases_in(folder, read_role(path))[-1]
    except (FactsError, IndexError) as error:
        raise ReleaseError(f"{path} is no proposal of a release: {error}") from None


def _facts(model: ModelFile, terms: ReleaseTerms, counter: int) -> ReleaseFacts:
    prior = model.metadata.drift_prior
    return ReleaseFacts(
        release_counter=counter,
        model_name=model.metadata.name,
        model_version=model.metadata.version,
        model_sha256=model.digest,
        hardware_ids=terms.hardware_ids,
        minimum_daemon_version=_newer(terms.minimum_daemon_version, model.metadata.minimum_daemon_version),
        parent_sha256=terms.parent_sha256,
        dataset_sha256=model.metadata.dataset_sha256,
        drift_reference_sha256=None if prior is None else hashlib.sha256(prior.encode()).hexdigest(),
        fleet=terms.fleet,
        shadow=terms.shadow,
        promise=terms.promise,
    )


def _newer(owners: str, files: str) -> str:
    """The newer of what the owner asks for and what the file needs, as it was written."""
    try:
        numbers = [[int(number) for number in text.split(".")] for text in (owners, files)]
    except ValueError:  # it is said what is wrong with the owner's
        return owners
    longest = max(map(len, numbers))
    asked, needed = (each + [0] * (longest - len(each)) for each in numbers)
    return owners if asked >= needed else files


def _check_terms(pending: Release, terms: ReleaseTerms) -> None:
    """What the trainer signed of the release is what the gate was told, fact by fact."""
    counter = pending.facts.release_counter
    try:
        facts = _facts(parse_model_file(pending.file.read_bytes(), "the release"), terms, counter)
    except OSError as error:
        raise ReleaseError(f"{pending.file} cannot be read: {error.strerror or error}") from None
    names = [field.name for field in fields(facts)]
    differing = [name for name in names if getattr(facts, name) != getattr(pending.facts, name)]
    if differing:
        raise ReleaseError(
            f"the proposal of release {counter} is on other terms than the gate's: {', '.join(differing)};"
            " propose it again"
        )


def _check_adds_only(
    proposed: Metadata[Any], current: Metadata[Any], release: Release, published: list[Release], now: datetime
) -> None:
    """The gate judged one model: the proposal must be the current role and that release, the file whole."""
    path = release.facts.target_path
    is_next = release.facts.release_counter == _newest_counter(published) + 1
    if not is_next or not adds_only(proposed.signed, current.signed, path, now):
        raise ReleaseError(
            f"the proposal of release {release.facts.release_counter} holds more than that release, or"
            " another came between: propose it again"
        )
    try:
        with release.file.open("rb") as file:
            proposed.signed.targets[path].verify_length_and_hashes(file)
    except (OSError, RepositoryError) as error:
        raise ReleaseError(f"{release.file} is not what the trainer signed: {error}") from None


def adds_only(proposed: Targets, current: Targets, path: str, now: datetime) -> bool:
    """Say whether a releases' role's next version adds one target and changes nothing else, known or not."""
    if path not in proposed.targets or proposed.delegations is not None:
        return False
    expected = copy.deepcopy(current)
    expected.targets[path] = proposed.targets[path]
    expected.version += 1
    expected.expires = proposed.expires
    return proposed == expected and proposed.expires <= now + OFFLINE_VALIDITY + _SLACK


def _released(published: list[Release], model_sha256: str) -> ReleaseFacts:
    for release in reversed(published):
        if release.facts.model_sha256 == model_sha256:
            return release.facts
    raise ReleaseError(f"no release of sha256 {model_sha256} is pending: it must be proposed first")


def _newest_counter(published: list[Release]) -> int:
    return published[-1].facts.release_counter if published else 0


def _stands(folder: Path, role: str, current: Metadata[Any], trainer: Signer | None) -> bool:
    """The proposal was signed by this trainer's key, if that is here, and follows the current role."""
    proposed = read_role(proposal_path(folder, role))
    follows: bool = proposed.signed.version == current.signed.version + 1
    return follows and (trainer is None or trainer.public_key.keyid in proposed.signatures)


def _discard(folder: Path, role: str, published: list[Release]) -> None:
    path = proposal_path(folder, role)
    if not path.exists():
        return
    for release in releases_in(folder, read_role(path)):
        if release not in published:
            release.file.unlink(missing_ok=True)
    path.unlink()


def proposal_path(folder: Path, role: str) -> Path:
    """Return where a role's release lies that is not signed by all yet."""
    return folder / "pending" / f"{role}.json"


def role_name(fleet: str | None) -> str:
    """Return the role of a fleet's releases.

    Raises:
        ReleaseError: no fleet can be called so.
    """
    try:
        return role_of_fleet(fleet)
    except FactsError as error:
        raise ReleaseError(str(error)) from None
