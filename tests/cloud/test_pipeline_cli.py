"""The pipeline's commands as people and Airflow call them: one JSON line on standard output, or one error."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from cloud.pipeline.opening import opened
from tests.clouds import ROOT, command_line, environment
from tests.retrains import (
    SETTINGS,
    add_baseline,
    add_samples,
    install_plugin,
    make_retrain_cloud,
    red_picture,
)

LABELER = """
from cloud.datasets import Box
from cloud.labeling import Truth

def label(source_id, picture, drive_ns):
    return Truth(96, 64, (Box(10, 10, 40, 50, "red"),), {"timeofday": "night"})
"""


def test_a_retrain_tells_what_happens_one_json_line_an_event(tmp_path: Path) -> None:
    config = make_retrain_cloud(tmp_path)
    with opened(config) as pipeline:
        add_baseline(pipeline, tmp_path)
        add_samples(pipeline, {"0.jpg": red_picture(100), "1.jpg": red_picture(101)})
    told = tmp_path / "events.jsonl"
    done = subprocess.run(
        command_line("cloud", "run", "--events", told, "--config", tmp_path / "cloud" / "cloud.toml"),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    # Nobody labels samples of a source that is not known, and without labels there is no retrain.
    assert done.returncode == 1 and json.loads(done.stdout)["state"] == "failed"
    events = [json.loads(line) for line in told.read_text().splitlines()]
    assert [(event["stage"], event["kind"]) for event in events] == [
        ("", "started"),
        ("label", "begun"),
        ("label", "progress"),
        ("label", "failed"),
        ("", "ended"),
    ]
    assert events[-1]["facts"]["state"] == "failed" and events[-1]["run"] == "retrain-0001"


def test_each_command_prints_one_line_or_says_in_one_why_not(tmp_path: Path) -> None:
    config = make_retrain_cloud(tmp_path, SETTINGS.replace("min_samples = 2", "min_samples = 5"))
    with opened(config) as pipeline:
        add_baseline(pipeline, tmp_path)
        add_samples(pipeline, {f"{number}.jpg": red_picture(100 + number) for number in range(3)})
    plugin = install_plugin(tmp_path / "plugin", "traffic_vision.labelers", "test", "a_labeler:label")
    (plugin / "a_labeler.py").write_text(LABELER)

    def call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command_line("cloud", *arguments, "--config", tmp_path / "cloud" / "cloud.toml"),
            env={**environment(), "PYTHONPATH": f"{ROOT}:{plugin}"},
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )

    idle = call("run")
    assert idle.returncode == 0
    assert json.loads(idle.stdout)["why"] == "not yet: 3 new samples of 5"
    none = call("stage", "purity")
    assert (none.returncode, none.stdout) == (1, "")
    assert none.stderr.splitlines()[-1].startswith(
        "traffic-vision: error: there is no retrain yet: `cloud run`"
    )
    first = call("stage", "label", "--new")
    assert first.returncode == 0, first.stderr
    line = json.loads(first.stdout)
    assert (line["run"], line["labeled"], line["already_done"]) == ("retrain-0001", 3, False)
    again = json.loads(call("stage", "label").stdout)
    assert again == {**line, "already_done": True}
    early = call("stage", "train", "--run", "retrain-0001")
    assert early.returncode == 1
    assert "the stage purity is not done; run it before train" in early.stderr.splitlines()[-1]
    chain = json.loads(call("lineage", "champion", "--json").stdout)
    assert chain["dataset"]["version"] == "v1" and chain["releases"] == []
    assert call("run", "--now", "--watch").returncode == 2
