"""Labels: the truth of simulated drives and of labelled folders, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cloud.datasets import Box
from cloud.labeling import Answer, SimulatedService, UnlabeledSample
from cloud.labeling.truth import DatasetTruth, LabelerError, NoTruthError, Truth, load_labelers
from tests.labelled import frame, jpeg, label, write
from tests.retrains import install_plugin
from tools.drives.light import light
from tools.drives.render import render
from tools.drives.source import open_simulated_drive
from tools.drives_labeler import label_simulated_drive

URL = "sim:7?light=noon-night&dusk=1&fade=1&start=20&seconds=3&rate=4&size=128x96"
SAMPLE = UnlabeledSample(5, "0" * 64, 128, 96, URL, "drive", "", 0)


def answer(service: SimulatedService, sample: UnlabeledSample) -> Answer:
    (found,) = service.label([sample])
    return found


def test_each_frame_of_a_simulated_drive_gets_the_boxes_of_its_own_moment() -> None:
    service = SimulatedService({"sim": label_simulated_drive})
    frames = list(open_simulated_drive(URL))
    sky = light("noon-night", dusk_s=1, fade_s=1)
    for number in (0, 5, 11):
        shown = frames[number]
        found = answer(service, replace(SAMPLE, picture=shown.name, drive_ns=shown.captured_ns)).labels
        drawn = render(7, 20 + number / 4, sky, (128, 96))
        assert (drawn.image == shown.image).all()
        assert found is not None
        assert [(box.x1, box.y2, box.category) for box in found.boxes] == [
            (box.x1, box.y2, box.label) for box in drawn.boxes
        ]
        assert found.attributes == drawn.attributes and found.drive == "sim00000007"
    assert {
        answer(service, replace(SAMPLE, drive_ns=at)).labels.attributes["timeofday"] for at in (0, 11 * 10**9)
    }


def test_a_name_and_a_time_of_different_moments_get_no_label() -> None:
    with pytest.raises(NoTruthError, match="different moments"):
        label_simulated_drive(URL, "sim00000007-noon-night-000004.jpg", 2_000_000_000)
    with pytest.raises(NoTruthError, match="no simulated drive"):
        label_simulated_drive("sim:seven", "", 0)


def test_pictures_of_a_labelled_folder_are_found_by_name(tmp_path: Path) -> None:
    write(tmp_path / "images" / "a.jpg", jpeg())
    write(tmp_path / "det_20.json", [frame("a.jpg", label("person"))])
    service = SimulatedService({}, DatasetTruth([tmp_path]))
    sample = replace(SAMPLE, source_id="/drives/night", picture="a.jpg", width=160, height=96)
    found = list(service.label([sample, replace(sample, id=6, picture="b.jpg"), replace(sample, picture="")]))
    assert found[0].labels is not None
    assert found[0].labels.boxes == (Box(10, 20, 50, 60, "pedestrian"),)
    assert found[0].labels.attributes == {"timeofday": "night"}
    assert [entry.refusal for entry in found[1:]] == ["no labelled dataset has this picture"] * 2


def test_a_picture_that_the_vehicle_made_smaller_gets_smaller_boxes_and_a_cut_one_none() -> None:
    truth = Truth(200, 100, (Box(20, 10, 40, 30, "car"),))
    service = SimulatedService({}, lambda *_: truth)
    sample = replace(SAMPLE, source_id="folder", width=100, height=50)
    assert answer(service, sample).labels.boxes == (Box(10, 5, 20, 15, "car"),)
    assert (
        answer(service, replace(sample, height=100)).refusal
        == "the picture has another shape than the source's"
    )


def test_a_source_that_nobody_labels_is_refused_by_its_kind() -> None:
    service = SimulatedService({"sim": label_simulated_drive})
    assert "rtsp:" in answer(service, replace(SAMPLE, source_id="rtsp://host/cam")).refusal
    assert "labels.datasets" in answer(service, replace(SAMPLE, source_id="a/folder")).refusal


def test_a_plug_in_that_cannot_be_loaded_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = install_plugin(tmp_path, "traffic_vision.labelers", "test", "tools.drives_labeler:nothing")
    monkeypatch.syspath_prepend(str(place))
    with pytest.raises(LabelerError, match=r"drives_labeler:nothing.*'test:'"):
        load_labelers()


def test_a_plug_in_of_another_distribution_labels_its_scheme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = "tools.drives_labeler:label_simulated_drive"
    monkeypatch.syspath_prepend(str(install_plugin(tmp_path, "traffic_vision.labelers", "test", target)))
    assert load_labelers()["test"] is label_simulated_drive
