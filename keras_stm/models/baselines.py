"""TSN and TSM, the networks that the paper compares STM with: the same ResNet with another block."""

from keras_stm.layers.stm_block import STMBlock
from keras_stm.layers.tsm_block import TSMBlock
from keras_stm.models.resnet import DEPTHS, resnet


def TSNResNet(
    depths,
    width=64,
    weights=None,
    include_top=True,
    input_shape=None,
    classes=400,
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
            (the head stays random), or a file: `.weights.h5`, `.keras`, `.safetensors`, or a PyTorch
            `.pth`, `.pt` or `.pth.tar`. See `keras_stm.weights.load_weights`.
        include_top: whether the model ends in the classifier.
        input_shape: `(T, H, W, C)`, or `(T, C, H, W)` with `"channels_first"`. T, H and W may be
            `None`. Defaults to `(None, None, None, 3)`, or `(None, 3, None, None)` with
            `"channels_first"`.
        classes: number of classes.
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
    classes=400,
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
            (the head stays random), or a file: `.weights.h5`, `.keras`, `.safetensors`, or a PyTorch
            `.pth`, `.pt` or `.pth.tar`. See `keras_stm.weights.load_weights`.
        include_top: whether the model ends in the classifier.
        input_shape: `(T, H, W, C)`, or `(T, C, H, W)` with `"channels_first"`. T, H and W may be
            `None`. Defaults to `(None, None, None, 3)`, or `(None, 3, None, None)` with
            `"channels_first"`.
        classes: number of classes.
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
    classes=400,
    classifier_activation="softmax",
    dropout=0.5,
    pooling=None,
    data_format=None,
    dtype=None,
    name="tsm_resnet",
):
    """Returns TSM (Lin et al., 2019), with a temporal shift at the start of each residual branch.

    The model accepts clips of any number of frames and any size, preprocessed by
    `keras_stm.preprocess_input`.

    Args:
        depths: number of blocks in each of the four stages, for example `(3, 4, 6, 3)` for ResNet-50.
        width: filters of the stem and bottleneck width of stage 2. Each further stage doubles the width.
        weights: `None` for random weights, `"imagenet"` for a 2-D ResNet of the same depth
            (the head stays random), or a file: `.weights.h5`, `.keras`, `.safetensors`, or a PyTorch
            `.pth`, `.pt` or `.pth.tar`. See `keras_stm.weights.load_weights`.
        include_top: whether the model ends in the classifier.
        input_shape: `(T, H, W, C)`, or `(T, C, H, W)` with `"channels_first"`. T, H and W may be
            `None`. Defaults to `(None, None, None, 3)`, or `(None, 3, None, None)` with
            `"channels_first"`.
        classes: number of classes.
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
        return TSMBlock(filters, **kwargs)

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
    classes=400,
    classifier_activation="softmax",
    dropout=0.5,
    pooling=None,
    data_format=None,
    dtype=None,
    name="tsm_resnet50",
):
    """Returns TSM (Lin et al., 2019) with the depths of ResNet-50, `(3, 4, 6, 3)`.

    The model accepts clips of any number of frames and any size, preprocessed by
    `keras_stm.preprocess_input`.

    Args:
        weights: `None` for random weights, `"imagenet"` for a 2-D ResNet of the same depth
            (the head stays random), or a file: `.weights.h5`, `.keras`, `.safetensors`, or a PyTorch
            `.pth`, `.pt` or `.pth.tar`. See `keras_stm.weights.load_weights`.
        include_top: whether the model ends in the classifier.
        input_shape: `(T, H, W, C)`, or `(T, C, H, W)` with `"channels_first"`. T, H and W may be
            `None`. Defaults to `(None, None, None, 3)`, or `(None, 3, None, None)` with
            `"channels_first"`.
        classes: number of classes.
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
    return TSMResNet(
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
