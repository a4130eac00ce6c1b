"""Train with many sensors, deploy with one: co-learned single-modality students for edge computers."""

import os
import sys

__version__ = "0.1.0"

# ONNX Runtime 1.32's wheel for Linux has a telemetry client. Its import alone wrote a device ID and a database below
# ~/.cache/Microsoft; with this variable, set before that import, it wrote nothing: tests/edge/test_edge_telemetry.py.
# "A full non-Windows opt-out", says https://github.com/microsoft/onnxruntime/pull/27379. A user's own value counts.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# OpenVINO reports its import to Google Analytics through the package openvino-telemetry: it wrote an ID below ~/intel
# and started a process that sends. NNCF writes the ID, too. Both do without the package where it is not installed, and
# None says that it is not. Whoever imported it before edge keeps it.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
