"""The ResNet of all models: stem, four stages of bottlenecks, head (paper, section 3.3 and Fig. 3)."""

import random

import keras

from keras_stm.arguments import (
    ArgumentError,
    is_positive_int,
    one_of,
    positive_int,
    standardize_data_format,
    standardize_dtype_policy,
)
from keras_stm.layers.batch_norm import batch_norm
from keras_stm.layers.per_frame import FrameMaxPool2D, PerFrame, frame_conv
from keras_stm.weights.load import put, read_weights
from keras_stm.weights.network import DEPTHS

STAGES = (2, 3, 4, 5)
# Number of classes of Kinetics-400, for a network without weights.
_CLASSES = 400
__all__ = ["DEPTHS", "STAGES", "resnet", "standardize_input_shape"]


def resnet(
    *,
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
    dtype,
    name,
):
    """Builds a ResNet v1.5 on clips from residual blocks.

    `block` is a function `(stage, index, filters, strides=, data_format=, dtype=, name=)`. It returns the
    layer at position `index` (from 0) of a stage from 2 to 5.

    See `STMResNet` for the other arguments, the return value and the exceptions.
    """
    valid = isinstance(depths, list | tuple) and len(depths) == len(STAGES)
    if not valid or not all(map(is_positive_int, depths)):
        raise ArgumentError("depths", depths, "must be four positive integers")
    width = positive_int("width", width)
    one_of("include_top", include_top, (True, False))
    one_of("pooling", pooling, (None, "avg", "max"))
    data_format = standardize_data_format(data_format)
    input_shape = standardize_input_shape(input_shape, data_format)
    shared = {"dtype": standardize_dtype_policy(dtype), "data_format": data_format}
    # Also without the top, because this call checks its arguments.
    add_classifier = _make_classifier(classes, classifier_activation, dropout, shared["dtype"])

    inputs = keras.Input(input_shape, name="clip")
    x = frame_conv(width, 7, 2, name="conv1_conv", **shared)(inputs)
    x = batch_norm(name="conv1_bn", **shared)(x)
    x = keras.layers.ReLU(name="conv1_relu", dtype=shared["dtype"])(x)
    # PyTorch pads with -inf. After a ReLU, zeros have the same effect.
    x = _per_frame(keras.layers.ZeroPadding2D, 1, name="pool1_pad", **shared)(x)
    x = _per_frame(FrameMaxPool2D, 3, strides=2, name="pool1_pool", **shared)(x)

    for stage, depth in zip(STAGES, depths, strict=True):
        for index in range(depth):
            x = block(
                stage,
                index,
                width * 2 ** (stage - 2),
                strides=2 if index == 0 and stage > 2 else 1,
                name=f"conv{stage}_block{index + 1}",
                **shared,
            )(x)

    # Read the weights before the head is made, whose number of classes they may tell.
    source = None if weights is None else read_weights(keras.Model(inputs, x), weights)
    if include_top or pooling == "avg":
        x = _per_frame(keras.layers.GlobalAveragePooling2D, name="avg_pool", **shared)(x)
    elif pooling == "max":
        x = _per_frame(keras.layers.GlobalMaxPooling2D, name="max_pool", **shared)(x)
    if include_top:
        x = add_classifier(x, (source and source.classes) or _CLASSES)
    elif pooling:
        pool = {"avg": keras.layers.GlobalAveragePooling1D, "max": keras.layers.GlobalMaxPooling1D}[pooling]
        x = pool(data_format="channels_last", dtype=shared["dtype"], name="time_pool")(x)

    model = keras.Model(inputs, x, name=name)
    if source is not None:
        put(model, source)
    return model


def _per_frame(layer_class, *args, name, dtype, data_format, **kwargs):
    layer = layer_class(*args, name="layer", dtype=dtype, data_format=data_format, **kwargs)
    return PerFrame(layer, name=name, dtype=dtype)


def _make_classifier(classes, classifier_activation, dropout, dtype):
    """Returns a function that adds the classifier.

    The function turns features of frames `(batch, T, channels)` and the number of classes where `classes` is
    `None` into scores `(batch, classes)`.
    """
    if classes is not None:
        positive_int("classes", classes)
    valid = isinstance(dropout, int | float) and not isinstance(dropout, bool)
    if not valid or not 0 <= dropout < 1:
        raise ArgumentError("dropout", dropout, "must be in [0, 1)")
    try:
        activation = keras.activations.get(classifier_activation)
    except ValueError as error:
        raise ArgumentError(
            "classifier_activation", classifier_activation, "must be a Keras activation or None"
        ) from error

    def add(x, default_classes):
        # Draw the seed from `random`, which `keras.utils.set_random_seed` seeds. Without a seed, PyTorch
        # would use a random state of its own, which Keras checkpoints do not contain.
        x = keras.layers.Dropout(dropout, seed=random.randrange(2**31), dtype=dtype, name="dropout")(x)
        initializer = keras.initializers.RandomNormal(stddev=0.001)
        units = default_classes if classes is None else int(classes)
        x = keras.layers.Dense(units, kernel_initializer=initializer, dtype=dtype, name="predictions")(x)
        # Average the scores before the softmax, and in float32 even under mixed precision.
        x = keras.layers.GlobalAveragePooling1D(
            data_format="channels_last", dtype="float32", name="consensus"
        )(x)
        if classifier_activation is not None:
            x = keras.layers.Activation(activation, dtype="float32", name="scores")(x)
        return x

    return add


def standardize_input_shape(input_shape, data_format):
    """Returns `input_shape` as a tuple, or by default three channels and `None` for T, H and W.

    Raises:
        ValueError: if it is not `(T, H, W, C)`, or `(T, C, H, W)` with `"channels_first"`.
    """
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
            "input_shape", input_shape, f"must be {layout} of positive integers, and all except C may be None"
        )
    return tuple(input_shape)
