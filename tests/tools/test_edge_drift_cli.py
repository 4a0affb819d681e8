"""`traffic-vision edge drift`, and what the doctor says of a camera's commissioning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from click.testing import CliRunner

from edge.config import load_config
from edge.doctor.drift import drift
from edge.doctor.finding import Level
from edge.drift import fit
from edge.drift.features import NAMES, ORIGINS
from edge.drift.own import Fitted, Own
from edge.drift.recommission import WISH
from edge.drift.rows import Head, Rows
from edge.drift.state import Scope
from tests.daemons import write_config
from tools.cli.edge import command

MODEL = "a" * 64


def config_with(folder: Path, **section: object) -> Path:
    return write_config(folder, {"url": "sim:7?size=64x64"}, drift=section)


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(command, ["drift", "recommission", *arguments])
    return result.exit_code, result.output + str(result.exception or "")


def folder_of(path: Path) -> Path:
    config = load_config(path)
    return config.state_folder / "drift" / config.cameras[0].name


def test_a_wish_is_left_for_the_daemon(tmp_path: Path) -> None:
    path = config_with(tmp_path)
    config = load_config(path)
    config.state_folder.mkdir(exist_ok=True)
    camera = config.cameras[0].name
    code, said = run("--config", str(path), "--camera", camera)
    assert code == 0 and f"camera {camera}" in said
    assert (folder_of(path) / WISH).is_file()
    (finding,) = drift(config)
    assert finding.level is Level.OK and "commissioned anew" in finding.text


def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    path = config_with(tmp_path)
    code, said = run("--config", str(path), "--camera", "roof")
    assert code != 0 and "there is no camera 'roof', only camera0" in said
    code, said = run("--config", str(path), "--camera", "camera0")
    assert code != 0 and "after the daemon's first start" in said
    (tmp_path / "off").mkdir()
    off = config_with(tmp_path / "off", commission_hours=0)
    code, said = run("--config", str(off), "--camera", "camera0")
    assert code != 0 and "commission_hours above 0" in said
    assert drift(load_config(off)) == []


def test_the_doctor_says_how_far_a_camera_is(tmp_path: Path) -> None:
    path = config_with(tmp_path)
    config, folder = load_config(path), folder_of(path)
    (finding,) = drift(config)
    assert finding.text == "not commissioned yet, nothing seen"
    times, values = np.arange(3600, dtype=np.int64) * 5 * 10**8, np.zeros((3600, len(NAMES)), np.float32)
    Rows(folder).append(Head("daytime", MODEL, 2.0, NAMES, "run"), times, values)
    (finding,) = drift(config)
    assert finding.text == "daytime 0.5 of 4 h"
    reference = fit(
        np.random.default_rng(0).normal(size=(4000, len(NAMES))),
        2.0,
        NAMES,
        origins=ORIGINS,
        context="daytime",
        scope=Scope.CAMERA,
    )
    Own(reference, MODEL, {"daytime": Fitted(24.0, 24.0)}).save(folder / "own.json")
    (finding,) = drift(config)
    assert finding.text == "daytime fitted of 24.0 h, uncalibrated, done"
    before = {one.name: one.read_bytes() for one in folder.iterdir()}
    (folder / "own.json").write_text("{")
    (finding,) = drift(config)
    assert finding.level is Level.WARNING and "own.json" in finding.text
    assert {one.name for one in folder.iterdir()} == set(before), "the doctor changes nothing"
