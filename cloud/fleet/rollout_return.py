"""A release is taken back: the model before it is released anew, under a counter of its own.

No vehicle goes back to a lower counter once it has confirmed a higher one, and none should: that floor is
what a thief with old metadata runs into. So the way back is a way forward: the bytes of the older model,
signed by trainer and gate as any release is, with the next counter. Vehicles on probation need no signature
for it: the assignment calls the release withdrawn, and they put their own last good model back.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from cloud.config import CloudConfig
from cloud.fleet.rollout_changes import EVERYONE, change_state, start
from cloud.fleet.rollout_rules import assigning
from cloud.fleet.rollout_state import audience_of, read_snapshot
from cloud.release.errors import ReleaseError
from cloud.release.keys import load_keys
from cloud.release.releasing import ReleaseTerms, pending_release
from cloud.release.repository import target_file
from cloud.release.signing import sign_release
from cloud.store import Store
from cloud.store.database import audit
from cloud.store.models import Release
from cloud.store.releases import release_row
from cloud.store.rollouts import Rollout, RolloutMember
from cloud.store.states import Outcome, RolloutState
from protos.release_facts import FactsError, ReleaseFacts, from_custom

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Return:
    """What is to be taken back, and the release before it; None: there is none."""

    counter: int
    before: Release | None


def take_back(store: Store, config: CloudConfig, actor: str, now: datetime) -> list[str]:
    """Sign what brings the model before each release that is to be taken back. Again, it does nothing twice.

    Args:
        store: the database.
        config: the cloud's; its folders of keys and of the repository are used.
        actor: for the audit trail.
        now: the present time.

    Returns:
        Why, for each release that is not taken back yet.
    """
    with store.reading() as session:
        returns = [_Return(row.release_counter, _before(session, row)) for row in _waiting(session)]
    troubles = []
    for wanted in returns:
        try:
            facts = None if wanted.before is None else _sign(config, wanted.before)
        except (ReleaseError, FactsError, OSError) as error:
            trouble = f"release {wanted.counter} is not taken back yet: {error}"
            troubles.append(trouble)
            _remember(store, wanted.counter, trouble)
            continue
        with store.writing() as session:
            _conclude(session, wanted, facts, actor, now)
    return troubles


def _waiting(session: Session) -> Sequence[Rollout]:
    query = select(Rollout).where(Rollout.state == RolloutState.RETURNING).order_by(Rollout.release_counter)
    return list(session.scalars(query))


def _before(session: Session, row: Rollout) -> Release | None:
    """The release of its fleet that most of its vehicles would be assigned without it."""
    snapshot = read_snapshot(session)
    fleet = audience_of(session.get_one(Release, row.release_counter).custom).fleet
    tracks = [
        rollout.track
        for rollout in snapshot.rollouts
        if rollout.track.counter < row.release_counter and rollout.track.audience.fleet == fleet
    ]
    members = session.scalars(
        select(RolloutMember.vehicle).where(RolloutMember.release_counter == row.release_counter)
    )
    counts: Counter[int] = Counter()
    for name in members:
        vehicle = snapshot.vehicles.get(name)
        track = None if vehicle is None else assigning(tracks, vehicle)[0]
        if track is not None:
            counts[track.counter] += 1
    if not counts:
        return None
    counter = max(counts, key=lambda counter: (counts[counter], counter))
    return session.get_one(Release, counter)


def _sign(config: CloudConfig, before: Release) -> ReleaseFacts:
    """Sign a release's model anew, on its terms but for the shadow: that is over, and would delay this."""
    folder = config.folders.repository
    facts = from_custom(before.custom)
    model = _model(target_file(folder, facts), facts.model_sha256)
    pending = pending_release(folder, facts.fleet)
    if pending is not None and pending.facts.model_sha256 != facts.model_sha256:
        raise ReleaseError(
            f"release {pending.facts.release_counter} is proposed and not signed by all; it comes first"
        )
    terms = ReleaseTerms(
        facts.hardware_ids,
        facts.minimum_daemon_version,
        facts.parent_sha256,
        facts.fleet,
        promise=facts.promise,
    )
    return sign_release(folder, load_keys(config.folders.keys), model, terms)


def _model(path: Path, sha256: str) -> bytes:
    model = path.read_bytes()
    if hashlib.sha256(model).hexdigest() != sha256:
        raise ReleaseError(f"{path} is not what was released: its SHA-256 is another one")
    return model


def _conclude(
    session: Session, wanted: _Return, facts: ReleaseFacts | None, actor: str, now: datetime
) -> None:
    query = select(Rollout).where(Rollout.release_counter == wanted.counter).with_for_update()
    row = session.scalars(query).one()
    if row.state is not RolloutState.RETURNING:
        return  # another server did it
    if facts is None or wanted.before is None:
        reason = f"there is no release before it, so who confirmed it keeps it; {row.reason}"
        change_state(session, row, RolloutState.RETURNED, reason, actor, now)
        return
    counter = facts.release_counter
    if session.get(Release, counter) is None:
        session.add(release_row(facts, verdict_id=wanted.before.verdict_id, parent_counter=wanted.counter))
        session.flush()
        why = {"returns": wanted.counter, "model_of": wanted.before.counter}
        audit(session, actor, "released", str(counter), sha256=facts.model_sha256, **why)
    if session.get(Rollout, counter) is None:
        # For the members of what is taken back alone: no stage of its own has begun.
        start(session, counter, EVERYONE, actor, now, state=RolloutState.DONE, returns=wanted.counter)
        members = select(RolloutMember.vehicle).where(RolloutMember.release_counter == wanted.counter)
        session.add_all(
            RolloutMember(
                release_counter=counter,
                vehicle=name,
                stage=1,
                assigned=now,
                outcome=Outcome.ASSIGNED,
                changed=now,
                before_ms=[],
                after_ms=[],
            )
            for name in list(session.scalars(members))
        )
    row.trouble = ""
    reason = f"release {counter} brings the model of release {wanted.before.counter}; {row.reason}"
    change_state(session, row, RolloutState.RETURNED, reason, actor, now)


def _remember(store: Store, counter: int, trouble: str) -> None:
    """Show it, once."""
    with store.reading() as session:
        if session.get_one(Rollout, counter).trouble == trouble:
            return
    _LOG.warning("%s", trouble)
    with store.writing() as session:
        session.get_one(Rollout, counter).trouble = trouble
