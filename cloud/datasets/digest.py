"""One hash for a dataset's content."""

from __future__ import annotations

import hashlib
import json

from cloud.datasets.dataset import Dataset, LabeledImage


def dataset_sha256(dataset: Dataset) -> str:
    """Hash what the images show and what their labels say.

    Independent of where the dataset lies and of the order of images and boxes. A name, a pixel, a corner,
    a class, an attribute or a drive that differs gives another hash; an image without a picture counts
    by its labels.

    Returns:
        SHA-256, 64 hexadecimal digits.

    Raises:
        OSError: a picture cannot be read.
    """
    records = sorted(hashlib.sha256(_record(image)).hexdigest() for image in dataset.images)
    return hashlib.sha256("\n".join(records).encode()).hexdigest()


def _record(image: LabeledImage) -> bytes:
    picture = None
    if image.path is not None:
        picture = hashlib.sha256(image.path.read_bytes()).hexdigest()
    boxes = sorted(
        [
            box.category,
            *(float(value).hex() for value in (box.x1, box.y1, box.x2, box.y2)),
            *(str(flag) for flag in (box.occluded, box.truncated, box.crowd)),
        ]
        for box in image.boxes
    )
    record = [image.name, picture, image.drive, sorted(image.attributes.items()), boxes]
    return json.dumps(record).encode()
