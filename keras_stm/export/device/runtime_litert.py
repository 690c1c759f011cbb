"""Runs the model with LiteRT: `pip install ai-edge-litert`."""

import os


def load(path):
    """Returns a function from `{name: input}` to `{name: output}`, and the shapes of the inputs."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        from tensorflow.lite import Interpreter

    model = Interpreter(path, num_threads=os.cpu_count()).get_signature_runner()
    shapes = {name: tuple(each["shape"]) for name, each in model.get_input_details().items()}
    return lambda inputs: model(**inputs), shapes
