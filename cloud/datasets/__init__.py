"""Labelled datasets: reading the shapes that people have, writing one, splitting, looking at them."""

from cloud.datasets.classes import CANONICAL, canonical
from cloud.datasets.dataset import Box, Dataset, DatasetError, LabeledImage, Refusal
from cloud.datasets.digest import dataset_sha256
from cloud.datasets.reading import read_dataset
from cloud.datasets.spreading import spread_out
from cloud.datasets.writing import DatasetWriter, Written, write_dataset

__all__ = [
    "CANONICAL",
    "Box",
    "Dataset",
    "DatasetError",
    "DatasetWriter",
    "LabeledImage",
    "Refusal",
    "Written",
    "canonical",
    "dataset_sha256",
    "read_dataset",
    "spread_out",
    "write_dataset",
]
