"""The networks: STM and the baselines TSN and TSM."""

from keras_stm.models.baselines import TSMResNet, TSMResNet50, TSMResNet101, TSNResNet, TSNResNet50
from keras_stm.models.stm_resnet import STMResNet, STMResNet50, STMResNet101, STMResNet152

__all__ = [
    "STMResNet",
    "STMResNet50",
    "STMResNet101",
    "STMResNet152",
    "TSMResNet",
    "TSMResNet50",
    "TSMResNet101",
    "TSNResNet",
    "TSNResNet50",
]
