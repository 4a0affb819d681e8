"""One camera's drift: its monitor, what the monitor judges by, and the commissioning that this comes from."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.config import DriftConfig
from edge.drift.commission_terms import Present
from edge.drift.commissioning import Commissioning
from edge.drift.features import NAMES, ORIGINS
from edge.drift.fitting import unlearned
from edge.drift.frame_rate import at_rate
from edge.drift.learning import Learner
from edge.drift.monitor import DriftMonitor
from edge.drift.own import UNNAMED, Fitted, Own, merged
from edge.drift.reference import ContextReference, DriftReferenceError, Reference
from edge.drift.shadow_seen import ShadowSeen
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
        paused: what was told when the vehicle was parked; None where it drives, or an alarm stands meanwhile.
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
        seen: ShadowSeen,
        learner: Learner | None = None,
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
            seen: what candidates found in shadow on this camera's frames.
            learner: see `DriftMonitor`.
        """
        self.camera = camera
        self.model = model
        self.watched: Watched | None = None
        self.paused: common_pb2.DriftState | None = None
        self._commissioning = commissioning
        self._prior = prior
        self._own: Own | None = None if commissioning is None else commissioning.own
        self._alarm = False
        self._is_resting = False
        self._seen = seen
        self._known: Own | None = None  # of what was seen, that the monitor judges by
        self._seen_hours: dict[str, float] = {}  # by context, where it does
        reference = self._merged(model)
        self.monitor = DriftMonitor(
            reference or fallback or unlearned(config.rate_hz, NAMES, origins=ORIGINS, context=UNNAMED),
            target_hours=config.target_hours,
            cameras=cameras,
            learn_s=config.learn_s,
            learner=learner,
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
        self._tell_seen()

    def judge_anew(self, model: str, prior: Reference | None) -> None:
        """Another model answers: ask by its own reference whether the world fits."""
        self.model, self._prior = model, prior
        self._adopt("its file brings no drift reference")
        self._tell_commissioning()
        self._tell_seen()

    def take_over(self) -> None:
        """Judge by what the commissioning, or the fit of a shadow, has found since, if it has."""
        if self._commissioning is not None and self._commissioning.own is not self._own:
            self._own = self._commissioning.own
            if self._own is None and self._prior is None:
                self._forget_seen()
                self.monitor.adopt(
                    unlearned(self.monitor.reference.rate_hz, NAMES, origins=ORIGINS, context=UNNAMED)
                )
            else:
                self._adopt("its camera is commissioned anew")
        if self._seen.known is not self._known:
            self._take_over_seen(self._seen.known)

    def observe(self, time_ns: int, features: npt.NDArray[np.float32], *, moving: bool) -> DriftState | None:
        """Take a frame that the monitor wants; see `DriftMonitor.observe`."""
        self._is_resting = False
        monitor, commissioning = self.monitor, self._commissioning
        state = monitor.observe(time_ns, features, moving=moving)
        if state is not None:
            self._alarm = _picture_alarms(state, monitor.given)
        if commissioning is not None and monitor.state is not None and moving:
            commissioning.add(time_ns, features, monitor.state.context, monitor.nearest, alarm=self._alarm)
        return None if state is None else replace(state, notes=(*state.notes, *self._notes(state.context)))

    def _notes(self, context: str) -> tuple[str, ...]:
        """What people should know of where the references come from."""
        notes: tuple[str, ...] = ()
        if context in self._seen_hours:
            hours = self._seen_hours[context]
            notes = (f"what the model finds is judged by {hours:.1f} h of it in shadow, uncalibrated",)
        if self._commissioning is not None:
            judged = self.monitor.reference
            notes += self._commissioning.notes(context, judged, alarm=self._alarm)
        return notes

    def rest(self, time_ns: int) -> None:
        """The vehicle is parked: see `DriftMonitor.rest`."""
        self.monitor.rest(time_ns)
        if not self._is_resting:
            self._is_resting = True
            self.flush()

    def flush(self) -> None:
        """Driving ends here, for now."""
        if self._commissioning is not None:
            self._commissioning.flush()

    def _tell_commissioning(self) -> None:
        if self._commissioning is not None:
            self._commissioning.begin(Present(self.model, self._prior, self.monitor.reference.rate_hz))

    def _tell_seen(self) -> None:
        monitor = self.monitor
        self._seen.judges(self.model, monitor.reference, monitor.past, monitor.target_hours)

    def _forget_seen(self) -> None:
        self._known, self._seen_hours = None, {}

    def _take_over_seen(self, known: Own | None) -> None:
        """Judge by what the model found in shadow what would else be learned."""
        self._forget_seen()
        self._known = known
        if known is None or known.model != self.model:
            return
        monitor = self.monitor
        try:
            reference = at_rate(known.reference, monitor.reference.rate_hz)
            monitor.know(reference)
        except DriftReferenceError as error:
            logger.warning("camera %s: what was seen in shadow is not used: %s", self.camera, error)
            return
        judged = {context.name: context for context in monitor.reference.contexts}
        self._seen_hours = {
            context.name: known.fitted.get(context.name, Fitted()).model_hours
            for context in reference.contexts
            if context.name in judged and _share(context, judged[context.name])
        }

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
        self._forget_seen()
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


def _share(one: ContextReference, other: ContextReference) -> bool:
    """Whether two know some feature by the same frames."""
    return any(
        mine.known and (mine.mean, mine.sigma, mine.frames) == (theirs.mean, theirs.sigma, theirs.frames)
        for mine, theirs in zip(one.features, other.features, strict=True)
    )
