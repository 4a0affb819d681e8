"""What people run by hand."""

import edge  # noqa: F401 - it asks ONNX Runtime for silence, before anything here imports that
