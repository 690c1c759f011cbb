"""The layers of a model, one after the other."""

import keras

from keras_stm import keras_compat
from keras_stm.arguments import ArgumentError, functional_model


def layers_of_chain(model):
    """Returns the list of the layers from the input to the output of a model, those of inner models included.

    Raises:
        ValueError: if `model` is not functional, or its layers do not form a chain.
    """
    model = functional_model(model)
    calls = [
        call for call in keras_compat.find_calls(model) if not isinstance(call.layer, keras.layers.InputLayer)
    ]
    layers, tensor = [], model.inputs[0]
    while len(layers) < len(calls):
        following = [call for call in calls if any(each is tensor for each in call.inputs)]
        if len(following) != 1 or len(following[0].inputs) != 1:
            raise ArgumentError("model", model.name, "must be a chain of layers, each with one input")
        (tensor,) = following[0].outputs
        layers.append(following[0].layer)
    flat = []
    for layer in layers:
        flat += layers_of_chain(layer) if isinstance(layer, keras.Model) else [layer]
    return flat
