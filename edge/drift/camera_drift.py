"""One camera's drift: its monitor, what the monitor judges by, and the commissioning that this comes from."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.config import DriftConfig
from edge.drift.commissioning import Commissioning, Present
from edge.drift.features import NAMES, ORIGINS
from edge.drift.fit_child import GAP_S
from edge.drift.fitting import unlearned
from edge.drift.monitor import DriftMonitor
from edge.drift.own import UNNAMED, Own, at_rate, merged
from edge.drift.reference import DriftReferenceError, Reference
from edge.drift.state import DriftState, Origin, Verdict
from edge.drift.unknown import NAME as UNKNOWN
from edge.frames.frame import FrameKey
from protos.traffic_vision.v1 import common_pb2

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Watched:
    """What is known of the latest frame of a camera that was looked at for drift.

    Attributes:
        frame: which frame.
        features: `float32[F]`, NaN where not to be had.
        state: the latest judgement; None before the first.
    """

    frame: FrameKey
    features: npt.NDArray[np.float32]
    state: common_pb2.DriftState | None


class CameraDrift:
    """On the frame loop's thread.

    Attributes:
        monitor: judges.
        model: digest of the model that the monitor judges.
        watched: the latest frame; None before the first.
        paused: what was told when the vehicle was parked.
    """

    def __init__(
        self,
        camera: str,
        config: DriftConfig,
        cameras: int,
        model: str,
        prior: Reference | None,
        fallback: Reference | None,
        state: Path,
        commissioning: Commissioning | None,
    ) -> None:
        """Begin at the camera's first frame, where the last run ended.

        Args:
            camera: its name.
            config: the section [drift].
            cameras: that share the promise.
            model: digest of the model.
            prior: the reference that the model is judged by.
            fallback: what to judge the picture by where there is none: it was made with another model.
            state: the file that the monitor's state is kept in.
            commissioning: of this camera; None: there is none.
        """
        self.camera = camera
        self.model = model
        self.watched: Watched | None = None
        self.paused: common_pb2.DriftState | None = None
        self._commissioning = commissioning
        self._prior = prior
        self._own: Own | None = None if commissioning is None else commissioning.own
        self._alarm = False
        reference = self._merged(model)
        self.monitor = DriftMonitor(
            reference or fallback or unlearned(config.rate_hz, NAMES, origins=ORIGINS, context=UNNAMED),
            target_hours=config.target_hours,
            cameras=cameras,
            learn_s=config.learn_s,
            gap_s=GAP_S,
        )
        if reference is None and fallback is not None:
            self.monitor.model_changed()
        self._tell_commissioning()
        try:
            self.monitor.restore(state.read_bytes())
        except FileNotFoundError:
            pass
        except (OSError, DriftReferenceError) as error:
            logger.warning("camera %s: its drift monitor begins anew: %s", camera, error)

    def judge_anew(self, model: str, prior: Reference | None) -> None:
        """Another model answers: ask by its own reference whether the world fits."""
        self.model, self._prior = model, prior
        self._adopt("its file brings no drift reference")
        self._tell_commissioning()

    def take_over(self) -> None:
        """Judge by what the commissioning has found since, if it has."""
        if self._commissioning is None or self._commissioning.own is self._own:
            return
        self._own = self._commissioning.own
        if self._own is None and self._prior is None:
            self.monitor.adopt(
                unlearned(self.monitor.reference.rate_hz, NAMES, origins=ORIGINS, context=UNNAMED)
            )
            return
        self._adopt("its camera is commissioned anew")

    def observe(self, time_ns: int, features: npt.NDArray[np.float32], *, moving: bool) -> DriftState | None:
        """Take a frame that the monitor wants; see `DriftMonitor.observe`."""
        monitor, commissioning = self.monitor, self._commissioning
        state = monitor.observe(time_ns, features, moving=moving)
        if commissioning is None or monitor.state is None:
            return state
        if state is not None:
            self._alarm = _picture_alarms(state, monitor.given)
        if moving:
            commissioning.add(time_ns, features, monitor.state.context, monitor.nearest, alarm=self._alarm)
        if state is None:
            return None
        notes = commissioning.notes(state.context, monitor.reference, alarm=self._alarm)
        return replace(state, notes=(*state.notes, *notes)) if notes else state

    def flush(self) -> None:
        """Driving ends here, for now."""
        if self._commissioning is not None:
            self._commissioning.flush()

    def _tell_commissioning(self) -> None:
        if self._commissioning is not None:
            self._commissioning.begin(Present(self.model, self._prior, self.monitor.reference.rate_hz))

    def _merged(self, model: str) -> Reference | None:
        try:
            return merged(self._own, self._prior, model)
        except DriftReferenceError as error:
            logger.warning(
                "camera %s: it is judged by its own reference alone, without model %s's: %s",
                self.camera,
                model[:12],
                error,
            )
            return merged(self._own, None, model)

    def _adopt(self, why: str) -> None:
        try:
            reference = self._merged(self.model)
            if reference is not None:
                self.monitor.adopt(at_rate(reference, self.monitor.reference.rate_hz))
                return
        except DriftReferenceError as error:
            why = str(error)
        self.monitor.model_changed()
        logger.info("camera %s: what the new model sees is learned on the way: %s", self.camera, why)


def _picture_alarms(state: DriftState, given: Reference) -> bool:
    """Whether a reference, and not what was learned on the way, says that the picture has changed."""
    alarming = {
        (one.context, one.name)
        for one in state.features
        if one.verdict is Verdict.ALARM and one.origin is Origin.PICTURE
    }
    return bool(alarming) and (
        ("", UNKNOWN) in alarming
        or any(
            feature.known and (context.name, feature.name) in alarming
            for context in given.contexts
            for feature in context.features
        )
    )
