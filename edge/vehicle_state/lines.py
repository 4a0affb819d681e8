"""A JSON line as a report of the vehicle: strict, and each refusal names field and value."""

from __future__ import annotations

import json
from typing import NoReturn

from edge.vehicle_state.state import VehicleStateError
from protos.traffic_vision.v1 import common_pb2

LINE_LIMIT_BYTES = 4096

_NUMBERS = ("speed_mps", "latitude_deg", "longitude_deg", "ambient_light_lux")
_IGNITION = {"on": common_pb2.IGNITION_ON, "off": common_pb2.IGNITION_OFF}
FIELDS = (*_NUMBERS, "ignition", "headlights_on")


def parse_line(line: bytes) -> common_pb2.VehicleState:
    """Read `{"speed_mps": 13.2, "ignition": "on", "headlights_on": true}`: the whole state.

    Fields that are missing are not known. Whether the values can be is for `require_possible`.

    Raises:
        VehicleStateError: it is no such line.
    """
    try:
        document = json.loads(line, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise VehicleStateError("the line is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise VehicleStateError(f"the line is no JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise VehicleStateError("the line is nested too deeply") from None
    except ValueError as error:  # a number with thousands of digits
        raise VehicleStateError(f"the line is no JSON: {str(error)[:100]}") from None
    if not isinstance(document, dict):
        raise VehicleStateError(f"the line is {_shown(document)}, expected one object")
    state = common_pb2.VehicleState()
    for name, value in document.items():
        if name in _NUMBERS:
            setattr(state, name, _number(name, value))
        elif name == "ignition":
            if not isinstance(value, str) or value not in _IGNITION:
                raise VehicleStateError(f'ignition is {_shown(value)}, expected "on" or "off"')
            state.ignition = _IGNITION[value]
        elif name == "headlights_on":
            if not isinstance(value, bool):
                raise VehicleStateError(f"headlights_on is {_shown(value)}, expected true or false")
            state.headlights_on = value
        else:
            raise VehicleStateError(f"unknown field {_shown(name)}; known are {', '.join(FIELDS)}")
    return state


def _number(name: str, value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise VehicleStateError(f"{name} is {_shown(value)}, expected a number")
    try:
        return float(value)
    except OverflowError:
        raise VehicleStateError(f"{name} is {_shown(value)}, which is no number that can be") from None


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(name for name, _ in pairs if sum(name == other for other, _ in pairs) > 1)
        raise VehicleStateError(f"field {_shown(twice)} is there twice")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise VehicleStateError(f"a value is {name}, expected a finite number")


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
