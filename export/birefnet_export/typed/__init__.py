"""The typed graph for TensorRT: precision written into the file, and its proof without a GPU."""
