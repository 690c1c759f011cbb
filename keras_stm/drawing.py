"""Draws the features and the Grad-CAM of a model for a video, as pictures in a folder."""

import os

from keras_stm import inference, plots
from keras_stm.data import frames, segments
from keras_stm.data.views import read_views
from keras_stm.plots.figures import save_figure
from keras_stm.replacing import replacing

GRAD_CAM = "grad_cam.png"


def draw(path, model, output, block=None, class_name=None):
    """Draws the features of a block and the Grad-CAM; replaces existing pictures with the same names.

    Args:
        path: video file, or folder of its frames.
        model: see `inference.load`.
        output: folder of the pictures, which is created if it does not exist.
        block: name of the STM block. `None` is the first one, which is in stage 2 as in the paper. Of a
            model without STM blocks, such as TSN and TSM, only the Grad-CAM is drawn then.
        class_name: class of the Grad-CAM; `None` is the class with the highest score.

    Returns:
        List of the absolute paths of the pictures.

    Raises:
        ValueError: the video or the model cannot be read, or the model has no such block or class.
        ImportError: matplotlib or scikit-image is not installed.
    """
    path, output = (os.path.abspath(os.path.expanduser(each)) for each in (path, output))
    name = os.path.basename(path)
    trained = inference.load(model)
    info = frames.probe(path)
    clip = read_views(path, trained.num_frames, trained.image_size, sampling=trained.sampling)
    indices = segments.clip_indices(info.num_frames, trained.num_frames, trained.sampling)
    frame_names = [frame_name(index, info.frame_rate) for index in indices]

    of_model = f"of {model if inference.is_name(model) else os.path.basename(os.path.normpath(model))}"
    block = block or next(iter(plots.stm_blocks(trained.model)), None)
    pictures = {}
    if block:
        pictures[f"features-{block}.png"] = plots.plot_block(
            trained.model, clip, block, frame_names, f"{name} in {block} {of_model}"
        )
    pictures[GRAD_CAM] = plots.plot_grad_cam(
        trained.model, clip, trained.class_names, class_name, frame_names, f"{name}: Grad-CAM {of_model}"
    )
    os.makedirs(output, exist_ok=True)
    files = []
    for file, figure in pictures.items():
        files.append(os.path.join(output, file))
        with replacing(files[-1]) as partial:
            save_figure(figure, partial)
    return files


def frame_name(index, frame_rate):
    """Returns the name of a frame: its index in the video, and its time if the frame rate is known."""
    return f"frame {index}" + (f"\n{index / frame_rate:.1f} s" if frame_rate else "")
