"""What retrains in the cloud."""

import os

# As in `edge`: ONNX Runtime is asked not to send what it is used for, before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
