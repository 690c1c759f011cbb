"""A model with known answers, which are the brightness of a video, and videos of each class."""

import keras
import numpy as np

from keras_stm import model_file
from tests.data.videos import write_video

NAMES = ("dark", "middle", "bright")
# Pixel values at which the predicted class changes.
DARK, BRIGHT = 86, 143
_CLIP = model_file.ClipSettings(num_frames=4, image_size=32, sampling="segments")


def write_run(folder):
    """Writes a run folder with the model; returns its path."""
    inputs = keras.Input((None, None, None, 3))
    mean = keras.layers.GlobalAveragePooling3D(data_format="channels_last")(inputs)
    dense = keras.layers.Dense(3, activation="softmax")
    model = keras.Model(inputs, dense(mean))
    # The mean of the normalised channels is about 0 at a pixel value of 115, and 0.5 at 143.
    dense.set_weights([np.tile([-20.0, 0.0, 20.0], (3, 1)) / 3, np.array([0.0, 10.0, 0.0])])
    folder.mkdir(parents=True)
    model.save(folder / "model.keras")
    model_file.annotate(folder / "model.keras", NAMES, _CLIP)
    return str(folder)


def write_videos(root):
    """Writes one video of each class and other files into nested folders; returns `root`."""
    (root / "sub" / "deeper").mkdir(parents=True)
    (root / ".hidden").mkdir()
    write_video(root / "b.mp4", 8, brightness=200)
    write_video(root / "sub" / "a.avi", 8, "mpeg4", brightness=20)
    write_video(root / "sub" / "deeper" / "c.mp4", 8, brightness=95)
    write_video(root / ".hidden" / "d.mp4", 8)
    write_video(root / "sub" / "._b.mp4", 8)
    (root / "sub" / "notes.txt").write_text("no video")
    return root


def write_ramp(path):
    """Writes 6 seconds at 10 frames/s; brightness grows from 20 to nearly 220, by about 20 / 6 a frame."""
    return write_video(path, 60)
