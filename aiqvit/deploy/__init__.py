"""A quantized model as files: packed codes to load again, and an ONNX graph on integer kernels."""
