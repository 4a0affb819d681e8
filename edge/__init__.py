"""What runs on the vehicle."""

import os

__version__ = "0.3.0"

# ONNX Runtime, from 1.32 on, keeps a device's id and what it is used for in ~/.cache/Microsoft, to be sent to
# Microsoft, unless this is set before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
