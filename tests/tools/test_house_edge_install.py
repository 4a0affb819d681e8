"""The vehicle's install, as `make setup-edge` leaves it, and its resolution for the boards it runs on."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.services

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


# glibc 2.35 on JetPack 6: these tags and older ones install there.
JETPACK_PLATFORMS = [f"manylinux_2_{minor}_aarch64" for minor in range(35, 16, -1)] + [
    "manylinux2014_aarch64"
]


def test_the_set_resolves_for_python_3_10_on_aarch64(tmp_path: Path) -> None:
    """A dry run by wheels alone: what pip would put on a Jetson with JetPack 6."""
    report = tmp_path / "report.json"
    platforms = [argument for tag in JETPACK_PLATFORMS for argument in ("--platform", tag)]
    target = ["--only-binary=:all:", "--python-version", "3.10", "--implementation", "cp", "--abi", "cp310"]
    done = in_edge(
        *("python", "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed"),
        *("--report", str(report), "--target", str(tmp_path / "target"), "-c", "constraints.txt"),
        *(*target, *platforms, f"{ROOT}[edge]"),
    )
    assert done.returncode == 0, done.stderr
    chosen = {
        entry["metadata"]["name"].lower(): entry["metadata"]["version"]
        for entry in json.loads(report.read_text())["install"]
    }
    assert chosen["onnxruntime"] == "1.23.2"
    assert chosen["numpy"] == "2.2.6"
    assert not chosen.keys() & NOT_ON_A_VEHICLE
