"""What a camera itself is known by, and how that goes together with what a model file brings.

Own references are made on the vehicle (`edge.drift.commissioning`); another camera of the fleet is not this
one. A new model changes what the features of detections mean, and which contexts it was trained for, and
nothing of how this camera sees the world.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge.drift.frame_rate import at_rate
from edge.drift.reference import ContextReference, DriftReferenceError, Reference, align
from edge.drift.state import Origin, Scope
from edge.files import atomic_write

FILE_NAME = "own.json"
FORMAT = "traffic-vision own drift reference"
# The context of a camera that nobody told contexts apart for: everything it saw.
UNNAMED = "default"
# That of frames which fit no known context, until one is found in them (`edge.drift.unsorted`).
UNSORTED = "(unsorted)"
OF_A_MODEL = (Origin.DETECTIONS, Origin.EMBEDDING)

_MOST_BYTES = 2**25


@dataclass(frozen=True, slots=True)
class Fitted:
    """How much driving a context was fitted of.

    Attributes:
        hours: of frames, for the features of the picture.
        model_hours: of them by the model, for the features of what it found.
    """

    hours: float = 0.0
    model_hours: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Own:
    """A camera's own reference.

    Attributes:
        reference: of scope CAMERA.
        model: digest of the model that its features of detections are of.
        fitted: for each of its contexts.
    """

    reference: Reference
    model: str
    fitted: Mapping[str, Fitted] = field(default_factory=dict)

    def of(self, model: str) -> Own:
        """This one as it holds for a model: what another one found is unknown."""
        if model == self.model:
            return self
        fitted = {context: replace(one, model_hours=0.0) for context, one in self.fitted.items()}
        return Own(self.reference.without(OF_A_MODEL), model, fitted)

    def without(self, context: str) -> Own | None:
        """This one without a context; None where it knows no other."""
        left = tuple(one for one in self.reference.contexts if one.name != context)
        if not left:
            return None
        fitted = {name: one for name, one in self.fitted.items() if name != context}
        return replace(self, reference=replace(self.reference, contexts=left), fitted=fitted)

    def context(self, name: str) -> ContextReference | None:
        """What it knows of a context; None: it does not."""
        return self.reference.context(name)

    def save(self, path: Path) -> int:
        """Write the file, whole or not at all; gives its size, bytes.

        Raises:
            OSError: it cannot be written.
        """
        document = _Document(
            format=FORMAT,
            version=1,
            model=self.model,
            fitted={name: (one.hours, one.model_hours) for name, one in self.fitted.items()},
            reference=self.reference.to_bytes().decode(),
        )
        data = document.model_dump_json().encode()
        atomic_write(path, data)
        return len(data)

    @classmethod
    def load(cls, path: Path) -> Own:
        """Read a file; nothing in it is trusted.

        Raises:
            FileNotFoundError: there is none.
            DriftReferenceError: it cannot be read, or is no such file.
        """
        try:
            with path.open("rb") as file:
                data = file.read(_MOST_BYTES)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise DriftReferenceError(
                f"cannot read the own reference {str(path)!r}: {error.strerror}"
            ) from None
        try:
            document = _Document.model_validate_json(data)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"]) or "the file"
            raise DriftReferenceError(f"{str(path)!r}: {place}: {first['msg']}") from None
        reference = Reference.from_bytes(document.reference.encode())
        fitted = {name: Fitted(*hours) for name, hours in document.fitted.items()}
        return cls(reference, document.model, fitted)


_Hours = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Document(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    format: Annotated[str, Field(pattern=f"^{FORMAT}$")]
    version: Annotated[int, Field(ge=1, le=1)]
    model: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    fitted: dict[str, tuple[_Hours, _Hours]]
    reference: str


def merged(own: Own | None, prior: Reference | None, model: str) -> Reference | None:
    """What a camera is judged by under a model.

    Per context and feature, what the camera itself is known by; where it is not, what the prior says; where
    that is silent too, nothing, so that a monitor learns it. Of the detections, what the camera is known by
    counts under the very model that it was seen with. Contexts that the prior alone knows are the fleet's,
    and added: the model was trained for them. A context promises a rate of false alarms only where all that
    is judged in it is the camera's own. Of an own context that nobody told from others (UNNAMED), nothing is
    left beside a prior that tells contexts apart: it would take the frames of all of them.

    Args:
        own: the camera's own reference, if there is one.
        prior: what the model's file brings, or what is configured for it, if there is such a thing. It is
            taken to the own reference's rate and features.
        model: digest of the model that judges.

    Returns:
        None where nothing is known.

    Raises:
        DriftReferenceError: the prior's rate is too far from the camera's, or none of its features is there.
    """
    if own is None:
        return prior
    mine = own.of(model).reference
    if prior is None:
        return mine
    prior = align(at_rate(prior, mine.rate_hz), mine.names, mine.origins)
    known = {context.name: context for context in mine.contexts}
    contexts = [_both(known.pop(theirs.name, None), theirs) for theirs in prior.contexts]
    known.pop(UNNAMED, None)
    return Reference(mine.rate_hz, mine.target_hours, (*contexts, *known.values()), prior.drop)


def is_judged(context: str, own: Own | None, prior: Reference | None) -> bool:
    """Whether frames can be of a context; the arguments are those of `merged`, which says by what.

    Without a prior, a context that is not known may be of the one before or the next; but where the camera
    has told its UNNAMED one apart, no frame is of that any more.
    """
    if prior is not None and prior.context(context) is not None:
        return True
    is_own = own is not None and own.context(context) is not None
    if context == UNNAMED:
        return prior is None and (own is None or is_own)
    return prior is None or is_own


def joined(own: Own | None, made: ContextReference, fitted: Fitted, like: Reference, model: str) -> Own:
    """The own reference with a context that was just made under a model, in place of what it knew of it.

    Args:
        own: what there was, if there was something.
        made: the context; what is unknown or known better in `own` is taken from there.
        fitted: of how much driving it was made.
        like: has the rate, the features and the promise of what was made.
        model: the model's digest.
    """
    if own is None or abs(own.reference.rate_hz - like.rate_hz) > 1e-9:
        return Own(replace(like, contexts=(made,), drop=None), model, {made.name: fitted})
    before = own.of(model)
    aligned = align(before.reference, like.names, like.origins)
    old = aligned.context(made.name)
    others = tuple(one for one in aligned.contexts if one.name != made.name)
    if old is not None:
        seen = before.fitted.get(made.name, Fitted())
        made = _longer(old, made)
        fitted = Fitted(max(seen.hours, fitted.hours), max(seen.model_hours, fitted.model_hours))
    contexts = tuple(sorted((*others, made), key=lambda one: one.name))
    reference = Reference(like.rate_hz, like.target_hours, contexts)
    return Own(reference, model, {**before.fitted, made.name: fitted})


def _both(mine: ContextReference | None, theirs: ContextReference) -> ContextReference:
    if mine is None:
        return theirs
    pairs = list(zip(mine.features, theirs.features, strict=True))
    features = tuple(own if own.known else other for own, other in pairs)
    is_mine = all(own.known or not other.tails for own, other in pairs)
    seen = any(own.tails and own.origin is Origin.PICTURE for own in mine.features)
    return ContextReference(
        mine.name,
        features,
        mine.misfit if seen else theirs.misfit,
        mine.scope if is_mine else Scope.FLEET,
        mine.joint if is_mine else min(mine.joint, theirs.joint),
    )


def _longer(old: ContextReference, new: ContextReference) -> ContextReference:
    """Of each feature, what was made of more frames."""
    pairs = list(zip(old.features, new.features, strict=True))
    features = tuple(after if after.frames >= before.frames else before for before, after in pairs)
    judged = [number for number, one in enumerate(features) if one.tails]
    if all(features[number] is new.features[number] for number in judged):
        return replace(new, features=features)
    of_picture = [number for number in judged if features[number].origin is Origin.PICTURE]
    fresh = all(features[number] is new.features[number] for number in of_picture)
    return ContextReference(
        new.name, features, new.misfit if fresh else old.misfit, new.scope, min(old.joint, new.joint)
    )
