"""One look at what the cloud offers: metadata, rules, download, staging. No thread of its own.

Whoever owns the thread calls `check` at an interval and at a nudge. Whatever happens, the active model is not
touched: a staged release becomes active only by `Slots.activate`, when the frame loop takes it over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from edge.logs import Repeated
from edge.perception.model_file import ModelFile, ModelFileError, read_model_file
from edge.updates import trust
from edge.updates.assignment import why_kept
from edge.updates.download import TransferLimits, copy_target, fetch_target
from edge.updates.errors import PutOffError, Refusal, RefusedError, UpdateError
from edge.updates.history import Actor
from edge.updates.interruption import Interrupted, never
from edge.updates.report import resting_phase
from edge.updates.slot_content import SlotContent
from edge.updates.slots import Slots
from protos.release_facts import ReleaseFacts
from protos.traffic_vision.v1.common_pb2 import UpdatePhase
from protos.traffic_vision.v1.fleet_pb2 import FetchTargetRequest
from protos.traffic_vision.v1.fleet_pb2_grpc import FleetServiceStub

if TYPE_CHECKING:
    from edge.updates.evidence import Evidence
    from edge.updates.metadata import Catalogue

# A damaged transfer, somebody in between, a wrong clock: another look may find it gone. What is signed and
# does not suit stays so until something else is signed.
_MAY_PASS = {Refusal.CONTENT, Refusal.EXPIRED, Refusal.METADATA}

Progressed = Callable[[int], None]  # is told of the bytes that are there

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a check is.

    Attributes:
        phase: CHECKING, DOWNLOADING or VERIFYING.
        release: that it is about, once known.
        received_bytes: of its file.
        total_bytes: of its file; 0 while unknown.
    """

    phase: UpdatePhase
    release: ReleaseFacts | None = None
    received_bytes: int = 0
    total_bytes: int = 0


@dataclass(frozen=True, slots=True)
class UpdateResult:
    """How a check ended.

    Attributes:
        phase: STAGED: there is a candidate to activate; REFUSED: what is offered may not be used; else where
            the slots stand, and nothing changed.
        detail: for people.
        release: the newest one for this vehicle, or the one that is assigned, where one was found.
        staged: the candidate, with STAGED.
        refusal: the rule that was broken, with REFUSED.
        retry: the cause may pass by itself: check again after a while.
        runs_already: what is offered is the active model.
        put_off: something else came first; check again after that.
        metadata_expires: when the first role's metadata ends; None where none was verified this time.
    """

    phase: UpdatePhase
    detail: str = ""
    release: ReleaseFacts | None = None
    staged: SlotContent | None = None
    refusal: Refusal | None = None
    retry: bool = False
    runs_already: bool = False
    put_off: bool = False
    metadata_expires: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a release's file comes from, and what proves it.

    Attributes:
        fetch: takes the release, its length, the file to write, and who is told of bytes.
        evidence: takes the target's path.
    """

    fetch: Callable[[ReleaseFacts, int, Path, Progressed], None]
    evidence: Callable[[str], Evidence]


def utc_now() -> datetime:
    """The system's clock."""
    return datetime.now(timezone.utc)


class UpdateClient:
    """Looks for releases over the fleet's service and stages the newest one. Use it from one thread.

    Args:
        stub: of the fleet's service, on a channel of the caller's; None without a cloud.
        slots: where releases go; they know the vehicle and its shipped root.
        limits: how long the server may take.
        on_progress: called from within `check`; cheap, and never raises.
        clock: the present time, UTC; python-tuf itself always asks the system's.
        assigned: the counter of the release that the cloud wants here, 0 for none; None: the newest applies.
        interrupted: whether the caller has something to do that a transfer must not hold up; asked from other
            threads too, a few times a second. `check` then ends soon, and what has arrived is kept. It must
            not stay so after the caller has done that: else nothing is ever fetched.
        read_model: reads a model that nobody signed, and raises as `read_model_file` does.
    """

    def __init__(
        self,
        stub: FleetServiceStub | None,
        slots: Slots,
        *,
        limits: TransferLimits | None = None,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        clock: Callable[[], datetime] = utc_now,
        assigned: Callable[[], int | None] = lambda: None,
        interrupted: Interrupted = never,
        read_model: Callable[[Path], ModelFile] = read_model_file,
    ) -> None:
        self._stub = stub
        self._slots = slots
        self._limits = limits or TransferLimits()
        self._on_progress = on_progress
        self._clock = clock
        self._troubles = Repeated(_LOG, logging.WARNING)
        self._by: Actor = "cloud"
        self._release: ReleaseFacts | None = None  # of the look that is under way
        self._expires: datetime | None = None
        self._assigned = assigned
        self._interrupted = interrupted
        self._read_model = read_model

    def check(self) -> UpdateResult:
        """Look once. What the network, the repository or the disk does wrong is in the result, not raised."""
        self._by = "cloud"
        return self._looked(self._online)

    def install(self, bundle: Path) -> UpdateResult:
        """Stage the newest release of a signed bundle, by the same rules as `check`; nothing is raised."""
        self._by = "owner"
        return self._looked(lambda: self._offline(bundle))

    def install_unsigned(self, file: Path) -> UpdateResult:
        """Stage a model file that nobody signed, where the owner allowed that; nothing is raised."""
        self._by = "owner"
        return self._looked(lambda: self._unsigned(file))

    def _looked(self, look: Callable[[], UpdateResult]) -> UpdateResult:
        if self._slots.state.on_probation:
            return UpdateResult(
                UpdatePhase.UPDATE_PHASE_PROBATION, "a probation is under way; its outcome comes first"
            )
        self._release, self._expires = None, None
        try:
            result = look()
        except PutOffError as error:
            result = UpdateResult(resting_phase(self._slots.state), str(error), put_off=True)
        except RefusedError as error:
            retry = error.refusal in _MAY_PASS
            phase = UpdatePhase.UPDATE_PHASE_REFUSED
            result = UpdateResult(phase, str(error), refusal=error.refusal, retry=retry)
        except (UpdateError, ModelFileError) as error:
            result = UpdateResult(resting_phase(self._slots.state), str(error), retry=True)
        except OSError as error:
            detail = f"the update could not be kept on disk: {error}"
            result = UpdateResult(resting_phase(self._slots.state), detail, retry=True)
        text = "update check: %s: %s"
        if result.refusal or result.retry:
            self._troubles.log(text, UpdatePhase.Name(result.phase), result.detail, key=result.detail)
        else:
            _LOG.info(text, UpdatePhase.Name(result.phase), result.detail)
        return replace(result, release=self._release, metadata_expires=self._expires)

    def _online(self) -> UpdateResult:
        from edge.updates.metadata import evidence_for  # imports python-tuf

        slots, catalogue = self._slots, self._refresh()
        self._expires = min(catalogue.expiries.values())

        def fetch(release: ReleaseFacts, length: int, part: Path, on_progress: Progressed) -> None:
            request = FetchTargetRequest(path=release.target_path, sha256=release.model_sha256)
            assert self._stub is not None, "a check without a cloud"
            fetch_target(self._stub, request, length, part, self._limits, on_progress, self._interrupted)

        def evidence(path: str) -> Evidence:
            return evidence_for(slots.metadata, slots.shipped_root, path, slots.vehicle.fleet)

        return self._choose(catalogue, _Source(fetch, evidence), self._assigned())

    def _offline(self, path: Path) -> UpdateResult:
        from edge.updates.bundle import open_bundle
        from edge.updates.offline import read_offer  # imports python-tuf
        from edge.updates.remembered import keep_roles

        self._on_progress(Progress(UpdatePhase.UPDATE_PHASE_CHECKING))
        with open_bundle(path) as bundle:
            slots = self._slots
            with self._metadata_counted():
                offer = read_offer(bundle, slots.metadata, slots.shipped_root, slots.vehicle.fleet)
                self._hold_time(offer.catalogue)
                keep_roles(slots.metadata, offer.roles)

            def fetch(
                release: ReleaseFacts, length: int, part: Path, progress: Callable[[int], None]
            ) -> None:
                copy_target(bundle.target(release.target_path, release.model_sha256), length, part, progress)

            return self._choose(offer.catalogue, _Source(fetch, offer.evidence))

    def _unsigned(self, file: Path) -> UpdateResult:
        from edge.updates.evidence import Evidence  # imports python-tuf

        slots = self._slots
        if not slots.vehicle.unsigned_allowed:
            raise RefusedError(
                Refusal.UNSIGNED, "models that nobody signed need `unsigned = true` in [updates] of edge.toml"
            )
        model = self._read_model(file)
        if model.digest == slots.active().digest:
            detail = f"{model.summary()} runs already"
            return UpdateResult(resting_phase(slots.state), detail, runs_already=True)
        if model.digest in slots.state.bad_sha256:
            raise RefusedError(Refusal.KNOWN_BAD, f"sha256 {model.digest} failed on this vehicle before")
        about = model.metadata
        counter = max(1, slots.state.release_floor)  # which raises no floor
        ids = tuple(sorted(slots.vehicle.hardware_ids))
        facts = ReleaseFacts(counter, about.name, about.version, model.digest, ids, fleet=slots.vehicle.fleet)
        staged = slots.stage(model.data, Evidence((), b"", b"", "", facts.to_custom()), self._by)
        self._release = facts
        detail = f"{about.name} {about.version}, which nobody signed, is staged"
        return UpdateResult(UpdatePhase.UPDATE_PHASE_STAGED, detail, staged=staged)

    def _choose(self, catalogue: Catalogue, source: _Source, assigned: int | None = None) -> UpdateResult:
        self._release = trust.newest_for(catalogue.lengths, self._slots.vehicle, assigned)
        return self._take(self._release, catalogue, source, assigned)

    def _refresh(self) -> Catalogue:
        from edge.updates.fetcher import GrpcFetcher  # these two import python-tuf
        from edge.updates.metadata import refresh

        self._on_progress(Progress(UpdatePhase.UPDATE_PHASE_CHECKING))
        assert self._stub is not None, "a check without a cloud"
        fetcher = GrpcFetcher(self._stub, self._limits, self._interrupted)
        with self._metadata_counted():
            fleet = self._slots.vehicle.fleet
            catalogue = refresh(self._slots.metadata, self._slots.shipped_root, fetcher, fleet)
        self._hold_time(catalogue)
        return catalogue

    @contextmanager
    def _metadata_counted(self) -> Iterator[None]:
        before = _files(self._slots.metadata)
        try:
            yield
        finally:
            for _, _, size in _files(self._slots.metadata) - before:
                self._slots.disk.wrote(size)

    def _hold_time(self, catalogue: Catalogue) -> None:
        """Hold every expiry against clock and floor, and raise the floor by what was signed."""
        clock, floor = self._clock(), self.clock_floor()
        if catalogue.signed_at is not None:
            floor = trust.raised_clock_floor(floor, catalogue.signed_at, clock)
        # With the raised floor, so that it never passes the end of what the offline keys signed.
        trust.check_expiry(catalogue.expiries, clock, floor)
        self._slots.raise_floors(clock_s=int(floor.timestamp()))

    def _take(
        self, release: ReleaseFacts | None, catalogue: Catalogue, source: _Source, assigned: int | None
    ) -> UpdateResult:
        slots = self._slots
        resting = resting_phase(slots.state)
        if not catalogue.lengths:
            return UpdateResult(resting, "there is no release yet")
        if release is None and assigned is not None:
            return UpdateResult(resting, why_kept(catalogue.lengths, assigned, slots.vehicle.hardware_ids))
        if release is None:
            trust.check_suits(max(catalogue.lengths, key=lambda facts: facts.release_counter), slots.vehicle)
            raise AssertionError("a release that suits was not chosen")
        active, candidate = slots.active(), slots.candidate()
        named = f"release {release.release_counter} ({release.model_name} {release.model_version})"
        if release.model_sha256 == active.digest:
            slots.raise_floors(release=release.release_counter)
            return UpdateResult(resting, f"{named} runs already", runs_already=True)
        if candidate is not None and release == candidate.release:
            return UpdateResult(UpdatePhase.UPDATE_PHASE_STAGED, f"{named} is staged", staged=candidate)
        # What is staged and not assigned makes place for what is, be it older.
        staying = (active, candidate) if assigned is None else (active,)
        held = [
            content.release.release_counter
            for content in staying
            if content and content.release and not slots.is_unsigned(content.slot)
        ]
        active_counter, floor = max(held, default=0), slots.state.release_floor
        least = max(floor, slots.vehicle.release_floor, active_counter + 1)
        if assigned is not None and release.release_counter < least:
            return UpdateResult(
                resting, f"{named} is assigned; this vehicle goes back to none before {least}"
            )
        trust.check_admissible(
            release,
            catalogue.lengths[release],
            slots.vehicle,
            active_counter=active_counter,
            release_floor=floor,
            bad_sha256=slots.state.bad_sha256,
        )
        staged = self._stage(release, catalogue.lengths[release], source)
        return UpdateResult(UpdatePhase.UPDATE_PHASE_STAGED, f"{named} is staged", staged=staged)

    def _stage(self, release: ReleaseFacts, length: int, source: _Source) -> SlotContent:
        slots = self._slots
        part = slots.staging / f"{release.model_sha256}.part"
        for other in slots.staging.glob("*"):  # of a release that is no longer wanted
            if other != part:
                other.unlink()

        def on_progress(received: int) -> None:
            self._on_progress(Progress(UpdatePhase.UPDATE_PHASE_DOWNLOADING, release, received, length))

        kept = part.stat().st_size if part.exists() else 0
        try:
            source.fetch(release, length, part, on_progress)
        finally:
            if part.exists():
                slots.disk.wrote(max(0, part.stat().st_size - kept))
        self._on_progress(Progress(UpdatePhase.UPDATE_PHASE_VERIFYING, release, length, length))
        evidence = source.evidence(release.target_path)
        try:
            return slots.stage(part, evidence, self._by)
        except RefusedError:
            part.unlink(missing_ok=True)  # the next try begins anew
            raise

    def clock_floor(self) -> datetime:
        """The latest moment that is past for certain."""
        remembered = datetime.fromtimestamp(self._slots.state.clock_floor_s, timezone.utc)
        return max(remembered, self._slots.vehicle.clock_floor)


def _files(folder: Path) -> set[tuple[Path, int, int]]:
    """Path, time of change and size of every file: what differs from an earlier look was written since."""
    found = ((path, path.stat()) for path in folder.rglob("*") if path.is_file())
    return {(path, stat.st_mtime_ns, stat.st_size) for path, stat in found}
