"""The demonstration's report: figures, page, model files."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from cloud.datasets.files import FileError
from edge.frames.outcomes import Outcome
from tests.demo_records import ALARM_S, DUSK_S, END_S, LEARNED_S, SWAP_S, demo_record
from tools.demo.record import Comparison, DemoRecord, DriftPoint, Score
from tools.demo.report import ReportError, write_report

EVIL = '"><script>alert("1")</script>\udcff\x00'
VOID = {"meta", "image", "use", "rect", "line", "circle", "path", "br"}


@pytest.fixture
def record(tmp_path: Path) -> DemoRecord:
    return demo_record(tmp_path / "models")


def written(record: DemoRecord, folder: Path) -> tuple[dict[str, Any], str]:
    page = write_report(record, folder)
    assert page == folder / "report.html"
    text = page.read_text()
    check_stands_alone(text)
    figures = json.loads((folder / "report.json").read_text(), parse_constant=pytest.fail)
    return figures, text


class Outline(HTMLParser):
    """Whether each element is closed, and what is linked to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID or self.open[-1:] == [tag]:
            assert self.open.pop() == tag


def check_stands_alone(text: str) -> None:
    outline = Outline()
    outline.feed(text)
    assert outline.open == []
    assert "script" not in outline.tags
    beside = {"baseline.onnx", "candidate.onnx"}
    assert all(link in beside or link.startswith(("data:image/jpeg;base64,", "#")) for link in outline.links)
    assert "@import" not in text and "url(" not in text
    for drawing in re.findall(r"<svg[^>]*>.*?</svg>", text.replace("\x00", ""), re.DOTALL):
        ElementTree.fromstring(drawing)
        assert "nan" not in re.sub(r">[^<]*<|base64,[^\"]*|aria-label=\"[^\"]*\"", "", drawing)


def test_the_figures_are_those_that_were_asked_for(record: DemoRecord, tmp_path: Path) -> None:
    figures, _ = written(record, tmp_path / "out")
    for name, day, night in (("baseline", 0.612, 0.183), ("candidate", 0.607, 0.391)):
        assert (figures[name]["day_map50"], figures[name]["night_map50"]) == (day, night)
        for of in ("day", "night"):
            low, high = (figures[name][f"{of}_map50_{end}"] for end in ("low", "high"))
            assert low < figures[name][f"{of}_map50"] < high
    assert figures["frames"] == {
        "captured": 8000,
        **dict.fromkeys((outcome.value for outcome in Outcome), 0),
        "published": 7998,
        "stopped": 2,
    }
    swap = figures["swap"]
    assert (swap["frames_lost"], swap["worst_gap_ms"]) == (0, 41.5)
    assert 22 < swap["median_gap_ms"] < 26
    drift = figures["drift"]
    assert (drift["false_alarms_by_day"], drift["alarms_at_night_after_swap"]) == (0, 0)
    assert drift["alarm_after_s"] == ALARM_S - DUSK_S
    assert drift["learning_s_after_swap"] == LEARNED_S - SWAP_S
    assert drift["judged_s_after_swap"] == END_S - 1 - LEARNED_S
    assert (figures["samples"]["shipped"], figures["samples"]["stored"]) == (131, 131)
    assert figures["timings"]["train_s"] == 251.0 and figures["timings"]["drive_by_day_s"] == 14.2
    share = figures["wall"]["share_neither_training_nor_evaluation"]
    assert share == pytest.approx(1 - (251 + 34 + 61) / sum(record.timings.values()))
    assert figures["mode"] == "simulated" and figures["machine"] == record.machine
    assert figures["lineage"] == record.lineage
    assert [promise["kept"] for promise in figures["promises"]] == [True] * 7


def test_the_page_shows_every_part(record: DemoRecord, tmp_path: Path) -> None:
    _, text = written(record, tmp_path / "out")
    assert "By night, mAP50 rose from 0.183 to 0.391, 2.1 times as much." in text
    assert "The vehicle raised the alarm 38 s of drive after dusk." in text
    assert "swap 9:00" in text and "learning, 9:00 to 10:20" in text
    assert "low_confidence_share in alarm, 2:38 to 9:00" in text
    assert text.count("data:image/jpeg;base64,") == len(record.comparisons)
    assert text.count('<use href="#picture-') == len(record.comparisons)
    assert re.search(r"finds \d+ of \d+ objects", text)
    assert "swap: frame 5400" in text and "median 24.1 ms" in text and "worst 41.5 ms" in text
    assert "3 drives, at least 10 are needed" in text
    assert "22 % of it is neither training nor evaluation" in text
    assert "it adds up" in text
    assert "samples       128 of demo-1" in text
    for promise in ("frames lost by the swap", "memory of the vehicle&#39;s process"):
        assert promise in text


def test_the_models_are_copied(record: DemoRecord, tmp_path: Path) -> None:
    out = tmp_path / "out"
    written(record, out)
    for model, name in ((record.baseline, "baseline.onnx"), (record.candidate, "candidate.onnx")):
        assert (out / name).read_bytes() == model.path.read_bytes()


def test_a_second_report_takes_the_place_of_the_first(record: DemoRecord, tmp_path: Path) -> None:
    out = tmp_path / "out"
    written(record, out)
    (out / "mine.txt").write_text("stays")
    figures, text = written(replace(record, machine="another one", comparisons=()), out)
    assert figures["machine"] == "another one" and "another one" in text
    assert "No picture is at hand." in text
    names = {"baseline.onnx", "candidate.onnx", "report.html", "report.json", "mine.txt"}
    assert {path.name for path in out.iterdir()} == names


def test_a_model_that_was_changed_is_no_report(record: DemoRecord, tmp_path: Path) -> None:
    out = tmp_path / "out"
    record.candidate.path.write_bytes(b"another")
    with pytest.raises(ReportError, match=r"loop\.onnx' was changed"):
        write_report(record, out)
    record.candidate.path.unlink()
    with pytest.raises(ReportError, match="cannot read the model file"):
        write_report(record, out)
    assert not out.exists()


def test_a_folder_that_cannot_be_is_one_clear_error(record: DemoRecord, tmp_path: Path) -> None:
    blocked = tmp_path / "out"
    blocked.write_text("a file")
    with pytest.raises(FileError, match="cannot be written"):
        write_report(record, blocked)


def test_names_are_shown_and_never_obeyed(tmp_path: Path) -> None:
    base = demo_record(tmp_path / "models")
    gate = json.loads(json.dumps(base.gate))
    gate["rules"][0] |= {"why": EVIL, "slice": EVIL, "verdict": EVIL}
    gate["slices"][0]["name"] = EVIL
    shown = base.comparisons[0]
    box = (10.0, 20.0, 50.0, 60.0)
    record = replace(
        base,
        baseline=replace(base.baseline, name=EVIL, version=EVIL),
        candidate=replace(base.candidate, name=EVIL),
        gate={**gate, "verdict": EVIL},
        drift=[
            DriftPoint(float(second), EVIL if second % 2 else "alarm", EVIL, {EVIL: 0.5}, (EVIL,), EVIL)
            for second in range(300)
        ],
        samples={**base.samples, EVIL: 1},
        timings={**base.timings, EVIL: 1.0},
        edge={EVIL: 1.0},
        comparisons=[Comparison(EVIL, shown.jpeg, [(*box, 0.5, EVIL)], [], [(*box, EVIL)])],
        lineage=EVIL,
        machine=EVIL,
    )
    figures, text = written(record, tmp_path / "out")
    assert "&lt;script&gt;" in text
    assert figures["machine"] == EVIL


def test_what_was_not_measured_is_shown_as_that(tmp_path: Path) -> None:
    base = demo_record(tmp_path / "models")
    unknown = Score(math.nan, math.nan, math.nan, 0, 0)
    box = (math.nan, 20.0, 50.0, 60.0)
    record = replace(
        base,
        baseline=replace(base.baseline, scores={"day": unknown, "night": unknown}),
        candidate=replace(base.candidate, scores={}),
        gate={},
        drift=[replace(point, ks=dict.fromkeys(point.ks, math.nan)) for point in base.drift],
        swap=replace(base.swap, gap_ms=math.nan, exchange_us=math.nan, gaps=[(1, math.nan)]),
        frames={"captured": 5},
        samples={},
        timings={"train": math.nan},
        training=[(math.nan, math.nan), (1.0, math.nan)],
        comparisons=[
            replace(base.comparisons[0], before=[(*box, 0.5, "car")], after=[]),
            replace(base.comparisons[1], jpeg=b"\xff\xd8 torn"),
        ],
        edge={"peak_resident_mb": math.nan},
        lineage="",
        machine="",
    )
    figures, text = written(record, tmp_path / "out")
    assert figures["baseline"]["night_map50"] is None and figures["candidate"]["day_map50"] is None
    assert figures["swap"]["worst_gap_ms"] is None and figures["swap"]["median_gap_ms"] is None
    assert figures["timings"] == {"train_s": None}
    assert (figures["samples"]["shipped"], figures["samples"]["stored"]) == (None, None)
    kept = {promise["what"]: promise["kept"] for promise in figures["promises"]}
    assert kept["mAP50 by night"] is None and kept["memory of the vehicle's process"] is None
    assert "not accounted for" in text and "No judgement was recorded." in text
    assert text.count("data:image/jpeg;base64,") == 1


def test_a_drive_without_alarm_states_or_gaps(tmp_path: Path) -> None:
    base = demo_record(tmp_path / "models")
    calm = [replace(point, verdict="stable", alarming=()) for point in base.drift]
    figures, text = written(replace(base, drift=calm), tmp_path / "calm")
    assert figures["drift"]["alarm_after_s"] is None and figures["drift"]["alarms"] == []
    assert "The vehicle raised no alarm after dusk." in text
    record = replace(base, drift=[], training=(), swap=replace(base.swap, gaps=()))
    figures, text = written(record, tmp_path / "empty")
    assert (figures["swap"]["worst_gap_ms"], figures["swap"]["median_gap_ms"]) == (41.5, None)
    kept = {promise["what"]: promise["kept"] for promise in figures["promises"]}
    # Nobody looked: that nothing was seen says nothing.
    assert kept["false alarms by day"] is None and kept["alarms at night under the new model"] is None
    tiles = re.findall(r"<b>(.*?)</b><span>(?:false alarms by day|alarms at night under)", text)
    assert tiles == ["–"] * 2
    assert "No drift state was seen." in text and "No publications around the swap" in text
    written(replace(base, drift=base.drift[:1]), tmp_path / "one")


def test_alarms_in_the_wrong_place_are_told(record: DemoRecord, tmp_path: Path) -> None:
    wrong = {30.0, 31.0, 700.0}
    drift = [replace(point, verdict="alarm") if point.drive_s in wrong else point for point in record.drift]
    figures, _ = written(replace(record, drift=drift), tmp_path / "out")
    assert figures["drift"]["false_alarms_by_day"] == 1
    assert figures["drift"]["alarms_at_night_after_swap"] == 1
    kept = {promise["what"]: promise["kept"] for promise in figures["promises"]}
    assert kept["false alarms by day"] is False and kept["alarms at night under the new model"] is False


@pytest.mark.parametrize(
    ("mode", "day", "night", "kept"),
    [
        ("simulated", 0.592, 0.275, [True, True]),
        ("simulated", 0.591, 0.274, [False, False]),
        ("real", 0.583, 0.184, [True, True]),
        ("real", 0.581, 0.183, [False, False]),
    ],
)
def test_each_mode_has_its_own_promises(
    record: DemoRecord, tmp_path: Path, mode: Any, day: float, night: float, kept: list[bool]
) -> None:
    scores = {"day": Score(day, day, day, 1, 1), "night": Score(night, night, night, 1, 1)}
    changed = replace(record, mode=mode, candidate=replace(record.candidate, scores=scores))
    figures, _ = written(changed, tmp_path / "out")
    assert [promise["kept"] for promise in figures["promises"][:2]] == kept
