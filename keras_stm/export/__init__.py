"""Model -> SavedModel or ONNX. TensorFlow is imported by the functions that use it."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile

import keras

from keras_stm import preprocessing
from keras_stm.arguments import ArgumentError, absolute_path, keras_model, lines, one_of, positive_int
from keras_stm.export.example import check_example
from keras_stm.models.fold_batch_norm import fold_batch_norm
from keras_stm.replacing import replacing, replacing_folder

__all__ = ["check_example", "save", "save_onnx"]

_MIXED = r'"mixed_b?float16"'


def save(
    model,
    path,
    class_names=None,
    num_frames=8,
    image_size=224,
    resize_size=None,
    top_k=5,
    sampling="segments",
):
    """Writes a model as a SavedModel that takes videos as they are, for TF Serving, TensorFlow or OpenVINO.

    BatchNormalization is folded, see `keras_stm.fold_batch_norm`, and all is computed in float32, also
    where training was in mixed precision. The signatures are

    - `serving_default`: `clip`, uint8 `(N, F, H, W, 3)`, the frames of videos, RGB. The graph picks
      `num_frames` of them, resizes, crops and normalises as `keras_stm.data.load_clip` does.
    - `jpeg`: `images`, strings `(N, F)`, the same frames as JPEG files. Only those that are picked are
      decoded. The frames of one video have one size.
    - `float`: `clip`, float32 `(N, T, H, W, 3)`, prepared as the model takes them, by
      `keras_stm.preprocess_input`.

    Each returns `scores`, float32 `(N, classes)`, and of the best `top_k` the `labels`, strings `(N, k)`, and
    the `top_scores`, `(N, k)`. `assets.extra`, which TF Serving leaves alone, holds the `class_names.txt`,
    and in `request.json` and `response.json` a request to TF Serving's REST interface with its answer. The
    folder is complete or not there at all.

    Under JAX and PyTorch the model passes through a `.keras` file to a process with TensorFlow, which
    must be installed.

    Args:
        model: a model of this package, or one with further layers around it, from clips to scores, in
            either data format.
        path: the folder to write, which must not exist; TF Serving wants it to end in a version, as
            in `my_model/1`.
        class_names: names of the scores in their order; without, the labels are the indices.
        num_frames: frames that are picked of a video; a shorter one repeats its own.
        image_size: height and width of the crop in pixels.
        resize_size: pixels of the short side before the crop; `None` is `image_size` * 256 / 224.
        top_k: labels to return; fewer where there are fewer classes.
        sampling: `"segments"` picks the middle frame of each of `num_frames` segments, `"dense"` frames
            of the 64 in the middle, as the model was trained.

    Raises:
        ValueError: if `path` exists, the model gives no scores or does not take such clips, or another
            argument is not as above.
        ImportError: if TensorFlow is not installed.
        RuntimeError: if the process with TensorFlow fails; the message holds its own.
    """
    options = _options(model, class_names, num_frames, image_size, resize_size, sampling)
    options["top_k"] = positive_int("top_k", top_k)
    _need("tensorflow")
    _write("saved_model", model, path, options)


def save_onnx(
    model,
    path,
    class_names=None,
    num_frames=8,
    image_size=224,
    resize_size=None,
    sampling="segments",
):
    """Writes a model as an ONNX file that takes videos as they are, for ONNX Runtime and others.

    Its input is `clip`, uint8 `(N, F, H, W, 3)`, its output `scores`, float32 `(N, classes)`, as of the
    signature `serving_default` of `save`. The file's metadata hold the `class_names`, as a JSON list. The
    file is complete or not there at all.

    Args:
        path: the file to write, which must not exist.

    The other arguments, and what is raised: as of `save`. `tf2onnx` is needed as well.
    """
    options = _options(model, class_names, num_frames, image_size, resize_size, sampling)
    _need("tensorflow", "tf2onnx", "onnx")
    _write("onnx", model, path, options)


def _options(model, class_names, num_frames, image_size, resize_size, sampling):
    """The arguments, checked, as JSON can hold them."""
    shape, output_shape = keras_model(model).input_shape, model.output_shape
    channels_first = _check_shapes(model, shape, output_shape)
    num_frames = positive_int("num_frames", num_frames)
    image_size = positive_int("image_size", image_size)
    clip = (num_frames, image_size, image_size)
    fixed = (shape[1], *shape[3:]) if channels_first else shape[1:4]
    if any(size not in (None, wanted) for size, wanted in zip(fixed, clip, strict=True)):
        raise ArgumentError(
            "num_frames",
            num_frames,
            f"and `image_size` must fit the model, which takes (T, H, W) = {fixed}",
            f"num_frames={num_frames!r}, image_size={image_size!r}",
        )
    if resize_size is None:
        resize_size = preprocessing.resize_size(image_size)
    if positive_int("resize_size", resize_size) < image_size:
        raise ArgumentError("resize_size", resize_size, f"must be at least `image_size`, {image_size}")
    if class_names is not None:
        class_names = lines("class_names", class_names)
        if len(class_names) != output_shape[-1]:
            raise ArgumentError(
                "class_names", class_names, f"must be as many as the model's scores, {output_shape[-1]}"
            )
    return {
        "class_names": class_names,
        "num_frames": num_frames,
        "image_size": image_size,
        "resize_size": int(resize_size),
        "sampling": one_of("sampling", sampling, preprocessing.SAMPLING),
    }


def _check_shapes(model, shape, output_shape):
    """Whether the channels of the clips come first; raises where a model is not from clips to scores."""
    is_clip = isinstance(shape, tuple) and len(shape) == 5 and 3 in (shape[4], shape[2])
    if not is_clip:
        raise ArgumentError(
            "model",
            model,
            "must take RGB clips, (batch, T, H, W, 3) or (batch, T, 3, H, W)",
            f"model={model.name!r} with input_shape={shape}",
        )
    if not isinstance(output_shape, tuple) or len(output_shape) != 2 or output_shape[1] is None:
        raise ArgumentError(
            "model",
            model,
            "must return scores, (batch, classes): one with include_top=False needs a classifier",
            f"model={model.name!r} with output_shape={output_shape}",
        )
    return shape[4] != 3


def _need(*packages):
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"This export needs {', '.join(packages)}: pip install {' '.join(missing)}")


def _write(kind, model, path, options):
    """Writes what is complete or not there at all; see `keras_stm.export.writers`."""
    path = absolute_path("path", path)
    if os.path.exists(path):
        raise ArgumentError("path", path, "must not exist; remove it, or give another")
    model = _in_float32(fold_batch_norm(model))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with replacing(path) if kind == "onnx" else replacing_folder(path, overwrite=False) as partial:
        if keras.backend.backend() == "tensorflow":
            from keras_stm.export import writers

            writers.WRITERS[kind](model, partial, **options)
        else:
            _write_with_tensorflow(kind, model, partial, options)


def _in_float32(model):
    """The model without mixed precision, which not every runtime knows: its weights are float32 anyway."""
    config = model.to_json()
    if not re.search(_MIXED, config):
        return model
    copy = keras.models.model_from_json(re.sub(_MIXED, '"float32"', config))
    copy.set_weights(model.get_weights())
    return copy


def _write_with_tensorflow(kind, model, path, options):
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "model.keras")
        model.save(file)
        process = subprocess.run(
            [sys.executable, "-m", "keras_stm.export.writers", kind, file, path],
            input=json.dumps(options),
            # Not on a GPU, which this process may have filled.
            env={**os.environ, "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"},
            capture_output=True,
            text=True,
        )
    if process.returncode:
        raise RuntimeError(f"The export under TensorFlow failed:\n{process.stderr[-2000:]}")
