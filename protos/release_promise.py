"""What a release asks of its trial on a vehicle, and what it promises there: two of the facts of a release.

Whole numbers throughout, with their units in the names: signed metadata is canonical JSON, which has no
fractions. The vehicle's own configuration bounds all of it; see `edge.updates.probation`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

ANY_CONTEXT = "(all)"  # of a range that holds wherever no other is named
MAX_DRIVE_S = 7 * 86400
MAX_FRAMES = 10**9
MAX_CONTEXTS = 32
MAX_NAME = 100


class PromiseError(ValueError):
    """A shadow or a promise that cannot be; the message names the field."""


@dataclass(frozen=True, slots=True)
class Range:
    """From `least` to `most`, both included."""

    least: int
    most: int


@dataclass(frozen=True, slots=True)
class ShadowFacts:
    """A trial beside the active model, before the swap.

    Attributes:
        drive_s: of the frames' time while the vehicle drives.
        every_frames: every so-manieth published frame is shown to the candidate.
        cpu_percent: of one core, that the candidate may take at most.
        least_agreement_percent: F1 of the candidate's detections against the active model's; below it the
            candidate is refused. None: any.
    """

    drive_s: int
    every_frames: int = 10
    cpu_percent: int = 10
    least_agreement_percent: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            PromiseError: with the field and its value.
        """
        _bounded("shadow.drive_s", self.drive_s, 1, MAX_DRIVE_S)
        _bounded("shadow.every_frames", self.every_frames, 1, 10_000)
        _bounded("shadow.cpu_percent", self.cpu_percent, 1, 100)
        _optional("shadow.least_agreement_percent", self.least_agreement_percent, 0, 100)

    def to_json(self) -> dict[str, Any]:
        """As it is signed."""
        fields = ("drive_s", "every_frames", "cpu_percent", "least_agreement_percent")
        return {name: value for name in fields if (value := getattr(self, name)) is not None}


@dataclass(frozen=True, slots=True)
class Promise:
    """What a release promises of its probation; what is None or empty it says nothing of.

    Attributes:
        drive_s: of probation, in the frames' time while the vehicle drives; the vehicle may ask for more.
        frames: to be published in it; the vehicle may ask for more.
        latency_p99_us: 99 of 100 inferences take no longer.
        latency_percent: the same, of what the model before it took on the same vehicle in the same run.
        errors_permille: no more of the frames looked at end in an inference error.
        detections_per_1000_frames: by context (`day`, `night`, ANY_CONTEXT), of a typical stretch of driving.
        detections_percent: the same, of what the model before it found on the same vehicle in the same run.
        no_drift_alarm: what it finds fits the drift reference in its own file, in the contexts known there.
    """

    drive_s: int = 0
    frames: int = 0
    latency_p99_us: int | None = None
    latency_percent: int | None = None
    errors_permille: int | None = None
    detections_per_1000_frames: tuple[tuple[str, Range], ...] = ()
    detections_percent: Range | None = None
    no_drift_alarm: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            PromiseError: with the field and its value.
        """
        _bounded("promise.drive_s", self.drive_s, 0, MAX_DRIVE_S)
        _bounded("promise.frames", self.frames, 0, MAX_FRAMES)
        _optional("promise.latency_p99_us", self.latency_p99_us, 1, 10**9)
        _optional("promise.latency_percent", self.latency_percent, 1, 10**6)
        _optional("promise.errors_permille", self.errors_permille, 0, 1000)
        contexts = self.detections_per_1000_frames
        if len(contexts) > MAX_CONTEXTS or len(dict(contexts)) < len(contexts):
            raise PromiseError(
                f"promise.detections_per_1000_frames names {len(contexts)} contexts, expected up to"
                f" {MAX_CONTEXTS} that differ"
            )
        for name, found in contexts:
            if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not name.isprintable():
                raise PromiseError(f"promise.detections_per_1000_frames names {name!r}, expected a context")
            _ordered("promise.detections_per_1000_frames", found)
        if self.detections_percent is not None:
            _ordered("promise.detections_percent", self.detections_percent)
        if type(self.no_drift_alarm) is not bool:
            raise PromiseError(f"promise.no_drift_alarm is {self.no_drift_alarm!r}, expected true or false")

    def detections_in(self, context: str) -> Range | None:
        """The range that holds in a context."""
        known = dict(self.detections_per_1000_frames)
        return known.get(context, known.get(ANY_CONTEXT))

    def to_json(self) -> dict[str, Any]:
        """As it is signed."""
        document: dict[str, Any] = {
            name: value
            for name in ("drive_s", "frames", "latency_p99_us", "latency_percent", "errors_permille")
            if (value := getattr(self, name)) is not None
        }
        if self.detections_per_1000_frames:
            document["detections_per_1000_frames"] = {
                name: [found.least, found.most] for name, found in self.detections_per_1000_frames
            }
        if self.detections_percent is not None:
            document["detections_percent"] = [self.detections_percent.least, self.detections_percent.most]
        if self.no_drift_alarm:
            document["no_drift_alarm"] = True
        return document


def shadow_from(document: object) -> ShadowFacts | None:
    """Read what `ShadowFacts.to_json` gives; None where there is none.

    Raises:
        PromiseError: it is none.
    """
    if document is None:
        return None
    fields = _fields("shadow", document)
    if "drive_s" not in fields:
        raise PromiseError("shadow.drive_s is missing")
    names = ("drive_s", "every_frames", "cpu_percent", "least_agreement_percent")
    return ShadowFacts(**{name: fields[name] for name in names if name in fields})


def promise_from(document: object) -> Promise | None:
    """Read what `Promise.to_json` gives; None where there is none.

    Raises:
        PromiseError: it is none.
    """
    if document is None:
        return None
    fields = _fields("promise", document)
    plain = ("drive_s", "frames", "latency_p99_us", "latency_percent", "errors_permille", "no_drift_alarm")
    read: dict[str, Callable[[object], object]] = {name: lambda value: value for name in plain}
    read["detections_per_1000_frames"] = _ranges
    read["detections_percent"] = lambda value: _range("promise.detections_percent", value)
    known: dict[str, Any] = {name: read[name](fields[name]) for name in read if name in fields}
    return Promise(**known)


def _fields(name: str, document: object) -> Mapping[str, Any]:
    if not isinstance(document, Mapping):
        raise PromiseError(f"{name} is {_shown(document)}, expected an object")
    return document


def _ranges(value: object) -> tuple[tuple[str, Range], ...]:
    name = "promise.detections_per_1000_frames"
    return tuple((context, _range(name, found)) for context, found in sorted(_fields(name, value).items()))


def _range(name: str, value: object) -> Range:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise PromiseError(f"{name} is {_shown(value)}, expected [least, most]")
    return Range(value[0], value[1])


def _ordered(name: str, found: Range) -> None:
    _bounded(name, found.least, 0, 10**9)
    _bounded(name, found.most, found.least, 10**9)


def _optional(name: str, value: object, least: int, most: int) -> None:
    if value is not None:
        _bounded(name, value, least, most)


def _bounded(name: str, value: object, least: int, most: int) -> None:
    if type(value) is not int or not least <= value <= most:
        raise PromiseError(f"{name} is {_shown(value)}, expected {least} to {most}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
