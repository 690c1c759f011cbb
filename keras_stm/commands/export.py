"""Writes a trained model for serving, as a SavedModel, an ONNX file or a web page.

  keras-stm export --model=saved_models/RUN                     # RUN/serving/<next version>
  keras-stm export --model=saved_models/RUN --output=served/actions/1
  keras-stm export --model=saved_models/RUN --format=onnx       # RUN/model.onnx
  keras-stm export --model=saved_models/RUN --format=web        # RUN/web

`keras-stm fit` writes serving/1. TF Serving uses the highest version that it finds. Existing versions are not
replaced.

A SavedModel also holds an example request to TF Serving and its response, which this command checks:
  assets.extra/request.json, assets.extra/response.json

The web page recognises what a camera or a video file shows. It needs a causal model. The browser computes the
scores with ONNX Runtime Web, and sends no frame anywhere. Any server of static files can publish the folder.
"""

import os
import re
import shlex

from absl import flags

from keras_stm.arguments import ArgumentError
from keras_stm.commands.flags import define_model, required_model
from keras_stm.commands.main import run
from keras_stm.progress import tell
from keras_stm.train.devices import leave_gpus_to_backend

# See `keras_stm.commands`.
LOADS = ("keras_stm.export", "keras_stm.train.run_folder")
_STEP = "step.onnx"
_WEB = "web"


def define_flags(values):
    """Defines the flags of the command."""
    define_model(values)
    flags.DEFINE_enum(
        "format", "saved_model", ["saved_model", "onnx", "web"], "Format to write.", flag_values=values
    )
    flags.DEFINE_string(
        "output",
        None,
        "File or folder to write; it must not exist. Default: the next version in serving/, model.onnx, "
        "step.onnx or web, next to the model.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "top_k", 5, "Number of labels in a response of the SavedModel.", lower_bound=1, flag_values=values
    )
    flags.DEFINE_boolean(
        "stream",
        False,
        "With --format=onnx: write one step of a causal model, from frame to frame, as step.onnx.",
        flag_values=values,
    )
    flags.DEFINE_float(
        "rate",
        None,
        "With --format=web: frames to take from a second of video. Default: that of the training.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "runtime",
        None,
        "With --format=web: the folder node_modules/onnxruntime-web of `npm install onnxruntime-web`. It is "
        "copied, so that the page works offline. Default: the page loads it from cdn.jsdelivr.net.",
        flag_values=values,
    )


def main(argv):
    """Runs the command; returns its exit status."""
    return run(argv, define_flags, _export, __doc__)


def _export(values, _):
    export(
        required_model(values),
        values.output,
        values.format,
        values.top_k,
        values.stream,
        values.rate,
        values.runtime,
    )


def export(model, output=None, format="saved_model", top_k=5, stream=False, rate=None, runtime=None):
    """Writes a trained model and prints how to use it.

    Args:
        model: see `keras_stm.inference.load`.
        output: file or folder to write. `None` is the next version in `serving`, `model.onnx`, `step.onnx` or
            `web`, next to the model.
        format: `"saved_model"`, `"onnx"` or `"web"`.
        top_k: number of labels in a response of the SavedModel.
        stream: with `"onnx"`, see `keras_stm.export.save_onnx`.
        rate: with `"web"`, see `keras_stm.export.save_web`. `None` is the rate of the training.
        runtime: with `"web"`, see `keras_stm.export.save_web`.

    Returns:
        Path of the written file or folder.

    Raises:
        ValueError: there is no such model, `output` exists, or the model does not fit the format.
    """
    from keras_stm import export as keras_stm_export
    from keras_stm import inference
    from keras_stm.train import run_folder

    trained = inference.load(model)
    folder = trained.folder
    options = {
        "class_names": trained.class_names,
        "num_frames": trained.num_frames,
        "image_size": trained.image_size,
    }
    if format == "onnx":
        output = os.path.expanduser(output or os.path.join(folder, _STEP if stream else run_folder.ONNX))
        keras_stm_export.save_onnx(trained.model, output, **options, sampling=trained.sampling, stream=stream)
        inputs = "`frame`, uint8 (N, H, W, 3), and states" if stream else "`clip`, uint8 (N, F, H, W, 3)"
        outputs = "`scores` and `next_...` states" if stream else "`scores`"
        tell(f"{output}: input {inputs}; output {outputs}")
        return output
    if format == "web":
        output = os.path.expanduser(output or os.path.join(folder, _WEB))
        rate = trained.rate if rate is None else rate
        if rate is None:
            raise ArgumentError(
                "rate", rate, "must be given: the model's file does not contain the rate of its training"
            )
        keras_stm_export.save_web(trained.model, output, **options, rate=rate, runtime=runtime)
        tell(f"""{output}: a page that takes {rate:g} frames a second of a camera or a video file
Try next:
  {shlex.join(["python3", "-m", "http.server", f"--directory={output}"])}
and open http://localhost:8000""")
        return output

    output = os.path.expanduser(output or next_version(os.path.join(folder, _serving())))
    keras_stm_export.save(trained.model, output, **options, sampling=trained.sampling, top_k=top_k)
    # TensorFlow only answers the example request.
    leave_gpus_to_backend()
    keras_stm_export.check_example(output)
    report(os.path.abspath(output))
    return output


def _serving():
    """Returns the name of the folder of versions within the folder of a run."""
    from keras_stm.train import run_folder

    return os.path.dirname(run_folder.SERVING)


def next_version(folder):
    """Returns the path of the next version in `folder`: one above the highest there, or 1."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return os.path.join(folder, str(1 + max((int(name) for name in names if name.isdecimal()), default=0)))


def report(path):
    """Prints how to serve the SavedModel at an absolute path, and how to send it a request."""
    tell(f"{path}: a SavedModel, whose example request is answered correctly")
    versions, version = os.path.split(path)
    if not version.isdecimal():
        tell("TF Serving needs a folder of versions: pass --output=.../1 to use it.")
        return
    folder = os.path.dirname(versions) if os.path.basename(versions) == _serving() else versions
    name = re.sub(r"[^\w.-]", "_", os.path.basename(folder))
    tell(f"""Try next:
  docker run -p 8501:8501 -v "{versions}:/models/{name}" -e MODEL_NAME={name} tensorflow/serving
  curl -d "@{path}/assets.extra/request.json" http://localhost:8501/v1/models/{name}:predict""")
