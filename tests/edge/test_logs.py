from __future__ import annotations

import json
import logging

import pytest

from edge.logs import JsonLines, Repeated, TextLines
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


@pytest.mark.parametrize("text", ["sim:7?light=noon", "a@b", "https://host/path@2", "unix:/a/b"])
def test_what_holds_no_password_stays(text: str) -> None:
    assert redact(text) == text


def test_what_repeats_is_told_once_and_then_with_its_count(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("edge.test")
    with caplog.at_level(logging.INFO):
        often = Repeated(log, logging.INFO)
        for number in range(5):
            often.log("broken %d", number)
        at_once = Repeated(log, logging.INFO, every_s=0)
        at_once._silent = 3
        at_once.log("again")
    assert [entry.message for entry in caplog.records] == [
        "broken 0",
        "again (and 3 more since this was last told)",
    ]
