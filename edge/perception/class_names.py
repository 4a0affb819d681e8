"""Class names: the canonical ten, and the one table of the other names that datasets use for them."""

from __future__ import annotations

from types import MappingProxyType

# The ten classes of BDD100K's 2020 detection release, in its order.
CANONICAL = (
    "pedestrian",
    "rider",
    "car",
    "truck",
    "bus",
    "train",
    "motorcycle",
    "bicycle",
    "traffic light",
    "traffic sign",
)

# BDD100K 2018, COCO, Cityscapes, KITTI, Open Images and common Ultralytics exports. A COCO "stop sign" is
# not a "traffic sign": it is one kind of it, and a detector of stop signs finds no others.
ALIASES = MappingProxyType(
    {
        "person": "pedestrian",
        "people": "pedestrian",
        "human": "pedestrian",
        "walker": "pedestrian",
        "bike": "bicycle",
        "cycle": "bicycle",
        "motor": "motorcycle",
        "motorbike": "motorcycle",
        "motor bike": "motorcycle",
        "motor cycle": "motorcycle",
        "bicyclist": "rider",
        "cyclist": "rider",
        "motorcyclist": "rider",
        "automobile": "car",
        "lorry": "truck",
        "tram": "train",
        "trafficlight": "traffic light",
        "traffic signal": "traffic light",
        "tl": "traffic light",
        "trafficsign": "traffic sign",
        "road sign": "traffic sign",
    }
)


def canonical(name: str) -> str:
    """Give the canonical spelling of a class name.

    Case, surrounding and repeated blanks, underscores and hyphens do not matter. A name that the table
    does not know comes back as it is, but lower-cased and with single blanks.
    """
    plain = " ".join(name.replace("_", " ").replace("-", " ").lower().split())
    return ALIASES.get(plain, plain)
