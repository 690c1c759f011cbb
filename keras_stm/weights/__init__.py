"""Loads and saves weights: of this package, of the published PyTorch code and of ImageNet."""

from keras_stm.weights.load import load_weights
from keras_stm.weights.save import save_safetensors

__all__ = ["load_weights", "save_safetensors"]
