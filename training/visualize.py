"""Draws what a trained model sees in a clip: the paper's Figure 1, and Grad-CAM over time.

  python training/visualize.py clip.mp4 --model=saved_models/RUN
  python training/visualize.py clip.mp4 --model=saved_models/RUN --block=conv4_block1
  python training/visualize.py clip.mp4 --model=saved_models/RUN --class_name=move_left
  python training/visualize.py FOLDER_OF_JPG_FRAMES --model=saved_models/RUN

Writes into --output, in the place of earlier pictures of the same names:
  features-<block>.png   frames, the block's input, outputs of CSTM and CMM, TV-L1 optical flow
  grad_cam.png           where and when the clip looks like the class with the best score, or --class_name
"""

import os
import sys

import before_tensorflow  # noqa: F401

# isort: split
from absl import flags

import command_line
from keras_stm import inference, visualization
from keras_stm.data import frames, segments
from keras_stm.data.views import read_views
from keras_stm.replacing import replacing

GRAD_CAM = "grad_cam.png"


def define_flags(values):
    flags.DEFINE_string(
        "model", None, "Folder of a run of fit.py, or the .keras file in it.", flag_values=values
    )
    flags.DEFINE_string(
        "block",
        "conv2_block1",
        "The block: by default the first of stage 2, as in the paper.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "class_name",
        None,
        "The class of the Grad-CAM. Default: that with the highest score.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "output",
        None,
        "Folder for what is written. Default: saved_models/visualize-<name of the clip>.",
        flag_values=values,
    )


def main(argv):
    values, paths = command_line.parse(define_flags, argv, __doc__, takes_paths=True)
    if len(paths) != 1:
        received = f"{len(paths)} arguments" if paths else "no argument"
        sys.exit(f"visualize.py: give one clip, a video file or a folder of .jpg frames, not {received}")
    if not values.model:
        sys.exit("visualize.py: --model is missing: the folder of a run of fit.py")
    try:
        visualize(paths[0], values.model, values.output, block=values.block, class_name=values.class_name)
    except (ValueError, ImportError, OSError) as error:
        sys.exit(f"visualize.py: {error}")


def visualize(path, model, output=None, block="conv2_block1", class_name=None):
    """Draws a clip, writes two pictures into the folder `output` and prints where they are.

    Args:
        path: video file, or folder of its frames as `.jpg`.
        model: as for `inference.load`.
        output: folder; `None` is `saved_models/visualize-<name of the clip>`.
        block: name of the STM block.
        class_name: of the Grad-CAM; `None` is the class with the highest score.

    Raises:
        ValueError: the clip or the model cannot be read, or the model has no such block or class.
    """
    path = os.path.abspath(os.path.expanduser(path))
    name = os.path.basename(path)
    if not output:
        stem = name if os.path.isdir(path) else os.path.splitext(name)[0]
        output = os.path.join("saved_models", f"visualize-{stem}")
    output = os.path.abspath(os.path.expanduser(output))
    trained = inference.load(model)
    info = frames.probe(path)
    clip = read_views(path, trained.num_frames, trained.image_size, sampling=trained.sampling)
    indices = segments.clip_indices(info.num_frames, trained.num_frames, trained.sampling)
    frame_names = [frame_name(index, info.frame_rate) for index in indices]

    of_model = f"of {os.path.basename(os.path.normpath(model))}"
    pictures = {
        f"features-{block}.png": visualization.plot_block(
            trained.model, clip, block, frame_names, f"{name} in {block} {of_model}"
        ),
        GRAD_CAM: visualization.plot_grad_cam(
            trained.model, clip, trained.class_names, class_name, frame_names, f"{name}: Grad-CAM {of_model}"
        ),
    }
    os.makedirs(output, exist_ok=True)
    for file, figure in pictures.items():
        file = os.path.join(output, file)
        with replacing(file) as partial:
            figure.savefig(partial, dpi=120, format="png")
        print(file)


def frame_name(index, frame_rate):
    """A frame by its place in the video, and by its time where the frame rate is known."""
    return f"frame {index}" + (f"\n{index / frame_rate:.1f} s" if frame_rate else "")


if __name__ == "__main__":
    sys.exit(main(sys.argv))
