"""Exports models for servers, devices and browsers. Only the functions that use TensorFlow import it."""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile

import keras
import numpy as np

from keras_stm import preprocessing
from keras_stm.arguments import (
    ArgumentError,
    absolute_path,
    keras_model,
    lines,
    one_of,
    positive_int,
    positive_number,
)
from keras_stm.class_names import index_names
from keras_stm.export import device, web
from keras_stm.export.example import check_example
from keras_stm.formats import MODELS, PRECISIONS
from keras_stm.models.fold_batch_norm import fold_batch_norm
from keras_stm.models.precision import with_dtype_policy
from keras_stm.models.stream import stream_model
from keras_stm.replacing import replacing, replacing_folder

__all__ = ["check_example", "save", "save_device", "save_onnx", "save_web"]

# Precisions of weights that are computed with in float32.
_STORED = ("float32", "float16")
# Packages that write and run each format. NNCF and ONNX Runtime also quantize.
_PACKAGES = {
    "onnx": ("tensorflow", "tf2onnx", "onnx", "onnxruntime"),
    "openvino": ("tensorflow", "tf2onnx", "onnx", "openvino"),
    "litert": ("tensorflow", "ai_edge_litert"),
}
_QUANTIZERS = {"openvino": ("nncf",)}


def save(
    model,
    path,
    class_names=None,
    num_frames=8,
    image_size=224,
    resize_size=None,
    top_k=5,
    sampling="segments",
    precision="float32",
):
    """Writes a SavedModel that accepts raw videos, for TF Serving, TensorFlow or OpenVINO.

    BatchNormalization is folded, see `keras_stm.fold_batch_norm`. All computation is in float32, also after
    training in mixed precision or with weights that are stored in float16. The signatures are:

    - `serving_default`: `clip`, uint8 `(N, F, H, W, 3)`, the RGB frames of videos. The graph selects
      `num_frames` frames, resizes, crops and normalises like `keras_stm.data.load_clip`.
    - `jpeg`: `images`, strings `(N, F)`, the same frames as JPEG files. Only the selected frames are
      decoded. All frames of a video must have the same size and be stored upright: EXIF is not applied.
    - `float`: `clip`, float32 `(N, T, H, W, 3)`, clips of the model's size, normalised by
      `keras_stm.preprocess_input`.

    Each signature returns `scores`, float32 `(N, classes)`, and the best `top_k` classes: `labels`, strings
    `(N, k)`, and `top_scores`, float32 `(N, k)`.

    A model that `keras_stm.stream_model` accepts, such as one with `causal=True`, also has the signatures:

    - `stream`: `frame`, uint8 `(N, H, W, 3)`, the next RGB frame of each of N videos, and their states. It
      returns `scores`, `labels` and `top_scores` after this frame, and the next states under the same
      names. `keras_stm.stream_model` describes scores and states.
    - `stream_init`: `batch_size`, an int32 scalar. It returns the states of that many videos in front of
      their first frames.

    The subfolder `assets.extra`, which TF Serving ignores, contains `class_names.txt`, and an example for TF
    Serving's REST interface: `request.json` and `response.json`. The folder is either complete or absent.

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
        precision: `"float32"` or `"float16"`, in which the weights are stored.

    Raises:
        ValueError: `path` exists, the model returns no scores or does not accept such clips, or another
            argument is not as above.
        ImportError: TensorFlow is not installed.
        RuntimeError: the process with TensorFlow fails; the message includes the end of its output.
    """
    options = _options(model, class_names, num_frames, image_size, resize_size, sampling)
    options["top_k"] = positive_int("top_k", top_k)
    options["half"] = one_of("precision", precision, _STORED) == "float16"
    options["stream"] = _can_stream(model, num_frames, image_size)
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
    stream=False,
):
    """Writes an ONNX file that accepts raw videos, for ONNX Runtime and other runtimes.

    The input is `clip`, uint8 `(N, F, H, W, 3)`. The output is `scores`, float32 `(N, classes)`. Both are
    those of the signature `serving_default` of `save`. The file's metadata contain `class_names` as a JSON
    list. The file is either complete or absent.

    With `stream=True`, the file computes one step from frame to frame instead, like the signature `stream`.
    The inputs are `frame`, uint8 `(N, H, W, 3)`, and the states, which are zeros in front of the first frame.
    The outputs are `scores`, and each next state, whose name is that of the state after `next_`.

    Args:
        model: see `save`.
        path: the file to write, which must not exist.
        class_names: see `save`. With `None`, the file contains no names.
        num_frames: see `save`.
        image_size: see `save`.
        resize_size: see `save`.
        sampling: see `save`. It has no effect with `stream=True`.
        stream: whether to write a step, which needs a model that `keras_stm.stream_model` accepts.

    Raises:
        ValueError: see `save`; or `stream` is true, and the scores of a frame depend on later frames.
        ImportError: TensorFlow, `tf2onnx` or `onnx` is not installed.
        RuntimeError: see `save`.
    """
    options = _options(model, class_names, num_frames, image_size, resize_size, sampling)
    if stream:
        # Refuses other models before anything is written.
        stream_model(model, image_size, num_frames)
    _need("tensorflow", "tf2onnx", "onnx")
    _write("onnx_step" if stream else "onnx", model, path, {**options, "half": False})


def save_web(
    model,
    path,
    class_names=None,
    num_frames=8,
    image_size=224,
    resize_size=None,
    rate=None,
    runtime=None,
    precision="float32",
):
    """Writes a folder with a web page that recognises what a camera or a video file shows.

    The browser itself computes the scores, with ONNX Runtime Web, and sends no frame anywhere. Any server of
    static files can publish the folder. Browsers allow the camera only on `https://` and on `localhost`.

    The folder contains the page, the ONNX file of `save_onnx(stream=True)`, and `settings.json`. It is either
    complete or absent.

    Args:
        model: a model that `keras_stm.stream_model` accepts, such as one with `causal=True`. See `save`.
        path: the folder to write, which must not exist.
        class_names: see `save`.
        num_frames: see `keras_stm.stream_model`.
        image_size: see `save`.
        resize_size: see `save`.
        rate: number of frames that the page takes from a second of video, as in the training of the model.
        runtime: the folder `node_modules/onnxruntime-web` of `npm install onnxruntime-web`. Its files are
            copied, so that the page needs no other server. With `None`, the page loads a fixed version from
            a public server, cdn.jsdelivr.net.
        precision: `"float32"` or `"float16"`, in which the weights are stored. The browser computes in
            float32.

    Raises:
        ValueError: see `save`; or the scores of a frame depend on later frames, or `runtime` does not contain
            ONNX Runtime Web.
        ImportError: see `save_onnx`.
        RuntimeError: see `save`.
    """
    options = _options(model, class_names, num_frames, image_size, resize_size, "segments")
    rate = positive_number("rate", rate)
    stream_model(model, image_size, num_frames)
    files = web.runtime_files(runtime)
    options["half"] = one_of("precision", precision, _STORED) == "float16"
    _need("tensorflow", "tf2onnx", "onnx")
    path = _absent(path)
    with replacing_folder(path, overwrite=False) as partial:
        _convert("onnx_step", model, os.path.join(partial, web.MODEL), options)
        names = options["class_names"] or index_names(model.output_shape[-1])
        web.write_page(partial, names, rate, files)


def save_device(
    model,
    path,
    format,
    precision="float32",
    class_names=None,
    num_frames=8,
    image_size=224,
    resize_size=None,
    sampling="segments",
    rate=None,
    stream=False,
    clips=None,
):
    """Writes a folder for a device: a model, its settings, and a program that classifies videos with it.

    The folder needs neither this package nor Keras or TensorFlow, only NumPy, PyAV and one runtime. It
    contains the model file, `settings.json`, `runtime.py`, and `classify.py`, see its `--help`. It is either
    complete or absent.

    The model takes one clip at a time: `clip`, float32 `(1, num_frames, image_size, image_size, 3)`, RGB from
    0 to 255, scaled and cropped. It returns `scores`, float32 `(1, classes)`. With `stream=True`, it computes
    one step: the inputs are `frame`, float32 `(1, image_size, image_size, 3)`, and the states, which are
    zeros in front of the first frame. The outputs are `scores`, and each next state, whose name is that of
    the state after `next_`. BatchNormalization is folded. LiteRT files have built-in operations alone.

    The precisions are:

    - `"float32"`: the scores of the model.
    - `"float16"`: the large weights are stored in float16. The runtime chooses the arithmetic.
    - `"int8"`: convolutions in int8, with a scale for each channel of the weights. The tools of the runtimes
      measure the activations on `clips`: ONNX Runtime's, NNCF, and LiteRT's converter. In ONNX files and in
      OpenVINO's steps, the first and the last layer stay in float32.

    Args:
        model: see `save`.
        path: the folder to write, which must not exist.
        format: `"onnx"`, `"openvino"` or `"litert"`.
        precision: as above.
        class_names: see `save`. With `None`, the names are the indices.
        num_frames: frames of a clip; with `stream=True`, see `keras_stm.stream_model`.
        image_size: see `save`.
        resize_size: see `save`.
        sampling: see `save`.
        rate: frames that `classify.py` takes from a second of a camera. `None` is `num_frames` in 3 seconds.
        stream: whether to write a step, which needs a model that `keras_stm.stream_model` accepts.
        clips: for `"int8"`, preprocessed clips `(N, num_frames, image_size, image_size, 3)` that are like
            those in use; 200 are enough. With `stream=True`, every `num_frames`-th clip is used.

    Raises:
        ValueError: see `save`; `stream` is true, and the scores of a frame depend on later frames; or `clips`
            are missing.
        ImportError: a package is not installed.
        RuntimeError: see `save`.
    """
    one_of("format", format, tuple(MODELS))
    one_of("precision", precision, PRECISIONS)
    options = _options(model, class_names, num_frames, image_size, resize_size, sampling)
    rate = num_frames / preprocessing.CLIP_SECONDS if rate is None else positive_number("rate", rate)
    if stream:
        stream_model(model, image_size, num_frames)
    if precision == "int8":
        shape = (num_frames, image_size, image_size, 3)
        if not isinstance(clips, np.ndarray) or clips.shape[1:] != shape or not len(clips):
            found = getattr(clips, "shape", clips)
            raise ArgumentError("clips", clips, f"must be an array (N, {shape}) for int8", f"clips={found}")
    need_for_devices(format, precision)
    path = _absent(path)
    settings = {
        "model": MODELS[format],
        "format": format,
        "precision": precision,
        "stream": stream,
        **options,
        "class_names": list(options["class_names"] or index_names(model.output_shape[-1])),
        "rate": rate,
    }
    with replacing_folder(path, overwrite=False) as partial, tempfile.TemporaryDirectory() as temporary:
        calibration = None
        if precision == "int8":
            calibration = os.path.join(temporary, "clips.npy")
            # A step has as many samples as a clip has frames.
            np.save(calibration, clips[::num_frames] if stream else clips)
        options = {
            "format": format,
            "precision": precision,
            "stream": stream,
            "calibration": calibration,
            "num_frames": num_frames,
            "image_size": image_size,
        }
        _convert("device", model, os.path.join(partial, settings["model"]), options)
        device.write_files(partial, settings)


def need_for_devices(format, precision):
    """Raises `ImportError` if a package for an export with `save_device` is not installed."""
    _need(*_PACKAGES[format], *(_QUANTIZERS.get(format, ()) if precision == "int8" else ()))


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


def _can_stream(model, num_frames, image_size):
    try:
        stream_model(model, image_size, num_frames)
    except ArgumentError:
        return False
    return True


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
    path = _absent(path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    is_folder = kind == "saved_model"
    with replacing_folder(path, overwrite=False) if is_folder else replacing(path) as partial:
        _convert(kind, model, partial, options)


def _absent(path):
    """Returns an absolute path, or raises `ValueError` if something exists there."""
    path = absolute_path("path", path)
    if os.path.exists(path):
        raise ArgumentError("path", path, "must not exist. Remove it, or pass another path")
    return path


def _convert(kind, model, path, options):
    """Writes an export with TensorFlow, in a process of its own under another backend."""
    # Some runtimes lack mixed precision.
    model = with_dtype_policy(fold_batch_norm(model), "float32")
    if keras.backend.backend() == "tensorflow":
        from keras_stm.export import writers

        writers.WRITERS[kind](model, path, **options)
    else:
        _write_with_tensorflow(kind, model, path, options)


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
