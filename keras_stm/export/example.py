"""Example of a request to TF Serving's REST interface and its response, stored in a SavedModel."""

import base64
import json
import os

import numpy as np

from keras_stm.arguments import ArgumentError, absolute_path

REQUEST = os.path.join("assets.extra", "request.json")
RESPONSE = os.path.join("assets.extra", "response.json")
# Side of the frames in pixels, small so that the request can be read in an editor.
_SIZE = 48


def write_example(path, num_frames):
    """Adds a request with one clip of JPEG frames, and the response of the model, to a SavedModel.

    Args:
        path: folder of the SavedModel.
        num_frames: number of frames of the clip.
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
    """Answers the example request of a SavedModel like TF Serving, and compares the responses.

    Args:
        path: folder that `keras_stm.export.save` has written.

    Raises:
        ValueError: there is no example, the request does not match the signature that it names, or the
            responses differ.
        ImportError: TensorFlow is not installed.
    """
    path = absolute_path("path", path)
    try:
        expected = _read_json(os.path.join(path, RESPONSE))["predictions"]
        actual = _answer(path)["predictions"]
    except OSError as error:
        raise ArgumentError(
            "path", path, f"must be a SavedModel that keras_stm.export.save wrote ({error})"
        ) from error
    for ours, theirs in zip(actual, expected, strict=True):
        is_close = ours["labels"] == theirs["labels"] and all(
            np.allclose(ours[name], theirs[name], atol=1e-4) for name in ("scores", "top_scores")
        )
        if not is_close:
            raise ArgumentError(
                "path",
                path,
                f"contains a response that differs from the response of the model, {ours}",
                f"path={path!r} with {theirs}",
            )


def _answer(path):
    """Returns the response to the request in a SavedModel, with one prediction for each instance."""
    import tensorflow as tf

    request = _read_json(os.path.join(path, REQUEST))
    name = request["signature_name"]
    # A local name keeps the model alive: its functions hold only weak references to the variables.
    model = tf.saved_model.load(path)
    if name not in model.signatures:
        raise ArgumentError("path", path, f"has a request to the missing signature {name!r}")
    signature = model.signatures[name]
    ((argument, spec),) = signature.structured_input_signature[1].items()
    instances = np.array(_decode(request["instances"]))
    is_bytes = instances.dtype.kind == "S"
    if is_bytes != (spec.dtype == tf.string) or not spec.shape.is_compatible_with(instances.shape):
        raise ArgumentError(
            "path",
            path,
            f"has a request of {'strings' if is_bytes else 'numbers'} {instances.shape} to {name!r}, which "
            f"accepts `{argument}` of {spec.dtype.name} {spec.shape}",
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
    """Decodes JSON like TF Serving: `{"b64": ...}` stands for bytes."""
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
