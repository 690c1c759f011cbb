"""Loads trained models, and predicts scores of clips with them."""

import os
import typing

import keras
import numpy as np

from keras_stm import hub, model_file, models
from keras_stm.arguments import ArgumentError, absolute_path, functional_model
from keras_stm.models.precision import in_precision
from keras_stm.models.stream import initial_state, stream_model
from keras_stm.networks import NETWORKS
from keras_stm.preprocessing import center_indices
from keras_stm.weights import files, published

MODEL = model_file.MODEL


class Trained(typing.NamedTuple):
    """A trained model and the settings that are needed to use it.

    Attributes:
        model: `keras.Model` from clips to scores.
        class_names: tuple of str, in the order of the scores.
        num_frames, image_size, sampling, rate: settings of the clips that the model was trained on, see
            `keras_stm.model_file.ClipSettings`.
        file: absolute path of the file with the weights.
        folder: default folder for what is made from the model: the run's, or `saved_models/<name>` for a
            model that is not from a run of this machine.
    """

    model: keras.Model
    class_names: tuple
    num_frames: int
    image_size: int
    sampling: str
    rate: float | None
    file: str
    folder: str


def is_name(path):
    """Returns whether `load` takes `path` as the name of a published model. An existing path wins."""
    is_known = hub.is_address(path) or published.find_full_name(path) is not None
    return is_known and not os.path.exists(path)


def load(path, precision="float32"):
    """Loads a model that `keras-stm fit` has trained, or a published one.

    Code that the file may contain is not run.

    Args:
        path: the folder of a run, or its `.keras` file, which may have moved elsewhere; or the name of a
            published model, such as `"tsm_resnet50/kinetics400"` or `"hf://user/name"`, which is downloaded
            the first time. A folder of that name wins.
        precision: that of the returned model, see `keras_stm.models.precision.in_precision`.

    Returns:
        `Trained`.

    Raises:
        ValueError: there is no such file, or it contains no model, no class names or no settings of clips; or
            the model cannot be downloaded; or `precision` is not as above.
        MemoryError: there is not enough memory for the model. The backend may raise its own error instead.
    """
    folder = None
    if is_name(path):
        folder = os.path.abspath(
            os.path.join("saved_models", path.removeprefix(hub.PREFIX).replace("/", "-"))
        )
        if not hub.is_address(path):
            return _load_published(published.find_full_name(path), folder, precision)
        path = hub.download(path, MODEL)
    path = absolute_path("path", path)
    file = os.path.join(path, MODEL) if os.path.isdir(path) else path
    if not os.path.isfile(file):
        raise ArgumentError(
            "path",
            path,
            f"must be the folder of a finished run, which contains {MODEL}, a .keras file, 'hf://user/name' "
            f"or one of {', '.join(each.full_name for each in published.PUBLISHED)}",
        )
    try:
        model = _load_model(file)
        class_names, clip = model_file.read_class_names(file), model_file.read_clip(file)
        num_scores = model.output_shape[-1]
    except Exception as error:  # damaged files make Keras raise errors of any type
        if _is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ArgumentError("path", path, f"contains no model that can be loaded ({reason})") from error
    for what, found in ((model_file.CLASS_NAMES, class_names), ("clip.json", clip)):
        if found is None:
            raise ArgumentError(
                "path",
                path,
                f"contains a model without {what}, which `keras-stm fit` writes. "
                "keras_stm.model_file.annotate adds it to other .keras files",
            )
    if len(class_names) != num_scores:
        raise ArgumentError("path", path, f"contains {len(class_names)} class names for {num_scores} scores")
    model = in_precision(model, precision)
    return Trained(model, class_names, *clip, file, folder or os.path.dirname(file))


def _load_published(found, folder, precision):
    model = in_precision(getattr(models, NETWORKS[found.network])(weights=found.full_name), precision)
    clip = model_file.ClipSettings(found.frames, published.IMAGE_SIZE, published.SAMPLING)
    file = published.file_of(found, found.full_name)
    return Trained(model, published.class_names(found.full_name), *clip, file, folder)


def _load_model(file):
    files.check_expansion(file)
    model = keras.saving.load_model(file, compile=False)
    for variable in model.weights:
        if not np.isfinite(keras.ops.convert_to_numpy(variable)).all():
            raise ValueError(f"{variable.path} has NaN or infinity")
    return model


def _is_out_of_memory(error):
    """Returns whether an error of Python or of any backend means that memory is exhausted."""
    out_of_memory = ("MemoryError", "ResourceExhaustedError", "OutOfMemoryError")
    return type(error).__name__ in out_of_memory or "RESOURCE_EXHAUSTED" in str(error)


def predict_fn(model):
    """Returns a function from preprocessed clips to scores that is fast on this backend and its devices.

    Under a `tf.distribute` strategy or a `keras.distribution`, the devices share each batch. Call
    `predict_fn` and the returned function in the scope of the strategy. With several processes, all call the
    function at the same time. Each passes the same number of its own clips, and gets their scores.

    Args:
        model: a functional `keras.Model`, or a `Sequential` with a known input shape, from clips to scores,
            of either data format. It is not changed.

    Returns:
        Function that accepts clips `(batch, T, H, W, 3)`, an array or tensor, and returns a float32 array
        `(batch, classes)`. The first call with a new shape is slower, because it compiles the model. On one
        device, several threads may call it at the same time.

    Raises:
        ValueError: `model` is not as above.
    """
    model = functional_model(model)
    inputs, outputs = model.input, model.output
    distribution = keras.distribution.distribution()
    if distribution is not None:
        outputs = _Everywhere(distribution)(outputs)
    # A copy that shares the weights leaves the caller's compile settings unchanged.
    copy = keras.Model(inputs, outputs, name=model.name)
    copy.compile(jit_compile=jit_compile())
    transpose = is_channels_first(model)
    num_devices, process = 1, 0
    if distribution is not None:
        num_devices = distribution.num_model_replicas // distribution.num_processes
        process = distribution.data_shard_id
    elif hasattr(copy, "distribute_strategy"):
        # Models have this attribute under TensorFlow only.
        num_devices = copy.distribute_strategy.num_replicas_in_sync

    on_one_device = _jax_function(model) if keras.backend.backend() == "jax" else copy.predict_on_batch

    def predict(clips):
        if transpose:
            clips = keras.ops.transpose(clips, (0, 1, 4, 2, 3))
        if num_devices == 1 and distribution is None:
            return np.asarray(on_one_device(clips), "float32")
        # All devices need the same number of clips: a smaller batch is padded, and the padding is dropped.
        clips = np.asarray(clips)
        count = len(clips)
        clips = np.concatenate([clips, np.repeat(clips[-1:], -count % num_devices, axis=0)])
        scores = copy.predict(clips, batch_size=len(clips), verbose=0)
        first = process * len(clips)
        return np.asarray(scores[first : first + count], "float32")

    return predict


def _jax_function(model):
    """Returns a compiled function from the inputs of a model to its outputs.

    Keras's own function donates the buffers of the weights, which other threads then cannot read.
    """
    import jax

    @jax.jit
    def call(values, inputs):
        with keras.StatelessScope(list(zip(model.variables, values, strict=True))):
            return model(inputs, training=False)

    return lambda inputs: call(
        [variable.value for variable in model.variables],
        keras.tree.map_structure(keras.ops.convert_to_tensor, inputs),
    )


def frame_scores(model, image_size, num_frames, predict):
    """Returns `StepScores` if a model can be computed frame by frame, and `WindowScores` otherwise.

    Args:
        model: functional `keras.Model` from clips to scores.
        image_size: height and width of a frame.
        num_frames: number of last frames that make up the scores.
        predict: function that `predict_fn` returned for `model`.
    """
    try:
        stream = stream_model(model, image_size, num_frames)
    except ArgumentError:
        return WindowScores(num_frames, predict)
    return StepScores(stream, is_channels_first(model))


class StepScores:
    """Scores after each frame of a stream by a causal model: each frame is computed once, on one device."""

    recomputes = False

    def __init__(self, stream, channels_first):
        self._stream = stream
        self._channels_first = channels_first
        if keras.backend.backend() == "jax":
            self._step = _jax_function(stream)
        else:
            stream.compile(jit_compile=jit_compile())
            stream.make_predict_function()
            # Unlike `predict_on_batch`, this leaves the state on the device.
            self._step = lambda inputs: stream.predict_function([(inputs,)])

    def start(self, streams=1):
        """Returns the state in front of the first frames of a number of streams."""
        return initial_state(self._stream, streams)

    def add(self, frames, state, is_wanted=True):
        """Computes one frame of each stream.

        Args:
            frames: preprocessed frames `(streams, H, W, 3)`.
            state: state after the frames before.
            is_wanted: whether the scores are needed.

        Returns:
            float32 scores `(streams, classes)`, or `None` if they are not wanted; and the next state.
        """
        if self._channels_first:
            frames = np.moveaxis(frames, -1, 1)
        state = dict(self._step({"frame": frames, **state}))
        scores = state.pop("scores")
        return np.asarray(keras.ops.convert_to_numpy(scores), "float32") if is_wanted else None, state


class WindowScores:
    """Scores after each frame of one stream by any model: each is computed from all of its frames again."""

    recomputes = True

    def __init__(self, num_frames, predict):
        self._num_frames = num_frames
        self._predict = predict

    def start(self):
        """See `StepScores.start`."""
        return ()

    def add(self, frames, state, is_wanted=True):
        """See `StepScores.add`."""
        state = (*state, frames)[-self._num_frames :]
        if not is_wanted:
            return None, state
        # Like a short video, the first frames are repeated.
        indices = center_indices(len(state), self._num_frames)
        return self._predict(np.stack([state[index] for index in indices], axis=1)), state


def step_fn(model, image_size, num_frames, streams):
    """Returns a function that takes one frame of each of several streams, on one device.

    Args:
        model: a causal model, see `keras_stm.stream_model`. It is not changed.
        image_size: height and width of a frame.
        num_frames: number of frames whose logits are averaged.
        streams: number of streams.

    Returns:
        Function that accepts preprocessed frames `(streams, H, W, 3)`, and which of them start anew, bool
        `(streams,)`. It returns the scores after these frames, a float32 array `(streams, classes)`.

    Raises:
        ValueError: `model` is not as above.
    """
    steps = StepScores(stream_model(model, image_size, num_frames), is_channels_first(model))
    state = steps.start(streams)

    def step(frames, starts):
        nonlocal state
        if np.any(starts):
            state = {
                name: keras.ops.where(
                    np.reshape(starts, (-1, *[1] * (len(value.shape) - 1))),
                    keras.ops.zeros_like(value),
                    value,
                )
                for name, value in state.items()
            }
        scores, state = steps.add(frames, state)
        return scores

    return step


class _Everywhere(keras.layers.Layer):
    """Copies a tensor that is split over the devices to each device, so that every process can read it."""

    def __init__(self, distribution):
        super().__init__(dtype="float32")
        self.mesh = distribution.device_mesh

    def call(self, inputs):
        layout = keras.distribution.TensorLayout([None] * len(inputs.shape), self.mesh)
        return keras.distribution.distribute_tensor(inputs, layout)

    def compute_output_shape(self, input_shape):
        return input_shape


def is_channels_first(model):
    """Returns whether a model accepts clips `(batch, T, 3, H, W)`; `False` if both formats are possible."""
    return model.input_shape[2] == 3 and model.input_shape[4] != 3


def jit_compile():
    """Returns the value of `jit_compile` for models on this backend and device.

    XLA makes these networks several times slower on a CPU than TensorFlow's own kernels.
    """
    slow = keras.backend.backend() == "tensorflow" and not keras.distribution.list_devices("gpu")
    return False if slow else "auto"
