"""The real Label Studio keeps the contract that the fake is held to, and the loop ends with its labels."""

from __future__ import annotations

import logging
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from cloud.datasets import read_dataset
from cloud.labeling.label_studio.tasks import MODEL_VERSION
from cloud.pipeline.opening import opened
from cloud.pipeline.runner import run_once
from cloud.pipeline.running import run_stage
from tests import label_studio_contract as contract
from tests.cloud.test_label_stage import NIGHT, PEOPLE, RED_REGION
from tests.real_label_studio import RealLabelStudio, log_in, real_label_studio
from tests.retrains import (
    RED,
    VEHICLE,
    add_baseline,
    add_samples,
    make_retrain_cloud,
    red_picture,
)

pytestmark = [pytest.mark.services, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealLabelStudio]:
    with real_label_studio(tmp_path_factory.mktemp("label-studio") / "data") as real:
        yield real


@pytest.mark.parametrize("kind", ["legacy", "personal"])
def test_tasks_are_made_once_and_come_back_as_labels(
    world: RealLabelStudio, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token = world.legacy_token if kind == "legacy" else world.personal_token
    contract.tasks_are_made_once_and_come_back_as_labels(world, tmp_path, token, f"Once, {kind}")
    assert caplog.text and token not in caplog.text
    # Whoever labels one after the other begins with the model's boxes, too.
    task = world.ask("GET", f"/api/projects/{contract.remembered(tmp_path / 'work')}/next")
    assert [each["model_version"] for each in task["predictions"]] == [MODEL_VERSION]


def test_what_is_no_label_waits_and_says_what_to_do(world: RealLabelStudio, tmp_path: Path) -> None:
    contract.what_is_no_label_waits_and_says_what_to_do(world, tmp_path, "No labels")


def test_a_project_learns_new_classes_and_a_deleted_one_is_told(
    world: RealLabelStudio, tmp_path: Path
) -> None:
    contract.a_project_learns_new_classes_and_a_deleted_one_is_told(world, tmp_path, "Growing")


@pytest.mark.parametrize("wrong", ["f" * 40, "eyJhbGciOiJIUzI1NiJ9.eyJ0b2tlbl90eXBlIjoicmVmcmVzaCJ9.c2ln"])
def test_a_wrong_token_is_refused_without_being_shown(
    world: RealLabelStudio, tmp_path: Path, wrong: str
) -> None:
    contract.a_wrong_token_is_refused_without_being_shown(world, tmp_path, wrong)


def test_the_loop_ends_with_what_a_person_labels_in_the_browser(
    world: RealLabelStudio, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(world.personal_token)
    (tmp_path / "token").chmod(0o600)
    config = make_retrain_cloud(tmp_path, PEOPLE.format(url=world.url))
    with opened(config) as pipeline:
        add_baseline(pipeline, tmp_path)
        add_samples(pipeline, {f"{number}.jpg": red_picture(100 + number) for number in range(4)})
        waiting = run_once(pipeline, now_by_hand=True)
        assert waiting["state"] == "waiting" and "4: to be labelled at" in waiting["why"]
        project = int(waiting["why"].rpartition("/projects/")[2].partition("/")[0])
        # The page asks for one task after the other, and shows its picture.
        for number in range(4):
            task = world.ask("GET", f"/api/projects/{project}/next")
            picture = world.browser.get(f"{world.url}{task['data']['image']}")
            assert picture.is_success and picture.headers["Content-Type"] == "image/jpeg"
            assert picture.content in {red_picture(100 + each) for each in range(4)}
            if number < 3:
                world.annotate(task["id"], [RED_REGION, NIGHT])
            else:
                world.annotate(task["id"], [], was_cancelled=True)
        run_id = waiting["run"]
        line = run_stage(pipeline, "label", run_id)
        assert line["labeled"] == 3 and line["refused"] == {"skipped in Label Studio": 1}
        run_stage(pipeline, "purity", run_id)
        assert run_stage(pipeline, "dataset", run_id)["lists"]["train"] == {"daytime": 4, "night": 3}
        images = read_dataset(pipeline.config.folders.data / "dataset").images
        new = [image for image in images if image.name.startswith(VEHICLE)]
        assert len(new) == 3
        for image in new:
            (box,) = image.boxes
            assert box.category == "red" and image.attributes == {"timeofday": "night"}
            assert (box.x1, box.y1, box.x2, box.y2) == pytest.approx(
                (RED.x1, RED.y1, RED.x2, RED.y2), abs=0.01
            )
    assert len(world.tasks_of(project)) == 4


def test_it_is_this_machines_and_this_users_alone(world: RealLabelStudio) -> None:
    process = psutil.Process(world.process)
    family = [process, *process.children(recursive=True)]
    listening = [
        connection.laddr.ip
        for member in family
        for connection in member.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert set(listening) == {"127.0.0.1"}
    secrets = [(world.folder / name).read_text().strip() for name in ("password", "token")]
    arguments = " ".join(" ".join(member.cmdline()) for member in family)
    assert not any(secret in arguments for secret in secrets)
    assert secrets[0] in world.told and secrets[1] not in world.told
    for path in (world.folder / "password", world.folder / "token"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(world.folder.stat().st_mode) == 0o700
    # No stranger signs up, and no other page reads along.
    with httpx.Client() as stranger:
        page = stranger.get(f"{world.url}/user/signup/")
        form = {"email": "me@localhost", "password": "long enough", "csrfmiddlewaretoken": "x"}
        assert stranger.post(f"{world.url}/user/signup/", data=form).status_code == 403 or not page.is_success
        asked = stranger.get(f"{world.url}/api/version", headers={"Origin": "http://elsewhere.example"})
        assert "Access-Control-Allow-Origin" not in asked.headers
        rebound = stranger.get(f"{world.url}/api/version", headers={"Host": "elsewhere.example"})
        assert rebound.status_code == 400


def test_the_password_is_good_for_its_user_alone(world: RealLabelStudio) -> None:
    with httpx.Client() as stranger, pytest.raises(AssertionError):
        log_in(stranger, world.url, "labels@localhost", "not the password")
