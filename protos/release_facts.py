"""The facts of a release, as they stand in the `custom` field of its TUF target: cloud writes, vehicle reads.

They are signed with the target. Readers ignore keys that they don't know, so a fact may be added; a change
that an older reader must not ignore raises the schema number, and a newer schema is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from protos.release_promise import Promise, PromiseError, ShadowFacts, promise_from, shadow_from

SCHEMA = 1
CUSTOM_KEY = "traffic_vision"  # in `custom`, so that others may put facts of their own beside ours
MODELS_ROLE = "models"  # the delegated role that signs releases; its file is N.models.json
MODELS_PATH = "models/"  # targets of that role lie directly under it, a fleet's in a folder of its own
SIGNED_AT_FIELD = "signed_at"  # in the timestamp role: when it was signed, seconds of Unix time

MAX_HARDWARE_IDS = 64
MAX_COUNTER = 2**53 - 1  # whole numbers that every JSON reader keeps

_FLEET = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6}){0,3}")


class FactsError(ValueError):
    """A document or value that describes no release; the message names the field."""


@dataclass(frozen=True, slots=True)
class ReleaseFacts:
    """What a release says of its model file, beside the file's length and hash.

    Attributes:
        release_counter: grows by one with each release of a repository, from 1 on; never reused.
        model_name: of the model file.
        model_version: of the model file.
        model_sha256: of the model file's bytes, 64 lower-case hex digits.
        hardware_ids: what the file is made for, e.g. `x86_64-cpu`; it fits a vehicle that has one of them.
        minimum_daemon_version: an older daemon must not install it; numbers with dots.
        parent_sha256: the model that training began from, None for a first one.
        dataset_sha256: of the dataset it was trained on, where the file says.
        drift_reference_sha256: of the drift reference inside the file, None where there is none.
        fleet: whose vehicles alone may install it; None: those without a fleet.
        shadow: a trial beside the active model before the swap; None: none is asked for.
        promise: what holds of its probation; None: nothing beyond what vehicles ask of every release.
    """

    release_counter: int
    model_name: str
    model_version: str
    model_sha256: str
    hardware_ids: tuple[str, ...]
    minimum_daemon_version: str = "0"
    parent_sha256: str | None = None
    dataset_sha256: str | None = None
    drift_reference_sha256: str | None = None
    fleet: str | None = None
    shadow: ShadowFacts | None = None
    promise: Promise | None = None

    def __post_init__(self) -> None:
        """Refuse values that no release can have.

        Raises:
            FactsError: with the field and its value.
        """
        counter = self.release_counter
        if type(counter) is not int or not 1 <= counter <= MAX_COUNTER:
            raise FactsError(f"release_counter is {_shown(counter)}, expected 1 to {MAX_COUNTER}")
        _check("model_name", self.model_name, _NAME, "letters, digits and ._+-")
        _check("model_version", self.model_version, _NAME, "letters, digits and ._+-")
        _check("model_sha256", self.model_sha256, _SHA256, "64 lower-case hex digits")
        _check("minimum_daemon_version", self.minimum_daemon_version, _VERSION, "numbers with dots")
        if not 1 <= len(self.hardware_ids) <= MAX_HARDWARE_IDS:
            raise FactsError(f"{len(self.hardware_ids)} hardware_ids, expected 1 to {MAX_HARDWARE_IDS}")
        for hardware_id in self.hardware_ids:
            _check("hardware_ids", hardware_id, _NAME, "letters, digits and ._+-")
        for field in ("parent_sha256", "dataset_sha256", "drift_reference_sha256"):
            if getattr(self, field) is not None:
                _check(field, getattr(self, field), _SHA256, "64 lower-case hex digits")
        role_of_fleet(self.fleet)

    @property
    def target_path(self) -> str:
        """Where the release stands in the metadata; the counter in it, so that no two share a path."""
        return f"{path_of_fleet(self.fleet)}{self.model_name}-{self.release_counter}.onnx"

    def to_custom(self) -> dict[str, Any]:
        """Return the target's `custom` field; `from_custom` reads back the same."""
        document = {key: value for key, value in asdict(self).items() if value is not None}
        document["hardware_ids"] = list(self.hardware_ids)
        for key, part in (("shadow", self.shadow), ("promise", self.promise)):
            if part is not None:
                document[key] = part.to_json()
        return {CUSTOM_KEY: {"schema": SCHEMA, **document}}


def role_of_fleet(fleet: str | None) -> str:
    """Return the delegated role that signs a fleet's releases; None: those of vehicles without one.

    Raises:
        FactsError: a fleet cannot be called so.
    """
    if fleet is None:
        return MODELS_ROLE
    _check("fleet", fleet, _FLEET, "up to 32 lower-case letters, digits and inner hyphens")
    return f"{MODELS_ROLE}-{fleet}"


def path_of_fleet(fleet: str | None) -> str:
    """Return the folder that a fleet's targets lie directly under, with a slash at its end.

    Raises:
        FactsError: a fleet cannot be called so.
    """
    role_of_fleet(fleet)
    return MODELS_PATH if fleet is None else f"{MODELS_PATH}{fleet}/"


def from_custom(custom: object) -> ReleaseFacts:
    """Read a target's `custom` field, each fact checked.

    Raises:
        FactsError: it is not of this schema, or a fact is missing or out of bounds.
    """
    document = custom.get(CUSTOM_KEY) if isinstance(custom, Mapping) else None
    if not isinstance(document, Mapping):
        raise FactsError(f"the target has no facts of a release ('{CUSTOM_KEY}' in its custom field)")
    schema = document.get("schema")
    if type(schema) is not int or schema < 1:
        raise FactsError(f"schema is {_shown(schema)}, expected a number from 1 on")
    if schema > SCHEMA:
        raise FactsError(f"the release's facts have schema {schema}, this program reads up to {SCHEMA}")
    hardware_ids = document.get("hardware_ids")
    if not isinstance(hardware_ids, (list, tuple)):
        raise FactsError(f"hardware_ids is {_shown(hardware_ids)}, expected a list")
    try:
        shadow, promise = shadow_from(document.get("shadow")), promise_from(document.get("promise"))
    except PromiseError as error:
        raise FactsError(str(error)) from None
    return ReleaseFacts(
        release_counter=_required(document, "release_counter"),
        model_name=_required(document, "model_name"),
        model_version=_required(document, "model_version"),
        model_sha256=_required(document, "model_sha256"),
        hardware_ids=tuple(hardware_ids),
        minimum_daemon_version=document.get("minimum_daemon_version", "0"),
        parent_sha256=document.get("parent_sha256"),
        dataset_sha256=document.get("dataset_sha256"),
        drift_reference_sha256=document.get("drift_reference_sha256"),
        fleet=document.get("fleet"),
        shadow=shadow,
        promise=promise,
    )


def _required(document: Mapping[str, Any], field: str) -> Any:
    if field not in document:
        raise FactsError(f"{field} is missing")
    return document[field]


def _check(field: str, value: object, pattern: re.Pattern[str], expected: str) -> None:
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        raise FactsError(f"{field} is {_shown(value)}, expected {expected}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
