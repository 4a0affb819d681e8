"""The routes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from importlib.resources import files
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import parse_qs

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import ClientDisconnect

from edge.health import loop_troubles
from edge.parts import Links
from edge.perception.decode import InferenceError
from edge.perception.on_demand import Answer, OnDemandError
from edge.serve.http.guard import COOKIE, SESSION_S, Guard
from edge.serve.http.live import LiveView, detections_json
from edge.serve.http.metrics import CONTENT_TYPE, Metrics
from edge.serve.http.overview import model_json, overview
from edge.serve.http.pictures import PictureError, TooLargeError, UnknownKindError, decode_picture
from protos.traffic_vision.v1 import common_pb2, perception_pb2
from protos.words import word

T = TypeVar("T")

_BODY_WITHIN_S = 10.0
_DETECT_WITHIN_S = 5.0
_LIVE_WAIT_S = 2.0
_SMALL_BODY = 8192
# Pictures between the first byte of their body and their answer: one is looked at while the next is read.
_PICTURES = 2
_AGAIN = {"Retry-After": "1"}

_HIDDEN_REFUSAL, _SHOWN_REFUSAL = b'role="alert" hidden>', b'role="alert">'
_PAGE_TYPES = {"css": "text/css", "js": "text/javascript", "html": "text/html", "svg": "image/svg+xml"}
_SLOTS = {
    None: common_pb2.SLOT_UNSPECIFIED,
    "a": common_pb2.SLOT_A,
    "b": common_pb2.SLOT_B,
    "last_good": common_pb2.SLOT_LAST_GOOD,
    "factory": common_pb2.SLOT_FACTORY,
}
_RELOAD_STATUS = {
    perception_pb2.RELOAD_OUTCOME_SWAPPED: 200,
    perception_pb2.RELOAD_OUTCOME_ALREADY_ACTIVE: 200,
    perception_pb2.RELOAD_OUTCOME_NOTHING_THERE: 404,
    perception_pb2.RELOAD_OUTCOME_BUSY: 409,
    perception_pb2.RELOAD_OUTCOME_REFUSED: 422,
}


class ReloadWish(BaseModel):
    """What `POST /reload` takes. Without a slot: the staged candidate."""

    model_config = ConfigDict(extra="forbid")

    slot: Literal["a", "b", "last_good", "factory"] | None = None
    expected_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None


class Routes:
    """What they share."""

    def __init__(
        self,
        vehicle: str,
        cameras: tuple[str, ...],
        links: Links,
        guard: Guard,
        metrics: Metrics,
        live: LiveView | None,
        executor: Executor,
        *,
        max_picture_bytes: int,
    ) -> None:
        """Over the daemon.

        Args:
            vehicle: its name.
            cameras: their names.
            links: what it gives its parts.
            guard: who may ask.
            metrics: the figures.
            live: the live picture; None: there is no page.
            executor: for what takes time.
            max_picture_bytes: of a picture that is posted.
        """
        self._vehicle = vehicle
        self._links = links
        self._guard = guard
        self._metrics = metrics
        self._live = live
        self._cameras = cameras
        self._executor = executor
        self._max_picture_bytes = max_picture_bytes
        self._stopping = asyncio.Event()
        self._pictures = 0
        self._reloading = False
        self._page: dict[str, bytes] = {}
        folder = files("edge.serve.http") / "page"
        if live is not None or guard.needs_token:
            self._page = {entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.is_file()}

    def app(self) -> FastAPI:
        """The application. Its interactive documentation is off: it comes from elsewhere."""
        app = FastAPI(title="Traffic Vision", docs_url=None, redoc_url=None, openapi_url="/openapi.json")
        app.get("/healthz", response_class=PlainTextResponse)(self.healthz)
        app.get("/readyz")(self.readyz)
        app.get("/metrics", response_class=PlainTextResponse)(self.metrics)
        app.post("/detect")(self.detect)
        app.post("/reload", openapi_extra=_body_of(ReloadWish))(self.reload)
        if self._page:
            app.get("/page/{name}", include_in_schema=False)(self.page)
            app.get("/login", include_in_schema=False)(self.login_form)
            app.post("/login", include_in_schema=False)(self.login)
        if self._live is not None:
            app.get("/", include_in_schema=False)(self.front)
            app.get("/overview")(self.overview)
            app.get("/live/{camera}", response_class=Response)(self.live_picture)
        return app

    def stop(self) -> None:
        """Let nobody wait any longer for a picture, nor for a body. On the server's thread."""
        self._stopping.set()
        if self._live is not None:
            self._live.close()

    async def healthz(self) -> Response:
        """Whether the daemon's frame loop lives."""
        alive = not loop_troubles(self._links.loop_health(), time.monotonic_ns())
        return PlainTextResponse("ok" if alive else "not ok", 200 if alive else 503)

    async def readyz(self) -> Response:
        """Whether the daemon does its work, and why not."""
        troubles = await self._off_loop(self._links.troubles)
        answer = {"ready": not troubles, "troubles": list(troubles)}
        return JSONResponse(answer, 503 if troubles else 200)

    async def metrics(self) -> Response:
        """The figures for Prometheus."""
        return Response(await self._off_loop(self._metrics.text), media_type=CONTENT_TYPE)

    async def detect(self, request: Request, min_score: Annotated[float, Query(ge=0, le=1)] = 0.0) -> Any:
        """Detections on the picture in the body: a JPEG, PNG, WebP or BMP."""
        if self._pictures >= _PICTURES:
            raise HTTPException(503, "other pictures are being looked at", _AGAIN)
        self._pictures += 1
        try:
            body = await _body(request, self._max_picture_bytes, self._stopping)
            answer, picture_hw, decode_ns = await self._off_loop(partial(self._look_at, body))
        except UnknownKindError as error:
            raise HTTPException(415, str(error)) from None
        except TooLargeError as error:
            raise HTTPException(413, str(error)) from None
        except (PictureError, InferenceError) as error:
            raise HTTPException(422, str(error)) from None
        except OnDemandError as error:
            raise HTTPException(503, str(error), _AGAIN) from None
        finally:
            self._pictures -= 1
        found, metadata = answer.detections, answer.model.metadata
        rows = found.boxes.tolist()
        return {
            "width_px": picture_hw[1],
            "height_px": picture_hw[0],
            "model": {"sha256": found.model_digest, "name": metadata.name, "version": metadata.version},
            "detections": detections_json(rows, metadata.class_names, lambda score: score >= min_score),
            "times_ms": {
                "decode": decode_ns / 1e6,
                "preprocess": found.stage_ns.preprocess / 1e6,
                "inference": found.stage_ns.inference / 1e6,
                "postprocess": found.stage_ns.postprocess / 1e6,
            },
        }

    def _look_at(self, body: bytes) -> tuple[Answer, tuple[int, int], int]:
        started = time.perf_counter_ns()
        image = decode_picture(body)
        decode_ns = time.perf_counter_ns() - started
        return self._links.detect(image, _DETECT_WITHIN_S), image.shape[:2], decode_ns

    async def reload(self, request: Request) -> Response:
        """Put the model of a slot between two frames, checked first: takes seconds to minutes."""
        wish = await _wish(request, self._stopping)
        if self._reloading:  # a second one would only hold a thread
            return JSONResponse({"outcome": "busy", "detail": "another reload is under way"}, 409)
        slot = _SLOTS[wish.slot]
        wanted = perception_pb2.ReloadModelRequest(slot=slot, expected_sha256=wish.expected_sha256 or "")
        self._reloading = True
        try:
            answer = await self._off_loop(partial(self._links.reload_model, wanted))
        finally:
            self._reloading = False
        outcome = word(perception_pb2.ReloadOutcome, "RELOAD_OUTCOME_", answer.outcome)
        body = {"outcome": outcome, "active": model_json(answer.active), "detail": answer.detail}
        return JSONResponse(body, _RELOAD_STATUS[answer.outcome])

    async def overview(self) -> Response:
        """The vehicle's status, as the live page shows it."""

        def gathered() -> dict[str, Any]:
            links = self._links
            stages = self._metrics.stages
            shown = overview(links.status(), stages, links.loop_health(), links.troubles())
            return {"vehicle": self._vehicle, **shown}

        return JSONResponse(await self._off_loop(gathered))

    async def live_picture(self, camera: str, after: Annotated[str, Query(max_length=40)] = "") -> Response:
        """The camera's newest picture with its detections, once there is another than `after`.

        The length of a JSON text (4 bytes, big-endian), the text, and a JPEG; 204 where none came in time.
        """
        if self._live is None or camera not in self._cameras:
            raise HTTPException(404, f"there is no such camera; there are {', '.join(self._cameras)}")
        picture = await self._live.next(camera, after, _LIVE_WAIT_S)
        if picture is None:
            return Response(status_code=204)
        return Response(picture.data, media_type="application/octet-stream")

    async def front(self, request: Request) -> Response:
        """The live page."""
        if not self._guard.is_known(request.headers, time.time()):
            return RedirectResponse("/login", 303)
        return self._page_file("index.html")

    async def page(self, name: str) -> Response:
        """What the page is made of."""
        return self._page_file(name)

    async def login_form(self) -> Response:
        """Where a browser gives the token."""
        return self._page_file("login.html")

    async def login(self, request: Request) -> Response:
        """Open a session by the token: a cookie that scripts and other sites don't get to see."""
        body = await _body(request, _SMALL_BODY, self._stopping)
        given = parse_qs(body.decode("latin-1")).get("token", [""])[0].strip()
        if not self._guard.is_token(given):
            refused = self._page["login.html"].replace(_HIDDEN_REFUSAL, _SHOWN_REFUSAL)
            return Response(refused, 401, media_type=_PAGE_TYPES["html"])
        answer = RedirectResponse("/", 303)
        session = self._guard.session(time.time())
        answer.set_cookie(COOKIE, session, max_age=SESSION_S, path="/", httponly=True, samesite="strict")
        return answer

    def _page_file(self, name: str) -> Response:
        if name not in self._page:
            raise HTTPException(404, "no such file")
        return Response(self._page[name], media_type=_PAGE_TYPES[name.rpartition(".")[2]])

    async def _off_loop(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)


async def _body(request: Request, limit_bytes: int, stopping: asyncio.Event) -> bytes:
    """The body, read no further than the limit, no longer than the time for it, and not while we stop."""
    too_large = HTTPException(413, f"the body has more than {limit_bytes} bytes")
    claimed = request.headers.get("content-length", "0")
    if claimed.isdecimal() and int(claimed) > limit_bytes:
        raise too_large

    async def read() -> bytes:
        pieces: list[bytes] = []
        size = 0
        async for piece in request.stream():
            size += len(piece)
            if size > limit_bytes:
                raise too_large
            pieces.append(piece)
        return b"".join(pieces)

    reading, stopped = asyncio.ensure_future(read()), asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait({reading, stopped}, timeout=_BODY_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
        if reading.done():
            return reading.result()
    except ClientDisconnect:
        raise HTTPException(400, "the client has gone") from None
    finally:
        reading.cancel()
        stopped.cancel()
    if stopping.is_set():
        raise HTTPException(503, "the daemon stops")
    raise HTTPException(408, f"the body was not there within {_BODY_WITHIN_S:g} s")


async def _wish(request: Request, stopping: asyncio.Event) -> ReloadWish:
    body = await _body(request, _SMALL_BODY, stopping)
    if not body:
        return ReloadWish()
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "expected application/json")
    try:
        return ReloadWish.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise HTTPException(422, f"{where}: {first['msg']}".removeprefix(": ")) from None


def _body_of(model: type[BaseModel]) -> dict[str, Any]:
    return {"requestBody": {"content": {"application/json": {"schema": model.model_json_schema()}}}}
