"""The section `gate`: what a candidate must show before it is released, as data. Units stand in the names."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from cloud.config.types import AbsolutePath, Count, Positive, Section, Share


class GateRuleConfig(Section):
    """One demand on the candidate's mAP50 less the champion's, on some slices; see docs/gate.md."""

    # "overall"; "target": each target; "slice_by": each of its values but the targets; "others": each slice
    # that no other rule is for; an entry of `gate.slices`: each of its values but the targets; or one slice
    # by its name: "night", "weather=rainy", "class=car", "size=small".
    slices: Annotated[str, Field(min_length=1)]
    # not_worse: the interval lies above -margin. better: it lies above +margin. no_regression: it does not
    # lie below -margin; this one is never inconclusive.
    demand: Literal["not_worse", "better", "no_regression"]
    # In mAP50. Unset: gate.margin, and 0 for better.
    margin: Annotated[float, Field(ge=0)] | None = None


class HardwareConfig(Section):
    """The hardware profile: what a model may cost where it is to run. Measured where the gate runs."""

    # As vehicles run it: execution providers by preference, and threads of one inference.
    providers: Annotated[tuple[str, ...], Field(min_length=1)] = ("cpu",)
    threads: Count = 2
    # A vehicle takes so many times as long as the machine that the gate runs on.
    slowdown: Positive = 1.0
    # From a picture's pixels to its boxes on the vehicle, p50; unset: it is only held against the champion's.
    max_latency_ms: Positive | None = None
    # Slower than the champion by this factor and by so many ms is too slow.
    slower_ratio: Annotated[float, Field(ge=1)] = 1.3
    slower_ms: Annotated[float, Field(ge=0)] = 5.0
    # What a loaded model adds to its process at most, and beside the champion's in the same way.
    max_memory_mb: Positive | None = None
    larger_ratio: Annotated[float, Field(ge=1)] = 1.3
    larger_mb: Annotated[float, Field(ge=0)] = 50.0
    # How often each model is timed, in turns; 0: neither time nor memory is measured.
    rounds: Annotated[int, Field(ge=0)] = 60


class BehaviourConfig(Section):
    """Small changes of a picture, and how far what is found on it must stay the same."""

    # Pictures of the holdout that are changed, one of each drive first; 0: it is not checked.
    pictures: Annotated[int, Field(ge=0)] = 64
    # The picture moves so far right and half as far down, pixels.
    shift_px: Annotated[int, Field(ge=1, le=64)] = 8
    # Gaussian, standard deviation in levels of 255.
    noise_sigma: Positive = 4.0
    # JPEG's.
    compression_quality: Annotated[int, Field(ge=1, le=100)] = 75
    # What is found before and after must agree so far (F1, at the model file's own threshold).
    least_shift: Share = 0.5
    least_flip: Share = 0.5
    least_noise: Share = 0.8
    least_compression: Share = 0.7


class GateConfig(Section):
    """What a candidate must show against the champion. Bounds hold for ends of intervals."""

    # Labelled data of drives that no training saw; the dataset's own side `test` comes to it.
    holdout: tuple[AbsolutePath, ...] = ()
    # The attribute that the targets are values of, and that training is mixed by.
    slice_by: Annotated[str, Field(min_length=1)] = "timeofday"
    # What is measured apart: attributes of pictures; class: each class; size: small, medium and large boxes.
    slices: tuple[Annotated[str, Field(min_length=1)], ...] = (
        "timeofday",
        "weather",
        "scene",
        "class",
        "size",
    )
    # In mAP50: being worse by this much must be ruled out where a rule says so.
    margin: Positive = 0.02
    # Slices that must be better; none: the one that most of the new samples are of.
    targets: tuple[str, ...] = ()
    # What is asked of which slices.
    rules: Annotated[tuple[GateRuleConfig, ...], Field(min_length=1)] = (
        GateRuleConfig(slices="overall", demand="not_worse"),
        GateRuleConfig(slices="slice_by", demand="not_worse"),
        GateRuleConfig(slices="target", demand="better"),
        GateRuleConfig(slices="others", demand="no_regression", margin=0.05),
    )
    # A target's true gain, in mAP50, that the holdout should be able to show: the power report is for it.
    effect: Positive = 0.04
    # Classes with fewer boxes in a slice are not averaged; slices of fewer drives are not judged.
    min_boxes: Count = 100
    min_drives: Annotated[int, Field(ge=2)] = 10
    # One-sided, of each bound.
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.975
    resamples: Annotated[int, Field(ge=100)] = 500
    threads: Count = 2
    hardware: HardwareConfig = HardwareConfig()
    behaviour: BehaviourConfig = BehaviourConfig()
