"""Writes models for devices under the TensorFlow backend: ONNX, OpenVINO and LiteRT files."""

import os
import tempfile
import warnings

import numpy as np

from keras_stm import preprocessing
from keras_stm.inference import is_channels_first
from keras_stm.models.stream import stream_model

# Smaller weights stay in float32: they need little space.
_HALVED = 1024


def write_device(model, path, format, precision, stream, calibration, num_frames, image_size):
    """Writes the model file of `keras_stm.export.save_device`.

    Args:
        model: model without BatchNormalization.
        path: the file to write.
        format: see `keras_stm.export.save_device`.
        precision: see `keras_stm.export.save_device`.
        stream: see `keras_stm.export.save_device`.
        calibration: path of a `.npy` file of preprocessed clips, or `None`.
        num_frames: see `keras_stm.export.save_device`.
        image_size: see `keras_stm.export.save_device`.
    """
    make = _make_step if stream else _make_clip
    function, inputs = make(model, num_frames, image_size)
    clips = [] if calibration is None else np.load(calibration, mmap_mode="r")
    samples = _Samples(_run_steps if stream else _one_clip, function, inputs, clips)
    _WRITERS[format](function, inputs, path, precision, samples)


def _make_clip(model, num_frames, image_size):
    """Returns a function from pixels of a clip to scores, and `{name: tf.TensorSpec}` of its input."""
    import tensorflow as tf

    def function(clip):
        clip = _normalize(clip)
        if is_channels_first(model):
            clip = tf.transpose(clip, (0, 1, 4, 2, 3))
        return {"scores": tf.cast(model(clip, training=False), tf.float32)}

    return function, {"clip": tf.TensorSpec((1, num_frames, image_size, image_size, 3), tf.float32, "clip")}


def _make_step(model, num_frames, image_size):
    """Returns a function from a frame and a state to scores and the next state, and its inputs."""
    import tensorflow as tf

    stream = stream_model(model, image_size, num_frames)
    specs = {
        name: tf.TensorSpec((1, *tensor.shape[1:]), tensor.dtype, name)
        for name, tensor in stream.input.items()
        if name != "frame"
    }
    channels_first = stream.input["frame"].shape[-1] != 3

    def function(frame, **state):
        frame = _normalize(frame)
        if channels_first:
            frame = tf.transpose(frame, (0, 3, 1, 2))
        following = stream({"frame": frame, **state}, training=False)
        scores = tf.cast(following.pop("scores"), tf.float32)
        # ONNX allows no output with the name of an input.
        return {"scores": scores, **{f"next_{name}": value for name, value in following.items()}}

    return function, {"frame": tf.TensorSpec((1, image_size, image_size, 3), tf.float32, "frame"), **specs}


def _normalize(pixels):
    mean, std = _mean_and_std()
    return (pixels - mean) / std


def _mean_and_std():
    return (np.array(value, "float32") * 255 for value in (preprocessing.MEAN, preprocessing.STD))


class _Samples:
    """Inputs for calibration: an iterable of `{name: array}` that starts anew each time."""

    def __init__(self, iterate, function, inputs, clips):
        import tensorflow as tf

        self._iterate = iterate
        self._function = tf.function(function)
        self._inputs = inputs
        self._clips = clips

    def __len__(self):
        frames = self._clips.shape[1] if "frame" in self._inputs else 1
        return len(self._clips) * frames

    def __iter__(self):
        mean, std = _mean_and_std()
        for clip in self._clips:
            yield from self._iterate(clip * std + mean, self._function, self._inputs)


def _one_clip(clip, function, inputs):
    yield {"clip": clip[np.newaxis]}


def _run_steps(clip, function, inputs):
    """Yields the frames of a clip, each with the state in front of it."""
    state = {name: np.zeros(spec.shape, "float32") for name, spec in inputs.items() if name != "frame"}
    for frame in clip[:, np.newaxis]:
        sample = {"frame": frame, **state}
        yield sample
        outputs = function(**sample)
        state = {name: outputs[f"next_{name}"].numpy() for name in state}


def _write_onnx(function, inputs, path, precision, samples):
    import onnx
    import tensorflow as tf
    import tf2onnx

    proto, _ = tf2onnx.convert.from_function(
        tf.function(lambda *values: function(**dict(zip(inputs, values, strict=True)))),
        list(inputs.values()),
        opset=17,
    )
    if precision == "float16":
        halve(proto)
    if precision != "int8":
        onnx.save(proto, path)
        return

    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        def __init__(self):
            self._samples = iter(samples)

        def get_next(self):
            return next(self._samples, None)

    with tempfile.TemporaryDirectory() as folder:
        exact, prepared = (os.path.join(folder, name) for name in ("exact.onnx", "prepared.onnx"))
        onnx.save(proto, exact)
        quantization.quant_pre_process(exact, prepared, skip_symbolic_shape=True)
        first, *_ = (node.name for node in onnx.load(prepared).graph.node if node.op_type == "Conv")
        # Only convolutions become int8, except for the first: the first and the last layer are small, and
        # decide most of the accuracy. ONNX Runtime is slower with more kinds of operations in int8.
        quantization.quantize_static(
            prepared,
            path,
            Reader(),
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=[first],
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
        )


def halve(proto):
    """Stores the large weights of an ONNX model in float16; they are computed with in float32."""
    import onnx

    graph = proto.graph
    casts = []
    for weight in graph.initializer:
        array = onnx.numpy_helper.to_array(weight)
        if array.dtype == np.float32 and array.size >= _HALVED:
            name = weight.name
            weight.CopyFrom(onnx.numpy_helper.from_array(array.astype("float16"), f"{name}_float16"))
            casts.append(onnx.helper.make_node("Cast", [weight.name], [name], to=onnx.TensorProto.FLOAT))
    # Nodes are in the order of computation.
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _write_openvino(function, inputs, path, precision, samples):
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        # By way of ONNX, whose channels come first: from TensorFlow's graph, int8 is several times slower.
        file = os.path.join(folder, "model.onnx")
        _write_onnx(function, inputs, file, "float32", samples)
        model = openvino.convert_model(file)
        if precision == "int8":
            model = _quantize_openvino(model, samples)
        openvino.save_model(model, path, compress_to_fp16=precision == "float16")


def _quantize_openvino(model, samples):
    import nncf

    scope = None
    if len(model.inputs) > 1:
        # The errors in the states of a step add up. Only convolutions become int8, except for the first.
        operations = model.get_ordered_ops()
        first = next(each for each in operations if each.get_type_name() == "Convolution")
        others = {each.get_type_name() for each in operations} - {"Convolution", "GroupConvolution"}
        scope = nncf.IgnoredScope(names=[first.get_friendly_name()], types=sorted(others), validate=False)
    return nncf.quantize(model, nncf.Dataset(samples), subset_size=len(samples), ignored_scope=scope)


def _write_litert(function, inputs, path, precision, samples):
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        _save_frozen(function, inputs, folder)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        # Small devices have no other operations: a model that needs more fails here.
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if precision == "int8":
            converter.representative_dataset = lambda: iter(samples)
        with warnings.catch_warnings():
            # TensorFlow's converter warns of TensorFlow's own interpreter.
            warnings.filterwarnings("ignore", message="(?s).*tf.lite.Interpreter is deprecated")
            content = converter.convert()
    with open(path, "wb") as file:
        file.write(content)


def _save_frozen(function, inputs, folder):
    """Saves a function without variables, because LiteRT's models would have NaN in their place."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    concrete = tf.function(lambda **values: function(**values)).get_concrete_function(**inputs)
    frozen = convert_variables_to_constants_v2(concrete)
    order = [tensor.name.partition(":")[0] for tensor in frozen.inputs]
    names = sorted(concrete.structured_outputs)

    def signature(**values):
        return dict(zip(names, frozen(*(values[name] for name in order)), strict=True))

    module = tf.Module()
    module.frozen = frozen
    tf.saved_model.save(module, folder, tf.function(signature).get_concrete_function(**inputs))


_WRITERS = {"onnx": _write_onnx, "openvino": _write_openvino, "litert": _write_litert}
