"""The one ResNet of all models: stem, four stages of bottlenecks, head. Section 3.3 and Fig. 3."""

import inspect
import random

import keras

from keras_stm.arguments import ArgumentError, is_positive_int, one_of, positive_int, standardize_data_format
from keras_stm.layers.batch_norm import batch_norm
from keras_stm.layers.per_frame import (
    FrameMaxPool2D,
    PerFrame,
    frame_conv,
)
from keras_stm.weights import load_weights

STAGES = (2, 3, 4, 5)
DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def resnet(
    block,
    depths,
    width,
    weights,
    include_top,
    input_shape,
    classes,
    classifier_activation,
    dropout,
    pooling,
    data_format,
    name,
):
    """Builds a ResNet v1.5 on clips around a residual block.

    Args:
        block: function `(stage, index, filters, strides=, data_format=, name=)` that makes the layer at
            place `index` (from 0) of stage 2 to 5.
        depths: number of blocks in each of the four stages.
        width: filters of the stem and bottleneck width of stage 2; each further stage doubles it.

    The other arguments, what is returned and raised: as of `STMResNet`.
    """
    valid = isinstance(depths, list | tuple) and len(depths) == len(STAGES)
    if not valid or not all(map(is_positive_int, depths)):
        raise ArgumentError("depths", depths, "must be four positive integers")
    width = positive_int("width", width)
    classes = positive_int("classes", classes)
    one_of("pooling", pooling, (None, "avg", "max"))
    one_of("include_top", include_top, (True, False))
    valid = isinstance(dropout, int | float) and not isinstance(dropout, bool)
    if not valid or not 0 <= dropout < 1:
        raise ArgumentError("dropout", dropout, "must be in [0, 1)")
    try:
        activation = keras.activations.get(classifier_activation)
    except ValueError as error:
        raise ArgumentError(
            "classifier_activation", classifier_activation, "must be a Keras activation or None"
        ) from error
    data_format = standardize_data_format(data_format)
    shared = {"dtype": keras.config.dtype_policy(), "data_format": data_format}

    def per_frame(layer_class, *args, name, **kwargs):
        return PerFrame(layer_class(*args, name="layer", **kwargs, **shared), name=name)

    inputs = keras.Input(standardize_input_shape(input_shape, data_format), name="clip")

    x = frame_conv(width, 7, 2, name="conv1_conv", **shared)(inputs)
    x = batch_norm(name="conv1_bn", **shared)(x)
    x = keras.layers.ReLU(name="conv1_relu")(x)
    # Padded with zeros as PyTorch pads with -inf: the same, behind a ReLU.
    x = per_frame(keras.layers.ZeroPadding2D, 1, name="pool1_pad")(x)
    x = per_frame(FrameMaxPool2D, 3, strides=2, name="pool1_pool")(x)

    for stage, depth in zip(STAGES, depths, strict=True):
        for index in range(depth):
            x = block(
                stage,
                index,
                width * 2 ** (stage - 2),
                strides=2 if index == 0 and stage > 2 else 1,
                data_format=data_format,
                name=f"conv{stage}_block{index + 1}",
            )(x)

    if include_top:
        x = per_frame(keras.layers.GlobalAveragePooling2D, name="avg_pool")(x)
        # Seeded, from what `keras.utils.set_random_seed` sets: else PyTorch would draw from a state of its
        # own, which no checkpoint of Keras holds.
        x = keras.layers.Dropout(dropout, seed=random.randrange(2**31), name="dropout")(x)
        initializer = keras.initializers.RandomNormal(stddev=0.001)
        x = keras.layers.Dense(classes, kernel_initializer=initializer, name="predictions")(x)
        # Scores are averaged before the softmax, and in float32 also under mixed precision.
        x = keras.layers.GlobalAveragePooling1D(
            data_format="channels_last", dtype="float32", name="consensus"
        )(x)
        if classifier_activation is not None:
            x = keras.layers.Activation(activation, dtype="float32", name="scores")(x)
    elif pooling == "avg":
        x = per_frame(keras.layers.GlobalAveragePooling2D, name="avg_pool")(x)
        x = keras.layers.GlobalAveragePooling1D(data_format="channels_last", name="time_pool")(x)
    elif pooling == "max":
        x = per_frame(keras.layers.GlobalMaxPooling2D, name="max_pool")(x)
        x = keras.layers.GlobalMaxPooling1D(data_format="channels_last", name="time_pool")(x)

    model = keras.Model(inputs, x, name=name)
    if weights is not None:
        load_weights(model, weights)
    return model


def standardize_input_shape(input_shape, data_format):
    """`(T, H, W, C)` (or `(T, C, H, W)`) with three channels by default, all else `None`."""
    channels_last = data_format == "channels_last"
    if input_shape is None:
        return (None, None, None, 3) if channels_last else (None, 3, None, None)
    layout = "(T, H, W, C)" if channels_last else "(T, C, H, W)"
    valid = isinstance(input_shape, list | tuple) and len(input_shape) == 4
    if valid:
        channels = input_shape[3 if channels_last else 1]
        valid = channels is not None and all(size is None or is_positive_int(size) for size in input_shape)
    if not valid:
        raise ArgumentError(
            "input_shape", input_shape, f"must be {layout} of positive integers, where all but C may be None"
        )
    return tuple(input_shape)


def published(build, depth, name):
    """The model function `build` at a published depth and width 64, with its other arguments."""

    def model(*args, **kwargs):
        try:
            arguments = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{model.__name__}() {error}") from None
        arguments.apply_defaults()
        return build(depths=DEPTHS[depth], width=64, **arguments.arguments)

    parameters = [
        parameter.replace(default=name) if parameter.name == "name" else parameter
        for parameter in inspect.signature(build).parameters.values()
        if parameter.name not in ("depths", "width")
    ]
    signature = model.__signature__ = inspect.Signature(parameters)
    model.__name__ = model.__qualname__ = f"{build.__name__}{depth}"
    model.__module__ = build.__module__
    model.__doc__ = (
        f"`{build.__name__}` with the depths of ResNet-{depth}, {DEPTHS[depth]}, and width 64.\n\n"
        f"All other arguments, what is returned and raised: as of `{build.__name__}`."
    )
    return model
