"""Train with many sensors, deploy with one: co-learned single-modality students for edge computers."""

import os

__version__ = "0.1.0"

# ONNX Runtime 1.32 reports to its makers from the moment that it is imported, on Linux, too; nothing else stops that.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
