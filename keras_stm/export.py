"""Model -> SavedModel. TensorFlow is imported by the functions that use it."""

import os
import subprocess
import sys
import tempfile

import keras

from keras_stm.class_names import to_lines


def save(model, path, class_names=None):
    """Writes a model as a SavedModel, for TF Serving and any process that has TensorFlow alone.

    The signature `serving_default` takes `clip`, float32 as the model does (see
    `keras_stm.preprocess_input`), and returns `scores`, float32 `(batch, classes)`. The folder is
    complete or not there at all.

    Under JAX and PyTorch the model passes through a `.keras` file to a process with TensorFlow, which
    must be installed.

    Args:
        model: a model of this package.
        path: the folder to write, which must not exist; TF Serving wants it to end in a version, as
            in `my_model/1`.
        class_names: names of the scores in their order, written one a line to
            `assets.extra/class_names.txt`, where TF Serving leaves them alone.

    Raises:
        ValueError: if `path` exists, or `class_names` are not as many as the scores.
        RuntimeError: if the process with TensorFlow fails; the message holds its own.
    """
    path = os.path.abspath(path)
    if os.path.exists(path):
        raise ValueError(f"`path` must not exist. Received: path={path!r}")
    if class_names is not None and len(class_names) != model.output_shape[-1]:
        raise ValueError(
            f"`class_names` must be as many as the model's scores, {model.output_shape[-1]}. "
            f"Received: class_names={class_names!r}"
        )
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=os.path.dirname(path)) as temporary:
        complete = os.path.join(temporary, "complete")
        if keras.backend.backend() == "tensorflow":
            _write(model, complete)
        else:
            file = os.path.join(temporary, "model.keras")
            model.save(file)
            _write_with_tensorflow(file, complete)
        if class_names is not None:
            extra = os.path.join(complete, "assets.extra")
            os.mkdir(extra)
            with open(os.path.join(extra, "class_names.txt"), "wb") as file:
                file.write(to_lines(class_names))
        os.rename(complete, path)


def _write(model, path):
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        "serving_default",
        lambda clip: {"scores": model(clip, training=False)},
        input_signature=[keras.InputSpec(shape=model.input_shape, dtype="float32", name="clip")],
    )
    archive.write_out(path, verbose=False)


def _write_with_tensorflow(file, path):
    process = subprocess.run(
        [sys.executable, "-m", "keras_stm.export", file, path],
        # Not on a GPU, which this process may have filled.
        env={**os.environ, "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
    )
    if process.returncode:
        raise RuntimeError(f"The export under TensorFlow failed:\n{process.stderr[-2000:]}")


if __name__ == "__main__":
    import keras_stm  # noqa: F401  registers the layers

    _write(keras.saving.load_model(sys.argv[1], compile=False), sys.argv[2])
