"""A trained model from its folder, and its scores of clips."""

import os
import typing

import keras
import numpy as np

from keras_stm import model_file
from keras_stm.arguments import ArgumentError, absolute_path, functional_model
from keras_stm.weights import files

MODEL = "model.keras"


class Trained(typing.NamedTuple):
    """A model and what there is to know to use it.

    Attributes:
        model: `keras.Model` from clips to scores.
        class_names: tuple of str, in the order of the scores.
        num_frames, image_size, sampling: of the clips that it was trained on, see
            `keras_stm.data.make_pipeline`.
        file: absolute path of the `.keras` file.
    """

    model: keras.Model
    class_names: tuple
    num_frames: int
    image_size: int
    sampling: str
    file: str


def load(path):
    """Loads what `keras-stm fit` has trained.

    Args:
        path: the folder of a run, or the `.keras` file in it, which may have moved elsewhere.

    Returns:
        `Trained`.

    Raises:
        ValueError: there is no such file, it holds no model, or does not tell its classes and clips.
            Nothing that the file may hold of code is run.
        MemoryError: there is not enough for the model.
    """
    path = absolute_path("path", path)
    file = os.path.join(path, MODEL) if os.path.isdir(path) else path
    if not os.path.isfile(file):
        raise ArgumentError(
            "path", path, f"must be the folder of a finished run, which holds {MODEL}, or a .keras file"
        )
    try:
        model = _load_model(file)
        class_names, clip = model_file.read_class_names(file), model_file.read_clip(file)
        num_scores = model.output_shape[-1]
    except Exception as error:  # what a file may hold makes Keras raise any
        if _is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ArgumentError("path", path, f"holds no model that can be loaded ({reason})") from error
    for what, found in ((model_file.CLASS_NAMES, class_names), ("clip.json", clip)):
        if found is None:
            raise ArgumentError(
                "path",
                path,
                f"holds a model without {what}, which `keras-stm fit` writes: keras_stm.model_file.annotate "
                "adds it to a .keras file from elsewhere",
            )
    if len(class_names) != num_scores:
        raise ArgumentError("path", path, f"holds {len(class_names)} class names for {num_scores} scores")
    return Trained(model, class_names, *clip, file)


def _load_model(file):
    files.check_expansion(file)
    model = keras.saving.load_model(file, compile=False)
    for variable in model.weights:
        if not np.isfinite(keras.ops.convert_to_numpy(variable)).all():
            raise ValueError(f"{variable.path} has NaN or infinity")
    return model


def _is_out_of_memory(error):
    """Whether an error, of whatever backend, says that there is not enough memory."""
    out_of_memory = ("MemoryError", "ResourceExhaustedError", "OutOfMemoryError")
    return type(error).__name__ in out_of_memory or "RESOURCE_EXHAUSTED" in str(error)


def predict_fn(model):
    """The function from prepared clips to scores that is fast on this backend and its devices.

    Under a `tf.distribute` strategy or a `keras.distribution`, in whose scope it must be made and called,
    the devices share each batch. Of several processes each gives its own clips, as many as the others at
    the same time, and has the scores of its own.

    Args:
        model: a functional `keras.Model`, or a `Sequential` that knows its input, from clips to scores, of
            either data format. It is not changed.

    Returns:
        Function of clips `(batch, T, H, W, 3)`, an array or tensor, that returns a float32 array
        `(batch, classes)`. A new shape of clips takes longer, as it is compiled.

    Raises:
        ValueError: `model` is not as above.
    """
    model = functional_model(model)
    inputs, outputs = model.input, model.output
    distribution = keras.distribution.distribution()
    if distribution is not None:
        outputs = _Everywhere(distribution)(outputs)
    # A copy that shares the weights: how a model is compiled belongs to whoever compiled it.
    copy = keras.Model(inputs, outputs, name=model.name)
    copy.compile(jit_compile=jit_compile())
    transpose = is_channels_first(model)
    num_devices, process = 1, 0
    if distribution is not None:
        num_devices = distribution.num_model_replicas // distribution.num_processes
        process = distribution.data_shard_id
    elif hasattr(copy, "distribute_strategy"):
        # A model has it under TensorFlow.
        num_devices = copy.distribute_strategy.num_replicas_in_sync

    def predict(clips):
        if transpose:
            clips = keras.ops.transpose(clips, (0, 1, 4, 2, 3))
        if num_devices == 1 and distribution is None:
            return np.asarray(copy.predict_on_batch(clips), "float32")
        # Each device takes as many: what fills up a smaller batch is dropped again.
        clips = np.asarray(clips)
        count = len(clips)
        clips = np.concatenate([clips, np.repeat(clips[-1:], -count % num_devices, axis=0)])
        scores = copy.predict(clips, batch_size=len(clips), verbose=0)
        first = process * len(clips)
        return np.asarray(scores[first : first + count], "float32")

    return predict


class _Everywhere(keras.layers.Layer):
    """Copies what is spread over the devices to each of them, as no process could read it otherwise."""

    def __init__(self, distribution):
        super().__init__(dtype="float32")
        self.mesh = distribution.device_mesh

    def call(self, inputs):
        layout = keras.distribution.TensorLayout([None] * len(inputs.shape), self.mesh)
        return keras.distribution.distribute_tensor(inputs, layout)

    def compute_output_shape(self, input_shape):
        return input_shape


def is_channels_first(model):
    """Whether a model takes clips `(batch, T, 3, H, W)`, where one that leaves it open takes them last."""
    return model.input_shape[2] == 3 and model.input_shape[4] != 3


def jit_compile():
    """`jit_compile` of a model on this backend and device.

    XLA makes these networks several times slower on a CPU than TensorFlow's own kernels.
    """
    slow = keras.backend.backend() == "tensorflow" and not keras.distribution.list_devices("gpu")
    return False if slow else "auto"
