"""As much of the Open Inference Protocol (V2, by gRPC) as a peer's client needs.

The messages are put together here from the protocol's own numbers (kserve/open-inference-protocol,
specification/protocol/open_inference_grpc.proto, and Triton's model repository extension): fields that are
not named here are not sent, and are skipped when they come.
"""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "inference"
_SERVICE = f"/{_PACKAGE}.GRPCInferenceService"
_TIMEOUT_S = 30.0
_Field = descriptor_pb2.FieldDescriptorProto
_KINDS = {
    "string": _Field.TYPE_STRING,
    "int64": _Field.TYPE_INT64,
    "bytes": _Field.TYPE_BYTES,
    "bool": _Field.TYPE_BOOL,
}
# message -> (field, number, kind or message, repeated)
_MESSAGES: dict[str, list[tuple[str, int, str, bool]]] = {
    "Tensor": [("name", 1, "string", False), ("datatype", 2, "string", False), ("shape", 3, "int64", True)],
    "ModelInferRequest": [
        ("model_name", 1, "string", False),
        ("inputs", 5, "Tensor", True),
        ("raw_input_contents", 7, "bytes", True),
    ],
    "ModelInferResponse": [
        ("model_name", 1, "string", False),
        ("outputs", 5, "Tensor", True),
        ("raw_output_contents", 6, "bytes", True),
    ],
    "RepositoryModelLoadRequest": [
        ("repository_name", 1, "string", False),
        ("model_name", 2, "string", False),
    ],
    "RepositoryModelLoadResponse": [],
    "ModelReadyRequest": [("name", 1, "string", False)],
    "ModelReadyResponse": [("ready", 1, "bool", False)],
}


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="traffic_vision_bench_v2.proto", package=_PACKAGE, syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, repeated in fields:
            made = message.field.add(name=field, number=number)
            made.label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
            if kind in _KINDS:
                made.type = _KINDS[kind]
            else:
                made.type, made.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    find = pool.FindMessageTypeByName
    return {name: message_factory.GetMessageClass(find(f"{_PACKAGE}.{name}")) for name in _MESSAGES}


class V2Client:
    """One model of one server."""

    def __init__(self, address: str, model: str) -> None:
        """Connect; the server may still be starting."""
        self._model = model
        self._classes = _classes()
        self._channel = grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)])
        self._infer = self._method("ModelInfer")
        self._load = self._method("RepositoryModelLoad")
        self._ready = self._method("ModelReady")

    def is_ready(self, timeout_s: float) -> bool:
        """Whether the server answers within that time, and its model is loaded."""
        request = self._classes["ModelReadyRequest"](name=self._model)
        try:
            return bool(self._ready(request, timeout=timeout_s, wait_for_ready=True).ready)
        except grpc.RpcError:
            return False

    def infer(self, name: str, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """The model's first output, `float32`, for one `uint8` input.

        Raises:
            grpc.RpcError: the server refuses, or is away.
        """
        request = self._classes["ModelInferRequest"](model_name=self._model)
        request.inputs.add(name=name, datatype="UINT8", shape=picture.shape)
        request.raw_input_contents.append(picture.tobytes())
        answer = self._infer(request, timeout=_TIMEOUT_S)
        (output,) = answer.outputs
        content = answer.raw_output_contents[0]
        values: npt.NDArray[np.float32] = np.frombuffer(content, np.float32).reshape(output.shape)
        return values

    def load(self) -> None:
        """Have the model loaded anew from the server's repository. Returns when it is.

        Raises:
            grpc.RpcError: the server refuses, or is away.
        """
        self._load(self._classes["RepositoryModelLoadRequest"](model_name=self._model), timeout=_TIMEOUT_S)

    def close(self) -> None:
        """End the connection."""
        self._channel.close()

    def _method(self, name: str) -> Any:
        answer = self._classes[f"{name}Response"]
        return self._channel.unary_unary(
            f"{_SERVICE}/{name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
