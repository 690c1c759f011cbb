"""Figures of clips, features and results. The functions import matplotlib and scikit-image when called."""

from keras_stm.plots.confusion import plot_confusion
from keras_stm.plots.curves import plot_curves
from keras_stm.plots.data import plot_data
from keras_stm.plots.features import (
    BlockFeatures,
    ClassActivation,
    block_features,
    flow_colors,
    grad_cam,
    optical_flow,
    plot_block,
    plot_grad_cam,
    stm_blocks,
)

__all__ = [
    "BlockFeatures",
    "ClassActivation",
    "block_features",
    "flow_colors",
    "grad_cam",
    "optical_flow",
    "plot_block",
    "plot_confusion",
    "plot_curves",
    "plot_data",
    "plot_grad_cam",
    "stm_blocks",
]
