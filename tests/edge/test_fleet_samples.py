"""From a frame to what lies in the spool: samples, series of features, and the thread that writes them."""

from __future__ import annotations

import hashlib
import math
import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.background_writer import BackgroundWriter
from edge.fleet.assemble import AssembleError, assemble_sample, encode_jpeg, new_id
from edge.fleet.feature_log import FeatureLog, SeriesHead
from edge.fleet.sampler import BASELINE, DRIFT, SampleReason
from edge.fleet.spool import Spool
from edge.fleet.spool_item import ID_FORM
from edge.frames.frame import Frame
from protos.traffic_vision.v1 import common_pb2 as common
from protos.traffic_vision.v1 import fleet_pb2 as fleet
from tests.models_factory import picture

IMAGE = picture((64, 96), (10, 10, 40, 40, "red"))
FRAME = Frame("front", 7, 1, 12_500_000_000, IMAGE, "street-000007.jpg")
REASONS = (SampleReason(DRIFT, 3.4), SampleReason(BASELINE, 0.0))
DETECTIONS = common.FrameDetections(
    frame=common.FrameRef(camera="front", epoch=1, sequence=7, width_px=96, height_px=64),
    model=common.ModelRef(sha256="ab" * 32, name="rectangles"),
    detections=[common.Detection(x2_px=4, y2_px=5, score=0.9, class_name="red", class_index=2)],
)
HEAD = SeriesHead("front", "sim:7", "drive-1", common.ModelRef(sha256="ab" * 32), "day")


def test_a_sample_says_all_that_is_known_of_its_frame(tmp_path: Path) -> None:
    sample = assemble_sample(
        FRAME,
        DETECTIONS,
        REASONS,
        source_id="sim:7",
        drive_id="drive-1",
        features=common.Features(names=["brightness"], values=[math.nan]),
        drift=common.DriftState(verdict=common.DRIFT_VERDICT_ALARM),
        drift_event_id="event-1",
    )
    spool = Spool(tmp_path)
    assert spool.append(sample.id, sample.SerializeToString(), sample.priority)
    ((item_id, payload),) = spool.pending()
    read = fleet.Sample.FromString(payload)
    assert item_id == read.id and ID_FORM.fullmatch(read.id)
    assert read.frame == DETECTIONS.frame and read.detections == DETECTIONS
    assert read.source == fleet.SampleSource(
        id="sim:7", drive_id="drive-1", picture="street-000007.jpg", drive_ns=12_500_000_000
    )
    assert list(read.reasons) == [DRIFT, BASELINE] and read.priority == pytest.approx(3.4)
    assert read.drift_event_id == "event-1" and math.isnan(read.features.values[0])
    assert read.jpeg_sha256 == hashlib.sha256(read.jpeg).hexdigest()
    decoded = cv2.imdecode(np.frombuffer(read.jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == IMAGE.shape
    assert np.abs(decoded.astype(int) - IMAGE).mean() < 4


def test_what_is_not_known_is_left_out() -> None:
    sample = assemble_sample(FRAME, DETECTIONS, REASONS, source_id="", drive_id="")
    assert not sample.HasField("features") and not sample.HasField("drift") and not sample.drift_event_id


def test_each_sample_has_an_id_of_its_own() -> None:
    ids = {assemble_sample(FRAME, DETECTIONS, REASONS, source_id="", drive_id="").id for _ in range(5)}
    assert len(ids) == 5


def test_quality_costs_bytes() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    assert len(encode_jpeg(noise, 30)) < len(encode_jpeg(noise, 95))


@pytest.mark.parametrize("shape", [(0, 10, 3), (1, 70_000, 3)])
def test_a_picture_without_a_jpeg_is_an_error_that_says_so(shape: tuple[int, int, int]) -> None:
    with pytest.raises(AssembleError, match=str(shape[1])):
        encode_jpeg(np.zeros(shape, np.uint8))


class Kept:
    """What a feature log gave away."""

    def __init__(self) -> None:
        self.series: list[fleet.FeatureSeries] = []
        self.priorities: list[float] = []

    def __call__(self, item_id: str, payload: bytes, priority: float) -> bool:
        self.series.append(fleet.FeatureSeries.FromString(payload))
        assert self.series[-1].id == item_id
        self.priorities.append(priority)
        return True


rows = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 10**12), st.integers(0, 3)),  # equal times too
        st.lists(st.floats(width=32, allow_infinity=False), min_size=3, max_size=3),
        st.sampled_from(["day", "night"]),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(rows, st.floats(0.001, 2000))
def test_no_row_is_lost_and_each_series_is_of_one_kind(
    rows: list[tuple[int, list[float], str]], series_s: float
) -> None:
    kept = Kept()
    log = FeatureLog(("a", "b", "c"), kept, series_s=series_s)
    for time_ns, values, context in rows:
        log.add(replace(HEAD, context=context), time_ns, np.array(values, np.float32))
    log.cut()
    log.cut()
    back: list[tuple[int, list[float], str]] = []
    for series in kept.series:
        times = list(series.drive_ns)
        assert times and all(before < after for before, after in pairwise(times))
        assert all(time_ns - times[0] < series_s * 1e9 for time_ns in times[:-1])
        assert list(series.names) == ["a", "b", "c"] and series.camera == "front"
        assert series.source.drive_ns == series.drive_ns[0] and series.source.drive_id == "drive-1"
        table = np.array(series.values, np.float32).reshape(-1, 3)
        back += [(t, v.tolist(), series.context) for t, v in zip(series.drive_ns, table, strict=True)]
    assert len(back) == len(rows)
    for (time_ns, values, context), (time_back, values_back, context_back) in zip(rows, back, strict=True):
        assert (time_ns, context) == (time_back, context_back)
        np.testing.assert_array_equal(np.array(values, np.float32), np.array(values_back, np.float32))


def test_a_new_model_begins_a_series_and_newer_series_matter_more() -> None:
    kept, clock = Kept(), iter(range(100))
    log = FeatureLog(("a",), kept, clock_s=lambda: float(next(clock)))
    row = np.zeros(1, np.float32)
    log.add(HEAD, 1, row, picture="one.jpg", observed=common.Instant(monotonic_ns=1))
    log.add(HEAD, 2, row, picture="two.jpg")
    log.add(replace(HEAD, model=common.ModelRef(sha256="cd" * 32)), 3, row, picture="three.jpg")
    log.cut()
    first, second = kept.series
    assert list(first.drive_ns) == [1, 2] and first.model.sha256 == "ab" * 32
    assert first.source.picture == "one.jpg" and first.started.monotonic_ns == 1
    assert list(second.drive_ns) == [3] and second.model.sha256 == "cd" * 32
    assert not second.HasField("started")
    assert kept.priorities == [0.0, 1.0]


def test_a_row_of_another_length_is_a_defect() -> None:
    with pytest.raises(ValueError, match="2 features"):
        FeatureLog(("a", "b"), Kept()).add(HEAD, 1, np.zeros(3, np.float32))


def test_ids_fit_the_contract() -> None:
    assert ID_FORM.fullmatch(new_id("sample")) and len(new_id("series")) <= 64


def test_the_writer_does_its_jobs_in_order_and_ends_with_the_last() -> None:
    writer, done = BackgroundWriter(limit=100), []
    for number in range(50):
        assert writer.submit(lambda number=number: done.append(number))
    writer.start()
    assert writer.stop(timeout_s=60)
    assert done == list(range(50))
    assert not writer.submit(lambda: None) and writer.dropped == 1
    assert writer.stop() and BackgroundWriter().stop()


def test_the_writer_refuses_what_does_not_fit_and_survives_what_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    writer, busy, free, done = BackgroundWriter(limit=2), threading.Event(), threading.Event(), []

    def block() -> None:
        busy.set()
        assert free.wait(timeout=60)

    writer.start()
    assert writer.submit(block) and busy.wait(timeout=60)
    assert [writer.submit(lambda: 1 / 0), writer.submit(lambda: done.append(1))] == [True, True]
    assert not writer.submit(lambda: done.append(2))
    free.set()
    assert writer.stop(timeout_s=60)
    assert (done, writer.dropped, writer.failed) == ([1], 1, 1)
    assert "ZeroDivisionError" in caplog.text
