"""`watch` itself: the streams in threads, the screen or the lines here."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.live import Live

from edge.config import ServeConfig
from edge.errors import TrafficVisionError
from edge.serve.client import ClientError, PerceptionClient
from tools.watch.screen import render
from tools.watch.view import View
from tools.watch.words import drift_line, frame_line, status_line

_STATUS_EVERY_S = 1.0
_SCREEN_HZ = 8.0
_JOIN_S = 2.0
_QUEUE = 1000  # lines that wait for a slow pipe; beyond it they are lost, as the daemon would lose them


@dataclass(frozen=True, slots=True)
class Request:
    """What to watch.

    Attributes:
        address: of the perception service.
        cameras: empty for all.
        min_score: of a detection.
        max_rate_hz: frames per second and camera; 0 for every frame.
        limit: end after so many frames; None for no end.
        ca, cert, key: files of TLS; all None for a connection in the clear.
    """

    address: str
    cameras: tuple[str, ...] = ()
    min_score: float = 0.0
    max_rate_hz: float = 0.0
    limit: int | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None


class WatchError(TrafficVisionError):
    """What is asked for cannot be watched; the message says what to give."""


def address_of(serve: ServeConfig, ca: Path | None) -> str:
    """Of a configuration's addresses the one to watch: by TLS where `ca` is given, else one in the clear.

    Raises:
        WatchError: there is none of that kind.
    """
    addresses = (serve.address, *serve.more_addresses)
    in_the_clear = [address for address in addresses if serve.tls is None or address.startswith("unix:")]
    by_tls = [address for address in addresses if address not in in_the_clear]
    if ca is None:
        if not in_the_clear:
            raise WatchError(
                f"{by_tls[0]} speaks TLS: give --ca, and --cert and --key where it asks for them"
            )
        return in_the_clear[0]
    if not by_tls:
        raise WatchError(f"{in_the_clear[0]} speaks no TLS: leave out --ca")
    return by_tls[0]


def watch(request: Request, output: TextIO) -> None:
    """Show a daemon until Ctrl-C or the limit: a live screen on a terminal, lines elsewhere.

    Raises:
        TrafficVisionError: the daemon refuses what is asked for.
    """
    if output.isatty():
        _Watch(request).on_screen(Console(file=output))
    else:
        _Watch(request).in_lines(output)


class _Watch:
    def __init__(self, request: Request) -> None:
        self._request = request
        self._view = View()
        self._lines: queue.Queue[str] = queue.Queue(_QUEUE)
        self._done = threading.Event()
        self._refused: TrafficVisionError | None = None
        self._client = PerceptionClient(
            request.address, ca=request.ca, cert=request.cert, key=request.key, disconnected=self._lost
        )
        self._threads = [
            threading.Thread(
                target=self._guarded, args=(stream,), name=f"watch-{stream.__name__}", daemon=True
            )
            for stream in (self._frames, self._drift, self._status)
        ]

    def on_screen(self, console: Console) -> None:
        with Live(console=console, auto_refresh=False, screen=False) as live:
            self._run(
                lambda: live.update(render(self._view, self._request.address), refresh=True), 1 / _SCREEN_HZ
            )

    def in_lines(self, output: TextIO) -> None:
        def show() -> None:
            while not self._lines.empty():
                print(self._lines.get_nowait(), file=output, flush=True)

        self._run(show, 0.1)

    def _run(self, show: Callable[[], None], every_s: float) -> None:
        for thread in self._threads:
            thread.start()
        try:
            while not self._done.wait(every_s):
                show()
        except KeyboardInterrupt:
            pass
        finally:
            self._done.set()
            self._client.close()
            for thread in self._threads:
                thread.join(_JOIN_S)
        show()
        if self._refused is not None:
            raise self._refused

    def _guarded(self, stream: Callable[[], None]) -> None:
        try:
            stream()
        except TrafficVisionError as error:
            self._refused = error
            self._done.set()

    def _frames(self) -> None:
        request = self._request
        messages = self._client.detections(
            cameras=request.cameras, min_score=request.min_score, max_rate_hz=request.max_rate_hz
        )
        for seen, message in enumerate(messages, start=1):
            self._view.saw_frame(message)
            if message.dropped_messages:
                self._say(f"{message.dropped_messages} messages dropped: this client is slow")
            self._say(frame_line(message.detections))
            if seen == request.limit:
                self._done.set()
                return

    def _drift(self) -> None:
        for message in self._client.drift(cameras=self._request.cameras):
            before = self._view.drift.get(message.state.camera)
            self._view.saw_drift(message)
            if before is None or before.verdict != message.state.verdict:
                self._say(drift_line(message.state))

    def _status(self) -> None:
        told = ""
        while not self._done.is_set():
            try:
                response = self._client.status()
            except ClientError as error:
                self._lost(str(error))
            except ValueError:  # grpc's way to say that the client is closed
                return
            else:
                self._view.saw_status(response.status)
                if response.status.model.active.sha256 != told:
                    told = response.status.model.active.sha256
                    self._say(status_line(response))
            self._done.wait(_STATUS_EVERY_S)

    def _lost(self, reason: str) -> None:
        if self._done.is_set():
            return
        if self._view.trouble != reason:
            self._say(f"not connected: {reason}")
        self._view.lost(reason)

    def _say(self, line: str) -> None:
        with suppress(queue.Full):  # on a screen nobody takes them
            self._lines.put_nowait(line)
