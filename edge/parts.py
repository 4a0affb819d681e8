"""The optional parts of the daemon, as it sees them: what it starts, asks, tells and stops.

The daemon knows these few methods and nothing of what is behind them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

from edge.config import EdgeConfig, ModelConfig
from edge.frame_loop import FrameObserver
from edge.frames.frame import Image
from edge.health import LoopHealth
from edge.messages import Clock
from edge.perception.model_change import ChangeResult
from edge.perception.model_file import ModelFile, read_model_bytes, read_model_file
from edge.perception.model_reading import read_apart
from edge.perception.on_demand import Answer
from edge.vehicle_state.state import Reports
from protos.traffic_vision.v1 import common_pb2, perception_pb2


class BackgroundPart(Protocol):
    """Something with threads of its own."""

    @property
    def name(self) -> str:
        """For the log."""

    def start(self) -> None:
        """Start the threads. Returns at once."""

    def stop(self) -> None:
        """Ask the threads to end. Returns at once; may be called twice."""

    def join(self, timeout_s: float) -> bool:
        """Wait for the threads; False where one hangs."""

    def fill_status(self, status: common_pb2.VehicleStatus) -> None:
        """Put into the vehicle's status what this part knows of."""


class ModelStore(Protocol):
    """Where the vehicle's models are: slots, or the factory's model alone."""

    def active(self) -> ModelFile:
        """The model to start with.

        Raises:
            TrafficVisionError: there is none that can be used.
        """

    def read(self, slot: common_pb2.Slot) -> ModelFile | None:
        """The model in a slot, verified; None where the slot is empty. Unspecified: the staged candidate.

        Raises:
            TrafficVisionError: what is in the slot is not to be used.
        """

    def activated(self, slot: common_pb2.Slot, model: ModelFile) -> None:
        """Note that the model of a slot runs now, for the next start."""

    def excuse_start(self) -> None:
        """The model loaded and ran, and the daemon cannot start for another reason. Never raises."""

    def fill_state(self, state: common_pb2.ModelState) -> None:
        """Put slot, phase and candidate into a state whose active model is set."""

    def close(self) -> None:
        """Give back what is held. May be called twice."""


class UpdatesPart(BackgroundPart, Protocol):
    """The update client. It changes the model through `Links.change_model`."""

    def model_failed(self, model: ModelFile, reason: str) -> None:
        """The running model crashed three times within a minute: put the last good one back.

        On the loop's thread: returns at once.
        """

    def loop_failed(self) -> None:
        """The frame loop ended by a defect: what comes is no orderly stop. Returns at once."""


@dataclass(frozen=True, slots=True)
class Links:
    """What parts get of the daemon.

    Attributes:
        clock: this run's time stamps.
        run_id: of this run; no other run has it.
        status: the vehicle's status now.
        publish_drift: gives a drift state to local clients. Never waits.
        change_model: checks a model, loads it, and puts it between two frames; takes seconds to minutes.
        reload_model: the same with a model of a slot, by a local client's wish; is told in its answer, too.
        detect: what is on one picture, `uint8[H, W, 3]` BGR, within so many seconds (`OnDemand.detect`).
        loop_health: how the frame loop is.
        troubles: why the daemon does not do its work (`edge.health.health`); empty: it does.
        reports: what the vehicle says of itself.
        keep_frames: has frames wait rather than be superseded meanwhile: around what reads a model, and puts
            it in.
        give_up: ends the daemon as a defect does, with the reason; whoever supervises starts it anew. Returns
            at once.
    """

    clock: Clock
    run_id: str
    status: Callable[[], common_pb2.VehicleStatus]
    publish_drift: Callable[[common_pb2.DriftState], None]
    change_model: Callable[[ModelFile], ChangeResult]
    reload_model: Callable[[perception_pb2.ReloadModelRequest], perception_pb2.ReloadModelResponse]
    detect: Callable[[Image, float], Answer]
    loop_health: Callable[[], LoopHealth]
    troubles: Callable[[], tuple[str, ...]]
    reports: Reports = field(default_factory=Reports)
    keep_frames: Callable[[], AbstractContextManager[object]] = nullcontext
    give_up: Callable[[str], None] = lambda reason: None


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts that a configuration asks for.

    Attributes:
        observers: see every published frame, in this order: the vehicle's state, drift, which asks it, then
            the sampler, which asks both.
        background: have threads; they start in this order and stop in the opposite one, after the frame loop.
        updates: fetches, verifies and stages models; among `background` too.
        take_over: is told the configuration that holds from now on, after each time it was read again.
    """

    observers: tuple[FrameObserver, ...] = ()
    background: tuple[BackgroundPart, ...] = ()
    updates: UpdatesPart | None = None
    take_over: Callable[[EdgeConfig], None] = lambda config: None


class FactoryModel:
    """The model store of a vehicle without updates: the configuration's file, read anew each time.

    Whoever puts another file in its place, and asks for a reload, changes the model by hand.
    """

    def __init__(self, config: ModelConfig) -> None:
        """Over the configured file."""
        self._path = config.factory
        self._stopping = threading.Event()

    def active(self) -> ModelFile:
        """The file's model."""
        return read_model_file(self._path)

    def read(self, slot: common_pb2.Slot) -> ModelFile | None:
        """The file's model, for the factory slot and where no slot is named."""
        is_ours = slot in (common_pb2.SLOT_UNSPECIFIED, common_pb2.SLOT_FACTORY)
        if not is_ours:
            return None
        data = read_model_bytes(self._path)
        return read_apart(data, str(self._path), self._path, stopping=self._stopping)

    def activated(self, slot: common_pb2.Slot, model: ModelFile) -> None:
        """Nothing to note: the next start reads the same file."""

    def excuse_start(self) -> None:
        """Nothing is counted: there is no other model."""

    def fill_state(self, state: common_pb2.ModelState) -> None:
        """The factory slot, with no update under way."""
        state.active_slot = common_pb2.SLOT_FACTORY
        state.phase = common_pb2.UPDATE_PHASE_IDLE
        state.last_good.CopyFrom(state.active)

    def close(self) -> None:
        """Wait for no reading any more."""
        self._stopping.set()


class PartsFactory(Protocol):
    """Makes what a configuration asks for; nothing starts before the daemon starts it."""

    def open_models(self, config: EdgeConfig) -> ModelStore:
        """Open where the models are. The state folder is there and locked.

        Raises:
            TrafficVisionError: it cannot be used.
        """

    def build_parts(self, config: EdgeConfig, links: Links) -> Parts:
        """Build the parts.

        Raises:
            TrafficVisionError: one cannot do what it is asked to.
        """
