"""Steps of keras_stm's networks, in a worker process with one backend."""

import logging
import os
import time

import keras
import numpy as np

import keras_stm
from benchmarks.steps import BRANCHES, CLASSES, Steps, reduction
from keras_stm import inference, models
from keras_stm.models.precision import in_precision

# Products that are timed together, because a single one would include its launch time on a GPU.
_PRODUCTS = 10


class KerasSteps(Steps):
    """Steps of the kinds `plain`, `folded`, `bfloat16`, `training` and, under TensorFlow, `saved_model`.

    There are also two kinds of a causal network: `step`, one frame of a stream, and `window`, the whole clip.
    """

    def __init__(self, **options):
        super().__init__(**options)
        # TensorFlow warns that each new model is traced.
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
        self.on_gpu = has_gpu()
        if self.options.mixed_precision == "bfloat16":
            keras.config.set_dtype_policy("mixed_bfloat16")
        if self.options.jit_compile is None:
            self.options.jit_compile = inference.jit_compile()

    def build(self, network, frames, **arguments):
        """Returns a network, any of `NETWORKS`, for clips of `frames` frames."""
        size, width = self.options.image_size, self.options.width
        shared = {
            "input_shape": (frames, size, size, 3),
            "classes": CLASSES,
            "data_format": "channels_last",
            **arguments,
        }
        depths = tuple(self.options.depths)
        if network == "TSM":
            return models.TSMResNet(depths, width, **shared)
        return models.STMResNet(
            depths, width, branches=BRANCHES[network], reduction=reduction(width), **shared
        )

    def make_step(self, task, kind, network, frames, batch, path):
        """See `Steps.make_step`."""
        clips, labels = self.make_batch(frames, batch)
        if kind == "saved_model":
            return load_saved_model(path, clips)
        if kind == "step":
            return self.make_stream_step(network, clips)
        model = self.build(network, frames, **({"causal": True} if kind == "window" else {}))
        if task == "training":
            model.compile(
                # A learning rate of 0 keeps the weights from becoming NaN.
                keras_stm.optimizers.SGD(0.0, momentum=0.9),
                loss="sparse_categorical_crossentropy",
                jit_compile=self.options.jit_compile,
            )
            return lambda: model.train_on_batch(clips, labels)
        if kind == "folded":
            model = keras_stm.fold_batch_norm(model)
        elif kind == "bfloat16":
            model = in_precision(model, "bfloat16")
        model.compile(jit_compile=self.options.jit_compile)
        return lambda: model.predict_on_batch(clips)

    def make_stream_step(self, network, clips):
        """Returns one frame of a stream, as `VideoClassifier.stream` computes it."""
        model = self.build(network, clips.shape[1], causal=True)
        scores = inference.frame_scores(
            model, self.options.image_size, clips.shape[1], inference.predict_fn(model)
        )
        state = scores.start()

        def step():
            nonlocal state
            answer, state = scores.add(clips[:1, 0], state)
            return answer

        return step

    def count(self, network, frames):
        """Returns the multiply-adds of one clip and the number of trainable parameters."""
        model = self.build(network, frames)
        size = self.options.image_size
        return {
            "macs": keras_stm.count_macs(model, (frames, size, size, 3)),
            "parameters": sum(int(np.prod(weight.shape)) for weight in model.trainable_weights),
        }

    def export(self, network, frames, folder, onnx):
        """Exports a network: `saved_model`, `float` (its signature for preprocessed clips), `model.onnx`.

        The ONNX model preprocesses frames itself. Its frames have the size of the clips, so the preprocessing
        is two matrix products. At 224 pixels these cost less than a fiftieth of the network.

        Args:
            network: any of `NETWORKS`.
            frames: frames in a clip.
            folder: the folder to write into.
            onnx: whether to write `model.onnx`.
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
        """Returns the FLOP/s of a product of two square matrices, in the networks' compute type."""
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
        """Returns the seconds to build a ResNet-50 of `library`, "keras" or "keras_stm"."""
        start = time.perf_counter()
        if library == "keras":
            keras.applications.ResNet50(weights=None)
        else:
            keras_stm.STMResNet50(weights=None)
        seconds = time.perf_counter() - start
        # The functions that JAX has compiled stay: the next build is timed in a warm process.
        keras.backend.clear_session()
        return seconds

    def clear(self):
        """See `Steps.clear`."""
        keras.backend.clear_session()
        if keras.backend.backend() == "jax":
            import jax

            jax.clear_caches()
        super().clear()


def _wait(matrix):
    """Waits until a matrix is computed."""
    # The cast is needed because NumPy has no bfloat16.
    keras.ops.convert_to_numpy(keras.ops.cast(matrix[0, 0], "float32"))


def has_gpu():
    """Returns whether the backend computes on a GPU; Keras cannot list the devices of every backend."""
    backend = keras.backend.backend()
    if backend == "torch":
        import torch

        return torch.cuda.is_available()
    if backend == "jax":
        import jax

        return jax.default_backend() != "cpu"
    return bool(keras.distribution.list_devices("gpu"))


def load_saved_model(path, clips):
    """Returns an inference step of the exported SavedModel."""
    import tensorflow as tf

    # The step keeps `loaded`, because a signature holds only weak references to the variables.
    loaded = tf.saved_model.load(path)
    return lambda: loaded.signatures["float"](clip=clips)["scores"].numpy()
