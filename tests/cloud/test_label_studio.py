"""Label Studio as a labelling service, against a fake one over HTTP that keeps the real one's contract."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud.labeling import LabelServiceError, ServiceAwayError
from cloud.labeling.label_studio import LabelStudioService
from cloud.labeling.label_studio.client import is_personal, read_token
from cloud.labeling.label_studio.project import labeling_interface
from cloud.labeling.label_studio.tasks import MODEL_VERSION, PAGE
from tests import label_studio_contract as contract
from tests.fake_label_studio import LEGACY, PERSONAL, FakeLabelStudio, fake_label_studio
from tests.label_contract import samples, settings, suggestion, surroundings


@pytest.fixture
def world() -> Iterator[FakeLabelStudio]:
    with fake_label_studio() as fake:
        yield fake


@pytest.mark.parametrize("token", [LEGACY, PERSONAL])
def test_tasks_are_made_once_and_come_back_as_labels(
    world: FakeLabelStudio, tmp_path: Path, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    contract.tasks_are_made_once_and_come_back_as_labels(world, tmp_path, token, "Night drives")
    assert caplog.text and token not in caplog.text
    assert not any(access in caplog.text for access in world.access)
    (project,) = world.projects.values()
    assert project["model_version"] == "traffic-vision"


def test_what_is_no_label_waits_and_says_what_to_do(world: FakeLabelStudio, tmp_path: Path) -> None:
    contract.what_is_no_label_waits_and_says_what_to_do(world, tmp_path, "Contract")


def test_a_project_learns_new_classes_and_a_deleted_one_is_told(
    world: FakeLabelStudio, tmp_path: Path
) -> None:
    contract.a_project_learns_new_classes_and_a_deleted_one_is_told(world, tmp_path, "Contract")


@pytest.mark.parametrize("wrong", ["f" * 40, "eyJub3Q.eyJvdXJz.c2ln"])
def test_a_wrong_token_is_refused_without_being_shown(
    world: FakeLabelStudio, tmp_path: Path, wrong: str
) -> None:
    contract.a_wrong_token_is_refused_without_being_shown(world, tmp_path, wrong)


def test_a_personal_token_is_exchanged_anew_when_the_last_exchange_ran_out(
    world: FakeLabelStudio, tmp_path: Path
) -> None:
    around = surroundings(tmp_path)
    service = contract.service(world, tmp_path, around, PERSONAL)
    answers = service.label(samples(around, 120))
    next(answers)
    first = set(world.access)
    world.expire()
    assert len(list(answers)) == 119
    assert world.access and not world.access & first
    assert len(world.tasks_of(contract.project_of(around))) == 120


def test_a_task_that_is_there_twice_is_removed_unless_somebody_touched_it(
    world: FakeLabelStudio, tmp_path: Path
) -> None:
    around = surroundings(tmp_path)
    asked = samples(around, 3)
    list(contract.service(world, tmp_path, around).label(asked))
    first = [contract.task_of(world, around, sample)["id"] for sample in asked]
    for number, task_id in enumerate(first):
        spare = 900 + number
        world.tasks[spare] = {**world.tasks[task_id], "id": spare, "annotations": []}
    # Whichever of the two somebody has worked on is kept.
    world.annotate(901, [contract.region(10, 10, 10, 10, "car")])
    for task_id in (first[2], 902):
        world.annotate(task_id, [contract.region(10, 10, 10, 10, "car")])
    answers = {each.sample_id: each for each in contract.service(world, tmp_path, around).label(asked)}
    assert sorted(world.tasks) == sorted([first[0], 901, first[2], 902])
    assert answers[1].waits and answers[2].labels and answers[3].labels


def test_a_task_that_moves_to_the_next_page_meanwhile_is_no_second_one(
    world: FakeLabelStudio, tmp_path: Path
) -> None:
    around = surroundings(tmp_path)
    asked = samples(around, 3)
    list(contract.service(world, tmp_path, around).label(asked))
    project = contract.project_of(around)
    before = sorted(world.tasks)
    for number in range(PAGE - 1):  # newer tasks of others: ours begin at the end of the first page
        world.tasks[2000 + number] = {**world.tasks[before[0]], "id": 2000 + number, "data": {}}
    newest = iter(range(5000, 5010))

    def somebody_imports() -> None:
        number = next(newest)
        world.tasks[number] = {**world.tasks[before[0]], "id": number, "data": {}}

    world.between_pages = somebody_imports
    answers = list(contract.service(world, tmp_path, around).label(asked))
    assert len(answers) == 3 and all(answer.waits for answer in answers)
    ours = [task["id"] for task in world.tasks_of(project) if task["data"]]
    assert sorted(ours) == before


def test_a_task_that_somebody_deleted_is_made_again(world: FakeLabelStudio, tmp_path: Path) -> None:
    around = surroundings(tmp_path)
    asked = samples(around, 2)
    list(contract.service(world, tmp_path, around).label(asked))
    gone = contract.task_of(world, around, asked[0])["id"]
    del world.tasks[gone]
    answers = list(contract.service(world, tmp_path, around).label(asked))
    assert len(answers) == 2 and all(answer.waits for answer in answers)
    assert contract.task_of(world, around, asked[0])["id"] != gone and len(world.tasks) == 2


def test_suggestions_of_no_class_of_ours_keep_nobody(world: FakeLabelStudio, tmp_path: Path) -> None:
    around = surroundings(tmp_path)
    strange = samples(around, 2, [suggestion(1, 1, 20, 20, "tuk-tuk")])
    (first, _) = contract.service(world, tmp_path, around).label(strange)
    assert first.waits and contract.task_of(world, around, strange[0])["predictions"] == []
    # The interface begins with the first ones that there are.
    (project,) = world.projects.values()
    assert project["model_version"] == ""
    known = samples(around, 1, [suggestion(1, 1, 20, 20, "car")], first=10)
    list(contract.service(world, tmp_path, around).label([*strange, *known]))
    assert project["model_version"] == MODEL_VERSION


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_a_server_in_trouble_is_away(world: FakeLabelStudio, tmp_path: Path, status: int) -> None:
    around = surroundings(tmp_path)
    world.status = status
    with pytest.raises(ServiceAwayError, match=rf"does not answer \(GET /api/version: {status}"):
        list(contract.service(world, tmp_path, around).label(samples(around, 1)))


def test_a_server_that_is_not_there_is_away(tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        world = FakeLabelStudio(url=f"http://127.0.0.1:{taken.getsockname()[1]}")
        around = surroundings(tmp_path)
        with pytest.raises(ServiceAwayError, match=r"ConnectError.*make label-studio"):
            list(contract.service(world, tmp_path, around).label(samples(around, 1)))


def test_another_server_is_told_from_label_studio(tmp_path: Path) -> None:
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from threading import Thread

    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>a printer</html>")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        thread = Thread(target=server.handle_request)
        thread.start()
        world = FakeLabelStudio(url=f"http://127.0.0.1:{server.server_address[1]}")
        around = surroundings(tmp_path)
        with pytest.raises(LabelServiceError, match="not as Label Studio does"):
            list(contract.service(world, tmp_path, around).label(samples(around, 1)))
        thread.join()


def test_projects_of_one_title_and_of_another_kind_are_told(world: FakeLabelStudio, tmp_path: Path) -> None:
    around = surroundings(tmp_path)
    asked = samples(around, 1)
    for number in (71, 72):
        world.projects[number] = {"id": number, "title": "Contract", "label_config": "<View></View>"}
    with pytest.raises(LabelServiceError, match=r"several projects .* 'Contract' \(71, 72\): rename"):
        list(contract.service(world, tmp_path, around).label(asked))
    del world.projects[72]
    with pytest.raises(LabelServiceError, match="is not one for boxes on pictures"):
        list(contract.service(world, tmp_path, around).label(asked))
    theirs = (
        '<View><Image name="img" value="$image"/><RectangleLabels name="rl" toName="img">'
        '<Label value="Car"/><Label value="Person"/></RectangleLabels></View>'
    )
    world.projects[71].update(label_config=theirs, model_version="")
    with pytest.raises(LabelServiceError, match="has no label 'traffic sign': add it there"):
        list(contract.service(world, tmp_path, around).label(asked))
    # People's own spelling is kept, in what they are shown too.
    world.projects[71]["label_config"] = theirs.replace("Person", "Traffic_Sign").replace(
        "<Label value=", '<Label value="Pedestrian"/><Label value=', 1
    )
    asked = samples(around, 1, [suggestion(1, 1, 20, 20, "traffic sign")])
    list(contract.service(world, tmp_path, around).label(asked))
    (task,) = world.tasks_of(71)
    (shown,) = task["predictions"][0]["result"]
    assert shown["value"]["rectanglelabels"] == ["Traffic_Sign"] and shown["from_name"] == "rl"


def test_a_sample_whose_picture_is_gone_costs_itself_alone(world: FakeLabelStudio, tmp_path: Path) -> None:
    around = surroundings(tmp_path)
    asked = samples(around, 2)
    around.objects.delete(asked[0].object_key)
    answers = {each.sample_id: each for each in contract.service(world, tmp_path, around).label(asked)}
    assert answers[1].refusal == "picture is missing" and answers[2].waits
    assert len(world.tasks) == 1


def test_a_token_file_must_hold_a_token_and_is_never_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "token"
    config = settings(tmp_path, services=["label-studio"], label_studio={"token_file": "token"})
    with pytest.raises(LabelServiceError, match="cannot be read: No such file"):
        LabelStudioService(config, surroundings(tmp_path))
    file.write_text("not one but\nseveral words\n")
    with pytest.raises(LabelServiceError, match="expected one token") as told:
        read_token(file)
    assert "several" not in str(told.value)
    file.write_text(f"  {LEGACY}\n")
    file.chmod(0o644)
    assert read_token(file) == LEGACY
    assert "others on this machine may read this token" in caplog.text and LEGACY not in caplog.text
    assert is_personal(PERSONAL) and not is_personal(LEGACY)


def test_names_cannot_break_out_of_the_interface() -> None:
    interface = labeling_interface(['a "<b>" & c'], {"light": ("<day>", "night")}, "light")
    assert 'value="a &quot;&lt;b&gt;&quot; &amp; c"' in interface and "<day>" not in interface
    assert interface.count('required="true"') == 1


@pytest.mark.parametrize(
    ("asked", "odd"),
    [
        ("GET /api/projects/", []),
        ("GET /api/projects/", {"results": "none"}),
        ("POST /api/projects/", {"title": "no number"}),
        ("GET /api/tasks/", {"total": "many", "tasks": []}),
        ("GET /api/tasks/", {"total": 1, "tasks": [{"id": None, "data": {"sample": "car-1/0"}}]}),
        ("GET /api/tasks/", None),
    ],
)
def test_answers_of_another_shape_are_told_as_the_servers(
    world: FakeLabelStudio, tmp_path: Path, asked: str, odd: object
) -> None:
    around = surroundings(tmp_path)
    world.odd = {asked: odd}
    with pytest.raises(LabelServiceError, match="answers in a way that is not known here"):
        list(contract.service(world, tmp_path, around).label(samples(around, 2)))
