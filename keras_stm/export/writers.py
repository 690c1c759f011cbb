"""Writes exported files under the TensorFlow backend. Runs as a process for the other backends."""

import contextlib
import functools
import json
import os
import sys

import keras

from keras_stm.class_names import index_names, to_lines
from keras_stm.export import example, graph
from keras_stm.export.device_writers import halve, write_device
from keras_stm.inference import is_channels_first
from keras_stm.models.stream import stream_model

CLIP_SHAPE = (None, None, None, None, 3)
_FRAME_SHAPE = (None, None, None, 3)


def write_saved_model(model, path, class_names, top_k, stream, half, **clip):
    """Writes the folder that `keras_stm.export.save` describes.

    Args:
        model: model without BatchNormalization.
        path: a folder that is empty, or does not exist.
        class_names: see `keras_stm.export.save`.
        top_k: see `keras_stm.export.save`.
        stream: whether to add the signatures of a model from frame to frame.
        half: whether to store the weights in float16.
        **clip: further arguments of `graph.prepare_clips`.
    """
    import tensorflow as tf

    scope = _stored_in_half(model) if half else contextlib.nullcontext
    classes = model.output_shape[-1]
    names = tf.constant(class_names or index_names(classes))

    def named(scores):
        top_scores, indices = tf.math.top_k(scores, min(top_k, classes))
        return {"scores": scores, "labels": tf.gather(names, indices), "top_scores": top_scores}

    # A separate function, so that all signatures share one graph of the model.
    @tf.function(input_signature=[tf.TensorSpec(_channels_last(model.input_shape), tf.float32)])
    def answer(clips):
        with scope():
            return named(_scores(model, graph.check_clips(clips)))

    def prepare_images(images):
        frames = graph.decode_clip(images, clip["num_frames"], clip["sampling"])
        return graph.prepare_clips(frames[tf.newaxis], **clip)[0]

    def prepare_batch(images):
        shape = (clip["num_frames"], clip["image_size"], clip["image_size"], 3)
        return tf.map_fn(prepare_images, images, fn_output_signature=tf.TensorSpec(shape, tf.float32))

    archive = keras.export.ExportArchive()

    def add(name, prepare, argument, shape, dtype):
        def endpoint(inputs):
            # TensorFlow does not check the shape that a signature states.
            return answer(prepare(tf.ensure_shape(inputs, shape)))

        archive.add_endpoint(name, endpoint, input_signature=[tf.TensorSpec(shape, dtype, argument)])

    # The first signature is the default.
    add("serving_default", functools.partial(graph.prepare_clips, **clip), "clip", CLIP_SHAPE, tf.uint8)
    add("jpeg", prepare_batch, "images", (None, None), tf.string)
    add("float", tf.identity, "clip", _channels_last(model.input_shape), tf.float32)
    if stream:
        _add_stream(archive, model, named, scope, clip)
    archive.write_out(path, verbose=False)

    extra = os.path.join(path, "assets.extra")
    os.mkdir(extra)
    if class_names:
        with open(os.path.join(extra, "class_names.txt"), "wb") as file:
            file.write(to_lines(class_names))
    example.write_example(path, clip["num_frames"])


def _add_stream(archive, model, named, scope, clip):
    """Adds the signatures `stream` and `stream_init`; see `write_saved_model` for `named` and `scope`."""
    import tensorflow as tf

    model = stream_model(model, clip["image_size"], clip["num_frames"])
    specs = _step_specs(model)

    def step(inputs):
        # TensorFlow does not check the shape that a signature states.
        inputs = {name: tf.ensure_shape(value, specs[name].shape) for name, value in inputs.items()}
        with scope():
            scores, state = _step(model, inputs, clip)
        return {**named(scores), **state}

    def init(batch_size):
        check = tf.debugging.Assert(batch_size > 0, ["`batch_size` must be positive, but is", batch_size])
        with tf.control_dependencies([check]):
            return {
                name: tf.zeros((batch_size, *spec.shape[1:]), spec.dtype)
                for name, spec in specs.items()
                if name != "frame"
            }

    archive.add_endpoint("stream", step, input_signature=[specs])
    archive.add_endpoint("stream_init", init, input_signature=[tf.TensorSpec((), tf.int32, "batch_size")])


def _stored_in_half(model):
    """Returns a function that makes a scope in which the model computes with weights stored in float16."""
    import tensorflow as tf

    halves = [tf.Variable(tf.cast(weight, tf.float16), trainable=False) for weight in model.weights]

    def scope():
        exact = [tf.cast(half, tf.float32) for half in halves]
        return keras.StatelessScope(list(zip(model.weights, exact, strict=True)))

    return scope


def write_onnx(model, path, class_names, half, **clip):
    """Writes the file that `keras_stm.export.save_onnx` describes; see `write_saved_model` for arguments."""
    import tensorflow as tf

    _write_onnx(
        lambda clips: {"scores": _scores(model, graph.prepare_clips(clips, **clip))},
        [tf.TensorSpec(CLIP_SHAPE, tf.uint8, "clip")],
        path,
        class_names,
        half,
    )


def write_onnx_step(model, path, class_names, half, **clip):
    """Writes the file of `keras_stm.export.save_onnx(stream=True)`; see `write_saved_model` for arguments."""
    model = stream_model(model, clip["image_size"], clip["num_frames"])
    specs = _step_specs(model)

    def step(*inputs):
        scores, state = _step(model, dict(zip(specs, inputs, strict=True)), clip)
        # ONNX allows no output with the name of an input.
        return {"scores": scores, **{f"next_{name}": value for name, value in state.items()}}

    _write_onnx(step, list(specs.values()), path, class_names, half)


def _write_onnx(function, specs, path, class_names, half):
    import onnx
    import tensorflow as tf
    import tf2onnx

    proto, _ = tf2onnx.convert.from_function(tf.function(function), specs, opset=17)
    if half:
        halve(proto)
    if class_names:
        onnx.helper.set_model_props(proto, {"class_names": json.dumps(class_names)})
    onnx.save(proto, path)


WRITERS = {
    "saved_model": write_saved_model,
    "onnx": write_onnx,
    "onnx_step": write_onnx_step,
    "device": write_device,
}


def _step_specs(stream):
    """Returns `{name: tf.TensorSpec}` of the inputs of a step: a frame of any size first, then the states."""
    import tensorflow as tf

    states = {
        name: tf.TensorSpec(tensor.shape, tensor.dtype, name)
        for name, tensor in stream.input.items()
        if name != "frame"
    }
    return {"frame": tf.TensorSpec(_FRAME_SHAPE, tf.uint8, "frame"), **states}


def _step(stream, inputs, clip):
    """Returns float32 scores and the next states; `inputs` has raw frames, with channels last."""
    import tensorflow as tf

    # A frame is a clip of one.
    options = {**clip, "num_frames": 1, "sampling": "segments"}
    frames = graph.prepare_clips(inputs["frame"][:, tf.newaxis], **options)[:, 0]
    if stream.input["frame"].shape[-1] != 3:
        frames = tf.transpose(frames, (0, 3, 1, 2))
    state = stream({**inputs, "frame": frames}, training=False)
    return tf.cast(state.pop("scores"), tf.float32), state


def _scores(model, clips):
    """Returns float32 scores of preprocessed clips with channels last."""
    import tensorflow as tf

    if is_channels_first(model):
        clips = tf.transpose(clips, (0, 1, 4, 2, 3))
    return tf.cast(model(clips, training=False), tf.float32)


def _channels_last(shape):
    batch, time, *frame = shape
    height, width = frame[:2] if frame[2] == 3 else frame[1:]
    return batch, time, height, width, 3


if __name__ == "__main__":
    kind, file, path = sys.argv[1:]
    WRITERS[kind](keras.saving.load_model(file, compile=False), path, **json.load(sys.stdin))
