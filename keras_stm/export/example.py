"""A request to TF Serving's REST interface and its answer, beside the model that gives it."""

import base64
import json
import os

import numpy as np

from keras_stm.arguments import ArgumentError, absolute_path

REQUEST = os.path.join("assets.extra", "request.json")
RESPONSE = os.path.join("assets.extra", "response.json")
# A small picture, in pixels: the request is to be looked at.
_SIZE = 48


def write_example(path, num_frames):
    """Adds to a SavedModel a request with one clip of JPEG frames, and the response of the model.

    Args:
        path: folder that `keras_stm.export.save` writes.
        num_frames: frames of the clip.
    """
    import tensorflow as tf

    frames = np.full((num_frames, _SIZE, _SIZE, 3), 64, "uint8")
    for i, frame in enumerate(frames):
        # A square that moves to the right.
        left = i * (_SIZE * 3 // 4) // num_frames
        frame[18:30, left : left + 12] = 224, 160, 32
    images = [tf.io.encode_jpeg(frame).numpy() for frame in frames]
    clip = [{"b64": base64.b64encode(image).decode()} for image in images]
    _write_json(os.path.join(path, REQUEST), {"signature_name": "jpeg", "instances": [clip]})
    _write_json(os.path.join(path, RESPONSE), _answer(path))


def check_example(path):
    """Answers the example request of a SavedModel as TF Serving does, and compares the responses.

    Args:
        path: folder that `keras_stm.export.save` has written.

    Raises:
        ValueError: if there is no example, the request does not fit the signature that it names, or the
            response is another one.
        ImportError: if TensorFlow is not installed.
    """
    path = absolute_path("path", path)
    try:
        expected = _read_json(os.path.join(path, RESPONSE))["predictions"]
        actual = _answer(path)["predictions"]
    except OSError as error:
        raise ArgumentError(
            "path", path, f"must be a SavedModel of keras_stm.export.save ({error})"
        ) from error
    for ours, theirs in zip(actual, expected, strict=True):
        is_close = ours["labels"] == theirs["labels"] and all(
            np.allclose(ours[name], theirs[name], atol=1e-4) for name in ("scores", "top_scores")
        )
        if not is_close:
            raise ArgumentError(
                "path",
                path,
                f"holds a response that is not the model's, which is {ours}",
                f"path={path!r} with {theirs}",
            )


def _answer(path):
    """The response to the request in a SavedModel, one prediction for each instance."""
    import tensorflow as tf

    request = _read_json(os.path.join(path, REQUEST))
    name = request["signature_name"]
    # Kept here: its functions hold the variables only weakly.
    model = tf.saved_model.load(path)
    if name not in model.signatures:
        raise ArgumentError("path", path, f"has a request to a signature that is not there, {name!r}")
    signature = model.signatures[name]
    ((argument, spec),) = signature.structured_input_signature[1].items()
    instances = np.array(_decode(request["instances"]))
    is_bytes = instances.dtype.kind == "S"
    if is_bytes != (spec.dtype == tf.string) or not spec.shape.is_compatible_with(instances.shape):
        raise ArgumentError(
            "path",
            path,
            f"has a request of {'strings' if is_bytes else 'numbers'} {instances.shape} to {name!r}, which "
            f"takes `{argument}` of {spec.dtype.name} {spec.shape}",
        )
    if not is_bytes:
        instances = instances.astype(spec.dtype.as_numpy_dtype)
    outputs = {key: value.numpy() for key, value in signature(**{argument: instances}).items()}
    return {
        "predictions": [
            {key: _to_json(value[i]) for key, value in sorted(outputs.items())} for i in range(len(instances))
        ]
    }


def _decode(value):
    """JSON as TF Serving reads it: `{"b64": ...}` stands for bytes."""
    if isinstance(value, list):
        return [_decode(each) for each in value]
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else value


def _to_json(array):
    if array.dtype == object:
        return [text.decode() for text in array]
    return [round(number, 6) for number in array.tolist()]


def _read_json(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def _write_json(path, value):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, ensure_ascii=False)
        file.write("\n")
