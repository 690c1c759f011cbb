"""Runs the model with ONNX Runtime: `pip install onnxruntime`."""

import onnxruntime


def load(path):
    """Returns a function from `{name: input}` to `{name: output}`, and the shapes of the inputs."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    shapes = {each.name: tuple(each.shape) for each in session.get_inputs()}
    return lambda inputs: dict(zip(names, session.run(names, inputs), strict=True)), shapes
