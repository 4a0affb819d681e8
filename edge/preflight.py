"""What the daemon would do with a configuration, found out without starting it."""

from __future__ import annotations

import threading

from edge.config import EdgeConfig
from edge.frames.probe import probe_camera
from edge.perception.detector import DetectorOptions
from edge.perception.model_check import check_in_child
from edge.perception.model_file import ModelFile, read_model_file
from edge.perception.providers import resolve


def preflight(config: EdgeConfig) -> list[tuple[str, str]]:
    """Open every source, check the model, and tell in names and words what the daemon would do.

    Raises:
        TrafficVisionError: the first thing that the daemon could not do.
    """
    lines = [("vehicle", config.vehicle), ("state folder", str(config.state_folder))]
    lines += [(f"camera {camera.name}", probe_camera(camera)) for camera in config.cameras]
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
    ]
    return lines


def _drift(config: EdgeConfig, model: ModelFile) -> str:
    if config.drift is None:
        return "off"
    own = "as the model file says" if model.metadata.drift_prior else "learned on the way"
    return (
        f"{config.drift.rate_hz:g} frames/s, one false alarm in {config.drift.target_hours:g} h,"
        f" reference {config.drift.reference or own}"
    )
