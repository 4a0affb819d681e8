"""The vehicle's install, as `make setup-edge` leaves it, and its resolution for the boards it runs on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import cv2
import pytest
from packaging.requirements import Requirement

from tests.models_factory import picture, rectangles_model

pytestmark = [pytest.mark.services, pytest.mark.timeout(1800)]

ROOT = Path(__file__).resolve().parents[2]
EDGE = ROOT / ".venv-edge"
SIZE_LIMIT_MB = 650
NOT_ON_A_VEHICLE = {
    "torch",
    "torchvision",
    "ultralytics",
    "mlflow",
    "dvc",
    "pycocotools",
    "polars",
    "matplotlib",
}


def in_edge(*arguments: str, cwd: Path = ROOT, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    program, *rest = arguments
    command = [str(EDGE / "bin" / program), *rest]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False)


def installed() -> dict[str, str]:
    listing = in_edge("python", "-m", "pip", "list", "--format=json")
    assert listing.returncode == 0, listing.stderr
    return {entry["name"].lower(): entry["version"] for entry in json.loads(listing.stdout)}


def test_nothing_of_the_cloud_is_installed() -> None:
    assert not installed().keys() & NOT_ON_A_VEHICLE


def test_the_environment_is_small(capsys: pytest.CaptureFixture[str]) -> None:
    files = {(s.st_dev, s.st_ino): s for s in (p.lstat() for p in EDGE.rglob("*"))}
    size_mb = sum(s.st_blocks * 512 for s in files.values()) / 1e6
    with capsys.disabled():
        print(f"\nedge environment: {size_mb:.0f} MB, at most {SIZE_LIMIT_MB}")
    assert 50 < size_mb <= SIZE_LIMIT_MB


def test_the_command_line_answers(tmp_path: Path) -> None:
    shown = in_edge("traffic-vision", "--help", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "replay" in shown.stdout


def test_a_model_tells_of_itself_and_detects(tmp_path: Path) -> None:
    pictures, model, lines = tmp_path / "pictures", tmp_path / "model.onnx", tmp_path / "out.jsonl"
    model.write_bytes(rectangles_model())
    pictures.mkdir()
    for index in range(3):
        cv2.imwrite(str(pictures / f"{index}.png"), picture((128, 192), (20, 30, 100, 90, "red")))
    told = in_edge("traffic-vision", "model", "info", str(model), cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    assert "rectangles" in told.stdout
    replayed = in_edge(
        *("traffic-vision", "replay", str(pictures), "--model", str(model), "--jsonl", str(lines)),
        cwd=tmp_path,
    )
    assert replayed.returncode == 0, replayed.stderr
    found = [json.loads(line)["detections"] for line in lines.read_text().splitlines()]
    assert len(found) == 3
    assert all("red" in json.dumps(detections) for detections in found)


def test_a_simulated_drive_needs_no_more_than_the_vehicles_part(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(rectangles_model())
    replayed = in_edge(
        *("traffic-vision", "replay", "sim:7?light=night&seconds=1&rate=5", "--model", str(model)),
        cwd=tmp_path,
    )
    assert replayed.returncode == 0, replayed.stderr


def test_what_needs_the_cloud_part_says_so_in_one_line(tmp_path: Path) -> None:
    refused = in_edge("traffic-vision", "data", "inspect", str(tmp_path), cwd=tmp_path)
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr
    assert "cloud extra" in refused.stderr


# glibc 2.35 on JetPack 6: these tags and older ones install there.
JETPACK_PLATFORMS = [f"manylinux_2_{minor}_aarch64" for minor in range(35, 16, -1)] + [
    "manylinux2014_aarch64"
]


def pins_for(python: str) -> str:
    """The pins that hold for another Python. Pip itself asks the markers of the one that it runs on."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    held = [pin for pin in pins if pin.marker is None or pin.marker.evaluate({"python_version": python})]
    return "".join(f"{pin.name}{pin.specifier}\n" for pin in held)


def test_the_set_resolves_for_python_3_10_on_aarch64(tmp_path: Path) -> None:
    """A dry run by wheels alone: what pip would put on a Jetson with JetPack 6."""
    report, pins = tmp_path / "report.json", tmp_path / "pins.txt"
    pins.write_text(pins_for("3.10"))
    platforms = [argument for tag in JETPACK_PLATFORMS for argument in ("--platform", tag)]
    done = in_edge(
        *("python", "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed"),
        *("--report", str(report), "--target", str(tmp_path / "target"), "--constraint", str(pins)),
        *("--only-binary=:all:", "--python-version", "3.10", "--implementation", "cp", "--abi", "cp310"),
        *(*platforms, f"{ROOT}[edge]"),
    )
    assert done.returncode == 0, done.stderr
    entries = json.loads(report.read_text())["install"]
    chosen = {entry["metadata"]["name"].lower(): entry for entry in entries}
    assert chosen["onnxruntime"]["metadata"]["version"] == "1.23.2"
    assert chosen["numpy"]["metadata"]["version"] == "2.2.6"
    assert not chosen.keys() & NOT_ON_A_VEHICLE
    compiled = [
        entry["download_info"]["url"] for entry in entries if "x86_64" in entry["download_info"]["url"]
    ]
    assert compiled == []


def oldest_python() -> str | None:
    """A Python 3.10 with venv, if this machine has one."""
    if shutil.which("python3.10") is None:
        return None
    command = ["python3.10", "-c", "import sys, ensurepip, venv; print(sys.executable)"]
    # A shim of pyenv's runs the version that this names.
    environment = {**os.environ, "PYENV_VERSION": "3.10"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def test_the_vehicles_part_passes_its_tests_on_python_3_10(tmp_path: Path) -> None:
    python = oldest_python()
    if python is None:
        pytest.skip("needs python3.10, with venv, on the path")
    there = str(tmp_path / "venv" / "bin" / "python")
    install = [there, "-m", "pip", "install", "--quiet"]
    steps = [
        [python, "-m", "venv", str(tmp_path / "venv")],
        [*install, "-c", "constraints.txt", f"{ROOT}[edge]"],
        # The pinned test tools are for 3.11. The last four are for the cloud's side of the tests of updates.
        [
            *install,
            "httpx",
            "hypothesis",
            "psutil",
            "pytest",
            "pytest-timeout",
            "scipy",
            "jinja2",
            "pillow",
            "pyyaml",
            "tqdm",
        ],
        [
            there,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-m",
            "not services",
            "tests/edge",
            "tests/protos",
        ],
    ]
    for step in steps:
        done = subprocess.run(step, cwd=ROOT, capture_output=True, text=True, timeout=1500, check=False)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    print(done.stdout.splitlines()[-1])
