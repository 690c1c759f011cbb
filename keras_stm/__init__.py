"""STM (Jiang et al., ICCV 2019) for Keras 3: video classification with a 2-D network."""

import importlib

from keras_stm import layers, optimizers, weights
from keras_stm.models import (
    STMResNet,
    STMResNet50,
    STMResNet101,
    STMResNet152,
    TSMResNet,
    TSMResNet50,
    TSMResNet101,
    TSNResNet,
    TSNResNet50,
)
from keras_stm.models.count_macs import count_macs
from keras_stm.models.fold_batch_norm import fold_batch_norm
from keras_stm.models.stream import initial_state, stream_model
from keras_stm.preprocessing import decode_predictions, preprocess_input
from keras_stm.version import __version__

__all__ = [
    "__version__",
    "STMResNet",
    "STMResNet50",
    "STMResNet101",
    "STMResNet152",
    "TSMResNet",
    "TSMResNet50",
    "TSMResNet101",
    "TSNResNet",
    "TSNResNet50",
    "VideoClassifier",
    "count_macs",
    "decode_predictions",
    "fold_batch_norm",
    "initial_state",
    "layers",
    "optimizers",
    "preprocess_input",
    "stream_model",
    "weights",
]

# Imported on first use, because they need packages that models do not need.
_LAZY = ("data", "evaluation", "export", "hub", "inference", "plots", "train")


def __getattr__(name):
    if name in _LAZY:
        return importlib.import_module(f"{__name__}.{name}")
    if name == "VideoClassifier":
        return importlib.import_module(f"{__name__}.video_classifier").VideoClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return [*globals(), *_LAZY, "VideoClassifier"]
