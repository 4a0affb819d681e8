"""The assignment that the vehicle goes by: said by the cloud on one thread, taken over on another's turn."""

from __future__ import annotations

import logging
import threading
import time

from edge.updates import assignment
from edge.updates.assignment import Assignment
from edge.updates.slot_content import SlotContent
from edge.updates.slots import Slots
from protos.traffic_vision.v1 import fleet_pb2

logger = logging.getLogger(__name__)


class Assigned:
    """`say`, `counter`, `changes`, `allows` and `is_news` from any thread; the rest from the updates' own."""

    def __init__(self, slots: Slots, hold_s: float) -> None:
        """With what an earlier run was assigned.

        Args:
            slots: beside which it is kept.
            hold_s: how long a vehicle that was never assigned anything waits for the cloud's first word.
        """
        self.by_hand = ""  # the digest of what was installed last by hand, whatever the cloud assigns
        self._slots = slots
        self._file = slots.metadata.parent / assignment.FILE
        self._held = assignment.read(self._file)
        self.hold_until_s = time.monotonic() + hold_s if self._held is None else 0.0
        self._lock = threading.Lock()
        self._said: tuple[Assignment | None] | None = None  # by the cloud, and not looked at yet

    @property
    def counter(self) -> int | None:
        """Of the release to have, 0 for what the vehicle has; None: nothing is assigned."""
        held = self._held
        return None if held is None else held.release_counter

    def say(self, message: fleet_pb2.Assignment | None) -> None:
        """The cloud assigns a release; None: none."""
        with self._lock:
            self._said = (None if message is None else assignment.from_message(message),)

    def changes(self) -> bool:
        """Whether what was said, and not yet taken over, assigns another release."""
        with self._lock:
            said = self._said
        if said is None:
            return False
        return (None if said[0] is None else said[0].release_counter) != self.counter

    def take(self) -> bool:
        """Take over what was said since the last time; whether that changes anything."""
        with self._lock:
            said, self._said = self._said, None
        if said is None:
            return False
        self.hold_until_s = 0.0
        if said[0] == self._held:
            return False
        self._held = said[0]
        try:
            self._slots.disk.wrote(assignment.write(self._file, self._held))
        except OSError as error:  # it holds until the next start, when the cloud says it again
            logger.warning(
                "the assignment cannot be kept on disk: %s", error, extra={"event": "updates_trouble"}
            )
        return True

    def is_news(self, release_counter: int) -> bool:
        """Whether a nudge about a release is worth a look: else the assignment of it is news by itself."""
        counter = self.counter
        return not release_counter or counter is None or counter == release_counter

    def allows(self, content: SlotContent) -> bool:
        """Whether what a slot holds may be put in, as far as the assignment goes."""
        counter, release = self.counter, content.release
        if counter is None or content.digest == self.by_hand:
            return True
        return release is not None and release.release_counter == counter

    def taken_back(self) -> tuple[str, str] | None:
        """Digest and reason, where the owner takes the release back that is on probation."""
        state, held = self._slots.state, self._held
        release = state.release(state.active)
        if held is None or release is None or not state.on_probation:
            return None
        if release.release_counter not in held.withdrawn:
            return None
        return release.model_sha256, f"the owner takes release {release.release_counter} back"
