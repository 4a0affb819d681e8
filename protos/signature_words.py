"""Whether somebody signed the model that runs, in words: for the vehicle's own tools and for the cloud's."""

from __future__ import annotations

from protos.traffic_vision.v1 import common_pb2


def signature_words(model: common_pb2.ModelState) -> str:
    """What is to be said of models that nobody signed; empty where none is allowed."""
    if model.active_is_unsigned:
        return "UNSIGNED: nobody signed the model that runs"
    return "unsigned models are allowed" if model.unsigned_allowed else ""
