"""The networks of published sizes: their names, and their functions in `keras_stm.models`."""

NETWORKS = {
    "stm_resnet50": "STMResNet50",
    "stm_resnet101": "STMResNet101",
    "stm_resnet152": "STMResNet152",
    "tsn_resnet50": "TSNResNet50",
    "tsm_resnet50": "TSMResNet50",
    "tsm_resnet101": "TSMResNet101",
}
