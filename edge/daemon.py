"""The daemon on the vehicle: wires the parts together and owns their start and stop.

Threads: a capture per camera -> mailboxes, newest wins -> the one frame loop -> hubs -> the server's threads;
and those of the optional parts. What a part does is in the part.
"""

from __future__ import annotations

import logging
import queue
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from types import FrameType

from edge.config import EdgeConfig
from edge.config.change import changed_keys, taken_over
from edge.errors import TrafficVisionError
from edge.frame_loop import FrameLoop
from edge.frames.camera import Camera, open_camera
from edge.frames.capture import Arrival
from edge.frames.mailbox import MailboxRow
from edge.health import LoopHealth, health
from edge.inference import detector_options
from edge.machine.memory import limit_arenas
from edge.machine.notify import NOBODY, Notifier
from edge.machine.priority import give_lock_away_soon
from edge.machine.wall_clock import open_wall_clock
from edge.machine.watchdog import StartingUp, Watchdog
from edge.messages import Clock, camera_health
from edge.parts import Links, ModelStore, Parts, PartsFactory
from edge.perception.detector import Detector, DetectorOptions
from edge.perception.hot_swap import SwappableDetector, prepare
from edge.perception.model_change import ModelChanger
from edge.perception.on_demand import OnDemand
from edge.publication import Publication
from edge.reload import Reloader
from edge.serve.hub import Hub
from edge.serve.perception_service import PerceptionService
from edge.serve.server import PerceptionServer
from edge.state_folder import StateFolder
from edge.status import Status
from edge.vehicle_state.state import Reports
from protos.traffic_vision.v1 import common_pb2

logger = logging.getLogger(__name__)

EXIT_STOPPED = 0
EXIT_FAILED = 70  # EX_SOFTWARE of sysexits.h: a defect; whoever supervises starts it again

STOP_WITHIN_S = 2.5  # for all of it; SIGTERM to exit takes 3 s at most
_SERVER_GRACE_S = 0.5  # for clients to take what is queued for them
_CAPTURE_JOIN_S = 0.5
_TICK_S = 1.0

Reread = Callable[[], EdgeConfig]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Daemon:
    """One run of the daemon."""

    def __init__(
        self,
        config: EdgeConfig,
        factory: PartsFactory,
        reread: Reread | None = None,
        *,
        manager: Notifier = NOBODY,
        watchdog_s: float | None = None,
    ) -> None:
        """For a configuration; nothing is opened yet.

        Args:
            config: what to run.
            factory: makes the optional parts.
            reread: reads the configuration again, at SIGHUP; None: that is ignored.
            manager: is told how the daemon is.
            watchdog_s: after which it takes silence for death; None: it does not watch.
        """
        self.config = config
        self.address = ""  # of the perception service, once it is started
        self._server: PerceptionServer | None = None
        self._factory = factory
        self._reread = reread
        self._manager = manager
        self._watchdog_s = watchdog_s
        self._take_over_parts: Callable[[EdgeConfig], None] = lambda config: None
        self._cameras: list[Camera] = []
        self._service: PerceptionService | None = None
        self._run_id = uuid.uuid4().hex
        self._clock = Clock(self._run_id, open_wall_clock(config.clock))
        self._reports = Reports(self._clock.now, valid_ms=config.vehicle_state.valid_ms)
        self._row: MailboxRow[Arrival] = MailboxRow([camera.name for camera in config.cameras])
        self._detections: Hub[Publication] = Hub()
        self._drift: Hub[common_pb2.DriftState] = Hub(retain=lambda state: state.camera)
        # Exit codes; None: read the configuration again. Its put is safe in signals.
        self._inbox: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._on_demand = OnDemand(self._row.wake)
        self._loop: FrameLoop | None = None
        self._started = ExitStack()
        self._stop_at = 0.0

    def run(self) -> int:
        """Run until a signal or a defect; returns the exit code.

        Raises:
            TrafficVisionError: it cannot start; what was started is stopped.
        """
        limit_arenas()
        give_lock_away_soon()
        with StateFolder(self.config.state_folder), self._captured_signals():
            try:
                # The first inference may build an engine, for as long as the check of a model may.
                with StartingUp(self._manager, self.config.model.check_timeout_s):
                    self.startup()
                return self._main_loop()
            finally:
                self._manager.stopping()
                began = time.monotonic()
                self.shutdown()
                seconds = round(time.monotonic() - began, 3)
                logger.info("stopped in %.1f s", seconds, extra={"event": "stopped", "seconds": seconds})

    def startup(self) -> None:
        """Open what can be refused, then start from the clients' end to the cameras'.

        Raises:
            TrafficVisionError: something cannot be opened; `shutdown` stops the rest.
        """
        began = time.monotonic()
        models = self._factory.open_models(self.config)
        self._started.callback(models.close)
        options = detector_options(self.config)
        detector = SwappableDetector(Detector(models.active(), options), requested=self._row.wake)
        try:
            self._start_around(detector, options, models)
        except TrafficVisionError:
            models.excuse_start()  # it has run: an address that is taken says nothing of it
            raise
        logger.info(
            "vehicle %s runs: cameras %s; model %s; serving at %s",
            self.config.vehicle,
            ", ".join(camera.config.name for camera in self._cameras),
            detector.active.model.summary(),
            ", ".join(self._addresses()),
            extra={
                "event": "started",
                "address": self.address,
                "addresses": self._addresses(),
                "model": detector.active.model.digest,
                "seconds": round(time.monotonic() - began, 3),
            },
        )

    def _start_around(
        self, detector: SwappableDetector, options: DetectorOptions, models: ModelStore
    ) -> None:
        """All but the model, which has run once."""
        cameras = self._cameras = self._open_cameras()
        changer = ModelChanger(
            detector,
            options,
            check_timeout_s=self.config.model.check_timeout_s,
            prepare=partial(prepare, memory_bytes=self.config.model.check_memory_bytes),
            keep_frames=self._row.keeping,
        )
        status = Status(
            clock=self._clock, cameras=cameras, detector=detector, models=models, drift=self._drift
        )
        reloader = Reloader(models, changer)
        server = self._open_server(status, reloader)
        links = Links(
            clock=self._clock,
            run_id=self._run_id,
            status=status.vehicle,
            publish_drift=self._drift.publish,
            change_model=changer.change,
            keep_frames=changer.keep_frames,
            reload_model=reloader.reload,
            detect=self._on_demand.detect,
            loop_health=self._loop_health,
            troubles=self._troubles,
            reports=self._reports,
            give_up=self._give_up,
        )
        parts = self._factory.build_parts(self.config, links)
        status.add(parts.background)
        self._take_over_parts = parts.take_over

        self._start_server(server)
        self._start_parts(parts, changer)
        self._start_loop(cameras, detector, parts)
        self._start_cameras(cameras)
        self._start_watchdog()
        self._manager.ready(self._summary())

    def shutdown(self) -> None:
        """Stop in the opposite order: no more frames, the one in hand answered, clients told, all joined."""
        self._stop_at = time.monotonic() + STOP_WITHIN_S
        self._started.close()

    def stop(self, code: int = EXIT_STOPPED) -> None:
        """Ask `run` to end. From any thread, and from a signal."""
        self._inbox.put(code)

    def _addresses(self) -> tuple[str, ...]:
        return () if self._server is None else self._server.addresses

    def _give_up(self, reason: str) -> None:
        logger.error("the daemon ends, to be started anew: %s", reason, extra={"event": "given_up"})
        self.stop(EXIT_FAILED)

    def _loop_health(self) -> LoopHealth:
        loop = self._loop
        return LoopHealth(is_running=False, stepped_ns=0) if loop is None else loop.health()

    def _troubles(self) -> tuple[str, ...]:
        cameras = [camera_health(camera) for camera in self._cameras]
        return health(cameras, self._loop_health(), time.monotonic_ns())

    def _main_loop(self) -> int:
        while True:
            if self._server is not None:
                self._server.serving(not self._troubles())
            try:
                code = self._inbox.get(timeout=_TICK_S)
            except queue.Empty:
                continue
            if code is not None:
                return code
            self._manager.reloading()
            self._take_over()
            self._manager.ready(self._summary())

    def _take_over(self) -> None:
        """Read the configuration again, and take over what can change in a running daemon."""
        assert self._reread is not None and self._service is not None
        try:
            wanted = self._reread()
        except TrafficVisionError as error:
            logger.error("%s; what runs goes on", error, extra={"event": "config_refused"})
            return
        before, self.config = self.config, taken_over(self.config, wanted)
        for camera, section in zip(self._cameras, self.config.cameras, strict=True):
            camera.take_over(section)
        self._service.limit_queues(self.config.serve.queue_limit)
        self._take_over_parts(self.config)
        logging.getLogger().setLevel(self.config.log.level.upper())
        changes, waiting = changed_keys(before, self.config), changed_keys(self.config, wanted)
        if waiting:
            logger.warning(
                "only a restart takes over %s",
                ", ".join(waiting),
                extra={"event": "config_waits", "keys": waiting},
            )
        logger.info("configuration read again", extra={"event": "config_reloaded", "changed": changes})

    def _open_cameras(self) -> list[Camera]:
        cameras: list[Camera] = []
        for section in self.config.cameras:
            camera = open_camera(section, self._row.boxes[section.name])
            self._started.callback(camera.capture.stop)
            cameras.append(camera)
        return cameras

    def _open_server(self, status: Status, reloader: Reloader) -> PerceptionServer:
        service = self._service = PerceptionService(
            cameras=[camera.name for camera in self.config.cameras],
            detections=self._detections,
            drift=self._drift,
            clock=self._clock,
            status=status.response,
            reload_model=reloader.reload,
            report_vehicle=self._reports.report,
            max_streams=self.config.serve.max_streams,
            queue_limit=self.config.serve.queue_limit,
        )
        serve, credentials = self.config.serve, None
        if serve.tls is not None:
            from edge.serve.tls import server_credentials  # its libraries take time that the start has not

            credentials = partial(server_credentials, serve.tls)
        server = PerceptionServer(
            service,
            serve.address,
            *serve.more_addresses,
            max_streams=serve.max_streams,
            credentials=credentials,
        )
        self._at_stop("server", server.stop, _SERVER_GRACE_S)
        return server

    def _start_server(self, server: PerceptionServer) -> None:
        server.start()
        self._server = server
        self.address = server.address
        self._started.callback(self._detections.close)
        self._started.callback(self._drift.close)

    def _start_parts(self, parts: Parts, changer: ModelChanger) -> None:
        for part in parts.background:
            part.start()
            self._at_stop(part.name, part.join)
        for part in parts.background:
            self._started.callback(part.stop)
        # First, or a part that changes the model, or asks about a picture, could not end.
        self._started.callback(changer.stop)
        self._started.callback(self._on_demand.close)

    def _start_loop(self, cameras: list[Camera], detector: SwappableDetector, parts: Parts) -> None:
        def fallback(reason: str) -> None:
            if parts.updates is not None:
                parts.updates.model_failed(detector.active.model, reason)

        def failed() -> None:
            if parts.updates is not None:
                parts.updates.loop_failed()
            self.stop(EXIT_FAILED)

        loop = self._loop = FrameLoop(
            cameras,
            self._row,
            detector,
            self._detections.publish,
            observers=parts.observers,
            fallback=fallback,
            on_demand=self._on_demand,
        )
        loop.start(failed=failed)
        self._started.callback(_log_frames, cameras)
        self._at_stop("frame loop", loop.join)
        self._started.callback(loop.stop)

    def _start_watchdog(self) -> None:
        watchdog = Watchdog(self._manager, self._watchdog_s, self._troubles)
        watchdog.start()
        self._at_stop("watchdog", watchdog.join)
        self._started.callback(watchdog.stop)

    def _summary(self) -> str:
        names = ", ".join(camera.name for camera in self.config.cameras)
        return f"cameras {names}; serving at {self.address}"

    def _start_cameras(self, cameras: list[Camera]) -> None:
        for camera in cameras:
            # One that hangs in its source must not use up the time of the rest.
            self._at_stop(f"capture of camera {camera.config.name}", camera.capture.join, _CAPTURE_JOIN_S)
        for camera in cameras:
            self._started.callback(camera.capture.stop)
        for camera in cameras:
            camera.capture.start()

    def _at_stop(self, name: str, join: Callable[[float], bool], limit_s: float = STOP_WITHIN_S) -> None:
        """Have it joined when its turn comes, within what is left of the time to stop."""

        def joined() -> None:
            if not join(min(limit_s, max(0.1, self._stop_at - time.monotonic()))):
                logger.error("the %s did not stop in time", name, extra={"event": "hangs", "part": name})

        self._started.callback(joined)

    @contextmanager
    def _captured_signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        if self._reread is not None:
            before[signal.SIGHUP] = signal.signal(signal.SIGHUP, lambda *_: self._inbox.put(None))
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)  # a second one ends the process at once
        self.stop()


def _log_frames(cameras: list[Camera]) -> None:
    for camera in cameras:
        tally = camera.counts.tally()
        logger.info(
            "camera %s: %s",
            camera.config.name,
            ", ".join(f"{count} {name}" for name, count in tally.as_dict().items() if count),
            extra={"event": "frames", "camera": camera.config.name, "frames": tally.as_dict()},
        )
