"""The STM networks."""

from keras_stm.arguments import one_of, subset_of
from keras_stm.layers.stm_block import BRANCHES, STMBlock
from keras_stm.models.resnet import DEPTHS, STAGES, resnet


def STMResNet(
    depths,
    width=64,
    weights=None,
    include_top=True,
    input_shape=None,
    classes=None,
    classifier_activation="softmax",
    dropout=0.5,
    pooling=None,
    branches=BRANCHES,
    fusion="sum",
    stm_stages=STAGES,
    stm_blocks="all",
    temporal_conv="channelwise",
    reduction=16,
    causal=False,
    data_format=None,
    dtype=None,
    name="stm_resnet",
):
    """Returns an STM network: a ResNet whose residual blocks are STM blocks (paper, section 3.3).

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
        branches: any of `"cstm"` and `"cmm"` (Table 5). `()` is TSN.
        fusion: `"sum"`, `"concat"` or `"mean"` of both branches (Table 6).
        stm_stages: stages from 2 to 5 with STM blocks. The other stages have ordinary blocks (Table 7).
        stm_blocks: `"all"` if all blocks of these stages are STM blocks, or `"first"` if only the first
            block of each stage is one (Table 7).
        temporal_conv: temporal convolution of CSTM, `"channelwise"` or `"ordinary"` (Table 8).
        reduction: channel reduction of CMM.
        causal: if true, no frame depends on a later one, so that `keras_stm.stream_model` can take frame
            by frame. The weights have the same names and shapes as those of the paper's network.
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
            causal=causal,
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
    classes=None,
    classifier_activation="softmax",
    dropout=0.5,
    pooling=None,
    branches=BRANCHES,
    fusion="sum",
    stm_stages=STAGES,
    stm_blocks="all",
    temporal_conv="channelwise",
    reduction=16,
    causal=False,
    data_format=None,
    dtype=None,
    name="stm_resnet50",
):
    """Returns STM with the depths of ResNet-50, `(3, 4, 6, 3)`: the network of the paper.

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
        branches: any of `"cstm"` and `"cmm"` (Table 5). `()` is TSN.
        fusion: `"sum"`, `"concat"` or `"mean"` of both branches (Table 6).
        stm_stages: stages from 2 to 5 with STM blocks. The other stages have ordinary blocks (Table 7).
        stm_blocks: `"all"` if all blocks of these stages are STM blocks, or `"first"` if only the first
            block of each stage is one (Table 7).
        temporal_conv: temporal convolution of CSTM, `"channelwise"` or `"ordinary"` (Table 8).
        reduction: channel reduction of CMM.
        causal: if true, no frame depends on a later one, so that `keras_stm.stream_model` can take frame
            by frame. The weights have the same names and shapes as those of the paper's network.
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
        causal=causal,
        data_format=data_format,
        dtype=dtype,
        name=name,
    )


def STMResNet101(
    weights=None,
    include_top=True,
    input_shape=None,
    classes=None,
    classifier_activation="softmax",
    dropout=0.5,
    pooling=None,
    branches=BRANCHES,
    fusion="sum",
    stm_stages=STAGES,
    stm_blocks="all",
    temporal_conv="channelwise",
    reduction=16,
    causal=False,
    data_format=None,
    dtype=None,
    name="stm_resnet101",
):
    """Returns STM with the depths of ResNet-101, `(3, 4, 23, 3)`.

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
        branches: any of `"cstm"` and `"cmm"` (Table 5). `()` is TSN.
        fusion: `"sum"`, `"concat"` or `"mean"` of both branches (Table 6).
        stm_stages: stages from 2 to 5 with STM blocks. The other stages have ordinary blocks (Table 7).
        stm_blocks: `"all"` if all blocks of these stages are STM blocks, or `"first"` if only the first
            block of each stage is one (Table 7).
        temporal_conv: temporal convolution of CSTM, `"channelwise"` or `"ordinary"` (Table 8).
        reduction: channel reduction of CMM.
        causal: if true, no frame depends on a later one, so that `keras_stm.stream_model` can take frame
            by frame. The weights have the same names and shapes as those of the paper's network.
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
        causal=causal,
        data_format=data_format,
        dtype=dtype,
        name=name,
    )


def STMResNet152(
    weights=None,
    include_top=True,
    input_shape=None,
    classes=None,
    classifier_activation="softmax",
    dropout=0.5,
    pooling=None,
    branches=BRANCHES,
    fusion="sum",
    stm_stages=STAGES,
    stm_blocks="all",
    temporal_conv="channelwise",
    reduction=16,
    causal=False,
    data_format=None,
    dtype=None,
    name="stm_resnet152",
):
    """Returns STM with the depths of ResNet-152, `(3, 8, 36, 3)`.

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
        branches: any of `"cstm"` and `"cmm"` (Table 5). `()` is TSN.
        fusion: `"sum"`, `"concat"` or `"mean"` of both branches (Table 6).
        stm_stages: stages from 2 to 5 with STM blocks. The other stages have ordinary blocks (Table 7).
        stm_blocks: `"all"` if all blocks of these stages are STM blocks, or `"first"` if only the first
            block of each stage is one (Table 7).
        temporal_conv: temporal convolution of CSTM, `"channelwise"` or `"ordinary"` (Table 8).
        reduction: channel reduction of CMM.
        causal: if true, no frame depends on a later one, so that `keras_stm.stream_model` can take frame
            by frame. The weights have the same names and shapes as those of the paper's network.
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
        causal=causal,
        data_format=data_format,
        dtype=dtype,
        name=name,
    )
