"""The MCAP, read back as others read it: by mcap's reader, protobuf decoded by the schemas in the file."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
from foxglove_schemas_protobuf.ImageAnnotations_pb2 import ImageAnnotations
from foxglove_schemas_protobuf.PointsAnnotation_pb2 import PointsAnnotation
from google.protobuf import descriptor_pb2
from mcap.reader import make_reader
from mcap.summary import Summary
from mcap_protobuf.decoder import DecoderFactory

from tests.models_factory import rectangles_model
from tests.replays import lines, write_drive, write_model
from tools.cli import root

SIM = "sim:7?light=night&seconds=3&rate=5&size=160x96"
START_NS = 1_767_225_600_000_000_000  # 2026-01-01
TOPICS = ("image", "boxes", "detections", "drift", "stage_times")


def replay(*arguments: object) -> None:
    result = CliRunner().invoke(root, ["replay", *map(str, arguments)])
    assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mcap")
    drive = write_drive(folder / "front")
    other = folder / "other.onnx"
    other.write_bytes(rectangles_model(version="2"))
    replay(
        *(drive, SIM, "--model", write_model(folder), "--mcap", folder / "out.mcap", "--drift"),
        *("--mcap-start", "2026-01-01T00:00:00Z", "--jsonl", folder / "out.jsonl"),
        *("--drift-jsonl", folder / "drift.jsonl", "--swap-to", other, "--swap-at", "3"),
    )
    return folder


def messages(path: Path) -> dict[str, list[tuple[Any, Any]]]:
    found = defaultdict(list)
    with path.open("rb") as file:
        reader = make_reader(file, validate_crcs=True, decoder_factories=[DecoderFactory()])
        for decoded in reader.iter_decoded_messages(log_time_order=False):
            found[decoded.channel.topic].append((decoded.message, decoded.decoded_message))
    return found


def test_each_topic_holds_what_the_lines_say(replayed: Path) -> None:
    found = messages(replayed / "out.mcap")
    expected = {f"/{camera}/{topic}" for camera in ("front", "sim-7") for topic in TOPICS}
    assert set(found) == expected
    by_camera = defaultdict(list)
    for line in lines((replayed / "out.jsonl").read_text()):
        by_camera[line["camera"]].append(line)
    for camera, written in by_camera.items():
        for topic in ("image", "boxes", "detections", "stage_times"):
            times = [message.log_time for message, _ in found[f"/{camera}/{topic}"]]
            assert times == [START_NS + round(line["time_s"] * 1e9) for line in written]
            assert times == sorted(times)
        for line, (_, boxes), (_, seen) in zip(
            written, found[f"/{camera}/boxes"], found[f"/{camera}/detections"], strict=True
        ):
            assert len(boxes.points) == len(boxes.texts) == len(line["detections"]) == len(seen.detections)
            assert seen.model.sha256[:12] == line["model"]
            assert (seen.frame.camera, seen.frame.sequence) == (camera, line["frame"])
            assert not seen.HasField("times"), "what differs from run to run stands in its own topic"
            for one, loop, text, own in zip(
                line["detections"], boxes.points, boxes.texts, seen.detections, strict=True
            ):
                x1, y1, x2, y2 = one["box"]
                corners = [(point.x, point.y) for point in loop.points]
                assert np.allclose(corners, [(x1, y1), (x2, y1), (x2, y2), (x1, y2)], atol=0.006)
                assert loop.type == 2  # a closed line
                assert text.text == f"{one['class']} {one['score']:.2f}"
                assert own.class_name == one["class"]


def test_pictures_decode_to_what_was_replayed(replayed: Path) -> None:
    pictures = messages(replayed / "out.mcap")["/front/image"]
    assert len(pictures) == 6
    for index, (_, image) in enumerate(pictures):
        assert (image.frame_id, image.format) == ("front", "jpeg")
        decoded = cv2.imdecode(np.frombuffer(image.data, np.uint8), cv2.IMREAD_COLOR)
        original = cv2.imread(str(replayed / "front" / f"frame{index}.png"))
        assert decoded.shape == original.shape
        assert np.abs(decoded.astype(int) - original).mean() < 6


def test_foxgloves_own_classes_read_pictures_and_boxes_of_the_same_moment(replayed: Path) -> None:
    """Foxglove draws annotations over the picture whose time is theirs, to the nanosecond."""
    kinds = {
        schema.name: descriptors(schema.data)
        for schema in summary_of(replayed / "out.mcap").schemas.values()
        if schema.name.startswith("foxglove.")
    }
    for kind in (CompressedImage, ImageAnnotations):
        own = descriptor_pb2.FileDescriptorProto()
        kind.DESCRIPTOR.file.CopyToProto(own)
        assert kinds[kind.DESCRIPTOR.full_name][own.name] == own
    found = messages(replayed / "out.mcap")
    for camera in ("front", "sim-7"):
        for (raw, _), (drawn, _) in zip(found[f"/{camera}/image"], found[f"/{camera}/boxes"], strict=True):
            picture, boxes = CompressedImage.FromString(raw.data), ImageAnnotations.FromString(drawn.data)
            assert (picture.frame_id, picture.format) == (camera, "jpeg")
            assert picture.timestamp.ToNanoseconds() == raw.log_time
            of = [boxes, *boxes.points, *boxes.texts]
            assert {one.timestamp.ToNanoseconds() for one in of} == {picture.timestamp.ToNanoseconds()}
            assert all(
                loop.type == PointsAnnotation.LINE_LOOP and loop.thickness > 0 for loop in boxes.points
            )
            assert all(loop.outline_color.a == 1 for loop in boxes.points)


def summary_of(path: Path) -> Summary:
    with path.open("rb") as file:
        summary = make_reader(file, validate_crcs=True).get_summary()
    assert summary is not None
    return summary


def descriptors(data: bytes) -> dict[str, descriptor_pb2.FileDescriptorProto]:
    return {file.name: file for file in descriptor_pb2.FileDescriptorSet.FromString(data).file}


def test_drift_states_are_those_of_the_lines(replayed: Path) -> None:
    states = messages(replayed / "out.mcap")["/sim-7/drift"]
    told = lines((replayed / "drift.jsonl").read_text())
    written = [line for line in told if line["camera"] == "sim-7"]
    assert [(message.log_time - START_NS) / 1e9 for message, _ in states] == [
        one["time_s"] for one in written
    ]
    for (_, state), line in zip(states, written, strict=True):
        assert [one.name for one in state.features] == [one["name"] for one in line["features"]]


def test_the_file_is_indexed_and_says_what_made_it(replayed: Path) -> None:
    with (replayed / "out.mcap").open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        summary = reader.get_summary()
        records = [(record.name, record.metadata) for record in reader.iter_metadata()]
        (attached,) = reader.iter_attachments()
    assert summary is not None and summary.statistics is not None
    assert summary.chunk_indexes and {index.compression for index in summary.chunk_indexes} == {"zstd"}
    assert {schema.name for schema in summary.schemas.values()} == {
        "foxglove.CompressedImage",
        "foxglove.ImageAnnotations",
        "traffic_vision.v1.FrameDetections",
        "traffic_vision.v1.DriftState",
        "traffic_vision.v1.StageTimes",
    }
    of_replay = next(record for name, record in records if name == "traffic_vision.replay")
    assert of_replay["start_unix_ns"] == str(START_NS)
    assert of_replay["traffic_vision_version"]
    assert [r["version"] for name, r in records if name.startswith("traffic_vision.model/")] == ["1", "2"]
    assert [r["camera"] for name, r in records if name.startswith("traffic_vision.camera/")] == [
        "front",
        "sim-7",
    ]
    assert (attached.name, attached.media_type) == ("summary.json", "application/json")
    assert json.loads(attached.data)["frames"]["published"] == 21


def test_all_but_the_stage_times_is_the_same_every_time(tmp_path: Path, replayed: Path) -> None:
    model = write_model(tmp_path)
    for name in ("one.mcap", "two.mcap"):
        replay(replayed / "front", "--model", model, "--mcap", tmp_path / name)
    one, two = (
        {
            topic: [(message.log_time, message.data) for message, _ in found]
            for topic, found in messages(tmp_path / name).items()
            if not topic.endswith("/stage_times")
        }
        for name in ("one.mcap", "two.mcap")
    )
    assert one == two


def test_a_replay_that_fails_leaves_no_file(tmp_path: Path) -> None:
    model = write_model(tmp_path)
    result = CliRunner().invoke(
        root,
        [
            *("replay", str(write_drive(tmp_path / "d")), "--model", str(model)),
            *("--mcap", str(tmp_path / "out.mcap"), "--jsonl", "/dev/full"),
        ],
    )
    assert "No space left" in str(result.exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d", "rectangles.onnx"]


def test_rerun_opens_it(tmp_path: Path, replayed: Path) -> None:
    rerun = shutil.which("rerun")
    if rerun is None:
        pytest.skip("no `rerun` on the PATH (pip install rerun-sdk; with what it needs, 790 MB)")
    check = [rerun, "mcap", "check", str(replayed / "out.mcap")]
    subprocess.run(check, check=True, timeout=120, capture_output=True)
    out = tmp_path / "out.rrd"
    command = [rerun, "mcap", "convert", str(replayed / "out.mcap"), "-o", str(out)]
    subprocess.run(command, check=True, timeout=120, capture_output=True)
    printed = subprocess.run(
        [rerun, "rrd", "print", "-v", str(out)], check=True, timeout=120, capture_output=True, text=True
    ).stdout
    for column in (
        "/front/image@EncodedImage:blob",  # which it draws
        "/front/boxes@foxglove.ImageAnnotations:message",
        "/sim-7/detections@traffic_vision.v1.FrameDetections:message",
        "/sim-7/drift@traffic_vision.v1.DriftState:message",
        "/sim-7/stage_times@traffic_vision.v1.StageTimes:message",
    ):
        assert column in printed
