"""Two models on the same frames: what counts as the same, and what the page shows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from tests.models_factory import constant_model, rectangles_model
from tests.replays import lines, write_drive, write_model
from tools.cli import root
from tools.replay.compare.counting import Figures
from tools.replay.compare.matching import DISAGREE, Kind, ModelView, Seen, match
from tools.replay.compare.timeline import MAX_BINS, Timeline
from tools.replay.compare.worst import Candidate, Worst

KNOWN = frozenset({"car", "bus"})


def seen(name: str, x: float, score: float = 0.9) -> Seen:
    return Seen(name, score, (x, 0.0, x + 10, 10.0))


def kinds(a: list[Seen], b: list[Seen]) -> list[Kind]:
    return [one.kind for one in match(a, b, KNOWN | {"stop sign"}, KNOWN)]


def test_what_is_the_same_object() -> None:
    assert kinds([seen("car", 0)], [seen("car", 1)]) == [Kind.AGREED]
    assert kinds([seen("car", 0)], [seen("bus", 1)]) == [Kind.CLASS_DIFFERS]
    assert kinds([seen("car", 0)], [seen("car", 9)]) == [Kind.ONLY_A, Kind.ONLY_B]
    assert kinds([seen("stop sign", 0)], []) == [Kind.UNKNOWN_TO_B]
    # The class comes first: a car is not paired with the bus that lies on it better.
    assert kinds([seen("car", 0)], [seen("bus", 0), seen("car", 2)]) == [Kind.AGREED, Kind.ONLY_B]


SEEN = st.lists(
    st.builds(seen, st.sampled_from(["car", "bus"]), st.floats(0, 40), st.floats(0.3, 1)), max_size=8
)


@given(SEEN, SEEN)
def test_each_detection_counts_once_and_the_models_may_change_places(a: list[Seen], b: list[Seen]) -> None:
    matches = match(a, b, KNOWN, KNOWN)
    assert sorted(map(id, a)) == sorted(id(one.a) for one in matches if one.a)
    assert sorted(map(id, b)) == sorted(id(one.b) for one in matches if one.b)
    figures = Figures()
    figures.add(matches)
    total = figures.total.kinds
    assert figures.total.a == len(a) == total[Kind.AGREED] + total[Kind.CLASS_DIFFERS] + total[Kind.ONLY_A]
    assert figures.frames_disagreeing == any(one.kind in DISAGREE for one in matches)
    assert all(one.kind is Kind.AGREED for one in match(a, a, KNOWN, KNOWN)) or len(a) > 1


def test_class_names_are_compared_by_the_alias_table() -> None:
    boxes = np.array([[0, 0, 10, 10, 0.9, 1]], np.float32)
    assert ModelView(("car", "pedestrian")).seen(boxes)[0].name == "pedestrian"


def test_the_timeline_stays_bounded() -> None:
    timeline = Timeline()
    for index in range(10_000):
        timeline.add(index, 1.0)
    bins = timeline.bins()
    assert len(bins) <= MAX_BINS
    assert {weight for _, weight in bins} == {1.0}


def candidate(time_s: float, weight: float) -> Candidate:
    return Candidate("front", round(time_s * 10), "", time_s, weight, (), b"", 10, 10)


def test_the_worst_frames_are_apart_in_time() -> None:
    worst = Worst(4)
    for index in range(600):
        time_s = index / 10
        weight = 10.0 - abs(time_s - 30) / 10  # one long scene around the half minute
        worst.offer("front", time_s, weight, lambda t=time_s, w=weight: candidate(t, w))
    times = sorted(one.time_s for one in worst.chosen())
    assert len(times) == 4
    assert min(np.diff(times)) >= 1.0
    assert 30.0 in times


def test_agreement_with_itself_under_another_version(tmp_path: Path) -> None:
    model, other = write_model(tmp_path), tmp_path / "other.onnx"
    other.write_bytes(rectangles_model(version="2"))
    drive = write_drive(tmp_path / "drive")
    result = CliRunner().invoke(
        root, ["replay", str(drive), "--model", str(model), "--compare", str(other), "--json"]
    )
    assert result.exit_code == 0, result.output
    compare = json.loads(result.stdout)["compare"]
    assert (compare["agreement"], compare["mean_iou"], compare["frames_disagreeing"]) == (1.0, 1.0, 0)
    assert "100.0% agreed" in result.stderr


@pytest.fixture
def compared(tmp_path: Path) -> Path:
    model, other = write_model(tmp_path), tmp_path / "other.onnx"
    # In the input's pixels (64x96): a "red" thing where nothing is, and one of a class of its own.
    rows = [[20, 50, 10, 10, 0, 0, 0.8, 0], [60, 50, 10, 10, 0, 0, 0, 0.7]]
    other.write_bytes(constant_model(rows, class_names=("blue", "green", "red", "purple & <co>")))
    result = CliRunner().invoke(
        root,
        [
            *("replay", str(write_drive(tmp_path / "drive", frames=40)), "--model", str(model)),
            *("--compare", str(other), "--compare-jsonl", str(tmp_path / "c.jsonl")),
            *("--compare-html", str(tmp_path / "c.html"), "--compare-pictures", "3"),
        ],
    )
    assert result.exit_code == 0, result.output
    return tmp_path


def test_lines_and_page_tell_where_two_models_disagree(compared: Path) -> None:
    written = lines((compared / "c.jsonl").read_text())
    assert len(written) == 40
    first = written[0]
    assert (first["agreed"], first["only_a"], first["only_b"], first["unknown_to_a"]) == (0, 2, 1, 1)
    assert {one["kind"] for one in first["differences"]} == {"only_a", "only_b"}
    page = (compared / "c.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 3, "each picture is in the page once"
    assert "purple &amp; &lt;co&gt;" in page
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")
