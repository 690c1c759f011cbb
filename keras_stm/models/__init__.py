"""The networks: STM and the baselines TSN and TSM."""

from keras_stm.models.baselines import TSMResNet, TSMResNet50, TSMResNet101, TSNResNet, TSNResNet50
from keras_stm.models.stm_resnet import STMResNet, STMResNet50, STMResNet101, STMResNet152

__all__ = [
    "NETWORKS",
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

# The networks of published sizes, by name.
NETWORKS = {
    "stm_resnet50": STMResNet50,
    "stm_resnet101": STMResNet101,
    "stm_resnet152": STMResNet152,
    "tsn_resnet50": TSNResNet50,
    "tsm_resnet50": TSMResNet50,
    "tsm_resnet101": TSMResNet101,
}
