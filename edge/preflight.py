"""What the daemon would do with a configuration, found out without starting it."""

from __future__ import annotations

import threading

from edge.config import CameraConfig, EdgeConfig, HttpConfig
from edge.frames.camera import open_camera
from edge.frames.mailbox import Mailbox
from edge.perception.detector import DetectorOptions
from edge.perception.model_check import check_in_child
from edge.perception.model_file import ModelFile, read_model_file
from edge.perception.providers import resolve
from edge.redaction import redact


def preflight(config: EdgeConfig) -> list[tuple[str, str]]:
    """Open every source, check the model, and tell in names and words what the daemon would do.

    Raises:
        TrafficVisionError: the first thing that the daemon could not do.
    """
    lines = [("vehicle", config.vehicle), ("state folder", str(config.state_folder))]
    lines += [(f"camera {camera.name}", _camera(camera)) for camera in config.cameras]
    model = read_model_file(config.model.factory)
    options = DetectorOptions(providers=config.model.providers, threads=config.model.threads)
    report = check_in_child(
        model, options, timeout_s=config.model.check_timeout_s, stopping=threading.Event()
    )
    lines += [
        ("model", model.summary()),
        (
            "inference",
            f"{', '.join(resolve(options.providers))}, {options.threads or 'all'} threads;"
            f" loaded in {report.load_s:.2f} s, {report.golden_frames} golden frames verified",
        ),
        ("drift", _drift(config, model)),
        (
            "sampler",
            "off" if config.sampler is None else f"{config.sampler.bytes_per_day / 1e6:g} MB a day at most",
        ),
        ("cloud", f"{config.cloud.address}, mutual TLS" if config.cloud else "none: the vehicle runs alone"),
        ("updates", f"checked every {config.updates.check_interval_s:g} s" if config.updates else "off"),
        ("serves at", config.serve.address),
        ("http", _http(config.http)),
    ]
    return lines


def _camera(config: CameraConfig) -> str:
    camera = open_camera(config, Mailbox())
    try:
        source = camera.capture.source
        rate = "unknown rate" if source.rate_hz is None else f"{source.rate_hz:g} frames/s"
        length = "" if source.frame_count is None else f", {source.frame_count} frames"
    finally:
        camera.capture.stop()
    limit = "" if config.rate_limit_hz is None else f", at most {config.rate_limit_hz:g} frames/s"
    pace = f"{config.pace:g} times its speed" if isinstance(config.pace, float) else config.pace
    if config.speed_limit is not None and config.pace == "lockstep":
        pace += f" up to {config.speed_limit:g} times its speed"
    return f"{redact(config.url)}: {rate}{length}, {pace}{limit}, stale after {config.stale_after_ms:g} ms"


def _drift(config: EdgeConfig, model: ModelFile) -> str:
    if config.drift is None:
        return "off"
    own = "as the model file says" if model.metadata.drift_prior else "learned on the way"
    return (
        f"{config.drift.rate_hz:g} frames/s, one false alarm in {config.drift.target_hours:g} h,"
        f" reference {config.drift.reference or own}"
    )


def _http(config: HttpConfig | None) -> str:
    if config is None:
        return "off"
    if config.token_file is not None:
        from edge.serve.http.guard import read_token

        read_token(config.token_file)
    page = ", with the live page" if config.live_page else ""
    return f"{config.address}, {'no token' if config.token_file is None else 'by token'}{page}"
