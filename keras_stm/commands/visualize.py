"""Draws what a trained model sees in a clip: features as in the paper's Figure 1, and Grad-CAM over time.

  keras-stm visualize clip.mp4 --model=saved_models/RUN
  keras-stm visualize clip.mp4 --model=saved_models/RUN --block=conv4_block1
  keras-stm visualize clip.mp4 --model=saved_models/RUN --class_name=move_left
  keras-stm visualize FOLDER_OF_FRAMES --model=saved_models/RUN
  keras-stm visualize clip.mp4 --model=tsm_resnet50/kinetics400

Writes into --output, and replaces earlier pictures with the same names:
  features-<block>.png   frames, the block's input, outputs of CSTM and CMM, TV-L1 optical flow
  grad_cam.png           where and when the clip looks like the class: --class_name, or the highest score
"""

import os

from absl import flags

from keras_stm.commands.flags import define_model, required_model
from keras_stm.commands.main import run
from keras_stm.data.frames import file_of
from keras_stm.progress import tell

# See `keras_stm.commands`.
LOADS = ("keras_stm.drawing",)


def define_flags(values):
    """Defines the flags of the command."""
    define_model(values)
    flags.DEFINE_string(
        "block",
        None,
        "Block whose features are drawn. Default: the first block of stage 2, as in the paper. TSN and TSM "
        "have no CSTM and CMM, so that only their Grad-CAM is drawn.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "class_name",
        None,
        "Class of the Grad-CAM. Default: the class with the highest score.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "output",
        None,
        "Folder for the pictures. Default: saved_models/visualize-<name of the clip>.",
        flag_values=values,
    )


def main(argv):
    """Runs the command; returns its exit status."""
    return run(argv, define_flags, _visualize, __doc__, takes_paths=True)


def _visualize(values, paths):
    from keras_stm.drawing import draw

    if len(paths) != 1:
        received = f"{len(paths)} arguments" if paths else "no argument"
        raise ValueError(f"pass one clip, a video file or a folder of frames, not {received}")
    model = required_model(values)
    (path,) = paths
    output = values.output or os.path.join("saved_models", f"visualize-{_stem(path)}")
    for file in draw(path, model, output, values.block, values.class_name):
        tell(file)


def _stem(path):
    """Returns the name of a clip; that of a whole file is without its extension."""
    path = os.path.abspath(os.path.expanduser(path))
    name = os.path.basename(path)
    return name if os.path.isdir(path) or file_of(path) != path else os.path.splitext(name)[0]
