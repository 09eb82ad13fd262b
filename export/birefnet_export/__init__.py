"""Checkpoint to ONNX: the only room that knows PyTorch."""
