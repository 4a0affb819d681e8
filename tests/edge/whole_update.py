"""The whole life of updates on one vehicle, and what must hold wherever it is cut.

Each step is a start of the daemon's slots and one thing done with them, over a real repository.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tuf.api.metadata import Metadata, Root

from cloud.release import releasing, repository
from cloud.release.bundling import write_bundle
from cloud.release.keys import create_keys
from cloud.release.role_files import current_role
from edge.updates import state_file
from edge.updates.errors import Refusal
from edge.updates.slot_state import SlotState, lost, violations
from edge.updates.slots import Slots
from protos.release_facts import ReleaseFacts
from protos.traffic_vision.v1.common_pb2 import UpdatePhase
from tests.edge.update_steps import BY_BUNDLE, STEPS, Client, Step, Stub, granted, inbox_of, wish
from tests.update_world import TERMS, VEHICLE, model

RELEASES = 6
PADDING = 100_000  # bytes: more than one chunk
OWN = model("own", PADDING)
KNOWN = re.compile(
    r"lock|assignment\.json|state\.json(\.old)?|[ab]|[ab]/(model\.onnx|evidence\.json)|staging|staging/[0-9a-f]{64}\.part"
    r"|metadata|metadata/(root|timestamp|snapshot|targets|models)\.json"
    r"|metadata/root_history|metadata/root_history/[0-9]+\.root\.json"
)
STAGED, REFUSED = UpdatePhase.UPDATE_PHASE_STAGED, UpdatePhase.UPDATE_PHASE_REFUSED


@dataclass(frozen=True)
class Around:
    """How the slots stood before a step that was not cut, and after it."""

    before: SlotState
    after: SlotState


class Vehicle:
    """Repositories as they grew, and the folders of a vehicle that looks at them."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.factory = place / "factory.onnx"
        self.factory.write_bytes(model("factory"))
        self.own = place / "own.onnx"
        self.own.write_bytes(OWN)
        keys = create_keys(place / "keys")
        cloud = place / "repository"
        repository.create_repository(cloud, keys)
        self.root = repository.current_root(cloud)
        self.released: list[ReleaseFacts] = []
        signers = [keys.signer(name) for name in ("gate", "snapshot", "timestamp")]
        for number in range(1, RELEASES + 1):
            if number in (2, BY_BUNDLE):
                root = Metadata[Root].from_bytes(self.root).signed
                repository.publish_root(cloud, root, [keys.signer("root-1"), keys.signer("root-2")])
            data = model(str(number), PADDING)
            facts = releasing.propose_release(cloud, data, TERMS, keys.signer("trainer"))
            releasing.complete_release(cloud, facts.model_sha256, *signers)
            self.released.append(facts)
            shutil.copytree(cloud, place / f"cloud-{number}")
            write_bundle(cloud, place / f"stick-{number}")

    def open(self, state: Path) -> Slots:
        """The slots of a vehicle with this state folder."""
        return Slots(state / "slots", self.factory, self.root, replace(VEHICLE, unsigned_allowed=True))

    def client(self, slots: Slots, step: Step) -> Client:
        """What looks for releases, as far as they are there."""
        stub: Any = Stub(self.place / f"cloud-{step.cloud}", 1 if step.cut else None)
        client = Client(stub, slots)
        client.stick, client.own = self.place / f"stick-{step.cloud}", self.own
        return client

    def do(self, state: Path, step: Step) -> tuple[Around, Any]:
        """One step, from the start of the slots on; and what came of it."""
        with self.open(state) as slots:
            before = slots.state
            result = step.action(slots, self.client(slots, step))
            return Around(before, slots.state), result

    def expected(self, state: Path) -> list[Around]:
        """All steps uncut."""
        state.mkdir()
        return [self.do(state, step)[0] for step in STEPS]

    def hold(self, state: Path, step: Step, around: Around, *, refused: bool = False) -> None:
        """Start again where `step` was cut: the state is old or new, whole, and the step can be done.

        1. The state file, if there is one, is a state of the machine, and none was set aside as damaged. Nor
           is one missing: the history tells of no repair.
        2. It is the state before the step or after it, or lies between them as `_is_between` says.
        3. Nothing lies about but the files that belong there.
        4. Each slot that the state names holds what is signed, byte for byte.
        5. Floors are no lower than before the step.
        6. A start drives on a model that was released, or the factory's, and has nothing to complain of.
        7. The step done again, a look at most twice, ends where it ends uncut.
        8. What a bundle proved is remembered no later than its release is staged, and each file of it whole.
        9. A wish that was not granted still lies in the inbox, and one that was is not granted again.
        """
        with self.open(state) as slots:
            found = slots.state
            assert not violations(found)
            assert not any(entry.what.startswith("state_") for entry in found.history), step.name
            assert _is_between(found, around), f"{step.name}: {found}"
            for path in (state / "slots").rglob("*"):
                name = str(path.relative_to(state / "slots"))
                assert KNOWN.fullmatch(name), f"{step.name}: {name} is left"
            self._loads(slots)
            self._remembers(slots)
            assert found.release_floor >= around.before.release_floor
            assert found.clock_floor_s >= around.before.clock_floor_s
            self._hold_by_the_copy(state, step, around)
            if step.action is granted:
                assert refused or found.wishes == around.after.wishes or inbox_of(slots).next(), step.name
            boot = slots.boot()
            assert boot.troubles == ()
            assert boot.model.data in self._models()
            self.complete(slots, step, around)

    def _hold_by_the_copy(self, state: Path, step: Step, around: Around) -> None:
        """8. With `state.json` damaged on top of the cut, its copy says no third thing either."""
        found = state_file.read(state / "slots")
        assert found.trouble == "", step.name
        copy = state / "slots" / state_file.COPY
        if not copy.exists():  # the cut was in the very first change
            assert around.before == SlotState(), step.name
            return
        copied = state_file.from_bytes(copy.read_bytes())
        assert not violations(copied)
        assert copied.release_floor >= around.before.release_floor, step.name
        assert copied.clock_floor_s >= around.before.clock_floor_s, step.name
        assert around.before.bad_sha256 <= copied.bad_sha256, step.name
        assert _is_between(copied, around), f"{step.name}: {copied}"

    def hold_in_memory(self, slots: Slots, step: Step, around: Around) -> None:
        """The same of slots that stay open after an error: rules 2, 4 and 5.

        One thing more may be: a start that could not be counted drives on the last good model.
        """
        state = slots.state
        assert not violations(state)
        assert _is_between(state, around) or _is_uncounted(state, around), step.name
        assert state.release_floor >= around.before.release_floor
        assert state.clock_floor_s >= around.before.clock_floor_s
        self._loads(slots)

    def complete(self, slots: Slots, step: Step, around: Around) -> None:
        """Bring the step to its end, rule 7."""
        if step.name.startswith("start") and _is_uncounted(slots.state, around):
            slots.raise_floors(clock_s=slots.state.clock_floor_s + 1)  # any change is kept now
            return
        self._do_again(slots, step, around.after)
        assert bare(slots.state) == bare(around.after), step.name
        self._loads(slots)

    def _do_again(self, slots: Slots, step: Step, after: SlotState) -> None:
        again = replace(step, cut=False)
        client = self.client(slots, again)
        if step.is_check:
            result = step.action(slots, client)
            if result.refusal is Refusal.CONTENT:  # what was kept of the file is damaged: once more
                result = step.action(slots, client)
            assert (result.phase, result.refusal) == (UpdatePhase.UPDATE_PHASE_STAGED, None), result
            if step.cut:  # uncut, it got further
                slots.lose(result.staged.slot, "as after the cut")  # type: ignore[union-attr]
        elif step.action is granted:
            self._grant_again(slots, client, after)
        elif bare(slots.state) != bare(after):
            again.action(slots, client)

    def _grant_again(self, slots: Slots, client: Client, after: SlotState) -> None:
        """What lies there, whether it was granted or not; then what a full disk refused is wished anew."""
        granted(slots, client)
        if not after.wishes or slots.state.wishes:
            return
        wish(slots, client)
        granted(slots, client)

    def _loads(self, slots: Slots) -> None:
        state = slots.state
        for slot in {state.active, state.last_good, state.candidate or "factory"}:
            loaded = slots.load(slot)
            release = loaded.content.release
            number = 0 if release is None else -1 if slots.is_unsigned(slot) else release.release_counter
            assert loaded.data == self._models()[number]

    def _remembers(self, slots: Slots) -> None:
        published = self.place / f"cloud-{BY_BUNDLE}" / "metadata"
        root = slots.metadata / "root_history" / "3.root.json"
        held = {path.name.partition(".")[0]: path for path in slots.metadata.glob("*.json")}
        by_bundle = slots.candidate() if slots.state.candidate else slots.active()
        if by_bundle is not None and by_bundle.release == self.released[BY_BUNDLE - 1]:
            for role in ("targets", "models", "snapshot"):
                newest = current_role(published.parent, role).to_bytes()
                assert held[role].read_bytes() == newest, f"{role} was not remembered"
            assert root.exists()
        if root.exists():
            assert root.read_bytes() == (published / root.name).read_bytes()

    def _models(self) -> list[bytes]:
        return [model("factory"), *(model(str(number), PADDING) for number in range(1, RELEASES + 1)), OWN]


def bare(state: SlotState) -> SlotState:
    """Without what another start or another look may add."""
    starts = None if state.probation_starts is None else 0
    return replace(state, probation_starts=starts, starts=0, clock_floor_s=0, wishes=(), history=())


def _is_uncounted(state: SlotState, around: Around) -> bool:
    before = around.before
    return before.on_probation and bare(state) == bare(lost(before, before.active))


def _is_between(found: SlotState, around: Around) -> bool:
    """Whether each thing that is remembered is as before or as after, and what runs changed as a whole.

    A look may have raised the floors and emptied the slot that it stages into, and not have come further.
    """
    before, after = around.before, around.after

    def runs(state: SlotState) -> tuple[Any, ...]:
        return (state.active, state.last_good, state.on_probation, state.bad, state.reverted)

    if runs(found) not in (runs(before), runs(after)):
        return False
    if found.candidate not in (None, before.candidate, after.candidate):
        return False
    for slot in ("a", "b"):
        if found.release(slot) not in (None, before.release(slot), after.release(slot)):  # type: ignore[arg-type]
            return False
    return found.release_floor in (before.release_floor, after.release_floor)
