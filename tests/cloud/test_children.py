"""Servers as children: together up, together down."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from cloud.children import ChildError, run_children, run_to_end
from tests.processes import descendants, is_alive
from tests.waiting import eventually

# Starts one in a session of its own, and waits with it.
PARENT = """
import subprocess, sys
subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)
"""
SLEEPER = "import time; time.sleep(600)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def ours() -> list[psutil.Process]:
    return descendants(None, lambda process: "time.sleep(600)" in " ".join(process.cmdline()))


def test_a_signal_ends_all_and_what_they_started(tmp_path: Path) -> None:
    seen: list[psutil.Process] = []

    def look() -> None:
        eventually(lambda: len(ours()) == 3, "both children, and a grandchild")
        seen.extend(ours())
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    run_children({"a": python(PARENT), "b": python(SLEEPER)}, os.environ, tmp_path, look)
    assert len(seen) == 3
    # The grandchild is another's to reap.
    eventually(lambda: not any(is_alive(process) for process in seen), "all three have ended")
    assert signal.getsignal(signal.SIGTERM) is before


def test_one_that_ends_takes_the_others_along(tmp_path: Path) -> None:
    with pytest.raises(ChildError, match="b ended by itself, with 3"):
        run_children({"a": python(SLEEPER), "b": python("raise SystemExit(3)")}, os.environ, tmp_path)
    assert ours() == []


def test_one_that_cannot_start_takes_the_others_along(tmp_path: Path) -> None:
    with pytest.raises(ChildError, match="b: /none: No such file"):
        run_children({"a": python(SLEEPER), "b": ["/none"]}, os.environ, tmp_path)
    assert ours() == []


def test_one_that_does_not_hear_is_killed(tmp_path: Path) -> None:
    with pytest.raises(ChildError, match="b ended"):
        run_children({"a": python(DEAF), "b": python("pass")}, os.environ, tmp_path, grace_s=0.0)
    assert ours() == []


def test_what_ends_by_itself_may_not_fail(tmp_path: Path) -> None:
    run_to_end("good", python("pass"), os.environ, tmp_path)
    with pytest.raises(ChildError, match="bad failed, with 2"):
        run_to_end("bad", python("raise SystemExit(2)"), os.environ, tmp_path)
