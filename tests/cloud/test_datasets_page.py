"""What inspect counts, and the page that it writes."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

from PIL import Image

from cloud.datasets import Box, Dataset, LabeledImage, Refusal
from cloud.datasets.page import SAMPLES_PER_GROUP, write_page
from cloud.datasets.summary import summarize, to_text
from tests.labelled import HEIGHT, WIDTH, jpeg, write


def image(
    name: str, *boxes: Box, path: Path | None = None, drive: str = "d", **attributes: str
) -> LabeledImage:
    return LabeledImage(name, path, WIDTH, HEIGHT, boxes, attributes, drive)


def test_counts_by_slice_class_and_size() -> None:
    images = (
        image("a.jpg", Box(0, 0, 4, 4, "car"), Box(0, 0, 32, 32, "bus"), timeofday="night"),
        image("b.jpg", Box(0, 0, 31, 33, "car"), timeofday="night", drive="e"),
        image("c.jpg"),
    )
    refusals = (Refusal("x.jpg", "image is corrupt"), Refusal("y\udcff.jpg", "image is corrupt"))
    summary = summarize(Dataset(images, refusals, {"lane": 3}))
    assert summary.to_json() == {
        "images": 3,
        "drives": 2,
        "boxes": 3,
        "classes": {"car": 2, "bus": 1},
        "without_picture": 3,
        "slices": {
            "timeofday": {
                "night": {"images": 2, "drives": 2, "boxes": 3, "classes": {"car": 2, "bus": 1}},
                "(none)": {"images": 1, "drives": 1, "boxes": 0, "classes": {}},
            }
        },
        "box_sizes": {
            "0 to 8": 1,
            "8 to 16": 0,
            "16 to 32": 1,
            "32 to 64": 1,
            "64 to 96": 0,
            "96 to 192": 0,
            "192 and more": 0,
        },
        "refusals": {"image is corrupt": 2},
        "refusal_examples": {"image is corrupt": ["x.jpg", "y\\udcff.jpg"]},
        "skipped": {"lane": 3},
    }
    text = to_text(summary)
    assert text.startswith("3 images, 2 drives, 3 boxes\n")
    assert re.search(r"^image is corrupt +2 +x\.jpg$", text, re.MULTILINE)
    assert re.search(r"^night +2 +2 +3 +1\.5$", text, re.MULTILINE)


def test_an_attribute_that_names_each_image_is_no_slice() -> None:
    images = tuple(image(f"{number}.jpg", uuid=str(number), weather="clear") for number in range(60))
    assert list(summarize(Dataset(images)).slices) == ["weather"]


def test_the_page_stands_alone_and_escapes_what_it_shows(tmp_path: Path) -> None:
    picture = write(tmp_path / "a.jpg", jpeg(1280, 720))
    evil = '<script>alert("1")</script>'
    images = tuple(
        image(
            f"{number}.jpg",
            Box(10, 20, 50, 60, evil, occluded=True),
            path=picture,
            drive=f"d{number}",
            timeofday=evil,
        )
        for number in range(20)
    )
    page = tmp_path / "page.html"
    write_page(page, Dataset(images, (Refusal(evil, "image is corrupt"),)), evil)
    text = page.read_text()
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert not re.search(r'(src|href)="(?!data:)', text)
    uris = re.findall(r'href="data:image/jpeg;base64,([^"]+)"', text)
    assert len(uris) == text.count("<svg") == SAMPLES_PER_GROUP
    assert Image.open(io.BytesIO(base64.b64decode(uris[0]))).size == (640, 360)
    assert '<svg viewBox="0 0 1280 720"' in text
    assert '<rect x="10.0" y="20.0" width="40.0" height="40.0"' in text
    before = page.read_bytes()
    write_page(page, Dataset(images[::-1], (Refusal(evil, "image is corrupt"),)), evil)
    assert page.read_bytes() == before


def test_a_page_without_pictures_boxes_or_attributes(tmp_path: Path) -> None:
    torn = write(tmp_path / "torn.jpg", b"\xff\xd8")
    write_page(tmp_path / "page.html", Dataset((image("a.jpg"), image("b.jpg", path=torn))), "bare")
    text = (tmp_path / "page.html").read_text()
    assert "No image has a box." in text
    assert "No picture is at hand." in text
