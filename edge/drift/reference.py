"""The reference: what a feature looked like while the model was right, per context, in one small file.

A context (day, night...) has for each feature a band of distributions instead of one: the frames of a drive
share its sun and its camera's exposure, so that the next drive differs from all known ones before anything
has drifted. The band is the known distribution moved to either side by the `margin` that drives differ by (a
probability box: Ferson et al., 2003). One continuous series says nothing of other drives: its margin is 0. So
is that of a long reference: it has the drives' differences in its distribution.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.drift.calibration import Tail
from edge.drift.drop import DropModel
from edge.drift.state import Origin, Scope
from edge.errors import TrafficVisionError
from edge.files import atomic_write

# Less than this promises no rate of false alarms.
CALIBRATED_HOURS = 4.0
CALIBRATED_TAU = 500.0
MAX_NAME = 100  # letters of a context's and of a feature's name

_LOG = logging.getLogger(__name__)

Edges = npt.NDArray[np.float64]


class DriftReferenceError(TrafficVisionError):
    """A reference that cannot be read, made or used; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True, eq=False)
class FeatureReference:
    """One feature in one context.

    Attributes:
        name, origin: the feature.
        frames: that had it, in the reference's drives.
        drives: that had it.
        mean, sigma: of those frames.
        drive_sigma: standard deviation of the drives' means, as far as chance within a drive does not
            explain it.
        margin: by how much a drive may lie beside the reference.
        tau: autocorrelation time within a drive, frames.
        edges: `float64[B - 1]` the inner edges of the bins; empty where the feature is not judged.
        lower, upper: `float64[B - 1]` the least and the largest share up to each edge that the band allows.
        tails: one a window, the short one first; empty where the feature is not judged.
    """

    name: str
    origin: Origin
    frames: int
    drives: int
    mean: float
    sigma: float
    drive_sigma: float
    margin: float
    tau: float
    edges: Edges
    lower: Edges
    upper: Edges
    tails: tuple[Tail, ...]

    @property
    def known(self) -> bool:
        """Whether the reference has seen it; a feature that it has not is learned by the monitor."""
        return self.frames > 0

    @property
    def constant(self) -> bool:
        """Whether it never changed: there is no yardstick for a change then, and it is not judged."""
        return self.known and not self.tails

    def calibrated(self, rate_hz: float) -> bool:
        """Whether there was enough to promise a rate of false alarms."""
        hours = self.frames / rate_hz / 3600
        return hours >= CALIBRATED_HOURS and self.frames >= CALIBRATED_TAU * self.tau


def unknown_feature(name: str, origin: Origin) -> FeatureReference:
    """A feature that is still to be learned."""
    nothing = np.zeros(0)
    return FeatureReference(name, origin, 0, 0, 0.0, 0.0, 0.0, 0.0, 1.0, nothing, nothing, nothing, ())


@dataclass(frozen=True, slots=True, eq=False)
class ContextReference:
    """All features in one context.

    Attributes:
        name: `day`, `night`...
        features: in the order of the reference's names.
        misfit: a frame whose `contexts.distances` is larger does not fit the context.
        scope: whose reference it is.
        joint: factor on the rate at which the alarm begins, for the features together to keep the promise; 1:
            their windows share it as if no two of them were ever unusual at once (Bonferroni).
    """

    name: str
    features: tuple[FeatureReference, ...]
    misfit: float
    scope: Scope = Scope.SERIES
    joint: float = 1.0

    def promises(self, rate_hz: float) -> bool:
        """Whether each judged feature has enough behind it, of the right camera, to keep the promise."""
        return self.scope is not Scope.FLEET and all(
            feature.calibrated(rate_hz) for feature in self.features if feature.tails
        )


@dataclass(frozen=True, eq=False)
class Reference:
    """What a monitor judges by. Immutable.

    Attributes:
        rate_hz: frames per second of the frames' time that it was made from and is judged at.
        target_hours: hours of driving to one false alarm of all features together.
        contexts: at least one, each with the same features.
        drop: tells how much the detector suffers from a change; None: that is not known.
    """

    rate_hz: float
    target_hours: float
    contexts: tuple[ContextReference, ...]
    drop: DropModel | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The features' names, in the order of a vector."""
        return tuple(feature.name for feature in self.contexts[0].features)

    @property
    def origins(self) -> tuple[Origin, ...]:
        """What each feature is computed from."""
        return tuple(feature.origin for feature in self.contexts[0].features)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the plain file, 64 lower-case hex digits: the same however it is kept."""
        from edge.drift import reference_file

        return hashlib.sha256(self.to_bytes(reference_file.PLAIN)).hexdigest()

    @property
    def calibrated(self) -> bool:
        """Whether each judged feature of each context has enough behind it to keep the promise."""
        return all(
            feature.calibrated(self.rate_hz)
            for context in self.contexts
            for feature in context.features
            if feature.tails
        )

    def context(self, name: str) -> ContextReference | None:
        """What it knows of a context; None: it does not."""
        return next((one for one in self.contexts if one.name == name), None)

    def promises(self, context: str) -> bool:
        """Whether the promised rate of false alarms holds in this context.

        It takes enough driving (see `calibrated`), and of this very camera: the fleet's reference is of
        others, however long it is.

        Raises:
            DriftReferenceError: there is no such context.
        """
        found = self.context(context)
        if found is not None:
            return found.promises(self.rate_hz)
        known = ", ".join(one.name for one in self.contexts)
        raise DriftReferenceError(f"the reference has no context {context!r}, only {known}")

    def scoped(self, scope: Scope) -> Reference:
        """This reference as one whose every context is of this scope."""
        return replace(self, contexts=tuple(replace(context, scope=scope) for context in self.contexts))

    def with_features(self, number: int, features: Iterable[FeatureReference]) -> Reference:
        """This reference with these features in place of one context's."""
        contexts = list(self.contexts)
        contexts[number] = replace(contexts[number], features=tuple(features))
        return replace(self, contexts=tuple(contexts))

    def without(self, origins: Iterable[str]) -> Reference:
        """This reference with the features of these origins unknown: a new model changes what they mean.

        With those of detections goes what was known of the old model's `drop`.
        """
        void = {Origin(origin) for origin in origins}
        contexts = tuple(
            replace(
                context,
                features=tuple(
                    unknown_feature(feature.name, feature.origin) if feature.origin in void else feature
                    for feature in context.features
                ),
            )
            for context in self.contexts
        )
        drop = None if Origin.DETECTIONS in void else self.drop
        return replace(self, contexts=contexts, drop=drop)

    def to_bytes(self, version: int | None = None) -> bytes:
        """The file: JSON, arrays as base64; the same reference gives the same bytes.

        Args:
            version: of the file (see `edge.drift.reference_file`); None: the newest.
        """
        from edge.drift import reference_file

        return reference_file.encode(self, reference_file.VERSION if version is None else version)

    @classmethod
    def from_bytes(cls, data: bytes) -> Reference:
        """Read a file's bytes; nothing in them is trusted.

        Raises:
            DriftReferenceError: they are not a reference; the message names the field.
        """
        from edge.drift import reference_file

        return reference_file.decode(data)

    def save(self, path: str | Path) -> None:
        """Write the file, whole or not at all.

        Raises:
            DriftReferenceError: it cannot be written.
        """
        try:
            atomic_write(Path(path), self.to_bytes())
        except OSError as error:
            raise DriftReferenceError(f"cannot write the reference {str(path)!r}: {error.strerror}") from None

    @classmethod
    def load(cls, path: str | Path) -> Reference:
        """Read a file.

        Raises:
            DriftReferenceError: it is not there or is not a reference.
        """
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise DriftReferenceError(f"cannot read the reference {str(path)!r}: {error.strerror}") from None
        try:
            return cls.from_bytes(data)
        except DriftReferenceError as error:
            raise DriftReferenceError(f"{str(path)!r}: {error}") from None


def combine(*references: Reference) -> Reference:
    """One reference with the contexts of several.

    Raises:
        DriftReferenceError: they differ in features, rate or promise, or two contexts have one name.
    """
    first = references[0]
    for other in references[1:]:
        for what in ("names", "origins", "rate_hz", "target_hours"):
            if getattr(other, what) != getattr(first, what):
                raise DriftReferenceError(
                    f"references with different {what} cannot be combined: "
                    f"{getattr(first, what)} and {getattr(other, what)}"
                )
    contexts = tuple(context for reference in references for context in reference.contexts)
    names = [context.name for context in contexts]
    if len(set(names)) < len(names):
        raise DriftReferenceError(f"two contexts have the same name: {', '.join(names)}")
    return replace(first, contexts=contexts)


def require_alike(new: Reference, old: Reference) -> None:
    """One reference can take another's place.

    Raises:
        DriftReferenceError: it has other features or another rate.
    """
    for what in ("names", "origins", "rate_hz"):
        its, before = getattr(new, what), getattr(old, what)
        if its != before:
            raise DriftReferenceError(f"the new reference has other {what} ({its}) than the old ({before})")


def align(reference: Reference, names: Sequence[str], origins: Sequence[Origin]) -> Reference:
    """The reference as one of these features, in this order.

    Features that it does not have, or has of another origin, are unknown in it (a monitor learns them); those
    that are not asked for are left out. A reference that fits already comes back as it is, digest and all.

    Raises:
        DriftReferenceError: it has none of the features.
    """
    if (reference.names, reference.origins) == (tuple(names), tuple(origins)):
        return reference
    wanted = list(zip(names, origins, strict=True))
    there = set(zip(reference.names, reference.origins, strict=True))
    missing = [name for name, origin in wanted if (name, origin) not in there]
    if len(missing) == len(wanted):
        raise DriftReferenceError(
            f"the reference is of {', '.join(reference.names)}, none of which is watched; what is watched is"
            f" {', '.join(names)}: make it anew with `traffic-vision drift fit`"
        )
    strange = sorted(name for name, _ in there.difference(wanted))
    _LOG.info(
        "drift reference %s: not in it, to be learned: %s; not watched, left out: %s",
        reference.digest[:12],
        ", ".join(missing) or "none",
        ", ".join(strange) or "none",
    )
    contexts = []
    for context in reference.contexts:
        known = {(feature.name, feature.origin): feature for feature in context.features}
        features = tuple(known.get(key) or unknown_feature(*key) for key in wanted)
        contexts.append(replace(context, features=features))
    return replace(reference, contexts=tuple(contexts))


def remember(present: Reference, past: Reference | None) -> Reference:
    """The reference with what it does not know taken from an older one of the same features."""
    if past is None:
        return present
    older = {context.name: context for context in past.contexts}
    contexts = []
    for context in present.contexts:
        other = older.pop(context.name, context)
        features = tuple(
            new if new.known else old for new, old in zip(context.features, other.features, strict=True)
        )
        contexts.append(replace(context, features=features))
    return replace(present, contexts=(*contexts, *older.values()))


def drives_known(past: Reference | None, context: str, name: str) -> FeatureReference | None:
    """What tells how far drives differ in a feature that is to be learned; None: nothing does.

    Of this context; in one that is new to the feature, drives differ about as in those known.

    Args:
        past: what was judged by before.
        context: in which it is learned.
        name: of the feature.
    """
    if past is None:
        return None
    known = {
        before.name: feature
        for before in past.contexts
        for feature in before.features
        if feature.name == name and feature.known
    }
    return known.get(context) or max(known.values(), key=lambda feature: feature.drives, default=None)
