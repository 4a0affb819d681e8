"""The house's own rules: a fast command line, the import ladder, one place for each check."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"cv2", "grpc", "numpy", "onnx", "onnxruntime", "pycocotools", "torch", "torchvision", "ultralytics"}


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def modules_after(statement: str) -> set[str]:
    code = (
        f"{statement}\nimport json, sys; print(json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    )
    done = run(sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_help_page_loads_nothing_heavy() -> None:
    invoked = "from tools.cli import root\nroot(['--help'], standalone_mode=False)"
    assert not modules_after(invoked) & HEAVY


def test_an_unknown_command_is_a_usage_error() -> None:
    done = run(sys.executable, "-c", "from tools.cli import main; main()", "no-such-command")
    assert done.returncode == 2
    assert "no-such-command" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_ladder_holds() -> None:
    done = run(str(Path(sys.executable).parent / "lint-imports"), "--no-cache")
    assert done.returncode == 0, done.stdout + done.stderr


def test_make_lint_holds_every_check() -> None:
    recipe = run("make", "--dry-run", "--always-make", "lint").stdout
    for check in ("ruff check", "ruff format --check", "mypy", "lint-imports"):
        assert check in recipe


def test_the_continuous_integration_runs_what_people_run() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    for target in ("make setup", "make lint", "make test", "make test-services"):
        assert f"\n{target}\n" in script
    assert ".ci/run" in (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert run("bash", "-n", ".ci/run").returncode == 0
