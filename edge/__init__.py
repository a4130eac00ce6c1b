"""Train with many sensors, deploy with one: co-learned single-modality students for edge computers."""

import os

__version__ = "0.1.0"

# ONNX Runtime 1.32's wheel for Linux has a telemetry client. Its import alone wrote a device ID and a database below
# ~/.cache/Microsoft; with this variable, set before that import, it wrote nothing: tests/edge/test_edge_telemetry.py.
# "A full non-Windows opt-out", says https://github.com/microsoft/onnxruntime/pull/27379. A user's own value counts.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
