"""Exports models as SavedModel or ONNX. Only the functions that use TensorFlow import it."""

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
    """Writes a SavedModel that accepts raw videos, for TF Serving, TensorFlow or OpenVINO.

    BatchNormalization is folded, see `keras_stm.fold_batch_norm`. All computation is in float32, also after
    training in mixed precision. The signatures are:

    - `serving_default`: `clip`, uint8 `(N, F, H, W, 3)`, the RGB frames of videos. The graph selects
      `num_frames` frames, resizes, crops and normalises like `keras_stm.data.load_clip`.
    - `jpeg`: `images`, strings `(N, F)`, the same frames as JPEG files. Only the selected frames are
      decoded. All frames of a video must have the same size and be stored upright: EXIF is not applied.
    - `float`: `clip`, float32 `(N, T, H, W, 3)`, clips of the model's size, normalised by
      `keras_stm.preprocess_input`.

    Each signature returns `scores`, float32 `(N, classes)`, and the best `top_k` classes: `labels`, strings
    `(N, k)`, and `top_scores`, float32 `(N, k)`. The subfolder `assets.extra`, which TF Serving ignores,
    contains `class_names.txt`, and an example for TF Serving's REST interface: `request.json` and
    `response.json`. The folder is either complete or absent.

    Under JAX and PyTorch, a separate process with TensorFlow, which must be installed, exports the model.

    Args:
        model: a model of this package, possibly with further layers around it, from clips to scores, of
            either data format.
        path: the folder to write, which must not exist. TF Serving expects it to end in a version, for
            example `my_model/1`.
        class_names: one name per class, in the order of the scores. With `None`, `labels` are the indices.
        num_frames: number of frames that are selected from a video. Shorter videos repeat frames.
        image_size: height and width of the crop in pixels.
        resize_size: short side in pixels before the crop; `None` is `image_size` * 256 / 224.
        top_k: number of labels to return; all labels if there are fewer.
        sampling: as in the training of the model: `"segments"` selects the middle frame of each of
            `num_frames` segments, `"dense"` selects evenly from the middle 64 frames.

    Raises:
        ValueError: `path` exists, the model returns no scores or does not accept such clips, or another
            argument is not as above.
        ImportError: TensorFlow is not installed.
        RuntimeError: the process with TensorFlow fails; the message includes the end of its output.
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
    """Writes an ONNX file that accepts raw videos, for ONNX Runtime and other runtimes.

    The input is `clip`, uint8 `(N, F, H, W, 3)`. The output is `scores`, float32 `(N, classes)`. Both are
    those of the signature `serving_default` of `save`. The file's metadata contain `class_names` as a JSON
    list. The file is either complete or absent.

    Args:
        model: see `save`.
        path: the file to write, which must not exist.
        class_names: see `save`. With `None`, the file contains no names.
        num_frames: see `save`.
        image_size: see `save`.
        resize_size: see `save`.
        sampling: see `save`.

    Raises:
        ValueError: see `save`.
        ImportError: TensorFlow, `tf2onnx` or `onnx` is not installed.
        RuntimeError: see `save`.
    """
    options = _options(model, class_names, num_frames, image_size, resize_size, sampling)
    _need("tensorflow", "tf2onnx", "onnx")
    _write("onnx", model, path, options)


def _options(model, class_names, num_frames, image_size, resize_size, sampling):
    """Returns the checked arguments as values that JSON can store."""
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
            f"and `image_size` must fit the model, which accepts (T, H, W) = {fixed}",
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
                "class_names", class_names, f"must have one name per score of the model, {output_shape[-1]}"
            )
    return {
        "class_names": class_names,
        "num_frames": num_frames,
        "image_size": image_size,
        "resize_size": int(resize_size),
        "sampling": one_of("sampling", sampling, preprocessing.SAMPLING),
    }


def _check_shapes(model, shape, output_shape):
    """Returns whether channels come first; raises `ValueError` unless the model maps clips to scores."""
    is_clip = isinstance(shape, tuple) and len(shape) == 5 and 3 in (shape[4], shape[2])
    if not is_clip:
        raise ArgumentError(
            "model",
            model,
            "must accept RGB clips (batch, T, H, W, 3) or (batch, T, 3, H, W)",
            f"model={model.name!r} with input_shape={shape}",
        )
    if not isinstance(output_shape, tuple) or len(output_shape) != 2 or output_shape[1] is None:
        raise ArgumentError(
            "model",
            model,
            "must return scores (batch, classes). Add a classifier to a model with include_top=False",
            f"model={model.name!r} with output_shape={output_shape}",
        )
    return shape[4] != 3


def _need(*packages):
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"This export needs {', '.join(packages)}: pip install {' '.join(missing)}")


def _write(kind, model, path, options):
    """Writes a complete export, or nothing; see `keras_stm.export.writers`."""
    path = absolute_path("path", path)
    if os.path.exists(path):
        raise ArgumentError("path", path, "must not exist. Remove it, or pass another path")
    model = _in_float32(fold_batch_norm(model))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with replacing(path) if kind == "onnx" else replacing_folder(path, overwrite=False) as partial:
        if keras.backend.backend() == "tensorflow":
            from keras_stm.export import writers

            writers.WRITERS[kind](model, partial, **options)
        else:
            _write_with_tensorflow(kind, model, partial, options)


def _in_float32(model):
    """Returns the model without mixed precision, which some runtimes lack. Weights are float32 already."""
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
            # The CPU only, because this process may have filled the memory of the GPU.
            env={**os.environ, "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"},
            capture_output=True,
            text=True,
        )
    if process.returncode:
        raise RuntimeError(f"The export under TensorFlow failed:\n{process.stderr[-2000:]}")
