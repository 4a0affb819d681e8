"""The demonstration's children: heard, ended with their own children, and never left over."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.waiting import eventually
from tools.demo.errors import DemoError
from tools.demo.processes import Children
from tools.demo.story import Story
from tools.demo.tasks import Task, Tasks

ROOT = Path(__file__).resolve().parents[2]
SLEEP = "import signal; signal.pause()"
# Says who it is and who its own child is, and does not end at SIGTERM; nor does its child.
STUBBORN = """
import signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
print(child.pid, flush=True)
signal.pause()
"""
# Starts a child as the demonstration does, says its id, and waits.
PARENT = """
import signal, sys
from pathlib import Path
from tools.demo.processes import Children
with Children(Path(sys.argv[1])) as children:
    print(children.start("sleeper", sys.executable, "-c", "import signal; signal.pause()").pid, flush=True)
    signal.pause()
"""


def lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_what_a_child_prints_is_heard_and_kept(tmp_path: Path) -> None:
    out: list[str] = []
    err: list[str] = []
    program = "import sys; print('one'); print('two', file=sys.stderr); sys.exit(3)"
    with Children(tmp_path) as children:
        child = children.start(
            "talker", sys.executable, "-c", program, hear_output=out.append, hear_errors=err.append
        )
        assert child.wait(60) == 3
        children.stop()
    assert (out, err) == (["one"], ["two"])
    assert sorted((tmp_path / "talker.log").read_text().split()) == ["one", "two"]
    assert "ended with exit code 3; its last lines" in child.why() and "  two" in child.why()


def test_a_child_that_does_not_listen_is_ended_with_its_own_children(tmp_path: Path) -> None:
    said: list[str] = []
    with Children(tmp_path, grace_s=0.1) as children:
        child = children.start("stubborn", sys.executable, "-c", STUBBORN, hear_output=said.append)
        eventually(lambda: bool(said), "the grandchild's id")
    assert child.returncode() == -signal.SIGKILL and "was ended by SIGKILL" in child.why()
    eventually(lambda: not lives(int(said[0])), "the grandchild's end")


def test_a_command_that_is_not_there_is_an_exit_code(tmp_path: Path) -> None:
    with Children(tmp_path) as children:
        child = children.start("missing", "/no/such/command")
        assert child.wait(60) == 127
        children.stop()
    assert "lifeline: /no/such/command: No such file or directory" in child.why()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_children_do_not_outlive_their_parent(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert lives(child)
        parent.send_signal(number)
        parent.wait(60)
    eventually(lambda: not lives(child), "the child's end")


def test_tasks_wait_for_each_other_and_tell_how_far_they_are(tmp_path: Path) -> None:
    story = Story()
    drawing = ("data", "simulate", "--frames", "3", "--size", "64x64")
    tasks = [
        Task(
            "split",
            ("data", "split", tmp_path / "drive", "--fractions", "train=1", "-o", tmp_path / "split"),
            after=("drive",),
        ),
        Task("drive", (*drawing, "-o", tmp_path / "drive"), pictures=(tmp_path / "drive" / "images", 3)),
    ]
    with Children(tmp_path / "logs", story.wake) as children:
        running = Tasks(tasks, children, story, at_once=1)
        running.advance()
        assert story.tasks == {"drive": (0, 3)} and not running.are_done("drive")
        story.wait("the tasks", running.are_done, 120, running.advance)
    assert running.are_done("drive", "split") and story.tasks == {}
    assert [line.text for line in story.lines] == ["drive: done", "split: done"]
    assert (tmp_path / "split" / "det_20.json").is_file()


def test_a_task_that_fails_says_why(tmp_path: Path) -> None:
    story = Story()
    with Children(tmp_path / "logs", story.wake) as children:
        running = Tasks(
            [Task("split", ("data", "split", tmp_path / "none", "-o", tmp_path / "x"))], children, story, 1
        )
        with pytest.raises(DemoError, match=r"(?s)split ended with exit code 1;.*none does not exist"):
            story.wait("the task", running.are_done, 120, running.advance)


def test_waiting_ends_at_its_limit_or_by_its_check() -> None:
    story = Story()
    with pytest.raises(DemoError, match="the moon: not within 0 s"):
        story.wait("the moon", lambda: False, 0.0)

    def dead() -> None:
        raise DemoError("the vehicle has ended")

    began = time.monotonic()
    with pytest.raises(DemoError, match="the vehicle has ended"):
        story.wait("the moon", lambda: False, 60.0, dead)
    assert time.monotonic() - began < 60
