"""A runtime for MLServer that runs a model file with ONNX Runtime: lies beside its `model-settings.json`.

It runs in MLServer's own environment, which has nothing of this project. Loading and running are plain calls
inside the coroutines, as in the runtimes that MLServer brings along.
"""

# mypy: ignore-errors

from __future__ import annotations

import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from mlserver.utils import get_model_uri


class OnnxDetector(MLModel):
    """One model file; `parameters.extra.threads` of one inference."""

    async def load(self) -> bool:
        """Make the session from the file that the repository names."""
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = self.settings.parameters.extra["threads"]
        settings.inter_op_num_threads = 1
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        settings.log_severity_level = 3
        path = await get_model_uri(self.settings)
        session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
        self._input = session.get_inputs()[0].name
        self._session = session
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """One picture to the graph's first output."""
        picture = NumpyCodec.decode_input(payload.inputs[0])
        (output, *_) = self._session.run(None, {self._input: picture})
        encoded = NumpyCodec.encode_output("output0", output)
        return InferenceResponse(model_name=self.name, outputs=[encoded])
