"""Writes a trained model for serving: videos in, names of classes out, all in one file or folder.

  keras-stm export --model=saved_models/RUN                     # RUN/serving/<next version>
  keras-stm export --model=saved_models/RUN --output=served/actions/1
  keras-stm export --model=saved_models/RUN --format=onnx       # RUN/model.onnx

`keras-stm fit` writes serving/1 itself. TF Serving takes the highest version of those it finds; none is
replaced.

A SavedModel also holds an example of a request to TF Serving and its response, which are checked here:
  assets.extra/request.json, assets.extra/response.json
"""

import os
import re

from absl import flags

from keras_stm import export as keras_stm_export
from keras_stm import inference
from keras_stm.commands.main import run
from keras_stm.train import run_folder
from keras_stm.train.devices import leave_gpus_to_backend

_SERVING = os.path.dirname(run_folder.SERVING)


def define_flags(values):
    flags.DEFINE_string(
        "model", None, "Folder of a run of `keras-stm fit`, or the .keras file in it.", flag_values=values
    )
    flags.DEFINE_enum("format", "saved_model", ["saved_model", "onnx"], "What to write.", flag_values=values)
    flags.DEFINE_string(
        "output",
        None,
        "What to write, which must not exist. Default: beside the model, the next version in serving/, or "
        "model.onnx.",
        flag_values=values,
    )
    flags.DEFINE_integer("top_k", 5, "saved_model: labels in an answer.", lower_bound=1, flag_values=values)


def main(argv):
    return run(argv, define_flags, _export, __doc__)


def _export(values, _):
    if not values.model:
        raise ValueError("--model is missing: the folder of a run of `keras-stm fit`, or a .keras file")
    export(values.model, values.output, values.format, values.top_k)


def export(model, output=None, format="saved_model", top_k=5):
    """Writes a trained model, and says how to use what was written.

    Args:
        model: folder of a run, or `.keras` file.
        output: what to write; `None` is beside the model the next version in `serving`, or `model.onnx`.
        format: `"saved_model"` or `"onnx"`.
        top_k: labels in an answer of the SavedModel.

    Returns:
        Path of what was written.

    Raises:
        ValueError: if there is no such model, or `output` exists.
    """
    trained = inference.load(model)
    folder = os.path.dirname(trained.file)
    options = {
        "class_names": trained.class_names,
        "num_frames": trained.num_frames,
        "image_size": trained.image_size,
        "sampling": trained.sampling,
    }
    if format == "onnx":
        output = os.path.expanduser(output or os.path.join(folder, run_folder.ONNX))
        keras_stm_export.save_onnx(trained.model, output, **options)
        print(f"{output}: `clip`, uint8 (N, F, H, W, 3), to `scores`")
        return output

    output = os.path.expanduser(output or next_version(os.path.join(folder, _SERVING)))
    keras_stm_export.save(trained.model, output, **options, top_k=top_k)
    # TensorFlow only answers the example.
    leave_gpus_to_backend()
    keras_stm_export.check_example(output)
    report(os.path.abspath(output))
    return output


def next_version(folder):
    """The path in `folder` that is numbered one above the highest there, from 1."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return os.path.join(folder, str(1 + max((int(name) for name in names if name.isdecimal()), default=0)))


def report(path):
    """Prints how to serve the SavedModel at an absolute path, and how to ask it."""
    print(f"{path}: signatures serving_default, jpeg and float; answers its example request as it should")
    versions, version = os.path.split(path)
    if not version.isdecimal():
        print("TF Serving wants a folder of versions: give --output=.../1 for it.")
        return
    folder = os.path.dirname(versions) if os.path.basename(versions) == _SERVING else versions
    name = re.sub(r"[^\w.-]", "_", os.path.basename(folder))
    print(f"""Try next:
  docker run -p 8501:8501 -v "{versions}:/models/{name}" -e MODEL_NAME={name} tensorflow/serving
  curl -d "@{path}/assets.extra/request.json" http://localhost:8501/v1/models/{name}:predict""")
