"""The house's own rules: a fast command line, the import ladder, one place for each check."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from tools.cli import COMMANDS, root

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


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_each_command_has_help_and_loads_nothing_heavy_for_it(name: str) -> None:
    invoked = f"from tools.cli import root\nroot([{name!r}, '--help'], standalone_mode=False)"
    assert not modules_after(invoked) & HEAVY


def importing(library: str) -> list[str]:
    """Our modules that import a library, wherever in them."""
    found = []
    for package in ("edge", "cloud", "tools"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if re.search(rf"^\s*(import|from) {library}\b", path.read_text(), re.MULTILINE):
                found.append(".".join(path.relative_to(ROOT).with_suffix("").parts))
    return found


# Runs in MLServer's process, which has the environment of the bench that starts it.
ELSEWHERE = "tools.bench.swap.mlserver_runtime"


@pytest.mark.parametrize("module", [name for name in importing("onnxruntime") if name != ELSEWHERE])
def test_onnx_runtime_keeps_and_sends_nothing_of_what_it_is_used_for(module: str, tmp_path: Path) -> None:
    """It asks its environment when it is imported; what it would send waits in its home's cache."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    }
    command = [sys.executable, "-c", f"import {module}, onnxruntime"]
    environment = {**kept, "HOME": str(tmp_path)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not [path for path in tmp_path.rglob("*") if "onnxruntime" in path.name.lower()]


def commands(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[str, click.Command]]:
    found = [(" ".join(path), command)]
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None, f"{name} is listed but cannot be loaded"
            found += commands(child, (*path, name))
    return found


def test_every_command_says_what_it_does_and_every_option_what_it_takes() -> None:
    unexplained = []
    for path, command in commands(root):
        if not (command.help or "").strip():
            unexplained.append(path)
        unexplained += [
            f"{path} {option.opts[0]}"
            for option in command.params
            if isinstance(option, click.Option) and not option.help and not option.show_default
        ]
    assert unexplained == []


def readme_commands() -> list[list[str]]:
    lines = (ROOT / "README.md").read_text().splitlines()
    return [shlex.split(line) for line in lines if line.startswith("    traffic-vision ")]


@pytest.mark.parametrize("words", readme_commands(), ids=" ".join)
def test_the_commands_of_the_readme_exist(words: list[str]) -> None:
    command: click.Command = root
    rest = words[1:]
    while isinstance(command, click.Group):
        child = command.get_command(click.Context(command), rest[0])
        assert child is not None, f"no such command: {rest[0]}"
        command, rest = child, rest[1:]
    known = {name for option in command.get_params(click.Context(command)) for name in option.opts}
    assert {word for word in rest if word.startswith("-")} <= known


def test_an_unknown_command_is_a_usage_error() -> None:
    done = run(sys.executable, "-c", "from tools.cli import main; main()", "no-such-command")
    assert done.returncode == 2
    assert "no-such-command" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_interrupt_ends_any_command_with_130(tmp_path: Path) -> None:
    output = tmp_path / "out"
    words = ["data", "simulate", "--frames", "1000000", "--size", "64x64", "-o", str(output)]
    # A shell has what it runs in the background ignore interrupts, and so all that this starts.
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    command = [sys.executable, "-c", heard + "from tools.cli import main; main()", *words]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as running:
        try:
            assert running.stderr is not None
            deadline = time.monotonic() + 60
            while not any(output.glob("images/*.jpg")):
                assert running.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)
            running.send_signal(signal.SIGINT)
            _, said = running.communicate(timeout=60)
        finally:
            running.kill()
    assert running.returncode == 130
    assert said.splitlines()[-1] == "traffic-vision: interrupted"
    assert "Traceback" not in said
    assert not (output / "det_20.json").exists()


def test_the_ladder_holds() -> None:
    done = run(str(Path(sys.executable).parent / "lint-imports"), "--no-cache")
    assert done.returncode == 0, done.stdout + done.stderr


def test_make_lint_holds_every_check() -> None:
    recipe = run("make", "--dry-run", "--always-make", "lint").stdout
    for check in ("ruff check", "ruff format --check", "mypy", "lint-imports", "generate_stubs.py --check"):
        assert check in recipe


def test_make_help_needs_nothing_that_a_bare_system_lacks(tmp_path: Path) -> None:
    # What dpkg-query calls essential on Debian, and make; column, for one, is not.
    for name in ("awk", "find", "grep", "make", "sed", "sh"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    done = subprocess.run(
        [tmp_path / "make"],
        cwd=ROOT,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    listed = [line.split()[:2] for line in done.stdout.splitlines()]
    assert ["make", "setup"] in listed and ["make", "test-services"] in listed
    (phony,) = (line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith(".PHONY:"))
    assert {name for _, name in listed} == set(phony.split()[1:])


def copied_makefile(tmp_path: Path) -> Path:
    folder = tmp_path / "a path"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder / name)
    for package in ("protos", "edge", "cloud", "tools"):
        (folder / package).mkdir()
    return folder


@pytest.mark.parametrize(
    ("interpreter", "said"),
    [("no-such-python", "no-such-python does not run"), ("an-old-python", "an-old-python is Python 3.9.18")],
)
@pytest.mark.parametrize(("target", "needs"), [("setup", "3.11"), ("setup-edge", "3.10")])
def test_setup_says_which_python_it_needs(
    tmp_path: Path, interpreter: str, said: str, target: str, needs: str
) -> None:
    folder, programs = copied_makefile(tmp_path), tmp_path / "programs"
    programs.mkdir()
    old = programs / "an-old-python"
    old.write_text('#!/bin/sh\ncase $1 in --version) echo Python 3.9.18;; esac\ntest -z "$2"\n')
    old.chmod(0o755)
    done = subprocess.run(
        ["make", target, f"PYTHON={interpreter}"],
        cwd=folder,
        env={**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    (error,) = (line for line in done.stderr.splitlines() if not line.startswith("make"))
    assert (
        error
        == f"error: this needs Python {needs} or newer, and {said}; name another one: PYTHON=python{needs}"
    )
    assert not list(folder.glob(".venv*"))


def test_the_continuous_integration_runs_what_people_run() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    for target in ("make setup", "make lint", "make test", "make test-services"):
        assert f"\n{target}\n" in script
    assert ".ci/run" in (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert run("bash", "-n", ".ci/run").returncode == 0
