from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path

import pytest

from edge.logs import JournalLines, JsonLines, Repeated, TextLines, is_journal
from edge.redaction import redact

URL = "rtsp://admin:pa%2Fss@10.0.0.9:554/stream"


def record(**extra: object) -> logging.LogRecord:
    return logging.getLogger("edge.test").makeRecord(
        "edge.test", logging.WARNING, "file", 1, "camera %s lost", (URL,), None, extra=extra or None
    )


def test_a_line_is_json_with_its_fields_and_without_passwords() -> None:
    line = JsonLines().format(record(event="camera_lost", detail=URL))
    assert "\n" not in line and "pa%2Fss" not in line
    told = json.loads(line)
    assert told["message"] == "camera rtsp://***@10.0.0.9:554/stream lost"
    assert (told["level"], told["event"]) == ("warning", "camera_lost")
    assert "pa%2Fss" not in TextLines().format(record())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "rtsp://cam/live?user=admin&password=hunter2&channel=1",
            "rtsp://cam/live?user=admin&password=***&channel=1",
        ),
        ("rtsp://cam/user=admin_password=hunter2_channel=1.sdp", "rtsp://cam/user=admin_password=***"),
        ("rtsp://me:hunter2/x@cam/1", "rtsp://***@cam/1"),
        ("rtsp://me:x/hunter2@cam/1", "rtsp://***@cam/1"),
        ("me:hunter2@10.0.0.9/live", "***@10.0.0.9/live"),
        ("url = 'rtsp//me:hunter2@cam'", "url = '***@cam'"),
        ("me:hunter2@10.0p://me:hunter2@cam", "***@cam"),
        ("location=me:a=hunter2@cam", "location=***@cam"),
        ("https://cam/stream?token=hunter2", "https://cam/stream?token=***"),
        (
            "gst:rtspsrc location=rtsp://cam/1 user-id=me user-pw=hunter2 ! decodebin",
            "user-pw=*** ! decodebin",
        ),
        ("{'url': 'rtsp://cam/?PWD=hunter2'}", "?PWD=***'}"),
    ],
)
def test_what_is_named_a_password_is_hidden(text: str, shown: str) -> None:
    assert shown in redact(text) and "hunter2" not in redact(text)


@pytest.mark.parametrize(
    "text", ["pass=", "compass=3 author=me", "sim:7?light=noon", "a@b", "https://host/path@2", "unix:/a/b"]
)
def test_what_holds_no_password_stays(text: str) -> None:
    assert redact(text) == text


def test_what_repeats_is_told_once_and_then_with_its_count(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("edge.test")
    with caplog.at_level(logging.INFO):
        often = Repeated(log, logging.INFO)
        for number in range(5):
            often.log("broken %d", number)
        often.reset()
        often.log("another matter")
        at_once = Repeated(log, logging.INFO, every_s=0)
        at_once._silent = 3
        at_once.log("again")
    assert [entry.message for entry in caplog.records] == [
        "broken 0",
        "another matter",
        "again (and 3 more since this was last told)",
    ]


def test_another_key_is_told_at_once_and_a_traceback_goes_along(caplog: pytest.LogCaptureFixture) -> None:
    often = Repeated(logging.getLogger("edge.test"), logging.ERROR)
    for key in ("a", "a", "a", "b", "b"):
        often.log("the cloud refuses %s", key, key=key)
    try:
        raise ValueError("a defect")
    except ValueError:
        often.log("a defect", key="c", exc_info=True)
    assert [entry.message for entry in caplog.records] == [
        "the cloud refuses a",
        "the cloud refuses b (and 2 more of what was told before)",
        "a defect (and 1 more of what was told before)",
    ]
    assert "ValueError: a defect" in JsonLines().format(caplog.records[-1])


@pytest.mark.parametrize(
    ("level", "priority"),
    [(logging.DEBUG, 7), (logging.INFO, 6), (logging.WARNING, 4), (logging.ERROR, 3), (logging.CRITICAL, 2)],
)
def test_the_journal_gets_each_lines_priority(level: int, priority: int) -> None:
    entry = record(event="x")
    entry.levelno = level
    try:
        raise ValueError("of two\nlines")
    except ValueError:
        entry.exc_info = sys.exc_info()
    one = JournalLines(JsonLines()).format(entry)
    assert one.startswith(f"<{priority}>{{") and "\n" not in one
    several = JournalLines(TextLines()).format(entry).splitlines()
    assert len(several) > 3 and all(line.startswith(f"<{priority}>") for line in several)


def test_the_journal_is_known_by_its_device_and_inode(tmp_path: Path) -> None:
    with (tmp_path / "journal").open("w") as stream:
        stat = os.fstat(stream.fileno())
        assert is_journal(stream, {"JOURNAL_STREAM": f"{stat.st_dev}:{stat.st_ino}"})
        assert not is_journal(stream, {"JOURNAL_STREAM": f"{stat.st_dev}:{stat.st_ino + 1}"})
        assert not is_journal(stream, {})
    assert not is_journal(stream, {"JOURNAL_STREAM": "1:1"}), "closed"
