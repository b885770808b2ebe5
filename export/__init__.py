"""Convert both towers of a Perception Encoder to engines in a Triton model repository."""

import os

# onnxruntime reports its use to Microsoft unless told otherwise before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
