"""A trained model from its folder, and its scores of clips."""

import os
import typing
import zipfile

import keras
import numpy as np

from keras_stm import model_file

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
    """Loads what `training/fit.py` has trained.

    Args:
        path: the folder of a run, or the `.keras` file in it, which may have moved elsewhere.

    Returns:
        `Trained`.

    Raises:
        ValueError: there is no such file, it holds no model, or does not tell its classes and clips.
    """
    path = os.path.abspath(os.path.expanduser(os.fspath(path)))
    file = os.path.join(path, MODEL) if os.path.isdir(path) else path
    if not os.path.isfile(file):
        raise ValueError(
            f"`path` must be the folder of a finished run, which holds {MODEL}, or a .keras file. "
            f"Received: path={path!r}"
        )
    try:
        model = keras.saving.load_model(file, compile=False)
        class_names, clip = model_file.read_class_names(file), model_file.read_clip(file)
    except (ValueError, TypeError, OSError, KeyError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"`path` holds no model that can be loaded ({reason}). Received: path={path!r}"
        ) from error
    for what, found in ((model_file.CLASS_NAMES, class_names), ("clip.json", clip)):
        if found is None:
            raise ValueError(
                f"`path` holds a model without {what}, which fit.py writes: keras_stm.model_file.annotate "
                f"adds it to a .keras file from elsewhere. Received: path={path!r}"
            )
    if len(class_names) != model.output_shape[-1]:
        raise ValueError(
            f"`path` holds {len(class_names)} class names for {model.output_shape[-1]} scores. "
            f"Received: path={path!r}"
        )
    return Trained(model, class_names, *clip, file)


def predict_fn(model):
    """The function from prepared clips to scores that is fast on this backend and device.

    Args:
        model: a `keras.Model` from clips to scores, of either data format. It is not changed.

    Returns:
        Function of clips `(batch, T, H, W, 3)`, an array or tensor, that returns a float32 array
        `(batch, classes)`. A new shape of clips takes longer, as it is compiled.
    """
    # A copy that shares the weights: how a model is compiled belongs to whoever compiled it.
    copy = keras.Model(model.input, model.output, name=model.name)
    copy.compile(jit_compile=jit_compile())
    transpose = is_channels_first(model)

    def predict(clips):
        if transpose:
            clips = keras.ops.transpose(clips, (0, 1, 4, 2, 3))
        return np.asarray(copy.predict_on_batch(clips), "float32")

    return predict


def is_channels_first(model):
    """Whether a model takes clips `(batch, T, 3, H, W)`, where one that leaves it open takes them last."""
    return model.input_shape[2] == 3 and model.input_shape[4] != 3


def jit_compile():
    """`jit_compile` of a model on this backend and device.

    XLA makes these networks several times slower on a CPU than TensorFlow's own kernels.
    """
    slow = keras.backend.backend() == "tensorflow" and not keras.distribution.list_devices("gpu")
    return False if slow else "auto"
