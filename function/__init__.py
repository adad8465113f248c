"""The detector as a function: an image or an image event in, a shelf audit out."""

import os

# ONNX Runtime 1.31 reports home unless told not to before it is imported, which modules here do.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
