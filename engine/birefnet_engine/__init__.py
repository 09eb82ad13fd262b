"""ONNX to TensorRT plan; see the room's README for what it holds today."""
