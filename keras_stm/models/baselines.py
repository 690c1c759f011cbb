"""TSN and TSM, the networks that the paper compares STM with: the same ResNet with another block."""

from keras_stm.layers.stm_block import STMBlock
from keras_stm.layers.tsm_block import TSMBlock
from keras_stm.models.resnet import DEPTHS, resnet

# Number of blocks in stage 4 from which TSM shifts every second block.
_DEEP = 23


def TSNResNet(
    depths,
    width=64,
    weights=None,
    include_top=True,
    input_shape=None,
    classes=None,
    classifier_activation="softmax",
    dropout=0.5,
    pooling=None,
    data_format=None,
    dtype=None,
    name="tsn_resnet",
):
    """Returns TSN (Wang et al., 2016), the paper's baseline, which only averages the scores of frames.

    The model accepts clips of any number of frames and any size, preprocessed by
    `keras_stm.preprocess_input`.

    Args:
        depths: number of blocks in each of the four stages, for example `(3, 4, 6, 3)` for ResNet-50.
        width: filters of the stem and bottleneck width of stage 2. Each further stage doubles the width.
        weights: `None` for random weights, `"imagenet"` for a 2-D ResNet of the same depth
            (the head stays random), published video weights such as `"kinetics400"` or
            `"tsn/kinetics400"`, `"hf://user/name"`, or a file of Keras, safetensors or PyTorch. See
            `keras_stm.weights.load_weights`.
        include_top: whether the model ends in the classifier.
        input_shape: `(T, H, W, C)`, or `(T, C, H, W)` with `"channels_first"`. T, H and W may be
            `None`. Defaults to `(None, None, None, 3)`, or `(None, 3, None, None)` with
            `"channels_first"`.
        classes: number of classes. `None` is the number that `weights` have, or 400 if they have no head.
        classifier_activation: activation of the averaged scores. `None` returns logits.
        dropout: dropout rate before the classifier.
        pooling: used with `include_top=False`. `None` returns a 5-D feature map. `"avg"` and
            `"max"` return features that are pooled over time and space.
        data_format: `"channels_last"` or `"channels_first"`; defaults to Keras's global setting.
        dtype: name of a dtype policy, such as `"mixed_bfloat16"`, or a `keras.DTypePolicy`. Defaults to
            Keras's global setting. Scores are always float32.
        name: name of the model.

    Returns:
        A `keras.Model` from clips `(batch, T, H, W, C)` to float32 scores `(batch, classes)`. With
        `include_top=False` it returns features `(batch, T, ceil(H / 32), ceil(W / 32), 32 * width)`, or
        pooled features `(batch, 32 * width)`.

    Raises:
        ValueError: if an argument is invalid, or `weights` cannot be loaded or does not fit the model.
    """

    def block(stage, index, filters, **kwargs):
        return STMBlock(filters, branches=(), **kwargs)

    return resnet(
        block=block,
        depths=depths,
        width=width,
        weights=weights,
        include_top=include_top,
        input_shape=input_shape,
        classes=classes,
        classifier_activation=classifier_activation,
        dropout=dropout,
        pooling=pooling,
        data_format=data_format,
        dtype=dtype,
        name=name,
    )


def TSNResNet50(
    weights=None,
    include_top=True,
    input_shape=None,
    classes=None,
    classifier_activation="softmax",
    dropout=0.5,
    pooling=None,
    data_format=None,
    dtype=None,
    name="tsn_resnet50",
):
    """Returns TSN (Wang et al., 2016) with the depths of ResNet-50, `(3, 4, 6, 3)`: the paper's baseline.

    The model accepts clips of any number of frames and any size, preprocessed by
    `keras_stm.preprocess_input`.

    Args:
        weights: `None` for random weights, `"imagenet"` for a 2-D ResNet of the same depth
            (the head stays random), published video weights such as `"kinetics400"` or
            `"tsn/kinetics400"`, `"hf://user/name"`, or a file of Keras, safetensors or PyTorch. See
            `keras_stm.weights.load_weights`.
        include_top: whether the model ends in the classifier.
        input_shape: `(T, H, W, C)`, or `(T, C, H, W)` with `"channels_first"`. T, H and W may be
            `None`. Defaults to `(None, None, None, 3)`, or `(None, 3, None, None)` with
            `"channels_first"`.
        classes: number of classes. `None` is the number that `weights` have, or 400 if they have no head.
        classifier_activation: activation of the averaged scores. `None` returns logits.
        dropout: dropout rate before the classifier.
        pooling: used with `include_top=False`. `None` returns a 5-D feature map. `"avg"` and
            `"max"` return features that are pooled over time and space.
        data_format: `"channels_last"` or `"channels_first"`; defaults to Keras's global setting.
        dtype: name of a dtype policy, such as `"mixed_bfloat16"`, or a `keras.DTypePolicy`. Defaults to
            Keras's global setting. Scores are always float32.
        name: name of the model.

    Returns:
        A `keras.Model` from clips `(batch, T, H, W, C)` to float32 scores `(batch, classes)`. With
        `include_top=False` it returns features `(batch, T, ceil(H / 32), ceil(W / 32), 2048)`, or
        pooled features `(batch, 2048)`.

    Raises:
        ValueError: if an argument is invalid, or `weights` cannot be loaded or does not fit the model.
    """
    return TSNResNet(
        depths=DEPTHS[50],
        weights=weights,
        include_top=include_top,
        input_shape=input_shape,
        classes=classes,
        classifier_activation=classifier_activation,
        dropout=dropout,
        pooling=pooling,
        data_format=data_format,
        dtype=dtype,
        name=name,
    )


def TSMResNet(
    depths,
    width=64,
    weights=None,
    include_top=True,
    input_shape=None,
    classes=None,
    classifier_activation="softmax",
    dropout=0.5,
    pooling=None,
    causal=False,
    data_format=None,
    dtype=None,
    name="tsm_resnet",
):
    """Returns TSM (Lin et al., 2019), with a temporal shift at the start of each residual branch.

    If stage 4 has 23 or more blocks, as in ResNet-101, every second block shifts, the first of each stage
    included. This is the rule of TSM's code and of mmaction2.

    The model accepts clips of any number of frames and any size, preprocessed by
    `keras_stm.preprocess_input`.

    Args:
        depths: number of blocks in each of the four stages, for example `(3, 4, 6, 3)` for ResNet-50.
        width: filters of the stem and bottleneck width of stage 2. Each further stage doubles the width.
        weights: `None` for random weights, `"imagenet"` for a 2-D ResNet of the same depth
            (the head stays random), published video weights such as `"kinetics400"` or
            `"tsn/kinetics400"`, `"hf://user/name"`, or a file of Keras, safetensors or PyTorch. See
            `keras_stm.weights.load_weights`.
        include_top: whether the model ends in the classifier.
        input_shape: `(T, H, W, C)`, or `(T, C, H, W)` with `"channels_first"`. T, H and W may be
            `None`. Defaults to `(None, None, None, 3)`, or `(None, 3, None, None)` with
            `"channels_first"`.
        classes: number of classes. `None` is the number that `weights` have, or 400 if they have no head.
        classifier_activation: activation of the averaged scores. `None` returns logits.
        dropout: dropout rate before the classifier.
        pooling: used with `include_top=False`. `None` returns a 5-D feature map. `"avg"` and
            `"max"` return features that are pooled over time and space.
        causal: if true, no frame depends on a later one, so that `keras_stm.stream_model` can take frame
            by frame: only the eighth of the channels that reads the previous frame is shifted.
        data_format: `"channels_last"` or `"channels_first"`; defaults to Keras's global setting.
        dtype: name of a dtype policy, such as `"mixed_bfloat16"`, or a `keras.DTypePolicy`. Defaults to
            Keras's global setting. Scores are always float32.
        name: name of the model.

    Returns:
        A `keras.Model` from clips `(batch, T, H, W, C)` to float32 scores `(batch, classes)`. With
        `include_top=False` it returns features `(batch, T, ceil(H / 32), ceil(W / 32), 32 * width)`, or
        pooled features `(batch, 32 * width)`.

    Raises:
        ValueError: if an argument is invalid, or `weights` cannot be loaded or does not fit the model.
    """

    def block(stage, index, filters, **kwargs):
        every = 2 if depths[2] >= _DEEP else 1
        if index % every:
            return STMBlock(filters, branches=(), **kwargs)
        return TSMBlock(filters, causal=causal, **kwargs)

    return resnet(
        block=block,
        depths=depths,
        width=width,
        weights=weights,
        include_top=include_top,
        input_shape=input_shape,
        classes=classes,
        classifier_activation=classifier_activation,
        dropout=dropout,
        pooling=pooling,
        data_format=data_format,
        dtype=dtype,
        name=name,
    )


def TSMResNet50(
    weights=None,
    include_top=True,
    input_shape=None,
    classes=None,
    classifier_activation="softmax",
    dropout=0.5,
    pooling=None,
    causal=False,
    data_format=None,
    dtype=None,
    name="tsm_resnet50",
):
    """Returns TSM (Lin et al., 2019) with the depths of ResNet-50, `(3, 4, 6, 3)`.

    The model accepts clips of any number of frames and any size, preprocessed by
    `keras_stm.preprocess_input`.

    Args:
        weights: `None` for random weights, `"imagenet"` for a 2-D ResNet of the same depth
            (the head stays random), published video weights such as `"kinetics400"` or
            `"tsn/kinetics400"`, `"hf://user/name"`, or a file of Keras, safetensors or PyTorch. See
            `keras_stm.weights.load_weights`.
        include_top: whether the model ends in the classifier.
        input_shape: `(T, H, W, C)`, or `(T, C, H, W)` with `"channels_first"`. T, H and W may be
            `None`. Defaults to `(None, None, None, 3)`, or `(None, 3, None, None)` with
            `"channels_first"`.
        classes: number of classes. `None` is the number that `weights` have, or 400 if they have no head.
        classifier_activation: activation of the averaged scores. `None` returns logits.
        dropout: dropout rate before the classifier.
        pooling: used with `include_top=False`. `None` returns a 5-D feature map. `"avg"` and
            `"max"` return features that are pooled over time and space.
        causal: if true, no frame depends on a later one, so that `keras_stm.stream_model` can take frame
            by frame: only the eighth of the channels that reads the previous frame is shifted.
        data_format: `"channels_last"` or `"channels_first"`; defaults to Keras's global setting.
        dtype: name of a dtype policy, such as `"mixed_bfloat16"`, or a `keras.DTypePolicy`. Defaults to
            Keras's global setting. Scores are always float32.
        name: name of the model.

    Returns:
        A `keras.Model` from clips `(batch, T, H, W, C)` to float32 scores `(batch, classes)`. With
        `include_top=False` it returns features `(batch, T, ceil(H / 32), ceil(W / 32), 2048)`, or
        pooled features `(batch, 2048)`.

    Raises:
        ValueError: if an argument is invalid, or `weights` cannot be loaded or does not fit the model.
    """
    return TSMResNet(
        depths=DEPTHS[50],
        weights=weights,
        include_top=include_top,
        input_shape=input_shape,
        classes=classes,
        classifier_activation=classifier_activation,
        dropout=dropout,
        pooling=pooling,
        causal=causal,
        data_format=data_format,
        dtype=dtype,
        name=name,
    )


def TSMResNet101(
    weights=None,
    include_top=True,
    input_shape=None,
    classes=None,
    classifier_activation="softmax",
    dropout=0.5,
    pooling=None,
    causal=False,
    data_format=None,
    dtype=None,
    name="tsm_resnet101",
):
    """Returns TSM (Lin et al., 2019) with the depths of ResNet-101, `(3, 4, 23, 3)`.

    Every second block shifts, see `TSMResNet`.

    The model accepts clips of any number of frames and any size, preprocessed by
    `keras_stm.preprocess_input`.

    Args:
        weights: `None` for random weights, `"imagenet"` for a 2-D ResNet of the same depth
            (the head stays random), published video weights such as `"kinetics400"` or
            `"tsn/kinetics400"`, `"hf://user/name"`, or a file of Keras, safetensors or PyTorch. See
            `keras_stm.weights.load_weights`.
        include_top: whether the model ends in the classifier.
        input_shape: `(T, H, W, C)`, or `(T, C, H, W)` with `"channels_first"`. T, H and W may be
            `None`. Defaults to `(None, None, None, 3)`, or `(None, 3, None, None)` with
            `"channels_first"`.
        classes: number of classes. `None` is the number that `weights` have, or 400 if they have no head.
        classifier_activation: activation of the averaged scores. `None` returns logits.
        dropout: dropout rate before the classifier.
        pooling: used with `include_top=False`. `None` returns features of five dimensions. `"avg"` and
            `"max"` return features that are pooled over time and space.
        causal: if true, no frame depends on a later one, so that `keras_stm.stream_model` can take frame
            by frame: only the eighth of the channels that reads the previous frame is shifted.
        data_format: `"channels_last"` or `"channels_first"`; defaults to Keras's global setting.
        dtype: name of a dtype policy, such as `"mixed_bfloat16"`, or a `keras.DTypePolicy`. Defaults to
            Keras's global setting. Scores are always float32.
        name: name of the model.

    Returns:
        A `keras.Model` from clips `(batch, T, H, W, C)` to float32 scores `(batch, classes)`. With
        `include_top=False` it returns features `(batch, T, ceil(H / 32), ceil(W / 32), 2048)`, or
        pooled features `(batch, 2048)`.

    Raises:
        ValueError: if an argument is invalid, or `weights` cannot be loaded or does not fit the model.
    """
    return TSMResNet(
        depths=DEPTHS[101],
        weights=weights,
        include_top=include_top,
        input_shape=input_shape,
        classes=classes,
        classifier_activation=classifier_activation,
        dropout=dropout,
        pooling=pooling,
        causal=causal,
        data_format=data_format,
        dtype=dtype,
        name=name,
    )
