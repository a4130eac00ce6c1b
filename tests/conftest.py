import os

# Before anything imports torch: on a busy machine OpenMP's threads wait for each other, and small models train
# ten times slower with two threads than with one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Some tests import onnxruntime before edge, which sets it: edge/__init__.py.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
