"""The server: uvicorn around the routes. Imported where it runs: it takes a quarter of a second."""

from __future__ import annotations

import logging
import socket

import uvicorn

from edge.serve.http.app import Routes
from edge.serve.http.envelope import Envelope
from edge.serve.http.guard import Guard
from edge.serve.http.metrics import Metrics

BACKLOG = 128

_MAX_CONNECTIONS = 64
_GRACE_S = 1  # for answers under way


class HttpServer(uvicorn.Server):
    """uvicorn, without its signals and logs, that lets nobody wait for what will not come once it stops."""

    def __init__(self, routes: Routes, guard: Guard, metrics: Metrics) -> None:
        """Around the routes."""
        super().__init__(
            uvicorn.Config(
                Envelope(routes.app(), guard, metrics),
                loop="asyncio",
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                log_level=logging.WARNING,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                limit_concurrency=_MAX_CONNECTIONS,
                backlog=BACKLOG,
                timeout_graceful_shutdown=_GRACE_S,
            )
        )
        self._routes = routes

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End what waits, then as uvicorn does."""
        self._routes.stop()
        await super().shutdown(sockets)
