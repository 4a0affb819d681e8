"""Class names of datasets: `edge.perception.class_names` and what only labels have."""

from __future__ import annotations

from types import MappingProxyType

from edge.perception.class_names import ALIASES, CANONICAL, canonical

__all__ = ["ALIASES", "CANONICAL", "UNSURE", "canonical"]

# BDD100K's labels for what may or may not be of a class. Its own evaluation neither asks for them nor
# counts a detection of that class on them as wrong (bdd100k/configs in its toolkit: ignored_mapping).
UNSURE = MappingProxyType({"other person": "pedestrian", "other vehicle": "car", "trailer": "truck"})
