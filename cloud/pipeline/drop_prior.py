"""A new model takes along how its accuracy falls: into its drift prior, before it is judged."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from cloud.datasets import LabeledImage
from cloud.pipeline.drop_check import compared, judged_in_each, part_of
from cloud.pipeline.drop_estimate import DropError, DropOptions, Measurement, measure_drop
from cloud.release.attaching import with_prior
from edge.drift import Reference
from edge.drift.drop import DropModel
from edge.perception.model_file import ModelFile

MIN_PICTURES = 20  # of a slice; fewer say nothing of it
WHOLE = "(all)"

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Equipped:
    """A model with what was measured of it.

    Attributes:
        model: with the drop in its prior; without, where it could not be measured.
        facts: for the record: what was measured, or why not.
    """

    model: ModelFile
    facts: dict[str, Any]


def with_drop(
    model: ModelFile, images: Sequence[LabeledImage], slice_by: str, options: DropOptions
) -> Equipped:
    """Measure how a model's accuracy falls, and put it into the drift prior of its file.

    What its prior says of the drop already is of another model, and goes in any case.

    Args:
        model: the model, whose bytes nobody has judged yet.
        images: labelled pictures of drives that it was not trained on.
        slice_by: the attribute whose values the estimate is held against, for the record.
        options: how to measure; no pictures: it is not.

    Raises:
        TrafficVisionError: the model cannot be run, or its prior is none.
    """
    text = model.metadata.drift_prior
    if text is None:
        return Equipped(model, {"none": "the model brings no drift reference that it could be part of"})
    prior = Reference.from_bytes(text.encode())
    if options.pictures == 0:
        return _without(model, prior, "release.drop_pictures is 0")
    try:
        measured = measure_drop(model, images, options)
    except DropError as error:
        _LOG.warning("vehicles will not estimate what drift costs this model: %s", error)
        return _without(model, prior, str(error))
    equipped = with_prior(model, replace(prior, drop=measured.drop), "the drop of its accuracy")
    return Equipped(equipped, facts_of(model, measured, slice_by, options.min_boxes))


def facts_of(model: ModelFile, measured: Measurement, slice_by: str, min_boxes: int) -> dict[str, Any]:
    """What a measurement came to, and how it tells each slice of the pictures from all of them."""
    return {
        "pictures": len(measured.images),
        "classes": list(measured.judged),
        "map50": measured.drop.map50,
        "fits": [_fit_facts(one) for one in (measured.drop, *measured.drop.alternatives)],
        "slices": _slices(model, measured, slice_by, min_boxes),
    }


def _without(model: ModelFile, prior: Reference, why: str) -> Equipped:
    if prior.drop is not None:
        model = with_prior(model, replace(prior, drop=None), "its drift reference")
    return Equipped(model, {"none": why})


def _fit_facts(drop: DropModel) -> dict[str, Any]:
    slopes = dict(zip(drop.features, drop.slopes, strict=True))
    return {"slopes": slopes, "residual": drop.residual}


def _slices(model: ModelFile, measured: Measurement, slice_by: str, min_boxes: int) -> list[dict[str, Any]]:
    places: dict[str, list[int]] = defaultdict(list)
    for number, image in enumerate(measured.images):
        if slice_by in image.attributes:
            places[image.attributes[slice_by]].append(number)
    found = []
    for name, chosen in sorted(places.items()):
        if not MIN_PICTURES <= len(chosen) < len(measured.images):
            continue
        images = [measured.images[number] for number in chosen]
        judged = judged_in_each(model, [images, measured.images], min_boxes)
        if judged:
            whole = part_of(model, WHOLE, measured.images, measured.seen, judged)
            part = part_of(model, name, images, measured.seen.at(chosen), judged)
            found.append(compared(part, whole, measured.drop).to_json())
    return found
