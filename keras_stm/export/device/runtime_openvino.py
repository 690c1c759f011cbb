"""Runs the model with OpenVINO: `pip install openvino`."""

import json
import os

import openvino


def load(path):
    """Returns a function from `{name: input}` to `{name: output}`, and the shapes of the inputs."""
    with open(os.path.join(os.path.dirname(path), "settings.json"), encoding="utf-8") as file:
        is_exact = json.load(file)["precision"] == "float32"
    # Otherwise OpenVINO computes in bfloat16 where the processor has it.
    options = {"INFERENCE_PRECISION_HINT": "f32"} if is_exact else {}
    model = openvino.Core().compile_model(path, "CPU", options)
    names = [each.get_any_name() for each in model.outputs]
    shapes = {each.get_any_name(): tuple(each.shape) for each in model.inputs}

    def run(inputs):
        outputs = model(inputs)
        # A copy, because the next call overwrites the memory of the outputs.
        return {name: outputs[index].copy() for index, name in enumerate(names)}

    return run, shapes
