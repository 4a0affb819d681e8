"""A whole check of drawn data with faults: each is found, nothing else is, and the page shows them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from cloud.config import PurityConfig
from cloud.datasets import Box, DatasetError, DatasetWriter, LabeledImage, read_dataset
from cloud.datasets.sides import read_sides
from cloud.pipeline.purity.checking import Batch, Known, check_purity
from cloud.pipeline.purity.findings import Kind, PurityReport, Verdict
from cloud.pipeline.purity.on_disk import CheckOptions, check_dataset
from tests.labelled import jpeg, scene

CAR = Box(100, 60, 180, 120, "car")
PICTURES = 40
QUIET = PurityConfig(min_norm_pictures=10)


def drawn(
    folder: Path,
    first: int = 0,
    pictures: int = PICTURES,
    changes: dict[int, tuple[bytes, LabeledImage]] | None = None,
    split: bool = True,
) -> Path:
    """Day and night in turns, a drive for each two pictures; every fourth drive is for validation."""
    with DatasetWriter(folder) as writer:
        for number in range(first, first + pictures):
            encoded, image = (changes or {}).get(number) or plain(number)
            side = "val" if number // 2 % 4 == 3 else "train"
            writer.add(image, encoded, side if split else None)
    return folder


def plain(number: int, light: float | None = None, blur: float = 0.0) -> tuple[bytes, LabeledImage]:
    night = bool(number % 2)
    encoded = scene(number, light if light is not None else 0.2 if night else 1.0, blur)
    attributes = {"timeofday": "night" if night else "daytime"}
    image = LabeledImage(f"{number:03}.jpg", None, 320, 180, (CAR,), attributes, f"drive{number // 2}")
    return encoded, image


def check(folder: Path, known: Known | None = None, config: PurityConfig = QUIET) -> PurityReport:
    read = read_dataset(folder)
    sides = read_sides(folder, read)
    return check_purity(Batch(read.images, sides, read.refusals, read.clipped), config, known)


def found(report: PurityReport) -> dict[str, int]:
    return {tally.kind.value: tally.found for tally in report.tallies if tally.found}


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn(tmp_path_factory.mktemp("purity") / "clean")


def test_clean_data_pass_with_nothing_found(clean: Path) -> None:
    report = check(clean)
    assert found(report) == {}
    assert report.verdict is Verdict.PASS
    notes = {tally.kind: tally.note for tally in report.tallies if tally.note}
    assert set(notes) == {
        *(Kind.HOLDOUT, Kind.DUPLICATE_KNOWN, Kind.DRIFT, Kind.DOUBT, Kind.DISAGREEMENT),
    }
    assert set(report.facts["norms"]) == {"daytime", "night"}


def test_each_fault_is_found_and_no_other(tmp_path: Path) -> None:
    dark_day, bright_night = plain(4, light=0.2), plain(5, light=1.0)
    blurred = plain(8, blur=4.0)
    twin_of_own, twin_across = plain(16), plain(18)
    torn = plain(14)
    changes = {
        4: dark_day,
        5: bright_night,
        8: blurred,
        # 16 shows what 0 does, on the same side; 18 is trained on and shows what the validation's 6 does.
        16: (scene(0, 1.02), twin_of_own[1]),
        18: (scene(6, 1.0), twin_across[1]),
        14: (torn[0], replace(torn[1], drive="drive0")),
        20: (plain(20)[0], replace(plain(20)[1], boxes=(CAR, Box(5, 5, 9, 9, "kar")))),
        22: (plain(22)[0], replace(plain(22)[1], boxes=(CAR, Box(0, 0, 319, 179, "bus")))),
    }
    folder = drawn(tmp_path / "bad", changes=changes)
    cut = folder / "images" / "024.jpg"
    cut.write_bytes(cut.read_bytes()[:-300])
    report = check(folder)
    told = {finding.where[0]: finding for finding in report.findings if finding.where}
    assert found(report) == {
        "unreadable_picture": 1,
        "unknown_class": 1,
        "box_size": 1,
        "blurred": 1,
        "badly_exposed": 2,
        "duplicate": 1,
        "duplicate_across_splits": 1,
        "drive_across_splits": 1,
    }
    assert report.verdict is Verdict.FAIL
    assert told["004.jpg"].reason == "too dark for daytime"
    assert told["005.jpg"].reason == "too bright for night"
    assert told["008.jpg"].reason == "blurred for daytime"
    assert told["016.jpg"].where == ("016.jpg", "000.jpg")
    assert told["018.jpg"].where == ("018.jpg", "006.jpg")
    assert "val (1)" in told["014.jpg"].what
    assert report.refused() == {
        "016.jpg": "near-duplicate of another picture",
        "020.jpg": "unknown class",
        "024.jpg": "picture is cut short",
    }


def test_of_two_alike_the_one_that_is_refused_anyway_is_the_duplicate(tmp_path: Path) -> None:
    changes = {
        0: (plain(0)[0], replace(plain(0)[1], boxes=(Box(5, 5, 9, 9, "kar"),))),
        16: (scene(0, 1.02), plain(16)[1]),
    }
    report = check(drawn(tmp_path / "bad", changes=changes))
    assert [one.where for one in report.of_kind(Kind.DUPLICATE)] == [("000.jpg", "016.jpg")]
    assert set(report.refused()) == {"000.jpg"}


def test_new_data_are_held_against_known_ones(clean: Path, tmp_path: Path) -> None:
    changes: dict[int, tuple[bytes, LabeledImage]] = {}
    for number in range(100, 140):
        encoded, image = plain(number, light=0.12 if number % 2 else None)
        boxes = tuple(Box(5 * place, 5, 5 * place + 4, 9, "bus") for place in range(2))
        changes[number] = (encoded, replace(image, boxes=boxes))
    changes[100] = (scene(0, 1.0), changes[100][1])
    folder = drawn(tmp_path / "new", 100, changes=changes, split=False)
    report = check(folder, Known(images=read_dataset(clean).images))
    assert found(report)["duplicate_of_known"] == 1
    assert report.of_kind(Kind.DUPLICATE_KNOWN)[0].where == ("100.jpg", "000.jpg")
    assert {finding.what.split(":")[1] for finding in report.of_kind(Kind.CLASS_BALANCE)} == {" bus", " car"}
    drifted = report.of_kind(Kind.DRIFT)
    assert any(finding.what.startswith("night: brightness") for finding in drifted)
    assert not any(finding.what.startswith("daytime") for finding in drifted)
    # The same by the hashes alone, as a version's manifest has them.
    hashed = {image.name: replace(image, path=None) for image in read_dataset(clean).images}
    known = Known(images=list(hashed.values()), hashes=dict.fromkeys(hashed, 0))
    assert found(check(folder, known)).get("duplicate_of_known") is None


def test_labels_are_doubted_by_a_model_and_drives_of_the_holdout_found(clean: Path) -> None:
    def corners(number: int) -> tuple[int, int, int, int]:
        return 7 * number % 230, 40, 7 * number % 230 + 80, 100

    def predict(images: Sequence[LabeledImage]) -> list[npt.NDArray[np.float32] | None]:
        seen = {
            image.name: np.array([[*corners(int(image.name[:3])), 0.9, 0]], np.float32) for image in images
        }
        seen["003.jpg"][:, 1:4:2] += 70
        return [None if image.name == "005.jpg" else seen[image.name] for image in images]

    images = [
        replace(image, boxes=(Box(*corners(int(image.name[:3])), "car"),))
        for image in read_dataset(clean).images
    ]
    known = Known(predict=predict, model_classes=("car",), holdout=frozenset({"drive9"}))
    report = check_purity(Batch(images), QUIET, known)
    assert [(one.where, one.reason, one.box) for one in report.of_kind(Kind.DOUBT)] == [
        (("003.jpg",), "overlooked", None),
        (("003.jpg",), "badly located", 0),
    ]
    assert report.facts["review"]["pictures"] == PICTURES - 1
    assert report.facts["review"]["lowest_quality"][0]["picture"] == "003.jpg"
    assert [one.where[0] for one in report.of_kind(Kind.HOLDOUT)] == ["018.jpg", "019.jpg"]


def test_data_that_must_stay_apart_and_other_labels(clean: Path, tmp_path: Path) -> None:
    changes = {
        200: (scene(2, 1.0), plain(200)[1]),
        202: (plain(202)[0], replace(plain(202)[1], drive="drive3")),
    }
    apart = drawn(tmp_path / "holdout", 200, 20, changes, split=False)
    others = {number: (plain(number)[0], replace(plain(number)[1], boxes=())) for number in range(5)}
    labels = drawn(tmp_path / "labels", changes=others)
    checked = check_dataset(clean, CheckOptions(apart=apart, labels={"people": labels}, config=QUIET))
    assert found(checked.report) == {
        "duplicate_across_splits": 1,
        "drive_across_splits": 1,
        "sources_disagree": 5,
    }
    assert checked.report.of_kind(Kind.DUPLICATE_ACROSS)[0].where == ("200.jpg", "002.jpg")
    assert checked.report.facts["sides"] == {"train": 30, "val": 10, "holdout": 20}
    assert checked.report.facts["agreement"][0]["classes"]["car"]["both"] == PICTURES - 5
    assert "clean and people: F1 " in checked.to_text()
    with pytest.raises(DatasetError, match="people has labels of none of"):
        check_dataset(clean, CheckOptions(labels={"people": apart}))
    with pytest.raises(DatasetError, match="clean is the name of"):
        check_dataset(clean, CheckOptions(labels={"clean": labels}))


def test_data_apart_that_are_called_like_a_side_are_a_side_of_their_own(clean: Path, tmp_path: Path) -> None:
    changes = {
        # 6 is on the side val, and so is its drive.
        200: (scene(6, 1.0), plain(200)[1]),
        202: (plain(202)[0], replace(plain(202)[1], drive="drive3")),
    }
    apart = drawn(tmp_path / "val", 200, 10, changes, split=False)
    checked = check_dataset(clean, CheckOptions(apart=apart, config=QUIET))
    assert found(checked.report) == {"duplicate_across_splits": 1, "drive_across_splits": 1}
    assert checked.report.facts["sides"] == {"train": 30, "val": 10, "apart/val": 10}


def test_the_page_shows_the_offenders_and_lets_no_name_break_out(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script> & 'co'"
    image = replace(plain(4)[1], boxes=(CAR, Box(5, 5, 9, 9, evil)))
    folder = drawn(tmp_path / "bad", changes={4: (plain(4)[0], image), 9: (scene(1, 0.2), plain(9)[1])})
    checked = check_dataset(folder, CheckOptions(config=QUIET))
    page = checked.to_html()
    assert "<script" not in page and "&lt;script&gt;" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert page.count('class="accused"') == 1
    # The unknown class with its picture, the twin with both.
    assert page.count("<image ") == 3
    document = json.loads(json.dumps(checked.report.to_json(), allow_nan=False))
    assert document["verdict"] == "fail"
    assert {finding["kind"] for finding in document["findings"]} == {"unknown_class", "duplicate"}


def test_a_page_has_a_picture_that_is_a_line(tmp_path: Path) -> None:
    encoded = jpeg(2000, 1)
    image = LabeledImage("line.jpg", None, 2000, 1, (Box(5, 0.2, 9, 0.22, "kar"),), {}, "line")
    folder = drawn(tmp_path / "bad", changes={4: (encoded, image)})
    page = check_dataset(folder, CheckOptions(config=QUIET)).to_html()
    assert page.count("<image ") == 1 and "1 finding as a list" in page


def test_a_page_of_a_batch_without_pictures_is_a_page(clean: Path) -> None:
    images = [replace(image, path=None) for image in read_dataset(clean).images]
    report = check_purity(Batch(images), QUIET)
    assert found(report) == {"unreadable_picture": PICTURES}
    assert report.verdict is Verdict.FAIL
    assert check_purity(Batch([]), QUIET).verdict is Verdict.PASS
