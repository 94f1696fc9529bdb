"""The ONNX graph of a quantized model: QDQ form, which onnxruntime turns into integer kernels."""
