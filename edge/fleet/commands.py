"""Commands from the cloud: each is carried out once, and answered as often as it comes."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from protos.traffic_vision.v1 import fleet_pb2

_log = logging.getLogger(__name__)

_REMEMBERED = 64  # results


@dataclass(frozen=True, slots=True)
class CommandHandlers:
    """What carries out a command: each gives back why it is refused, or None where it is done."""

    sample_request: Callable[[fleet_pb2.SampleRequest], str | None]
    upload_budget: Callable[[fleet_pb2.UploadBudget], str | None]
    status_request: Callable[[fleet_pb2.StatusRequest], str | None]


class CommandDesk:
    """Carries out commands. For one thread."""

    def __init__(self, handlers: CommandHandlers) -> None:
        """Start with nothing remembered."""
        self.carried_out = 0
        self._handlers = handlers
        self._results: OrderedDict[str, fleet_pb2.CommandResult] = OrderedDict()

    def take(self, command: fleet_pb2.Command) -> fleet_pb2.CommandResult:
        """The command's result: of carrying it out, or of the time before when it has come already."""
        known = self._results.get(command.id)
        if known is not None:
            return known
        outcome, detail = self._carry_out(command)
        result = fleet_pb2.CommandResult(command_id=command.id, outcome=outcome, detail=detail)
        self.carried_out += 1
        self._results[command.id] = result
        if len(self._results) > _REMEMBERED:
            self._results.popitem(last=False)
        return result

    def _carry_out(self, command: fleet_pb2.Command) -> tuple[fleet_pb2.CommandOutcome, str]:
        action = command.WhichOneof("action")
        try:
            if action == "sample_request":
                refusal = self._handlers.sample_request(command.sample_request)
            elif action == "upload_budget":
                refusal = self._handlers.upload_budget(command.upload_budget)
            elif action == "status_request":
                refusal = self._handlers.status_request(command.status_request)
            else:
                return fleet_pb2.COMMAND_OUTCOME_UNKNOWN_ACTION, ""
        except Exception:  # noqa: BLE001  # an RPC's top: the cloud hears of it, and the stream goes on
            _log.exception("the command %s failed", action)
            return fleet_pb2.COMMAND_OUTCOME_FAILED, ""
        if refusal is not None:
            return fleet_pb2.COMMAND_OUTCOME_REFUSED, refusal
        return fleet_pb2.COMMAND_OUTCOME_DONE, ""
