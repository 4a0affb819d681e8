from __future__ import annotations

import io

import pytest

from tools.replay import progress
from tools.replay.progress import ProgressLine


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch, expected: int | None) -> str:
    now = iter(range(1000))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(now)))
    with ProgressLine(stream, "frame") as line:
        for done in (5, 10):
            line.show(done, expected)
    return stream.getvalue()


def test_a_terminal_sees_one_line_that_is_erased_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(Terminal(), monkeypatch, 20)
    assert "frame 5/20  5.0/s" in text
    assert "frame 10/20  5.0/s" in text
    assert "\n" not in text
    assert text.endswith("\r\x1b[K")


def test_an_endless_drive_has_no_total(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "frame 10  5.0/s" in shown(Terminal(), monkeypatch, None)


def test_a_file_sees_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(io.StringIO(), monkeypatch, 20) == ""
