"""The drift reference of a new model: from what vehicles shipped of the slices that it was trained for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.fleet.ingest import Ingest, Upload
from cloud.pipeline.drift_prior import Series, fit_slices, fleet_prior
from cloud.pipeline.running import run_stage
from edge.drift import DriftMonitor, Origin, Reference, Scope, Verdict, fit
from edge.drift.pacing import Pace, Step
from edge.drift.reference_file import PACKED, PLAIN, version_of
from protos.traffic_vision.v1 import fleet_pb2 as fleet
from tests.retrains import VEHICLE, add_samples, begin, red_picture, retrain_cloud

NAMES = ("brightness", "sharpness", "count")
HALF_S = 500_000_000
DRIVE = (VEHICLE, "front", "new1")


def a_drive(rows: int, level: float, seed: int = 0) -> np.ndarray:
    """Slow features of a drive, 2 Hz; the last one is the model's."""
    noise = np.random.default_rng(seed).normal(0, 1, (rows, 3))
    for row in range(1, rows):
        noise[row] = 0.8 * noise[row - 1] + 0.6 * noise[row]
    return np.asarray(level + 3 * noise, np.float32)


def series(*parts: np.ndarray) -> Series:
    values = np.concatenate(parts)
    return Series(NAMES, np.arange(len(values)) * HALF_S, values)


def test_each_slice_is_fitted_from_the_frames_between_its_pictures() -> None:
    day, dusk, night = a_drive(400, 120), a_drive(100, 70), a_drive(400, 20)
    moments = [(at * HALF_S, name) for at, name in ((0, "daytime"), (200, "daytime"), (399, "daytime"))]
    moments += [(at * HALF_S, "night") for at in (500, 700, 899)]
    made = fit_slices({DRIVE: moments}, {DRIVE: series(day, dusk, night)})
    assert made is not None and made.rate_hz == 2.0
    means = {context.name: context.features[0].mean for context in made.contexts}
    assert abs(means["daytime"] - day[:, 0].mean()) < 0.01
    assert abs(means["night"] - night[:, 0].mean()) < 0.01
    # What another model detected is not known of the new one.
    assert made.origins[2] is Origin.DETECTIONS
    assert [[feature.known for feature in context.features] for context in made.contexts] == [
        [True, True, False],
        [True, True, False],
    ]


def test_daemons_of_other_ages_feed_one_reference() -> None:
    """One that knows a feature more, and one that sends them in another order."""
    old, new = a_drive(400, 120, seed=1), a_drive(400, 120, seed=2)
    haze = np.random.default_rng(3).normal(0.3, 0.01, (400, 1)).astype(np.float32)
    times = np.arange(400) * HALF_S
    other = (VEHICLE, "front", "new2")
    moments = [(0, "daytime"), (200 * HALF_S, "daytime"), (399 * HALF_S, "daytime")]
    made = fit_slices(
        {DRIVE: moments, other: moments},
        {
            DRIVE: Series(("sharpness", "count", "brightness"), times, old[:, [1, 2, 0]]),
            other: Series((*NAMES, "haze"), times, np.concatenate([new, haze], axis=1)),
        },
    )
    assert made is not None and made.names == ("brightness", "sharpness", "haze", "count")
    (context,) = made.contexts
    found = dict(zip(made.names, context.features, strict=True))
    assert abs(found["brightness"].mean - np.concatenate([old, new])[:, 0].mean()) < 0.01
    assert abs(found["haze"].mean - haze.mean()) < 0.001 and found["haze"].frames == 400
    assert found["brightness"].frames == 800 and not found["count"].known


@settings(max_examples=25, deadline=None)
@given(
    camera_hz=st.sampled_from((5.0, 7.0, 10.0, 15.0, 24.0, 30.0)),
    rate_hz=st.sampled_from((0.5, 1.0, 2.0, 2.5)),
    more=st.integers(0, 100),
    share=st.floats(0.2, 0.8),
)
def test_the_rate_is_the_monitors_whatever_the_cameras(
    camera_hz: float, rate_hz: float, more: int, share: float
) -> None:
    """As the monitor takes frames of such a camera, with a stop in between."""
    pace, times, frames = Pace(rate_hz), [], round(600 * camera_hz) + more
    for number in range(frames):
        stop_s = 100 if number > share * frames else 0
        time_ns = round((number / camera_hz + stop_s) * 1e9)
        if pace.step(time_ns) is not Step.SKIP:
            times.append(time_ns)
    drive = Series(NAMES, np.array(times), a_drive(len(times), 20))
    moments = [(at, "night") for at in range(0, times[-1], 10_000_000_000)]
    made = fit_slices({DRIVE: moments}, {DRIVE: drive})
    assert made is not None and made.rate_hz == rate_hz
    again = fit_slices({DRIVE: moments}, {DRIVE: drive}, made)
    assert again is not None and again.rate_hz == rate_hz


def test_pictures_that_are_far_apart_vouch_for_nothing_and_few_frames_are_no_reference() -> None:
    drive = {DRIVE: series(a_drive(400, 20))}
    assert fit_slices({DRIVE: [(0, "night"), (399 * HALF_S, "night")]}, drive) is None
    assert fit_slices({DRIVE: [(0, "night"), (100 * HALF_S, "night")]}, drive) is None
    assert fit_slices({}, {}) is None


def test_the_night_that_raised_the_alarm_is_known_to_the_new_models_reference(tmp_path: Path) -> None:
    origins = (Origin.PICTURE, Origin.PICTURE, Origin.DETECTIONS)
    day = fit(a_drive(4000, 120, seed=1), 2.0, NAMES, origins=origins, context="daytime")
    night = a_drive(700, 20, seed=2)
    with retrain_cloud(tmp_path, samples=0) as pipeline:
        pictures = {f"{number}.jpg": red_picture(100 + number) for number in range(4)}
        add_samples(pipeline, pictures, drive_ns=range(0, 400 * HALF_S, 100 * HALF_S))
        message = fleet.FeatureSeries(id="one", camera="front", names=NAMES)
        message.source.id, message.source.drive_id = "scripted", "new1"
        message.drive_ns.extend(number * HALF_S for number in range(400))
        message.values.extend(night[:400].ravel().tolist())
        config = pipeline.config
        Ingest(pipeline.store, pipeline.objects, config.limits, config.quotas).commit(
            [Upload(VEHICLE, message)]
        )
        run_id = begin(pipeline)
        for name in ("label", "purity", "dataset"):
            run_stage(pipeline, name, run_id)
        text = fleet_prior(pipeline, "v2", day.to_bytes().decode())
        assert text is not None and version_of(text) == PACKED
        # A fleet that still has older daemons says so.
        release = config.release.model_copy(update={"minimum_daemon_version": "0.2.9"})
        older = replace(pipeline, config=config.model_copy(update={"release": release}))
        long = fleet_prior(older, "v2", day.to_bytes().decode())
        assert long is not None and len(text) < len(long) and version_of(long) == PLAIN
        made = Reference.from_bytes(text.encode())
        assert {context.name for context in made.contexts} == {"daytime", "night"}
        # Of a fleet's cameras: no vehicle's own promise rests on it.
        assert {context.scope for context in made.contexts} == {Scope.FLEET}
        assert fleet_prior(pipeline, "v1", "kept") == "kept"
    assert alarms(day, night[400:]) > 0
    assert alarms(made, night[400:]) == 0


def alarms(reference: Reference, rows: np.ndarray) -> int:
    monitor = DriftMonitor(reference)
    states = [monitor.observe(number * HALF_S, row) for number, row in enumerate(rows)]
    return sum(state is not None and state.verdict is Verdict.ALARM for state in states)
