"""Loads and saves weights: of this package, of other PyTorch code, published video weights and ImageNet."""

from keras_stm.weights.load import load_weights
from keras_stm.weights.published import class_names
from keras_stm.weights.save import save_safetensors

__all__ = ["class_names", "load_weights", "save_safetensors"]
