"""The demonstration in small, as real processes: it ends in every way that it can, and leaves nothing."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.clouds import ROOT, command_line, environment
from tests.extras import needs_ultralytics
from tests.waiting import eventually

LONG_S = 600.0  # a wait that is never waited out: a busy machine trains for long
pytestmark = [pytest.mark.services, pytest.mark.timeout(2 * LONG_S), needs_ultralytics]


# The shipped checkpoint with so much noise in its weights that it is better without.
WEAK = """
import sys
from pathlib import Path
from cloud.pipeline.ultralytics_boundary import import_ultralytics
from cloud.release.assembly import AssemblyOptions
from cloud.release.importing import import_model
from tools.drives.golden import golden_pictures

import_ultralytics()
import torch

folder = Path(sys.argv[1])
checkpoint = torch.load("models/baseline.pt", map_location="cpu", weights_only=False)
torch.manual_seed(0)
model = checkpoint["model"].float()
for weights in model.parameters():
    if weights.dim() == 4:
        weights.data += 0.25 * weights.std() * torch.randn_like(weights)
checkpoint["model"] = model.half()
torch.save(checkpoint, folder / "weak.pt")
options = AssemblyOptions(name="weak", imgsz=(192, 320))
import_model(folder / "weak.pt", folder / "weak.onnx", golden_pictures(), options)
"""


class Demonstration:
    """`traffic-vision demo --quick`, with what it says as it says it."""

    def __init__(self, folder: Path, *more: str | Path) -> None:
        self.work, self.report = folder / "work", folder / "report"
        self.lines: list[str] = []
        self.errors: list[str] = []
        words = ("demo", "--quick", "--work", self.work, "--report", self.report, *more)
        self.process = subprocess.Popen(
            command_line(*words),
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._readers = [
            threading.Thread(target=self._read, args=(stream, lines), daemon=True)
            for stream, lines in ((self.process.stdout, self.lines), (self.process.stderr, self.errors))
        ]
        for reader in self._readers:
            reader.start()

    def said(self, text: str) -> bool:
        assert self.process.poll() is None or text in "".join(self.lines), (self.lines, self.errors)
        return text in "".join(self.lines)

    def children(self, naming: str = "") -> list[int]:
        """Processes whose command line names the work folder and NAMING; the demonstration itself aside."""
        return [
            process.pid
            for process in psutil.process_iter(["cmdline"])
            if process.pid != self.process.pid
            and str(self.work) in (line := " ".join(process.info["cmdline"] or ()))
            and naming in line
        ]

    def wait(self) -> int:
        code = self.process.wait(LONG_S)
        for reader in self._readers:
            reader.join(60)
        return code

    @staticmethod
    def _read(stream: Iterator[str], lines: list[str]) -> None:
        lines.extend(stream)


@contextmanager
def demonstration(folder: Path, *more: str | Path) -> Iterator[Demonstration]:
    running = Demonstration(folder, *more)
    try:
        yield running
    finally:
        running.process.kill()
        running.wait()


def test_the_loop_closes_and_the_report_tells_of_it(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-c", WEAK, str(tmp_path)], cwd=ROOT, env=environment(), timeout=LONG_S, check=True
    )
    drift = tmp_path / "day.json"
    words = ["drift", "fit", "sim:900?seconds=60&rate=2", "--model", tmp_path / "weak.onnx", "-o", drift]
    for command in (
        words,
        ["drift", "attach", drift, "--model", tmp_path / "weak.onnx", "-o", tmp_path / "weak.onnx"],
    ):
        subprocess.run(command_line(*command), cwd=ROOT, env=environment(), timeout=LONG_S, check=True)
    with demonstration(tmp_path, "--baseline", tmp_path / "weak.onnx") as demo:
        code = demo.wait()
        assert not demo.children()
    assert code == 0, (demo.lines, demo.errors)
    report = json.loads((demo.report / "report.json").read_text())
    assert report["swap"]["frames_lost"] == 0 and report["swap"]["worst_gap_ms"] > 0
    frames = report["frames"]
    assert frames["captured"] == sum(count for way, count in frames.items() if way != "captured")
    assert frames["published"] >= frames["captured"] - 1  # the one in hand at the stop
    assert report["samples"]["shipped"] == report["samples"]["stored"] >= 12
    assert report["candidate"]["night_map50"] > report["baseline"]["night_map50"]
    assert report["edge"]["peak_resident_mb"] > 0 and report["gate"]["verdict"] == "pass"
    for stage in ("day", "label", "train", "validate", "deploy", "swap", "evaluate"):
        assert report["timings"][f"{stage}_s"] > 0
    assert (demo.report / "report.html").is_file() and "release" in report["lineage"]
    verified = command_line("model", "verify", demo.report / "candidate.onnx")
    subprocess.run(verified, env=environment(), timeout=LONG_S, check=True, stdout=subprocess.DEVNULL)


def test_a_retrain_that_the_gate_refuses_is_said_and_what_there_is_is_kept(tmp_path: Path) -> None:
    # So fast a training forgets what the checkpoint knew: by far too much for a lucky draw.
    with demonstration(tmp_path, "--learning-rate", "0.001") as demo:
        code = demo.wait()
        assert not demo.children()
    text = "".join(demo.lines)
    for expected in ("drift alarm at", "retrain begins: ", "the gate's verdict: ", "the loop did not close"):
        assert expected in text, (text, demo.errors)
    assert code == 1 and len(demo.errors) == 1
    assert demo.errors[0].startswith(
        "traffic-vision: error: no release came of the retrain: the gate's verdict is "
    )
    report = json.loads((demo.report / "report.json").read_text())
    assert report["complete"] is False and report["gate"]["verdict"] != "pass"
    assert report["samples"]["stored"] >= 12 and report["training"]
    assert (demo.report / "candidate.onnx").stat().st_size > 1_000_000


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("driving by day", signal.SIGINT),
        ("shipping samples of the night", signal.SIGTERM),
        ("cloud: trains", signal.SIGINT),
    ],
)
def test_interrupted_at_any_moment_it_leaves_no_process(
    tmp_path: Path, moment: str, number: signal.Signals
) -> None:
    with demonstration(tmp_path) as demo:
        eventually(lambda: demo.said(moment), moment, LONG_S)
        assert demo.children()
        demo.process.send_signal(number)
        assert demo.wait() == 130
        assert not demo.children()
    assert "".join(demo.errors).strip() == "traffic-vision: interrupted"
    # A second run starts clean.
    with demonstration(tmp_path) as again:
        eventually(lambda: again.said("driving by day"), "the second run", LONG_S)


def test_a_demonstration_that_is_killed_takes_its_processes_along(tmp_path: Path) -> None:
    with demonstration(tmp_path) as demo:
        eventually(lambda: demo.said("driving by day"), "the drive", LONG_S)
        assert demo.children()
        demo.process.kill()
        demo.wait()
        eventually(lambda: not demo.children(), "the end of its children")


def test_a_process_that_dies_ends_it_with_its_last_words(tmp_path: Path) -> None:
    with demonstration(tmp_path) as demo:
        eventually(lambda: demo.said("driving by day"), "the drive", LONG_S)
        (vehicle,) = demo.children(naming="edge.toml")
        os.kill(vehicle, signal.SIGKILL)
        assert demo.wait() == 1
        assert not demo.children()
    error = "".join(demo.errors)
    assert error.startswith(
        "traffic-vision: error: the vehicle's daemon was ended by SIGKILL; its last lines"
    )
    assert '"event": "started"' in error


def test_on_a_terminal_the_screen_is_drawn_and_given_back(tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    words = ("demo", "--quick", "--work", tmp_path / "work", "--report", tmp_path / "report")
    with subprocess.Popen(
        command_line(*words), env={**environment(), "TERM": "xterm"}, stdout=follower, stderr=follower
    ) as running:
        os.close(follower)
        shown = b""
        try:
            while b"driving by day" not in shown:
                shown += os.read(leader, 65536)
            running.send_signal(signal.SIGINT)
            while True:
                try:
                    shown += os.read(leader, 65536)
                except OSError:  # the other end is closed
                    break
            assert running.wait(60) == 130
        finally:
            running.kill()
            os.close(leader)
    assert b"drift" in shown and b"samples:" in shown
    assert shown.rfind(b"\x1b[?25h") > shown.rfind(b"\x1b[?25l") >= 0  # the cursor is back
