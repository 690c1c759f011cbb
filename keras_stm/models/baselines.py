"""The networks that the paper compares STM with: the same ResNet with another block."""

from keras_stm.layers.stm_block import STMBlock
from keras_stm.layers.tsm_block import TSMBlock
from keras_stm.models.resnet import published, resnet


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
    name="tsn_resnet",
):
    """TSN (Wang et al., 2016), the paper's baseline: frames meet only in the average of their scores.

    Arguments, what is returned and raised: as of `STMResNet`.
    """

    def block(stage, index, filters, **kwargs):
        return STMBlock(filters, branches=(), **kwargs)

    return resnet(
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
    name="tsm_resnet",
):
    """TSM (Lin et al., 2019): a temporal shift at the start of each residual branch.

    Arguments, what is returned and raised: as of `STMResNet`.
    """

    def block(stage, index, filters, **kwargs):
        return TSMBlock(filters, **kwargs)

    return resnet(
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
    )


TSNResNet50 = published(TSNResNet, 50, "tsn_resnet50")
TSMResNet50 = published(TSMResNet, 50, "tsm_resnet50")
