from keras_stm.arguments import one_of, subset_of
from keras_stm.layers.stm_block import BRANCHES, STMBlock
from keras_stm.models.resnet import DEPTHS, STAGES, resnet


def STMResNet(
    depths,
    width=64,
    weights=None,
    include_top=True,
    input_shape=None,
    classes=400,
    classifier_activation="softmax",
    dropout=0.5,
    pooling=None,
    branches=BRANCHES,
    fusion="sum",
    stm_stages=STAGES,
    stm_blocks="all",
    temporal_conv="channelwise",
    reduction=16,
    data_format=None,
    dtype=None,
    name="stm_resnet",
):
    """The STM network: a ResNet whose residual blocks are STM blocks (paper, section 3.3).

    It takes clips of any number of frames and any size, prepared by `keras_stm.preprocess_input`.

    Args:
        depths: number of blocks in each of the four stages, `(3, 4, 6, 3)` for ResNet-50.
        width: filters of the stem and bottleneck width of stage 2; each further stage doubles it.
        weights: `None` for a random start, `"imagenet"` to start from a 2-D ResNet of the same depth
            (the head stays random), or a file: `.weights.h5`, `.keras`, `.safetensors`, or a PyTorch
            `.pth`, `.pt` or `.pth.tar`. See `keras_stm.weights.load_weights`.
        include_top: whether to end in the classifier.
        input_shape: `(T, H, W, C)`, or `(T, C, H, W)` with `"channels_first"`; T, H and W may be
            `None`. Default `(None, None, None, 3)`.
        classes: number of classes.
        classifier_activation: activation of the averaged scores; `None` returns logits.
        dropout: rate in front of the classifier.
        pooling: with `include_top=False`: `None` returns features of five dimensions, `"avg"` and
            `"max"` those pooled over time and space.
        branches: any of `"cstm"` and `"cmm"` (Table 5); `()` is TSN.
        fusion: `"sum"`, `"concat"` or `"mean"` of both branches (Table 6).
        stm_stages: the stages, of 2 to 5, that get STM blocks; the others are ordinary (Table 7).
        stm_blocks: `"all"` blocks of those stages, or the `"first"` of each (Table 7).
        temporal_conv: `"channelwise"` or `"ordinary"` (Table 8).
        reduction: channel reduction of CMM.
        data_format: `"channels_last"` or `"channels_first"`; default Keras' global setting.
        dtype: precision as the name of a dtype policy, such as `"mixed_bfloat16"`, or a
            `keras.DTypePolicy`; default Keras' global setting. Scores are float32 in any case.
        name: name of the model.

    Returns:
        A `keras.Model` from clips `(batch, T, H, W, C)` to float32 scores `(batch, classes)`; with
        `include_top=False` to features `(batch, T, ceil(H / 32), ceil(W / 32), 32 * width)`, or
        `(batch, 32 * width)` where they are pooled.

    Raises:
        ValueError: if an argument is not as above, or `weights` does not fit the model.
    """
    stm_stages = subset_of("stm_stages", stm_stages, STAGES)
    branches = subset_of("branches", branches, BRANCHES)
    one_of("stm_blocks", stm_blocks, ("all", "first"))

    def block(stage, index, filters, **kwargs):
        encodes_time = stage in stm_stages and (stm_blocks == "all" or index == 0)
        return STMBlock(
            filters,
            branches=branches if encodes_time else (),
            fusion=fusion,
            temporal_conv=temporal_conv,
            reduction=reduction,
            **kwargs,
        )

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


def STMResNet50(
    weights=None,
    include_top=True,
    input_shape=None,
    classes=400,
    classifier_activation="softmax",
    dropout=0.5,
    pooling=None,
    branches=BRANCHES,
    fusion="sum",
    stm_stages=STAGES,
    stm_blocks="all",
    temporal_conv="channelwise",
    reduction=16,
    data_format=None,
    dtype=None,
    name="stm_resnet50",
):
    """STM of the depths of ResNet-50, `(3, 4, 6, 3)`: the network of the paper.

    It takes clips of any number of frames and any size, prepared by `keras_stm.preprocess_input`.

    Args:
        weights: `None` for a random start, `"imagenet"` to start from a 2-D ResNet of the same depth
            (the head stays random), or a file: `.weights.h5`, `.keras`, `.safetensors`, or a PyTorch
            `.pth`, `.pt` or `.pth.tar`. See `keras_stm.weights.load_weights`.
        include_top: whether to end in the classifier.
        input_shape: `(T, H, W, C)`, or `(T, C, H, W)` with `"channels_first"`; T, H and W may be
            `None`. Default `(None, None, None, 3)`.
        classes: number of classes.
        classifier_activation: activation of the averaged scores; `None` returns logits.
        dropout: rate in front of the classifier.
        pooling: with `include_top=False`: `None` returns features of five dimensions, `"avg"` and
            `"max"` those pooled over time and space.
        branches: any of `"cstm"` and `"cmm"` (Table 5); `()` is TSN.
        fusion: `"sum"`, `"concat"` or `"mean"` of both branches (Table 6).
        stm_stages: the stages, of 2 to 5, that get STM blocks; the others are ordinary (Table 7).
        stm_blocks: `"all"` blocks of those stages, or the `"first"` of each (Table 7).
        temporal_conv: `"channelwise"` or `"ordinary"` (Table 8).
        reduction: channel reduction of CMM.
        data_format: `"channels_last"` or `"channels_first"`; default Keras' global setting.
        dtype: precision as the name of a dtype policy, such as `"mixed_bfloat16"`, or a
            `keras.DTypePolicy`; default Keras' global setting. Scores are float32 in any case.
        name: name of the model.

    Returns:
        A `keras.Model` from clips `(batch, T, H, W, C)` to float32 scores `(batch, classes)`; with
        `include_top=False` to features `(batch, T, ceil(H / 32), ceil(W / 32), 2048)`, or
        `(batch, 2048)` where they are pooled.

    Raises:
        ValueError: if an argument is not as above, or `weights` does not fit the model.
    """
    return STMResNet(
        depths=DEPTHS[50],
        weights=weights,
        include_top=include_top,
        input_shape=input_shape,
        classes=classes,
        classifier_activation=classifier_activation,
        dropout=dropout,
        pooling=pooling,
        branches=branches,
        fusion=fusion,
        stm_stages=stm_stages,
        stm_blocks=stm_blocks,
        temporal_conv=temporal_conv,
        reduction=reduction,
        data_format=data_format,
        dtype=dtype,
        name=name,
    )


def STMResNet101(
    weights=None,
    include_top=True,
    input_shape=None,
    classes=400,
    classifier_activation="softmax",
    dropout=0.5,
    pooling=None,
    branches=BRANCHES,
    fusion="sum",
    stm_stages=STAGES,
    stm_blocks="all",
    temporal_conv="channelwise",
    reduction=16,
    data_format=None,
    dtype=None,
    name="stm_resnet101",
):
    """STM of the depths of ResNet-101, `(3, 4, 23, 3)`.

    It takes clips of any number of frames and any size, prepared by `keras_stm.preprocess_input`.

    Args:
        weights: `None` for a random start, `"imagenet"` to start from a 2-D ResNet of the same depth
            (the head stays random), or a file: `.weights.h5`, `.keras`, `.safetensors`, or a PyTorch
            `.pth`, `.pt` or `.pth.tar`. See `keras_stm.weights.load_weights`.
        include_top: whether to end in the classifier.
        input_shape: `(T, H, W, C)`, or `(T, C, H, W)` with `"channels_first"`; T, H and W may be
            `None`. Default `(None, None, None, 3)`.
        classes: number of classes.
        classifier_activation: activation of the averaged scores; `None` returns logits.
        dropout: rate in front of the classifier.
        pooling: with `include_top=False`: `None` returns features of five dimensions, `"avg"` and
            `"max"` those pooled over time and space.
        branches: any of `"cstm"` and `"cmm"` (Table 5); `()` is TSN.
        fusion: `"sum"`, `"concat"` or `"mean"` of both branches (Table 6).
        stm_stages: the stages, of 2 to 5, that get STM blocks; the others are ordinary (Table 7).
        stm_blocks: `"all"` blocks of those stages, or the `"first"` of each (Table 7).
        temporal_conv: `"channelwise"` or `"ordinary"` (Table 8).
        reduction: channel reduction of CMM.
        data_format: `"channels_last"` or `"channels_first"`; default Keras' global setting.
        dtype: precision as the name of a dtype policy, such as `"mixed_bfloat16"`, or a
            `keras.DTypePolicy`; default Keras' global setting. Scores are float32 in any case.
        name: name of the model.

    Returns:
        A `keras.Model` from clips `(batch, T, H, W, C)` to float32 scores `(batch, classes)`; with
        `include_top=False` to features `(batch, T, ceil(H / 32), ceil(W / 32), 2048)`, or
        `(batch, 2048)` where they are pooled.

    Raises:
        ValueError: if an argument is not as above, or `weights` does not fit the model.
    """
    return STMResNet(
        depths=DEPTHS[101],
        weights=weights,
        include_top=include_top,
        input_shape=input_shape,
        classes=classes,
        classifier_activation=classifier_activation,
        dropout=dropout,
        pooling=pooling,
        branches=branches,
        fusion=fusion,
        stm_stages=stm_stages,
        stm_blocks=stm_blocks,
        temporal_conv=temporal_conv,
        reduction=reduction,
        data_format=data_format,
        dtype=dtype,
        name=name,
    )


def STMResNet152(
    weights=None,
    include_top=True,
    input_shape=None,
    classes=400,
    classifier_activation="softmax",
    dropout=0.5,
    pooling=None,
    branches=BRANCHES,
    fusion="sum",
    stm_stages=STAGES,
    stm_blocks="all",
    temporal_conv="channelwise",
    reduction=16,
    data_format=None,
    dtype=None,
    name="stm_resnet152",
):
    """STM of the depths of ResNet-152, `(3, 8, 36, 3)`.

    It takes clips of any number of frames and any size, prepared by `keras_stm.preprocess_input`.

    Args:
        weights: `None` for a random start, `"imagenet"` to start from a 2-D ResNet of the same depth
            (the head stays random), or a file: `.weights.h5`, `.keras`, `.safetensors`, or a PyTorch
            `.pth`, `.pt` or `.pth.tar`. See `keras_stm.weights.load_weights`.
        include_top: whether to end in the classifier.
        input_shape: `(T, H, W, C)`, or `(T, C, H, W)` with `"channels_first"`; T, H and W may be
            `None`. Default `(None, None, None, 3)`.
        classes: number of classes.
        classifier_activation: activation of the averaged scores; `None` returns logits.
        dropout: rate in front of the classifier.
        pooling: with `include_top=False`: `None` returns features of five dimensions, `"avg"` and
            `"max"` those pooled over time and space.
        branches: any of `"cstm"` and `"cmm"` (Table 5); `()` is TSN.
        fusion: `"sum"`, `"concat"` or `"mean"` of both branches (Table 6).
        stm_stages: the stages, of 2 to 5, that get STM blocks; the others are ordinary (Table 7).
        stm_blocks: `"all"` blocks of those stages, or the `"first"` of each (Table 7).
        temporal_conv: `"channelwise"` or `"ordinary"` (Table 8).
        reduction: channel reduction of CMM.
        data_format: `"channels_last"` or `"channels_first"`; default Keras' global setting.
        dtype: precision as the name of a dtype policy, such as `"mixed_bfloat16"`, or a
            `keras.DTypePolicy`; default Keras' global setting. Scores are float32 in any case.
        name: name of the model.

    Returns:
        A `keras.Model` from clips `(batch, T, H, W, C)` to float32 scores `(batch, classes)`; with
        `include_top=False` to features `(batch, T, ceil(H / 32), ceil(W / 32), 2048)`, or
        `(batch, 2048)` where they are pooled.

    Raises:
        ValueError: if an argument is not as above, or `weights` does not fit the model.
    """
    return STMResNet(
        depths=DEPTHS[152],
        weights=weights,
        include_top=include_top,
        input_shape=input_shape,
        classes=classes,
        classifier_activation=classifier_activation,
        dropout=dropout,
        pooling=pooling,
        branches=branches,
        fusion=fusion,
        stm_stages=stm_stages,
        stm_blocks=stm_blocks,
        temporal_conv=temporal_conv,
        reduction=reduction,
        data_format=data_format,
        dtype=dtype,
        name=name,
    )
