"""Writes a trained model for servers, devices and browsers, and measures the exports.

  keras-stm export --model=saved_models/RUN                     # a SavedModel: RUN/serving/<next version>
  keras-stm export --model=saved_models/RUN --output=served/actions/1
  keras-stm export --model=saved_models/RUN --format=onnx,openvino,litert --precision=float32,int8
  keras-stm export --model=saved_models/RUN --format=web        # RUN/web

`keras-stm fit` writes serving/1. TF Serving uses the highest version that it finds. Existing exports are not
replaced. A SavedModel also holds an example request to TF Serving and its response, which are checked:
  assets.extra/request.json, assets.extra/response.json

The formats onnx, openvino and litert are for devices: each folder RUN/exports/FORMAT-PRECISION has the model,
its settings, and classify.py, which needs neither TensorFlow nor Keras. int8 is calibrated on training clips.
A table compares size, speed and accuracy with float32 and the model itself, on validation clips. It is in
RUN/exports/exports.json, too.

The web page recognises what a camera or a video file shows. It needs a causal model. The browser computes the
scores with ONNX Runtime Web, and sends no frame anywhere. Any server of static files can publish the folder.

Exit status: 2 if an export loses more than --max_drop, and 1 if all do.
"""

import os
import re
import shlex
import sys

from absl import flags

from keras_stm.commands.flags import (
    define_class_order,
    define_data,
    define_exclude,
    define_max_unreadable,
    define_model,
    define_workers,
    given,
    required_model,
)
from keras_stm.commands.main import run
from keras_stm.formats import FORMATS, MODELS, PRECISIONS
from keras_stm.progress import tell
from keras_stm.train.devices import leave_gpus_to_backend

# See `keras_stm.commands`.
LOADS = ("keras_stm.train.exports",)
# One export of these kinds is written as it is, without a folder of exports and without measurements.
_SINGLE = ("saved_model", "web")

_HELP = {
    "format": "",
    "precision": " float16: the weights are stored in it. int8, for devices, needs training clips.",
}


class _ChoicesParser(flags.ArgumentParser):
    """A flag of several of the choices, like `--format=onnx,litert`."""

    def __init__(self, choices):
        super().__init__()
        self.choices = choices

    def parse(self, argument):
        given = argument.split(",") if isinstance(argument, str) else argument
        wrong = [each for each in given if each not in self.choices]
        if wrong or not given:
            raise ValueError(f"must be a comma list of {', '.join(self.choices)}, not {wrong[0]!r}")
        return tuple(dict.fromkeys(given))


def define_flags(values):
    """Defines the flags of the command."""
    define_model(values)
    for name, choices, default in (
        ("format", FORMATS, "saved_model"),
        ("precision", PRECISIONS, "float32"),
    ):
        flags.DEFINE(
            _ChoicesParser(choices),
            name,
            default,
            f"Comma list of {', '.join(choices)}." + _HELP[name],
            serializer=flags.CsvListSerializer(","),
            flag_values=values,
        )
    flags.DEFINE_string(
        "output",
        None,
        "File or folder to write; it must not exist. Several exports, and those for devices, get folders "
        "FORMAT-PRECISION in it. Default: the next version in serving/, web, or exports, next to the model.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "top_k", 5, "Number of labels in a response of the SavedModel.", lower_bound=1, flag_values=values
    )
    flags.DEFINE_boolean(
        "stream",
        False,
        "For devices: write one step of a causal model, from frame to frame, in place of the clip.",
        flag_values=values,
    )
    flags.DEFINE_float(
        "rate",
        None,
        "Frames that a page, or classify.py with a camera, takes from a second of video. Default: the rate "
        "of the training.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "runtime",
        None,
        "With --format=web: the folder node_modules/onnxruntime-web of `npm install onnxruntime-web`. It is "
        "copied, so that the page works offline. Default: the page loads it from cdn.jsdelivr.net.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "calibration_clips",
        200,
        "For int8: number of training clips on which the ranges of values are measured.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_float(
        "max_drop",
        None,
        "Do not write exports that lose more points of top-1 than this. Default: write all.",
        lower_bound=0.0,
        upper_bound=100.0,
        flag_values=values,
    )
    define_data(values, default="the data that the model was trained on, with the same settings")
    define_class_order(values)
    define_exclude(values)
    define_workers(values)
    define_max_unreadable(values)


def main(argv):
    """Runs the command; returns its exit status."""
    return run(argv, define_flags, _export, __doc__)


def _export(values, _):
    from keras_stm.train import exports
    from keras_stm.train.data import CLIPS_OF_DATA

    model = required_model(values)
    # These flags are for some formats alone.
    wanted = {
        "stream": set(values.format) <= set(MODELS),
        "top_k": "saved_model" in values.format,
        "rate": "web" in values.format or values.stream,
        "runtime": "web" in values.format,
    }
    for name, is_used in wanted.items():
        if values[name].present and not is_used:
            raise ValueError(f"--{name} does not apply to --format={','.join(values.format)}")
    if len(values.format) == 1 and values.format[0] in _SINGLE and values.precision == ("float32",):
        if values.max_drop is not None:
            raise ValueError("--max_drop needs another --format or --precision: this export loses nothing")
        if values.format[0] == "web":
            write_page(model, values.output, values.rate, values.runtime)
        else:
            write_saved_model(model, values.output, values.top_k)
        return 0
    # TensorFlow only converts models and reads clips.
    leave_gpus_to_backend()
    kept, refused = exports.write_exports(
        model,
        values.output,
        values.format,
        values.precision,
        **{
            name: values[name].value
            for name in ("top_k", "stream", "rate", "runtime", "calibration_clips", "max_drop")
        },
        max_unreadable=values.max_unreadable,
        workers=values.workers,
        **given(values, CLIPS_OF_DATA),
    )
    for row in kept:
        tell(row.path)
    usable = [row for row in kept if row.format in MODELS]
    if usable:
        script = os.path.join(usable[-1].path, "classify.py")
        tell(f"""Try next:
  {shlex.join(["python", script, "clip.mp4"])}    needs only numpy, av and the runtime""")
    for row in refused:
        name = exports.name_export(row.format, row.precision)
        tell(f"{name}: not written, because it loses {100 * row.top1_drop:.1f} points", file=sys.stderr)
    if refused:
        return 2 if kept else 1
    return 0


def write_page(model, output=None, rate=None, runtime=None):
    """Writes a web page for a trained model and prints how to open it.

    Args:
        model: see `keras_stm.inference.load`.
        output: folder to write. `None` is `web`, next to the model.
        rate: see `keras_stm.export.save_web`. `None` is the rate of the training.
        runtime: see `keras_stm.export.save_web`.

    Raises:
        ValueError: there is no such model, `output` exists, or the model is not causal.
    """
    from keras_stm import export as keras_stm_export
    from keras_stm import inference
    from keras_stm.train import exports, run_folder

    trained = inference.load(model)
    output = os.path.expanduser(output or os.path.join(trained.folder, run_folder.WEB))
    rate = exports.rate_of_page(trained.rate if rate is None else rate)
    keras_stm_export.save_web(
        trained.model,
        output,
        trained.class_names,
        trained.num_frames,
        trained.image_size,
        rate=rate,
        runtime=runtime,
    )
    tell(f"""{output}: a page that takes {rate:g} frames a second of a camera or a video file
Try next:
  {shlex.join(["python3", "-m", "http.server", f"--directory={output}"])}
and open http://localhost:8000""")


def write_saved_model(model, output=None, top_k=5):
    """Writes a SavedModel of a trained model, checks it, and prints how to serve it.

    Args:
        model: see `keras_stm.inference.load`.
        output: folder to write. `None` is the next version in `serving`, next to the model.
        top_k: number of labels in a response.

    Returns:
        Path of the written folder.

    Raises:
        ValueError: there is no such model, or `output` exists.
    """
    from keras_stm import export as keras_stm_export
    from keras_stm import inference

    trained = inference.load(model)
    output = os.path.expanduser(output or next_version(os.path.join(trained.folder, _serving())))
    keras_stm_export.save(
        trained.model,
        output,
        trained.class_names,
        trained.num_frames,
        trained.image_size,
        sampling=trained.sampling,
        top_k=top_k,
    )
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
