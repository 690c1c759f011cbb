"""Formats and precisions of exported models."""

# Formats for devices, and the names of their model files.
MODELS = {"onnx": "model.onnx", "openvino": "model.xml", "litert": "model.tflite"}
FORMATS = ("saved_model", *MODELS, "web")
PRECISIONS = ("float32", "float16", "int8")
