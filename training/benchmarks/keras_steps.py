"""Steps of our networks, in a process of the benchmark that has one backend."""

import logging
import os
import time

import keras
import numpy as np

import keras_stm
from benchmarks.steps import BRANCHES, CLASSES, Steps, reduction
from keras_stm import inference, models

# Products in a row, so that starting them does not count on a GPU.
_PRODUCTS = 10


class KerasSteps(Steps):
    """Steps of the kinds `plain`, `folded`, `training` and, under TensorFlow, `saved_model`."""

    def __init__(self, **options):
        super().__init__(**options)
        # It warns that new models are traced.
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
        self.on_gpu = has_gpu()
        if self.options.mixed_precision == "bfloat16":
            keras.config.set_dtype_policy("mixed_bfloat16")
        if self.options.jit_compile is None:
            self.options.jit_compile = inference.jit_compile()

    def build(self, network, frames):
        size, width = self.options.image_size, self.options.width
        shared = {
            "input_shape": (frames, size, size, 3),
            "classes": CLASSES,
            "data_format": "channels_last",
        }
        depths = tuple(self.options.depths)
        if network == "TSM":
            return models.TSMResNet(depths, width, **shared)
        return models.STMResNet(
            depths, width, branches=BRANCHES[network], reduction=reduction(width), **shared
        )

    def make_step(self, task, kind, network, frames, batch, path):
        clips, labels = self.make_batch(frames, batch)
        if kind == "saved_model":
            return load_saved_model(path, clips)
        model = self.build(network, frames)
        if task == "training":
            model.compile(
                # What it learns is of no interest, and must not become NaN.
                keras_stm.optimizers.SGD(0.0, momentum=0.9),
                loss="sparse_categorical_crossentropy",
                jit_compile=self.options.jit_compile,
            )
            return lambda: model.train_on_batch(clips, labels)
        if kind == "folded":
            model = keras_stm.fold_batch_norm(model)
        model.compile(jit_compile=self.options.jit_compile)
        return lambda: model.predict_on_batch(clips)

    def count(self, network, frames):
        """Multiply-adds of one clip, and numbers that are trained."""
        model = self.build(network, frames)
        size = self.options.image_size
        return {
            "macs": keras_stm.count_macs(model, (frames, size, size, 3)),
            "parameters": sum(int(np.prod(weight.shape)) for weight in model.trainable_weights),
        }

    def export(self, network, frames, folder, onnx):
        """Writes our own export: `saved_model`, its endpoint of prepared clips as `float`, and `model.onnx`.

        The ONNX file has the preparation of frames within it. They are given at the size of the clips: what
        remains are two products of matrices, at 224 pixels less than a fiftieth of the network.
        """
        import tensorflow as tf

        model = self.build(network, frames)
        clip = {"num_frames": frames, "image_size": self.options.image_size}
        path = os.path.join(folder, "saved_model")
        keras_stm.export.save(model, path, **clip)
        loaded = tf.saved_model.load(path)
        tf.saved_model.save(loaded, os.path.join(folder, "float"), signatures=loaded.signatures["float"])
        if onnx:
            path = os.path.join(folder, "model.onnx")
            keras_stm.export.save_onnx(model, path, **clip, resize_size=self.options.image_size)

    def multiply(self, size):
        """FLOP/s of a product of two square matrices in the type that networks are computed in."""
        dtype = keras.config.dtype_policy().compute_dtype
        matrix = keras.random.normal((size, size), stddev=size**-0.5, dtype=dtype)
        product = keras.ops.matmul(matrix, matrix)
        _wait(product)
        start = time.perf_counter()
        for _ in range(_PRODUCTS):
            product = keras.ops.matmul(product, matrix)
        _wait(product)
        return _PRODUCTS * 2 * size**3 / (time.perf_counter() - start)

    def start_up(self, library):
        """Seconds that a ResNet-50 takes to build, ours or that of Keras."""
        start = time.perf_counter()
        if library == "keras":
            keras.applications.ResNet50(weights=None)
        else:
            keras_stm.STMResNet50(weights=None)
        seconds = time.perf_counter() - start
        # What JAX has compiled stays: the next one is to be built in a process that is warm.
        keras.backend.clear_session()
        return seconds

    def clear(self):
        keras.backend.clear_session()
        if keras.backend.backend() == "jax":
            import jax

            jax.clear_caches()
        super().clear()


def _wait(matrix):
    """Until it is computed. NumPy has no bfloat16."""
    keras.ops.convert_to_numpy(keras.ops.cast(matrix[0, 0], "float32"))


def has_gpu():
    """Whether the backend computes on one; Keras' own list of devices is not there for every backend."""
    backend = keras.backend.backend()
    if backend == "torch":
        import torch

        return torch.cuda.is_available()
    if backend == "jax":
        import jax

        return jax.default_backend() != "cpu"
    return bool(keras.distribution.list_devices("gpu"))


def load_saved_model(path, clips):
    import tensorflow as tf

    # Kept by the step: its functions hold the variables only weakly.
    loaded = tf.saved_model.load(path)
    return lambda: loaded.signatures["float"](clip=clips)["scores"].numpy()
